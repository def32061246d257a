//! The AWS APIs that mfsre itself calls. Endpoints and credentials come from the standard variables and files, so the
//! same code runs on AWS, on other partitions and on an emulator.

mod calls;
mod clock;
mod cluster;
mod connection;
mod deploy_key;
mod error;
mod parameters;
mod password;
mod query;
mod registry;
mod retry_after;
mod signed;
mod state_bucket;
mod sweep;
mod token;

pub use calls::{Call, Subject};
pub use cluster::ClusterDescription;
pub use connection::{Aws, AwsAccess, Identity, StaticCredentials, role_of};
pub use deploy_key::{DeployKey, StoredKey};
pub use error::AwsError;
pub use parameters::{Note, Removal};
pub use password::{AdminPassword, PasswordVersion};
pub use registry::RegistryCredential;
pub use state_bucket::{Found, StateBucket};
pub use sweep::{Attempt, Inventory, Leftover, Maker, Owner, Resource, ResourceKind, Scope, State, Verdict};
pub use token::ClusterToken;
