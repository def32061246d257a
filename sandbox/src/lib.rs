//! The local platform behind `mfsre up sandbox`: an AWS emulator, a real Kubernetes control plane, a git server,
//! Argo CD and the pods of the scaling chain, all on loopback, without Docker, without root and without an AWS account.
//!
//! Three calls make its life: [`prepare`] finds, downloads or builds the programs; [`start`] launches a detached
//! supervisor and waits until everything answers; [`stop`] ends every process and removes the data. [`status`] and
//! [`logs`] look at it meanwhile.
//!
//! The executable that embeds this crate must offer hidden commands, with exactly these arguments: `sandbox supervise
//! --dir DIR`, which calls [`supervise`]; `sandbox exec --parent PID -- PROGRAM ARGUMENT...`, which calls [`exec`]; and,
//! where the exporter's pods shall run, `sandbox exporter -- ARGUMENT...`, which is the exporter.

mod control_plane;
mod crypto;
mod error;
mod files;
mod kubelet;
mod progress;
pub mod services;
mod spec;
mod status;
mod supervisor;
mod tools;

pub use error::{Error, Missing};
pub use progress::{Event, Progress, Silent, Source};
pub use spec::{Spec, StartedBy, ToolSettings};
pub use status::{Health, Part, Secret, Status, Stopped};
pub use supervisor::{exec, logs, start, status, stop, supervise};
pub use tools::{
    ARGO_CD as ARGO_CD_VERSION, Resolved, Toolset, check_tool, install_manifest, missing, prepare, tool_names,
};
