//! Asks an address for a document: keeps connections, and never reads more than it may.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::http::{Broken, Chunks, Framing, Head, HeadReader};
use super::{FetchError, Tls, credentials};
use crate::cli::RequestArgs;
use crate::config::{Request, Values};
use crate::mapping::Bounds;

/// A connection that was not used for this long is closed. Servers close theirs after 5 seconds (Node.js, uvicorn) to some
/// minutes; a poll period is 5 seconds.
const IDLE: Duration = Duration::from_secs(30);
/// So many connections are kept for one address.
const IDLE_PER_ADDRESS: usize = 64;
/// What is read at first. The head and the body of a small answer fit.
const READ: usize = 1024;
/// What an answer may have before it counts against the memory of all answers together. Every target may have that much, so
/// that the large ones cannot take it from the small ones.
const SMALL: usize = 64 * 1024;

/// A URL, taken apart once.
#[derive(Debug)]
pub(crate) struct Endpoint {
    host: Host<String>,
    port: u16,
    /// The head of the request, but for credentials and the empty line.
    head: String,
    /// What is sent behind it.
    body: Option<String>,
    /// For TLS: the name that the certificate must have.
    server_name: Option<ServerName<'static>>,
}

impl Endpoint {
    /// # Errors
    ///
    /// If the URL has no host that can be asked.
    pub(crate) fn new(url: &Url, request: &Request, values: &Values) -> Result<Self, String> {
        let bad = || format!("{url} has no host that can be asked");
        let host = url.host().ok_or_else(bad)?.to_owned();
        let port = url.port_or_known_default().ok_or_else(bad)?;
        let server_name = if url.scheme() == "https" {
            Some(match (&request.tls.server_name, &host) {
                (Some(name), _) => name.clone(),
                (None, Host::Ipv4(address)) => ServerName::from(IpAddr::V4(*address)),
                (None, Host::Ipv6(address)) => ServerName::from(IpAddr::V6(*address)),
                (None, Host::Domain(name)) => {
                    ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| bad())?
                }
            })
        } else {
            None
        };
        let body = request.body.as_ref().map(|body| body.with(values));
        Ok(Self {
            head: head(url, request, values, body.as_ref().map(String::len)),
            body,
            host,
            port,
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

/// The head of a request. What it is made of was checked: a URL has no spaces or line ends, nor has a header.
fn head(url: &Url, request: &Request, values: &Values, body: Option<usize>) -> String {
    let mut head = String::with_capacity(256);
    let method = if body.is_some() { "POST" } else { "GET" };
    let (mark, query) = url.query().map_or(("", ""), |query| ("?", query));
    for part in [method, " ", url.path(), mark, query, " HTTP/1.1\r\nHost: "] {
        head.push_str(part);
    }
    head.push_str(url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        head.push(':');
        head.push_str(itoa::Buffer::new().format(port));
    }
    head.push_str(concat!(
        "\r\nUser-Agent: mfsre-exporter/",
        env!("CARGO_PKG_VERSION"),
        "\r\n"
    ));
    let mut header = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            head.push_str(part);
        }
    };
    let has = |name: HeaderName| request.headers.iter().any(|(known, _)| *known == name);
    if !has(ACCEPT) {
        header("Accept", "application/json");
    }
    if let Some(length) = body {
        header("Content-Length", itoa::Buffer::new().format(length));
        if !has(CONTENT_TYPE) {
            header("Content-Type", "application/json");
        }
    }
    for (name, value) in &request.headers {
        header(name.as_str(), &value.with(values));
    }
    head
}

/// What requests may take.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) timeout: Duration,
    connect_timeout: Duration,
    max_body: u32,
    /// What an answer may give.
    pub(crate) bounds: Bounds,
}

impl From<&RequestArgs> for Limits {
    fn from(args: &RequestArgs) -> Self {
        Self {
            timeout: args.timeout,
            connect_timeout: args.connect_timeout,
            max_body: args.max_body.get(),
            bounds: Bounds::from(args),
        }
    }
}

impl From<&RequestArgs> for Bounds {
    fn from(args: &RequestArgs) -> Self {
        Self {
            samples: args.max_samples.get(),
            labels: usize::try_from(args.max_body.get())
                .unwrap_or(usize::MAX)
                .saturating_mul(2),
        }
    }
}

/// A connection, with or without TLS.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

type Stream = Box<dyn Connection>;

/// Which connections are alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    address: SocketAddr,
    /// For TLS: which configuration, by its place in memory, and which name. Boxed, as most targets have none.
    tls: Option<Box<(usize, String)>>,
}

struct Idle {
    stream: Stream,
    since: Instant,
}

/// An answer on its way, and the memory that it holds beyond what every one may have.
struct Incoming<'c> {
    client: &'c Client,
    buffer: Vec<u8>,
    memory: Option<OwnedSemaphorePermit>,
}

/// A body that was read. While it lives, it counts against the memory for answers.
pub(crate) struct Document {
    buffer: Vec<u8>,
    body: Range<usize>,
    _memory: Option<OwnedSemaphorePermit>,
}

impl Document {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.body.clone()]
    }
}

/// The client.
pub(crate) struct Client {
    pub(crate) limits: Limits,
    requests: Semaphore,
    memory: Arc<Semaphore>,
    /// In a tree, which grows with the number of targets and not by doubling.
    idle: Mutex<BTreeMap<Key, Vec<Idle>>>,
}

/// What one try on one connection came to.
enum Attempt {
    Answered(Document, Option<Stream>),
    /// The server closed the connection before it said anything. On one that was used before, that happens at any time.
    Closed(FetchError),
}

impl Client {
    pub(crate) fn new(args: &RequestArgs) -> Self {
        let permits = |number: u32| {
            usize::try_from(number)
                .unwrap_or(usize::MAX)
                .min(Semaphore::MAX_PERMITS)
        };
        Self {
            limits: Limits::from(args),
            requests: Semaphore::new(permits(args.concurrency.get())),
            memory: Arc::new(Semaphore::new(permits(args.max_buffer.get()))),
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
                idle.retain(|connection| connection.since.elapsed() < IDLE);
                !idle.is_empty()
            });
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        address: SocketAddr,
        request: &Request,
    ) -> Result<Document, FetchError> {
        let key = Key {
            address,
            tls: endpoint
                .server_name
                .as_ref()
                .map(|name| Box::new((Arc::as_ptr(&request.tls.config).addr(), name.to_str().into_owned()))),
        };
        let mut message = Zeroizing::new(Vec::with_capacity(endpoint.head.len() + 2));
        message.extend_from_slice(endpoint.head.as_bytes());
        credentials::append(&request.credentials, &mut message).await?;
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(endpoint.body.as_deref().unwrap_or_default().as_bytes());
        // To ask a second time does no harm, unless it is a POST; so that gets a connection of its own.
        if endpoint.body.is_none() {
            while let Some(stream) = self.take(&key).await {
                if let Attempt::Answered(document, stream) = self.attempt(stream, &message, request).await? {
                    self.give_back(key, stream);
                    return Ok(document);
                }
            }
        }
        let stream = self.connect(address, endpoint, &request.tls).await?;
        match self.attempt(stream, &message, request).await? {
            Attempt::Answered(document, stream) => {
                self.give_back(key, stream);
                Ok(document)
            }
            Attempt::Closed(error) => Err(error),
        }
    }

    /// A connection that is still open, as far as one can know.
    async fn take(&self, key: &Key) -> Option<Stream> {
        loop {
            let mut connection = {
                let mut pool = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                pool.get_mut(key)?.pop()?
            };
            if connection.since.elapsed() < IDLE && is_silent(&mut connection.stream).await {
                return Some(connection.stream);
            }
        }
    }

    fn give_back(&self, key: Key, stream: Option<Stream>) {
        let Some(stream) = stream else { return };
        let mut pool = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Mostly there is one, where a Vec would make room for four.
        let idle = pool.entry(key).or_insert_with(|| Vec::with_capacity(1));
        if idle.len() < IDLE_PER_ADDRESS {
            idle.push(Idle {
                stream,
                since: Instant::now(),
            });
        }
    }

    async fn connect(&self, address: SocketAddr, endpoint: &Endpoint, tls: &Tls) -> Result<Stream, FetchError> {
        let limit = self.limits.connect_timeout;
        let connect = async {
            let stream = TcpStream::connect(address).await.map_err(FetchError::Connect)?;
            stream.set_nodelay(true).map_err(FetchError::Connect)?;
            let stream: Stream = match &endpoint.server_name {
                None => Box::new(stream),
                Some(name) => Box::new(
                    TlsConnector::from(Arc::clone(&tls.config))
                        .connect(name.clone(), stream)
                        .await
                        .map_err(FetchError::Tls)?,
                ),
            };
            Ok(stream)
        };
        match timeout(limit, connect).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::ConnectTimeout(limit)),
        }
    }

    async fn attempt(&self, mut stream: Stream, message: &[u8], request: &Request) -> Result<Attempt, FetchError> {
        let sent = async {
            stream.write_all(message).await?;
            stream.flush().await
        };
        // A server may answer before it has heard everything, and close. So an error here is none yet.
        let sent = sent.await;
        let mut incoming = Incoming {
            client: self,
            buffer: Vec::with_capacity(READ),
            memory: None,
        };
        let mut reader = HeadReader::default();
        let head = loop {
            if let Some(head) = reader.read(&incoming.buffer)? {
                break head;
            }
            match incoming.read(&mut stream).await {
                Ok(0) if incoming.buffer.is_empty() => {
                    let error = sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                    return Ok(Attempt::Closed(FetchError::Broken(error)));
                }
                Err(FetchError::Broken(error)) if incoming.buffer.is_empty() => {
                    return Ok(Attempt::Closed(FetchError::Broken(error)));
                }
                Ok(0) => return Err(FetchError::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        };
        check(&head, request)?;
        let (body, whole) = incoming.body(&mut stream, &head).await?;
        // What came behind the answer was not asked for, so nothing that follows could be trusted.
        let stream = (head.keep && whole).then_some(stream);
        let Incoming { buffer, memory, .. } = incoming;
        Ok(Attempt::Answered(
            Document {
                buffer,
                body,
                _memory: memory,
            },
            stream,
        ))
    }
}

/// Whether the answer is one to read.
fn check(head: &Head, request: &Request) -> Result<(), FetchError> {
    let valid = if request.valid_status.is_empty() {
        (200..300).contains(&head.status)
    } else {
        request.valid_status.contains(&head.status)
    };
    match (&head.location, &head.coding) {
        (Some(location), _) if !valid && (300..400).contains(&head.status) => Err(FetchError::Redirect {
            status: head.status,
            location: location.clone(),
        }),
        _ if !valid => Err(FetchError::Status(head.status)),
        (_, Some(coding)) => Err(FetchError::Encoding(coding.clone())),
        _ => Ok(()),
    }
}

/// Whether nothing came on a connection since the last answer: no end, and no byte that nobody asked for.
async fn is_silent(stream: &mut Stream) -> bool {
    let mut byte = [0];
    poll_fn(|context| {
        let mut buffer = ReadBuf::new(&mut byte);
        Poll::Ready(Pin::new(&mut *stream).poll_read(context, &mut buffer).is_pending())
    })
    .await
}

impl Incoming<'_> {
    /// Reads what is there, into room that is there.
    async fn read(&mut self, stream: &mut Stream) -> Result<usize, FetchError> {
        if self.buffer.len() == self.buffer.capacity() {
            self.reserve(self.buffer.len())?;
        }
        stream.read_buf(&mut self.buffer).await.map_err(FetchError::Broken)
    }

    /// Makes room, if there is memory for it.
    fn reserve(&mut self, more: usize) -> Result<(), FetchError> {
        let wanted = self.buffer.len().saturating_add(more);
        if wanted <= self.buffer.capacity() {
            return Ok(());
        }
        let held = self.memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted > SMALL && wanted > held {
            let missing = u32::try_from(wanted - held).map_err(|_| FetchError::Memory)?;
            let permit = Arc::clone(&self.client.memory)
                .try_acquire_many_owned(missing)
                .map_err(|_| FetchError::Memory)?;
            match &mut self.memory {
                None => self.memory = Some(permit),
                Some(memory) => memory.merge(permit),
            }
        }
        self.buffer.reserve_exact(more);
        Ok(())
    }

    /// Reads the body; where it stands in the buffer, and whether nothing came behind it.
    async fn body(&mut self, stream: &mut Stream, head: &Head) -> Result<(Range<usize>, bool), FetchError> {
        let max = self.client.limits.max_body;
        let limit = usize::try_from(max).unwrap_or(usize::MAX);
        let ended = || FetchError::Broken(io::ErrorKind::UnexpectedEof.into());
        match head.framing {
            Framing::Length(length) => {
                let length = usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= limit)
                    .ok_or(FetchError::TooLarge(max))?;
                let end = head.length + length;
                self.reserve(end.saturating_sub(self.buffer.len()))?;
                while self.buffer.len() < end {
                    if self.read(stream).await? == 0 {
                        return Err(ended());
                    }
                }
                Ok((head.length..end, self.buffer.len() == end))
            }
            Framing::Chunked => {
                let mut chunks = Chunks::new(head.length);
                while !chunks.read(&mut self.buffer)? {
                    if chunks.body().len() > limit {
                        return Err(FetchError::TooLarge(max));
                    }
                    if self.read(stream).await? == 0 {
                        return Err(ended());
                    }
                }
                if chunks.body().len() > limit {
                    return Err(FetchError::TooLarge(max));
                }
                Ok((chunks.body(), !chunks.has_rest(&self.buffer)))
            }
            Framing::UntilClosed => loop {
                if self.buffer.len() - head.length > limit {
                    return Err(FetchError::TooLarge(max));
                }
                if self.read(stream).await? == 0 {
                    return Ok((head.length..self.buffer.len(), true));
                }
            },
        }
    }
}

impl From<Broken> for FetchError {
    fn from(broken: Broken) -> Self {
        Self::Protocol(broken.0)
    }
}
