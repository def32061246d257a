//! AWS fails at every call that mfsre makes, in every way that it can: what can be helped by trying again is, and the rest
//! is told. The adapters are the real ones; AWS is on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, clippy::print_stdout)]

#[path = "../common/aws.rs"]
mod aws;
#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "../common/canary.rs"]
mod canary;
#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/http.rs"]
mod http;

mod calls;
mod faults;
mod iam;
mod policy;
mod program;

use common::report;
