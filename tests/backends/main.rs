//! Backends: the real program and the real Terraform, against an S3 in this process that can also refuse.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "../common/mod.rs"]
mod common;
mod create;
mod migrate;
mod server;
