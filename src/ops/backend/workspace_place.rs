//! A workspace of HCP Terraform as a place in which a state can be.

use std::path::Path;

use futures_util::future::BoxFuture;

use super::place::StatePlace;
use crate::config::Backend;
use crate::error::{Error, ErrorKind, IoContext as _, Result};
use crate::ops::Context;
use crate::ops::cloud::{locked, open_workspace};
use crate::render::tree::write_atomically;
use crate::terraform::State;
use crate::tfe::{Holder, NewState, RemoteWorkspace, Tfe, Trouble};

/// What a state that is not newer than the one there is refused with.
pub(super) const NOT_NEWER: &str = "the state that is there is not older";

/// A workspace, reached by the host's API: Terraform gives a state another lineage and serial when it pushes it to a workspace
/// that has none yet, and refuses to push to one that is set to another version of it.
pub(super) struct WorkspacePlace {
    tfe: Tfe,
    workspace: RemoteWorkspace,
    environment: String,
    /// What our locks are for.
    reason: String,
}

impl WorkspacePlace {
    /// The workspace of a backend, made where it is missing. `private` is a folder for this place, which exists.
    ///
    /// A run of ours that was killed may have left its lock, which is given back: its reason has a name that is written down
    /// here alone, and only one program at a time works on these private files.
    pub(super) async fn open(context: &Context, backend: &Backend, private: &Path) -> Result<Self> {
        let (tfe, workspace) = open_workspace(context, backend).await?;
        let environment = context.environment.name.to_string();
        let reason = format!("mfsre backend migrate {environment} ({})", name_of_locks(private)?);
        if matches!(&workspace.holder, Some(Holder::Person { reason: held, .. }) if *held == reason) {
            tfe.unlock(&workspace).await?;
        }
        Ok(Self {
            tfe,
            workspace,
            environment,
            reason,
        })
    }

    async fn lock(&self) -> Result<()> {
        match self.tfe.lock(&self.workspace, &self.reason).await {
            Err(error) if error.kind == Trouble::Conflict => {
                let RemoteWorkspace { organization, name, .. } = &self.workspace;
                let found = self.tfe.workspace(organization, name).await?;
                Err(match found.and_then(|found| found.holder) {
                    Some(holder) => locked(&self.tfe, &self.workspace, &self.environment, &holder),
                    // It was given back in this moment.
                    None => error.into(),
                })
            }
            locked => Ok(locked?),
        }
    }

    async fn read(&self) -> Result<Option<State>> {
        let text = self.tfe.state(&self.workspace).await?;
        let RemoteWorkspace { organization, name, .. } = &self.workspace;
        text.map(State::read)
            .transpose()
            .map_err(std::io::Error::from)
            .or_cannot(|| format!("read the state of {organization}/{name}"))
    }

    async fn write(&self, state: &State, force: bool) -> Result<()> {
        if !force
            && let Some(found) = self.read().await?
            && (found.lineage != state.lineage || found.serial >= state.serial)
        {
            let tell = |state: &State| format!("serial {}, lineage {}", state.serial, state.lineage);
            let RemoteWorkspace { organization, name, .. } = &self.workspace;
            return Err(Error::new(
                ErrorKind::Failed,
                format!("cannot write the state of {organization}/{name}"),
            )
            .cause(format!("{NOT_NEWER}: {} and {}", tell(&found), tell(state)))
            .hint("see that nobody else is at work on it, and run the same command again"));
        }
        let new = NewState {
            text: state.text(),
            serial: state.serial,
            lineage: &state.lineage,
            force,
        };
        Ok(self.tfe.write_state(&self.workspace, new).await?)
    }
}

/// The name by which locks of these private files are known.
fn name_of_locks(private: &Path) -> Result<String> {
    let path = private.join("lock");
    if let Ok(name) = std::fs::read_to_string(&path) {
        return Ok(name);
    }
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(std::io::Error::other)
        .or_cannot(|| "find a name for a lock".into())?;
    let name = hex::encode(bytes);
    write_atomically(&path, name.as_bytes())?;
    Ok(name)
}

impl StatePlace for WorkspacePlace {
    fn pull(&self) -> BoxFuture<'_, Result<Option<State>>> {
        Box::pin(self.read())
    }

    fn push<'a>(&'a self, state: &'a State, force: bool) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.lock().await?;
            let written = self.write(state, force).await;
            let unlocked = self.tfe.unlock(&self.workspace).await;
            written?;
            Ok(unlocked?)
        })
    }
}
