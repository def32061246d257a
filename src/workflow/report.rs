use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::error::Result;

/// What happens during an operation, as it happens. With `--output json` each is one line on standard output.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step begins.
    StepStarted {
        /// Stable name of the step.
        step: &'static str,
        /// What it will do.
        describe: String,
    },
    /// A step goes on.
    StepProgress {
        /// Stable name of the step.
        step: &'static str,
        /// What is at work now, a line each.
        message: String,
        /// Units done.
        #[serde(skip_serializing_if = "Option::is_none")]
        done: Option<u64>,
        /// Units in all.
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
    /// A step ended well.
    StepFinished {
        /// Stable name of the step.
        step: &'static str,
        /// What came of it.
        outcome: Outcome,
        /// In a few words.
        detail: String,
        /// Seconds it took.
        #[serde(serialize_with = "seconds")]
        elapsed: Duration,
    },
    /// A step failed; the error follows in the final document.
    StepFailed {
        /// Stable name of the step.
        step: &'static str,
        /// Seconds it took.
        #[serde(serialize_with = "seconds")]
        elapsed: Duration,
    },
    /// Something the user should know.
    Note {
        /// The text.
        message: String,
    },
    /// Something the user should look at.
    Warning {
        /// The text.
        message: String,
    },
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did something.
    Changed,
    /// Its result stood already.
    Unchanged,
    /// There was nothing it could do, for the reason in the detail.
    Skipped,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Hears what happens. The commands print it, a test records it.
pub trait Reporter: Send + Sync {
    /// Something happened.
    fn report(&self, event: Event);
}

/// Asks the user before something is changed.
pub trait Confirm: Send + Sync {
    /// Makes sure that `question` could be asked, before work is begun that leads to it.
    ///
    /// # Errors
    /// There is nobody to ask.
    fn possible(&self, question: &str) -> Result<()>;

    /// Whether to go on.
    ///
    /// # Errors
    /// There is nobody to ask, or the user stopped the operation instead of answering.
    fn confirm<'a>(&'a self, question: &'a str) -> BoxFuture<'a, Result<bool>>;
}

/// Progress of one step.
#[derive(Clone, Copy)]
pub struct Progress<'a> {
    reporter: &'a dyn Reporter,
    step: &'static str,
}

impl<'a> Progress<'a> {
    /// Reports for `step`.
    #[must_use]
    pub fn new(reporter: &'a dyn Reporter, step: &'static str) -> Self {
        Self { reporter, step }
    }

    /// Says what is at work.
    pub fn say(&self, message: impl Into<String>) {
        self.reporter.report(Event::StepProgress {
            step: self.step,
            message: message.into(),
            done: None,
            total: None,
        });
    }

    /// Says what is at work, and how far it is.
    pub fn count(&self, done: u64, total: u64, message: impl Into<String>) {
        self.reporter.report(Event::StepProgress {
            step: self.step,
            message: message.into(),
            done: Some(done),
            total: Some(total),
        });
    }

    /// Says something that outlives the step.
    pub fn note(&self, message: impl Into<String>) {
        self.reporter.report(Event::Note {
            message: message.into(),
        });
    }

    /// Says something the user should look at.
    pub fn warn(&self, message: impl Into<String>) {
        self.reporter.report(Event::Warning {
            message: message.into(),
        });
    }
}
