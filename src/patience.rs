//! How long an answer is waited for, and how often a call is tried.

use std::time::Duration;

use backon::ExponentialBuilder;

/// The patience with a service on the other side of a network.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Tries of a call that can be helped by trying again, the first one included.
    pub attempts: u32,
    /// Pause before the second try; it doubles with each further one, and chance changes it, so that many who were refused
    /// at once do not come back at once.
    pub first_pause: Duration,
    /// Longest pause between two tries.
    pub longest_pause: Duration,
    /// Longest time for one try.
    pub answer: Duration,
}

impl Patience {
    /// What is usual.
    pub const USUAL: Self = Self {
        attempts: 6,
        first_pause: Duration::from_millis(500),
        longest_pause: Duration::from_secs(20),
        answer: Duration::from_secs(30),
    };

    /// The pauses between the tries.
    pub(crate) fn pauses(&self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .with_max_times(usize::try_from(self.attempts.saturating_sub(1)).unwrap_or(usize::MAX))
    }
}
