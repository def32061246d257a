//! HTTP servers that behave as a test wants.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a target does with a request whose head is given. `false` closes the connection.
type Behaviour = dyn Fn(&str, &mut dyn Write) -> bool + Send + Sync;

/// A running target.
pub struct Target {
    pub address: SocketAddr,
    /// Heads of the requests, in order.
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Target {
    /// One that behaves like this.
    pub fn start(behaviour: impl Fn(&str, &mut dyn Write) -> bool + Send + Sync + 'static) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), None, behaviour)
    }

    /// One at this address, with TLS where it is given.
    pub fn start_at(
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        behaviour: impl Fn(&str, &mut dyn Write) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let target = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            connections: Arc::default(),
            stopped: Arc::default(),
            open: Arc::default(),
        };
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (requests, connections, stopped, open) = (
            Arc::clone(&target.requests),
            Arc::clone(&target.connections),
            Arc::clone(&target.stopped),
            Arc::clone(&target.open),
        );
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let (behaviour, requests, tls) = (Arc::clone(&behaviour), Arc::clone(&requests), tls.clone());
                std::thread::spawn(move || {
                    let socket = stream.try_clone().unwrap();
                    match tls {
                        None => {
                            let writer = stream.try_clone().unwrap();
                            serve(stream, writer, &*behaviour, &requests);
                        }
                        Some(config) => {
                            let session = rustls::ServerConnection::new(config).unwrap();
                            let stream = Shared(Arc::new(Mutex::new(rustls::StreamOwned::new(session, stream))));
                            serve(stream.clone(), stream, &*behaviour, &requests);
                        }
                    }
                    let _ = socket.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        target
    }

    /// One that answers every request with this JSON.
    pub fn json(body: &str) -> Self {
        let body = body.to_owned();
        Self::start(move |_, stream| answer(stream, &body))
    }

    /// One that answers every request with what `body` holds at that time.
    pub fn changing(body: &Arc<Mutex<String>>) -> Self {
        Self::changing_at((Ipv4Addr::LOCALHOST, 0).into(), body)
    }

    pub fn changing_at(address: SocketAddr, body: &Arc<Mutex<String>>) -> Self {
        let body = Arc::clone(body);
        Self::start_at(address, None, move |_, stream| answer(stream, &body.lock().unwrap()))
    }

    /// One that writes these bytes and closes.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |_, stream| {
            let _ = stream.write_all(&bytes);
            false
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// The label by which the exporter tells it apart.
    pub fn label(&self) -> String {
        format!("{{target=\"{}\"}}", self.address)
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Closes the port and every connection.
    pub fn stop(self) {}

    /// Closes every connection, but not the port.
    pub fn hang_up(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // The listener is waiting for one more.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        self.hang_up();
    }
}

/// A free port that is free at several addresses of this machine.
pub fn free_port(addresses: &[Ipv4Addr]) -> u16 {
    for _ in 0..50 {
        let first = TcpListener::bind((addresses[0], 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let others: Result<Vec<_>, _> = addresses[1..]
            .iter()
            .map(|address| TcpListener::bind((IpAddr::V4(*address), port)))
            .collect();
        if others.is_ok() {
            return port;
        }
    }
    panic!("no port is free at all of {addresses:?}");
}

/// Counters as the main service has them.
pub fn counters(requests: u64) -> String {
    format!("{{\"400_count\": 3, \"500_count\": 1, \"request_count\": {requests}}}")
}

/// Writes an answer and keeps the connection.
pub fn answer(stream: &mut dyn Write, body: &str) -> bool {
    let text = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).is_ok()
}

fn serve(stream: impl Read, mut writer: impl Write, behaviour: &Behaviour, requests: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        loop {
            match reader.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) if head.ends_with("\r\n\r\n") => break,
                Ok(_) => {}
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        head.push_str(&String::from_utf8_lossy(&body));
        requests.lock().unwrap().push(head.clone());
        if !behaviour(&head, &mut writer) {
            return;
        }
    }
}

/// A TLS stream for one thread that reads and writes in turn.
struct Shared(Arc<Mutex<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>>);

impl Clone for Shared {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().read(buffer)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.lock().unwrap().flush()
    }
}
