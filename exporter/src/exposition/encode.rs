//! Writes metrics out.
//!
//! Text: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//! OpenMetrics: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use super::Format;
use crate::mapping::{Batch, Family, Kind};

/// The type of a family, as the formats know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Counter,
    Gauge,
    Histogram,
    Untyped,
}

impl From<Kind> for Type {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter,
            Kind::Gauge => Self::Gauge,
            Kind::Untyped => Self::Untyped,
        }
    }
}

/// The ending that OpenMetrics demands of a counter's samples and forbids in its family's name.
const TOTAL: &str = "_total";

/// Collects one exposition. Families must be written one after the other.
#[derive(Debug)]
pub(crate) struct Encoder {
    format: Format,
    out: String,
}

impl Encoder {
    pub(crate) fn new(format: Format, capacity: usize) -> Self {
        Self {
            format,
            out: String::with_capacity(capacity),
        }
    }

    /// The lines that come before a family's samples. A counter's name ends in `_total`.
    pub(crate) fn family(&mut self, name: &str, help: &str, kind: Type, unit: Option<&str>) {
        let base = match self.format {
            Format::OpenMetrics if kind == Type::Counter => name.strip_suffix(TOTAL).unwrap_or(name),
            _ => name,
        };
        let word = match (kind, self.format) {
            (Type::Counter, _) => "counter",
            (Type::Gauge, _) => "gauge",
            (Type::Histogram, _) => "histogram",
            (Type::Untyped, Format::Text) => "untyped",
            (Type::Untyped, Format::OpenMetrics) => "unknown",
        };
        for part in ["# TYPE ", base, " ", word, "\n"] {
            self.out.push_str(part);
        }
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            for part in ["# UNIT ", base, " ", unit, "\n"] {
                self.out.push_str(part);
            }
        }
        for part in ["# HELP ", base, " "] {
            self.out.push_str(part);
        }
        let mut rest = help;
        while let Some(at) = rest.find(['\\', '\n', '"']) {
            self.out.push_str(&rest[..at]);
            self.out.push_str(match (rest.as_bytes()[at], self.format) {
                (b'\\', _) => "\\\\",
                (b'\n', _) => "\\n",
                (_, Format::OpenMetrics) => "\\\"",
                (_, Format::Text) => "\"",
            });
            rest = &rest[at + 1..];
        }
        self.out.push_str(rest);
        self.out.push('\n');
    }

    /// One sample. `labels` is written out as it is: `{a="b"}`, or nothing.
    pub(crate) fn sample(&mut self, name: &str, suffix: &str, labels: &str, value: f64) {
        self.line(name, suffix, labels, value);
        self.out.push('\n');
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &str, value: f64) {
        for part in [name, suffix, labels, " "] {
            self.out.push_str(part);
        }
        write_number(value, &mut self.out);
    }

    /// The samples that a batch has of the family, which is the one with this index in the batch's mapping.
    pub(crate) fn batch(&mut self, family: &Family, index: usize, batch: &Batch) {
        for sample in batch.family(index) {
            let labels = batch.labels(sample);
            self.line(&family.name, "", labels, sample.value);
            if let Some(timestamp) = sample.timestamp {
                self.out.push(' ');
                match self.format {
                    Format::Text => self.out.push_str(itoa::Buffer::new().format(timestamp)),
                    Format::OpenMetrics => write_seconds(timestamp, &mut self.out),
                }
            }
            self.out.push('\n');
            if let (Format::OpenMetrics, Kind::Counter, Some(created)) = (self.format, family.kind, sample.created) {
                let base = family.name.strip_suffix(TOTAL).unwrap_or(&family.name);
                for part in [base, "_created", labels, " "] {
                    self.out.push_str(part);
                }
                #[allow(clippy::cast_possible_truncation)]
                write_seconds((created * 1000.0).round() as i64, &mut self.out);
                self.out.push('\n');
            }
        }
    }

    /// The whole exposition.
    pub(crate) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

/// A whole number is written without a point, another one with as few digits as bring it back.
fn write_number(value: f64, out: &mut String) {
    /// Beyond it not every whole number is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.abs() <= EXACT && value.fract() == 0.0 {
        #[allow(clippy::cast_possible_truncation)]
        out.push_str(itoa::Buffer::new().format(value as i64));
    } else if value.is_finite() {
        out.push_str(ryu::Buffer::new().format_finite(value));
    } else if value.is_nan() {
        out.push_str("NaN");
    } else {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
}

fn write_seconds(milliseconds: i64, out: &mut String) {
    let mut buffer = itoa::Buffer::new();
    out.push_str(buffer.format(milliseconds.div_euclid(1000)));
    out.push('.');
    let rest = milliseconds.rem_euclid(1000);
    out.push_str(if rest < 10 {
        "00"
    } else if rest < 100 {
        "0"
    } else {
        ""
    });
    out.push_str(buffer.format(rest));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> String {
        let mut out = String::new();
        write_number(value, &mut out);
        out
    }

    #[test]
    fn numbers_come_back_as_they_were() {
        for value in [
            0.0,
            1.0,
            -3.0,
            0.1,
            1e300,
            5e-324,
            9_007_199_254_740_993.0,
            1.0 / 3.0,
            f64::MAX,
        ] {
            assert_eq!(
                number(value).parse::<f64>().unwrap().to_bits(),
                value.to_bits(),
                "{value}"
            );
        }
        assert_eq!(number(37.0), "37");
        assert_eq!(number(f64::INFINITY), "+Inf");
        assert_eq!(number(f64::NEG_INFINITY), "-Inf");
        assert_eq!(number(f64::NAN), "NaN");
    }

    #[test]
    fn seconds_have_three_digits() {
        for (milliseconds, written) in [
            (1_700_000_000_007, "1700000000.007"),
            (0, "0.000"),
            (1_234, "1.234"),
            (20, "0.020"),
        ] {
            let mut out = String::new();
            write_seconds(milliseconds, &mut out);
            assert_eq!(out, written);
        }
    }

    #[test]
    fn families_are_named_as_each_format_wants() {
        let write = |format| {
            let mut encoder = Encoder::new(format, 0);
            encoder.family("a_bytes_total", "Say \"x\" \\ y\nz", Type::Counter, Some("bytes"));
            encoder.sample("a_bytes_total", "", "{l=\"v\"}", 1.5);
            encoder.family("b", "", Type::Untyped, None);
            encoder.finish()
        };
        assert_eq!(
            write(Format::Text),
            "# TYPE a_bytes_total counter\n# HELP a_bytes_total Say \"x\" \\\\ y\\nz\na_bytes_total{l=\"v\"} 1.5\n\
             # TYPE b untyped\n# HELP b \n"
        );
        assert_eq!(
            write(Format::OpenMetrics),
            "# TYPE a_bytes counter\n# UNIT a_bytes bytes\n# HELP a_bytes Say \\\"x\\\" \\\\ y\\nz\n\
             a_bytes_total{l=\"v\"} 1.5\n# TYPE b unknown\n# HELP b \n# EOF\n"
        );
    }
}
