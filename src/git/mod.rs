//! The git repository that Argo CD reads, and the host that knows its deploy keys.

mod agent;
mod checkout;
mod gitea;
mod github;
mod gitlab;
mod host;
mod http;
mod manual;
mod reader;
mod repository;
mod rest;
mod token;

pub use checkout::{Checkout, CheckoutError};
pub use gitea::Gitea;
pub use github::Github;
pub use gitlab::Gitlab;
pub use host::{DeployKeyHost, HostError, RegisteredKey, Registration};
pub use manual::Manual;
pub use reader::{KeyError, KeyReader};
pub use repository::{GitError, GitRepository, Publication};
pub use token::{TokenError, TokenSource};
