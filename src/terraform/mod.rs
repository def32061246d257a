//! Drives Terraform or OpenTofu: a clean environment, machine-readable output, saved plans only, and one SIGINT.

mod encryption;
mod event;
mod lock;
mod mirror;
mod program;
mod run;
mod state;
mod workspace;

pub use encryption::{Encryption, NoPassphrase, VARIABLE as ENCRYPTION_VARIABLE, json_literal};
pub use event::{DiagnosticEvent, TerraformEvent};
pub use lock::StateLock;
pub use mirror::ProviderMirror;
pub use program::{Flavour, Program};
pub use state::State;
pub use workspace::{Destroyed, Import, Plan, PlanCounts, Workspace};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum TerraformError {
    /// No program was found.
    #[error("neither terraform nor tofu is on PATH")]
    NotFound,
    /// The program cannot be started or answers nonsense.
    #[error("cannot run {program}")]
    Unusable {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The program is too old.
    #[error("{program} is {found}; at least {needed} is needed")]
    TooOld {
        /// The program.
        program: String,
        /// Its version.
        found: String,
        /// The oldest that works.
        needed: &'static str,
    },
    /// A file of the driver cannot be written or read.
    #[error("cannot {what}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A command failed.
    #[error("{command} failed")]
    Failed {
        /// The command, such as `terraform apply`.
        command: String,
        /// What it reported.
        diagnostics: Vec<DiagnosticEvent>,
        /// The end of what it printed besides.
        output: String,
    },
    /// Somebody else holds the lock of the state.
    #[error("{command} did not get the lock of the state")]
    Locked {
        /// The command.
        command: String,
        /// The lock.
        lock: Box<StateLock>,
    },
    /// The user stopped it.
    #[error("{command} was stopped")]
    Interrupted {
        /// The command.
        command: String,
    },
    /// Its output is not what was expected.
    #[error("cannot read what {command} printed")]
    Output {
        /// The command.
        command: String,
        /// Why.
        source: serde_json::Error,
    },
}
