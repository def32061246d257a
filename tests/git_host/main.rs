//! Deploy keys on git hosts, each against a server that answers as that host does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "../common/http.rs"]
mod http;

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "../common/canary.rs"]
mod canary;
mod gitea;
mod github;
mod gitlab;
mod manual;
#[path = "../common/report.rs"]
mod report;
mod server;
mod tokens;
