use reqwest::Method;
use serde_json::{Value, json};

use super::{Tfe, TfeError, Trouble};

/// Where a workspace's runs take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionMode {
    /// At the host.
    Remote,
    /// On whoever's machine; the host keeps the state.
    Local,
    /// On agents of the organization's own, driven by the host.
    Agent,
}

impl ExecutionMode {
    fn of(word: &str) -> Self {
        match word {
            "local" => Self::Local,
            "agent" => Self::Agent,
            _ => Self::Remote,
        }
    }

    /// The API's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Local => "local",
            Self::Agent => "agent",
        }
    }

    /// Whether the host makes runs.
    #[must_use]
    pub fn makes_runs(self) -> bool {
        self != Self::Local
    }
}

/// A workspace as it is wanted.
#[derive(Debug, Clone)]
pub struct WorkspaceSpec<'a> {
    /// Its organization.
    pub organization: &'a str,
    /// Its project; none is the organization's default one.
    pub project: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
    /// Where its runs take place.
    pub execution_mode: ExecutionMode,
    /// Terraform's version at the host.
    pub terraform_version: Option<&'a str>,
    /// The root module's folder in what is uploaded.
    pub working_directory: &'a str,
}

/// A workspace at the host.
#[derive(Debug, Clone)]
pub struct RemoteWorkspace {
    /// External id, `ws-...`.
    pub id: String,
    /// Organization.
    pub organization: String,
    /// Name.
    pub name: String,
    /// Where its runs take place.
    pub execution_mode: ExecutionMode,
    /// The root module's folder in what is uploaded.
    pub working_directory: String,
    /// Whether plans are applied without a person's consent.
    pub auto_apply: bool,
    /// The repository and branch that it follows: `OWNER/NAME` and the branch, which may be empty for the default one.
    pub vcs: Option<(String, String)>,
    /// Who holds its lock.
    pub holder: Option<Holder>,
}

/// Who holds a workspace's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A person or a token.
    Person {
        /// Name, where the token may see it.
        name: String,
        /// The reason that was given.
        reason: String,
        /// When the workspace last changed, which is not before the lock was taken.
        since: String,
    },
    /// A run.
    Run {
        /// External id.
        id: String,
        /// When it was made.
        since: String,
    },
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person { name, reason, since } => {
                write!(f, "locked by {name}, since {since}")?;
                if !reason.is_empty() {
                    write!(f, ": {reason}")?;
                }
                Ok(())
            }
            Self::Run { id, since } => write!(f, "locked by the run {id}, which was made at {since}"),
        }
    }
}

/// A variable of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableKind {
    /// An environment variable of the runs.
    Environment,
    /// A Terraform variable, which goes over terraform.tfvars.json.
    Terraform,
}

/// An environment variable that the runs of a workspace are to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedVariable {
    /// Name.
    pub key: String,
    /// Value; no secret.
    pub value: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Tfe {
    /// The workspace, or `None` where there is none.
    ///
    /// # Errors
    /// The organization is not there, or the token is not good for it.
    pub async fn workspace(&self, organization: &str, name: &str) -> Result<Option<RemoteWorkspace>, TfeError> {
        let what = format!("read the organization {organization} at {}", self.hostname());
        self.get(&format!("organizations/{organization}/entitlement-set"), &what)
            .await
            .map_err(|mut error| {
                if error.kind == Trouble::Missing {
                    error.kind = Trouble::Configuration;
                }
                error
            })?;
        let what = format!("read the workspace {organization}/{name} at {}", self.hostname());
        let path = format!("organizations/{organization}/workspaces/{name}?include=locked_by");
        let found = match self.get(&path, &what).await {
            Err(error) if error.kind == Trouble::Missing => return Ok(None),
            // A host that cannot include this says so
            // (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs#inclusion-of-related-resources>).
            Err(error) if error.kind == Trouble::Refused => {
                self.get(&format!("organizations/{organization}/workspaces/{name}"), &what)
                    .await?
            }
            found => found?,
        };
        let data = found.data();
        let attributes = &data["attributes"];
        let repository = &attributes["vcs-repo"];
        let locked = attributes["locked"] == true;
        let by = &data["relationships"]["locked-by"]["data"];
        let (kind, id) = (text(&by["type"]), text(&by["id"]));
        let holder = locked.then(|| {
            let included = found.included(&kind, &id).map(|i| &i["attributes"]);
            if kind == "runs" {
                Holder::Run {
                    since: included.map_or_else(|| text(&attributes["updated-at"]), |a| text(&a["created-at"])),
                    id,
                }
            } else {
                let name = included.and_then(|a| a["username"].as_str().or(a["name"].as_str()));
                Holder::Person {
                    name: name.map_or_else(
                        || if id.is_empty() { "somebody".into() } else { id.clone() },
                        str::to_owned,
                    ),
                    reason: text(&attributes["locked-reason"]),
                    since: text(&attributes["updated-at"]),
                }
            }
        });
        Ok(Some(RemoteWorkspace {
            id: text(&data["id"]),
            organization: organization.to_owned(),
            name: name.to_owned(),
            execution_mode: ExecutionMode::of(&text(&attributes["execution-mode"])),
            working_directory: text(&attributes["working-directory"]),
            auto_apply: attributes["auto-apply"] == true,
            vcs: repository
                .is_object()
                .then(|| (text(&repository["identifier"]), text(&repository["branch"]))),
            holder,
        }))
    }

    /// Makes a workspace, and its project where it is missing.
    ///
    /// # Errors
    /// The token has not the right to.
    pub async fn create_workspace(&self, spec: &WorkspaceSpec<'_>) -> Result<(), TfeError> {
        let organization = spec.organization;
        let mut data = json!({
            "type": "workspaces",
            "attributes": {
                "name": spec.name,
                "execution-mode": spec.execution_mode.word(),
                "working-directory": spec.working_directory,
                "auto-apply": false,
                "source-name": "mfsre",
            },
        });
        if let Some(project) = spec.project {
            let id = self.project(organization, project).await?;
            data["relationships"] = json!({ "project": { "data": { "type": "projects", "id": id } } });
        }
        let what = format!("make the workspace {organization}/{} at {}", spec.name, self.hostname());
        let path = format!("organizations/{organization}/workspaces");
        let made = self
            .call(Method::POST, &path, Some(&json!({ "data": data })), &what)
            .await?;
        if let Some(version) = spec.terraform_version {
            let body = json!({ "data": { "type": "workspaces", "attributes": { "terraform-version": version } } });
            let id = text(&made.data()["id"]);
            // As Terraform does: a host that does not have this version keeps its own.
            match self
                .call(Method::PATCH, &format!("workspaces/{id}"), Some(&body), &what)
                .await
            {
                Err(error) if error.kind != Trouble::Refused => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn project(&self, organization: &str, name: &str) -> Result<String, TfeError> {
        let what = format!("look for the project {name} of {organization} at {}", self.hostname());
        let query: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let path = format!("organizations/{organization}/projects");
        let (projects, _) = self.list(&format!("{path}?filter%5Bnames%5D={query}"), &what).await?;
        if let Some(project) = projects.iter().find(|p| p["attributes"]["name"] == name) {
            return Ok(text(&project["id"]));
        }
        let what = format!("make the project {name} of {organization} at {}", self.hostname());
        let body = json!({ "data": { "type": "projects", "attributes": { "name": name } } });
        let made = self.call(Method::POST, &path, Some(&body), &what).await?;
        Ok(text(&made.data()["id"]))
    }

    /// Sets the execution mode and the working directory of a workspace.
    ///
    /// # Errors
    /// The token has not the right to.
    pub async fn change_workspace(
        &self,
        workspace: &RemoteWorkspace,
        execution_mode: ExecutionMode,
        working_directory: &str,
    ) -> Result<(), TfeError> {
        let what = format!(
            "change the workspace {}/{} at {}",
            workspace.organization,
            workspace.name,
            self.hostname()
        );
        let attributes = json!({ "execution-mode": execution_mode.word(), "working-directory": working_directory });
        let body = json!({ "data": { "type": "workspaces", "attributes": attributes } });
        self.call(
            Method::PATCH,
            &format!("workspaces/{}", workspace.id),
            Some(&body),
            &what,
        )
        .await?;
        Ok(())
    }

    /// The names of every variable that a workspace's runs have, those of variable sets included.
    ///
    /// # Errors
    /// The token may not read variables.
    pub async fn variable_names(&self, workspace: &RemoteWorkspace) -> Result<Vec<(VariableKind, String)>, TfeError> {
        let what = format!("read the variables of {}/{}", workspace.organization, workspace.name);
        let path = format!("workspaces/{}", workspace.id);
        let (mut all, _) = self.list(&format!("{path}/vars"), &what).await?;
        // Not every host has variable sets, and not every token may see them.
        if let Ok((sets, _)) = self.list(&format!("{path}/varsets"), &what).await {
            for set in sets {
                let id = text(&set["id"]);
                if let Ok((more, _)) = self.list(&format!("varsets/{id}/relationships/vars"), &what).await {
                    all.extend(more);
                }
            }
        }
        let kind = |v: &Value| {
            if v["category"] == "env" {
                VariableKind::Environment
            } else {
                VariableKind::Terraform
            }
        };
        Ok(all
            .iter()
            .map(|v| (kind(&v["attributes"]), text(&v["attributes"]["key"])))
            .collect())
    }

    /// Sets environment variables of a workspace's runs; returns how many were not as wanted.
    ///
    /// # Errors
    /// The token has not the right to.
    pub async fn set_variables(
        &self,
        workspace: &RemoteWorkspace,
        wanted: &[WantedVariable],
    ) -> Result<usize, TfeError> {
        let what = format!("set the variables of {}/{}", workspace.organization, workspace.name);
        let path = format!("workspaces/{}/vars", workspace.id);
        let (present, _) = self.list(&path, &what).await?;
        let mut changed = 0;
        for variable in wanted {
            let found = present
                .iter()
                .find(|v| v["attributes"]["category"] == "env" && v["attributes"]["key"] == variable.key.as_str());
            let attributes = json!({
                "key": variable.key, "value": variable.value, "category": "env", "sensitive": false,
                "description": "Set by mfsre from the environment file",
            });
            let mut body = json!({ "data": { "type": "vars", "attributes": attributes } });
            match found {
                // What somebody made sensitive is theirs.
                Some(v)
                    if v["attributes"]["value"] == variable.value.as_str() || v["attributes"]["sensitive"] == true =>
                {
                    continue;
                }
                Some(v) => {
                    let id = text(&v["id"]);
                    body["data"]["id"] = json!(id);
                    self.call(Method::PATCH, &format!("{path}/{id}"), Some(&body), &what)
                        .await?;
                }
                None => {
                    self.call(Method::POST, &path, Some(&body), &what).await?;
                }
            }
            changed += 1;
        }
        Ok(changed)
    }
}
