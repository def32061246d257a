use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::bootstrap::{self, NAMESPACE};
use super::infrastructure::{ApplyStep, CheckAccess, PlanStep, Purpose};
use super::render::{FetchManifest, WriteTree};
use super::sandbox::{Attach, sandbox_dir};
use super::{Context, applications};
use crate::aws::{Leftover, Removal};
use crate::error::{Error, ErrorKind, Result, remove_file};
use crate::kubernetes::{Kubernetes, ObjectId};
use crate::model::Transport;
use crate::workflow::{Event, Journal, Lock, Outcome, Probe, Progress, Ran, Step, StepFuture, Steps, perform};

/// What `down` left behind.
#[derive(Debug, Serialize)]
pub struct DownSummary {
    /// How many steps changed something.
    pub changed: usize,
    /// What is still on AWS and should not be.
    pub aws: Vec<Leftover>,
    /// What is still in the cluster, as far as one is left to look into.
    pub cluster: Vec<String>,
    /// What AWS keeps for a while and then removes by itself.
    pub scheduled: Vec<String>,
    /// Whether the local platform was stopped as well.
    pub sandbox_stopped: bool,
    /// Whether there was anything at all.
    pub was_there: bool,
}

/// Takes an environment away.
///
/// # Errors
/// The first step that fails; run again, it continues.
pub async fn down(context: &mut Context, agreed: bool) -> Result<DownSummary> {
    let name = context.environment.name.to_string();
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
    let sandbox = context.environment.is_sandbox();
    if sandbox {
        // Its emulator keeps everything in memory: no sandbox, nothing left.
        let dir = sandbox_dir(&context.project, &context.environment);
        if mfsre_sandbox::status(&dir).await?.is_none() {
            let stopped = mfsre_sandbox::stop(&dir).await?;
            super::sandbox::forget_state(&context.project, &context.environment)?;
            forget_private_files(context)?;
            return Ok(DownSummary {
                changed: stopped.killed.len(),
                aws: Vec::new(),
                cluster: Vec::new(),
                scheduled: Vec::new(),
                sandbox_stopped: false,
                was_there: !stopped.killed.is_empty(),
            });
        }
        context.options.purge = true;
    }
    let steps: Steps<Context> = vec![
        Box::new(Attach),
        Box::new(CheckAccess { purpose: Purpose::Down }),
        Box::new(FetchManifest),
        Box::new(WriteTree),
        Box::new(Agree {
            agreed: agreed || sandbox,
        }),
        Box::new(FindCluster),
        Box::new(RemoveWorkloads),
        Box::new(RemoveCloudObjects),
        Box::new(RemoveAddons),
        Box::new(RemoveArgoCd),
        Box::new(PlanStep { destroy: true }),
        Box::new(ApplyStep {
            destroy: true,
            agreed: true,
        }),
        Box::new(RevokeDeployKey),
        Box::new(RemoveCredentials),
    ];
    let reporter = context.reporter.clone();
    let cancellation = context.cancellation.clone();
    let changed = perform(&steps, context, &mut journal, reporter.as_ref(), &cancellation).await?;
    let progress = Progress::new(reporter.as_ref(), "sweep");
    reporter.report(Event::StepStarted {
        step: "sweep",
        describe: "look for what is left".into(),
    });
    let started = std::time::Instant::now();
    progress.say("asking AWS");
    let (aws, keys) = context.aws()?.leftovers(&context.environment.names).await?;
    context.scheduled.extend(
        keys.into_iter()
            .map(|(arn, date)| format!("{arn} is deleted on {}", date.strftime("%Y-%m-%d"))),
    );
    // What was in a cluster that is gone is gone; the sandbox's control plane outlives its cluster.
    let cluster = if sandbox {
        std::mem::take(&mut context.kept)
    } else {
        Vec::new()
    };
    let detail = match aws.len() + cluster.len() {
        0 => "nothing".to_owned(),
        n => format!("{n} things"),
    };
    reporter.report(Event::StepFinished {
        step: "sweep",
        outcome: Outcome::Unchanged,
        detail,
        elapsed: started.elapsed(),
    });
    let started_by_up = context
        .sandbox
        .as_ref()
        .is_some_and(|s| s.started_by == mfsre_sandbox::StartedBy::Up);
    let clean = aws.is_empty();
    if started_by_up && clean {
        mfsre_sandbox::stop(&sandbox_dir(&context.project, &context.environment)).await?;
        super::sandbox::forget_state(&context.project, &context.environment)?;
    }
    if clean {
        forget_private_files(context)?;
    }
    Ok(DownSummary {
        changed,
        aws,
        cluster,
        scheduled: std::mem::take(&mut context.scheduled),
        sandbox_stopped: started_by_up && clean,
        was_there: changed > 0,
    })
}

/// Removes the private files that are of no use without the environment.
fn forget_private_files(context: &Context) -> Result<()> {
    for name in ["kubeconfig", "apply.tfplan", "destroy.tfplan", "known_hosts"] {
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
            if !self.agreed && !context.confirm.confirm(&question)? {
                return Err(Error::new(ErrorKind::Interrupted, "nothing was removed"));
            }
            Ok(Probe::Stands(format!("account {account}")))
        })
    }
}

/// Finds the cluster, without which the next stages have nothing to do.
struct FindCluster;

impl Step<Context> for FindCluster {
    fn id(&self) -> &'static str {
        "cluster"
    }

    fn describe(&self) -> String {
        "reach the cluster".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            if !context.find_cluster().await? {
                return Ok(Probe::Impossible("there is no cluster".into()));
            }
            match context.kubernetes()?.version().await {
                Ok(version) => Ok(Probe::Stands(version)),
                Err(error) => {
                    context.kubernetes = None;
                    Ok(Probe::Impossible(format!(
                        "the cluster cannot be reached: {error}; what it created on AWS is looked for at the end"
                    )))
                }
            }
        })
    }
}

async fn application_exists(context: &Context, names: &[&str]) -> Result<Option<bool>> {
    let Some(kubernetes) = &context.kubernetes else {
        return Ok(None);
    };
    let applications = kubernetes.applications().await?;
    Ok(Some(applications.iter().any(|a| names.contains(&a.name.as_str()))))
}

const WORKLOADS: [&str; 2] = ["workloads", "infra-workloads"];
const ADDONS: [&str; 1] = ["addons"];

/// Removes the workloads while Argo CD, Karpenter and the other addons are still at work.
struct RemoveWorkloads;

impl Step<Context> for RemoveWorkloads {
    fn id(&self) -> &'static str {
        "workloads"
    }

    fn describe(&self) -> String {
        "remove the workloads".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            Ok(match application_exists(context, &WORKLOADS).await? {
                None => Probe::Impossible("no cluster to look into".into()),
                Some(false) => Probe::Stands("none".into()),
                Some(true) => Probe::Needed,
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            // A root that heals itself would bring the others back.
            let removed = applications::remove(context, &WORKLOADS, progress).await?;
            Ok(Ran::Changed(format!("{removed} Applications")))
        })
    }
}

/// Kinds behind which a controller has made something on AWS.
const CLOUD_KINDS: [(&str, &str); 3] = [
    ("networking.k8s.io/v1", "Ingress"),
    ("v1", "Service"),
    ("v1", "PersistentVolumeClaim"),
];

async fn cloud_objects(kubernetes: &Kubernetes) -> Result<Vec<ObjectId>> {
    let mut found = Vec::new();
    for (api_version, kind) in CLOUD_KINDS {
        for object in kubernetes.list(api_version, kind, None).await? {
            if kind == "Service" && object["spec"]["type"] != "LoadBalancer" {
                continue;
            }
            let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
            found.push(ObjectId::namespaced(
                api_version,
                kind,
                &text("namespace"),
                &text("name"),
            ));
        }
    }
    Ok(found)
}

/// Removes load balancers and volumes through the objects they belong to, and waits until they are gone.
struct RemoveCloudObjects;

impl Step<Context> for RemoveCloudObjects {
    fn id(&self) -> &'static str {
        "cloud-objects"
    }

    fn describe(&self) -> String {
        "remove load balancers and volumes".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let Some(kubernetes) = &context.kubernetes else {
                return Ok(Probe::Impossible("no cluster to look into".into()));
            };
            Ok(if cloud_objects(kubernetes).await?.is_empty() {
                Probe::Stands("none".into())
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let kubernetes = context.kubernetes()?;
            let objects = cloud_objects(kubernetes).await?;
            for id in &objects {
                progress.say(format!("delete {id}"));
                kubernetes.delete(id).await?;
            }
            wait_gone(kubernetes, &objects, context.options.timeout, progress).await?;
            Ok(Ran::Changed(format!("{} objects", objects.len())))
        })
    }
}

async fn wait_gone(
    kubernetes: &Kubernetes,
    objects: &[ObjectId],
    limit: Duration,
    progress: Progress<'_>,
) -> Result<()> {
    let end = std::time::Instant::now() + limit;
    for (done, id) in objects.iter().enumerate() {
        progress.count(done as u64, objects.len() as u64, format!("waiting for {id}"));
        let left = end
            .saturating_duration_since(std::time::Instant::now())
            .max(Duration::from_secs(1));
        bootstrap::gone(kubernetes, id, left).await?;
        if let Some(object) = kubernetes.get(id).await? {
            return Err(Error::failed(format!("{id} is still being deleted"))
                .cause(format!(
                    "it waits for its finalizers {} since {}",
                    object["metadata"]["finalizers"],
                    object["metadata"]["deletionTimestamp"].as_str().unwrap_or("an unknown time")
                ))
                .hint("its controller removes what is behind it on AWS first: look at the controller's log, then run the same command again"));
        }
    }
    Ok(())
}

/// Removes Karpenter's pools and their instances, then the addons.
struct RemoveAddons;

impl Step<Context> for RemoveAddons {
    fn id(&self) -> &'static str {
        "addons"
    }

    fn describe(&self) -> String {
        "remove node pools and addons".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            Ok(match application_exists(context, &ADDONS).await? {
                None => Probe::Impossible("no cluster to look into".into()),
                Some(false) => Probe::Stands("none".into()),
                Some(true) => Probe::Needed,
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let kubernetes = context.kubernetes()?.clone();
            // Self-healing would make the pools again.
            for name in ADDONS.iter().chain(&["karpenter", "karpenter-nodes", "argo-cd"]) {
                let id = Kubernetes::application_id(name);
                if kubernetes.get(&id).await?.is_some() {
                    kubernetes
                        .merge(
                            &id,
                            &serde_json::json!({ "spec": { "syncPolicy": { "automated": null } } }),
                        )
                        .await?;
                }
            }
            let mut pools = Vec::new();
            for kind in ["NodePool", "NodeClaim"] {
                for object in kubernetes.list("karpenter.sh/v1", kind, None).await? {
                    pools.push(ObjectId::cluster(
                        "karpenter.sh/v1",
                        kind,
                        object["metadata"]["name"].as_str().unwrap_or_default(),
                    ));
                }
            }
            for id in pools.iter().filter(|id| id.kind == "NodePool") {
                progress.say(format!("delete {id} and its instances"));
                kubernetes.delete(id).await?;
            }
            wait_gone(&kubernetes, &pools, context.options.timeout, progress).await?;
            // Argo CD cannot remove itself and answer for it: its own Application goes without what it deployed.
            let own = Kubernetes::application_id("argo-cd");
            if kubernetes.get(&own).await?.is_some() {
                kubernetes
                    .merge(&own, &serde_json::json!({ "metadata": { "finalizers": null } }))
                    .await?;
            }
            let removed = applications::remove(context, &ADDONS, progress).await?;
            Ok(Ran::Changed(format!("{removed} Applications")))
        })
    }
}

/// Removes Argo CD, and the namespaces that the platform made.
struct RemoveArgoCd;

impl RemoveArgoCd {
    /// Namespaces that no cluster has by itself.
    async fn namespaces(kubernetes: &Kubernetes) -> Result<Vec<ObjectId>> {
        let list = kubernetes.list("v1", "Namespace", None).await?;
        Ok(list
            .iter()
            .filter_map(|n| n["metadata"]["name"].as_str())
            .filter(|n| !n.starts_with("kube-") && *n != "default")
            .map(|n| ObjectId::cluster("v1", "Namespace", n))
            .collect())
    }

    fn ours(context: &Context, all: Vec<ObjectId>) -> Result<(Vec<ObjectId>, Vec<ObjectId>)> {
        let mut ours = vec![NAMESPACE.to_owned()];
        for object in bootstrap::roots(context)? {
            let destinations = object
                .pointer("/spec/destinations")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            ours.extend(
                destinations
                    .iter()
                    .filter_map(|d| d["namespace"].as_str().map(str::to_owned)),
            );
        }
        Ok(all.into_iter().partition(|id| ours.contains(&id.name)))
    }
}

impl Step<Context> for RemoveArgoCd {
    fn id(&self) -> &'static str {
        "argocd"
    }

    fn describe(&self) -> String {
        "remove Argo CD".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let Some(kubernetes) = context.kubernetes.clone() else {
                return Ok(Probe::Impossible("no cluster to look into".into()));
            };
            let (ours, others) = Self::ours(context, Self::namespaces(&kubernetes).await?)?;
            context.kept = others.iter().map(ToString::to_string).collect();
            let last = bootstrap::objects(context)?.first().map(ObjectId::of).transpose()?;
            let there = match &last {
                Some(id) => kubernetes.get(id).await?.is_some(),
                None => false,
            };
            Ok(if ours.is_empty() && !there {
                Probe::Stands("not installed".into())
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let kubernetes = context.kubernetes()?.clone();
            let objects = bootstrap::objects(context)?;
            let removed = bootstrap::delete_all(&kubernetes, &objects, progress).await?;
            let (ours, _) = Self::ours(context, Self::namespaces(&kubernetes).await?)?;
            for id in &ours {
                kubernetes.delete(id).await?;
            }
            wait_gone(&kubernetes, &ours, context.options.timeout, progress).await?;
            let kinds: Vec<ObjectId> = objects
                .iter()
                .filter(|o| o["kind"] == "CustomResourceDefinition")
                .map(ObjectId::of)
                .collect::<Result<_, _>>()?;
            wait_gone(&kubernetes, &kinds, context.options.timeout, progress).await?;
            kubernetes.forget_kinds().await;
            Ok(Ran::Changed(format!("{removed} objects, {} namespaces", ours.len())))
        })
    }
}

/// Takes the deploy key off the git host.
struct RevokeDeployKey;

impl Step<Context> for RevokeDeployKey {
    fn id(&self) -> &'static str {
        "revoke"
    }

    fn describe(&self) -> String {
        "revoke the deploy key".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            if context.environment.argocd_repository_url.transport() == Transport::Https {
                return Ok(Probe::Impossible(
                    "a repository read over HTTPS has no deploy key".into(),
                ));
            }
            let names = &context.environment.names;
            let key = context
                .aws()?
                .deploy_key(&names.deploy_key, context.environment.name.as_str())
                .await?;
            context.deploy_key = key;
            Ok(if context.deploy_key.is_some() {
                Probe::Needed
            } else {
                Probe::Stands("there is none".into())
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let Some(key) = &context.deploy_key else {
                return Ok(Ran::Unchanged("there is none".into()));
            };
            let host = context.platform()?.git_host(&context.environment);
            progress.say(host.describe());
            Ok(if host.remove(&key.public).await? {
                Ran::Changed(key.fingerprint.clone())
            } else {
                if context.environment.git.host == crate::config::GitHost::Manual {
                    progress.warn(format!(
                        "remove the deploy key {} from {} by hand",
                        key.fingerprint, context.environment.argocd_repository_url
                    ));
                }
                Ran::Unchanged(format!("{} was not registered", key.fingerprint))
            })
        })
    }
}

/// Deletes the password and the deploy key.
struct RemoveCredentials;

impl Step<Context> for RemoveCredentials {
    fn id(&self) -> &'static str {
        "credentials"
    }

    fn describe(&self) -> String {
        "delete password and deploy key".into()
    }

    fn probe<'a>(&'a self, _: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async { Ok(Probe::Needed) })
    }

    fn run<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let names = context.environment.names.clone();
            let aws = context.aws()?.clone();
            // The private part last: as long as it is there, the key can be found and revoked.
            let mut removals = vec![
                (
                    names.argocd_secret.clone(),
                    aws.remove_admin_password(&names.argocd_secret, context.options.purge)
                        .await?,
                ),
                (
                    names.deploy_key_public.clone(),
                    aws.remove_parameter(&names.deploy_key_public).await?,
                ),
            ];
            removals.push((names.deploy_key.clone(), aws.remove_parameter(&names.deploy_key).await?));
            let mut removed = Vec::new();
            let mut scheduled = Vec::new();
            for (name, removal) in removals {
                match removal {
                    Removal::Removed => removed.push(name),
                    Removal::Scheduled(date) => scheduled.push(format!(
                        "{name} is kept until {} (mfsre down --purge does not)",
                        date.strftime("%Y-%m-%d")
                    )),
                    Removal::Absent => {}
                }
            }
            context.scheduled.clone_from(&scheduled);
            Ok(if removed.is_empty() {
                Ran::Unchanged(if scheduled.is_empty() {
                    "there were none".into()
                } else {
                    scheduled.join(", ")
                })
            } else {
                Ran::Changed(removed.join(", "))
            })
        })
    }
}
