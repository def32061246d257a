//! The stages that take the credentials away.

use crate::aws::Removal;
use crate::error::Error;
use crate::model::Transport;
use crate::ops::Context;
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture};

/// Takes the deploy key off the git host.
pub(super) struct RevokeDeployKey;

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
            let environment = context.environment.name.as_str();
            context.pending_key = context
                .aws()?
                .stored_key(&names.deploy_key_pending, environment)
                .await?;
            Ok(if context.deploy_key.is_some() || context.pending_key.is_some() {
                Probe::Needed
            } else {
                Probe::Stands("there is none".into())
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let names = &context.environment.names;
            let environment = context.environment.name.as_str();
            // Former ones too: a rotation that was cut off leaves both registered.
            let mut keys = context.aws()?.former_keys(&names.deploy_key, environment).await?;
            keys.extend(context.deploy_key.clone());
            keys.extend(context.pending_key.as_ref().map(|p| p.key.clone()));
            let current = context.deploy_key.iter().map(|k| k.fingerprint.as_str());
            let pending = context.pending_key.iter().map(|p| p.key.fingerprint.as_str());
            let fingerprints: Vec<&str> = current.chain(pending).collect();
            let fingerprints = fingerprints.join(", ");
            let asked = async {
                let host = context.platform()?.git_host(&context.environment).await?;
                progress.say(host.describe());
                let registered = host.list().await?;
                Ok::<_, Error>((host, registered))
            };
            let (host, registered) = match asked.await {
                Err(error) if context.options.force => {
                    progress.warn(format!(
                        "--force: the deploy key {fingerprints} is not taken off the git host: {}",
                        [&[error.message][..], &error.causes].concat().join(": ")
                    ));
                    return Ok(Ran::Unchanged("the git host could not be asked".into()));
                }
                asked => asked.map_err(|error| {
                    error.hint(format!(
                        "if the repository is gone for good, run `mfsre down {environment} --force`, which does without"
                    ))
                })?,
            };
            let mut removed = Vec::new();
            for known in registered.iter().filter(|r| keys.iter().any(|k| r.is(&k.public))) {
                if host.delete(&known.id).await? {
                    removed.push(known.title.clone());
                }
            }
            if !removed.is_empty() {
                return Ok(Ran::Changed(removed.join(", ")));
            }
            if host.is_manual() {
                progress.warn(format!(
                    "remove the deploy key {fingerprints} from {} by hand",
                    context.environment.argocd_repository_url
                ));
            }
            Ok(Ran::Unchanged(format!("{fingerprints} was not registered")))
        })
    }
}

/// Deletes the password and the deploy key.
pub(super) struct RemoveCredentials;

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
                (
                    names.deploy_key_pending.clone(),
                    aws.remove_parameter(&names.deploy_key_pending).await?,
                ),
            ];
            removals.push((names.deploy_key.clone(), aws.remove_parameter(&names.deploy_key).await?));
            let mut removed = Vec::new();
            let mut scheduled = Vec::new();
            for (name, removal) in removals {
                match removal {
                    Removal::Removed => removed.push(name),
                    Removal::Scheduled(date) => scheduled.push(format!(
                        "{name} is kept until {} (`mfsre down {} --purge` deletes it at once)",
                        date.strftime("%Y-%m-%d"),
                        context.environment.name
                    )),
                    Removal::Absent => {}
                }
            }
            context.remains.scheduled.extend(scheduled.iter().cloned());
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
