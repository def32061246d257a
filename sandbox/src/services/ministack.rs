//! The real AWS emulator, for tests.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of tests")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::http::Upstream;

/// Names the Python that has ministack; `cargo xtask test` sets it to the sandbox's own.
const PYTHON_VARIABLE: &str = "MFSRE_TEST_PYTHON";

/// A running emulator, which ends with this value.
pub(super) struct Ministack {
    _process: Child,
    _folder: TempDir,
    pub(super) address: SocketAddr,
}

impl Ministack {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The port is free until somebody takes it, which on a test machine nobody does in between.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let program = std::env::var_os(PYTHON_VARIABLE).unwrap_or_else(|| "python3".into());
        let process = Command::new(&program)
            .args(["-m", "ministack"])
            .env("GATEWAY_PORT", address.port().to_string())
            .env("BIND_HOST", "127.0.0.1")
            .env("IOT_MTLS_ENABLED", "0")
            .env("MINISTACK_REGION", "eu-west-1")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program:?} (set {PYTHON_VARIABLE}): {error}"));
        let ministack = Self {
            _process: process,
            _folder: folder,
            address,
        };
        ministack.ready().await;
        ministack
    }

    async fn ready(&self) {
        let client = Upstream::new(self.address);
        let started = Instant::now();
        loop {
            let request = Request::get("/_ministack/health").body(Body::empty()).unwrap();
            if client
                .send(request)
                .await
                .is_ok_and(|response| response.status().is_success())
            {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the emulator does not become ready"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
