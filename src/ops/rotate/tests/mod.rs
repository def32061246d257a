//! Rotations against an outside that is kept in memory: cut off at every call, before and after it had its effect, run
//! twice at once in many orders, and watched all the time.

#![allow(
    clippy::print_stdout,
    reason = "the number of points that were cut off is part of what is shown"
)]

mod keys;
mod passwords;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::cancellation::Cancellation;
use crate::error::Result;
use crate::workflow::{Event, Journal, Reporter, Steps, perform};

/// When a call is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

/// Counts the calls of one process and cuts one of them off. Also mixes the order of two processes.
struct Calls {
    made: AtomicUsize,
    cut: Option<(usize, Moment)>,
    was_cut: Notify,
    /// Not zero: state of a generator that says how often others go first.
    order: AtomicU64,
}

impl Calls {
    fn new(cut: Option<(usize, Moment)>, order: u64) -> Self {
        Self {
            made: AtomicUsize::new(0),
            cut,
            was_cut: Notify::new(),
            order: AtomicU64::new(order),
        }
    }

    /// One call: its effect on the outside, unless it is cut off.
    async fn call<T>(&self, effect: impl FnOnce() -> T) -> T {
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        for _ in 0..self.others_first() {
            tokio::task::yield_now().await;
        }
        self.maybe_cut(number, Moment::Before).await;
        let result = effect();
        self.maybe_cut(number, Moment::After).await;
        result
    }

    async fn maybe_cut(&self, number: usize, moment: Moment) {
        if self.cut == Some((number, moment)) {
            self.was_cut.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// A linear congruential generator (Knuth's constants): the same seed gives the same order.
    fn others_first(&self) -> u64 {
        let seed = self.order.load(Ordering::SeqCst);
        if seed == 0 {
            return 0;
        }
        let next = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.order.store(next | 1, Ordering::SeqCst);
        match (next >> 33) % 16 {
            // Now and then a process is far behind.
            0 => 60,
            few => few % 3,
        }
    }
}

/// Writes down warnings and details.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Reporter for Recorder {
    fn report(&self, event: Event) {
        let line = match event {
            Event::StepFinished {
                step, outcome, detail, ..
            } => format!("{step} {outcome:?}: {detail}"),
            Event::Warning { message } => format!("warning: {message}"),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Recorder {
    fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Performs the steps to their end, or until the call that is cut off; `None` says that it was.
async fn process<C: Send>(
    steps: &Steps<C>,
    rotation: &mut C,
    calls: &Calls,
    recorder: &Recorder,
) -> Option<Result<()>> {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), "rotate").unwrap();
    let cancellation = Cancellation::default();
    tokio::select! {
        biased;
        () = calls.was_cut.notified() => None,
        done = perform(steps, rotation, &mut journal, recorder, &cancellation) => Some(done.map(|_| ())),
    }
}
