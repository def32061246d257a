//! Environment files: from YAML to settings whose invariants hold, with every mistake placed in its file.

mod backend;
mod blueprint;
mod diagnostic;
mod file;
mod project;
mod reader;
mod resolve;
mod schema;
mod settings;

pub use blueprint::{Blueprint, OwnBlueprint};
pub use diagnostic::{Diagnostic, Diagnostics, Severity, Source};
pub use file::EnvironmentFile;
pub use project::{Project, ProjectError};
pub use resolve::{Loaded, parse};
pub use schema::schema;
pub use settings::{
    Access, ArgoCd, Autoscaling, AutoscalingProvider, Backend, Cluster, Environment, Execution, Git, GitHost, Images,
    MainService, ManifestSource, Mirrors, NatGateways, Network, NodeGroup, Observability, SandboxSettings,
    StateEncryption, SupportType, Terraform,
};
