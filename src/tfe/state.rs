use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use serde_json::json;

use super::{RemoteWorkspace, Tfe, TfeError, Trouble};

/// How long the host may take to read the outputs out of a state.
const PROCESSING: Duration = Duration::from_secs(60);
/// How often it is asked whether it has.
const POLL: Duration = Duration::from_millis(500);

/// A version of a state to be written
/// (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs/state-versions#create-a-state-version>).
#[derive(Clone, Copy)]
pub struct NewState<'a> {
    /// The state.
    pub text: &'a str,
    /// The serial in it.
    pub serial: u64,
    /// The lineage in it.
    pub lineage: &'a str,
    /// Whether it goes over one of another lineage or a newer serial.
    pub force: bool,
}

impl Tfe {
    /// The state of a workspace; `None` where it has none.
    ///
    /// # Errors
    /// The token may not read it.
    pub async fn state(&self, workspace: &RemoteWorkspace) -> Result<Option<String>, TfeError> {
        let what = format!("read the state of {}/{}", workspace.organization, workspace.name);
        let path = format!("workspaces/{}/current-state-version", workspace.id);
        let version = match self.get(&path, &what).await {
            Err(error) if error.kind == Trouble::Missing => return Ok(None),
            version => version?,
        };
        let url = &version.data()["attributes"]["hosted-state-download-url"];
        self.download(url.as_str().unwrap_or_default(), &what).await.map(Some)
    }

    /// Writes a state to a workspace that the token's owner has locked, and waits until its outputs can be read.
    ///
    /// # Errors
    /// It is refused, as not newer than what is there, for example.
    pub async fn write_state(&self, workspace: &RemoteWorkspace, state: NewState<'_>) -> Result<(), TfeError> {
        let what = format!("write the state of {}/{}", workspace.organization, workspace.name);
        let attributes = json!({
            "serial": state.serial,
            "lineage": state.lineage,
            "md5": format!("{:x}", md5::compute(state.text)),
            "state": BASE64_STANDARD.encode(state.text),
            "force": state.force,
        });
        let body = json!({ "data": { "type": "state-versions", "attributes": attributes } });
        let path = format!("workspaces/{}/state-versions", workspace.id);
        let made = self.call(Method::POST, &path, Some(&body), &what).await?;
        let path = format!("state-versions/{}", made.data()["id"].as_str().unwrap_or_default());
        let began = Instant::now();
        // Not every host says whether it has read them.
        while self.get(&path, &what).await?.data()["attributes"]["resources-processed"] == false
            && began.elapsed() < PROCESSING
        {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Locks a workspace.
    ///
    /// # Errors
    /// Somebody holds it, which is a [`Trouble::Conflict`], or the token has not the right to.
    pub async fn lock(&self, workspace: &RemoteWorkspace, reason: &str) -> Result<(), TfeError> {
        self.act_on_lock(workspace, "lock", Some(&json!({ "reason": reason })))
            .await
    }

    /// Unlocks a workspace that the token's owner has locked.
    ///
    /// # Errors
    /// Somebody else holds it, or nobody.
    pub async fn unlock(&self, workspace: &RemoteWorkspace) -> Result<(), TfeError> {
        self.act_on_lock(workspace, "unlock", None).await
    }

    async fn act_on_lock(
        &self,
        workspace: &RemoteWorkspace,
        action: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(), TfeError> {
        let what = format!("{action} the workspace {}/{}", workspace.organization, workspace.name);
        let path = format!("workspaces/{}/actions/{action}", workspace.id);
        self.call(Method::POST, &path, body, &what).await.map(drop)
    }
}
