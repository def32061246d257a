use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Platform;
use super::down::Remains;
use super::lease::Lease;
use crate::aws::{AdminPassword, Aws, ClusterDescription, DeployKey, PasswordVersion, RegistryCredential, StoredKey};
use crate::config::{Environment, Project};
use crate::error::{Error, Result};
use crate::git::{GitRepository, Publication};
use crate::kubernetes::{ApplicationStatus, Kubernetes};
use crate::render::Tree;
use crate::terraform::{Plan, Program, ProviderMirror, Workspace};
use crate::workflow::{Cancellation, Confirm, Reporter};

/// What the command line decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// Commit and push the rendered tree where the branch differs.
    pub push: bool,
    /// A saved plan to apply instead of a new one.
    pub plan: Option<PathBuf>,
    /// How long to wait until everything is healthy.
    pub timeout: Duration,
    /// Delete the secret without its recovery window.
    pub purge: bool,
    /// Take the finalizers off what hangs while it is deleted.
    pub force: bool,
    /// The executable that supervises the sandbox.
    pub executable: PathBuf,
}

/// What the steps of an operation hand to one another. Everything in it can be found again by probing.
pub struct Context {
    /// The project.
    pub project: Project,
    /// The settings.
    pub environment: Environment,
    /// How the outside is reached; known once the sandbox runs, where there is one.
    pub platform: Option<Platform>,
    /// What the command line decides.
    pub options: Options,
    /// Asks the user.
    pub confirm: Arc<dyn Confirm>,
    /// Hears what happens.
    pub reporter: Arc<dyn Reporter>,
    /// The user's wish to stop.
    pub cancellation: Cancellation,
    pub(super) sandbox: Option<mfsre_sandbox::Status>,
    pub(super) aws: Option<Aws>,
    pub(super) program: Option<Program>,
    pub(super) workspace: Option<Workspace>,
    pub(super) cloud: Option<super::cloud::Cloud>,
    pub(super) mirror: Option<ProviderMirror>,
    pub(super) manifest: Option<Vec<u8>>,
    pub(super) tree: Option<Tree>,
    pub(super) plan: Option<Plan>,
    /// What Terraform knows of, where it is about to destroy it.
    pub(super) state_ids: BTreeSet<String>,
    pub(super) password: Option<AdminPassword>,
    pub(super) pending_password: Option<PasswordVersion>,
    pub(super) deploy_key: Option<DeployKey>,
    pub(super) registry: Option<RegistryCredential>,
    pub(super) pending_key: Option<StoredKey>,
    pub(super) publication: Option<Publication>,
    pub(super) revision: Option<String>,
    /// What this run pushed, in a few words.
    pub(super) pushed: Option<String>,
    pub(super) cluster: Option<ClusterDescription>,
    pub(super) kubernetes: Option<Kubernetes>,
    pub(super) applications: Vec<ApplicationStatus>,
    pub(super) applied: Vec<String>,
    pub(super) created: u64,
    pub(super) kept: Vec<String>,
    pub(super) remains: Remains,
    /// The lock for all machines, while it is held.
    pub(super) lease: Option<Lease>,
}

impl Context {
    /// A context in which nothing is known yet.
    #[must_use]
    pub fn new(
        project: Project,
        environment: Environment,
        options: Options,
        confirm: Arc<dyn Confirm>,
        reporter: Arc<dyn Reporter>,
        cancellation: Cancellation,
    ) -> Self {
        Self {
            project,
            environment,
            platform: None,
            options,
            confirm,
            reporter,
            cancellation,
            sandbox: None,
            aws: None,
            program: None,
            workspace: None,
            cloud: None,
            mirror: None,
            manifest: None,
            tree: None,
            plan: None,
            state_ids: BTreeSet::new(),
            password: None,
            pending_password: None,
            deploy_key: None,
            registry: None,
            pending_key: None,
            publication: None,
            revision: None,
            pushed: None,
            cluster: None,
            kubernetes: None,
            applications: Vec::new(),
            applied: Vec::new(),
            created: 0,
            kept: Vec::new(),
            remains: Remains::default(),
            lease: None,
        }
    }

    /// The folder of files that are never committed.
    #[must_use]
    pub fn private(&self) -> PathBuf {
        self.project.private(self.environment.name.as_str())
    }

    pub(super) fn platform(&self) -> Result<&Platform> {
        self.platform.as_ref().ok_or_else(|| missing("the platform"))
    }

    pub(super) fn aws(&self) -> Result<&Aws> {
        self.aws.as_ref().ok_or_else(|| missing("the AWS clients"))
    }

    pub(super) fn kubernetes(&self) -> Result<&Kubernetes> {
        self.kubernetes.as_ref().ok_or_else(|| missing("the cluster"))
    }

    pub(super) fn tree(&self) -> Result<&Tree> {
        self.tree.as_ref().ok_or_else(|| missing("the rendered tree"))
    }

    pub(super) fn program(&self) -> Result<&Program> {
        self.program.as_ref().ok_or_else(|| missing("the Terraform program"))
    }

    pub(super) fn workspace(&self) -> Result<&Workspace> {
        self.workspace
            .as_ref()
            .ok_or_else(|| missing("the Terraform workspace"))
    }

    pub(super) fn made_plan(&mut self) -> Result<Plan> {
        self.plan.take().ok_or_else(|| missing("the plan"))
    }

    pub(super) fn repository(&self) -> Result<GitRepository> {
        Ok(GitRepository::new(
            self.environment.argocd_repository_url.as_str(),
            &self.environment.git.revision,
            self.private().join("repository"),
            self.platform()?.git_environment.clone(),
        ))
    }

    /// Sets up the AWS clients.
    pub(super) async fn connect(&mut self) -> Result<Aws> {
        if let Some(aws) = &self.aws {
            return Ok(aws.clone());
        }
        let aws = Aws::connect(&self.platform()?.aws).await;
        self.aws = Some(aws.clone());
        Ok(aws)
    }

    /// Looks for the cluster and sets up its client; says whether it is there and active.
    pub(super) async fn find_cluster(&mut self) -> Result<bool> {
        let aws = self.connect().await?;
        let name = self.environment.names.cluster.clone();
        self.cluster = aws.cluster(&name).await?;
        let Some(cluster) = self
            .cluster
            .as_ref()
            .filter(|c| c.status == "ACTIVE" || c.status == "UPDATING")
        else {
            return Ok(false);
        };
        self.kubernetes = Some(Kubernetes::new(
            &cluster.endpoint,
            &cluster.certificate_authority,
            super::platform::tokens(&aws, &name),
            self.platform()?.aws.patience,
        ));
        Ok(true)
    }
}

/// A step was put before the one it builds on; a fault of the program, told as one.
fn missing(what: &str) -> Error {
    Error::failed(format!("{what} is not known at this point of the operation"))
        .hint("this is a fault of mfsre; please report it")
}
