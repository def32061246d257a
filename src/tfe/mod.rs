//! The API of HCP Terraform and Terraform Enterprise (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs>): what
//! Terraform's `cloud` block does not do, or not in a way that survives a lost network.

mod archive;
mod client;
mod run;
mod state;
mod token;
mod workspace;

pub use archive::Archive;
pub use client::Tfe;
pub use run::{Bookmark, Change, Follow, Run, RunPhase, RunRequest, Watch};
pub use state::NewState;
pub use token::{Credential, TokenPlace};
pub use workspace::{ExecutionMode, Holder, RemoteWorkspace, VariableKind, WantedVariable, WorkspaceSpec};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempted}")]
pub struct TfeError {
    /// What was attempted, to be read after "cannot".
    pub attempted: String,
    /// What came back.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// What kind of trouble it is.
    pub kind: Trouble,
}

/// Kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No answer: the call may be repeated later.
    Network,
    /// There is no such thing, or the token may not see it.
    Missing,
    /// The thing is not in a state for this.
    Conflict,
    /// A setting or a token has to be changed.
    Configuration,
    /// The user does not want to wait any longer.
    Stopped,
    /// Anything else.
    Refused,
}
