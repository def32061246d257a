//! Serves the metrics over HTTP.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    VARY,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::exposition::{Coding, Encoder, Format, negotiate, negotiate_coding};
use crate::fetch::{FetchError, Reason};
use crate::poll::Board;
use crate::probe::{ProbeError, Prober};
use crate::read::ReadError;
use crate::telemetry::Telemetry;

/// Connections at the same time. Each of them costs little, but files are not without end.
const MAX_CONNECTIONS: usize = 512;
/// A client has this long for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// What is under way at a shutdown has this long to end.
const GRACE: Duration = Duration::from_secs(5);
/// Below this size compression gains nothing.
const MIN_COMPRESSED: usize = 1024;
const TEXT: &str = "text/plain; charset=utf-8";
const INDEX: &str = "mfsre-exporter\n\n/metrics  the targets' metrics and the exporter's own\n/probe?target=URL[&module=NAME]  \
                     one target's metrics, asked for now\n/healthz  whether the process works\n/readyz  whether every target \
                     was polled once\n";

/// What answers requests.
pub(crate) struct App {
    pub(crate) board: Arc<Board>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) prober: Prober,
    pub(crate) ready: AtomicBool,
}

/// Serves until `stop` says so, then lets requests under way end, within limits.
pub(crate) async fn serve(listener: TcpListener, app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let whole = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Such as too many open files, which passes.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // An answer in two writes would otherwise wait for the client's delayed acknowledgement of the first.
        let _ = stream.set_nodelay(true);
        let app = Arc::clone(&app);
        let mut stop = stop.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(move |request| answer(Arc::clone(&app), Asked::from(request)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                // What a client does wrong is its own affair.
                _ = connection.as_mut() => {}
                () = stopped(&mut stop) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, connections.acquire_many(whole))
        .await
        .is_err()
    {
        tracing::warn!("requests under way were cut off after {GRACE:?}");
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can stop it any more; then it has been.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What counts of a request. The request itself is a part of its connection's buffer: to hold it until the answer is there
/// would make hyper take a second one.
struct Asked {
    reads: bool,
    path: String,
    query: String,
    format: Format,
    coding: Coding,
}

impl From<Request<Incoming>> for Asked {
    fn from(request: Request<Incoming>) -> Self {
        let headers = request.headers();
        Self {
            reads: matches!(*request.method(), Method::GET | Method::HEAD),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or("").to_owned(),
            format: negotiate(header(headers, &ACCEPT)),
            coding: negotiate_coding(header(headers, &ACCEPT_ENCODING)),
        }
    }
}

async fn answer(app: Arc<App>, asked: Asked) -> Result<Response<Full<Bytes>>, Infallible> {
    if !asked.reads {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    let Asked { format, coding, .. } = asked;
    Ok(match asked.path.as_str() {
        "/metrics" => {
            let mut encoder = Encoder::new(format, 4096);
            app.board.write(&mut encoder);
            app.telemetry.write(&mut encoder);
            exposition(coding, format, encoder.finish())
        }
        "/probe" => match app.prober.probe(&asked.query, format).await {
            Ok(text) => exposition(coding, format, text),
            Err(error) => {
                tracing::debug!("a probe failed: {error}");
                plain(status(&error), format!("{error}\n"))
            }
        },
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" if app.ready.load(Ordering::Relaxed) => plain(StatusCode::OK, "ok\n"),
        "/readyz" => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "the first round of polls is under way\n",
        ),
        "/" => plain(StatusCode::OK, INDEX),
        _ => plain(StatusCode::NOT_FOUND, "nothing here; see / for what there is\n"),
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn status(error: &ProbeError) -> StatusCode {
    match error {
        ProbeError::NoTarget | ProbeError::Parameter(_) | ProbeError::NoModule(_) | ProbeError::Url { .. } => {
            StatusCode::BAD_REQUEST
        }
        ProbeError::Forbidden { .. } | ProbeError::ForbiddenAddress(_) => StatusCode::FORBIDDEN,
        ProbeError::Read(ReadError::Fetch(FetchError::Busy | FetchError::Memory)) => StatusCode::SERVICE_UNAVAILABLE,
        ProbeError::Read(error) if error.reason() == Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ProbeError::Dns(_) | ProbeError::Read(_) => StatusCode::BAD_GATEWAY,
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn exposition(coding: Coding, format: Format, text: String) -> Response<Full<Bytes>> {
    let compressed = match coding {
        Coding::Gzip if text.len() >= MIN_COMPRESSED => gzip(text.as_bytes()),
        Coding::Gzip | Coding::Identity => None,
    };
    let coded = compressed.is_some();
    let mut response = Response::new(Full::new(compressed.unwrap_or_else(|| text.into_bytes()).into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    if coded {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// The fastest level: what is saved beyond it costs more time than the wire does.
fn gzip(text: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
    encoder.write_all(text).ok()?;
    encoder.finish().ok()
}
