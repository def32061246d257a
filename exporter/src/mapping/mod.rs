//! From a JSON document to samples.

mod capture;
mod metric;
mod path;
mod plan;
mod value;

use std::collections::HashSet;
use std::ops::Range;

pub(crate) use metric::{Kind, MetricSpec, Moment, Template, ValueSpec};
pub(crate) use path::{Path, PathError, Root};
pub(crate) use value::number;

use capture::{Capture, Found, Unreadable};
use metric::Metric;
use plan::Plan;

/// The metrics of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) name: Box<str>,
    pub(crate) help: Box<str>,
    pub(crate) kind: Kind,
    pub(crate) unit: Option<Box<str>>,
}

/// A mapping, ready to be applied to documents.
#[derive(Debug)]
pub(crate) struct Mapping {
    plan: Plan,
    families: Vec<Family>,
    /// In the order of their families.
    metrics: Vec<Metric>,
}

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Where its labels stand in the batch's text: `{a="b"}`, or nothing.
    labels: Range<u32>,
    pub(crate) value: f64,
    /// When the value was true, in milliseconds since 1970, where the document says so.
    pub(crate) timestamp: Option<i64>,
    /// When the counter began at 0, in seconds since 1970, where that is known.
    pub(crate) created: Option<f64>,
}

/// The samples of one document, by family.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Batch {
    text: String,
    samples: Vec<Sample>,
    /// For each family, where its samples end.
    ends: Vec<usize>,
}

impl Batch {
    /// The samples of the mapping's family with this index.
    pub(crate) fn family(&self, family: usize) -> &[Sample] {
        let begin = family.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.samples[begin..self.ends[family]]
    }

    /// The same, to be changed.
    pub(crate) fn family_mut(&mut self, family: usize) -> (&str, &mut [Sample]) {
        let begin = family.checked_sub(1).map_or(0, |before| self.ends[before]);
        (&self.text, &mut self.samples[begin..self.ends[family]])
    }

    /// The labels of a sample as they are written out: `{a="b"}`, or nothing.
    pub(crate) fn labels(&self, sample: &Sample) -> &str {
        sample.labels_in(&self.text)
    }
}

impl Sample {
    pub(crate) fn labels_in<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.labels.start as usize..self.labels.end as usize)
            .unwrap_or_default()
    }
}

/// How much one document may give.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Samples, and elements that are looked at.
    pub(crate) samples: usize,
    /// Bytes of the samples' labels together. One long text in a document may be a label of each.
    pub(crate) labels: usize,
}

/// Why a document gave no samples.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExtractError {
    #[error("the body is not JSON: {0}")]
    Malformed(String),
    #[error("the body has a number that is not finite: {0}")]
    NotFinite(String),
    #[error("the body is nested deeper than {limit} levels", limit = capture::MAX_DEPTH)]
    TooDeep,
    #[error("the body gives more than {0} samples or elements; raise --max-samples if that is meant")]
    TooMany(usize),
    #[error("the labels of the samples together are longer than {0} bytes, twice --max-body")]
    LabelsTooLong(usize),
    #[error("{metric}: nothing at {path}; set `optional: true` or a `default` if that may be")]
    Missing { metric: String, path: String },
    #[error("{metric}: {problem} at {path}")]
    Invalid {
        metric: String,
        path: String,
        problem: String,
    },
    #[error("{metric}{labels} occurs twice; give the elements a label that tells them apart")]
    Duplicate { metric: String, labels: String },
}

/// A mapping that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct MappingError {
    /// The metric, by its place in the list.
    pub(crate) metric: usize,
    pub(crate) message: String,
}

impl Mapping {
    /// Builds a mapping from metrics that were checked one by one.
    pub(crate) fn new(specs: &[MetricSpec]) -> Result<Self, MappingError> {
        let mut plan = Plan::new();
        let mut families: Vec<Family> = Vec::new();
        let mut metrics = Vec::new();
        for (at, spec) in specs.iter().enumerate() {
            let family = Family {
                name: spec.name.as_str().into(),
                help: spec.help.as_str().into(),
                kind: spec.kind,
                unit: spec.unit.as_deref().map(Into::into),
            };
            let error = |message| MappingError { metric: at, message };
            let index = match families.iter().position(|known| known.name == family.name) {
                Some(index) if families[index] == family => index,
                Some(_) => {
                    return Err(error(format!(
                        "{} is there before with another help, type or unit; they must be the same",
                        spec.name
                    )));
                }
                None => {
                    families.push(family);
                    families.len() - 1
                }
            };
            metrics.push(Metric::new(spec, index, &mut plan).map_err(error)?);
        }
        metrics.sort_by_key(|metric| metric.family);
        Ok(Self {
            plan,
            families,
            metrics,
        })
    }

    /// The families, in the order in which the mapping names them.
    pub(crate) fn families(&self) -> &[Family] {
        &self.families
    }

    /// The samples of a document.
    ///
    /// `labels` is put before each sample's own labels, as in `a="b",c="d"`.
    pub(crate) fn apply(&self, document: &[u8], labels: &str, bounds: Bounds) -> Result<Batch, ExtractError> {
        let limit = bounds.samples;
        let capture = Capture::read(&self.plan, document, limit).map_err(|unreadable| match unreadable {
            Unreadable::Malformed(message) => ExtractError::Malformed(message),
            Unreadable::NotFinite(message) => ExtractError::NotFinite(message),
            Unreadable::TooDeep => ExtractError::TooDeep,
            Unreadable::TooManyElements => ExtractError::TooMany(limit),
        })?;
        let mut batch = Batch::default();
        batch.samples.reserve_exact(self.metrics.len());
        let mut metrics = self.metrics.iter().peekable();
        for (index, family) in self.families.iter().enumerate() {
            let begin = batch.samples.len();
            while let Some(metric) = metrics.next_if(|metric| metric.family == index) {
                metric.samples(family, &capture, labels, bounds.labels, &mut batch)?;
                if batch.samples.len() > limit {
                    return Err(ExtractError::TooMany(limit));
                }
            }
            let added = &batch.samples[begin..];
            if added.len() > 1 {
                let mut seen = HashSet::with_capacity(added.len());
                if let Some(twice) = added.iter().find(|sample| !seen.insert(batch.labels(sample))) {
                    return Err(ExtractError::Duplicate {
                        metric: family.name.to_string(),
                        labels: batch.labels(twice).to_owned(),
                    });
                }
            }
            batch.ends.push(batch.samples.len());
        }
        Ok(batch)
    }
}

/// Appends a label's value as the formats want it: `\`, `"` and line ends escaped.
pub(crate) fn escape_label(value: &str, out: &mut String) {
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'"' => "\\\"",
            _ => "\\n",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests;
