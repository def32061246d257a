//! What the supervisor knows, in memory and in `state.json`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::files::write_private;
use crate::{Error, Part, Status};

/// The content of `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub phase: Phase,
    pub status: Option<Status>,
}

/// How far the supervisor is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Starting,
    Ready,
    Failed(String),
}

impl State {
    /// Reads the file; `None` where there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Error> {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::file("read", path))?,
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| Error::Internal {
                action: format!("understand {}", path.display()),
                message: error.to_string(),
                next: "stop the sandbox with the version of mfsre that started it".to_owned(),
            })
    }
}

/// The supervisor's state, written to its file at every change.
#[derive(Debug)]
pub(crate) struct Board {
    path: PathBuf,
    state: Mutex<State>,
}

impl Board {
    pub(crate) fn new(path: PathBuf) -> Result<Self, Error> {
        let board = Self {
            path,
            state: Mutex::new(State {
                phase: Phase::Starting,
                status: None,
            }),
        };
        board.write(&board.lock())?;
        Ok(board)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, state: &State) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(state).unwrap_or_default();
        write_private(&self.path, text)
    }

    /// Changes the state and writes it.
    pub(crate) fn update(&self, change: impl FnOnce(&mut State)) -> Result<(), Error> {
        let mut state = self.lock();
        change(&mut state);
        self.write(&state)
    }

    /// Adds a part that comes and goes while the platform runs; one of the same name is replaced.
    pub(crate) fn add_part(&self, part: Part) {
        self.remove_part(&part.name);
        let _ = self.update(|state| {
            if let Some(status) = &mut state.status {
                status.parts.push(part);
            }
        });
    }

    /// Removes such a part again.
    pub(crate) fn remove_part(&self, name: &str) {
        let _ = self.update(|state| {
            if let Some(status) = &mut state.status {
                status.parts.retain(|part| part.name != name);
            }
        });
    }

    /// Changes one part. A state that cannot be written (a full disk) must not bring the platform down, so that is
    /// left to the next change to report.
    pub(crate) fn part(&self, name: &str, change: impl FnOnce(&mut Part)) {
        let _ = self.update(|state| {
            let parts = state.status.iter_mut().flat_map(|status| &mut status.parts);
            if let Some(part) = parts.into_iter().find(|part| part.name == name) {
                change(part);
            }
        });
    }
}
