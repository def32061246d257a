//! An HTTP proxy that reaches what is in the cluster: pods by address, Services by address or name.
//!
//! It takes both forms of HTTP proxying, requests for an absolute URL and tunnels (RFC 9110, 7.1 and 9.3.6), over TCP
//! for the processes of pods and over a UNIX socket for the API server. For a Service each request or tunnel goes to
//! one of its ready pods, picked at random as kube-proxy does.
//!
//! `localhost` means the pod itself, so a process that wants that says by the user name of its proxy URL which pod it is.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::uri::{PathAndQuery, Scheme};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::{Directory, host};
use crate::crypto::random_index;
use crate::services::json_lines::JsonLines;
use crate::services::{Error, Shutdown, stopped};

/// How long a connection to a pod may take. The process is on this machine, so it takes it at once or hangs.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Serves on both listeners until the shutdown. Requests that reach nothing are written to `log`.
///
/// # Errors
/// The log cannot be opened.
pub async fn serve(
    tcp: TcpListener,
    unix: UnixListener,
    directory: Arc<Directory>,
    log: &Path,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    let proxy = Arc::new(Proxy {
        directory,
        log: JsonLines::open(log)?,
        client: Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(1))
            .pool_timer(TokioTimer::new())
            .build(connector),
    });
    let by_tcp = async {
        loop {
            // What can fail here is one connection, or the limit on open files, which passes.
            match tcp.accept().await {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    handle(&proxy, stream, &shutdown);
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let by_unix = async {
        loop {
            match unix.accept().await {
                Ok((stream, _)) => handle(&proxy, stream, &shutdown),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::select! {
        () = by_tcp => {}
        () = by_unix => {}
        () = stopped(shutdown.clone()) => {}
    }
    Ok(())
}

/// Serves one connection beside the others.
fn handle(proxy: &Arc<Proxy>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shutdown: &Shutdown) {
    let (proxy, shutdown) = (Arc::clone(proxy), shutdown.clone());
    tokio::spawn(async move {
        let ending = shutdown.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let (proxy, shutdown) = (Arc::clone(&proxy), shutdown.clone());
            async move { Ok::<_, std::convert::Infallible>(proxy.answer(request.map(Body::new), shutdown).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::select! {
            // A client that breaks off has lost interest.
            _ = connection => {}
            () = stopped(ending) => {}
        }
    });
}

struct Proxy {
    directory: Arc<Directory>,
    log: JsonLines,
    client: Client<HttpConnector, Body>,
}

impl Proxy {
    async fn answer(&self, request: Request<Body>, shutdown: Shutdown) -> Response<Body> {
        let wanted = request.uri().to_string();
        let answered = if request.method() == Method::CONNECT {
            self.tunnel(request, shutdown).await
        } else {
            self.forward(request).await
        };
        answered.unwrap_or_else(|problem| {
            self.log
                .append(&json!({"time": Timestamp::now(), "wanted": wanted, "problem": problem.message}));
            let mut response = Response::new(Body::from(format!("{}\n", problem.message)));
            *response.status_mut() = problem.status;
            response
        })
    }

    /// Connects to what a CONNECT names and passes bytes both ways from then on.
    async fn tunnel(&self, request: Request<Body>, shutdown: Shutdown) -> Result<Response<Body>, Problem> {
        let authority = request.uri().authority().cloned();
        let authority = authority.ok_or_else(|| Problem::request("CONNECT names no host and port"))?;
        let port = authority
            .port_u16()
            .ok_or_else(|| Problem::request("CONNECT names no port"))?;
        let address = self.locate(authority.host(), port, request.headers()).await?;
        let mut there = connect(address).await?;
        tokio::spawn(async move {
            let Ok(here) = hyper::upgrade::on(request).await else {
                return;
            };
            let mut here = TokioIo::new(here);
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                () = stopped(shutdown) => {}
            }
        });
        Ok(Response::new(Body::empty()))
    }

    /// Passes on a request for an absolute URL.
    async fn forward(&self, mut request: Request<Body>) -> Result<Response<Body>, Problem> {
        let uri = request.uri();
        let (Some(authority), Some("http")) = (uri.authority(), uri.scheme_str()) else {
            return Err(Problem::request(
                "this is a proxy: it takes requests for http:// URLs, and CONNECT",
            ));
        };
        let address = self
            .locate(authority.host(), authority.port_u16().unwrap_or(80), request.headers())
            .await?;
        let target = uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        let reached = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(address.to_string())
            .path_and_query(target)
            .build();
        *request.uri_mut() = reached.map_err(|error| Problem::request(&error.to_string()))?;
        let headers = request.headers_mut();
        // Those are for the next hop only (RFC 9110, 7.6.1); the body's framing is the client's business.
        for name in [header::PROXY_AUTHORIZATION, header::CONNECTION] {
            headers.remove(name);
        }
        headers.remove("proxy-connection");
        let response = self.client.request(request).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            Problem::gateway(format!(
                "{address} does not answer: {error}{}",
                cause.unwrap_or_default()
            ))
        })?;
        Ok(response.map(Body::new))
    }

    /// Where the process listens that `host` and `port` mean in the cluster.
    async fn locate(&self, host: &str, port: u16, headers: &HeaderMap) -> Result<SocketAddrV4, Problem> {
        let network = self.directory.network();
        let on_loopback = |pod: Ipv4Addr| {
            network.loopback_of(pod).ok_or_else(|| {
                Problem::gateway(format!(
                    "{pod} is the address of a pod that KWOK plays: nothing answers"
                ))
            })
        };
        let address = host.parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            let pod = caller(headers).ok_or_else(|| {
                Problem::request(
                    "localhost is the pod itself, and the proxy URL does not say by its user which pod that is",
                )
            })?;
            return Ok(SocketAddrV4::new(on_loopback(pod)?, port));
        }
        let services =
            self.directory.services().await.map_err(|problem| {
                Problem::gateway(format!("the API server does not say where {host} is: {problem}"))
            })?;
        let service = match address {
            Some(IpAddr::V4(address)) => match services.at(address) {
                Some(service) => Some(service),
                None => return Ok(SocketAddrV4::new(on_loopback(address)?, port)),
            },
            Some(IpAddr::V6(_)) => None,
            None => host::service(host).and_then(|(namespace, name)| services.named(&namespace, &name)),
        };
        let service = service.ok_or_else(|| Problem::gateway(format!("the cluster has no Service {host}")))?;
        let targets = service.targets(port);
        let picked = random_index(targets.len()).and_then(|index| targets.get(index));
        let target = picked.ok_or_else(|| {
            Problem::gateway(format!(
                "the Service {}/{} has no ready pod for port {port}",
                service.namespace, service.name
            ))
        })?;
        Ok(SocketAddrV4::new(on_loopback(*target.ip())?, target.port()))
    }
}

/// The pod that the request comes from, as the user name of its credentials for the proxy.
fn caller(headers: &HeaderMap) -> Option<Ipv4Addr> {
    let credentials = headers
        .get(header::PROXY_AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    decoded.split(':').next()?.parse().ok()
}

async fn connect(address: SocketAddrV4) -> Result<TcpStream, Problem> {
    let failed = |problem: &dyn std::fmt::Display| Problem::gateway(format!("cannot connect to {address}: {problem}"));
    let stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address))
        .await
        .map_err(|elapsed| failed(&elapsed))?
        .map_err(|error| failed(&error))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Why a request is not passed on.
struct Problem {
    status: StatusCode,
    message: String,
}

impl Problem {
    fn request(message: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.to_owned(),
        }
    }

    fn gateway(message: String) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            message,
        }
    }
}
