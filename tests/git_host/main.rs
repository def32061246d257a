//! Deploy keys on git hosts, each against a server that answers as that host does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod gitea;
mod github;
mod gitlab;
mod manual;
mod server;
mod tokens;
