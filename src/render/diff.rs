use std::path::PathBuf;

use serde::Serialize;
use similar::TextDiff;

/// What a file would become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is not there yet.
    Add,
    /// Its text differs.
    Modify,
    /// It was generated once and is not any more.
    Remove,
}

/// A file that differs from what is rendered.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// Path relative to the project.
    pub path: PathBuf,
    /// What would happen to it.
    pub kind: ChangeKind,
    /// Unified diff.
    pub diff: String,
}

impl Change {
    /// The change of `path` from `old` to `new`; `None` where the two are the same.
    #[must_use]
    pub fn between(path: PathBuf, old: Option<&[u8]>, new: Option<&[u8]>) -> Option<Self> {
        let kind = match (old, new) {
            (None, None) => return None,
            (Some(old), Some(new)) if old == new => return None,
            (None, Some(_)) => ChangeKind::Add,
            (Some(_), Some(_)) => ChangeKind::Modify,
            (Some(_), None) => ChangeKind::Remove,
        };
        let text = |side: Option<&[u8]>| String::from_utf8_lossy(side.unwrap_or_default()).into_owned();
        let name = path.to_string_lossy();
        let before = if old.is_some() {
            format!("a/{name}")
        } else {
            "/dev/null".into()
        };
        let after = if new.is_some() {
            format!("b/{name}")
        } else {
            "/dev/null".into()
        };
        let diff = TextDiff::from_lines(text(old), text(new))
            .unified_diff()
            .header(&before, &after)
            .to_string();
        Some(Self { path, kind, diff })
    }
}
