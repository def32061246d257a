//! What went wrong, for the person or the pipeline that called.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::config::{Diagnostics, ProjectError};

/// Kinds of failure; each has its exit code (`sysexits.h` where it has one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The work was attempted and failed.
    Failed,
    /// The platform is up and something in it is not healthy.
    Unhealthy,
    /// The command line does not say enough or says something impossible.
    Usage,
    /// Somebody else is at work on the same environment.
    Locked,
    /// A file of the project must be changed first.
    Configuration,
    /// The user stopped it.
    Interrupted,
}

impl ErrorKind {
    /// The process's exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Unhealthy => 3,
            Self::Usage => 64,
            Self::Locked => 75,
            Self::Configuration => 78,
            Self::Interrupted => 130,
        }
    }
}

/// An error as it is shown: what was attempted, what came back, what to do next.
#[derive(Debug)]
pub struct Error {
    /// Decides the exit code.
    pub kind: ErrorKind,
    /// What was attempted, and on what.
    pub message: String,
    /// What came back, outermost first.
    pub causes: Vec<String>,
    /// What to do next.
    pub hints: Vec<String>,
    /// Mistakes in a file, shown instead of the message.
    pub diagnostics: Option<Box<Diagnostics>>,
}

/// The result of anything that can fail in front of a user.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            diagnostics: None,
        }
    }

    /// The work was attempted and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// The command line must be changed.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// The user stopped it.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "stopped on request")
            .hint("run the same command again to continue where it stopped")
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds what came back.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds `error` and everything behind it as what came back.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            let repeated = self.causes.last().is_some_and(|last| last.contains(&text));
            if !repeated && !text.is_empty() {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// What was attempted and what came back, for the end of another sentence.
    pub(crate) fn in_a_line(self) -> String {
        let parts: Vec<String> = std::iter::once(self.message).chain(self.causes).collect();
        parts.join(": ")
    }

    /// For people.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let paint = |code: &str, text: &str| {
            if color {
                format!("\u{1b}[{code}m{text}\u{1b}[0m")
            } else {
                text.to_owned()
            }
        };
        if let Some(diagnostics) = &self.diagnostics {
            return diagnostics.render(color);
        }
        let mut out = format!("{} {}\n", paint("1;31", "error:"), self.message);
        for cause in &self.causes {
            let _ = writeln!(
                out,
                "  {} {}",
                paint("1;34", "because:"),
                cause.trim_end().replace('\n', "\n           ")
            );
        }
        for hint in &self.hints {
            let _ = writeln!(out, "  {} {}", paint("1;36", "hint:"), hint.replace('\n', "\n        "));
        }
        out
    }

    /// For programs: the value of `error` in a JSON document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "kind": match self.kind {
                ErrorKind::Failed => "failed",
                ErrorKind::Unhealthy => "unhealthy",
                ErrorKind::Usage => "usage",
                ErrorKind::Locked => "locked",
                ErrorKind::Configuration => "configuration",
                ErrorKind::Interrupted => "interrupted",
            },
            "exit_code": self.kind.exit_code(),
            "message": self.message,
            "causes": self.causes,
            "hints": self.hints,
            "diagnostics": self.diagnostics.as_ref().map(|d| d.to_json()),
        })
    }
}

impl From<ProjectError> for Error {
    fn from(error: ProjectError) -> Self {
        let message = error.to_string();
        match error {
            ProjectError::Invalid(diagnostics) => Self {
                diagnostics: Some(diagnostics),
                ..Self::new(ErrorKind::Configuration, message)
            },
            ProjectError::NotFound(_) => Self::new(ErrorKind::Configuration, message)
                .hint("start one with `mfsre init`, or name its folder with --project DIR"),
            ProjectError::NoEnvironment {
                path,
                other_ending: true,
                ..
            } => Self::new(ErrorKind::Configuration, message).hint(format!(
                "rename {} to {}",
                path.with_extension("yml").display(),
                path.display()
            )),
            ProjectError::NoEnvironment { name, known, .. } => {
                let error = Self::new(ErrorKind::Configuration, message);
                let stem = std::path::Path::new(&name).file_stem().and_then(|stem| stem.to_str());
                if let Some(stem) = stem.filter(|stem| *stem != name && known.iter().any(|k| k == stem)) {
                    return error.hint(format!("name the environment, without folder and ending: {stem}"));
                }
                match known.iter().min_by_key(|k| strsim::damerau_levenshtein(k, &name)) {
                    Some(nearest) if strsim::damerau_levenshtein(nearest, &name) <= 2 => {
                        error.hint(format!("did you mean {nearest:?}?"))
                    }
                    Some(_) => error.hint(format!("environments here: {}", known.join(", "))),
                    None => error.hint("create one with `mfsre init --environment NAME`"),
                }
            }
            ProjectError::Unreadable { source, .. } => {
                let error = Self::new(ErrorKind::Configuration, message).caused_by(&source);
                match source.kind() {
                    std::io::ErrorKind::InvalidData => {
                        error.hint("an environment file is text in UTF-8: save it as such")
                    }
                    _ => error,
                }
            }
        }
    }
}

/// What to do next where a file cannot be written.
pub(crate) fn storage_hint(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind as Kind;
    match kind {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
            Some("free some disk space and run the same command again")
        }
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
            Some("make the folder writable for you, or choose another with --project")
        }
        _ => None,
    }
}

/// Says what was attempted when an I/O call failed.
pub trait IoContext<T> {
    /// `what` reads on from "cannot", for example "write PATH".
    fn or_cannot(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn or_cannot(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let hint = storage_hint(error.kind());
            let cannot = Error::failed(format!("cannot {}", what())).cause(error.to_string());
            match hint {
                Some(hint) => cannot.hint(hint),
                None => cannot,
            }
        })
    }
}

/// Removes a file; one that is not there is as good as removed.
///
/// # Errors
/// It is there and cannot be removed.
pub(crate) fn remove_file(path: &std::path::Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.or_cannot(|| format!("remove {}", path.display())),
    }
}
