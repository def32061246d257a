//! What the user must have: checked all together, before anything is fetched or started.

use super::python::Python;
use super::version::{Version, probe};
use super::{Resolved, find_on_path};
use crate::{Error, Missing, Source};

/// The programs that the sandbox takes from the machine.
#[derive(Debug)]
pub(crate) struct Prerequisites {
    pub python: Python,
    pub git: Resolved,
    pub ssh: Resolved,
}

/// Looks for them and reports every missing one at once.
pub(crate) async fn check() -> Result<Prerequisites, Error> {
    let (python, git, ssh) = tokio::join!(python(), git(), ssh());
    match (python, git, ssh) {
        (Ok(python), Ok(git), Ok(ssh)) => Ok(Prerequisites { python, git, ssh }),
        (python, git, ssh) => Err(Error::Prerequisites(
            [python.err(), git.err(), ssh.err()].into_iter().flatten().collect(),
        )),
    }
}

/// What the user must install before anything can be fetched, built or started; empty where nothing is missing. Python is of
/// use only in a sandbox.
pub async fn missing(sandbox: bool) -> Vec<Missing> {
    let python = async { if sandbox { python().await.err() } else { None } };
    let (python, git, ssh) = tokio::join!(python, git(), ssh());
    [python, git.err(), ssh.err()].into_iter().flatten().collect()
}

async fn python() -> Result<Python, Missing> {
    const LEAST: Version = Version {
        major: 3,
        minor: 11,
        patch: 0,
    };
    let missing = |found: String, how: &str| Missing {
        program: "python3 (3.11 or newer, with venv)".to_owned(),
        found,
        how: how.to_owned(),
    };
    let Some(python) = find_on_path("python3") else {
        return Err(missing(
            "not on PATH".to_owned(),
            "`apt install python3 python3-venv` or `brew install python`",
        ));
    };
    let version = probe(&python, &["--version"])
        .await
        .map_err(|problem| missing(problem, "`apt install python3` or `brew install python`"))?;
    if version < LEAST {
        return Err(missing(
            format!("{} is {version}", python.display()),
            "`brew install python`, or your distribution's newer python3 placed first on PATH",
        ));
    }
    let has_venv = super::run::command(&python)
        .args(["-c", "import venv, ensurepip"])
        .output()
        .await;
    if has_venv.is_ok_and(|output| output.status.success()) {
        Ok(Python(python))
    } else {
        Err(missing(
            format!("{} has no venv module", python.display()),
            "`apt install python3-venv`",
        ))
    }
}

async fn git() -> Result<Resolved, Missing> {
    on_path("git", "--version", "`apt install git` or `brew install git`").await
}

async fn ssh() -> Result<Resolved, Missing> {
    on_path("ssh", "-V", "`apt install openssh-client`; macOS has it").await
}

/// A program on PATH of any version.
async fn on_path(program: &str, version_argument: &str, how: &str) -> Result<Resolved, Missing> {
    let missing = |found: String| Missing {
        program: program.to_owned(),
        found,
        how: how.to_owned(),
    };
    let path = find_on_path(program).ok_or_else(|| missing("not on PATH".to_owned()))?;
    let version = probe(&path, &[version_argument]).await.map_err(missing)?;
    Ok(Resolved {
        path,
        version: format!("v{version}"),
        source: Source::Path,
    })
}
