use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

/// A line of Terraform's machine-readable output
/// (<https://developer.hashicorp.com/terraform/internals/machine-readable-ui>).
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TerraformEvent {
    /// A planned change.
    PlannedChange {
        /// The change.
        change: Change,
    },
    /// Work on a resource begins.
    ApplyStart {
        /// About the resource.
        hook: Hook,
    },
    /// Work on a resource goes on.
    ApplyProgress {
        /// About the resource.
        hook: Hook,
    },
    /// Work on a resource is done.
    ApplyComplete {
        /// About the resource.
        hook: Hook,
    },
    /// Work on a resource failed.
    ApplyErrored {
        /// About the resource.
        hook: Hook,
    },
    /// A resource is read.
    RefreshStart {
        /// About the resource.
        hook: Hook,
    },
    /// Totals.
    ChangeSummary {
        /// The totals.
        changes: Changes,
    },
    /// An error or a warning.
    Diagnostic {
        /// The text.
        diagnostic: DiagnosticEvent,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// A planned change.
#[derive(Debug, Clone, Deserialize)]
pub struct Change {
    /// The resource.
    pub resource: Resource,
    /// `create`, `update`, `delete`, `replace`, `read`, `move` or `import`.
    pub action: String,
}

/// Progress on a resource.
#[derive(Debug, Clone, Deserialize)]
pub struct Hook {
    /// The resource.
    pub resource: Resource,
    /// `create`, `update`, `delete` or `read`.
    #[serde(default)]
    pub action: String,
    /// Seconds since it began.
    #[serde(default)]
    pub elapsed_seconds: f64,
}

/// A resource.
#[derive(Debug, Clone, Deserialize)]
pub struct Resource {
    /// Its address.
    pub addr: String,
}

/// Totals of a plan or an apply.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Changes {
    /// Added.
    pub add: u64,
    /// Changed.
    pub change: u64,
    /// Destroyed.
    pub remove: u64,
}

/// An error or a warning.
#[derive(Debug, Clone, Deserialize)]
pub struct DiagnosticEvent {
    /// `error` or `warning`.
    pub severity: String,
    /// In one line.
    pub summary: String,
    /// In more.
    #[serde(default)]
    pub detail: String,
    /// The resource.
    pub address: Option<String>,
    /// The place.
    pub range: Option<SourceRange>,
}

/// A place in a file.
#[derive(Debug, Clone, Deserialize)]
pub struct SourceRange {
    /// Path relative to the project; the program itself tells it relative to the root module.
    pub filename: String,
    /// Where it begins.
    pub start: Position,
}

/// A place in a file.
#[derive(Debug, Clone, Deserialize)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
}

impl DiagnosticEvent {
    /// Names the file as somebody who stands in the folder `project` would, where the program ran in its subfolder `dir`.
    pub(super) fn locate(&mut self, project: &Path, dir: &Path) {
        let (Some(range), Ok(dir)) = (&mut self.range, dir.strip_prefix(project)) else {
            return;
        };
        let mut path = PathBuf::new();
        for part in dir.join(&range.filename).components() {
            match part {
                Component::ParentDir if matches!(path.components().next_back(), Some(Component::Normal(_))) => {
                    path.pop();
                }
                part => path.push(part),
            }
        }
        range.filename = path.display().to_string();
    }
}

impl std::fmt::Display for DiagnosticEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(address) = &self.address {
            write!(f, "{address}: ")?;
        }
        write!(f, "{}", self.summary)?;
        if let Some(range) = &self.range {
            write!(f, " ({}:{})", range.filename, range.start.line)?;
        }
        if !self.detail.is_empty() {
            write!(f, "\n{}", self.detail.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_relative_to_the_project() {
        for (told, shown) in [
            ("main.tf", "infra/demo/main.tf"),
            ("../../modules/eks/addons.tf", "modules/eks/addons.tf"),
            (
                ".terraform/modules/vpc/main.tf",
                "infra/demo/.terraform/modules/vpc/main.tf",
            ),
            ("../../../elsewhere/main.tf", "../elsewhere/main.tf"),
            ("/opt/modules/main.tf", "/opt/modules/main.tf"),
        ] {
            let mut diagnostic: DiagnosticEvent = serde_json::from_value(serde_json::json!({
                "severity": "error",
                "summary": "Unsupported argument",
                "range": { "filename": told, "start": { "line": 29 } },
            }))
            .unwrap();
            diagnostic.locate(Path::new("/work/project"), Path::new("/work/project/infra/demo"));
            assert_eq!(diagnostic.to_string(), format!("Unsupported argument ({shown}:29)"));
        }
    }
}
