//! The Kubernetes API as mfsre uses it: server-side apply under its own field managers, and looking.

mod application;
mod cluster;
mod contents;
mod error;
mod forward;
mod kubeconfig;

pub use application::{ApplicationStatus, Condition, RefreshedApplication};
pub use cluster::{Applied, Kubernetes, ObjectId, TokenSource};
pub use error::KubernetesError;
pub use forward::ForwardedPort;
pub use kubeconfig::{KubeconfigEntry, merge_kubeconfig, render_kubeconfig};
