//! Rotation of the two credentials, safe to be killed anywhere and run again.
//!
//! Each credential has a version that is current and, while a rotation is under way, one that is pending, both in AWS.
//! The pending version is what an interrupted rotation left behind and what two machines meet at: whoever finds one
//! goes on with it. The steps work on a trait for the outside, so that tests can cut them off at every call.

mod deploy_key;
mod live;
mod pace;
mod password;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

pub(super) use self::deploy_key::{title, wait_until_readable};
pub(super) use self::pace::RealTime;

use self::deploy_key::KeyRotation;
use self::live::{LiveKey, LivePassword};
use self::password::PasswordRotation;
use super::Context;
use super::lease::TakeLock;
use super::sandbox::Attach;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Transport;
use crate::workflow::{Event, Journal, Lock, Probe, Progress, Step, StepFuture, Steps, perform};

/// What can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credential {
    /// Argo CD's admin password.
    ArgocdPassword,
    /// The deploy key.
    DeployKey,
}

impl Credential {
    /// The name of it on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ArgocdPassword => "argocd-password",
            Self::DeployKey => "deploy-key",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::ArgocdPassword => "rotate argocd-password",
            Self::DeployKey => "rotate deploy-key",
        }
    }
}

/// When and how to rotate.
#[derive(Debug, Clone, Copy, Default)]
pub struct RotateOptions {
    /// Rotate only what is at least this old.
    pub if_older_than: Option<Duration>,
    /// Look, and change nothing.
    pub dry_run: bool,
}

/// What a rotation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The credential is a new one.
    Rotated,
    /// It is not old enough.
    NotDue,
    /// It was a dry run.
    Planned,
}

/// What a step would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Stable name of the step.
    pub step: &'static str,
    /// What it is for.
    pub describe: String,
    /// `run`, `nothing` or `skip`.
    pub would: &'static str,
    /// What was found.
    pub detail: String,
}

/// What a rotation left behind.
#[derive(Debug, Clone, Serialize)]
pub struct RotateSummary {
    /// What was rotated.
    pub credential: Credential,
    /// What it came to.
    pub outcome: Outcome,
    /// How many steps changed something.
    pub changed: usize,
    /// Whether a rotation that somebody had begun was finished.
    pub adopted: bool,
    /// Since when the credential that was found had been the current one, RFC 3339.
    pub found_since: String,
    /// Its age in whole days.
    pub found_age_days: i64,
    /// Fingerprint of the deploy key that is current now.
    pub fingerprint: Option<String>,
    /// Fingerprint of the deploy key that was current before.
    pub former_fingerprint: Option<String>,
    /// The steps of a dry run.
    pub steps: Vec<Planned>,
    /// What an earlier run that was cut off had left unfinished.
    pub continued: Option<String>,
}

/// The age of something that was made at `since`.
pub(super) fn age(since: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default()
}

/// Whole days.
pub(super) fn days(age: Duration) -> i64 {
    i64::try_from(age.as_secs() / 86_400).unwrap_or(i64::MAX)
}

/// Reaches everything a rotation needs.
struct Reach;

impl Step<Context> for Reach {
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
                let state = context.cluster.as_ref().map_or("not there", |c| c.status.as_str());
                return Err(
                    Error::failed(format!("the EKS cluster {name} is {state}")).hint(format!(
                        "a credential is rotated in a running cluster: `mfsre up {}`",
                        context.environment.name
                    )),
                );
            }
            let kubernetes = context.kubernetes()?;
            let version = kubernetes.version().await?;
            Ok(Probe::Stands(format!("{version} at {}", kubernetes.endpoint())))
        })
    }
}

/// Rotates a credential, or finishes the rotation that is pending.
///
/// # Errors
/// The first step that fails; run again, it continues. Where another command is at work on the environment, it is
/// [`ErrorKind::Locked`].
pub async fn rotate(context: &mut Context, credential: Credential, options: RotateOptions) -> Result<RotateSummary> {
    let name = context.environment.name.to_string();
    if credential == Credential::DeployKey && context.environment.argocd_repository_url.transport() == Transport::Https
    {
        return Err(Error::new(
            ErrorKind::Configuration,
            format!("{name} reads its repository over HTTPS and has no deploy key"),
        )
        .hint("only a repository over SSH is read with a deploy key"));
    }
    let private = context.private();
    // A dry run changes nothing, so it may look while somebody is at work.
    let _lock = if options.dry_run {
        None
    } else {
        Some(Lock::acquire(&private, credential.command(), &name)?)
    };
    let (mut journal, continued) = if options.dry_run {
        (None, None)
    } else {
        let (journal, unfinished) = Journal::open(&private, credential.command())?;
        let continued = unfinished.map(|u| format!("the last `{}` was cut off in the step {}", u.command, u.step));
        (Some(journal), continued)
    };
    if let Some(message) = &continued {
        let message = format!("{message}; continuing");
        context.reporter.report(Event::Note { message });
    }
    let mut reach: Steps<Context> = vec![Box::new(Attach), Box::new(Reach)];
    if !options.dry_run {
        reach.push(Box::new(TakeLock {
            command: credential.command(),
        }));
    }
    let rotated = match look(&reach, context, &mut journal).await {
        Ok(()) => replace(context, credential, options, &mut journal).await,
        Err(error) => Err(error),
    };
    let mut summary = context.release(rotated, false).await?;
    summary.continued = continued;
    Ok(summary)
}

/// Replaces the credential, once everything is reached.
async fn replace(
    context: &Context,
    credential: Credential,
    options: RotateOptions,
    journal: &mut Option<Journal>,
) -> Result<RotateSummary> {
    let name = context.environment.name.to_string();
    let limit = context.options.timeout;
    Ok(match credential {
        Credential::ArgocdPassword => {
            let world = LivePassword::reach(context).await?;
            let mut rotation = PasswordRotation::new(&name, &world, limit);
            rotation.look().await?;
            let found = (rotation.since(), rotation.is_pending());
            let mut summary = summary(credential, found, options);
            if summary.outcome != Outcome::NotDue {
                let steps = password::steps();
                (summary.steps, summary.changed) = go(&steps, &mut rotation, journal, context, options).await?;
            }
            summary
        }
        Credential::DeployKey => {
            let world = LiveKey::reach(context).await?;
            let mut rotation = KeyRotation::new(&name, &world, limit);
            rotation.look().await?;
            let found = (rotation.since(), rotation.is_pending());
            let mut summary = summary(credential, found, options);
            summary.fingerprint = rotation.current_fingerprint();
            if summary.outcome != Outcome::NotDue {
                summary.former_fingerprint = rotation.current_fingerprint();
                let steps = deploy_key::steps();
                (summary.steps, summary.changed) = go(&steps, &mut rotation, journal, context, options).await?;
                if summary.outcome == Outcome::Rotated {
                    summary.fingerprint = rotation.new_fingerprint();
                    summary.former_fingerprint = rotation.former_fingerprint();
                }
            }
            summary
        }
    })
}

fn summary(credential: Credential, (since, adopted): (Timestamp, bool), options: RotateOptions) -> RotateSummary {
    let age = age(since);
    // One that was begun is finished, however young the current one is.
    let due = adopted || options.if_older_than.is_none_or(|limit| age >= limit);
    RotateSummary {
        credential,
        outcome: match (due, options.dry_run) {
            (false, _) => Outcome::NotDue,
            (true, true) => Outcome::Planned,
            (true, false) => Outcome::Rotated,
        },
        changed: 0,
        adopted,
        found_since: since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        found_age_days: days(age),
        fingerprint: None,
        former_fingerprint: None,
        steps: Vec::new(),
        continued: None,
    }
}

/// Performs the steps, or says what they would do.
async fn go<C: Send>(
    steps: &[Box<dyn Step<C>>],
    rotation: &mut C,
    journal: &mut Option<Journal>,
    context: &Context,
    options: RotateOptions,
) -> Result<(Vec<Planned>, usize)> {
    if options.dry_run {
        return Ok((plan(steps, rotation, context).await?, 0));
    }
    let Some(journal) = journal else {
        return Ok((Vec::new(), 0));
    };
    let changed = perform(
        steps,
        rotation,
        journal,
        context.reporter.as_ref(),
        &context.cancellation,
    )
    .await?;
    Ok((Vec::new(), changed))
}

/// Performs the steps that reach what a rotation needs.
async fn look(steps: &[Box<dyn Step<Context>>], context: &mut Context, journal: &mut Option<Journal>) -> Result<()> {
    let reporter = context.reporter.clone();
    let cancellation = context.cancellation.clone();
    match journal {
        Some(journal) => perform(steps, context, journal, reporter.as_ref(), &cancellation)
            .await
            .map(|_| ()),
        None => {
            // A dry run only looks.
            for step in steps {
                step.probe(context, Progress::new(reporter.as_ref(), step.id())).await?;
            }
            Ok(())
        }
    }
}

async fn plan<C: Send>(steps: &[Box<dyn Step<C>>], rotation: &mut C, context: &Context) -> Result<Vec<Planned>> {
    let mut planned = Vec::new();
    for step in steps {
        let probed = step
            .probe(rotation, Progress::new(context.reporter.as_ref(), step.id()))
            .await?;
        let (would, detail) = match probed {
            Probe::Stands(detail) => ("nothing", detail),
            Probe::Needed => ("run", String::new()),
            Probe::Impossible(reason) => ("skip", reason),
        };
        planned.push(Planned {
            step: step.id(),
            describe: step.describe(),
            would,
            detail,
        });
    }
    Ok(planned)
}
