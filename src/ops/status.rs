use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::Context;
use super::rotate::{age, days};
use crate::error::Result;
use crate::kubernetes::{ApplicationStatus, KubeconfigEntry};

/// An environment as it stands.
#[derive(Debug, Serialize)]
pub struct StatusReport {
    /// The cluster.
    pub cluster: ClusterStatus,
    /// Credentials.
    pub credentials: CredentialStatus,
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
#[derive(Debug, Serialize)]
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
        let host = context.platform()?.git_host(&context.environment).await?;
        let registered = match &key {
            Some(stored) if !host.is_manual() => Some(host.find(&stored.key.public).await?.is_some()),
            _ => None,
        };
        Ok(Self {
            password_since: password.as_ref().map(|p| since(p.since)),
            password_age_days: password.as_ref().map(|p| days(age(p.since))),
            password_pending_since: pending_password.map(|p| since(p.since)),
            deploy_key: key.as_ref().map(|k| k.key.fingerprint.clone()),
            deploy_key_since: key.as_ref().map(|k| since(k.since)),
            deploy_key_age_days: key.as_ref().map(|k| days(age(k.since))),
            deploy_key_registered: registered,
            deploy_key_pending: pending_key.as_ref().map(|k| k.key.fingerprint.clone()),
            deploy_key_pending_since: pending_key.map(|k| since(k.since)),
        })
    }
}

/// Looks at an environment.
///
/// # Errors
/// AWS cannot be asked.
pub async fn status(context: &mut Context) -> Result<StatusReport> {
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
        let kubernetes = context.kubernetes()?;
        match kubernetes.version().await {
            Ok(version) => {
                cluster.version = Some(version);
                applications = kubernetes.applications().await?;
            }
            Err(error) => {
                cluster.problem = Some(crate::error::Error::from(error).in_a_line());
            }
        }
    }
    let credentials = CredentialStatus::of(context).await?;
    let sandbox: Vec<String> = context
        .sandbox
        .iter()
        .flat_map(|s| &s.parts)
        .filter_map(|p| match &p.health {
            mfsre_sandbox::Health::Crashed { exit, .. } => Some(format!("{} crashed: {exit}", p.name)),
            mfsre_sandbox::Health::Starting => Some(format!("{} is starting", p.name)),
            mfsre_sandbox::Health::Healthy | mfsre_sandbox::Health::Stopped => None,
        })
        .collect();
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

    /// Everything a plan needs, without changing anything outside the project.
    ///
    /// # Errors
    /// A check failed.
    pub async fn prepare_plan(&mut self) -> Result<()> {
        use crate::workflow::{Journal, Steps, perform};
        let private = self.private();
        let (mut journal, _) = Journal::open(&private, "plan")?;
        let steps: Steps<Self> = vec![
            Box::new(super::sandbox::Attach),
            Box::new(super::infrastructure::CheckAccess {
                purpose: super::infrastructure::Purpose::Plan,
            }),
            Box::new(super::render::FetchManifest),
            Box::new(super::render::WriteTree),
            Box::new(super::render::CheckBlueprint),
            Box::new(super::backend::FindState),
        ];
        let reporter = self.reporter.clone();
        let cancellation = self.cancellation.clone();
        perform(&steps, self, &mut journal, reporter.as_ref(), &cancellation)
            .await
            .map(|_| ())
    }
}
