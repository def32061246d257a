//! The shape of a configuration file as it is written. Values are checked in [`super::read`], so that one run can tell
//! every mistake.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::mapping::Kind;

type Text = Spanned<String>;

/// A configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    /// What to poll, besides what the command line names.
    #[serde(default)]
    pub(super) targets: Vec<TargetFile>,
    /// How to ask and what to read, by name.
    #[serde(default)]
    pub(super) modules: BTreeMap<String, ModuleFile>,
}

/// One URL to poll.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetFile {
    pub(super) url: Text,
    /// `default` where it is not said.
    pub(super) module: Option<Text>,
    /// Values of the module's parameters.
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, String>,
    /// Labels for all of its samples.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, Text>,
}

/// How to ask and what to read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModuleFile {
    /// What differs between its requests, each with its default if it has one.
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, Spanned<Option<String>>>,
    #[serde(default)]
    pub(super) request: RequestFile,
    #[serde(default)]
    pub(super) probe: ProbeFile,
    pub(super) metrics: Spanned<Vec<MetricFile>>,
}

/// How to ask.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestFile {
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Text>,
    /// Headers whose values stand in files.
    #[serde(default)]
    pub(super) header_files: BTreeMap<String, Spanned<PathBuf>>,
    pub(super) bearer_token_file: Option<Spanned<PathBuf>>,
    pub(super) basic_auth: Option<BasicAuthFile>,
    #[serde(default)]
    pub(super) tls: TlsFile,
    /// A body makes it a POST.
    pub(super) body: Option<Text>,
    /// All of 2xx where it is not said.
    pub(super) valid_status: Option<Vec<Spanned<u16>>>,
}

/// User name and password.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BasicAuthFile {
    pub(super) username: Text,
    pub(super) password_file: PathBuf,
}

/// TLS.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsFile {
    pub(super) ca_file: Option<Spanned<PathBuf>>,
    /// The target's own certificate.
    pub(super) pinned_file: Option<Spanned<PathBuf>>,
    pub(super) cert_file: Option<Spanned<PathBuf>>,
    pub(super) key_file: Option<Spanned<PathBuf>>,
    pub(super) server_name: Option<Text>,
}

/// What `/probe` may ask with a module.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeFile {
    #[serde(default)]
    pub(super) allow: Vec<Text>,
}

/// One metric.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricFile {
    pub(super) name: Text,
    pub(super) help: Option<String>,
    #[serde(default, rename = "type")]
    pub(super) kind: Kind,
    pub(super) unit: Option<Text>,
    pub(super) each: Option<Text>,
    pub(super) value: Text,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, Text>,
    pub(super) scale: Option<Spanned<f64>>,
    #[serde(default)]
    pub(super) map: BTreeMap<String, Spanned<f64>>,
    pub(super) default: Option<Spanned<f64>>,
    #[serde(default)]
    pub(super) optional: bool,
    pub(super) pattern: Option<Text>,
    #[serde(default)]
    pub(super) time: bool,
    pub(super) timestamp: Option<MomentFile>,
    pub(super) created: Option<MomentFile>,
}

/// A point in time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MomentFile {
    pub(super) path: Text,
    #[serde(default)]
    pub(super) unit: MomentUnit,
}

/// What a point in time is counted in, since 1970.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) enum MomentUnit {
    #[default]
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Milliseconds,
}
