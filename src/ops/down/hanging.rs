//! Objects that are being deleted: waited for, told where they hang, and let go where the user insists.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::kubernetes::{ApplicationStatus, Kubernetes, ObjectId};
use crate::model::human_duration;
use crate::ops::Context;
use crate::workflow::Progress;

/// How often the objects are looked at.
const POLL: Duration = Duration::from_millis(500);
/// How long something may take to go once nothing holds it any more.
const GRACE: Duration = Duration::from_secs(60);

/// An object that is not gone yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hanging {
    id: ObjectId,
    /// Since when it is being deleted.
    age: Option<Duration>,
    finalizers: Vec<String>,
    /// What it waits for, as far as that can be told.
    waits_for: Vec<String>,
    /// What cannot go before it.
    held_up: Vec<String>,
}

/// Waits until the objects are gone. With `--force`, one that has been deleted for longer than the time that a stage may
/// take loses its finalizers, with a warning.
pub(super) async fn wait_gone(context: &Context, objects: &[ObjectId], progress: Progress<'_>) -> Result<()> {
    let kubernetes = context.kubernetes()?;
    let limit = context.options.timeout;
    let began = Instant::now();
    let patience = if context.options.force { limit + GRACE } else { limit };
    let mut waiting: Vec<ObjectId> = objects.to_vec();
    loop {
        let mut left = Vec::new();
        for id in &waiting {
            if let Some(object) = kubernetes.get(id).await? {
                left.push((id.clone(), object));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        waiting = left.iter().map(|(id, _)| id.clone()).collect();
        let now = kubernetes.clock().await?;
        let names: Vec<String> = left.iter().map(|(id, object)| briefly(id, object, now)).collect();
        let done = objects.len() - left.len();
        progress.count(done as u64, objects.len() as u64, names.join(" · "));
        if context.options.force {
            for (id, object) in &left {
                let age = age(object, now).unwrap_or_default();
                if age.max(began.elapsed()) >= limit {
                    let hanging = Hanging::look(kubernetes, id, object, now).await?;
                    let_go(kubernetes, &hanging, progress).await?;
                }
            }
        }
        if began.elapsed() >= patience {
            let mut error = Error::failed(format!(
                "{} not gone after {}",
                match left.len() {
                    1 => format!("{} is", left[0].0),
                    n => format!("{n} objects are"),
                },
                human_duration(patience)
            ));
            for (id, object) in &left {
                error = error.cause(Hanging::look(kubernetes, id, object, now).await?.to_string());
            }
            return Err(error
                .hint("mend what they wait for, then run the same command again")
                .hint("or run it with --force, which takes the finalizers off: what their controllers would have removed then stays until the sweep, or for good"));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn finalizers(object: &Value) -> Vec<String> {
    let finalizers = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    finalizers.filter_map(|f| f.as_str().map(str::to_owned)).collect()
}

fn age(object: &Value, now: Timestamp) -> Option<Duration> {
    let since: Timestamp = object["metadata"]["deletionTimestamp"].as_str()?.parse().ok()?;
    Some(Duration::try_from(now.duration_since(since)).unwrap_or_default())
}

fn briefly(id: &ObjectId, object: &Value, now: Timestamp) -> String {
    match age(object, now) {
        Some(age) if age >= Duration::from_secs(10) => {
            format!("{id} ({}, {})", human_duration(age), finalizers(object).join(", "))
        }
        _ => id.to_string(),
    }
}

impl Hanging {
    /// An object as it stands, without what only the rest of the cluster tells.
    fn of(id: &ObjectId, object: &Value, now: Timestamp) -> Self {
        Self {
            id: id.clone(),
            age: age(object, now),
            finalizers: finalizers(object),
            waits_for: said(id, object),
            held_up: held_up(object),
        }
    }

    async fn look(kubernetes: &Kubernetes, id: &ObjectId, object: &Value, now: Timestamp) -> Result<Self> {
        let mut hanging = Self::of(id, object, now);
        match id.kind.as_str() {
            "Namespace" => {
                for inside in kubernetes.contents(&id.name).await? {
                    if !finalizers(&inside).is_empty() && age(&inside, now).is_some() {
                        let id = ObjectId::of(&inside)?;
                        hanging.waits_for.push(Self::of(&id, &inside, now).in_short());
                    }
                }
            }
            "PersistentVolumeClaim" => {
                let pods = kubernetes.list("v1", "Pod", id.namespace.as_deref()).await?;
                let users = pods.iter().filter(|pod| uses_claim(pod, &id.name));
                hanging
                    .waits_for
                    .extend(users.filter_map(|pod| Some(ObjectId::of(pod).ok()?.to_string())));
            }
            "NodePool" | "EC2NodeClass" => {
                let claims = kubernetes.list("karpenter.sh/v1", "NodeClaim", None).await?;
                let of_it = claims.iter().filter(|claim| is_claim_of(claim, id));
                hanging
                    .waits_for
                    .extend(of_it.filter_map(|claim| Some(ObjectId::of(claim).ok()?.to_string())));
            }
            _ => {}
        }
        Ok(hanging)
    }

    /// One line.
    fn in_short(&self) -> String {
        let since = match self.age {
            Some(age) => format!("is being deleted for {}", human_duration(age)),
            None => "is not being deleted".to_owned(),
        };
        let finalizers: Vec<String> = self.finalizers.iter().map(|f| with_controller(f)).collect();
        match finalizers.as_slice() {
            [] => format!("{} {since}", self.id),
            _ => format!("{} {since} and waits for {}", self.id, finalizers.join(", ")),
        }
    }
}

impl std::fmt::Display for Hanging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.in_short())?;
        for line in &self.waits_for {
            write!(f, "\nit waits for: {line}")?;
        }
        if !self.held_up.is_empty() {
            write!(f, "\nwaiting on it: {}", self.held_up.join(", "))?;
        }
        Ok(())
    }
}

/// What the object itself says of its waiting.
fn said(id: &ObjectId, object: &Value) -> Vec<String> {
    match id.kind.as_str() {
        "Application" => ApplicationStatus::of(object).reasons,
        "PersistentVolume" => ["phase", "reason", "message"]
            .iter()
            .filter_map(|key| Some(format!("{key} {}", object["status"][key].as_str()?)))
            .collect(),
        _ => {
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            // A namespace's conditions of this form tell of trouble; what went well is "False".
            conditions
                .filter(|c| id.kind == "Namespace" && c["status"] == "True")
                .filter_map(|c| c["message"].as_str().map(str::to_owned))
                .collect()
        }
    }
}

/// What cannot go before the object: the Application that deployed it, its owners, its namespace.
fn held_up(object: &Value) -> Vec<String> {
    let metadata = &object["metadata"];
    let application = metadata["annotations"]["argocd.argoproj.io/tracking-id"]
        .as_str()
        .and_then(|id| id.split_once(':'))
        .map(|(application, _)| format!("Application {application}"));
    let owners = metadata["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|owner| Some(format!("{} {}", owner["kind"].as_str()?, owner["name"].as_str()?)));
    let namespace = metadata["namespace"].as_str().map(|name| format!("Namespace {name}"));
    let mut held_up: Vec<String> = application.into_iter().chain(owners).chain(namespace).collect();
    held_up.push("the rest of the teardown".into());
    held_up
}

fn uses_claim(pod: &Value, claim: &str) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes
        .map(|volume| &volume["persistentVolumeClaim"]["claimName"])
        .any(|name| name == claim)
}

fn is_claim_of(claim: &Value, id: &ObjectId) -> bool {
    match id.kind.as_str() {
        "NodePool" => claim["metadata"]["labels"]["karpenter.sh/nodepool"] == id.name.as_str(),
        _ => claim["spec"]["nodeClassRef"]["name"] == id.name.as_str(),
    }
}

/// A finalizer with who takes it off.
fn with_controller(finalizer: &str) -> String {
    let controllers = [
        (
            "resources-finalizer.argocd.argoproj.io",
            "Argo CD's application controller",
        ),
        (
            "post-delete-finalizer.argocd.argoproj.io",
            "Argo CD's application controller",
        ),
        ("service.k8s.aws/", "the AWS Load Balancer Controller"),
        ("ingress.k8s.aws/", "the AWS Load Balancer Controller"),
        ("group.ingress.k8s.aws/", "the AWS Load Balancer Controller"),
        ("elbv2.k8s.aws/", "the AWS Load Balancer Controller"),
        ("service.kubernetes.io/load-balancer-cleanup", "the cloud controller"),
        ("kubernetes.io/pvc-protection", "the control plane, once no pod uses it"),
        (
            "kubernetes.io/pv-protection",
            "the control plane, once no claim is bound to it",
        ),
        ("external-provisioner.volume.kubernetes.io/", "the EBS CSI driver"),
        ("external-attacher/", "the EBS CSI driver"),
        ("karpenter.sh/", "Karpenter"),
        ("karpenter.k8s.aws/", "Karpenter"),
        ("foregroundDeletion", "the control plane, once its dependents are gone"),
    ];
    match controllers.iter().find(|(prefix, _)| finalizer.starts_with(prefix)) {
        Some((_, controller)) => format!("{finalizer} ({controller})"),
        None => format!("{finalizer} (whose controller mfsre does not know)"),
    }
}

/// Takes the finalizers off an object, and in a namespace off everything that is being deleted.
async fn let_go(kubernetes: &Kubernetes, hanging: &Hanging, progress: Progress<'_>) -> Result<()> {
    if hanging.id.kind == "Namespace" && hanging.finalizers.is_empty() {
        let mut any = false;
        for object in kubernetes.contents(&hanging.id.name).await? {
            let inside = finalizers(&object);
            if !inside.is_empty() && object["metadata"]["deletionTimestamp"].is_string() {
                any = true;
                let id = ObjectId::of(&object)?;
                take_off(
                    kubernetes,
                    &id,
                    &inside,
                    &format!(", on which {} waited", hanging.id),
                    progress,
                )
                .await?;
            }
        }
        // Nothing in it waits for anything: an API that cannot list its objects keeps it.
        if !any && hanging.age.is_some_and(|age| age >= GRACE) {
            progress.warn(format!(
                "--force: {} is forgotten although its contents could not be listed in full; what is left of them goes with the cluster",
                hanging.id
            ));
            kubernetes.finalize_namespace(&hanging.id.name).await?;
        }
        return Ok(());
    }
    if hanging.age.is_none() {
        kubernetes.delete(&hanging.id).await?;
    }
    if hanging.finalizers.is_empty() {
        return Ok(());
    }
    let age = hanging
        .age
        .map_or_else(String::new, |age| format!(", which hung for {}", human_duration(age)));
    take_off(kubernetes, &hanging.id, &hanging.finalizers, &age, progress).await
}

async fn take_off(
    kubernetes: &Kubernetes,
    id: &ObjectId,
    finalizers: &[String],
    why: &str,
    progress: Progress<'_>,
) -> Result<()> {
    match kubernetes
        .merge(id, &json!({ "metadata": { "finalizers": null } }))
        .await
    {
        Err(error) if error.status() == Some(404) => return Ok(()),
        result => result?,
    }
    let finalizers: Vec<String> = finalizers.iter().map(|f| with_controller(f)).collect();
    progress.warn(format!(
        "--force: took {} off {id}{why}; what should have been removed before it may be left, and is looked for at the end",
        finalizers.join(", ")
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    fn hanging(object: &Value) -> Hanging {
        Hanging::of(&ObjectId::of(object).unwrap(), object, now())
    }

    #[test]
    fn an_object_that_hangs_is_told_with_its_age_its_controller_and_what_waits_on_it() {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "web", "namespace": "shop", "deletionTimestamp": "2026-01-01T00:05:00Z",
                "finalizers": ["service.k8s.aws/resources", "example.com/unknown"],
                "annotations": { "argocd.argoproj.io/tracking-id": "shop:/Service:shop/web" },
            },
        });
        assert_eq!(
            hanging(&service).to_string(),
            "Service shop/web is being deleted for 5m00s and waits for service.k8s.aws/resources (the AWS Load Balancer Controller), \
             example.com/unknown (whose controller mfsre does not know)\n\
             waiting on it: Application shop, Namespace shop, the rest of the teardown"
        );
    }

    #[test]
    fn a_namespace_and_an_application_say_themselves_what_they_wait_for() {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": "shop", "deletionTimestamp": "2026-01-01T00:09:00Z" },
            "status": { "conditions": [
                { "type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "All resources successfully discovered" },
                { "type": "NamespaceFinalizersRemaining", "status": "True", "message": "Some content in the namespace has finalizers remaining: x in 1 resource instances" },
            ] },
        });
        assert_eq!(
            hanging(&namespace).waits_for,
            ["Some content in the namespace has finalizers remaining: x in 1 resource instances"]
        );
        let application = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": { "name": "shop", "namespace": "argocd", "finalizers": ["resources-finalizer.argocd.argoproj.io/foreground"],
                "annotations": { "argocd.argoproj.io/tracking-id": "workloads:argoproj.io/Application:argocd/shop" } },
            "status": { "conditions": [{ "type": "DeletionError", "message": "cannot delete Service web" }] },
        });
        let told = hanging(&application).to_string();
        assert!(
            told.contains("Application argocd/shop is not being deleted and waits for"),
            "{told}"
        );
        assert!(
            told.contains("it waits for: DeletionError: cannot delete Service web"),
            "{told}"
        );
        assert!(
            told.contains("waiting on it: Application workloads, Namespace argocd"),
            "{told}"
        );
    }

    #[test]
    fn who_uses_a_claim_a_pool_and_a_node_class_is_known() {
        let pod =
            json!({ "spec": { "volumes": [{ "name": "a" }, { "persistentVolumeClaim": { "claimName": "data" } }] } });
        assert!(uses_claim(&pod, "data") && !uses_claim(&pod, "other"));
        let claim = json!({ "metadata": { "labels": { "karpenter.sh/nodepool": "default" } }, "spec": { "nodeClassRef": { "name": "spot" } } });
        let pool = ObjectId::cluster("karpenter.sh/v1", "NodePool", "default");
        let class = ObjectId::cluster("karpenter.k8s.aws/v1", "EC2NodeClass", "spot");
        assert!(is_claim_of(&claim, &pool) && is_claim_of(&claim, &class));
        assert!(!is_claim_of(
            &claim,
            &ObjectId::cluster("karpenter.sh/v1", "NodePool", "spot")
        ));
    }
}
