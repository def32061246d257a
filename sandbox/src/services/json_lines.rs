use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::Error;

/// An append-only log of one JSON object a line.
#[derive(Debug, Clone)]
pub(crate) struct JsonLines {
    file: Arc<Mutex<File>>,
}

impl JsonLines {
    /// Opens the log and keeps what is in it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(Error::file("open the log", path))?;
        Ok(Self {
            file: Arc::new(Mutex::new(file)),
        })
    }

    /// Appends one line.
    ///
    /// A line that cannot be written is dropped: a full disk must not make the server refuse what it logs.
    pub(crate) fn append(&self, entry: &impl Serialize) {
        let Ok(mut line) = serde_json::to_vec(entry) else {
            return;
        };
        line.push(b'\n');
        // One write per line, so that a reader never sees half of one.
        let _ = self
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&line);
    }
}
