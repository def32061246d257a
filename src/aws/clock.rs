use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;

/// Smallest difference that counts: an answer's date has whole seconds and was some time under way.
const NOTICEABLE: Duration = Duration::from_secs(5);

/// AWS's clock, as far as its answers tell.
///
/// The SDK signs its calls by it once this machine's clock was seen to be wrong, but nothing that is signed to be sent
/// later, as the cluster's tokens are: those are signed by this one.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock {
    /// Milliseconds by which AWS's clock is ahead of this machine's.
    ahead: Arc<AtomicI64>,
}

impl Clock {
    /// The time by AWS's clock; by this machine's, where AWS has not answered yet or the two agree.
    pub(super) fn now(&self) -> SystemTime {
        self.shift().now()
    }

    /// What is known now, for a call that corrects the rest itself.
    pub(super) fn shift(&self) -> Shift {
        Shift(self.ahead.load(Ordering::Relaxed))
    }

    /// Learns from the `Date` of an answer.
    fn learn(&self, date: &str) {
        let theirs = DateTime::from_str(date, Format::HttpDate).ok();
        let Some(theirs) = theirs.and_then(|date| date.to_millis().ok()) else {
            return;
        };
        let ours = DateTime::from(SystemTime::now()).to_millis().unwrap_or(theirs);
        self.ahead.store(theirs.saturating_sub(ours), Ordering::Relaxed);
    }
}

/// A clock that is ahead of this machine's by so many milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shift(i64);

impl TimeSource for Shift {
    fn now(&self) -> SystemTime {
        let now = SystemTime::now();
        let difference = Duration::from_millis(self.0.unsigned_abs());
        let shifted = match self.0 {
            _ if difference < NOTICEABLE => None,
            1.. => now.checked_add(difference),
            _ => now.checked_sub(difference),
        };
        shifted.unwrap_or(now)
    }
}

impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "Clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.learn(date);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_that_is_far_off_shifts_the_time_and_a_near_one_does_not() {
        let seconds_ahead = |by: i64| {
            let clock = Clock::default();
            let now = i64::try_from(
                SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap()
                    .as_secs(),
            )
            .unwrap();
            clock.learn(&DateTime::from_secs(now + by).fmt(Format::HttpDate).unwrap());
            let shifted = clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            i64::try_from(shifted).unwrap() - now
        };
        assert!((3598..=3601).contains(&seconds_ahead(3600)));
        assert!((-3602..=-3598).contains(&seconds_ahead(-3600)));
        assert!((0..=1).contains(&seconds_ahead(-2)));
        let clock = Clock::default();
        clock.learn("yesterday");
        assert_eq!(clock.ahead.load(Ordering::Relaxed), 0);
    }
}
