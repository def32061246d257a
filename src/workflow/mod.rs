//! The engine under every operation: steps that describe themselves, look whether their result already stands, and
//! run. The truth is always the probe; the journal only says what was under way when a run was cut off.

mod journal;
mod lock;
mod report;
mod step;

pub use crate::cancellation::Cancellation;
pub use journal::{Journal, Unfinished};
pub use lock::{Lock, LockOwner};
pub use report::{Confirm, Event, Outcome, Progress, Reporter};
pub use step::{Probe, Ran, Step, StepFuture, Steps, perform};

#[cfg(test)]
mod tests;
