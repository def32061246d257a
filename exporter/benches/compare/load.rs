//! Asks as fast as answers come.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::outside;

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) answers: usize,
    pub(crate) time: Duration,
    /// Of every answer, in order.
    latencies: Vec<Duration>,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.answers as f64 / self.time.as_secs_f64()
    }

    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies[(last as f64 * quantile) as usize]
    }
}

/// Asks for the paths in turn, on so many connections, each with one request at a time. Any answer but 200 ends it all.
pub(crate) fn run(address: SocketAddr, paths: &[String], connections: usize, time: Duration) -> Outcome {
    let requests: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes())
        .collect();
    let requests: &'static [Vec<u8>] = requests.leak();
    outside::run(async move {
        let began = Instant::now();
        let end = began + time;
        let clients: Vec<_> = (0..connections)
            .map(|number| {
                // Each begins at another target.
                let begin = number * requests.len() / connections;
                tokio::spawn(client(address, requests, begin, end))
            })
            .collect();
        let mut latencies = Vec::new();
        for client in clients {
            latencies.append(&mut client.await.unwrap());
        }
        latencies.sort_unstable();
        Outcome {
            answers: latencies.len(),
            time: began.elapsed(),
            latencies,
        }
    })
}

async fn client(address: SocketAddr, requests: &[Vec<u8>], begin: usize, end: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut latencies = Vec::new();
    let mut answer = Vec::with_capacity(256 * 1024);
    let mut request = requests.iter().cycle().skip(begin);
    loop {
        let asked = Instant::now();
        if asked > end {
            return latencies;
        }
        stream.write_all(request.next().unwrap()).await.unwrap();
        answer.clear();
        read_answer(&mut stream, &mut answer).await;
        assert!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        latencies.push(asked.elapsed());
    }
}

/// Reads one answer, which has a length or is chunked.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) {
    let mut end = None;
    loop {
        assert_ne!(stream.read_buf(answer).await.unwrap(), 0, "the connection was closed");
        if end.is_none()
            && let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let text = std::str::from_utf8(&answer[..head]).unwrap();
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse::<usize>().unwrap())
            });
            end = Some(length.map(|length| head + 4 + length));
        }
        match end {
            Some(Some(end)) if answer.len() >= end => return,
            Some(None) if answer.ends_with(b"\r\n0\r\n\r\n") => return,
            _ => {}
        }
    }
}

/// The body of an answer with 200.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let (head, body) = ask(address, path);
    assert!(head.contains(" 200 "), "{head}\n{body}");
    body
}

/// Head and body of an answer.
fn ask(address: SocketAddr, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = outside::run(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(body) } else { body.to_owned() };
    (head.to_owned(), body)
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        text.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    text
}

/// Waits until a path is answered with 200.
pub(crate) fn wait_for(address: SocketAddr, path: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    while !ask(address, path).0.contains(" 200 ") {
        assert!(Instant::now() < end, "{path} is never answered with 200");
        std::thread::sleep(Duration::from_millis(100));
    }
}
