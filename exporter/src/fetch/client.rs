//! A small HTTP/1.1 client that connects to the address it is told, keeps connections, and never reads more than it may.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::{FetchError, Tls};
use crate::cli::RequestArgs;
use crate::config::{Credential, Request, Scheme};

/// A connection that was not used for this long is closed. Servers close theirs after 5 seconds (Node.js, uvicorn) to some
/// minutes; a poll period is 5 seconds.
const IDLE: Duration = Duration::from_secs(30);
/// So many connections are kept for one address.
const IDLE_PER_ADDRESS: usize = 64;
/// Room for the head of an answer, and for what is read at once.
const READ_BUFFER: usize = 64 * 1024;
/// A header may hold a token, but no more.
const MAX_CREDENTIAL: u64 = 64 * 1024;
/// What a body may have before it counts against the memory of all bodies together. Every target may have that much, so
/// that the large ones cannot take it from the small ones.
const SMALL: usize = 64 * 1024;

/// A URL, taken apart once.
#[derive(Debug)]
pub(crate) struct Endpoint {
    host: Host<String>,
    port: u16,
    authority: HeaderValue,
    target: Uri,
    /// For TLS: the name that the certificate must have.
    server_name: Option<ServerName<'static>>,
}

impl Endpoint {
    /// # Errors
    ///
    /// If the URL has no host or is not one that HTTP can ask.
    pub(crate) fn new(url: &Url, tls: &Tls) -> Result<Self, String> {
        let bad = |what: &str| format!("{url} has no {what} that can be asked");
        let host = url.host().ok_or_else(|| bad("host"))?.to_owned();
        let port = url.port_or_known_default().ok_or_else(|| bad("port"))?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let target = PathAndQuery::try_from(target).map_err(|_| bad("path"))?;
        let server_name = if url.scheme() == "https" {
            Some(match (&tls.server_name, &host) {
                (Some(name), _) => name.clone(),
                (None, Host::Ipv4(address)) => ServerName::from(std::net::IpAddr::V4(*address)),
                (None, Host::Ipv6(address)) => ServerName::from(std::net::IpAddr::V6(*address)),
                (None, Host::Domain(name)) => {
                    ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| bad("host name"))?
                }
            })
        } else {
            None
        };
        Ok(Self {
            host,
            port,
            authority: HeaderValue::try_from(authority).map_err(|_| bad("host"))?,
            target: Uri::from(target),
            server_name,
        })
    }

    /// The host: an address, or a name to look up.
    pub(crate) fn host(&self) -> &Host<String> {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// What requests may take.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) timeout: Duration,
    connect_timeout: Duration,
    max_body: u32,
    pub(crate) max_samples: usize,
}

impl From<&RequestArgs> for Limits {
    fn from(args: &RequestArgs) -> Self {
        Self {
            timeout: args.timeout,
            connect_timeout: args.connect_timeout,
            max_body: args.max_body.get(),
            max_samples: args.max_samples.get(),
        }
    }
}

/// Which connections are alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    address: SocketAddr,
    /// For TLS: which configuration, by its place in memory, and which name.
    tls: Option<(usize, ServerName<'static>)>,
}

struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// A body that was read. While it lives, it counts against the memory for bodies.
pub(crate) struct Document {
    bytes: Bytes,
    _memory: Option<OwnedSemaphorePermit>,
}

impl Document {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The client.
pub(crate) struct Client {
    pub(crate) limits: Limits,
    requests: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    idle: Mutex<HashMap<Key, Vec<Idle>>>,
}

impl Client {
    pub(crate) fn new(args: &RequestArgs) -> Self {
        let permits = |number: u32| {
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(number.min(Semaphore::MAX_PERMITS)))
        };
        Self {
            limits: Limits::from(args),
            requests: permits(args.concurrency.get()),
            memory: permits(args.max_buffer.get()),
            idle: Mutex::default(),
        }
    }

    /// Asks an address for a document.
    ///
    /// # Errors
    ///
    /// Whatever kept it from giving one in time.
    pub(crate) async fn fetch(
        &self,
        endpoint: &Endpoint,
        address: SocketAddr,
        request: &Request,
    ) -> Result<Document, FetchError> {
        let limit = self.limits.timeout;
        let _permit = match timeout(limit, self.requests.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(FetchError::Busy),
        };
        match timeout(limit, self.exchange(endpoint, address, request)).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Timeout(limit)),
        }
    }

    /// Closes connections that were not used for long.
    pub(crate) fn tidy(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, idle| {
                idle.retain(|connection| connection.since.elapsed() < IDLE && !connection.sender.is_closed());
                !idle.is_empty()
            });
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        address: SocketAddr,
        request: &Request,
    ) -> Result<Document, FetchError> {
        let headers = headers(endpoint, request).await?;
        let key = Key {
            address,
            tls: endpoint
                .server_name
                .as_ref()
                .map(|name| (Arc::as_ptr(&request.tls.config).addr(), name.clone())),
        };
        let message = || {
            let mut message = hyper::Request::new(Full::new(request.body.clone().unwrap_or_default()));
            *message.method_mut() = if request.body.is_some() {
                Method::POST
            } else {
                Method::GET
            };
            *message.uri_mut() = endpoint.target.clone();
            message.headers_mut().clone_from(&headers);
            message
        };
        while let Some(mut sender) = self.take(&key) {
            // The server may close a connection at the moment it is used again. Nothing is known about the request then;
            // to ask a second time does no harm, unless it is a POST.
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(message()).await {
                Ok(response) => return self.document(key, sender, response, request).await,
                Err(error) if request.body.is_none() || error.message().is_some() => {}
                Err(error) => return Err(FetchError::Protocol(error.into_error())),
            }
        }
        let mut sender = self.connect(&key, &request.tls).await?;
        let response = sender.send_request(message()).await.map_err(FetchError::Protocol)?;
        self.document(key, sender, response, request).await
    }

    fn take(&self, key: &Key) -> Option<SendRequest<Full<Bytes>>> {
        let mut pool = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = pool.get_mut(key)?;
        loop {
            let connection = idle.pop()?;
            if connection.since.elapsed() < IDLE && !connection.sender.is_closed() {
                return Some(connection.sender);
            }
        }
    }

    fn give_back(&self, key: Key, sender: SendRequest<Full<Bytes>>) {
        if sender.is_closed() {
            return;
        }
        let mut pool = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = pool.entry(key).or_default();
        if idle.len() < IDLE_PER_ADDRESS {
            idle.push(Idle {
                sender,
                since: Instant::now(),
            });
        }
    }

    async fn connect(&self, key: &Key, tls: &Tls) -> Result<SendRequest<Full<Bytes>>, FetchError> {
        let limit = self.limits.connect_timeout;
        let connect = async {
            let stream = TcpStream::connect(key.address).await.map_err(FetchError::Connect)?;
            stream.set_nodelay(true).map_err(FetchError::Connect)?;
            match &key.tls {
                None => handshake(stream).await,
                Some((_, name)) => {
                    let stream = TlsConnector::from(Arc::clone(&tls.config))
                        .connect(name.clone(), stream)
                        .await
                        .map_err(FetchError::Tls)?;
                    handshake(stream).await
                }
            }
        };
        match timeout(limit, connect).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::ConnectTimeout(limit)),
        }
    }

    async fn document(
        &self,
        key: Key,
        sender: SendRequest<Full<Bytes>>,
        response: Response<Incoming>,
        request: &Request,
    ) -> Result<Document, FetchError> {
        let (head, body) = response.into_parts();
        let valid = if request.valid_status.is_empty() {
            head.status.is_success()
        } else {
            request.valid_status.contains(&head.status.as_u16())
        };
        if !valid {
            return Err(match head.headers.get(LOCATION) {
                Some(location) if head.status.is_redirection() => FetchError::Redirect {
                    status: head.status,
                    location: String::from_utf8_lossy(location.as_bytes()).into_owned(),
                },
                _ => FetchError::Status(head.status),
            });
        }
        if let Some(coding) = head.headers.get(CONTENT_ENCODING)
            && coding != "identity"
        {
            return Err(FetchError::Encoding(
                String::from_utf8_lossy(coding.as_bytes()).into_owned(),
            ));
        }
        let document = self.body(body).await?;
        // Only now, since nothing else may come on this connection before.
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            self.give_back(key, sender);
        }
        Ok(document)
    }

    async fn body(&self, mut body: Incoming) -> Result<Document, FetchError> {
        let max = self.limits.max_body;
        let limit = usize::try_from(max).unwrap_or(usize::MAX);
        let announced = body
            .size_hint()
            .exact()
            .map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if announced.is_some_and(|length| length > limit) {
            return Err(FetchError::TooLarge(max));
        }
        let mut first = Bytes::new();
        let mut whole = Vec::new();
        let mut memory: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(FetchError::Protocol)?.into_data() else {
                continue;
            };
            if first.is_empty() && whole.is_empty() {
                // Most bodies come in one piece, which then is not copied.
                first = data;
                continue;
            }
            let length = whole.len().max(first.len()) + data.len();
            if length > limit {
                return Err(FetchError::TooLarge(max));
            }
            if length > SMALL {
                let held = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
                // The announced length at once, else twice what is there, as the vector grows.
                let wanted = announced.unwrap_or(0).max(length.min(limit / 2) * 2);
                if wanted > held {
                    let more = u32::try_from(wanted - held).unwrap_or(u32::MAX);
                    let more = Arc::clone(&self.memory)
                        .try_acquire_many_owned(more)
                        .map_err(|_| FetchError::Memory)?;
                    match &mut memory {
                        None => memory = Some(more),
                        Some(memory) => memory.merge(more),
                    }
                }
            }
            if whole.is_empty() {
                whole.reserve_exact(announced.unwrap_or(length));
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
        if first.len() > limit {
            return Err(FetchError::TooLarge(max));
        }
        Ok(Document {
            bytes: if whole.is_empty() { first } else { whole.into() },
            _memory: memory,
        })
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = Builder::new()
        .max_buf_size(READ_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(FetchError::Protocol)?;
    // It ends when the sender is dropped or the server closes. What goes wrong, the request hears.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

async fn headers(endpoint: &Endpoint, request: &Request) -> Result<HeaderMap, FetchError> {
    const AGENT: HeaderValue = HeaderValue::from_static(concat!("mfsre-exporter/", env!("CARGO_PKG_VERSION")));
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::with_capacity(4 + request.headers.len() + request.credentials.len());
    headers.insert(HOST, endpoint.authority.clone());
    headers.insert(USER_AGENT, AGENT);
    headers.insert(ACCEPT, JSON);
    if request.body.is_some() {
        headers.insert(CONTENT_TYPE, JSON);
    }
    for (name, value) in &request.headers {
        headers.insert(name, value.clone());
    }
    for credential in &request.credentials {
        headers.insert(&credential.header, read_credential(credential).await?);
    }
    Ok(headers)
}

/// The value of a header from its file, which may have been replaced since the last time.
async fn read_credential(credential: &Credential) -> Result<HeaderValue, FetchError> {
    use base64::Engine as _;
    use tokio::io::AsyncReadExt as _;
    use zeroize::Zeroizing;

    let failed = |source| FetchError::CredentialsFile {
        path: credential.file.clone(),
        source,
    };
    let mut text = Zeroizing::new(String::new());
    tokio::fs::File::open(&credential.file)
        .await
        .map_err(failed)?
        .take(MAX_CREDENTIAL)
        .read_to_string(&mut text)
        .await
        .map_err(failed)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    let value = match &credential.scheme {
        Scheme::Plain => Zeroizing::new(secret.to_owned()),
        Scheme::Bearer => Zeroizing::new(format!("Bearer {secret}")),
        Scheme::Basic(username) => {
            let pair = Zeroizing::new(format!("{username}:{secret}"));
            Zeroizing::new(format!(
                "Basic {}",
                *Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()))
            ))
        }
    };
    let mut value = HeaderValue::from_str(&value)
        .ok()
        .filter(|_| !secret.is_empty())
        .ok_or_else(|| FetchError::CredentialsText {
            path: credential.file.clone(),
        })?;
    // Debug does not print it.
    value.set_sensitive(true);
    Ok(value)
}
