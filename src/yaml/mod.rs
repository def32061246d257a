//! Reads and sets single values of a YAML file, and leaves every other byte of it alone: comments, quotes, indentation,
//! line endings.
//!
//! The parser (the one beneath serde-saphyr) says which bytes a value takes; those are replaced. An edit is parsed again
//! and given out only if the file then says what it said before but for the one value.

mod edit;
mod node;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use edit::set;
use node::Node;

/// Why a file cannot be read, or a value in it cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// What is wrong, as one line without a full stop.
    pub message: String,
    /// The offending bytes, where there are any.
    pub span: Option<Range<usize>>,
}

impl YamlError {
    fn new(message: impl Into<String>, span: Option<Range<usize>>) -> Self {
        Self {
            message: message.into(),
            span,
        }
    }
}

/// A value as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The text, without quotes and escapes. A number is the text it is written as.
    pub value: String,
    /// The bytes it takes, with its quotes.
    pub span: Range<usize>,
}

/// The value at `path`, a key for each level; `None` where the file has no such key, or nothing behind it.
///
/// # Errors
/// The text is not YAML, holds more than one document, sets a key twice, or has something else than one value there.
pub fn get(text: &str, path: &[&str]) -> Result<Option<Found>, YamlError> {
    let Some(root) = node::parse(text)? else {
        return Ok(None);
    };
    let mut node = &root;
    for key in path {
        let Node::Mapping(mapping) = node else { return Ok(None) };
        match mapping.get(key) {
            Some(value) => node = value,
            None => return Ok(None),
        }
    }
    match node {
        Node::Scalar(scalar) if scalar.is_nothing() => Ok(None),
        Node::Scalar(scalar) => Ok(Some(Found {
            value: scalar.value.clone(),
            span: scalar.span.clone(),
        })),
        other => Err(YamlError::new(
            format!("{} is {}, where one value belongs", path.join("."), other.kind()),
            Some(other.span()),
        )),
    }
}

/// The line of a byte, counted from 1.
#[must_use]
pub fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}
