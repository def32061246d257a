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
}

#[cfg(test)]
mod tests {
    use super::number;

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
