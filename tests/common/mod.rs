//! What the tests share: a project in a folder of its own, and the program in an environment of its own.

pub(crate) mod report;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::civil::Date;
use mfsre::config::{Diagnostics, Environment, Loaded, Source, parse};

/// The day on which environment files are read; which cluster versions are supported depends on it.
pub(crate) const TODAY: Date = jiff::civil::date(2026, 5, 1);

/// The only setting that has no default.
pub(crate) const REPOSITORY: &str = "argocd_repository_url: git@github.com:acme/platform.git\n";

/// Reads `text` as `environments/demo.yaml`.
pub(crate) fn read(text: &str) -> Result<Loaded, Diagnostics> {
    read_as("demo", text)
}

/// Reads `text` as the file of the environment `name`.
pub(crate) fn read_as(name: &str, text: &str) -> Result<Loaded, Diagnostics> {
    let source = Source {
        path: format!("environments/{name}.yaml"),
        text: text.into(),
    };
    parse(source, name, TODAY)
}

/// Reads `environments/demo.yaml`, which is expected to be valid.
pub(crate) fn environment(text: &str) -> Environment {
    environment_of("demo", text)
}

/// Reads the file of the environment `name`, which is expected to be valid.
pub(crate) fn environment_of(name: &str, text: &str) -> Environment {
    match read_as(name, text) {
        Ok(loaded) => loaded.environment,
        Err(diagnostics) => panic!("{}\n{}", text, diagnostics.render(false)),
    }
}

/// A user's project in a folder of its own, and an empty home.
pub(crate) struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// A folder with nothing in it.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        std::fs::create_dir(dir.path().join("project")).unwrap();
        Self { dir }
    }

    /// One with `environments/demo.yaml`. The file names no cluster version, so that no test depends on today's date.
    pub(crate) fn demo() -> Self {
        let project = Self::empty();
        project.write("environments/demo.yaml", format!("name: demo\n{REPOSITORY}"));
        project
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.root().join(path).exists()
    }

    /// The program, with an environment that holds nothing of the machine's but PATH, and no way to AWS.
    pub(crate) fn mfsre(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("mfsre"));
        command
            .args(arguments)
            .current_dir(self.root())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("USER", "alice")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            // Nothing listens on port 9, and nobody may: it is the discard service's.
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .stdin(std::process::Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.finish(self.mfsre(arguments))
    }

    /// Runs a prepared command to its end.
    pub(crate) fn finish(&self, mut command: Command) -> Finished {
        // A program that this test has just put there may still be open in a process that another test is starting.
        let output = loop {
            match command.output() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                output => break output.unwrap(),
            }
        };
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec())
                .unwrap()
                .replace(&*self.root().to_string_lossy(), "[PROJECT]")
                .replace(&*self.home().to_string_lossy(), "[HOME]")
        };
        Finished {
            code: output
                .status
                .code()
                .expect("the program ends by itself, not by a signal"),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Every file below the project's folder, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        files_below(&self.root())
    }
}

/// Every file below `root`, relative to it, sorted.
pub(crate) fn files_below(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                files.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    files
}

/// What a run of the program left.
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The JSON document, which is the last line of standard output.
    pub(crate) fn json(&self) -> serde_json::Value {
        let last = self
            .stdout
            .lines()
            .last()
            .unwrap_or_else(|| panic!("no document\n{self}"));
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}\n{self}"))
    }
}

/// Everything a caller sees, as the snapshots hold it.
impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit code: {}\n----- stdout -----\n{}----- stderr -----\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// Writes `value` at the dotted `path` of an environment file that is otherwise `besides`: nested settings in block
/// style, the value as it is.
pub(crate) fn with_setting(besides: &str, path: &str, value: &str) -> String {
    let mut text = besides.to_owned();
    let parts: Vec<&str> = path.split('.').collect();
    for (depth, part) in parts.iter().enumerate() {
        let indent = "  ".repeat(depth);
        let last = depth + 1 == parts.len();
        let opens = format!("{indent}{part}:");
        if last {
            let _ = writeln!(text, "{opens} {value}");
        } else if !text.lines().any(|line| line == opens) {
            let _ = writeln!(text, "{opens}");
        }
    }
    text
}
