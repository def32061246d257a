//! Deploy keys on git hosts, each against a server that answers as that host does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "../common/http.rs"]
mod http;

mod gitea;
mod github;
mod gitlab;
mod manual;
mod server;
mod tokens;
