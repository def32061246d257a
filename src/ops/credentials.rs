use futures_util::future::BoxFuture;

use super::Context;
use super::rotate::{RealTime, title, wait_until_readable};
use crate::error::Result;
use crate::git::{KeyReader, Registration};
use crate::model::Transport;
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture};

/// Argo CD's admin password in Secrets Manager, made once and re-used.
pub(super) struct Password;

impl Step<Context> for Password {
    fn id(&self) -> &'static str {
        "password"
    }

    fn describe(&self) -> String {
        "Argo CD admin password in Secrets Manager".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let name = context.environment.names.argocd_secret.clone();
            let current = context.aws()?.current_password(&name).await?;
            if current.is_some() {
                let pending = context.aws()?.pending_password(&name).await?;
                if pending.is_some() {
                    progress.note(unfinished("argocd-password", context));
                }
                context.pending_password = pending;
            }
            context.password = current.map(|version| version.password);
            Ok(if context.password.is_some() {
                Probe::Stands(name)
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let name = context.environment.names.argocd_secret.clone();
            let environment = context.environment.name.to_string();
            let (password, made) = context.aws()?.ensure_admin_password(&name, &environment).await?;
            context.password = Some(password);
            Ok(if made {
                Ran::Changed(format!("{name} created"))
            } else {
                Ran::Unchanged(name)
            })
        })
    }
}

/// What is said of a rotation that somebody has begun. It is left as it is.
fn unfinished(credential: &str, context: &Context) -> String {
    let name = &context.environment.name;
    format!("a rotation of the {credential} is unfinished; `mfsre rotate {credential} {name}` finishes it")
}

/// The deploy key in the Parameter Store, and on the git host.
pub(super) struct DeployKeyStep;

impl DeployKeyStep {
    async fn registered(context: &Context) -> Result<bool> {
        let Some(key) = &context.deploy_key else {
            return Ok(false);
        };
        let host = context.platform()?.git_host(&context.environment).await?;
        if host.is_manual() {
            // Only a fetch can tell.
            return Ok(reader(context)?.read(&key.private).await.is_ok());
        }
        Ok(host.find(&key.public).await?.is_some())
    }
}

/// Reads the repository as Argo CD will, with the host keys that it is going to trust.
fn reader(context: &Context) -> Result<KeyReader> {
    let objects = super::bootstrap::objects(context)?;
    let trusted = objects
        .iter()
        .find(|o| o["kind"] == "ConfigMap" && o["metadata"]["name"] == "argocd-ssh-known-hosts-cm")
        .and_then(|map| map["data"]["ssh_known_hosts"].as_str().map(str::to_owned));
    Ok(KeyReader::new(
        context.environment.argocd_repository_url.as_str(),
        trusted,
    ))
}

impl Step<Context> for DeployKeyStep {
    fn id(&self) -> &'static str {
        "deploy-key"
    }

    fn describe(&self) -> String {
        "deploy key in the Parameter Store and on the git host".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            if context.environment.argocd_repository_url.transport() == Transport::Https {
                return Ok(Probe::Impossible(
                    "a repository read over HTTPS has no deploy key".into(),
                ));
            }
            let names = context.environment.names.clone();
            context.deploy_key = context
                .aws()?
                .deploy_key(&names.deploy_key, context.environment.name.as_str())
                .await?;
            if context.deploy_key.is_some() {
                let environment = context.environment.name.as_str();
                let pending = context
                    .aws()?
                    .stored_key(&names.deploy_key_pending, environment)
                    .await?;
                if pending.is_some() {
                    progress.note(unfinished("deploy-key", context));
                }
                context.pending_key = pending;
            }
            if Self::registered(context).await? {
                let fingerprint = context
                    .deploy_key
                    .as_ref()
                    .map(|k| k.fingerprint.clone())
                    .unwrap_or_default();
                return Ok(Probe::Stands(fingerprint));
            }
            Ok(Probe::Needed)
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let names = context.environment.names.clone();
            let environment = context.environment.name.to_string();
            let (key, made) = context
                .aws()?
                .ensure_deploy_key(&names.deploy_key, &names.deploy_key_public, &environment)
                .await?;
            let host = context.platform()?.git_host(&context.environment).await?;
            progress.say(format!("registering with {}", host.describe()));
            let registration = host.register(&title(&environment, &key), &key.public).await?;
            let fingerprint = key.fingerprint.clone();
            context.deploy_key = Some(key.clone());
            Ok(match registration {
                Registration::Registered => Ran::Changed(format!("{fingerprint} registered, read-only")),
                Registration::Present if made => Ran::Changed(fingerprint),
                Registration::Present => Ran::Unchanged(fingerprint),
                Registration::Manual { instructions } => {
                    progress.warn(instructions);
                    let reader = reader(context)?;
                    let read = || -> BoxFuture<'_, _> { Box::pin(reader.read(&key.private)) };
                    wait_until_readable(read, context.options.timeout, true, &RealTime::new(), progress).await?;
                    Ran::Changed(format!("{fingerprint} opens the repository"))
                }
            })
        })
    }
}
