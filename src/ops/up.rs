use std::path::PathBuf;

use serde::Serialize;

use super::adapter::AdapterCertificate;
use super::applications::WaitHealthy;
use super::backend::FindState;
use super::bootstrap::{ApplyRoots, ClusterSecrets, InstallArgoCd, ReachCluster};
use super::cloud::CloudWorkspace;
use super::credentials::{DeployKeyStep, Password};
use super::infrastructure::{ApplyStep, CheckAccess, PlanStep, Purpose};
use super::lease::TakeLock;
use super::publish::Publish;
use super::pull_secret::ReadPullToken;
use super::render::{CheckBlueprint, FetchManifest, WriteTree};
use super::sandbox::{Attach, StartSandbox};
use super::{Context, status};
use crate::argocd::ArgoCd;
use crate::error::{Result, remove_file};
use crate::kubernetes::{ApplicationStatus, merge_kubeconfig};
use crate::workflow::{Event, Journal, Lock, Steps, perform};

/// What `up` left behind.
#[derive(Debug, Serialize)]
pub struct UpSummary {
    /// How many steps changed something.
    pub changed: usize,
    /// AWS resources that this run created.
    pub created: u64,
    /// The cluster's address.
    pub endpoint: String,
    /// Argo CD's address, where it has one of its own.
    pub argocd_url: Option<String>,
    /// Whether web pages are at that address; false where only the API is.
    pub argocd_pages: bool,
    /// A kubeconfig for this cluster alone.
    pub kubeconfig: PathBuf,
    /// Applications.
    pub applications: Vec<ApplicationStatus>,
    /// Addons that the environment does not have because their charts lie on the internet.
    pub left_out: Vec<String>,
    /// The secret with Argo CD's admin password.
    pub argocd_secret: String,
    /// Address of the AWS emulator.
    pub aws_endpoint_url: Option<String>,
    /// What an earlier run that was cut off had left unfinished.
    pub continued: Option<String>,
}

/// Brings an environment up, or finds that it is.
///
/// # Errors
/// The first step that fails; run again, it continues.
pub async fn up(context: &mut Context, agreed: bool) -> Result<UpSummary> {
    let name = context.environment.name.to_string();
    let sandbox = context.environment.is_sandbox();
    let agreed = agreed || sandbox;
    if !agreed {
        // Not only when it comes to the question: files would be written and pushed by then.
        context.confirm.possible("apply the plan?")?;
    }
    let private = context.private();
    let _lock = Lock::acquire(&private, "up", &name)?;
    let (mut journal, unfinished) = Journal::open(&private, "up")?;
    let continued = unfinished.map(|u| format!("the last `{}` was cut off in the step {}", u.command, u.step));
    if let Some(message) = &continued {
        context.reporter.report(Event::Note {
            message: format!("{message}; continuing"),
        });
    }
    let mut steps: Steps<Context> = Vec::new();
    if sandbox {
        steps.push(Box::new(StartSandbox));
    } else {
        steps.push(Box::new(Attach));
    }
    steps.push(Box::new(CheckAccess { purpose: Purpose::Up }));
    steps.push(Box::new(TakeLock { command: "up" }));
    if context.environment.backend.is_cloud() {
        steps.push(Box::new(CloudWorkspace));
    }
    steps.push(Box::new(FetchManifest));
    steps.push(Box::new(WriteTree));
    steps.push(Box::new(CheckBlueprint));
    // Before anything is created: whoever has to push first shall not wait for a cluster to learn it.
    steps.push(Box::new(Publish));
    steps.push(Box::new(FindState));
    if context.environment.images.pull_secret.is_some() {
        steps.push(Box::new(ReadPullToken));
    }
    steps.push(Box::new(PlanStep {
        purpose: Purpose::Up,
        speculative: false,
    }));
    steps.push(Box::new(ApplyStep { destroy: false, agreed }));
    steps.push(Box::new(Password));
    steps.push(Box::new(DeployKeyStep));
    steps.push(Box::new(ReachCluster));
    steps.push(Box::new(ClusterSecrets));
    steps.push(Box::new(InstallArgoCd));
    steps.push(Box::new(AdapterCertificate));
    steps.push(Box::new(ApplyRoots));
    steps.push(Box::new(WaitHealthy));
    let reporter = context.reporter.clone();
    let cancellation = context.cancellation.clone();
    let changed = perform(&steps, context, &mut journal, reporter.as_ref(), &cancellation).await;
    let changed = context.release(changed, false).await?;
    let kubeconfig = write_kubeconfig(context)?;
    let argocd_pages = match &context.sandbox {
        // Only what was seen is told.
        Some(sandbox) => !matches!(ArgoCd::at(&sandbox.argocd_url)?.has_pages().await, Ok(false)),
        // The image of a release has them.
        None => true,
    };
    Ok(UpSummary {
        changed,
        created: context.created,
        endpoint: context.kubernetes()?.endpoint().to_owned(),
        argocd_url: context
            .sandbox
            .as_ref()
            .map(|s| s.argocd_url.as_str().trim_end_matches('/').to_owned()),
        argocd_pages,
        kubeconfig,
        applications: context.applications.clone(),
        left_out: crate::render::left_out(&context.environment),
        argocd_secret: context.environment.names.argocd_secret.clone(),
        aws_endpoint_url: context
            .sandbox
            .as_ref()
            .map(|s| s.aws_endpoint_url.as_str().trim_end_matches('/').to_owned()),
        continued,
    })
}

/// A kubeconfig among the private files, so that the summary can name one that is sure to work.
fn write_kubeconfig(context: &Context) -> Result<PathBuf> {
    let path = context.private().join("kubeconfig");
    let entry = status::kubeconfig_entry(context)?;
    // Its own file: whatever an earlier cluster left is replaced.
    remove_file(&path)?;
    merge_kubeconfig(&path, &entry)?;
    Ok(path)
}
