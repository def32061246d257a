use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::services::{Error, RepositoryName};

/// The branch that a new repository names as its default.
const DEFAULT_BRANCH: &str = "main";

/// Where a repository is kept.
pub(super) fn path(repositories_dir: &Path, repository: &RepositoryName) -> PathBuf {
    repositories_dir
        .join(repository.owner())
        .join(format!("{}.git", repository.name()))
}

/// Makes the bare repository where there is none yet; `git init` leaves one that is there as it is.
pub(super) async fn ensure(git: &Path, repositories_dir: &Path, repository: &RepositoryName) -> Result<(), Error> {
    let folder = path(repositories_dir, repository);
    tokio::fs::create_dir_all(&folder)
        .await
        .map_err(Error::file("make the folder", &folder))?;
    run(
        git,
        repositories_dir,
        &folder,
        &["init", "--quiet", "--bare", "--initial-branch", DEFAULT_BRANCH, "."],
    )
    .await?;
    // A collection in the background would outlive the push that started it, and the server.
    run(git, repositories_dir, &folder, &["config", "receive.autogc", "false"]).await
}

/// A git command whose behaviour depends neither on the user's settings nor on who started the sandbox.
pub(super) fn command(git: &Path, home: &Path) -> Command {
    let mut command = Command::new(git);
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .kill_on_drop(true);
    command
}

async fn run(git: &Path, home: &Path, repository: &Path, arguments: &[&str]) -> Result<(), Error> {
    let failed = |reason: String| Error::Git {
        command: arguments.join(" "),
        repository: repository.to_owned(),
        reason,
    };
    let output = command(git, home)
        .args(arguments)
        .current_dir(repository)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| failed(format!("cannot start {}: {error}", git.display())))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(format!(
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}
