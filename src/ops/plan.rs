use serde_json::Value;

use super::Context;
use super::backend::FindState;
use super::cloud::CloudWorkspace;
use super::infrastructure::{CheckAccess, PlanStep, Purpose};
use super::render::{CheckBlueprint, FetchManifest, WriteTree};
use super::sandbox::Attach;
use crate::error::Result;
use crate::terraform::Plan;
use crate::workflow::{Journal, Lock, Steps, perform};

/// A plan that was made to be looked at.
#[derive(Debug)]
pub struct PlanSummary {
    /// The plan.
    pub plan: Plan,
    /// The same as Terraform's JSON (<https://developer.hashicorp.com/terraform/internals/json-format>).
    pub json: Value,
    /// Keeps others from making another one in its place.
    _lock: Lock,
}

/// Plans an environment without applying; only files of the project are written. `saved` is whether the plan may be applied
/// later.
///
/// # Errors
/// The first step that fails.
pub async fn plan(context: &mut Context, saved: bool) -> Result<PlanSummary> {
    let private = context.private();
    let lock = Lock::acquire(&private, "plan", context.environment.name.as_str())?;
    let (mut journal, _) = Journal::open(&private, "plan")?;
    let purpose = Purpose::Plan;
    let mut steps: Steps<Context> = vec![Box::new(Attach), Box::new(CheckAccess { purpose })];
    if context.environment.backend.is_cloud() {
        steps.push(Box::new(CloudWorkspace));
    }
    steps.push(Box::new(FetchManifest));
    steps.push(Box::new(WriteTree));
    steps.push(Box::new(CheckBlueprint));
    steps.push(Box::new(FindState));
    steps.push(Box::new(PlanStep {
        purpose,
        speculative: !saved,
    }));
    let reporter = context.reporter.clone();
    let cancellation = context.cancellation.clone();
    perform(&steps, context, &mut journal, reporter.as_ref(), &cancellation).await?;
    let plan = context.made_plan()?;
    let json = context.workspace()?.show(&plan.path, &cancellation).await?;
    Ok(PlanSummary {
        plan,
        json,
        _lock: lock,
    })
}
