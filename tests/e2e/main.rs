//! The whole product on this machine: the real binary, real Terraform, a real Kubernetes control plane and a real Argo CD;
//! only AWS and the nodes are simulated. Each test has a project of its own, and what it asserts is read from the outside:
//! from the APIs of AWS, Kubernetes, Argo CD and the git host, from files, and from `/proc`.
//!
//! Run with `cargo test --test e2e -- --ignored --test-threads=1 --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod argocd;
mod aws;
mod backends;
#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "../common/canary.rs"]
mod canary;
mod chain;
mod cloud;
mod cluster;
mod git;
mod interruptions;
mod manifests;
mod neighbours;
mod plan;
mod policy;
mod process;
mod project;
#[path = "../common/report.rs"]
mod report;
mod rotation;
mod story;
mod teardown;
mod tools;
mod values;
