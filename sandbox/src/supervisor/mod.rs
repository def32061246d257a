//! The supervisor: one detached process that starts all others, watches them and ends them.

mod client;
mod exec;
mod keeper;
pub(crate) mod launcher;
pub(crate) mod layout;
mod lock;
mod plan;
mod platform;
pub(crate) mod ports;
pub(crate) mod probes;
mod processes;
pub(crate) mod secrets;
mod servers;
pub(crate) mod state;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub use self::client::{logs, start, status, stop};
pub use self::exec::exec;
use self::layout::Layout;
use self::lock::Lock;
use self::plan::Plan;
use self::platform::{Platform, create_folders};
use self::state::{Board, Phase};
use crate::Error;

/// How often the start is repeated with other ports after a port was taken by somebody else.
const ATTEMPTS: u32 = 3;

/// Runs the sandbox in `dir` until SIGTERM; what `sandbox supervise --dir DIR` does.
///
/// Must be called on a multi-threaded tokio runtime with I/O and time enabled.
///
/// # Errors
/// The reason why the sandbox did not start; [`start`] reports the same one to its caller.
pub async fn supervise(dir: &Path) -> Result<(), Error> {
    crate::crypto::install_provider();
    // A session of its own, so that neither Ctrl-C nor a closed terminal of the command that started it ends it. Where
    // this process leads a group already (run by hand in a shell), it stays in its session.
    let _ = rustix::process::setsid();
    let layout = Layout::new(dir)?;
    create_folders(&layout)?;
    // Whoever looks at the lock holds it for a moment.
    let Some(mut lock) = Lock::acquire(&layout.supervisor_lock(), Duration::from_secs(2)).await? else {
        return Err(Error::Busy {
            dir: layout.dir().to_path_buf(),
        });
    };
    lock.sign(&layout.supervisor_lock())?;
    let board = Arc::new(Board::new(layout.state())?);
    let mut asked_to_end = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let started = tokio::select! {
        started = start_platform(&layout, &board) => started,
        () = either(&mut asked_to_end) => return Ok(()),
    };
    match started {
        Ok(platform) => {
            board.update(|state| state.phase = Phase::Ready)?;
            either(&mut asked_to_end).await;
            platform.end().await;
            Ok(())
        }
        Err(error) => {
            board.update(|state| state.phase = Phase::Failed(error.to_string()))?;
            Err(error)
        }
    }
}

async fn start_platform(layout: &Layout, board: &Arc<Board>) -> Result<Platform, Error> {
    let plan = Plan::read(&layout.plan())?;
    let mut attempt = 1;
    loop {
        match Platform::start(&plan, layout, board).await {
            Err(error) if error.is_port_conflict() && attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|error| Error::Internal {
        action: "listen for signals".to_owned(),
        message: error.to_string(),
        next: "this is a fault of the sandbox; please report it".to_owned(),
    })
}

async fn either(signals: &mut (Signal, Signal)) {
    tokio::select! {
        _ = signals.0.recv() => {}
        _ = signals.1.recv() => {}
    }
}
