use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Context, adapter};
use crate::error::{Error, ErrorKind};
use crate::kubernetes::ApplicationStatus;
use crate::model::human_duration;
use crate::text::counted;
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture};

/// How often the Applications are looked at.
const POLL: Duration = Duration::from_millis(700);

/// Waits until every Application is Synced and Healthy.
pub(super) struct WaitHealthy;

impl Step<Context> for WaitHealthy {
    fn id(&self) -> &'static str {
        "healthy"
    }

    fn describe(&self) -> String {
        "wait until everything is synced and healthy".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let trusted = adapter::trust(context.kubernetes()?).await?;
            let applications = context.kubernetes()?.applications().await?;
            let detail = summary(&applications);
            context.applications = applications;
            Ok(if !trusted && all_ready(context) {
                Probe::Stands(detail)
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let end = Instant::now() + context.options.timeout;
            let mut refreshed = BTreeSet::new();
            loop {
                adapter::trust(context.kubernetes()?).await?;
                context.applications = context.kubernetes()?.applications().await?;
                refresh(context, &mut refreshed).await?;
                let applications = &context.applications;
                let waiting: Vec<String> = applications
                    .iter()
                    .filter(|a| !is_done(context, a))
                    .map(|a| format!("{:24} {:10} {}", a.name, a.sync, a.health))
                    .collect();
                let done = applications.len() - waiting.len();
                progress.count(done as u64, applications.len() as u64, waiting.join("\n"));
                if all_ready(context) {
                    return Ok(Ran::Changed(summary(&context.applications)));
                }
                if Instant::now() >= end {
                    return Err(not_healthy(context));
                }
                tokio::time::sleep(POLL).await;
            }
        })
    }
}

/// Whether what Argo CD says of an Application is about the commit that was published. Argo CD looks at the branch every
/// minute or so; until then an Application is in order with what was there before.
fn has_seen(context: &Context, application: &ApplicationStatus) -> bool {
    let repository = context.environment.argocd_repository_url.as_str();
    application.has_seen(repository, context.revision.as_deref())
}

fn is_done(context: &Context, application: &ApplicationStatus) -> bool {
    application.is_ready() && has_seen(context, application)
}

/// Whether the roots are there, and they and all their children have seen the commit and are in order.
fn all_ready(context: &Context) -> bool {
    let applications = &context.applications;
    let roots_there = context
        .applied
        .iter()
        .all(|root| applications.iter().any(|a| a.name == *root));
    roots_there && !applications.is_empty() && applications.iter().all(|a| is_done(context, a))
}

/// Has Argo CD look now, once, at each Application that was compared with an older commit.
async fn refresh(context: &Context, refreshed: &mut BTreeSet<String>) -> Result<(), Error> {
    for application in &context.applications {
        let stale = !application.revision.is_empty() && !has_seen(context, application);
        if stale && refreshed.insert(application.name.clone()) {
            let id = crate::kubernetes::Kubernetes::application_id(&application.name);
            let now = json!({ "metadata": { "annotations": { "argocd.argoproj.io/refresh": "normal" } } });
            context.kubernetes()?.merge(&id, &now).await?;
        }
    }
    Ok(())
}

fn summary(applications: &[ApplicationStatus]) -> String {
    let ready = applications.iter().filter(|a| a.is_ready()).count();
    format!("{} synced and healthy", counted(ready, "Application"))
}

fn not_healthy(context: &Context) -> Error {
    let limit = human_duration(context.options.timeout);
    let unready: Vec<&ApplicationStatus> = context.applications.iter().filter(|a| !is_done(context, a)).collect();
    // A root is unhealthy because of its child: the child comes first.
    let is_parent = |a: &ApplicationStatus| {
        unready
            .iter()
            .any(|other| other.parent.as_deref() == Some(a.name.as_str()))
    };
    let (parents, culprits): (Vec<&ApplicationStatus>, Vec<&ApplicationStatus>) =
        unready.iter().copied().partition(|a| is_parent(a));
    let mut error = Error::new(
        ErrorKind::Unhealthy,
        format!("{} is up, but not healthy after {limit}", context.environment.name),
    );
    for application in culprits.iter().chain(&parents) {
        let mut text = format!(
            "{} is {} and {}",
            application.name, application.sync, application.health
        );
        if !has_seen(context, application) {
            text.push_str(" with an older commit, and has not seen the new one yet");
        }
        for reason in &application.reasons {
            text.push_str(&format!("\n{reason}"));
        }
        error = error.cause(text);
    }
    if unready.is_empty() {
        error = error.cause("not every root Application is there");
    }
    error
        .hint(format!(
            "mend it in Git (cd/), then run `mfsre up {}` again",
            context.environment.name
        ))
        .hint(format!("look closer: mfsre status {}", context.environment.name))
}
