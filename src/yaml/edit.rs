use std::fmt::Write as _;

use granit_parser::ScalarStyle;

use super::YamlError;
use super::node::{Mapping, Node, Scalar, parse};

/// Spaces for each level of what is added.
const STEP: usize = 2;

/// `text` with `value` at `path`, a key for each level; missing keys are added behind the others of their mapping. The
/// value keeps its quotes; one without quotes gets them unless every reader of YAML takes the new value for text.
///
/// # Errors
/// The text is not YAML, holds more than one document, or says something else than one value at `path`.
pub fn set(text: &str, path: &[&str], value: &str) -> Result<String, YamlError> {
    let root = parse(text)?;
    let (edited, written) = match &root {
        None => (append(text, path, value), quote(value)),
        Some(root) => edit(text, root, path, value)?,
    };
    let expected = with(root, path, value, &written);
    // Whatever the parser and this file may have got wrong, nothing else has changed its meaning.
    if parse(&edited).is_ok_and(|read| read.as_ref().is_some_and(|read| read.says(&expected))) {
        Ok(edited)
    } else {
        Err(YamlError::new(
            format!("{} cannot be set without touching something else", path.join(".")),
            None,
        ))
    }
}

/// The edited text, and how the value is written in it.
fn edit(text: &str, root: &Node, path: &[&str], value: &str) -> Result<(String, String), YamlError> {
    let mut node = root;
    for (depth, key) in path.iter().enumerate() {
        let here = || path[..depth].join(".");
        let Node::Mapping(mapping) = node else {
            return Err(YamlError::new(
                format!("{} is {}, where settings belong", here(), node.kind()),
                Some(node.span()),
            ));
        };
        let rest = &path[depth..];
        match mapping.entry(key) {
            None => return Ok((insert(text, mapping, rest, value), quote(value))),
            Some((key, Node::Scalar(scalar))) if scalar.span.is_empty() => {
                return behind_key(text, mapping, key, rest, value)
                    .map(|edited| (edited, quote(value)))
                    .ok_or_else(|| {
                        YamlError::new(
                            format!("{} is empty in a way that cannot be filled in", path.join(".")),
                            Some(key.span.clone()),
                        )
                    });
            }
            Some((_, next)) => node = next,
        }
    }
    let Node::Scalar(scalar) = node else {
        return Err(YamlError::new(
            format!("{} is {}, where one value belongs", path.join("."), node.kind()),
            Some(node.span()),
        ));
    };
    let written = match scalar.style {
        ScalarStyle::Plain if plain_is_text(value) => value.to_owned(),
        ScalarStyle::Plain | ScalarStyle::DoubleQuoted => quote(value),
        ScalarStyle::SingleQuoted if value.chars().all(is_printable) => format!("'{}'", value.replace('\'', "''")),
        ScalarStyle::SingleQuoted => quote(value),
        ScalarStyle::Literal | ScalarStyle::Folded => {
            return Err(YamlError::new(
                format!("{} is a block of text, where one value belongs", path.join(".")),
                Some(scalar.span.clone()),
            ));
        }
    };
    // Escapes and line breaks that are there already may say the same in another way.
    let stands = scalar.value == value && (scalar.style != ScalarStyle::Plain || plain_is_text(value));
    let written = if stands {
        text[scalar.span.clone()].to_owned()
    } else {
        written
    };
    Ok((splice(text, scalar.span.start, scalar.span.len(), &written), written))
}

fn splice(text: &str, at: usize, removed: usize, added: &str) -> String {
    format!("{}{added}{}", &text[..at], &text[at + removed..])
}

fn line_break(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// `path: value` in block style, a line for each level, without a line break at the end.
fn block(path: &[&str], value: &str, indent: usize, line_break: &str) -> String {
    let mut lines = String::new();
    for (depth, key) in path.iter().enumerate() {
        let indent = " ".repeat(indent + depth * STEP);
        let key = if plain_is_text(key) {
            (*key).to_owned()
        } else {
            quote(key)
        };
        let _ = write!(lines, "{indent}{key}:");
        if depth + 1 == path.len() {
            let _ = write!(lines, " {}", quote(value));
        } else {
            lines.push_str(line_break);
        }
    }
    lines
}

/// The same in flow style.
fn flow(path: &[&str], value: &str) -> String {
    let mut text = quote(value);
    for (depth, key) in path.iter().enumerate().rev() {
        let key = if plain_is_text(key) {
            (*key).to_owned()
        } else {
            quote(key)
        };
        text = if depth == 0 {
            format!("{key}: {text}")
        } else {
            format!("{{{key}: {text}}}")
        };
    }
    text
}

/// Adds `lines` as lines of their own behind the line of the byte before `end`.
fn add_lines(text: &str, end: usize, lines: &str) -> String {
    let line_break = line_break(text);
    let at = if text[..end].ends_with('\n') {
        end
    } else {
        text[end..].find('\n').map_or(text.len(), |i| end + i + 1)
    };
    if at == text.len() && !text.is_empty() && !text.ends_with('\n') {
        splice(text, at, 0, &format!("{line_break}{lines}"))
    } else {
        splice(text, at, 0, &format!("{lines}{line_break}"))
    }
}

fn append(text: &str, path: &[&str], value: &str) -> String {
    add_lines(text, text.len(), &block(path, value, 0, line_break(text)))
}

/// The column of a byte, in characters.
fn column(text: &str, offset: usize) -> usize {
    let begin = text[..offset].rfind('\n').map_or(0, |i| i + 1);
    text[begin..offset].trim_start_matches('\u{feff}').chars().count()
}

fn insert(text: &str, mapping: &Mapping, path: &[&str], value: &str) -> String {
    match (mapping.entries.first(), mapping.entries.last()) {
        (Some((first, _)), Some(last)) => {
            let end = last.0.end().max(last.1.end());
            if mapping.flow {
                splice(text, end, 0, &format!(", {}", flow(path, value)))
            } else {
                let indent = column(text, first.span().start);
                add_lines(text, end, &block(path, value, indent, line_break(text)))
            }
        }
        // Only `{}` has no entries.
        _ => splice(text, mapping.span.start + 1, 0, &flow(path, value)),
    }
}

/// Fills in a key that has nothing behind its colon.
fn behind_key(text: &str, mapping: &Mapping, key: &Scalar, path: &[&str], value: &str) -> Option<String> {
    let colon = key.span.end + text[key.span.end..].find(|c| c != ' ')?;
    if !text[colon..].starts_with(':') {
        return None;
    }
    match path {
        [_] => Some(splice(text, colon + 1, 0, &format!(" {}", quote(value)))),
        [_, rest @ ..] if !mapping.flow => {
            let indent = column(text, key.span.start) + STEP;
            Some(add_lines(
                text,
                colon + 1,
                &block(rest, value, indent, line_break(text)),
            ))
        }
        _ => None,
    }
}

/// What the file says with `value` at `path`.
fn with(node: Option<Node>, path: &[&str], value: &str, written: &str) -> Node {
    let Some((key, rest)) = path.split_first() else {
        let (tag, span) = match node {
            Some(Node::Scalar(scalar)) => (scalar.tag, scalar.span),
            _ => (None, 0..0),
        };
        let style = if written.starts_with(['"', '\'']) {
            ScalarStyle::DoubleQuoted
        } else {
            ScalarStyle::Plain
        };
        return Node::Scalar(Scalar {
            value: value.to_owned(),
            style,
            span,
            tag,
        });
    };
    let mut mapping = match node {
        Some(Node::Mapping(mapping)) => mapping,
        _ => Mapping {
            entries: Vec::new(),
            flow: false,
            span: 0..0,
        },
    };
    let place = mapping
        .entries
        .iter()
        .position(|(k, _)| matches!(k, Node::Scalar(scalar) if scalar.value == *key));
    match place {
        Some(i) => {
            let (_, old) = &mapping.entries[i];
            mapping.entries[i].1 = with(Some(old.clone()), rest, value, written);
        }
        None => {
            let style = if plain_is_text(key) {
                ScalarStyle::Plain
            } else {
                ScalarStyle::DoubleQuoted
            };
            let key = Node::Scalar(Scalar {
                value: (*key).to_owned(),
                style,
                span: 0..0,
                tag: None,
            });
            mapping.entries.push((key, with(None, rest, value, written)));
        }
    }
    Node::Mapping(mapping)
}

/// Whether every reader of YAML, those of version 1.1 (which Helm has) included, takes it for text without quotes.
fn plain_is_text(value: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value.chars().all(word)
        && ![
            "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf",
        ]
        .contains(&value.to_ascii_lowercase().as_str())
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A double-quoted scalar (<https://yaml.org/spec/1.2.2/#731-double-quoted-style>).
fn quote(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if is_printable(c) => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}
