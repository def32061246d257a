use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::serve::{Listener, ListenerExt};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpListener;

use super::{Error, Shutdown, stopped};

/// How long requests under way may take to end after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// The listener's address, which must be on loopback.
pub(super) fn loopback(listener: &TcpListener) -> Result<SocketAddr, Error> {
    let address = listener.local_addr().map_err(|source| Error::Socket {
        action: "read the address",
        source,
    })?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(Error::NotLoopback(address))
    }
}

/// Serves plain HTTP until the shutdown.
pub(super) async fn serve_tcp(listener: TcpListener, router: Router, shutdown: Shutdown) -> Result<(), Error> {
    // An answer in two writes would otherwise wait for the client's delayed acknowledgement of the first.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    serve(listener, router, shutdown).await
}

/// Serves until the shutdown, then lets what is under way end, within limits.
pub(super) async fn serve<L>(listener: L, router: Router, shutdown: Shutdown) -> Result<(), Error>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(stopped(shutdown.clone()))
        .into_future();
    let overdue = async {
        stopped(shutdown).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = server => result.map_err(|source| Error::Socket { action: "serve", source }),
        () = overdue => Ok(()),
    }
}

/// A client of one HTTP server on this machine.
///
/// It sends a request target byte for byte as it came, which a client that parses URLs would not, and a signature
/// covers those bytes.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    authority: String,
    client: Client<HttpConnector, Body>,
}

impl Upstream {
    pub(super) fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            // Well under the 75 seconds after which the emulator closes an idle connection: a request sent on one
            // that is being closed is lost, and the retry of a call that creates something fails.
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self {
            authority: address.to_string(),
            client,
        }
    }

    /// Sends a request whose URI has no authority of its own.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let uri = format!("http://{}{target}", self.authority);
        *request.uri_mut() = uri
            .parse()
            .map_err(|error| UpstreamError(format!("{target}: {error}")))?;
        let response = self.client.request(request).await;
        // The client's error hides its cause, and only the cause says what is wrong with the upstream.
        response.map(|response| response.map(Body::new)).map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            UpstreamError(format!("{error}{cause}"))
        })
    }
}

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer from the AWS emulator: {0}")]
pub(super) struct UpstreamError(String);

impl UpstreamError {
    /// The answer broke off or was too long.
    pub(super) fn body(error: axum::Error) -> Self {
        Self(format!("its answer could not be read: {error}"))
    }
}
