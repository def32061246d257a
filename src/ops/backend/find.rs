//! Finds the state before anything is planned, and makes sure that it is the right one.

use super::migrate::remove_local;
use super::place::{is_missing, open_former};
use super::{create, record};
use crate::config::Backend;
use crate::error::{Error, ErrorKind, IoContext as _, Result};
use crate::ops::Context;
use crate::terraform::State;
use crate::text::counted;
use crate::workflow::{Probe, Progress, Step, StepFuture};

/// Finds the state: sets up the root module, and refuses to go on with a state that is not the environment's.
pub(in crate::ops) struct FindState;

impl Step<Context> for FindState {
    fn id(&self) -> &'static str {
        "state"
    }

    fn describe(&self) -> String {
        "find the state".into()
    }

    fn droppable(&self) -> bool {
        false
    }

    fn probe<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let state = find_state(context, progress).await?;
            let resources = match state {
                Some(state) if state.resources > 0 => counted(state.resources, "resource"),
                _ => "nothing in it yet".into(),
            };
            Ok(Probe::Stands(format!("{}, {resources}", context.environment.backend)))
        })
    }
}

/// The state of the environment; `None` where there is none yet. Afterwards the root module is set up for it.
///
/// # Errors
/// The backend is not the one in which the state was, the state was moved away, or it cannot be read.
async fn find_state(context: &mut Context, progress: Progress<'_>) -> Result<Option<State>> {
    let wanted = context.environment.backend.clone();
    if let Some(former) = record::former(&context.project, &context.environment)
        && !former.holds_the_same(&wanted)
    {
        left_nothing(context, &former, &wanted, progress).await?;
    }
    if context.environment.is_sandbox() && matches!(wanted, Backend::S3 { .. }) {
        // The emulator keeps everything in memory, so each start of it has no buckets.
        create::ensure_bucket(context, progress).await?;
    }
    progress.say(format!("{} init", context.program()?.flavour.name()));
    let cancellation = context.cancellation.clone();
    context.workspace()?.init(&cancellation).await?;
    record::remember(&context.project, &context.environment, &wanted)?;
    recover(context, progress).await?;
    progress.say(wanted.to_string());
    let state = context.workspace()?.pull(&cancellation).await?;
    if let Some(moved_to) = state.as_ref().and_then(|state| state.moved_to.as_ref()) {
        let name = &context.environment.name;
        return Err(Error::new(
            ErrorKind::Configuration,
            format!("the state of {name} is not in {wanted} any more"),
        )
        .cause(format!("it was moved to {moved_to}"))
        .hint(format!(
            "somebody has changed the backend: take over their environments/{name}.yaml (git pull), and run the same command again"
        )));
    }
    Ok(state)
}

/// Makes sure that no state would be left behind in the backend that the environment had before.
async fn left_nothing(context: &Context, former: &Backend, wanted: &Backend, progress: Progress<'_>) -> Result<()> {
    let name = &context.environment.name;
    progress.say(former.to_string());
    let looked = async {
        match open_former(context, context.program()?, former).await? {
            Some(place) => place.pull().await,
            None => Ok(None),
        }
    };
    let state = match looked.await {
        Ok(state) => state,
        Err(error) if is_missing(&error) => None,
        Err(error) if error.kind == ErrorKind::Failed => {
            return Err(Error {
                message: format!(
                    "the backend of {name} was {former}, is {wanted} now, and whether a state is left there cannot be seen: {}",
                    error.message
                ),
                ..error
            });
        }
        Err(error) => return Err(error),
    };
    let moved = state.as_ref().is_some_and(|state| state.moved_to.is_some());
    let Some(state) = state.filter(|state| !state.is_empty()) else {
        // A move that was cut off right before its end.
        if moved && matches!(former, Backend::Local { .. }) {
            remove_local(context, former.is_same_place(wanted))?;
        }
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::Configuration,
        format!("the state of {name} is still in {former}"),
    )
    .cause(format!(
        "environments/{name}.yaml says {wanted} now; with that, the {} in the state would be created a second time",
        counted(state.resources, "resource")
    ))
    .hint(format!(
        "move it with `mfsre backend migrate {name}`, or set `backend` back to what it was"
    )))
}

/// Takes up a state that an apply could not save where it belongs, because the network or the backend was away.
async fn recover(context: &Context, progress: Progress<'_>) -> Result<()> {
    let infra = context.project.infra(context.environment.name.as_str());
    let unsaved = infra.join("errored.tfstate");
    let text = match std::fs::read_to_string(&unsaved) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).or_cannot(|| format!("read {}", unsaved.display())),
    };
    let state = State::read(text)
        .map_err(std::io::Error::from)
        .or_cannot(|| format!("read {}", unsaved.display()))?;
    progress.say("saving the state that the last apply could not save");
    if let Err(error) = context.workspace()?.push(&state, false, &context.cancellation).await {
        let error = Error::from(error);
        return Err(Error {
            message: format!(
                "the state that an earlier apply could not save cannot be saved now either: {}",
                error.message
            ),
            ..error
        }
        .hint(format!(
            "it is in {}; move that file away if it holds nothing that is needed any more",
            unsaved.display()
        )));
    }
    let backups = super::backups(context)?;
    let kept = backups.join(format!("unsaved-{}.tfstate", super::stamp()));
    std::fs::rename(&unsaved, &kept).or_cannot(|| format!("move {} to {}", unsaved.display(), kept.display()))?;
    progress.note(format!(
        "the state that the last apply could not save is saved now; a copy is in {}",
        kept.display()
    ));
    Ok(())
}
