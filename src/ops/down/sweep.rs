//! What no state knows of: removed before Terraform's resources go, while they go, and after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::aws::{Attempt, Inventory, Leftover, Resource, Scope};
use crate::error::Result;
use crate::ops::Context;
use crate::text::counted;
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture};

/// Pause between two rounds; AWS takes seconds to minutes to let go of a network interface.
const PAUSE: Duration = Duration::from_secs(2);
/// How long orphans are waited for before Terraform begins. A load balancer's interfaces are gone by then; for what takes
/// longer, rounds go on while Terraform is at work.
const BEFORE: Duration = Duration::from_secs(180);
/// Pause between two rounds while Terraform is at work.
const ALONGSIDE: Duration = Duration::from_secs(10);

/// What the sweeps have met.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// Removed by a sweep.
    pub(crate) removed: BTreeSet<Leftover>,
    /// The environment's, and there still.
    pub(super) left: Vec<Leftover>,
    /// Kept because the user said so.
    pub(super) kept: Vec<Leftover>,
    /// Perhaps the environment's.
    pub(super) doubtful: Vec<Leftover>,
    /// What could not be looked at in the cluster.
    pub(super) unseen: Vec<String>,
    /// What AWS was not allowed to be asked for.
    pub(super) unasked: Vec<String>,
    /// Keys and secrets that AWS deletes by itself.
    pub(super) scheduled: Vec<String>,
}

/// Removes what controllers in the cluster have made and have not removed: it would block the removal of the network, and
/// Terraform would wait for it until it gives up.
pub(super) struct RemoveOrphans;

impl Step<Context> for RemoveOrphans {
    fn id(&self) -> &'static str {
        "orphans"
    }

    fn describe(&self) -> String {
        "remove what keeps the network".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let inventory = look(context, progress).await?;
            for blocker in inventory.blockers() {
                progress.warn(format!(
                    "{} {} will keep the network from being removed, and is left alone: {}{}",
                    blocker.kind,
                    blocker.id,
                    blocker.why,
                    blocker
                        .command
                        .map_or_else(String::new, |command| format!("; if it can go: {command}"))
                ));
            }
            Ok(match inventory.doomed(Scope::InTheWay).len() {
                0 => Probe::Stands("nothing".into()),
                _ => Probe::Needed,
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            // Controllers in a cluster that cannot be reached may make it again until their nodes are gone.
            let limit = if context.kubernetes.is_none() && context.cluster.is_some() {
                Duration::ZERO
            } else {
                context.options.timeout.min(BEFORE)
            };
            let swept = sweep(context, Scope::InTheWay, limit, progress).await?;
            let mut detail = summary(&swept.removed);
            if !swept.waiting.is_empty() {
                let waiting: Vec<&str> = swept.waiting.keys().map(String::as_str).collect();
                detail.push_str(&format!(", {} to be tried again meanwhile", waiting.join(", ")));
            }
            let changed = !swept.removed.is_empty();
            context.remains.removed.extend(swept.removed);
            Ok(if changed {
                Ran::Changed(detail)
            } else {
                Ran::Unchanged(detail)
            })
        })
    }
}

/// Removes everything that is provably the environment's, and lists the rest.
pub(super) struct Sweep;

impl Step<Context> for Sweep {
    fn id(&self) -> &'static str {
        "sweep"
    }

    fn describe(&self) -> String {
        "look for what is left".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let inventory = look(context, progress).await?;
            if !inventory.doomed(Scope::Everything).is_empty() {
                return Ok(Probe::Needed);
            }
            record(context, &inventory, &BTreeMap::new());
            Ok(Probe::Stands(left(context)))
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let swept = sweep(context, Scope::Everything, context.options.timeout, progress).await?;
            let detail = summary(&swept.removed);
            let changed = !swept.removed.is_empty();
            context.remains.removed.extend(swept.removed);
            record(context, &swept.last, &swept.waiting);
            let detail = format!("{detail}; left: {}", left(context));
            Ok(if changed {
                Ran::Changed(detail)
            } else {
                Ran::Unchanged(detail)
            })
        })
    }
}

/// Keeps removing what is in Terraform's way, for as long as this is polled: interfaces that nodes leave behind when they
/// end, and what controllers make anew as long as they can. What it removes goes into `removed`.
pub(crate) async fn alongside(
    context: &Context,
    removed: &Mutex<BTreeSet<Leftover>>,
    progress: Progress<'_>,
) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(ALONGSIDE).await;
        // What cannot be asked or removed now is met again by the next round, and by the sweep at the end.
        let Ok(inventory) = inventory(context).await else {
            continue;
        };
        let Ok(aws) = context.aws() else {
            continue;
        };
        for resource in inventory.doomed(Scope::InTheWay) {
            if aws.remove(resource, &inventory).await == Attempt::Removed {
                progress.note(format!("{resource} was removed, which kept the network"));
                let mut removed = removed.lock().unwrap_or_else(PoisonError::into_inner);
                removed.insert(gone(resource));
            }
        }
    }
}

async fn inventory(context: &Context) -> Result<Inventory> {
    let network = context.cluster.as_ref().and_then(|cluster| cluster.network.as_deref());
    let names = &context.environment.names;
    let mut inventory = context.aws()?.inventory(&names.cluster, network).await?;
    inventory.managed.clone_from(&context.state_ids);
    Ok(inventory)
}

async fn look(context: &Context, progress: Progress<'_>) -> Result<Inventory> {
    progress.say("asking AWS");
    inventory(context).await
}

/// What a sweep came to.
struct Swept {
    removed: BTreeSet<Leftover>,
    /// What is there still, with the reason, by kind and id.
    waiting: BTreeMap<String, String>,
    last: Inventory,
}

/// Removes what is to be removed, round by round, until nothing is left, nothing can be removed or the time is up: what
/// holds something goes in one round, and what it held in a later one.
async fn sweep(context: &Context, scope: Scope, limit: Duration, progress: Progress<'_>) -> Result<Swept> {
    let aws = context.aws()?;
    let end = Instant::now() + limit;
    let mut met: BTreeMap<String, Leftover> = BTreeMap::new();
    loop {
        let inventory = look(context, progress).await?;
        let doomed = inventory.doomed(scope);
        let mut waiting = BTreeMap::new();
        let mut can_go = false;
        for (done, resource) in doomed.iter().enumerate() {
            progress.count(done as u64, doomed.len() as u64, resource.to_string());
            met.insert(resource.to_string(), gone(resource));
            match aws.remove(resource, &inventory).await {
                Attempt::Removed => can_go = true,
                Attempt::Waits(why) => {
                    can_go = true;
                    waiting.insert(resource.to_string(), why);
                }
                Attempt::Refused(why) => {
                    waiting.insert(resource.to_string(), why);
                }
            }
        }
        if !can_go || Instant::now() >= end {
            // Where everything is gone or refused, this round has looked at how it stands.
            let last = if can_go {
                look(context, progress).await?
            } else {
                inventory
            };
            let there: BTreeSet<String> = last.doomed(scope).iter().map(ToString::to_string).collect();
            waiting.retain(|id, _| there.contains(id));
            let removed = met.into_iter().filter(|(id, _)| !there.contains(id));
            return Ok(Swept {
                removed: removed.map(|(_, leftover)| leftover).collect(),
                waiting,
                last,
            });
        }
        let names: Vec<&str> = waiting.keys().map(String::as_str).collect();
        if !names.is_empty() {
            progress.say(format!("waiting for {}", names.join(" · ")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn gone(resource: &Resource) -> Leftover {
    Leftover {
        kind: resource.kind.name(),
        id: resource.id.clone(),
        why: String::new(),
        command: None,
    }
}

/// Writes down how everything stands in the end.
fn record(context: &mut Context, inventory: &Inventory, waiting: &BTreeMap<String, String>) {
    let region = context.environment.region.to_string();
    let why = |resource: &&Resource| {
        let why = waiting.get(&resource.to_string()).cloned();
        resource.left(&region, why.unwrap_or_else(|| "no Terraform state has it".into()))
    };
    let remains = &mut context.remains;
    remains.left = inventory.ours().iter().map(why).collect();
    remains.kept = inventory.kept();
    remains.doubtful = inventory.doubtful();
    remains.unasked.clone_from(&inventory.unseen);
    let keys = inventory.scheduled.iter();
    remains
        .scheduled
        .extend(keys.map(|(arn, date)| format!("{arn} is deleted on {}", date.strftime("%Y-%m-%d"))));
}

fn left(context: &Context) -> String {
    match context.remains.left.len() {
        0 => "nothing".into(),
        n => counted(n, "thing"),
    }
}

/// How many of each kind.
fn summary(removed: &BTreeSet<Leftover>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for leftover in removed {
        *counts.entry(leftover.kind).or_default() += 1;
    }
    let told: Vec<String> = counts
        .iter()
        .map(|(kind, n)| format!("{n} {kind}{}", if *n == 1 { "" } else { "s" }))
        .collect();
    match told.as_slice() {
        [] => "nothing removed".into(),
        _ => format!("removed {}", told.join(", ")),
    }
}
