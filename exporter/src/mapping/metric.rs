//! One metric of a mapping.

use regex_lite::Regex;
use serde::Deserialize;

use super::capture::Capture;
use super::path::Path;
use super::plan::{DOCUMENT, Plan, Reference, Scope};
use super::value::{self, Scalar};
use super::{Batch, ExtractError, Family, Found, Sample, escape_label};

/// The type of a metric.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Only grows, or begins again.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Nothing is known about it.
    #[default]
    Untyped,
}

/// Where a metric's value comes from.
#[derive(Debug, Clone)]
pub(crate) enum ValueSpec {
    Constant(f64),
    Path(Path, String),
    /// How many elements the path finds.
    Count(Path, String),
}

/// A part of a label's value.
#[derive(Debug, Clone)]
pub(crate) enum Template {
    Text(String),
    Path(Path, String),
}

/// A point in time in the document.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) path: Path,
    pub(crate) written: String,
    /// Whether it counts milliseconds since 1970, not seconds.
    pub(crate) milliseconds: bool,
}

/// A metric as a configuration describes it.
#[derive(Debug, Clone)]
pub(crate) struct MetricSpec {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) kind: Kind,
    pub(crate) unit: Option<String>,
    /// One sample for each element of this, else one in all.
    pub(crate) each: Option<(Path, String)>,
    pub(crate) value: ValueSpec,
    pub(crate) labels: Vec<(String, Vec<Template>)>,
    pub(crate) scale: f64,
    pub(crate) map: Vec<(String, f64)>,
    pub(crate) default: Option<f64>,
    pub(crate) optional: bool,
    pub(crate) pattern: Option<Regex>,
    /// Whether a text is a time, whose seconds since 1970 are the value.
    pub(crate) time: bool,
    pub(crate) timestamp: Option<Moment>,
    pub(crate) created: Option<Moment>,
}

#[derive(Debug)]
enum Value {
    Constant(f64),
    Reference(Reference),
    Count {
        elements: Reference,
        /// The object or array that is looked into first: where it is missing, so is the number.
        container: Reference,
    },
}

/// A piece of the labels as they are written out.
#[derive(Debug)]
enum Piece {
    /// Already escaped: `",name="` and the like.
    Text(Box<str>),
    Reference(Reference),
}

#[derive(Debug)]
struct Instant {
    reference: Reference,
    milliseconds: bool,
}

/// A metric whose paths were put into a plan.
#[derive(Debug)]
pub(super) struct Metric {
    /// By its place in the mapping's list.
    pub(super) family: usize,
    scope: Scope,
    /// As it was written, for messages.
    each: Box<str>,
    value: Value,
    labels: Vec<Piece>,
    scale: f64,
    map: Vec<(String, f64)>,
    default: Option<f64>,
    optional: bool,
    pattern: Option<Regex>,
    time: bool,
    timestamp: Option<Instant>,
    created: Option<Instant>,
}

impl Metric {
    pub(super) fn new(spec: &MetricSpec, family: usize, plan: &mut Plan) -> Result<Self, String> {
        let scope = plan.scope(spec.each.as_ref().map(|(path, _)| path));
        let mut reference = |path: &Path, written: &str| {
            plan.reference(scope, path, written).ok_or_else(|| {
                format!(
                    "{}: {written} leads out of the document: `each` has fewer levels than that",
                    spec.name
                )
            })
        };
        let mut pieces = Vec::new();
        let mut text = String::new();
        for (at, (name, parts)) in spec.labels.iter().enumerate() {
            text.push_str(if at > 0 { "\"," } else { "" });
            text.push_str(name);
            text.push_str("=\"");
            for part in parts {
                match part {
                    Template::Text(part) => escape_label(part, &mut text),
                    Template::Path(path, written) => {
                        pieces.push(Piece::Text(std::mem::take(&mut text).into()));
                        pieces.push(Piece::Reference(reference(path, written)?));
                    }
                }
            }
        }
        if !spec.labels.is_empty() {
            text.push('"');
            pieces.push(Piece::Text(text.into()));
        }
        let mut instant = |moment: &Option<Moment>| match moment {
            None => Ok(None),
            Some(moment) => reference(&moment.path, &moment.written).map(|reference| {
                Some(Instant {
                    reference,
                    milliseconds: moment.milliseconds,
                })
            }),
        };
        let timestamp = instant(&spec.timestamp)?;
        let created = instant(&spec.created)?;
        Ok(Self {
            family,
            scope,
            each: spec.each.as_ref().map_or("$", |(_, written)| written).into(),
            value: match &spec.value {
                ValueSpec::Constant(value) => Value::Constant(*value),
                ValueSpec::Path(path, written) => Value::Reference(reference(path, written)?),
                ValueSpec::Count(path, written) => Value::Count {
                    elements: reference(path, written)?,
                    container: reference(&path.container(), written)?,
                },
            },
            labels: pieces,
            scale: spec.scale,
            map: spec.map.clone(),
            default: spec.default,
            optional: spec.optional,
            pattern: spec.pattern.clone(),
            time: spec.time,
            timestamp,
            created,
        })
    }

    /// Adds the metric's samples of a document to the batch.
    pub(super) fn samples(
        &self,
        family: &Family,
        capture: &Capture<'_>,
        extra: &str,
        longest: usize,
        batch: &mut Batch,
    ) -> Result<(), ExtractError> {
        let iteration = self.scope.iteration;
        if iteration != DOCUMENT && !capture.has(iteration) {
            return if self.optional {
                Ok(())
            } else {
                Err(ExtractError::Missing {
                    metric: family.name.to_string(),
                    path: self.each.to_string(),
                })
            };
        }
        for row in capture.rows(iteration) {
            let Some(value) = self.value(family, capture, row)? else {
                continue;
            };
            let moment = |instant: &Option<Instant>| match instant {
                None => Ok(None),
                Some(instant) => self.seconds(family, capture, row, instant),
            };
            #[allow(clippy::cast_possible_truncation)]
            let timestamp = moment(&self.timestamp)?.map(|seconds| (seconds * 1000.0).round() as i64);
            let created = moment(&self.created)?;
            let start = batch.text.len();
            self.write_labels(capture, row, extra, &mut batch.text);
            if batch.text.len() > longest {
                return Err(ExtractError::LabelsTooLong(longest));
            }
            let [start, end] = [start, batch.text.len()].map(|at| u32::try_from(at).unwrap_or(u32::MAX));
            batch.samples.push(Sample {
                labels: start..end,
                value,
                timestamp,
                created,
            });
        }
        Ok(())
    }

    /// The value of a row's sample; `None` where the sample is left out.
    fn value(&self, family: &Family, capture: &Capture<'_>, row: usize) -> Result<Option<f64>, ExtractError> {
        let iteration = self.scope.iteration;
        let (found, reference) = match &self.value {
            Value::Constant(value) => return Ok(Some(*value)),
            Value::Reference(reference) => (capture.find(iteration, row, reference), reference),
            Value::Count { elements, container } => match capture.find(iteration, row, container) {
                Found::Scalar(Scalar::Composite) => (capture.count(iteration, row, elements), elements),
                nothing @ Found::Scalar(Scalar::Missing | Scalar::Null) => (nothing, elements),
                _ => {
                    return Err(ExtractError::Invalid {
                        metric: family.name.to_string(),
                        path: elements.written.to_string(),
                        problem: "a single value, which has no elements to count,".to_owned(),
                    });
                }
            },
        };
        self.number(family, capture, found, reference)
    }

    fn write_labels(&self, capture: &Capture<'_>, row: usize, extra: &str, out: &mut String) {
        if extra.is_empty() && self.labels.is_empty() {
            return;
        }
        out.push('{');
        out.push_str(extra);
        if !extra.is_empty() && !self.labels.is_empty() {
            out.push(',');
        }
        for piece in &self.labels {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Reference(reference) => match capture.find(self.scope.iteration, row, reference) {
                    Found::Index(index) => out.push_str(itoa::Buffer::new().format(index)),
                    Found::Scalar(Scalar::Text(span)) => escape_label(span.of(capture.text()), out),
                    Found::Scalar(scalar) => out.push_str(&scalar.plain()),
                },
            }
        }
        out.push('}');
    }

    /// The number that a value stands for; `None` where the sample is left out.
    fn number(
        &self,
        family: &Family,
        capture: &Capture<'_>,
        found: Found,
        reference: &Reference,
    ) -> Result<Option<f64>, ExtractError> {
        let invalid = |problem: String| ExtractError::Invalid {
            metric: family.name.to_string(),
            path: reference.written.to_string(),
            problem,
        };
        let scalar = match found {
            Found::Index(index) => Scalar::Unsigned(index.into()),
            Found::Scalar(scalar) => scalar,
        };
        let text = match scalar {
            Scalar::Text(span) => Some(span.of(capture.text()).trim()),
            _ => None,
        };
        let mapped = if self.map.is_empty() {
            None
        } else {
            let written = text.map_or_else(|| scalar.plain(), Into::into);
            self.map.iter().find(|(from, _)| *from == written).map(|(_, to)| *to)
        };
        let number = match (mapped, scalar, text) {
            (Some(number), ..) => number,
            (None, Scalar::Missing | Scalar::Null, _) | (None, _, Some("")) => {
                return match self.default {
                    Some(default) => Ok(Some(default)),
                    None if self.optional => Ok(None),
                    None => Err(ExtractError::Missing {
                        metric: family.name.to_string(),
                        path: reference.written.to_string(),
                    }),
                };
            }
            (None, Scalar::Boolean(value), _) => f64::from(u8::from(value)),
            (None, Scalar::Composite, _) => return Err(invalid("an object or array, not a value".to_owned())),
            (None, _, Some(text)) => {
                let digits = match &self.pattern {
                    None => Some(text),
                    Some(pattern) => pattern
                        .captures(text)
                        .and_then(|groups| groups.get(1).or_else(|| groups.get(0)))
                        .map(|group| group.as_str()),
                };
                let (read, what): (fn(&str) -> _, _) = if self.time {
                    (value::time, "date or time")
                } else {
                    (value::number, "finite number")
                };
                digits
                    .and_then(read)
                    .ok_or_else(|| invalid(format!("the text {:?}, which is no {what}", shortened(text))))?
            }
            (None, scalar, None) => scalar.number().unwrap_or(f64::NAN),
        };
        let number = number * self.scale;
        if !number.is_finite() {
            return Err(invalid("a number that is not finite".to_owned()));
        }
        if family.kind == Kind::Counter && number < 0.0 {
            return Err(invalid(format!("{number}, but a counter is never negative")));
        }
        Ok(Some(number))
    }

    fn seconds(
        &self,
        family: &Family,
        capture: &Capture<'_>,
        row: usize,
        instant: &Instant,
    ) -> Result<Option<f64>, ExtractError> {
        /// The year 9999, in seconds since 1970.
        const END_OF_TIME: f64 = 253_402_300_800.0;
        let number = match capture.find(self.scope.iteration, row, &instant.reference) {
            Found::Scalar(Scalar::Missing | Scalar::Null) => return Ok(None),
            Found::Scalar(Scalar::Text(span)) => {
                let text = span.of(capture.text()).trim();
                if let Some(seconds) = value::time(text).filter(|seconds| *seconds >= 0.0) {
                    return Ok(Some(seconds));
                }
                value::number(text)
            }
            Found::Scalar(scalar) => scalar.number(),
            Found::Index(_) => None,
        };
        number
            .map(|number| if instant.milliseconds { number / 1000.0 } else { number })
            .filter(|seconds| (0.0..END_OF_TIME).contains(seconds))
            .map(Some)
            .ok_or_else(|| ExtractError::Invalid {
                metric: family.name.to_string(),
                path: instant.reference.written.to_string(),
                problem: format!(
                    "neither a time in RFC 3339 nor one in {} since 1970",
                    if instant.milliseconds {
                        "milliseconds"
                    } else {
                        "seconds"
                    }
                ),
            })
    }
}

/// The beginning of a long text, for a message.
fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}
