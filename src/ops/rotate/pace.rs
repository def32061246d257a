use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

/// Time as the steps see it, so that a test need not wait.
pub(in crate::ops) trait Pace: Send + Sync {
    /// How long it is since some moment in the past.
    fn elapsed(&self) -> Duration;

    /// Waits.
    fn pause(&self, duration: Duration) -> BoxFuture<'_, ()>;
}

/// The time of this machine.
pub(in crate::ops) struct RealTime(Instant);

impl RealTime {
    /// Counted from now.
    pub(in crate::ops) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Pace for RealTime {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn pause(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
