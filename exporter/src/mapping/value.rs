//! Values as they stand in a document.

/// A number as JSON writes it, in text. `None` for everything else, also for one that is not finite as a float.
pub(crate) fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    // What Rust reads beyond that (inf, nan, infinity) begins with a letter.
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A date or a date and time as RFC 3339 and ISO 8601 write them, in seconds since 1970. One that names no offset is taken
/// for UTC. `None` for everything else.
pub(crate) fn time(text: &str) -> Option<f64> {
    let timestamp = text.parse::<jiff::Timestamp>().or_else(|_| {
        let local = text.parse::<jiff::civil::DateTime>()?;
        jiff::tz::Offset::UTC.to_timestamp(local)
    });
    // Whole seconds of any year that has four digits are exact, and a float's microseconds are right.
    #[allow(clippy::cast_precision_loss)]
    timestamp
        .ok()
        .map(|at| at.as_second() as f64 + f64::from(at.subsec_nanosecond()) / 1e9)
}

/// A piece of the capture's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// One captured value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum Scalar {
    /// Nothing stands there.
    #[default]
    Missing,
    Null,
    Boolean(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(Span),
    /// An object or an array.
    Composite,
}

impl Scalar {
    /// A number, where it is one.
    pub(crate) fn number(self) -> Option<f64> {
        match self {
            // Prometheus knows only floats; beyond 2^53 the last digits go.
            #[allow(clippy::cast_precision_loss)]
            Self::Signed(number) => Some(number as f64),
            #[allow(clippy::cast_precision_loss)]
            Self::Unsigned(number) => Some(number as f64),
            Self::Float(number) => Some(number),
            _ => None,
        }
    }

    /// A value that is no text, as a document writes it. Nothing for what is missing, null or not a single value: Prometheus
    /// takes a label without a value for one that is not there.
    pub(crate) fn plain(self) -> String {
        match self {
            Self::Boolean(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::Unsigned(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Missing | Self::Null | Self::Composite | Self::Text(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{number, time};

    #[test]
    fn times_are_read_with_and_without_an_offset() {
        for (text, seconds) in [
            ("1970-01-01T00:00:01Z", 1.0),
            ("2025-01-22T19:30:19Z", 1_737_574_219.0),
            ("2025-01-22T20:30:19.5+01:00", 1_737_574_219.5),
            ("2024-08-21T14:54:00.25", 1_724_252_040.25),
            ("2024-08-21 14:54:00", 1_724_252_040.0),
            ("2024-06-29", 1_719_619_200.0),
            ("1969-12-31T23:59:59Z", -1.0),
        ] {
            assert_eq!(time(text), Some(seconds), "{text}");
        }
        for text in ["", "soon", "29.06.2024", "2024-13-01", "1719619200", "14:54:00"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn only_finite_numbers_are_numbers() {
        assert_eq!(number("1.5e3"), Some(1500.0));
        assert_eq!(number("-0.25"), Some(-0.25));
        assert_eq!(number("+7"), Some(7.0));
        for text in [
            "",
            "-",
            ".",
            "1e999",
            "-1e999",
            "inf",
            "NaN",
            "-infinity",
            "0x10",
            "1 000",
            "12 MB",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
