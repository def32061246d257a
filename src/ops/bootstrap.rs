use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Context, pull_secret};
use crate::error::{Error, ErrorKind, Result};
use crate::kubernetes::{Applied, Kubernetes, ObjectId};
use crate::model::contract;
use crate::text::counted;
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture};

/// Argo CD's namespace.
pub(super) const NAMESPACE: &str = "argocd";
/// Objects applied at the same time.
const AT_ONCE: usize = 8;
/// Field manager of Argo CD's own objects; Argo CD takes them over when it manages itself.
const MANAGER: &str = "mfsre";
/// Field manager of what must not stand in Git. Its own, or a later apply of the manifest would take the keys away.
pub(super) const CREDENTIALS_MANAGER: &str = "mfsre-credentials";
/// The repository's Secret in Argo CD's namespace.
const REPOSITORY_SECRET: &str = "mfsre-repository";

/// Reaches the cluster with the same token that kubectl will use.
pub(super) struct ReachCluster;

impl Step<Context> for ReachCluster {
    fn id(&self) -> &'static str {
        "cluster"
    }

    fn describe(&self) -> String {
        "reach the cluster".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            if !context.find_cluster().await? {
                let name = &context.environment.names.cluster;
                return Err(match &context.cluster {
                    None => Error::failed(format!(
                        "there is no EKS cluster {name} in {}",
                        context.environment.region
                    )),
                    Some(cluster) => Error::failed(format!("the EKS cluster {name} is {}", cluster.status)),
                }
                .hint("run the same command again; if it stays so, look at the cluster in the EKS console"));
            }
            outputs_keep_the_contract(context).await?;
            let kubernetes = context.kubernetes()?;
            let version = kubernetes.version().await?;
            Ok(Probe::Stands(format!("{version} at {}", kubernetes.endpoint())))
        })
    }
}

/// What Git says of the infrastructure was computed from the environment's name before there was any; it must be so.
async fn outputs_keep_the_contract(context: &Context) -> Result<()> {
    let outputs = context.workspace()?.outputs(&context.cancellation).await?;
    let violations = contract::violations(&outputs, &context.environment.names);
    if violations.is_empty() {
        return Ok(());
    }
    let mut error = Error::new(
        ErrorKind::Configuration,
        format!(
            "Terraform's outputs are not those of a blueprint ({})",
            context.environment.blueprint
        ),
    );
    error.causes = violations;
    Err(error.hint("if the root module is your own, have it give these outputs (docs/blueprints.md) and run the same command again"))
}

/// Puts into the cluster what must not stand in Git: the password's hash, the repository's credential and that of the
/// registry. Before Argo CD starts for the first time, or it would make up a password of its own.
pub(super) struct ClusterSecrets;

/// A Secret as it should be, and what a pending rotation may have put in place of it.
struct Wanted {
    object: Value,
    /// Key and value of the pending credential: where the cluster holds it, the rotation has come that far, and going
    /// back would be its undoing.
    pending: Option<(&'static str, String)>,
}

impl Wanted {
    /// Whether `found` is what is wanted. The time of the password may be later than when it was made: a rotation sets it
    /// to the moment of the change.
    fn stands(&self, found: &Value) -> bool {
        let values = self.object["data"].as_object().into_iter().flatten();
        values.into_iter().all(|(key, value)| {
            let held = &found["data"][key];
            let rotated = |(name, pending): &(&str, String)| name == key && held == pending.as_str();
            held == value || key == PASSWORD_TIME && held.is_string() || self.pending.as_ref().is_some_and(rotated)
        })
    }
}

impl ClusterSecrets {
    fn wanted(context: &Context) -> Result<Vec<Wanted>> {
        let mut wanted = vec![Wanted {
            object: namespace(NAMESPACE),
            pending: None,
        }];
        if let Some(password) = &context.password {
            let pending = context.pending_password.as_ref();
            wanted.push(Wanted {
                object: argocd_secret(&password.bcrypt, &password.mtime),
                pending: pending.map(|p| (PASSWORD, STANDARD.encode(p.password.bcrypt.expose_secret()))),
            });
        }
        let private = context.deploy_key.as_ref().map(|key| &key.private);
        let pending = context.pending_key.as_ref();
        wanted.push(Wanted {
            object: repository_secret(context.environment.argocd_repository_url.as_str(), private),
            pending: pending.map(|p| (PRIVATE_KEY, STANDARD.encode(p.key.private.expose_secret()))),
        });
        if let Some(credential) = &context.registry {
            for object in [
                namespace(pull_secret::NAMESPACE),
                pull_secret::object(&context.environment.images, credential),
            ] {
                wanted.push(Wanted { object, pending: None });
            }
        }
        Ok(wanted)
    }

    /// What does not stand.
    async fn missing(context: &Context) -> Result<Vec<Value>> {
        let mut missing = Vec::new();
        for wanted in Self::wanted(context)? {
            let found = context.kubernetes()?.get(&ObjectId::of(&wanted.object)?).await?;
            if !found.is_some_and(|found| wanted.stands(&found)) {
                missing.push(wanted.object);
            }
        }
        Ok(missing)
    }
}

/// Keys of `argocd-secret` and of a repository's Secret.
const PASSWORD: &str = "admin.password";
const PASSWORD_TIME: &str = "admin.passwordMtime";
const PRIVATE_KEY: &str = "sshPrivateKey";

/// The keys of `argocd-secret` that are mfsre's.
pub(super) fn argocd_secret(bcrypt: &SecretString, mtime: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "argocd-secret",
            "namespace": NAMESPACE,
            // Argo CD looks for its Secret by these labels.
            "labels": { "app.kubernetes.io/name": "argocd-secret", "app.kubernetes.io/part-of": "argocd" },
        },
        "type": "Opaque",
        "data": {
            PASSWORD: STANDARD.encode(bcrypt.expose_secret()),
            PASSWORD_TIME: STANDARD.encode(mtime),
        },
    })
}

/// The Secret of the repository at `url`, with the deploy key where it has one.
pub(super) fn repository_secret(url: &str, private: Option<&SecretString>) -> Value {
    let mut data = json!({ "type": STANDARD.encode("git"), "url": STANDARD.encode(url) });
    if let Some(private) = private {
        data[PRIVATE_KEY] = json!(STANDARD.encode(private.expose_secret()));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": REPOSITORY_SECRET,
            "namespace": NAMESPACE,
            "labels": { "argocd.argoproj.io/secret-type": "repository" },
        },
        "type": "Opaque",
        "data": data,
    })
}

/// A value of a Secret.
pub(super) fn decoded(value: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(value.as_str()?).ok()
}

pub(super) fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

impl Step<Context> for ClusterSecrets {
    fn id(&self) -> &'static str {
        "cluster-secrets"
    }

    fn describe(&self) -> String {
        "password and deploy key for Argo CD".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            Ok(if Self::missing(context).await?.is_empty() {
                Probe::Stands("as they should be".into())
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            // Only what differs: the rest may be in the middle of a rotation.
            for object in Self::missing(context).await? {
                context.kubernetes()?.apply(&object, CREDENTIALS_MANAGER).await?;
            }
            let pull_secret = if context.registry.is_some() {
                ", image pull secret"
            } else {
                ""
            };
            Ok(Ran::Changed(format!("argocd-secret, repository{pull_secret}")))
        })
    }
}

/// Installs Argo CD from its official manifest, the first time; from then on it manages itself.
pub(super) struct InstallArgoCd;

impl Step<Context> for InstallArgoCd {
    fn id(&self) -> &'static str {
        "argocd"
    }

    fn describe(&self) -> String {
        "install Argo CD".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let kubernetes = context.kubernetes()?;
            let application = kubernetes.get(&Kubernetes::application_id("argo-cd")).await?;
            // The last object of the manifest tells that all of it was applied once.
            let last = objects(context)?.last().map(ObjectId::of).transpose()?;
            let complete = match &last {
                Some(id) => kubernetes.get(id).await?.is_some(),
                None => false,
            };
            Ok(match (application, complete) {
                (Some(_), true) => Probe::Stands("it manages itself".into()),
                _ => Probe::Needed,
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let objects = objects(context)?;
            let kubernetes = context.kubernetes()?.clone();
            let total = objects.len() as u64;
            let (mut done, mut changed) = (0, 0);
            // What a stage brings is there before the next one needs it.
            for stage in objects.chunk_by(|a, b| stage(a) == stage(b)) {
                let mut pending = stage.iter().cloned();
                let mut at_work = JoinSet::new();
                loop {
                    while at_work.len() < AT_ONCE
                        && let Some(object) = pending.next()
                    {
                        let kubernetes = kubernetes.clone();
                        at_work.spawn(async move { install(&kubernetes, &object).await });
                    }
                    let Some(installed) = at_work.join_next().await else {
                        break;
                    };
                    let (id, applied) = installed
                        .map_err(|e| Error::failed("a task of the installation ended early").cause(e.to_string()))??;
                    done += 1;
                    changed += usize::from(applied == Applied::Changed);
                    progress.count(done, total, id.to_string());
                }
            }
            kubernetes.forget_kinds().await;
            if changed == 0 {
                return Ok(Ran::Unchanged(counted(total, "object")));
            }
            Ok(Ran::Changed(format!("{}, {changed} changed", counted(total, "object"))))
        })
    }
}

async fn install(kubernetes: &Kubernetes, object: &Value) -> Result<(ObjectId, Applied)> {
    let id = ObjectId::of(object)?;
    let applied = kubernetes.apply(object, MANAGER).await?;
    if id.kind == "CustomResourceDefinition" {
        established(kubernetes, &id).await?;
    }
    Ok((id, applied))
}

/// A new kind can be used once the API serves it.
async fn established(kubernetes: &Kubernetes, id: &ObjectId) -> Result<()> {
    for _ in 0..300 {
        let found = kubernetes.get(id).await?.unwrap_or_default();
        let conditions = found
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        if conditions
            .iter()
            .any(|c| c["type"] == "Established" && c["status"] == "True")
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Error::failed(format!("{id} was not established within 30s"))
        .hint("look at it with `kubectl describe`, then run the same command again"))
}

/// In which stage of the installation an object is applied.
fn stage(object: &Value) -> u8 {
    match object["kind"].as_str().unwrap_or_default() {
        "CustomResourceDefinition" => 0,
        "Deployment" | "StatefulSet" => 2,
        _ => 1,
    }
}

/// Argo CD's objects in the order in which they can be applied: kinds before what uses them, and configuration before the
/// workloads that read it. The settings that Git holds are in them from the start, so that the first sync finds the
/// repository's host key and judges the roots as every later one does.
pub(super) fn objects(context: &Context) -> Result<Vec<Value>> {
    let manifest = context.manifest.as_deref().unwrap_or_default();
    let mut objects = documents(manifest, "Argo CD's install manifest")?;
    let own = PathBuf::from("cd/environments").join(context.environment.name.as_str());
    let settings = [
        own.join("argo-cd/argocd-ssh-known-hosts-cm.yaml"),
        PathBuf::from("cd/addons/argo-cd/argocd-cm.yaml"),
    ];
    for path in settings {
        let Some(contents) = context.tree()?.get(&path) else {
            continue;
        };
        for setting in documents(contents, &path.to_string_lossy())? {
            let same =
                |o: &&mut Value| o["kind"] == setting["kind"] && o["metadata"]["name"] == setting["metadata"]["name"];
            if let Some(object) = objects.iter_mut().find(same)
                && let Some(data) = setting["data"].as_object()
            {
                for (key, value) in data {
                    object["data"][key] = value.clone();
                }
            }
        }
    }
    for object in &mut objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        if !matches!(
            kind,
            "CustomResourceDefinition" | "ClusterRole" | "ClusterRoleBinding" | "Namespace"
        ) {
            object["metadata"]["namespace"] = json!(NAMESPACE);
        }
    }
    objects.sort_by_key(stage);
    Ok(objects)
}

/// The documents of a YAML file.
///
/// # Errors
/// It is not YAML.
pub(super) fn documents(contents: &[u8], name: &str) -> Result<Vec<Value>> {
    let text = String::from_utf8_lossy(contents);
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|e| {
        Error::failed(format!("{name} is not YAML"))
            .cause(e.to_string())
            .hint("fetch it again: remove it from the cache")
    })?;
    Ok(documents.into_iter().filter(|d| !d.is_null()).collect())
}

/// Applies the projects and the root Applications.
pub(super) struct ApplyRoots;

impl Step<Context> for ApplyRoots {
    fn id(&self) -> &'static str {
        "roots"
    }

    fn describe(&self) -> String {
        "projects and root Applications".into()
    }

    fn probe<'a>(&'a self, _: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        // Server-side apply is itself the comparison.
        Box::pin(async { Ok(Probe::Needed) })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let roots = roots(context)?;
            let kubernetes = context.kubernetes()?.clone();
            let mut changed = 0;
            let mut names = Vec::new();
            for object in &roots {
                let id = ObjectId::of(object)?;
                progress.say(id.to_string());
                changed += usize::from(kubernetes.apply(object, MANAGER).await? == Applied::Changed);
                if id.kind == "Application" {
                    names.push(id.name.clone());
                }
            }
            let detail = names.join(", ");
            context.applied = names;
            Ok(if changed == 0 {
                Ran::Unchanged(detail)
            } else {
                Ran::Changed(detail)
            })
        })
    }
}

/// The objects of `cd/root/NAME.yaml`.
pub(super) fn roots(context: &Context) -> Result<Vec<Value>> {
    let path = PathBuf::from(format!("cd/root/{}.yaml", context.environment.name));
    let contents = context.tree()?.get(&path).unwrap_or_default();
    documents(contents, &path.to_string_lossy())
}

/// Deletes an object and everything Argo CD's manifest brought, in reverse order; says how many were there.
pub(super) async fn delete_all(kubernetes: &Kubernetes, objects: &[Value], progress: Progress<'_>) -> Result<usize> {
    let mut removed = 0;
    let total = objects.len() as u64;
    for (done, object) in objects.iter().rev().enumerate() {
        let id = ObjectId::of(object)?;
        progress.count(done as u64, total, id.to_string());
        match kubernetes.delete(&id).await {
            Ok(was_there) => removed += usize::from(was_there),
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}
