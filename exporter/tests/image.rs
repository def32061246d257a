//! The image: what its Dockerfile says, and its steps, run without Docker.

// What was not tried is printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The user of the chart's security context.
const USER: &str = "65532";

/// The root of the repository, which is the context of the image.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

/// The Dockerfile's instructions, each with its text on one line.
fn instructions() -> Vec<(String, String)> {
    let lines: Vec<String> = read("exporter/Dockerfile")
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(str::to_owned)
        .collect();
    lines
        .join("\n")
        .replace("\\\n", " ")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, text)| (name.to_owned(), text.trim().to_owned()))
        .collect()
}

/// The texts of all instructions of one name.
fn texts(name: &str) -> Vec<String> {
    let instructions = instructions().into_iter();
    instructions
        .filter(|(this, _)| this == name)
        .map(|(_, text)| text)
        .collect()
}

#[test]
fn the_image_is_pinned_and_holds_one_program_that_nobody_owns() {
    let [build, image] = texts("FROM").try_into().unwrap();
    let manifest = read("Cargo.toml");
    let version = manifest.split("rust-version = \"").nth(1).unwrap();
    let version = version.split('"').next().unwrap();
    let patch = build
        .strip_prefix(&format!("rust:{version}."))
        .and_then(|rest| rest.strip_suffix("-slim-trixie AS build"));
    assert!(patch.is_some_and(|patch| patch.parse::<u32>().is_ok()), "{build}");
    assert_eq!(image, "scratch");
    assert_eq!(texts("USER"), [format!("{USER}:{USER}")]);
    assert_eq!(texts("ENTRYPOINT"), ["[\"/mfsre-exporter\"]"]);
    assert_eq!(texts("EXPOSE"), ["2112"]);
    assert!(texts("ADD").is_empty());
    let chart = read("templates/cd/charts/exporter/templates/deployment.yaml");
    assert!(chart.contains(&format!("runAsUser: {USER}\n")) && chart.contains("containerPort: 2112\n"));
}

#[test]
fn the_context_is_what_is_copied_and_has_the_manifest_of_every_member() {
    let copied: BTreeSet<String> = texts("COPY")
        .iter()
        .filter(|text| !text.starts_with("--from="))
        .flat_map(|text| {
            let (sources, _) = text.rsplit_once(' ').unwrap();
            sources.split(' ').map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let ignore = read(".dockerignore");
    let mut lines = ignore.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"));
    let context: BTreeSet<String> = lines.map(|line| line.strip_prefix('!').unwrap().to_owned()).collect();
    assert_eq!(context, copied);
    let manifest = read("Cargo.toml");
    let members = manifest.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    for member in members.split(',').map(|member| member.trim().trim_matches('"')) {
        let path = Path::new(member).join("Cargo.toml");
        let path = path.strip_prefix(".").unwrap_or(&path).to_str().unwrap();
        assert!(
            copied.contains(path),
            "{path} is not copied, so Cargo cannot read the workspace"
        );
    }
}

/// With the tests that take minutes, since it compiles the exporter anew.
mod built {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};
    use std::time::{Duration, SystemTime};

    use super::support::Exporter;
    use super::support::target::{Target, counters};
    use super::*;

    /// Does what the Dockerfile says, with its root in a folder; gives what the last stage would hold.
    fn build(root: &Path) -> PathBuf {
        let (workspace, image) = (root.join("build"), root.join("image"));
        let mut variables = BTreeMap::new();
        let mut stage = root.to_owned();
        for (name, text) in instructions() {
            match name.as_str() {
                "FROM" if text == "scratch" => stage = image.clone(),
                "WORKDIR" => {
                    assert_eq!(text, "/build");
                    stage = workspace.clone();
                    fs::create_dir_all(&stage).unwrap();
                }
                "ENV" => {
                    let (key, value) = text.split_once('=').unwrap();
                    variables.insert(key.to_owned(), value.trim_matches('\'').to_owned());
                }
                "COPY" => {
                    let (sources, to) = text.rsplit_once(' ').unwrap();
                    for source in sources.split(' ').filter(|source| !source.starts_with("--from=")) {
                        let from = match source.strip_prefix('/') {
                            Some(path) => root.join(path),
                            None => repository().join(source),
                        };
                        let mut to = stage.join(to.trim_start_matches('/'));
                        if from.is_file() {
                            to.push(from.file_name().unwrap());
                        }
                        copy(&from, &to);
                    }
                }
                "RUN" => {
                    let status = Command::new("/bin/sh")
                        .args(["-ec", &text.replace(" /build", &format!(" {}", workspace.display()))])
                        .current_dir(&workspace)
                        // Those of the run of tests itself.
                        .env_remove("CARGO_TARGET_DIR")
                        .env_remove("CARGO_ENCODED_RUSTFLAGS")
                        .envs(&variables)
                        .stdin(Stdio::null())
                        .status()
                        .unwrap();
                    assert!(status.success(), "{text}");
                }
                _ => {}
            }
        }
        image
    }

    /// As Docker does it, with the times of the files; they may be far back.
    fn copy(from: &Path, to: &Path) {
        if from.is_dir() {
            for entry in fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                copy(&entry.path(), &to.join(entry.file_name()));
            }
            return;
        }
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
        let file = fs::File::options().append(true).open(to).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
            .unwrap();
    }

    /// What starts the program as the container does: with the image as its root and as the image's user. `None` where the
    /// tests may not do that.
    fn contained(image: &Path) -> Option<Command> {
        let command = || {
            let mut command = Command::new("/usr/sbin/chroot");
            command.arg(format!("--userspec={USER}:{USER}")).arg(image);
            command.arg("/mfsre-exporter").env_clear();
            command
        };
        let output = command().arg("--version").output();
        output.is_ok_and(|output| output.status.success()).then(command)
    }

    /// Whether a program asks for a dynamic linker: it has a program header of the type PT_INTERP (ELF-64).
    fn is_dynamic(program: &[u8]) -> bool {
        let number = |at: usize, size: usize| {
            let bytes = &program[at..at + size];
            bytes
                .iter()
                .rev()
                .fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
        };
        assert_eq!(&program[..6], b"\x7fELF\x02\x01", "a little-endian ELF-64 file");
        let (begin, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
        (0..count).any(|header| number(begin + header * size, 4) == 3)
    }

    #[test]
    #[ignore = "compiles the exporter as its image does: `cargo xtask test` runs it"]
    fn the_dockerfile_s_steps_make_a_static_program_that_serves_as_nobody() {
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let image = build(root.path());
        let mut files: Vec<_> = fs::read_dir(&image)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, ["LICENSE", "mfsre-exporter"]);
        let program = fs::read(image.join("mfsre-exporter")).unwrap();
        assert!(!is_dynamic(&program));
        println!("mfsre-exporter: {:.1} MiB", program.len() as f64 / f64::from(1 << 20));
        assert!(program.len() < 10 << 20, "{} bytes", program.len());

        // What a container runtime puts there.
        fs::create_dir(image.join("etc")).unwrap();
        fs::write(image.join("etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        fs::set_permissions(&image, fs::Permissions::from_mode(0o755)).unwrap();
        let target = Target::json(&counters(37));
        let contained = contained(&image);
        let is_contained = contained.is_some();
        let command = contained.unwrap_or_else(|| {
            let mut command = Command::new(image.join("mfsre-exporter"));
            command.env_clear();
            command
        });
        let mut exporter = Exporter::start_by(command, &[], &[("MAIN_APP_URL", &target.url())]);
        exporter.wait_ready();
        let series = format!("http_requests_total{}", target.label());
        assert_eq!(exporter.value(&series), Some(37.0));
        if is_contained {
            let status = fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap();
            assert!(
                status.contains(&format!("\nUid:\t{USER}\t{USER}\t{USER}\t{USER}\n")),
                "{status}"
            );
        } else {
            println!("not tried as the image's user: this machine does not let the test change its root");
        }
        exporter.terminate();
        assert!(exporter.wait().success());
        assert_eq!(fs::read_dir(&image).unwrap().count(), 3, "it writes nothing");
    }
}
