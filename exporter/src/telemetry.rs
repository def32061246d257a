//! The exporter's metrics about itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::exposition::{Encoder, Type};
use crate::fetch::Reason;

/// Upper bounds of the histograms' buckets, in seconds: from a target on the same machine to the longest time-out that
/// makes sense.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Counts durations.
#[derive(Debug, Default)]
struct Histogram(Mutex<Counts>);

#[derive(Debug, Default, Clone)]
struct Counts {
    /// How many lie in each bucket; the last one has no upper bound.
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.buckets[bucket] += 1;
        counts.sum += seconds;
    }

    fn write(&self, encoder: &mut Encoder, name: &str, help: &str) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        encoder.family(name, help, Type::Histogram, Some("seconds"));
        let mut total = 0;
        for (bound, count) in BOUNDS.iter().chain([&f64::INFINITY]).zip(counts.buckets) {
            total += count;
            let bound = if bound.is_finite() {
                format!("{bound:?}")
            } else {
                "+Inf".to_owned()
            };
            encoder.sample(name, "_bucket", &format!("{{le=\"{bound}\"}}"), float(total));
        }
        encoder.sample(name, "_sum", "", counts.sum);
        encoder.sample(name, "_count", "", float(total));
    }
}

/// Failures by reason.
#[derive(Debug, Default)]
struct Failures([AtomicU64; Reason::ALL.len()]);

impl Failures {
    fn count(&self, reason: Reason) {
        if let Some(at) = Reason::ALL.iter().position(|known| *known == reason) {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&self, encoder: &mut Encoder, name: &str, help: &str) {
        encoder.family(name, help, Type::Counter, None);
        for (reason, count) in Reason::ALL.iter().zip(&self.0) {
            let labels = format!("{{reason=\"{}\"}}", reason.as_str());
            encoder.sample(name, "", &labels, float(count.load(Ordering::Relaxed)));
        }
    }
}

/// What the exporter knows about its own work.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    polls: Histogram,
    poll_failures: Failures,
    probes: Histogram,
    probe_failures: Failures,
}

impl Telemetry {
    /// A poll of one target ended.
    pub(crate) fn polled(&self, duration: Duration, failure: Option<Reason>) {
        self.polls.observe(duration);
        if let Some(reason) = failure {
            self.poll_failures.count(reason);
        }
    }

    /// Something kept a target from being polled.
    pub(crate) fn not_polled(&self, reason: Reason) {
        self.poll_failures.count(reason);
    }

    /// A probe ended.
    pub(crate) fn probed(&self, duration: Duration, failure: Option<Reason>) {
        self.probes.observe(duration);
        if let Some(reason) = failure {
            self.probe_failures.count(reason);
        }
    }

    pub(crate) fn write(&self, encoder: &mut Encoder) {
        encoder.family(
            "exporter_build_info",
            "Version of the exporter; always 1.",
            Type::Gauge,
            None,
        );
        let labels = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
        encoder.sample("exporter_build_info", "", labels, 1.0);
        self.polls.write(
            encoder,
            "exporter_poll_duration_seconds",
            "Time from the request to the samples, of polls.",
        );
        self.poll_failures.write(
            encoder,
            "exporter_poll_errors_total",
            "Polls that gave no samples, look-ups that failed and targets that are there twice, by reason.",
        );
        self.probes.write(
            encoder,
            "exporter_probe_duration_seconds",
            "Time from the request to the samples, of probes.",
        );
        self.probe_failures.write(
            encoder,
            "exporter_probe_errors_total",
            "Probes that gave no samples, by reason.",
        );
    }
}

#[allow(clippy::cast_precision_loss)]
fn float(count: u64) -> f64 {
    count as f64
}
