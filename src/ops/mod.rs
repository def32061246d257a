//! The use cases, as plain functions over the adapters. They report through [`crate::workflow::Reporter`] and print
//! nothing.

mod adapter;
mod adoption;
mod applications;
mod backend;
mod bootstrap;
mod bump;
mod cloud;
mod context;
mod credentials;
mod down;
mod errors;
mod iam_policy;
mod infrastructure;
mod init;
mod lease;
mod load;
mod plan;
mod platform;
mod programs;
mod publish;
mod pull_secret;
mod render;
mod rotate;
mod sandbox;
mod status;
mod up;

pub use backend::{BucketSummary, MigrationSummary, create_backend, migrate_backend};
pub use bump::{BumpOptions, BumpSummary, ChangedValue, bump};
pub use context::{Context, Options};
pub use down::{DownSummary, down};
pub use iam_policy::{IamPolicies, Policy, Statement, iam_policies};
pub use init::{InitOptions, InitSummary, init};
pub use lease::AtWork;
pub use load::{Delays, LoadOptions, LoadSummary, LoadView, Requests, Sample, Scaling, load};
pub use plan::{PlanSummary, plan};
pub use platform::{GitToken, Platform};
pub use render::{check_blueprint, manifest, render_tree};
pub use rotate::{Credential, Outcome as RotationOutcome, Planned, RotateOptions, RotateSummary, rotate};
pub use sandbox::{forget_state, sandbox_dir, sandbox_spec, start_sandbox};
pub use status::{ClusterStatus, CredentialStatus, StatusReport, status};
pub use up::{UpSummary, up};
