//! The tool cache: `<cache>/tools/<name>/<version>/`, filled atomically and by one process at a time.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::files::{create_private_dir, remove_dir};
use crate::{Error, Event, Progress};

/// Where finished tools lie.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in `explicit`, else in `MFSRE_CACHE_DIR`, `$XDG_CACHE_HOME/mfsre` or `~/.cache/mfsre`.
    pub(crate) fn locate(explicit: Option<&Path>) -> Result<Self, Error> {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let root = explicit
            .map(Path::to_path_buf)
            .or_else(|| variable("MFSRE_CACHE_DIR"))
            .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("mfsre")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/mfsre")));
        root.map(|root| Self {
            root: root.join("tools"),
        })
        .ok_or_else(|| Error::Internal {
            action: "find a folder for the tool cache".to_owned(),
            message: "neither MFSRE_CACHE_DIR nor XDG_CACHE_HOME nor HOME is set".to_owned(),
            next: "set MFSRE_CACHE_DIR to a folder with 5 GB of space".to_owned(),
        })
    }

    /// The folder of one version of a tool.
    pub(crate) fn folder(&self, name: &str, version: &str) -> PathBuf {
        self.root.join(name).join(version)
    }

    /// A file of a tool that is in the cache already.
    pub(crate) fn find(&self, name: &str, version: &str, file: &str) -> Option<PathBuf> {
        Some(self.folder(name, version).join(file)).filter(|path| path.is_file())
    }

    /// Takes the right to fill one version of a tool; waits while another process has it.
    pub(crate) async fn fill(&self, name: &str, version: &str, progress: &dyn Progress) -> Result<Filling, Error> {
        let folder = self.folder(name, version);
        let parent = self.root.join(name);
        fs::create_dir_all(&parent).map_err(Error::file("create", &parent))?;
        let path = parent.join(format!("{version}.lock"));
        let lock = File::create(&path).map_err(Error::file("create", &path))?;
        let began = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => progress.event(Event::ToolWorking {
                    name: name.to_owned(),
                    how: "waiting for another process that is getting it".to_owned(),
                    elapsed: began.elapsed(),
                }),
                Err(TryLockError::Error(error)) => return Err(Error::file("lock", &path)(error)),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let working = parent.join(format!(".{version}.partial"));
        remove_dir(&working)?;
        create_private_dir(&working)?;
        Ok(Filling {
            _lock: lock,
            working,
            folder,
        })
    }
}

/// The right to fill one version of a tool. Dropped without [`Filling::finish`], it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Filling {
    _lock: File,
    working: PathBuf,
    folder: PathBuf,
}

impl Filling {
    /// Where to put the files.
    pub(crate) fn dir(&self) -> &Path {
        &self.working
    }

    /// Empties the working folder after a way that failed.
    pub(crate) fn reset(&self) -> Result<(), Error> {
        remove_dir(&self.working)?;
        create_private_dir(&self.working)
    }

    /// Puts the files in place at once and returns the path of `file` there.
    pub(crate) fn finish(self, file: &str) -> Result<PathBuf, Error> {
        remove_dir(&self.folder)?;
        fs::rename(&self.working, &self.folder).map_err(Error::file("put in place", &self.folder))?;
        Ok(self.folder.join(file))
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // After `finish` there is nothing left to remove; after a failure a remainder is removed by the next attempt.
        let _ = remove_dir(&self.working);
    }
}
