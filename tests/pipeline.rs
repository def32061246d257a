//! The pipeline that `mfsre init --ci github` writes, and that this repository shares.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::{Project, REPOSITORY, files_below};

const URL: &str = "git@github.com:acme/platform.git";

fn here(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn project() -> Project {
    let project = Project::empty();
    let finished = project.run(&["init", "--ci", "github", "--repository", URL]);
    assert_eq!(finished.code, 0, "{finished}");
    project
}

/// The workflows of a project and of this repository, by path.
fn workflows() -> BTreeMap<String, String> {
    let project = project();
    let ours = files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".github"));
    let ours = ours.iter().map(|path| format!(".github/{path}"));
    let mut all: BTreeMap<String, String> = ours.map(|path| (path.clone(), here(&path))).collect();
    all.insert("action.yaml".into(), here("action.yaml"));
    for path in project.files().into_iter().filter(|path| path.starts_with(".github")) {
        all.insert(format!("init {path}"), project.read(&path));
    }
    all
}

#[test]
fn init_writes_the_pipeline_and_the_services() {
    let project = project();
    for path in project.files().iter().filter(|path| path.starts_with(".github")) {
        insta::assert_snapshot!(path.trim_start_matches('.').replace('/', "_"), project.read(path));
    }
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("services");
    for path in project.files().iter().filter_map(|path| path.strip_prefix("services/")) {
        assert_eq!(
            project.read(&format!("services/{path}")),
            std::fs::read_to_string(services.join(path)).unwrap()
        );
        assert!(!path.contains("__pycache__") && !path.contains("_cache/"), "{path}");
    }
    let again = project.run(&["init", "--ci", "github"]);
    assert!(!again.stdout.contains("written"), "{again}");
}

#[test]
fn what_is_the_same_here_and_in_a_project_does_not_drift() {
    let project = project();
    for path in [
        ".github/actions/mfsre/action.yaml",
        ".github/workflows/bump.yaml",
        ".github/workflows/images.yaml",
    ] {
        assert_eq!(
            here(path),
            project.read(path),
            "{path}: run `mfsre init --ci github` elsewhere and copy it"
        );
    }
    assert_eq!(here("action.yaml"), mfsre::render::action().unwrap());
}

#[test]
fn each_environment_that_is_no_sandbox_has_its_place_in_the_pipeline() {
    let project = Project::empty();
    project.write("environments/prod.yaml", format!("name: prod\n{REPOSITORY}"));
    project.write(
        "environments/sandbox.yaml",
        "name: sandbox\nargocd_repository_url: ssh://git@127.0.0.1:30922/mfsre/platform.git\nsandbox: {}\n",
    );
    let finished = project.run(&["init", "--ci", "github"]);
    assert_eq!(finished.code, 0, "{finished}");
    assert!(
        !project.has("environments/demo.yaml"),
        "an environment nobody asked for"
    );
    for path in [".github/workflows/plan.yaml", ".github/workflows/apply.yaml"] {
        assert!(
            project.read(path).contains("environment: [\"prod\"]\n"),
            "{}",
            project.read(path)
        );
    }
    let project = Project::empty();
    project.write("environments/prod.yaml", format!("name: prod\n{REPOSITORY}"));
    project.run(&["init", "--ci", "github", "--environment", "staging"]);
    let apply = project.read(".github/workflows/apply.yaml");
    assert!(apply.contains("environment: [\"prod\", \"staging\"]\n"), "{apply}");
    // Without being asked for, no pipeline is written.
    let project = Project::empty();
    project.run(&["init", "--ci", "none"]);
    assert!(!project.has(".github"));
}

#[test]
fn every_action_is_pinned_by_its_commit_and_the_same_everywhere() {
    let mut pins: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in workflows() {
        for line in text.lines().filter_map(|line| line.split_once("uses: ")) {
            let used = line.1;
            if used.starts_with("./") {
                continue;
            }
            let (action, pin) = used.split_once('@').unwrap_or_else(|| panic!("{path}: {used}"));
            let (commit, version) = pin.split_once(" # v").unwrap_or_else(|| panic!("{path}: {used}"));
            assert!(
                commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()),
                "{path}: {used}"
            );
            assert_eq!(version.split('.').count(), 3, "{path}: {used}");
            pins.entry(action.to_owned()).or_default().insert(pin.to_owned());
        }
    }
    for (action, pins) in &pins {
        assert_eq!(pins.len(), 1, "{action} is pinned in several ways: {pins:?}");
    }
    // The documentation lists them all.
    let documentation = here("docs/github-actions.md");
    for (action, pins) in pins {
        let (commit, version) = pins.first().unwrap().split_once(" # ").unwrap();
        assert!(
            documentation.contains(&format!("| `{action}` | {version} | `{commit}` |")),
            "docs/github-actions.md lacks {action} {version} {commit}"
        );
    }
}

#[test]
fn no_workflow_has_more_than_it_needs() {
    for (path, text) in workflows().into_iter().filter(|(path, _)| path.contains("workflows/")) {
        assert!(text.contains("\npermissions: {}\n"), "{path}");
        assert!(
            !text.contains("pull_request_target") && !text.contains("workflow_run"),
            "{path}"
        );
        assert!(
            !text.contains("AWS_ACCESS_KEY_ID") && !text.contains("AWS_SECRET_ACCESS_KEY"),
            "{path}"
        );
        let count = |what: &str| text.matches(what).count();
        assert_eq!(
            count("uses: actions/checkout@"),
            count("persist-credentials: false"),
            "{path}"
        );
        let jobs = count("\n    runs-on: ");
        assert_eq!(count("\n    timeout-minutes: "), jobs, "{path}");
        assert!(count("\n    permissions:\n") >= jobs, "{path}");
        assert!(text.contains("\nconcurrency:\n"), "{path}");
        // No expression stands in a script: what it holds would be run.
        let mut script = None;
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            if script.is_some_and(|start| indent <= start && !line.trim().is_empty()) {
                script = None;
            }
            if line.trim_start().trim_start_matches("- ").starts_with("run:") {
                script = Some(indent);
            }
            assert!(script.is_none() || !line.contains("${{"), "{path}: {line}");
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The action's script, with a release and a toolchain that are stood in for

/// The script of the step `name`.
fn script(text: &str, name: &str) -> String {
    let step = text.split(&format!("- name: {name}\n")).nth(1).unwrap();
    let (before, body) = step.split_once("run: |").unwrap();
    let indent = before.lines().last().unwrap().len() + 2;
    let lines = body.lines().skip(1);
    let lines = lines.take_while(|line| line.trim().is_empty() || line.len() - line.trim_start().len() >= indent);
    lines
        .map(|line| format!("{}\n", line.get(indent..).unwrap_or("")))
        .collect()
}

/// A runner in a folder of its own.
struct Runner {
    dir: tempfile::TempDir,
    variables: BTreeMap<&'static str, String>,
}

impl Runner {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["bin", "temp", "action", "release"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let runner = Self {
            variables: [
                ("VERSION", "1.2.3"),
                ("SHA256", ""),
                ("REPOSITORY", "acme/mfsre"),
                ("RUST", "1.95"),
                ("GH_TOKEN", "none"),
                ("RUNNER_OS", "Linux"),
                ("RUNNER_ARCH", "X64"),
            ]
            .map(|(key, value)| (key, value.to_owned()))
            .into(),
            dir,
        };
        let mfsre = "#!/bin/sh\necho \"ran: $*\"\nexit \"${MFSRE_EXIT:-0}\"\n";
        runner.program("mfsre", mfsre);
        let release = runner.path("release");
        runner.sh(&format!(
            "tar -C '{bin}' -czf '{release}/mfsre-x86_64-unknown-linux-gnu.tar.gz' mfsre && cd '{release}' && shasum -a 256 *.gz > SHA256SUMS && rm '{bin}/mfsre'",
            bin = runner.path("bin")
        ));
        runner.program(
            "gh",
            &format!("#!/bin/sh\necho \"gh $*\" >&2\ncase $2 in view) test -e '{release}/SHA256SUMS' ;; *) cp '{release}'/* . ;; esac\n"),
        );
        runner.program("rustup", "#!/bin/sh\necho \"rustup $*\"\n");
        let built = "#!/bin/sh\necho \"cargo $*\"\nwhile [ \"$1\" != --root ]; do shift; done\nmkdir -p \"$2/bin\"\nprintf '#!/bin/sh\\n' > \"$2/bin/mfsre\"\nchmod +x \"$2/bin/mfsre\"\n";
        runner.program("cargo", built);
        runner
    }

    fn path(&self, below: &str) -> String {
        self.dir.path().join(below).display().to_string()
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.dir.path().join("bin").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn sh(&self, command: &str) {
        assert!(
            std::process::Command::new("sh")
                .args(["-ec", command])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Runs a step of the action; returns its exit code and what it printed.
    fn step(&self, name: &str) -> (i32, String) {
        let path = format!("{}:{}", self.path("bin"), std::env::var("PATH").unwrap());
        let output = std::process::Command::new("bash")
            .args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c"])
            .arg(script(&here("action.yaml"), name))
            .current_dir(self.dir.path())
            .env("PATH", path)
            .env("ACTION_PATH", self.path("action"))
            .env("RUNNER_TEMP", self.path("temp"))
            .env("GITHUB_PATH", self.path("path"))
            .env("GITHUB_OUTPUT", self.path("output"))
            .envs(&self.variables)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap().replace(&self.path(""), "");
        (output.status.code().unwrap(), text)
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(file))
            .unwrap_or_default()
            .replace(&self.path(""), "")
    }
}

#[test]
fn the_action_installs_a_release_whose_checksum_is_right() {
    let runner = Runner::new();
    let (code, text) = runner.step("Install mfsre");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("ran: --version"), "{text}");
    assert_eq!(runner.read("path"), "temp/mfsre-1.2.3/bin\n");
    // Pinned, with the right checksum.
    let mut runner = Runner::new();
    let sums = runner.read("release/SHA256SUMS");
    runner
        .variables
        .insert("SHA256", sums.split(' ').next().unwrap().to_owned());
    assert_eq!(runner.step("Install mfsre").0, 0);
}

#[test]
fn the_action_installs_nothing_whose_checksum_is_wrong_or_missing() {
    let wrong = "0".repeat(64);
    let mut pinned = Runner::new();
    pinned.variables.insert("SHA256", wrong.clone());
    let replaced = Runner::new();
    let sums = format!("{wrong}  mfsre-x86_64-unknown-linux-gnu.tar.gz\n");
    std::fs::write(replaced.path("release/SHA256SUMS"), sums).unwrap();
    let unlisted = Runner::new();
    std::fs::write(
        unlisted.path("release/SHA256SUMS"),
        format!("{wrong}  mfsre-other.tar.gz\n"),
    )
    .unwrap();
    for runner in [pinned, replaced, unlisted] {
        let (code, text) = runner.step("Install mfsre");
        assert_ne!(code, 0, "{text}");
        assert_eq!(runner.read("path"), "", "{text}");
        assert!(
            !text.contains("cargo "),
            "a wrong checksum is no reason to build: {text}"
        );
    }
}

#[test]
fn without_a_release_the_action_builds_the_sources_it_came_with_or_the_tag() {
    let runner = Runner::new();
    std::fs::remove_file(runner.path("release/SHA256SUMS")).unwrap();
    let (code, text) = runner.step("Install mfsre");
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("cargo +1.95 install --locked --git https://github.com/acme/mfsre --tag v1.2.3 --root temp/mfsre-1.2.3 mfsre\n"),
        "{text}"
    );
    std::fs::write(runner.path("action/Cargo.toml"), "").unwrap();
    let (_, text) = runner.step("Install mfsre");
    assert!(
        text.contains("cargo +1.95 install --locked --path action --root "),
        "{text}"
    );
    // A machine that no release is made for.
    let mut runner = Runner::new();
    runner.variables.insert("RUNNER_ARCH", "RISCV".into());
    assert!(
        runner
            .step("Install mfsre")
            .1
            .contains("so mfsre is built from its sources")
    );
}

#[test]
fn the_action_refuses_what_is_no_version_and_no_repository() {
    for (key, value, code) in [
        ("VERSION", "latest", 64),
        ("VERSION", "1.2.3; id", 64),
        ("VERSION", "../1.2.3", 64),
        ("REPOSITORY", "OWNER/mfsre", 78),
        ("REPOSITORY", "", 78),
        ("REPOSITORY", "acme/mfsre --pattern x", 78),
    ] {
        let mut runner = Runner::new();
        runner.variables.insert(key, value.into());
        let (ended, text) = runner.step("Install mfsre");
        assert_eq!(ended, code, "{key}={value}: {text}");
        assert!(text.starts_with("::error::") && !text.contains("gh "), "{text}");
    }
}

#[test]
fn the_action_runs_a_command_and_passes_its_exit_code_on() {
    for (command, environment, args, ran) in [
        (
            "render",
            "demo",
            "--check -q",
            "ran: render demo --check -q --no-input\n",
        ),
        ("sandbox status", "", "", "ran: sandbox status --no-input\n"),
        ("status", "$(id); echo", "", "ran: status $(id); echo --no-input\n"),
    ] {
        let mut runner = Runner::new();
        runner.program("mfsre", "#!/bin/sh\necho \"ran: $*\"\nexit 2\n");
        for (key, value) in [("COMMAND", command), ("ENVIRONMENT", environment), ("ARGS", args)] {
            runner.variables.insert(key, value.into());
        }
        assert_eq!(runner.step("Run mfsre"), (2, ran.to_owned()));
        assert_eq!(runner.read("output"), "exit-code=2\n");
    }
}
