//! Locks that end with the process that holds them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Error;

/// A held lock.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock in the file `path`; `None` if another process has it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>, Error> {
        loop {
            let file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(Error::file("create", path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(Error::file("lock", path)(error)),
            }
            // The previous holder may have removed the file between our opening and our locking it.
            let ours = file.metadata().map_err(Error::file("read", path))?.ino();
            if path.metadata().is_ok_and(|current| current.ino() == ours) {
                return Ok(Some(Self(file)));
            }
        }
    }

    /// Takes the lock, waiting at most `limit` for another process.
    pub(crate) async fn acquire(path: &Path, limit: Duration) -> Result<Option<Self>, Error> {
        let began = Instant::now();
        loop {
            match Self::try_acquire(path)? {
                None if began.elapsed() < limit => tokio::time::sleep(Duration::from_millis(100)).await,
                result => return Ok(result),
            }
        }
    }

    /// Writes this process's id into the lock's file.
    pub(crate) fn sign(&mut self, path: &Path) -> Result<(), Error> {
        let sign = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())?;
            file.flush()
        };
        sign(&mut self.0).map_err(Error::file("write", path))
    }
}

/// The process that holds the lock in `path`, if one does.
///
/// Looking takes a shared lock for a moment, so that two who look do not take each other for a holder.
pub(crate) fn holder(path: &Path) -> Result<Option<u32>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::file("read", path))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
            Ok(text.trim().parse().ok())
        }
        Err(TryLockError::Error(error)) => Err(Error::file("lock", path)(error)),
    }
}
