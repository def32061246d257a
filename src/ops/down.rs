mod cluster;
mod credentials;
mod hanging;
mod sweep;

use serde::Serialize;

use self::cluster::{FindCluster, RemoveAddons, RemoveArgoCd, RemoveCloudObjects, RemoveWorkloads, StopSelfHealing};
use self::credentials::{RemoveCredentials, RevokeDeployKey};
pub(super) use self::sweep::{Remains, alongside};
use self::sweep::{RemoveOrphans, Sweep};
use super::Context;
use super::backend::FindState;
use super::cloud::CloudWorkspace;
use super::infrastructure::{ApplyStep, CheckAccess, PlanStep, Purpose};
use super::lease::TakeLock;
use super::render::{FetchManifest, WriteTree};
use super::sandbox::{Attach, sandbox_dir};
use crate::aws::Leftover;
use crate::error::{Error, ErrorKind, Result, remove_file};
use crate::workflow::{Event, Journal, Lock, Probe, Progress, Step, StepFuture, Steps, perform};

/// What `down` left behind.
#[derive(Debug, Default, Serialize)]
pub struct DownSummary {
    /// How many steps changed something.
    pub changed: usize,
    /// What no state knew of, and was removed.
    pub removed: Vec<Leftover>,
    /// What is still on AWS and should not be, in the order in which it can be removed.
    pub aws: Vec<Leftover>,
    /// What is kept on AWS because the user said so.
    pub kept: Vec<Leftover>,
    /// What is on AWS and may be the environment's, or not.
    pub doubtful: Vec<Leftover>,
    /// What could not be looked at.
    pub unseen: Vec<String>,
    /// What is still in the cluster, as far as one is left to look into.
    pub cluster: Vec<String>,
    /// What AWS keeps for a while and then removes by itself.
    pub scheduled: Vec<String>,
    /// Whether the local platform was stopped as well.
    pub sandbox_stopped: bool,
    /// Whether there was anything at all.
    pub was_there: bool,
    /// Whether nothing is left that should not be, as far as everything could be looked for.
    #[serde(skip)]
    pub clean: bool,
}

/// Takes an environment away.
///
/// # Errors
/// The first step that fails; run again, it continues.
pub async fn down(context: &mut Context, agreed: bool) -> Result<DownSummary> {
    let name = context.environment.name.to_string();
    let sandbox = context.environment.is_sandbox();
    let agreed = agreed || sandbox;
    if !agreed {
        // Not only when it comes to the question: files would be written by then.
        context.confirm.possible(&format!("remove everything of {name}?"))?;
    }
    let private = context.private();
    let _lock = Lock::acquire(&private, "down", &name)?;
    let (mut journal, unfinished) = Journal::open(&private, "down")?;
    if let Some(u) = unfinished {
        context.reporter.report(Event::Note {
            message: format!(
                "the last `{}` was cut off in the step {}; continuing",
                u.command, u.step
            ),
        });
    }
    if sandbox {
        // Its emulator keeps everything in memory: no sandbox, nothing left.
        let dir = sandbox_dir(&context.project, &context.environment);
        if mfsre_sandbox::status(&dir).await?.is_none() {
            let stopped = mfsre_sandbox::stop(&dir).await?;
            super::sandbox::forget_state(&context.project, &context.environment)?;
            forget_private_files(context)?;
            return Ok(DownSummary {
                changed: stopped.killed.len(),
                was_there: !stopped.killed.is_empty(),
                clean: true,
                ..DownSummary::default()
            });
        }
        context.options.purge = true;
    }
    let mut steps: Steps<Context> = vec![
        Box::new(Attach),
        Box::new(CheckAccess { purpose: Purpose::Down }),
        Box::new(TakeLock { command: "down" }),
    ];
    if context.environment.backend.is_cloud() {
        steps.push(Box::new(CloudWorkspace));
    }
    let rest: Steps<Context> = vec![
        Box::new(FetchManifest),
        Box::new(WriteTree),
        Box::new(FindState),
        Box::new(Agree { agreed }),
        Box::new(FindCluster),
        Box::new(StopSelfHealing),
        Box::new(RemoveWorkloads),
        Box::new(RemoveCloudObjects),
        Box::new(RemoveAddons),
        Box::new(RemoveArgoCd),
        Box::new(PlanStep {
            purpose: Purpose::Down,
            speculative: false,
        }),
        Box::new(RemoveOrphans),
        Box::new(ApplyStep {
            destroy: true,
            agreed: true,
        }),
        Box::new(Sweep),
        Box::new(RevokeDeployKey),
        Box::new(RemoveCredentials),
    ];
    steps.extend(rest);
    let reporter = context.reporter.clone();
    let cancellation = context.cancellation.clone();
    let changed = perform(&steps, context, &mut journal, reporter.as_ref(), &cancellation).await;
    let gone = changed.is_ok();
    let changed = context.release(changed, gone).await?;
    // What was in a cluster that is gone is gone; the sandbox's control plane outlives its cluster.
    let cluster = if sandbox {
        std::mem::take(&mut context.kept)
    } else {
        Vec::new()
    };
    let started_by_up = context
        .sandbox
        .as_ref()
        .is_some_and(|s| s.started_by == mfsre_sandbox::StartedBy::Up);
    let remains = std::mem::take(&mut context.remains);
    let clean = remains.left.is_empty() && remains.unasked.is_empty();
    if started_by_up && clean {
        mfsre_sandbox::stop(&sandbox_dir(&context.project, &context.environment)).await?;
        super::sandbox::forget_state(&context.project, &context.environment)?;
    }
    if clean {
        forget_private_files(context)?;
    }
    Ok(DownSummary {
        changed,
        removed: remains.removed.into_iter().collect(),
        aws: remains.left,
        kept: remains.kept,
        doubtful: remains.doubtful,
        unseen: remains.unseen.into_iter().chain(remains.unasked).collect(),
        cluster,
        scheduled: remains.scheduled,
        sandbox_stopped: started_by_up && clean,
        was_there: changed > 0,
        clean,
    })
}

/// Removes the private files that are of no use without the environment.
fn forget_private_files(context: &Context) -> Result<()> {
    for name in [
        "kubeconfig",
        "apply.tfplan",
        "destroy.tfplan",
        "known_hosts",
        "terraform.runs",
    ] {
        remove_file(&context.private().join(name))?;
    }
    Ok(())
}

/// Asks before anything is removed.
struct Agree {
    agreed: bool,
}

impl Step<Context> for Agree {
    fn id(&self) -> &'static str {
        "agree"
    }

    fn describe(&self) -> String {
        "ask".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let account = context.aws()?.identity().await?.account;
            let question = format!(
                "remove everything of {} in account {account}, region {}, with every load balancer and volume in its cluster?",
                context.environment.name, context.environment.region
            );
            if !self.agreed && !context.confirm.confirm(&question).await? {
                return Err(Error::new(ErrorKind::Interrupted, "nothing was removed"));
            }
            Ok(Probe::Stands(format!("account {account}")))
        })
    }
}
