use std::path::Path;
use std::time::Duration;

use super::Cloud;
use crate::error::{Error, ErrorKind, IoContext as _, Result, remove_file};
use crate::ops::Context;
use crate::render::tree::write_atomically;
use crate::terraform::{Destroyed, Plan, PlanCounts, TerraformEvent};
use crate::tfe::{Archive, Bookmark, Follow, Run, RunPhase, RunRequest, Watch};
use crate::workflow::Progress;

/// Lines of a log that an error shows where the log says nothing better.
const SHOWN_LINES: usize = 20;

/// A plan at the host, with a bookmark in place of its file.
pub(in crate::ops) async fn plan(
    context: &Context,
    destroy: bool,
    speculative: bool,
    progress: Progress<'_>,
) -> Result<Plan> {
    let cloud = cloud(context)?;
    let name = if destroy { "destroy" } else { "apply" };
    let path = context
        .private()
        .join(format!("{}.tfplan", if speculative { "speculative" } else { name }));
    let archive = archive(context)?;
    let verb = if destroy { "down" } else { "up" };
    let message = format!(
        "mfsre {verb} {}, configuration {}",
        context.environment.name,
        &archive.digest[..16]
    );
    let run = match unfinished(cloud, &path, &message, progress).await? {
        Some(run) => run,
        None => start(context, cloud, &archive, &message, (destroy, speculative), progress).await?,
    };
    // Written before anything is waited for: whoever runs the command again follows this very run.
    keep(&path, &Bookmark::new(&run.id, cloud.tfe.hostname()))?;
    progress.note(format!(
        "run {}: {}",
        run.id,
        cloud.tfe.run_url(&cloud.workspace, &run.id)
    ));
    let mut log = Log::new(progress);
    // Nobody overrides a policy for a plan that is only looked at.
    let patience = if speculative {
        Duration::ZERO
    } else {
        context.options.timeout
    };
    let (tfe, cancellation) = (&cloud.tfe, &context.cancellation);
    let run = tfe
        .follow(
            &cloud.workspace,
            &run.id,
            Follow::Plan,
            patience,
            cancellation,
            &mut log,
        )
        .await?;
    match run.phase {
        RunPhase::NeedsConsent | RunPhase::Applying | RunPhase::Applied | RunPhase::PlanOnly => {}
        RunPhase::PolicyFailed => progress.warn(format!(
            "this plan would have to wait for a person: {} failed",
            tfe.failed_policies(&run).await?.join(", ")
        )),
        _ => return Err(ended(cloud, &run, log.said).await?),
    }
    let changes = tfe.changes(&run).await?;
    Ok(Plan {
        path,
        counts: PlanCounts {
            add: changes.add,
            change: changes.change,
            destroy: changes.destroy,
        },
        has_changes: run.has_changes,
        destroyed: log.said.destroyed,
    })
}

/// Applies a plan that the host keeps, and follows it to its end.
pub(in crate::ops) async fn apply(
    context: &Context,
    plan: &Plan,
    progress: Progress<'_>,
    on_event: &mut (dyn FnMut(&TerraformEvent) + Send),
) -> Result<()> {
    let cloud = cloud(context)?;
    let run = kept(cloud, &plan.path).await?;
    let mut log = Log::new(progress);
    log.on_event = Some(on_event);
    if run.phase == RunPhase::NeedsConsent && run.may_apply {
        cloud.tfe.confirm(&run, "by mfsre").await?;
    }
    let patience = context.options.timeout;
    let follow = cloud.tfe.follow(
        &cloud.workspace,
        &run.id,
        Follow::Apply,
        patience,
        &context.cancellation,
        &mut log,
    );
    let run = follow.await?;
    if run.phase != RunPhase::Applied {
        return Err(ended(cloud, &run, log.said).await?);
    }
    // A plan that was applied cannot be applied again.
    remove_file(&plan.path)
}

/// Whether a plan has consent already: a workspace may be set to apply by itself, and a run that was cut off may have had it.
pub(in crate::ops) async fn has_consent(context: &Context, plan: &Plan) -> Result<bool> {
    let run = kept(cloud(context)?, &plan.path).await?;
    Ok(matches!(run.phase, RunPhase::Applying | RunPhase::Applied))
}

/// Discards a plan to which somebody said no.
pub(in crate::ops) async fn decline(context: &Context, plan: &Plan) -> Result<()> {
    let cloud = cloud(context)?;
    let run = kept(cloud, &plan.path).await?;
    cloud.tfe.give_up(&run, "declined").await?;
    remove_file(&plan.path)
}

fn cloud(context: &Context) -> Result<&Cloud> {
    context.cloud.as_ref().ok_or_else(|| {
        Error::failed("the workspace of HCP Terraform is not known at this point of the operation")
            .hint("this is a fault of mfsre; please report it")
    })
}

/// The root module and its modules, as they were rendered. Nothing else of the project leaves the machine.
fn archive(context: &Context) -> Result<Archive> {
    let infra = Path::new("infra").join(context.environment.name.as_str());
    let files = context.tree()?.files();
    let files = files.filter(|(path, _)| path.starts_with(&infra) || path.starts_with("modules"));
    Archive::of(files).or_cannot(|| "make the archive for HCP Terraform".into())
}

fn keep(path: &Path, bookmark: &Bookmark) -> Result<()> {
    let text = serde_json::to_vec(bookmark).unwrap_or_default();
    write_atomically(path, &text)
}

/// The run of a bookmark.
async fn kept(cloud: &Cloud, path: &Path) -> Result<Run> {
    let bookmark = Bookmark::read(path, cloud.tfe.hostname());
    let run = match &bookmark {
        Some(bookmark) => cloud.tfe.run(&bookmark.run_id).await?,
        None => None,
    };
    run.ok_or_else(|| {
        Error::failed(format!(
            "the run of {} is not at {} any more",
            path.display(),
            cloud.tfe.hostname()
        ))
        .hint("run the same command again: it makes a new plan")
    })
}

/// The run that an earlier call left unfinished, if it is to be gone on with: it applies, or it is a plan of the same files.
async fn unfinished(cloud: &Cloud, path: &Path, message: &str, progress: Progress<'_>) -> Result<Option<Run>> {
    let tfe = &cloud.tfe;
    let Some(bookmark) = Bookmark::read(path, tfe.hostname()) else {
        return Ok(None);
    };
    let Some(run) = tfe.run(&bookmark.run_id).await? else {
        return Ok(None);
    };
    let follows = match run.phase {
        RunPhase::Applying => true,
        RunPhase::Planning | RunPhase::NeedsOverride | RunPhase::NeedsConsent => run.message == message,
        _ => return Ok(None),
    };
    if follows {
        progress.note(format!(
            "the run {} is unfinished ({}); going on with it",
            run.id, run.status
        ));
        return Ok(Some(run));
    }
    // It holds up nothing, but nobody will want it any more.
    if let Err(error) = tfe.give_up(&run, "the configuration has changed").await {
        progress.warn(format!("{error}: {}", error.message));
    }
    Ok(None)
}

async fn start(
    context: &Context,
    cloud: &Cloud,
    archive: &Archive,
    message: &str,
    (destroy, speculative): (bool, bool),
    progress: Progress<'_>,
) -> Result<Run> {
    let tfe = &cloud.tfe;
    let request = RunRequest {
        message,
        destroy,
        speculative,
    };
    if cloud.follows().is_some() && !speculative {
        if !destroy && let Some(commit) = &context.revision {
            progress.say(format!("waiting until {} sees the commit {commit}", tfe.hostname()));
            match tfe.run_of_commit(&cloud.workspace, commit).await? {
                Some(run) if matches!(run.phase, RunPhase::Planning | RunPhase::NeedsOverride | RunPhase::NeedsConsent | RunPhase::Applying) => {
                    return Ok(run);
                }
                Some(_) => {}
                None => progress.note(format!(
                    "{} made no run of {commit}, as for a commit that touches none of the workspace's files; a run of its latest configuration is made",
                    tfe.hostname()
                )),
            }
        }
        return Ok(tfe.create_run(&cloud.workspace, None, request).await?);
    }
    progress.say("uploading the configuration");
    let configuration = tfe.upload_configuration(&cloud.workspace, archive, speculative).await?;
    Ok(tfe.create_run(&cloud.workspace, Some(&configuration), request).await?)
}

/// Why a run did not come to a good end.
async fn ended(cloud: &Cloud, run: &Run, said: Said) -> Result<Error> {
    let url = cloud.tfe.run_url(&cloud.workspace, &run.id);
    let error = |kind: ErrorKind, how: &str| Error::new(kind, format!("the run {} {how}", run.id));
    let mut shown = match run.phase {
        RunPhase::Discarded => {
            error(ErrorKind::Interrupted, "was discarded").hint("nothing was changed; run the same command again for a new plan")
        }
        RunPhase::Canceled => error(ErrorKind::Interrupted, "was cancelled")
            .hint("what was done by then is in the state; run the same command again to go on"),
        RunPhase::NeedsOverride => error(ErrorKind::Failed, "waits for a person to override a policy")
            .cause(format!("failed: {}", cloud.tfe.failed_policies(run).await?.join(", ")))
            .hint("somebody who may has to override or discard it there; run the same command again: it goes on with this run"),
        RunPhase::NeedsConsent => error(ErrorKind::Failed, "waits for the approval of somebody who may apply it")
            .hint("have it approved or discarded there; run the same command again: it goes on with this run"),
        RunPhase::Errored => {
            let failed = cloud.tfe.failed_policies(run).await.unwrap_or_default();
            let mut shown = error(ErrorKind::Failed, "failed")
                .hint("what was done so far is in the state: mend the cause and run the same command again");
            shown.causes.extend(said.diagnostics.iter().cloned());
            if said.diagnostics.is_empty() && !failed.is_empty() {
                shown.causes.push(format!("policies that cannot be overridden: {}", failed.join(", ")));
            } else if said.diagnostics.is_empty() && !said.tail.is_empty() {
                shown.causes.push(said.tail.join("\n"));
            }
            shown
        }
        _ => error(ErrorKind::Failed, &format!("ended as {}", run.status)).hint("look at it there"),
    };
    shown.hints.insert(0, url);
    Ok(shown)
}

/// Reads a run's log.
struct Log<'a> {
    progress: Progress<'a>,
    on_event: Option<&'a mut (dyn FnMut(&TerraformEvent) + Send)>,
    said: Said,
}

/// What a log said that an error may want to show.
#[derive(Default)]
struct Said {
    diagnostics: Vec<String>,
    destroyed: Vec<Destroyed>,
    /// The last lines that are no events.
    tail: Vec<String>,
}

impl<'a> Log<'a> {
    fn new(progress: Progress<'a>) -> Self {
        Self {
            progress,
            on_event: None,
            said: Said::default(),
        }
    }
}

impl Watch for Log<'_> {
    fn line(&mut self, line: &str) {
        let Ok(event) = serde_json::from_str::<TerraformEvent>(line) else {
            self.said.tail.push(line.to_owned());
            if self.said.tail.len() > SHOWN_LINES {
                self.said.tail.remove(0);
            }
            self.progress.say(line);
            return;
        };
        if let TerraformEvent::Diagnostic { diagnostic } = &event
            && diagnostic.severity == "error"
        {
            self.said.diagnostics.push(diagnostic.to_string());
        }
        self.said.destroyed.extend(Destroyed::planned(&event));
        match (&mut self.on_event, &event) {
            (Some(on_event), event) => on_event(event),
            (None, event) => crate::ops::infrastructure::tell_planning(event, self.progress),
        }
    }

    fn waiting(&mut self, what: &str) {
        self.progress.note(what);
    }
}
