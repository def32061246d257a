//! The git repository that Argo CD reads, and the host that knows its deploy keys.

mod checkout;
mod github;
mod host;
mod repository;

pub use checkout::{Checkout, CheckoutError};
pub use github::Github;
pub use host::{DeployKeyHost, HostError, Manual, RegisteredKey, Registration};
pub use repository::{GitError, GitRepository, Publication};
