//! What the caller asks for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

/// One sandbox: everything [`prepare`](crate::prepare) and [`start`](crate::start) need to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The environment's name; also the name that nodes and certificates carry.
    pub name: String,
    /// Where the sandbox keeps its state. Everything in it is removed by [`stop`](crate::stop).
    pub dir: PathBuf,
    /// The tool cache; `None` means `MFSRE_CACHE_DIR`, else `$XDG_CACHE_HOME/mfsre`, else `~/.cache/mfsre`.
    pub cache: Option<PathBuf>,
    /// The EKS cluster's name; tokens for another cluster are refused.
    pub cluster: String,
    /// The AWS region that the emulator plays.
    pub region: String,
    /// The Kubernetes minor version, for example `1.35`.
    pub cluster_version: String,
    /// Where the git server listens. Fixed, because the repository's URL stands in the environment file.
    pub git_listen: SocketAddr,
    /// The repository on the git server, for example `mfsre/platform.git`.
    pub git_repository: String,
    /// Where to look for tools.
    pub tools: ToolSettings,
    /// How many nodes KWOK plays.
    pub nodes: u32,
    /// Whether the horizontal pod autoscaler reacts within seconds instead of minutes (for tests).
    pub fast_hpa: bool,
    /// The command that started the sandbox.
    pub started_by: StartedBy,
}

/// Settings for [`prepare`](crate::prepare).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ToolSettings {
    /// Tools by name whose path is given. Such a tool is used as it is, or it is an error.
    pub explicit: BTreeMap<String, PathBuf>,
    /// Base URL of a mirror of the prebuilt files, laid out as `<tool>/<version>/<file name>`.
    pub mirror: Option<Url>,
    /// Where Argo CD's install manifest is fetched from instead of Argo CD's repository; the checksum is the same.
    pub install_manifest: Option<Url>,
}

/// The command that started the sandbox, and that will therefore stop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartedBy {
    /// `mfsre up`
    Up,
    /// `mfsre sandbox start`
    Start,
}
