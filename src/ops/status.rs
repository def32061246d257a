use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Context;
use super::lease::AtWork;
use super::rotate::{age, days};
use super::sandbox_dir;
use crate::error::Result;
use crate::kubernetes::{ApplicationStatus, KubeconfigEntry};

/// Longest time for the cluster to say what is in it; one that is reached answers in a fraction of this.
const KUBERNETES_LIMIT: Duration = Duration::from_secs(10);

/// An environment as it stands.
#[derive(Debug, Serialize)]
pub struct StatusReport {
    /// The cluster.
    pub cluster: ClusterStatus,
    /// Credentials.
    pub credentials: CredentialStatus,
    /// The command that is changing the environment.
    pub at_work: Option<AtWork>,
    /// Applications.
    pub applications: Vec<ApplicationStatus>,
    /// Parts of the local platform that are not healthy.
    pub sandbox: Vec<String>,
    /// Argo CD's address, where it has one of its own.
    pub argocd_url: Option<String>,
    /// Whether everything is as it should be.
    pub healthy: bool,
}

/// The cluster as it stands.
#[derive(Debug, Serialize)]
pub struct ClusterStatus {
    /// Name.
    pub name: String,
    /// EKS's word for it, or `absent`.
    pub state: String,
    /// Kubernetes version.
    pub version: Option<String>,
    /// Address of the API.
    pub endpoint: Option<String>,
    /// Why the API cannot be used.
    pub problem: Option<String>,
}

/// The credentials as they stand.
#[derive(Debug, Default, Serialize)]
pub struct CredentialStatus {
    /// Since when the admin password is the current one, RFC 3339.
    pub password_since: Option<String>,
    /// Its age in whole days.
    pub password_age_days: Option<i64>,
    /// Since when a rotation of it is unfinished.
    pub password_pending_since: Option<String>,
    /// Fingerprint of the deploy key.
    pub deploy_key: Option<String>,
    /// Since when the deploy key is the current one, RFC 3339.
    pub deploy_key_since: Option<String>,
    /// Its age in whole days.
    pub deploy_key_age_days: Option<i64>,
    /// Whether the git host knows it; unknown where the host cannot be asked.
    pub deploy_key_registered: Option<bool>,
    /// Why the git host could not be asked.
    pub deploy_key_problem: Option<String>,
    /// Fingerprint of the key that an unfinished rotation brings.
    pub deploy_key_pending: Option<String>,
    /// Since when that rotation is unfinished.
    pub deploy_key_pending_since: Option<String>,
}

impl CredentialStatus {
    /// Asks AWS and the git host.
    async fn of(context: &Context) -> Result<Self> {
        let aws = context.aws()?;
        let names = &context.environment.names;
        let environment = context.environment.name.as_str();
        let since = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let password = aws.current_password(&names.argocd_secret).await?;
        let pending_password = match &password {
            Some(_) => aws.pending_password(&names.argocd_secret).await?,
            None => None,
        };
        let key = aws.stored_key(&names.deploy_key, environment).await?;
        let pending_key = match &key {
            Some(_) => aws.stored_key(&names.deploy_key_pending, environment).await?,
            None => None,
        };
        let (registered, problem) = match &key {
            Some(stored) => match registered(context, &stored.key.public).await {
                Ok(registered) => (registered, None),
                // One credential that is not at hand shall not hide everything else.
                Err(error) => (None, Some(error.in_a_line())),
            },
            None => (None, None),
        };
        Ok(Self {
            password_since: password.as_ref().map(|p| since(p.since)),
            password_age_days: password.as_ref().map(|p| days(age(p.since))),
            password_pending_since: pending_password.map(|p| since(p.since)),
            deploy_key: key.as_ref().map(|k| k.key.fingerprint.clone()),
            deploy_key_since: key.as_ref().map(|k| since(k.since)),
            deploy_key_age_days: key.as_ref().map(|k| days(age(k.since))),
            deploy_key_registered: registered,
            deploy_key_problem: problem,
            deploy_key_pending: pending_key.as_ref().map(|k| k.key.fingerprint.clone()),
            deploy_key_pending_since: pending_key.map(|k| since(k.since)),
        })
    }
}

/// Whether the git host knows the key; unknown where a person registers keys.
async fn registered(context: &Context, public: &str) -> Result<Option<bool>> {
    let host = context.platform()?.git_host(&context.environment).await?;
    if host.is_manual() {
        return Ok(None);
    }
    Ok(Some(host.find(public).await?.is_some()))
}

/// The version of the cluster and the Applications on it.
async fn inside(context: &Context) -> Result<(String, Vec<ApplicationStatus>)> {
    let kubernetes = context.kubernetes()?;
    let look = async { Ok::<_, crate::error::Error>((kubernetes.version().await?, kubernetes.applications().await?)) };
    match tokio::time::timeout(KUBERNETES_LIMIT, look).await {
        Ok(found) => found,
        Err(_) => Err(crate::error::Error::failed(format!(
            "the Kubernetes API did not answer within {} s",
            KUBERNETES_LIMIT.as_secs()
        ))),
    }
}

/// A sandbox that does not run, or of which a part has ended that is not started again: nothing behind it can be asked.
fn broken_sandbox(context: &Context, status: Option<&mfsre_sandbox::Status>) -> Option<StatusReport> {
    let parts = match status {
        None => vec!["not running".to_owned()],
        Some(status) if status.lost().next().is_none() => return None,
        Some(status) => troubles(status),
    };
    Some(StatusReport {
        cluster: ClusterStatus {
            name: context.environment.names.cluster.clone(),
            state: "unknown".into(),
            version: None,
            endpoint: None,
            problem: None,
        },
        credentials: CredentialStatus::default(),
        at_work: None,
        applications: Vec::new(),
        sandbox: parts,
        argocd_url: None,
        healthy: false,
    })
}

/// The parts of a sandbox that are not healthy.
fn troubles(status: &mfsre_sandbox::Status) -> Vec<String> {
    let trouble = |part: &mfsre_sandbox::Part| match &part.health {
        mfsre_sandbox::Health::Crashed { exit, .. } => Some(format!("{} crashed: {exit}", part.name)),
        mfsre_sandbox::Health::Starting => Some(format!("{} is starting", part.name)),
        mfsre_sandbox::Health::Healthy | mfsre_sandbox::Health::Stopped => None,
    };
    status.parts.iter().filter_map(trouble).collect()
}

/// Looks at an environment.
///
/// # Errors
/// AWS cannot be asked.
pub async fn status(context: &mut Context) -> Result<StatusReport> {
    if context.environment.is_sandbox() {
        let status = mfsre_sandbox::status(&sandbox_dir(&context.project, &context.environment)).await?;
        if let Some(report) = broken_sandbox(context, status.as_ref()) {
            return Ok(report);
        }
    }
    context.attach().await?;
    let names = context.environment.names.clone();
    let there = context.find_cluster().await?;
    let mut cluster = ClusterStatus {
        name: names.cluster.clone(),
        state: context
            .cluster
            .as_ref()
            .map_or_else(|| "absent".into(), |c| c.status.clone()),
        version: None,
        endpoint: context.cluster.as_ref().map(|c| c.endpoint.clone()),
        problem: None,
    };
    let mut applications = Vec::new();
    if there {
        match inside(context).await {
            Ok((version, found)) => {
                cluster.version = Some(version);
                applications = found;
            }
            Err(error) => cluster.problem = Some(error.in_a_line()),
        }
    }
    let credentials = CredentialStatus::of(context).await?;
    // Whoever may not read the lock sees everything else.
    let at_work = AtWork::on(context).await.unwrap_or_default();
    let sandbox: Vec<String> = context.sandbox.iter().flat_map(troubles).collect();
    let healthy = there
        && cluster.problem.is_none()
        && !applications.is_empty()
        && applications.iter().all(ApplicationStatus::is_ready)
        && credentials.password_since.is_some()
        && credentials.deploy_key_registered != Some(false)
        && sandbox.is_empty();
    Ok(StatusReport {
        cluster,
        credentials,
        at_work,
        applications,
        sandbox,
        argocd_url: context
            .sandbox
            .as_ref()
            .map(|s| s.argocd_url.as_str().trim_end_matches('/').to_owned()),
        healthy,
    })
}

/// The cluster as kubectl shall know it, with this program as credential plugin.
pub(crate) fn kubeconfig_entry(context: &Context) -> Result<KubeconfigEntry> {
    let cluster = context.cluster.as_ref().ok_or_else(|| {
        crate::error::Error::failed(format!("there is no EKS cluster {}", context.environment.names.cluster))
            .hint(format!("create it with `mfsre up {}`", context.environment.name))
    })?;
    let executable: PathBuf = context.options.executable.clone();
    Ok(KubeconfigEntry {
        name: context.environment.names.cluster.clone(),
        endpoint: cluster.endpoint.clone(),
        certificate_authority: cluster.certificate_authority.clone(),
        command: executable.display().to_string(),
        // As `aws eks update-kubeconfig` does: the identity that works now is the one that works later.
        environment: match std::env::var("AWS_PROFILE") {
            Ok(profile) if !profile.is_empty() && !context.environment.is_sandbox() => {
                vec![("AWS_PROFILE".into(), profile)]
            }
            _ => Vec::new(),
        },
        arguments: vec![
            "token".into(),
            context.environment.name.to_string(),
            "--project".into(),
            context.project.root().display().to_string(),
        ],
    })
}

impl Context {
    /// The kubeconfig entry of the environment's cluster.
    ///
    /// # Errors
    /// There is no such cluster.
    pub async fn kubeconfig(&mut self) -> Result<KubeconfigEntry> {
        self.attach().await?;
        self.find_cluster().await?;
        kubeconfig_entry(self)
    }

    /// A token for the environment's cluster.
    ///
    /// # Errors
    /// There are no AWS credentials.
    pub async fn token(&mut self) -> Result<crate::aws::ClusterToken> {
        self.attach().await?;
        let cluster = self.environment.names.cluster.clone();
        Ok(self.connect().await?.cluster_token(&cluster).await?)
    }

    /// Argo CD's admin password.
    ///
    /// # Errors
    /// There is none.
    pub async fn admin_password(&mut self) -> Result<crate::aws::AdminPassword> {
        self.attach().await?;
        let name = self.environment.names.argocd_secret.clone();
        self.connect().await?.admin_password(&name).await?.ok_or_else(|| {
            crate::error::Error::failed(format!("there is no secret {name} in {}", self.environment.region))
                .hint(format!("`mfsre up {}` makes it", self.environment.name))
        })
    }
}
