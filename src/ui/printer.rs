use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, IoContext as _, Result};

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// One JSON document; long commands print one event a line before it.
    Json,
}

/// Whether to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Prints results to standard output and everything else to standard error.
#[derive(Debug, Clone)]
pub struct Printer {
    /// Form of the output.
    pub format: OutputFormat,
    /// The choice of the user.
    pub color: ColorChoice,
    /// 0, or more for each `-v`; -1 for `-q`.
    pub verbosity: i8,
    /// What the document shall tell besides, as diagnostics of an environment file.
    pub warnings: Arc<Mutex<Vec<Value>>>,
}

impl Printer {
    /// Whether standard error takes colour.
    #[must_use]
    pub fn color_stderr(&self) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
        }
    }

    /// Whether somebody watches standard error as it happens.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.format == OutputFormat::Text
            && self.verbosity >= 0
            && std::io::stderr().is_terminal()
            && std::env::var_os("CI").is_none_or(|v| v.is_empty() || v == "false")
            && std::env::var("TERM").is_ok_and(|t| t != "dumb")
    }

    /// Prints a result: `text` for people, or the document `body` for programs.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn result(&self, command: &str, environment: Option<&str>, text: &str, body: &impl Serialize) -> Result<()> {
        match self.format {
            OutputFormat::Text => self.line(text.trim_end_matches('\n')),
            OutputFormat::Json => self.document(command, environment, true, body),
        }
    }

    /// Prints the document of a command.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn document(&self, command: &str, environment: Option<&str>, ok: bool, body: &impl Serialize) -> Result<()> {
        let mut document = json!({ "schema": 1, "command": command, "environment": environment, "ok": ok });
        let body = serde_json::to_value(body)
            .map_err(|e| Error::failed("cannot serialise the result").cause(e.to_string()))?;
        if let (Some(document), Value::Object(body)) = (document.as_object_mut(), body) {
            document.extend(body);
            let warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            if !warnings.is_empty() {
                document.insert("warnings".into(), json!(*warnings));
            }
        }
        self.line(&document.to_string())
    }

    /// Keeps warnings for the command's document.
    pub fn remember(&self, warnings: impl IntoIterator<Item = Value>) {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(warnings);
    }

    /// Prints one line to standard output.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn line(&self, text: &str) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            // Whoever read it has seen enough, as `head` does.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => result.or_cannot(|| "write to standard output".into()),
        }
    }

    /// Has GitHub Actions show asterisks in place of `secret`, which is one line, wherever it comes up in the job's log from here on. The runner
    /// reads this on standard error too, so what a program reads on standard output stays as it is
    /// (<https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#masking-a-value-in-a-log>).
    pub fn mask(&self, secret: &str) {
        if std::env::var_os("GITHUB_ACTIONS").is_some_and(|v| v == "true") {
            self.diagnostic(&format!("::add-mask::{}\n", secret.replace('%', "%25")));
        }
    }

    /// Prints to standard error.
    pub fn diagnostic(&self, text: &str) {
        // With standard error closed there is nowhere left to say so.
        let _ = write!(std::io::stderr().lock(), "{text}");
    }

    /// Prints an error: for people to standard error, for programs as the command's document.
    pub fn error(&self, command: &str, environment: Option<&str>, error: &Error) {
        match self.format {
            OutputFormat::Text => self.diagnostic(&error.render(self.color_stderr())),
            OutputFormat::Json => {
                // Standard output may be closed; the exit code still tells.
                let _ = self.document(command, environment, false, &json!({ "error": error.to_json() }));
            }
        }
    }
}
