//! Running other programs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// Runs a command in the repository's folder and expects it to succeed.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = shown(command);
    println!("$ {shown}");
    let status = command.status().map_err(|e| format!("cannot run {shown}: {e}"))?;
    expect_success(&shown, status)
}

/// A command that runs beside others, with its output in a file.
struct Background {
    shown: String,
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts it.
    fn start(command: &mut Command, log: PathBuf) -> Result<Self, String> {
        let shown = shown(command);
        println!("$ {shown} > {} &", log.display());
        let cannot_write = |e: std::io::Error| format!("cannot write {}: {e}", log.display());
        let output = File::create(&log).map_err(cannot_write)?;
        command.stdout(output.try_clone().map_err(cannot_write)?).stderr(output);
        let child = command.spawn().map_err(|e| format!("cannot run {shown}: {e}"))?;
        Ok(Self { shown, child, log })
    }

    /// Waits for its end, prints what it wrote, and expects that it succeeded.
    fn finish(mut self) -> Result<(), String> {
        let status = self
            .child
            .wait()
            .map_err(|e| format!("cannot wait for {}: {e}", self.shown))?;
        println!("\n$ {}", self.shown);
        println!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        expect_success(&self.shown, status)
    }
}

/// Runs two commands at the same time and expects both to succeed; what the second prints goes to `log`, and is printed at its end.
pub(crate) fn side_by_side(first: &mut Command, second: &mut Command, log: PathBuf) -> Result<(), String> {
    let beside = Background::start(second, log)?;
    let first = run(first);
    first.and(beside.finish())
}

pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn expect_success(shown: &str, status: ExitStatus) -> Result<(), String> {
    if status.success() {
        Ok(())
    } else {
        Err(format!("{shown} failed with {status}"))
    }
}

/// A command that runs in the repository's folder.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// A call of cargo.
///
/// `cargo xtask` sets variables that describe this package. Build scripts that ask for them (ring's does) would run again, and everything
/// above them would be compiled again, each time cargo is called with them after it was called without.
pub(crate) fn cargo_command(arguments: &[&str]) -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs cargo.
pub(crate) fn cargo(arguments: &[&str]) -> Result<(), String> {
    run(&mut cargo_command(arguments))
}

/// The program's path, if it is on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}
