//! What is known about the targets at this moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Module, Target};
use crate::exposition::{Encoder, Type};
use crate::mapping::{Batch, escape_label};

/// The right to report on one target. Nobody else has it at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim(u64);

/// What is known about the targets.
#[derive(Debug)]
pub(crate) struct Board {
    /// The modules of all targets.
    modules: Vec<Arc<Module>>,
    /// Each name of a metric once.
    families: Vec<Exposed>,
    /// Samples that are older than this are not shown, even if nobody took them back.
    max_age: Duration,
    state: Mutex<State>,
}

/// A family, by its place in each module's mapping that has it.
#[derive(Debug)]
struct Exposed {
    at: Vec<Option<usize>>,
}

#[derive(Debug, Default)]
struct State {
    claims: u64,
    /// By labels, as they are written out.
    targets: BTreeMap<Arc<str>, Entry>,
    /// Number of addresses of each URL.
    addresses: BTreeMap<usize, (String, usize)>,
}

#[derive(Debug, Clone)]
struct Entry {
    claim: Claim,
    module: Arc<Module>,
    /// When it was last polled.
    polled: Option<Instant>,
    /// When it last gave samples.
    succeeded: Option<Instant>,
    batch: Option<Arc<Batch>>,
}

impl Board {
    pub(crate) fn new(targets: &[Target], max_age: Duration) -> Self {
        let mut modules: Vec<Arc<Module>> = Vec::new();
        for target in targets {
            if !modules.iter().any(|known| Arc::ptr_eq(known, &target.module)) {
                modules.push(Arc::clone(&target.module));
            }
        }
        let mut families: Vec<Exposed> = Vec::new();
        let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, module) in modules.iter().enumerate() {
            for (index, family) in module.mapping.families().iter().enumerate() {
                let exposed = *by_name.entry(&family.name).or_insert_with(|| {
                    families.push(Exposed {
                        at: vec![None; modules.len()],
                    });
                    families.len() - 1
                });
                families[exposed].at[at] = Some(index);
            }
        }
        drop(by_name);
        Self {
            families,
            max_age,
            state: Mutex::default(),
            modules,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to report on the target with these labels, unless somebody has it.
    pub(super) fn claim(&self, labels: &Arc<str>, module: &Arc<Module>) -> Option<Claim> {
        let mut state = self.state();
        if state.targets.contains_key(labels) {
            return None;
        }
        state.claims += 1;
        let claim = Claim(state.claims);
        state.targets.insert(
            Arc::clone(labels),
            Entry {
                claim,
                module: Arc::clone(module),
                polled: None,
                succeeded: None,
                batch: None,
            },
        );
        Some(claim)
    }

    /// The target is gone, and its series with it.
    pub(super) fn release(&self, claim: Claim) {
        self.state().targets.retain(|_, entry| entry.claim != claim);
    }

    /// What a poll brought; `None` takes the series back.
    pub(super) fn report(&self, claim: Claim, batch: Option<Arc<Batch>>) {
        let now = Instant::now();
        let mut state = self.state();
        // A report that comes after the claim was released is late and counts for nothing.
        if let Some(entry) = state.targets.values_mut().find(|entry| entry.claim == claim) {
            entry.polled = Some(now);
            if batch.is_some() {
                entry.succeeded = Some(now);
            }
            entry.batch = batch;
        }
    }

    /// To how many addresses a URL leads.
    pub(super) fn set_addresses(&self, index: usize, url: &str, number: usize) {
        self.state().addresses.insert(index, (url.to_owned(), number));
    }

    /// Writes the targets' samples, and what there is to say about the targets.
    pub(crate) fn write(&self, encoder: &mut Encoder) {
        let now = Instant::now();
        let (targets, addresses) = {
            let state = self.state();
            (state.targets.clone(), state.addresses.clone())
        };
        let targets: Vec<(Arc<str>, usize, Entry)> = targets
            .into_iter()
            .filter(|(_, entry)| entry.polled.is_some())
            .map(|(labels, mut entry)| {
                if entry.succeeded.is_none_or(|at| now.duration_since(at) > self.max_age) {
                    entry.batch = None;
                }
                let module = self
                    .modules
                    .iter()
                    .position(|module| Arc::ptr_eq(module, &entry.module));
                (labels, module.unwrap_or_default(), entry)
            })
            .collect();
        for exposed in &self.families {
            let named = exposed
                .at
                .iter()
                .zip(&self.modules)
                .find_map(|(index, module)| index.and_then(|index| module.mapping.families().get(index)));
            let Some(family) = named else { continue };
            encoder.family(&family.name, &family.help, family.kind.into(), family.unit.as_deref());
            for (_, module, entry) in &targets {
                if let (Some(index), Some(batch)) = (exposed.at[*module], &entry.batch) {
                    encoder.batch(family, index, batch);
                }
            }
        }
        encoder.family(
            "exporter_target_up",
            "Whether the last poll of the target gave all of its samples.",
            Type::Gauge,
            None,
        );
        for (labels, _, entry) in &targets {
            let up = f64::from(u8::from(entry.batch.is_some()));
            encoder.sample("exporter_target_up", "", &format!("{{{labels}}}"), up);
        }
        encoder.family(
            "exporter_target_data_age_seconds",
            "Time since the target last gave samples.",
            Type::Gauge,
            Some("seconds"),
        );
        for (labels, _, entry) in &targets {
            if let Some(at) = entry.succeeded {
                let age = now.duration_since(at).as_secs_f64();
                encoder.sample("exporter_target_data_age_seconds", "", &format!("{{{labels}}}"), age);
            }
        }
        encoder.family(
            "exporter_url_addresses",
            "Number of addresses that are polled for the URL.",
            Type::Gauge,
            None,
        );
        for (index, (url, number)) in addresses {
            let mut labels = format!("{{index=\"{index}\",url=\"");
            escape_label(&url, &mut labels);
            labels.push_str("\"}");
            encoder.sample(
                "exporter_url_addresses",
                "",
                &labels,
                f64::from(u32::try_from(number).unwrap_or(u32::MAX)),
            );
        }
    }
}
