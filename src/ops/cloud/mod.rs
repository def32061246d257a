//! Environments whose state, and by default whose runs, are at HCP Terraform or a Terraform Enterprise.
//!
//! The `cloud` block serves for the state: `terraform init`, `output`, `state` and, with local execution, plan and apply. Runs
//! at the host are made and followed by the API, because Terraform gives up a run that it follows when the network is lost or
//! a policy waits for a person, and has no machine-readable output for one.

mod runs;
mod workspace;

use crate::tfe::{RemoteWorkspace, Tfe};

pub(super) use runs::{apply, decline, has_consent, plan};
pub(super) use workspace::{CloudWorkspace, locked, open_workspace, workspace_is_missing};

/// The workspace at the host.
pub(super) struct Cloud {
    tfe: Tfe,
    workspace: RemoteWorkspace,
}

impl Cloud {
    /// Whether plans and applies run at the host.
    pub(super) fn makes_runs(&self) -> bool {
        self.workspace.execution_mode.makes_runs()
    }

    /// The repository and branch that the workspace follows.
    pub(super) fn follows(&self) -> Option<&(String, String)> {
        self.workspace.vcs.as_ref().filter(|_| self.makes_runs())
    }
}
