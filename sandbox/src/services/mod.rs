//! The servers of the sandbox that stand in for what a platform has around it: a Git host with its deploy-key API,
//! the authenticator of EKS tokens, the AWS API, and the network between pods.
//!
//! Each one is a `serve` function over a listener that is already bound, so that the caller knows the port before
//! anything runs, and ends when its [`Shutdown`] turns true. They serve on loopback only.

pub mod aws_proxy;
mod credentials;
mod deploy_keys;
mod error;
pub mod git_server;
pub mod github_api;
mod http;
pub(crate) mod json_lines;
#[cfg(test)]
mod ministack;
pub mod pod_network;
mod repository;
mod sigv4;
pub mod token_webhook;
mod xml;

pub use credentials::Credentials;
pub use deploy_keys::{AddKeyError, DeployKey, DeployKeys, NewDeployKey};
pub use error::Error;
pub use repository::{InvalidRepositoryName, RepositoryName};

/// Turns true when a server must end; a dropped sender means the same.
pub type Shutdown = tokio::sync::watch::Receiver<bool>;

/// Returns when the server must end.
async fn stopped(mut shutdown: Shutdown) {
    // An error means that the sender is gone, and with it whoever could ask for anything else.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
