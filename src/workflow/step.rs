use std::time::Instant;

use futures_util::future::BoxFuture;

use super::{Cancellation, Event, Journal, Outcome, Progress, Reporter};
use crate::error::{Error, Result};

/// Whether a step's result already stands in the real world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It stands; in a few words what was found.
    Stands(String),
    /// It does not.
    Needed,
    /// It does not and cannot, for this reason; later steps can do without.
    Impossible(String),
}

/// What running a step came to, in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// It did something.
    Changed(String),
    /// It found that nothing had to be done.
    Unchanged(String),
}

/// What a step's methods return.
pub type StepFuture<'a, T> = BoxFuture<'a, Result<T>>;

/// A part of an operation over the context `C`. Every step may be killed at any instant and repeated.
pub trait Step<C>: Send + Sync {
    /// Stable name, for the journal, JSON output and scripts.
    fn id(&self) -> &'static str;

    /// What it will do, in a few words.
    fn describe(&self) -> String;

    /// Looks at the real world.
    fn probe<'a>(&'a self, context: &'a mut C, progress: Progress<'a>) -> StepFuture<'a, Probe>;

    /// Brings the result about. A step that only looks never comes to this.
    fn run<'a>(&'a self, _context: &'a mut C, _progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async { Ok(Ran::Unchanged(String::new())) })
    }

    /// Whether it can be dropped in the middle when the user wants to stop. A step that owns a child process which must
    /// be waited for says no and listens for itself.
    fn droppable(&self) -> bool {
        true
    }
}

/// The steps of an operation, in order.
pub type Steps<C> = Vec<Box<dyn Step<C>>>;

/// Performs the steps in order; returns how many changed something.
///
/// # Errors
/// The first step that fails ends it; the steps before it stand.
pub async fn perform<C: Send>(
    steps: &[Box<dyn Step<C>>],
    context: &mut C,
    journal: &mut Journal,
    reporter: &dyn Reporter,
    cancellation: &Cancellation,
) -> Result<usize> {
    let mut changed = 0;
    for step in steps {
        if cancellation.is_cancelled() {
            return Err(Error::interrupted());
        }
        let started = Instant::now();
        let id = step.id();
        let progress = Progress::new(reporter, id);
        // Looking is part of the work: a plan is made by a probe.
        journal.begin(id)?;
        reporter.report(Event::StepStarted {
            step: id,
            describe: step.describe(),
        });
        let result = one(step.as_ref(), context, journal, progress, cancellation).await;
        let elapsed = started.elapsed();
        match result {
            Ok((outcome, detail)) => {
                changed += usize::from(outcome == Outcome::Changed);
                reporter.report(Event::StepFinished {
                    step: id,
                    outcome,
                    detail,
                    elapsed,
                });
            }
            Err(error) => {
                // Why the step failed is what counts, not that it cannot be noted, as on a full disk.
                let _ = journal.failed(id);
                reporter.report(Event::StepFailed { step: id, elapsed });
                return Err(error);
            }
        }
    }
    journal.complete()?;
    Ok(changed)
}

/// Has a debug build panic in the step that the environment names: no input is known to make the program do so.
#[cfg(debug_assertions)]
#[allow(clippy::panic, reason = "it is what tests ask for")]
fn panic_for_tests(step: &str) {
    if std::env::var_os("MFSRE_TEST_PANIC").is_some_and(|wanted| wanted == step) {
        panic!("a test asked for it");
    }
}

async fn one<C: Send>(
    step: &dyn Step<C>,
    context: &mut C,
    journal: &mut Journal,
    progress: Progress<'_>,
    cancellation: &Cancellation,
) -> Result<(Outcome, String)> {
    let probed = if step.droppable() {
        tokio::select! {
            probed = step.probe(context, progress) => probed?,
            () = cancellation.cancelled() => return Err(Error::interrupted()),
        }
    } else {
        step.probe(context, progress).await?
    };
    let done = match probed {
        Probe::Stands(detail) => (Outcome::Unchanged, detail),
        Probe::Impossible(reason) => (Outcome::Skipped, reason),
        Probe::Needed => {
            #[cfg(debug_assertions)]
            panic_for_tests(step.id());
            let ran = if step.droppable() {
                tokio::select! {
                    ran = step.run(context, progress) => ran?,
                    () = cancellation.cancelled() => return Err(Error::interrupted()),
                }
            } else {
                step.run(context, progress).await?
            };
            match ran {
                Ran::Changed(detail) => (Outcome::Changed, detail),
                Ran::Unchanged(detail) => (Outcome::Unchanged, detail),
            }
        }
    };
    journal.end(step.id())?;
    Ok(done)
}
