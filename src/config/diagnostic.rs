//! Mistakes in a file, each with its place.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use crate::model::without_credentials;

/// A file's name and text, for showing what is wrong in it.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path as the user knows it, relative to the project.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used; the user should know.
    Warning,
}

/// One mistake.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Byte range of the offending text, where there is one.
    pub span: Option<Range<usize>>,
    /// Remark under the offending text.
    pub label: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// All mistakes of one file.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    /// The file.
    pub source: Source,
    /// In the order of their place.
    pub items: Vec<Diagnostic>,
}

/// A mistake as it stands in JSON output.
#[derive(Debug, Serialize)]
pub struct DiagnosticJson<'a> {
    severity: Severity,
    message: &'a str,
    file: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    text: Option<String>,
    hint: Option<&'a str>,
}

impl Diagnostics {
    /// Whether the file cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|d| d.severity == Severity::Error)
    }

    /// For people: each mistake with the line it stands on.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let text = without_credentials(&self.source.text);
        let mut out = String::new();
        for (i, item) in self.items.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            let level = match item.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let title = level.primary_title(item.message.as_str());
            let group = match &item.span {
                Some(span) => title.element(
                    Snippet::source(text.as_str())
                        .path(self.source.path.as_str())
                        .annotation(AnnotationKind::Primary.span(span.clone()).label(item.label.as_str())),
                ),
                None => Group::with_title(title).element(annotate_snippets::Origin::path(self.source.path.as_str())),
            };
            out.push_str(&renderer.render(&[group]));
            out.push('\n');
            if let Some(hint) = &item.hint {
                let _ = writeln!(out, "  hint: {hint}");
            }
        }
        out
    }

    /// For programs: the same with line and column, both counted from 1, columns in characters.
    #[must_use]
    pub fn to_json(&self) -> Vec<DiagnosticJson<'_>> {
        self.items
            .iter()
            .map(|d| {
                let place = d
                    .span
                    .as_ref()
                    .and_then(|s| line_and_column(&self.source.text, s.start));
                DiagnosticJson {
                    severity: d.severity,
                    message: &d.message,
                    file: &self.source.path,
                    line: place.map(|p| p.0),
                    column: place.map(|p| p.1),
                    text: d
                        .span
                        .clone()
                        .and_then(|s| self.source.text.get(s))
                        .map(without_credentials),
                    hint: d.hint.as_deref(),
                }
            })
            .collect()
    }
}

fn line_and_column(text: &str, offset: usize) -> Option<(usize, usize)> {
    let before = text.get(..offset)?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next()?.chars().count() + 1;
    Some((line, column))
}
