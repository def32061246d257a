use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why a server of the sandbox could not start or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The listener is reachable from other machines.
    #[error("refusing to serve on {0}: the sandbox serves on loopback only")]
    NotLoopback(SocketAddr),
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came back.
        source: std::io::Error,
    },
    /// A file holds something else than it should.
    #[error("cannot use {}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting of a server is unusable.
    #[error("cannot use {what}: {reason}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The listening socket failed.
    #[error("cannot {action} on the listening socket")]
    Socket {
        /// What was attempted.
        action: &'static str,
        /// What came back.
        source: std::io::Error,
    },
    /// A git command that prepares a repository failed.
    #[error("`git {command}` failed in {}: {reason}", repository.display())]
    Git {
        /// The subcommand with its arguments.
        command: String,
        /// The bare repository.
        repository: PathBuf,
        /// Its exit status and last words.
        reason: String,
    },
}

impl Error {
    /// An error of the file system, for `map_err`.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
