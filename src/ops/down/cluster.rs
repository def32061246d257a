//! The stages that work in the cluster: from the workloads to Argo CD itself.

use serde_json::{Value, json};

use super::hanging::wait_gone;
use crate::error::{Error, Result};
use crate::kubernetes::{ApplicationStatus, Kubernetes, ObjectId};
use crate::ops::Context;
use crate::ops::bootstrap::{self, NAMESPACE};
use crate::text::counted;
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
                let Some(cluster) = &context.cluster else {
                    return Ok(Probe::Impossible("there is no cluster".into()));
                };
                return Ok(unseen(context, format!("the cluster is {}", cluster.status)));
            }
            match context.kubernetes()?.version().await {
                Ok(version) => Ok(Probe::Stands(version)),
                Err(error) => {
                    context.kubernetes = None;
                    Ok(unseen(
                        context,
                        format!("the cluster cannot be reached: {}", Error::from(error).in_a_line()),
                    ))
                }
            }
        })
    }
}

/// The stages in the cluster are skipped for this reason.
fn unseen(context: &mut Context, reason: String) -> Probe {
    context.remains.unseen.push(format!(
        "{reason}; its Applications, load balancers, volume claims and node pools were not seen: they go with it, and what its controllers have made on AWS was looked for there"
    ));
    Probe::Impossible(format!("{reason}; what its controllers have made is looked for on AWS"))
}

/// The root of the addons, which the others need to the end.
const ADDONS: &str = "addons";
/// Argo CD's own Application.
const OWN: &str = "argo-cd";

/// The Applications of the addons, or all the others, whoever made them: none can go once Argo CD is gone.
async fn applications(kubernetes: &Kubernetes, of_addons: bool) -> Result<Vec<ApplicationStatus>> {
    let mut applications = kubernetes.applications().await?;
    applications.retain(|a| (a.name == ADDONS || a.name == OWN || a.parent.as_deref() == Some(ADDONS)) == of_addons);
    Ok(applications)
}

/// Sets of Applications, which make theirs again.
async fn application_sets(kubernetes: &Kubernetes) -> Result<Vec<ObjectId>> {
    listed(kubernetes, "argoproj.io/v1alpha1", "ApplicationSet", Some(NAMESPACE)).await
}

/// The objects of a kind, by name.
async fn listed(
    kubernetes: &Kubernetes,
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
) -> Result<Vec<ObjectId>> {
    let objects = kubernetes.list(api_version, kind, namespace).await?;
    Ok(objects
        .iter()
        .filter_map(|object| id_of(api_version, kind, object))
        .collect())
}

fn id_of(api_version: &str, kind: &str, object: &Value) -> Option<ObjectId> {
    let name = object["metadata"]["name"].as_str()?;
    Some(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => ObjectId::namespaced(api_version, kind, namespace, name),
        None => ObjectId::cluster(api_version, kind, name),
    })
}

/// Deletes objects and waits until they are gone.
async fn delete(context: &Context, objects: &[ObjectId], progress: Progress<'_>) -> Result<()> {
    for id in objects {
        progress.say(format!("delete {id}"));
        context.kubernetes()?.delete(id).await?;
    }
    wait_gone(context, objects, progress).await
}

/// Stops Argo CD from making again what is about to be removed.
pub(super) struct StopSelfHealing;

impl StopSelfHealing {
    /// Applications that are synced by themselves, roots first: a root that heals would set the others back.
    async fn healing(kubernetes: &Kubernetes) -> Result<Vec<ObjectId>> {
        let objects = kubernetes
            .list("argoproj.io/v1alpha1", "Application", Some(NAMESPACE))
            .await?;
        let mut healing: Vec<(bool, String)> = objects
            .iter()
            .filter(|a| !a["spec"]["syncPolicy"]["automated"].is_null())
            .map(ApplicationStatus::of)
            .map(|a| (a.parent.is_some(), a.name))
            .collect();
        healing.sort();
        Ok(healing
            .iter()
            .map(|(_, name)| Kubernetes::application_id(name))
            .collect())
    }
}

impl Step<Context> for StopSelfHealing {
    fn id(&self) -> &'static str {
        "self-heal"
    }

    fn describe(&self) -> String {
        "stop self-healing".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let Some(kubernetes) = &context.kubernetes else {
                return Ok(no_cluster());
            };
            let sets = application_sets(kubernetes).await?;
            Ok(if Self::healing(kubernetes).await?.is_empty() && sets.is_empty() {
                Probe::Stands("none".into())
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let kubernetes = context.kubernetes()?;
            // A set would set its Applications back.
            let sets = application_sets(kubernetes).await?;
            delete(context, &sets, progress).await?;
            let healing = Self::healing(kubernetes).await?;
            for id in &healing {
                progress.say(id.to_string());
                let policy = json!({ "spec": { "syncPolicy": { "automated": null } } });
                match kubernetes.merge(id, &policy).await {
                    Err(error) if error.status() == Some(404) => {}
                    result => result?,
                }
            }
            Ok(Ran::Changed(counted(healing.len(), "Application")))
        })
    }
}

fn no_cluster() -> Probe {
    Probe::Impossible("no cluster to look into".into())
}

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
            let Some(kubernetes) = &context.kubernetes else {
                return Ok(no_cluster());
            };
            Ok(if applications(kubernetes, false).await?.is_empty() {
                Probe::Stands("none".into())
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let doomed = applications(context.kubernetes()?, false).await?;
            let doomed: Vec<ObjectId> = doomed.iter().map(|a| Kubernetes::application_id(&a.name)).collect();
            delete(context, &doomed, progress).await?;
            Ok(Ran::Changed(counted(doomed.len(), "Application")))
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
            if kind != "Service" || object["spec"]["type"] == "LoadBalancer" {
                found.extend(id_of(api_version, kind, &object));
            }
        }
    }
    Ok(found)
}

/// A volume, as far as a teardown is concerned.
#[derive(Debug, PartialEq, Eq)]
enum Volume {
    /// It goes with its claim.
    Goes(ObjectId),
    /// It outlives its claim, by its reclaim policy: its id on AWS, and why.
    Stays { id: String, why: String },
}

/// What becomes of a PersistentVolume; nothing that matters where nobody made it on demand and nobody keeps it.
fn volume(object: &Value) -> Option<Volume> {
    let name = object["metadata"]["name"].as_str()?;
    let claim = &object["spec"]["claimRef"];
    let bound = claim["name"].as_str().unwrap_or("no claim");
    match object["spec"]["persistentVolumeReclaimPolicy"].as_str()? {
        "Delete" if object["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"].is_string() => {
            Some(Volume::Goes(ObjectId::cluster("v1", "PersistentVolume", name)))
        }
        "Retain" => {
            let handle = object
                .pointer("/spec/csi/volumeHandle")
                .or_else(|| object.pointer("/spec/awsElasticBlockStore/volumeID"))?
                .as_str()?;
            // The older form is aws://ZONE/ID.
            let id = handle.rsplit('/').next().filter(|id| id.starts_with("vol-"))?;
            Some(Volume::Stays {
                id: id.to_owned(),
                why: format!("PersistentVolume {name} of {bound} has the reclaim policy Retain"),
            })
        }
        _ => None,
    }
}

async fn volumes(kubernetes: &Kubernetes) -> Result<Vec<Volume>> {
    let objects = kubernetes.list("v1", "PersistentVolume", None).await?;
    Ok(objects.iter().filter_map(volume).collect())
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
                return Ok(no_cluster());
            };
            let volumes = volumes(kubernetes).await?;
            Ok(if cloud_objects(kubernetes).await?.is_empty() && volumes.is_empty() {
                Probe::Stands("none".into())
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let kubernetes = context.kubernetes()?.clone();
            let mut going = Vec::new();
            // Before the claims go: afterwards nobody could tell that a volume was to stay.
            for volume in volumes(&kubernetes).await? {
                match volume {
                    Volume::Goes(id) => going.push(id),
                    Volume::Stays { id, why } => {
                        progress.note(format!("volume {id} is kept: {why}"));
                        context.aws()?.keep_volume(&id, &why).await?;
                    }
                }
            }
            let objects = cloud_objects(&kubernetes).await?;
            delete(context, &objects, progress).await?;
            // A claim is gone before its volume is.
            wait_gone(context, &going, progress).await?;
            let detail = format!(
                "{}, {}",
                counted(objects.len(), "object"),
                counted(going.len(), "volume")
            );
            Ok(if objects.is_empty() && going.is_empty() {
                Ran::Unchanged(detail)
            } else {
                Ran::Changed(detail)
            })
        })
    }
}

/// Removes Karpenter's pools and their instances, then the addons.
pub(super) struct RemoveAddons;

/// What Karpenter has to remove itself, one after the other: instances with their pools, then what they were made from.
const KARPENTER: [&[(&str, &str)]; 2] = [
    &[("karpenter.sh/v1", "NodePool"), ("karpenter.sh/v1", "NodeClaim")],
    &[("karpenter.k8s.aws/v1", "EC2NodeClass")],
];

async fn karpenter_objects(kubernetes: &Kubernetes, kinds: &[(&str, &str)]) -> Result<Vec<ObjectId>> {
    let mut found = Vec::new();
    for (api_version, kind) in kinds {
        found.extend(listed(kubernetes, api_version, kind, None).await?);
    }
    Ok(found)
}

impl Step<Context> for RemoveAddons {
    fn id(&self) -> &'static str {
        "addons"
    }

    fn describe(&self) -> String {
        "remove node pools and addons".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let Some(kubernetes) = &context.kubernetes else {
                return Ok(no_cluster());
            };
            let nodes = karpenter_objects(kubernetes, &KARPENTER.concat()).await?;
            Ok(
                if applications(kubernetes, true).await?.is_empty() && nodes.is_empty() {
                    Probe::Stands("none".into())
                } else {
                    Probe::Needed
                },
            )
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let kubernetes = context.kubernetes()?.clone();
            for kinds in KARPENTER {
                let objects = karpenter_objects(&kubernetes, kinds).await?;
                delete(context, &objects, progress).await?;
            }
            // Argo CD cannot remove itself and answer for it: its own Application goes without what it deployed.
            let own = Kubernetes::application_id(OWN);
            if kubernetes.get(&own).await?.is_some() {
                kubernetes
                    .merge(&own, &json!({ "metadata": { "finalizers": null } }))
                    .await?;
            }
            let doomed = applications(&kubernetes, true).await?;
            let doomed: Vec<ObjectId> = doomed.iter().map(|a| Kubernetes::application_id(&a.name)).collect();
            delete(context, &doomed, progress).await?;
            Ok(Ran::Changed(counted(doomed.len(), "Application")))
        })
    }
}

/// Removes Argo CD, and the namespaces that the platform made.
pub(super) struct RemoveArgoCd;

impl RemoveArgoCd {
    /// Namespaces that no cluster has by itself.
    async fn namespaces(kubernetes: &Kubernetes) -> Result<Vec<ObjectId>> {
        let mut namespaces = listed(kubernetes, "v1", "Namespace", None).await?;
        namespaces.retain(|id| !id.name.starts_with("kube-") && id.name != "default");
        Ok(namespaces)
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
                return Ok(no_cluster());
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
            delete(context, &ours, progress).await?;
            let kinds: Vec<ObjectId> = objects
                .iter()
                .filter(|o| o["kind"] == "CustomResourceDefinition")
                .map(ObjectId::of)
                .collect::<Result<_, _>>()?;
            wait_gone(context, &kinds, progress).await?;
            kubernetes.forget_kinds().await;
            Ok(Ran::Changed(format!(
                "{}, {}",
                counted(removed, "object"),
                counted(ours.len(), "namespace")
            )))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_goes_with_its_claim_unless_its_policy_keeps_it() {
        let object = |policy: &str, source: Value| {
            let mut spec = json!({ "persistentVolumeReclaimPolicy": policy, "claimRef": { "name": "data" } });
            spec.as_object_mut()
                .unwrap()
                .extend(source.as_object().unwrap().clone());
            let annotations = json!({ "pv.kubernetes.io/provisioned-by": "ebs.csi.aws.com" });
            json!({ "metadata": { "name": "pv-1", "annotations": annotations }, "spec": spec })
        };
        let ebs = json!({ "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": "vol-1" } });
        let goes = Volume::Goes(ObjectId::cluster("v1", "PersistentVolume", "pv-1"));
        assert_eq!(volume(&object("Delete", ebs.clone())), Some(goes));
        let stays = Volume::Stays {
            id: "vol-1".into(),
            why: "PersistentVolume pv-1 of data has the reclaim policy Retain".into(),
        };
        assert_eq!(volume(&object("Retain", ebs)).as_ref(), Some(&stays));
        let older = json!({ "awsElasticBlockStore": { "volumeID": "aws://eu-west-1a/vol-1" } });
        assert_eq!(volume(&object("Retain", older)), Some(stays));
        let elsewhere = json!({ "csi": { "driver": "efs.csi.aws.com", "volumeHandle": "fs-1" } });
        assert_eq!(volume(&object("Retain", elsewhere)), None, "no volume of EBS");
        let mut by_hand = object("Delete", json!({}));
        by_hand["metadata"]["annotations"] = Value::Null;
        assert_eq!(volume(&by_hand), None, "nobody deletes it");
    }
}
