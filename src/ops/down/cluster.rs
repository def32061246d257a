//! The stages that work in the cluster: from the workloads to Argo CD itself.

use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::kubernetes::{Kubernetes, ObjectId};
use crate::ops::bootstrap::{self, NAMESPACE};
use crate::ops::{Context, applications};
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture};

/// Finds the cluster, without which the next stages have nothing to do.
pub(super) struct FindCluster;

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
pub(super) struct RemoveWorkloads;

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
pub(super) struct RemoveCloudObjects;

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
pub(super) struct RemoveAddons;

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
pub(super) struct RemoveArgoCd;

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
