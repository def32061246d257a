use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, IoContext as _, Result};

/// Who holds a lock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LockOwner {
    /// The command at work.
    pub command: String,
    /// Its process.
    pub pid: u32,
    /// Who started it.
    pub user: String,
    /// Since when.
    pub since: Timestamp,
}

/// One environment's lock on this machine; the kernel releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock in `dir`, which is made (0700) where it is missing.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] with the owner when another process holds it.
    pub fn acquire(dir: &Path, command: &str, environment: &str) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .or_cannot(|| format!("create {}", dir.display()))?;
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .or_cannot(|| format!("open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            let error = Error::new(ErrorKind::Locked, format!("another mfsre is at work on {environment}"));
            return Err(match serde_json::from_str::<LockOwner>(&text) {
                Ok(owner) => error
                    .cause(format!(
                        "`mfsre {}` of {} (process {}) holds the lock since {:.0}",
                        owner.command, owner.user, owner.pid, owner.since
                    ))
                    .hint("wait until it is done, or stop it with Ctrl-C in its terminal"),
                Err(_) => error.hint("wait until it is done"),
            });
        }
        let owner = LockOwner {
            command: format!("{command} {environment}"),
            pid: std::process::id(),
            user: crate::machine::user(),
            since: Timestamp::now(),
        };
        let write = |file: &mut File| -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&serde_json::to_vec(&owner)?)
        };
        write(&mut file).or_cannot(|| format!("write {}", path.display()))?;
        Ok(Self { _file: file })
    }
}
