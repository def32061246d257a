//! The stages that take the credentials away.

use crate::aws::Removal;
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
