//! The fast tier: the executables that `cargo test` builds, some at a time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use serde::Deserialize;

use crate::process::{cargo, cargo_command, command, shown};

/// How many executables run at once, beside the one that kills.
const AT_ONCE: usize = 2;
/// How many tests that kill run at once for each processor; most of them wait more than they compute.
const TESTS_FOR_EACH_PROCESSOR: usize = 4;
/// The tests that kill the program everywhere take half of the time, and every processor that there is. They run beside the
/// others and give way to them, since some of those go by the clock.
pub(crate) const KILLING: &str = "kill";

/// A line of cargo's `--message-format=json`; of other kinds than artifacts no field is there.
#[derive(Deserialize)]
struct Message {
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// The tests of one target.
#[derive(Debug, PartialEq, Eq)]
struct Executable {
    name: String,
    path: PathBuf,
    /// The package's, in which cargo runs its tests.
    folder: PathBuf,
}

impl Executable {
    /// That of a line, if it tells of one.
    fn of(line: &str) -> Result<Option<Self>, String> {
        let message: Message =
            serde_json::from_str(line).map_err(|e| format!("cargo printed what cannot be read: {e}: {line}"))?;
        let (Some(manifest), Some(target), Some(path)) = (message.manifest_path, message.target, message.executable)
        else {
            return Ok(None);
        };
        let folder = manifest.parent().unwrap_or(Path::new(".")).to_owned();
        let is_test = message.profile.is_some_and(|profile| profile.test);
        Ok(is_test.then_some(Self {
            name: target.name,
            path,
            folder,
        }))
    }

    fn command(&self) -> Command {
        let mut command = if self.name == KILLING {
            let mut nice = command("nice");
            in_many_threads(nice.args(["-n", "15"]).arg(&self.path));
            nice
        } else {
            command(&self.path)
        };
        command.current_dir(&self.folder);
        command
    }

    /// Runs it; what it printed is told when it has ended, whole if it failed.
    fn run(&self) -> bool {
        let mut command = self.command();
        let started = Instant::now();
        let output = command.stdin(Stdio::null()).output();
        let seconds = started.elapsed().as_secs_f64();
        match output {
            Ok(output) if output.status.success() => {
                let text = String::from_utf8_lossy(&output.stdout);
                let result = text
                    .lines()
                    .rev()
                    .find_map(|line| line.strip_prefix("test result: ok. "));
                let counts = result.and_then(|result| result.split("; finished").next());
                println!("{:24} {seconds:6.1} s  {}", self.name, counts.unwrap_or_default());
                true
            }
            Ok(output) => {
                let (printed, errors) = (
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr),
                );
                println!(
                    "{:24} {seconds:6.1} s  {}\n$ {}\n{printed}{errors}",
                    self.name,
                    output.status,
                    shown(&command)
                );
                false
            }
            Err(error) => {
                println!("{:24} cannot be run: {error}", self.name);
                false
            }
        }
    }
}

/// Has a call of tests run more of them at once than there are processors, unless the user has said how many.
pub(crate) fn in_many_threads(tests: &mut Command) -> &mut Command {
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        tests.env("RUST_TEST_THREADS", (processors * TESTS_FOR_EACH_PROCESSOR).to_string());
    }
    tests
}

/// Runs every one of them.
pub(crate) fn run() -> Result<(), String> {
    let (killing, others): (Vec<_>, Vec<_>) = executables()?.into_iter().partition(|e| e.name == KILLING);
    let (killing, others) = (Mutex::new(killing), Mutex::new(others));
    let failed = Mutex::new(Vec::new());
    let work_off = |queue: &Mutex<Vec<Executable>>| {
        loop {
            let next = lock(queue).pop();
            let Some(executable) = next else { break };
            if !executable.run() {
                lock(&failed).push(executable.name);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| work_off(&killing));
        for _ in 0..AT_ONCE {
            scope.spawn(|| work_off(&others));
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if !failed.is_empty() {
        return Err(format!("tests failed in {}", failed.join(", ")));
    }
    cargo(&["test", "--quiet", "--workspace", "--doc"])
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Builds them.
fn executables() -> Result<Vec<Executable>, String> {
    let mut build = cargo_command(&["test", "--workspace", "--no-run", "--message-format=json"]);
    let output = build
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot run {}: {e}", shown(&build)))?;
    if !output.status.success() {
        return Err(format!("{} failed with {}", shown(&build), output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().map(Executable::of).collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_has_built_to_be_tested_is_found() {
        let artifact = |test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/src/sandbox/Cargo.toml","target":{{"name":"platform"}},"profile":{{"test":{test}}},"executable":"/target/platform-1"}}"#
            )
        };
        let found = Executable {
            name: "platform".into(),
            path: "/target/platform-1".into(),
            folder: "/src/sandbox".into(),
        };
        assert_eq!(Executable::of(&artifact(true)), Ok(Some(found)));
        assert_eq!(Executable::of(&artifact(false)), Ok(None));
        assert_eq!(
            Executable::of(r#"{"reason":"build-finished","success":true}"#),
            Ok(None)
        );
        assert!(Executable::of("warning: no JSON").is_err());
    }
}
