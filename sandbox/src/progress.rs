//! How the sandbox tells its caller what it is doing.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where a tool came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A path in the settings.
    Explicit,
    /// The `PATH` of the user.
    Path,
    /// The folder named by `KUBEBUILDER_ASSETS` (the convention of envtest).
    KubebuilderAssets,
    /// The cache, from an earlier run.
    Cache,
    /// A prebuilt file, checked against its pinned sha256.
    Download,
    /// Built from Go modules.
    GoModules,
    /// Python packages, checked against pinned hashes.
    Pypi,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Explicit => "from the settings",
            Self::Path => "from PATH",
            Self::KubebuilderAssets => "from KUBEBUILDER_ASSETS",
            Self::Cache => "from the cache",
            Self::Download => "downloaded",
            Self::GoModules => "built from Go modules",
            Self::Pypi => "installed from PyPI",
        })
    }
}

/// One step of [`prepare`](crate::prepare) or [`start`](crate::start).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// A tool is being fetched or built; repeated about once a second.
    ToolWorking {
        /// The tool.
        name: String,
        /// By which way, for example `building from Go modules`.
        how: String,
        /// Time since this way was begun.
        elapsed: Duration,
    },
    /// A tool is there.
    ToolResolved {
        /// The tool.
        name: String,
        /// Its version.
        version: String,
        /// Where it came from.
        source: Source,
        /// Where it is.
        path: PathBuf,
    },
    /// A part of the sandbox was started and is not ready yet.
    PartStarting {
        /// The part.
        name: String,
    },
    /// A part of the sandbox answers.
    PartReady {
        /// The part.
        name: String,
        /// The address it listens on, where it does.
        address: Option<String>,
        /// Time from its start until it answered.
        elapsed: Duration,
    },
}

/// Receives [`Event`]s. Calls come from the task that runs the operation and must not block.
pub trait Progress: Send + Sync {
    /// Takes notice of one event.
    fn event(&self, event: Event);
}

/// A [`Progress`] that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}
