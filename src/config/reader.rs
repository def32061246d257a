//! Reads the form of an environment file and knows the place of everything in it.

use std::ops::Range;
use std::path::PathBuf;

use serde_saphyr::{Error as YamlError, Location, Spanned};
use url::Url;

use super::file::EnvironmentFile;
use super::{Diagnostic, Diagnostics, Severity, Source};
use crate::model::{Invalid, Scalar, credentials, without_credentials};

/// So many mistakes of form are told at once; a file that has more is none of ours.
const MOST_MISTAKES_OF_FORM: usize = 20;

/// How much of `line` its first bracket encloses; all of it where the closing one stands on another line.
fn bracketed(line: &str) -> usize {
    let mut depth = 0_usize;
    let mut quote = None;
    for (i, c) in line.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if c == q => quote = None,
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    line.len()
}

/// `text` with spaces in place of the line of `start` and of the lines that belong to it by their indentation, so that
/// everything else keeps its place. `None` where there is nothing left to take out.
fn without_entry(text: &str, start: usize) -> Option<String> {
    let begin = text.get(..start)?.rfind('\n').map_or(0, |i| i + 1);
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut lines = text[begin..].split_inclusive('\n');
    let first = lines.next()?;
    let depth = indent(first);
    let entry = first.len()
        + lines
            .take_while(|line| line.trim().is_empty() || indent(line) > depth)
            .map(str::len)
            .sum::<usize>();
    let taken = &text[begin..begin + entry];
    if taken.trim().is_empty() {
        return None;
    }
    let blank: String = taken.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
    Some(format!("{}{blank}{}", &text[..begin], &text[begin + entry..]))
}

/// Whether two words are alike: one is an abbreviation or part of the other, or no more than a third of the letters differ.
fn is_near(distance: usize, known: &str, written: &str) -> bool {
    let part = written.len() >= 4 && (known.starts_with(written) || written.starts_with(known));
    part || distance * 3 <= known.len().max(written.len())
}

/// Whether a line sets nothing.
fn nothing_written(line: &str) -> bool {
    matches!(line.trim(), "" | "---" | "...") || line.trim().starts_with('#')
}

/// Collects the mistakes of one file while it is read.
pub(super) struct Reader {
    source: Source,
    items: Vec<Diagnostic>,
    /// Something that stands in the file could not be read, so that nothing can be said about what is missing.
    pub(super) incomplete: bool,
}

impl Reader {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            items: Vec::new(),
            incomplete: false,
        }
    }

    pub(super) fn finish(mut self) -> Diagnostics {
        self.items.sort_by_key(|d| d.span.as_ref().map_or(0, |s| s.start));
        Diagnostics {
            source: self.source,
            items: self.items,
        }
    }

    /// Reads the file's form. What cannot be read is told and left out, and the rest is read again, so that one run finds
    /// every mistake.
    pub(super) fn file(&mut self) -> Option<EnvironmentFile> {
        let mut text = self.source.text.clone();
        loop {
            if text.lines().all(nothing_written) {
                return Some(EnvironmentFile::default());
            }
            let options = serde_saphyr::options! { with_snippet: false };
            let error = match serde_saphyr::from_str_with_options(&text, options) {
                Ok(file) => return Some(file),
                Err(error) => error,
            };
            let entry = match &error {
                YamlError::SerdeUnknownField { .. }
                | YamlError::DuplicateMappingKey { .. }
                | YamlError::Unexpected { .. }
                | YamlError::InvalidScalar { .. } => {
                    // A file that begins with something else than a setting has none.
                    let whole = matches!(&error, YamlError::Unexpected { location, .. } if location.column() == 1);
                    error.location().filter(|_| !whole).and_then(|l| self.start(l))
                }
                // What was left out may be the cause of any other error.
                _ if self.incomplete => return None,
                _ => None,
            };
            self.yaml_error(&error);
            self.incomplete = true;
            let left_out = entry.and_then(|start| without_entry(&text, start));
            text = left_out.filter(|_| self.items.len() < MOST_MISTAKES_OF_FORM)?;
        }
    }

    /// Where something begins, in bytes. The parser knows no byte for a mistake in the YAML itself, only line and column.
    fn start(&self, location: Location) -> Option<usize> {
        if let Some(offset) = location.span().byte_offset() {
            return usize::try_from(offset).ok();
        }
        let line = usize::try_from(location.line()).ok()?.checked_sub(1)?;
        let column = usize::try_from(location.column()).ok()?.checked_sub(1)?;
        let begin: usize = self.source.text.split_inclusive('\n').take(line).map(str::len).sum();
        let text = self.source.text.get(begin..)?.lines().next().unwrap_or("");
        let before: usize = text.chars().take(column).map(char::len_utf8).sum();
        Some(begin + before)
    }

    /// The bytes of a value as it is written, at most to the end of its line: the parser's span, or what stands between
    /// brackets, or the rest of the line.
    fn range(&self, location: Location) -> Option<Range<usize>> {
        let start = self.start(location)?;
        let length = usize::try_from(location.span().byte_len().unwrap_or(0)).ok()?;
        let rest = self.source.text.get(start..)?;
        let line = rest.lines().next().unwrap_or("").trim_end();
        let length = if line.starts_with(['[', '{']) {
            bracketed(line)
        } else if length == 0 || length > line.len() {
            line.len()
        } else {
            length
        };
        // At the end of a line there is nothing to point at but the end itself.
        Some(start..(start + length))
    }

    pub(super) fn add(&mut self, severity: Severity, location: Option<Location>, invalid: Invalid) {
        let span = location.and_then(|l| self.range(l));
        self.items.push(Diagnostic {
            severity,
            message: without_credentials(&invalid.message),
            span,
            label: invalid.label,
            hint: invalid.hint,
        });
    }

    pub(super) fn error(&mut self, at: Location, invalid: Invalid) {
        self.add(Severity::Error, Some(at), invalid);
    }

    /// Tells what is wrong with the key of the entry whose value is at `value`.
    pub(super) fn error_at_key(&mut self, value: Location, key: &str, invalid: Invalid) {
        let before = self.start(value).and_then(|start| self.source.text.get(..start));
        let key_at = before.filter(|_| !key.is_empty()).and_then(|before| before.rfind(key));
        self.error(value, invalid);
        if let (Some(start), Some(told)) = (key_at, self.items.last_mut()) {
            told.span = Some(start..start + key.len());
        }
    }

    /// Tells that the setting `key` at the file's top has no value: at the key where it stands, else where the settings begin.
    pub(super) fn missing(&mut self, key: &str, invalid: Invalid) {
        let mut start = 0;
        let mut place = None;
        for line in self.source.text.split_inclusive('\n') {
            let bare = line.trim_start_matches('\u{feff}');
            let begin = start + line.len() - bare.len();
            let is_key = bare
                .strip_prefix(key)
                .is_some_and(|rest| rest.trim_start().starts_with(':'));
            if is_key {
                place = Some(begin..begin + key.len());
                break;
            }
            let bare = bare.trim_end();
            if place.is_none() && !nothing_written(bare) {
                place = Some(begin..begin + bare.len());
            }
            start += line.len();
        }
        self.items.push(Diagnostic {
            severity: Severity::Error,
            message: invalid.message,
            span: Some(place.unwrap_or(0..0)),
            label: invalid.label,
            hint: invalid.hint,
        });
    }

    fn yaml_error(&mut self, error: &YamlError) {
        let location = error.location();
        let invalid = match error {
            YamlError::SerdeUnknownField { field, expected, .. } => {
                let known: Vec<&str> = expected.to_vec();
                let nearest = known
                    .iter()
                    .map(|k| (strsim::damerau_levenshtein(k, field), *k))
                    .min()
                    .filter(|(distance, k)| is_near(*distance, k, field));
                let hint = match nearest {
                    Some((_, key)) => format!("did you mean {key:?}?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                Invalid::new(format!("unknown key {field:?}"), "unknown key").hint(hint)
            }
            YamlError::DuplicateMappingKey { key, .. } => {
                let key = key.as_deref().unwrap_or("this key");
                Invalid::new(format!("{key} is set twice"), "second time").hint("keep one of the two")
            }
            YamlError::Unexpected { expected, .. } if expected.contains("scalar") => {
                Invalid::new("this setting takes one value", "not one value").hint("write it as `key: value`")
            }
            YamlError::Unexpected { expected, .. } if expected.contains("sequence") => {
                Invalid::new("this setting takes a list", "not a list").hint("write it in brackets, for example [a, b]")
            }
            YamlError::Unexpected { expected, .. } if expected.contains("mapping") => {
                Invalid::new("settings are expected here", "not `key: value`")
                    .hint("compare with environments/demo.yaml or the JSON Schema (mfsre schema)")
            }
            YamlError::InvalidScalar { ty, .. } => {
                let (kind, example) = match *ty {
                    ty if ty.contains("bool") => ("true or false", "false"),
                    "u16" => ("a whole number from 0 to 65535", "3"),
                    _ => ("a whole number from 0 to 4294967295", "3"),
                };
                Invalid::new(format!("this setting takes {kind}"), format!("not {kind}"))
                    .hint(format!("write it without quotes, for example {example}"))
            }
            YamlError::SerdeMissingField { field, .. } => {
                Invalid::new(format!("{field} is missing here"), "incomplete").hint(format!("add `{field}:`"))
            }
            YamlError::MultipleDocuments { .. } => {
                Invalid::new("an environment file holds one document", "a second document")
                    .hint("remove the line `---` and what follows, or make it a file of its own")
            }
            other => {
                let text = other.without_snippet().to_string();
                let text = text.split(" at line ").next().unwrap_or(&text);
                let text = text.lines().next().unwrap_or("");
                let hint = if text.contains("tab") {
                    "YAML takes spaces for indentation, no tabs"
                } else {
                    "compare with environments/demo.yaml or the JSON Schema (mfsre schema)"
                };
                Invalid::new(format!("this is not YAML that can be read: {text}"), "here").hint(hint)
            }
        };
        self.add(Severity::Error, location, invalid);
    }

    pub(super) fn scalar<T: Scalar>(&mut self, field: Option<&Spanned<String>>) -> Option<T> {
        let field = field?;
        match T::parse(&field.value) {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.error(field.referenced, invalid);
                None
            }
        }
    }

    /// The field's value, or the default where the field is absent; a bad value is reported and stood in for by the
    /// default, so that reading can go on.
    pub(super) fn or_default<T: Scalar>(&mut self, field: Option<&Spanned<String>>, default: T) -> T {
        self.scalar(field).unwrap_or(default)
    }

    pub(super) fn default_text<T: Scalar>(&mut self, field: Option<&Spanned<String>>, default: &str) -> Option<T> {
        self.scalar(field).or_else(|| T::parse(default).ok())
    }

    pub(super) fn list<T: Scalar>(&mut self, field: Option<&Vec<Spanned<String>>>) -> Vec<T> {
        field
            .into_iter()
            .flatten()
            .filter_map(|item| self.scalar(Some(item)))
            .collect()
    }

    pub(super) fn url(&mut self, field: Option<&Spanned<String>>) -> Option<Url> {
        let field = field?;
        if credentials(&field.value).is_some() {
            self.error(
                field.referenced,
                Invalid::new("the URL carries credentials", "credentials in a URL")
                    .hint("remove them: the file is committed"),
            );
            return None;
        }
        match Url::parse(&field.value) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => Some(url),
            _ => {
                self.error(
                    field.referenced,
                    Invalid::new(format!("{:?} is not an HTTP URL", field.value), "not a URL")
                        .hint("write https://host/path"),
                );
                None
            }
        }
    }

    pub(super) fn text(
        &mut self,
        field: Option<&Spanned<String>>,
        what: &str,
        ok: impl Fn(&str) -> bool,
        hint: &str,
    ) -> Option<String> {
        let field = field?;
        if ok(&field.value) {
            return Some(field.value.clone());
        }
        self.error(
            field.referenced,
            Invalid::new(format!("{:?} is not {what}", field.value), format!("not {what}")).hint(hint),
        );
        None
    }

    pub(super) fn path(&mut self, field: Option<&Spanned<String>>) -> Option<PathBuf> {
        let ok = |path: &str| !path.is_empty() && !path.contains(char::is_control);
        self.text(field, "a path", ok, "write a path, or remove the setting")
            .map(PathBuf::from)
    }
}
