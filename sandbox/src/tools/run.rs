//! Running a helper program (go, pip) with an explicit environment, a log and progress.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::files::tail;
use crate::{Event, Progress};

/// What a build may know of the user's environment: where programs and caches are, and how to reach the network.
const PASSED_ON: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "LANG",
    "NETRC",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "GOPROXY",
    "GONOPROXY",
    "GOPRIVATE",
    "GOSUMDB",
    "GONOSUMDB",
    "GONOSUMCHECK",
    "GOINSECURE",
    "GOPATH",
    "GOMODCACHE",
    "GOCACHE",
    "GOAUTH",
    "PYENV_ROOT",
    "PYENV_VERSION",
];

/// The part of the user's environment that is passed on; everything of pip's own settings belongs to it.
fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        PASSED_ON.contains(&name.as_ref()) || name.starts_with("PIP_")
    })
}

/// A command with that environment and no standard input.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(environment())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end, its output in `log`; reports progress once a second.
///
/// # Errors
/// A sentence with the exit status and the last lines of the log.
pub(crate) async fn run(
    mut command: Command,
    log: &Path,
    name: &str,
    how: &str,
    progress: &dyn Progress,
) -> Result<(), String> {
    let output = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let errors = output
        .try_clone()
        .map_err(|error| format!("{}: {error}", log.display()))?;
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    let status = ticking(child.wait(), name, how, progress)
        .await
        .map_err(|error| format!("{program}: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{how} ended with {status}:\n{}", tail(log, 15)))
}

/// Awaits `work`, with an [`Event::ToolWorking`] at its start and then once a second.
pub(crate) async fn ticking<T>(work: impl Future<Output = T>, name: &str, how: &str, progress: &dyn Progress) -> T {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = ticks.tick() => progress.event(Event::ToolWorking {
                name: name.to_owned(),
                how: how.to_owned(),
                elapsed: began.elapsed(),
            }),
        }
    }
}
