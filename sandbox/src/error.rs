//! What can go wrong, told so that a person can act on it.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A failure of the sandbox: what was attempted, what came back, what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Programs that the sandbox cannot fetch by itself are missing; all of them are listed.
    #[error("the sandbox needs programs that are not on this machine:{}", list(.0))]
    Prerequisites(Vec<Missing>),

    /// A tool could neither be found, nor downloaded, nor built.
    #[error("cannot get {name} {version}:{}\n  next: {next}", list(.attempts))]
    Tool {
        /// The tool, for example `kube-apiserver`.
        name: String,
        /// The version that was wanted.
        version: String,
        /// Each way that was tried and what came of it, in order.
        attempts: Vec<String>,
        /// What the user can do.
        next: String,
    },

    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}\n  next: check that the folder exists, is yours and has space left", .path.display())]
    File {
        /// What was attempted, as a verb: `read`, `write`, `create`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },

    /// A port that the configuration fixes is taken by something else.
    #[error("cannot listen on {address} for the {part}: {source}\n  next: {next}")]
    PortBusy {
        /// The part that wanted it.
        part: String,
        /// The address.
        address: SocketAddr,
        /// What the system answered.
        source: io::Error,
        /// What the user can change.
        next: String,
    },

    /// One part of the sandbox did not start or ended early.
    #[error("{part} {problem}{}\n  next: the whole log is in {}", tail(.log_tail), .log.display())]
    Part {
        /// The part by name, for example `etcd`.
        part: String,
        /// What happened to it, for example `ended with exit status: 1`.
        problem: String,
        /// The last lines of its log.
        log_tail: String,
        /// The log.
        log: PathBuf,
    },

    /// The supervisor reported why the sandbox did not start.
    #[error("the sandbox did not start: {message}")]
    Start {
        /// The supervisor's own words.
        message: String,
    },

    /// Another process works on the same sandbox.
    #[error("another process is starting or stopping the sandbox in {}\n  next: wait for it, or end it, and run the command again", .dir.display())]
    Busy {
        /// The sandbox's folder.
        dir: PathBuf,
    },

    /// No sandbox runs in this folder.
    #[error("no sandbox is running in {}\n  next: start it with `mfsre sandbox start`", .dir.display())]
    NotRunning {
        /// The sandbox's folder.
        dir: PathBuf,
    },

    /// A part was asked for that does not exist.
    #[error("the sandbox has no part called {part:?}; it has {}", .known.join(", "))]
    NoSuchPart {
        /// What was asked for.
        part: String,
        /// What there is.
        known: Vec<String>,
    },

    /// The API server refused or did not answer a request of the sandbox itself.
    #[error("{attempted} failed: {answer}\n  next: `mfsre sandbox logs kube-apiserver` tells more")]
    Kubernetes {
        /// What was attempted, for example `create node node-1`.
        attempted: String,
        /// What came back.
        answer: String,
    },

    /// A key or certificate could not be made.
    #[error("cannot make the {what}: {message}\n  next: this is a fault of the sandbox; please report it")]
    Crypto {
        /// Which key or certificate.
        what: &'static str,
        /// The library's answer.
        message: String,
    },

    /// Something in process failed, for example a listener.
    #[error("cannot {action}: {message}\n  next: {next}")]
    Internal {
        /// What was attempted.
        action: String,
        /// What came back.
        message: String,
        /// What the user can do.
        next: String,
    },
}

/// A program that the user must install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The program and the version needed, for example `python3 (3.11 or newer, with venv)`.
    pub program: String,
    /// What was found instead.
    pub found: String,
    /// How to get it.
    pub how: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; get it with {}", self.program, self.found, self.how)
    }
}

impl Error {
    /// Wraps an I/O error with what was attempted on which path.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }

    /// Whether another choice of ports could help.
    pub(crate) fn is_port_conflict(&self) -> bool {
        matches!(self, Self::Part { log_tail, .. } if log_tail.to_lowercase().contains("address already in use"))
    }
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().fold(String::new(), |mut text, item| {
        let _ = write!(text, "\n  - {item}");
        text
    })
}

fn tail(log: &str) -> String {
    log.lines().fold(String::new(), |mut text, line| {
        let _ = write!(text, "\n    | {line}");
        text
    })
}
