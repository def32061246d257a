use super::Context;
use crate::error::Result;
use crate::git::Registration;
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

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let name = context.environment.names.argocd_secret.clone();
            context.password = context.aws()?.admin_password(&name).await?;
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

/// The deploy key in the Parameter Store, and on the git host.
pub(super) struct DeployKeyStep;

impl DeployKeyStep {
    async fn registered(context: &Context) -> Result<bool> {
        let Some(key) = &context.deploy_key else {
            return Ok(false);
        };
        let host = context.platform()?.git_host(&context.environment);
        Ok(host.find(&key.public).await?.is_some())
    }
}

impl Step<Context> for DeployKeyStep {
    fn id(&self) -> &'static str {
        "deploy-key"
    }

    fn describe(&self) -> String {
        "deploy key in the Parameter Store and on the git host".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
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
            let host = context.platform()?.git_host(&context.environment);
            progress.say(format!("registering with {}", host.describe()));
            let title = format!("mfsre {environment} {}", key.fingerprint);
            let registration = host.register(&title, &key.public).await?;
            let fingerprint = key.fingerprint.clone();
            context.deploy_key = Some(key);
            Ok(match registration {
                Registration::Registered => Ran::Changed(format!("{fingerprint} registered, read-only")),
                Registration::Present if made => Ran::Changed(fingerprint),
                Registration::Present => Ran::Unchanged(fingerprint),
                Registration::Manual { instructions } => {
                    progress.warn(instructions);
                    if made {
                        Ran::Changed(format!("{fingerprint} made"))
                    } else {
                        Ran::Unchanged(fingerprint)
                    }
                }
            })
        })
    }
}
