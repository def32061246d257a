//! What commands do with a sandbox: start it, look at it, stop it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Command;

use super::layout::Layout;
use super::lock::{Lock, holder};
use super::plan::Plan;
use super::platform::create_folders;
use super::processes::{self, MARKER};
use super::servers::git_port_busy;
use super::state::{Phase, State};
use crate::files::{remove_dir, tail};
use crate::status::SUPERVISOR_ENDED;
use crate::{Error, Event, Health, Progress, Spec, Status, Stopped, Toolset};

/// How long another command may hold the sandbox.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
/// How long a part of a running sandbox that is starting again is waited for.
const RESTART_LIMIT: Duration = Duration::from_secs(30);
/// How long the supervisor may take to end its parts.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Starts the sandbox, or finds that it runs already, and returns when everything answers.
///
/// `supervise_exe` is the executable that offers `sandbox supervise` and `sandbox exec`. What a sandbox whose
/// supervisor was killed left behind is cleaned up first. In one that runs already a part may be [`lost`](Status::lost).
///
/// # Errors
/// [`Error::Start`] with the supervisor's reason; [`Error::PortBusy`] where the git server's fixed port is taken; [`Error::Busy`] while another command works on the same folder.
/// After an error no process is left, and of the data only the logs.
pub async fn start(
    spec: &Spec,
    tools: &Toolset,
    supervise_exe: &Path,
    progress: &dyn Progress,
) -> Result<Status, Error> {
    let layout = Layout::new(&spec.dir)?;
    create_folders(&layout)?;
    let lock = command_lock(&layout).await?;
    if holder(&layout.supervisor_lock())?.is_some() {
        wait_until_ready(&layout, progress).await?;
        return wait_until_whole(&layout).await;
    }
    processes::kill_all(layout.dir()).await;
    clear(&layout)?;
    // The supervisor binds it for good; found here, the error keeps its kind.
    std::net::TcpListener::bind(spec.git_listen)
        .map(drop)
        .map_err(|source| git_port_busy(spec.git_listen, source))?;
    create_folders(&layout)?;
    Plan {
        spec: spec.clone(),
        tools: tools.clone(),
    }
    .write(&layout.plan())?;
    launch(&layout, supervise_exe)?;
    let result = wait_until_ready(&layout, progress).await;
    if result.is_err() {
        end(&layout).await?;
        // Without a state there is no sandbox; the logs stay, since the error speaks of them.
        let state = layout.state();
        if state.exists() {
            std::fs::remove_file(&state).map_err(Error::file("remove", &state))?;
        }
    }
    drop(lock);
    result
}

/// Stops the sandbox in `dir`: ends every process and removes the folder. Without a sandbox it does nothing.
///
/// # Errors
/// [`Error::Busy`] while another command works on the same folder; [`Error::File`] for data that cannot be removed.
pub async fn stop(dir: &Path) -> Result<Stopped, Error> {
    let layout = Layout::new(dir)?;
    if !layout.dir().exists() {
        return Ok(Stopped {
            was_running: false,
            killed: Vec::new(),
        });
    }
    let lock = command_lock(&layout).await?;
    let stopped = end(&layout).await?;
    clear(&layout)?;
    remove_dir(layout.dir())?;
    drop(lock);
    Ok(stopped)
}

/// What runs in `dir`; `None` where nothing does and nothing was left behind.
///
/// Parts of a sandbox whose supervisor has ended are reported as crashed.
///
/// # Errors
/// [`Error::File`] or [`Error::Internal`] for a state that cannot be read.
pub async fn status(dir: &Path) -> Result<Option<Status>, Error> {
    let layout = Layout::new(dir)?;
    let Some(State {
        status: Some(mut status),
        ..
    }) = State::read(&layout.state())?
    else {
        return Ok(None);
    };
    let supervisor = holder(&layout.supervisor_lock())?;
    for part in &mut status.parts {
        if supervisor.is_none() && part.health != Health::Stopped {
            part.pid = None;
            part.health = Health::Crashed {
                exit: SUPERVISOR_ENDED.to_owned(),
                log_tail: tail(&layout.log("supervisor"), 10),
                restarting: false,
            };
        }
        part.memory_bytes = part
            .pid
            .filter(|pid| Some(*pid) != supervisor)
            .and_then(processes::memory);
    }
    Ok(Some(status))
}

/// The path of one part's log, or of the supervisor's own (`supervisor`); also after a start that failed.
///
/// # Errors
/// [`Error::NoSuchPart`] with the names there are; [`Error::NotRunning`] where there is no sandbox.
pub async fn logs(dir: &Path, part: &str) -> Result<PathBuf, Error> {
    let layout = Layout::new(dir)?;
    let Ok(entries) = std::fs::read_dir(layout.logs()) else {
        return Err(Error::NotRunning {
            dir: layout.dir().to_path_buf(),
        });
    };
    let names = entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()));
    let mut known: Vec<String> = names.collect();
    known.sort();
    if known.iter().any(|name| name == part) {
        return Ok(layout.log(part));
    }
    Err(Error::NoSuchPart {
        part: part.to_owned(),
        known,
    })
}

async fn command_lock(layout: &Layout) -> Result<Lock, Error> {
    Lock::acquire(&layout.command_lock(), COMMAND_LIMIT)
        .await?
        .ok_or_else(|| Error::Busy {
            dir: layout.dir().to_path_buf(),
        })
}

/// Starts the supervisor, which detaches itself.
fn launch(layout: &Layout, executable: &Path) -> Result<(), Error> {
    let log = layout.log("supervisor");
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(Error::file("create", &log))?;
    let errors = output.try_clone().map_err(Error::file("open", &log))?;
    let inherited = ["PATH", "HOME", "USER", "RUST_BACKTRACE"]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    Command::new(executable)
        .args(["sandbox", "supervise", "--dir"])
        .arg(layout.dir())
        .env_clear()
        .envs(inherited)
        .env("LANG", "C.UTF-8")
        .env(MARKER, layout.dir())
        .current_dir(layout.dir())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map(drop)
        .map_err(Error::file("run", executable))
}

/// Follows the supervisor's state until it is ready, and reports each part on the way.
async fn wait_until_ready(layout: &Layout, progress: &dyn Progress) -> Result<Status, Error> {
    let began = Instant::now();
    let mut reported = std::collections::BTreeMap::new();
    loop {
        let state = State::read(&layout.state())?;
        if let Some(status) = state.as_ref().and_then(|state| state.status.as_ref()) {
            for part in &status.parts {
                if reported.get(&part.name) == Some(&part.health) {
                    continue;
                }
                match part.health {
                    Health::Starting => progress.event(Event::PartStarting {
                        name: part.name.clone(),
                    }),
                    Health::Healthy => progress.event(Event::PartReady {
                        name: part.name.clone(),
                        address: part.address.clone(),
                        elapsed: Duration::from_millis(part.ready_after_ms.unwrap_or_default()),
                    }),
                    Health::Crashed { .. } | Health::Stopped => {}
                }
                reported.insert(part.name.clone(), part.health.clone());
            }
        }
        match state.map(|state| state.phase) {
            Some(Phase::Ready) => return current(layout).await,
            Some(Phase::Failed(message)) => return Err(Error::Start { message }),
            Some(Phase::Starting) | None => {}
        }
        // The supervisor takes its lock within milliseconds; without it after a while, it has ended.
        if began.elapsed() > Duration::from_secs(5) && holder(&layout.supervisor_lock())?.is_none() {
            let message = format!(
                "its supervisor has ended; its last words:\n{}",
                tail(&layout.log("supervisor"), 10)
            );
            return Err(Error::Start { message });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the parts of a running sandbox that are on their way are there. A part that takes longer is left to whoever
/// needs it: the processes of Argo CD may wait for what is applied next.
async fn wait_until_whole(layout: &Layout) -> Result<Status, Error> {
    let began = Instant::now();
    loop {
        let status = current(layout).await?;
        let settled = status.is_up() || status.lost().next().is_some();
        if settled || began.elapsed() > RESTART_LIMIT {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn current(layout: &Layout) -> Result<Status, Error> {
    status(layout.dir()).await?.ok_or_else(|| Error::NotRunning {
        dir: layout.dir().to_path_buf(),
    })
}

/// Ends the supervisor and with it everything else.
async fn end(layout: &Layout) -> Result<Stopped, Error> {
    let supervisor = holder(&layout.supervisor_lock())?;
    if let Some(pid) = supervisor {
        processes::signal(pid, Signal::TERM);
        let began = Instant::now();
        while holder(&layout.supervisor_lock())?.is_some() && began.elapsed() < STOP_LIMIT {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let killed = processes::kill_all(layout.dir()).await;
    Ok(Stopped {
        was_running: supervisor.is_some(),
        killed,
    })
}

/// Removes everything in the folder but the lock that this command holds.
fn clear(layout: &Layout) -> Result<(), Error> {
    let entries = std::fs::read_dir(layout.dir()).map_err(Error::file("read", layout.dir()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path == layout.command_lock() {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_dir(&path)?;
        } else {
            std::fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        }
    }
    Ok(())
}
