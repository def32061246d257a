//! Since when a target's counters count.

use std::collections::HashMap;
use std::sync::Arc;

use crate::mapping::{Batch, Kind, Mapping};

/// The last samples of one target.
#[derive(Debug, Default)]
pub(super) struct History {
    last: Option<Arc<Batch>>,
}

impl History {
    /// Gives the counters of a batch the time at which they began at 0, where that is known: either the document says so, or
    /// a counter was seen to be lower than the time before. `asked_at` is when this batch was asked for, in seconds since
    /// 1970.
    ///
    /// Nothing is said about a counter that was never seen to begin, since it may be older than this process: Prometheus
    /// takes a counter to be 0 at that time and would see all of its requests come at once.
    pub(super) fn follow(&mut self, mut batch: Batch, mapping: &Mapping, asked_at: f64) -> Arc<Batch> {
        if let Some(last) = &self.last {
            for (index, family) in mapping.families().iter().enumerate() {
                if family.kind == Kind::Counter {
                    follow_family(last, &mut batch, index, asked_at);
                }
            }
        }
        let batch = Arc::new(batch);
        self.last = Some(Arc::clone(&batch));
        batch
    }
}

fn follow_family(last: &Batch, batch: &mut Batch, family: usize, asked_at: f64) {
    let before = last.family(family);
    // Elements usually keep their order.
    let mut by_labels = None;
    let (text, samples) = batch.family_mut(family);
    for (at, sample) in samples.iter_mut().enumerate() {
        if sample.created.is_some() {
            continue;
        }
        let labels = sample.labels_in(text);
        let previous = match before.get(at) {
            Some(previous) if last.labels(previous) == labels => Some(previous),
            _ => by_labels
                .get_or_insert_with(|| {
                    before
                        .iter()
                        .map(|previous| (last.labels(previous), previous))
                        .collect::<HashMap<_, _>>()
                })
                .get(labels)
                .copied(),
        };
        if let Some(previous) = previous {
            sample.created = if sample.value < previous.value {
                Some(asked_at)
            } else {
                previous.created
            };
        }
    }
}
