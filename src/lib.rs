//! One environment file to a running GitOps platform on Amazon EKS, and back.
//!
//! Layers, each calling only those below it: [`cli`], [`commands`], [`ops`], [`workflow`], the adapters
//! ([`terraform`], [`tfe`], [`aws`], [`argocd`], [`kubernetes`], [`git`], [`render`]), [`config`], [`model`]. Beside them [`yaml`], which edits text.

pub mod argocd;
pub mod aws;
mod cancellation;
pub mod child;
pub mod cli;
pub mod commands;
pub mod config;
pub mod error;
pub mod git;
pub mod kubernetes;
mod machine;
pub mod model;
pub mod ops;
pub mod patience;
pub mod render;
pub mod terraform;
mod text;
pub mod tfe;
pub mod ui;
mod unfinished;
pub mod workflow;
pub mod yaml;
