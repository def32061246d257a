//! HTTP, as far as the clients here speak it: one request a connection.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    head: String,
    pub(super) body: String,
}

pub(super) struct Answer {
    pub(super) status: u16,
    /// An error of the REST protocol is named in a header.
    pub(super) error: Option<&'static str>,
    pub(super) body: String,
}

impl Request {
    pub(super) async fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
            bytes.extend_from_slice(&buffer[..read]);
            let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = header(&head, "content-length")
                .and_then(|l| l.parse().ok())
                .unwrap_or(0);
            if bytes.len() < end + 4 + length {
                continue;
            }
            let mut first = head.lines().next()?.split(' ');
            return Some(Self {
                method: first.next()?.to_owned(),
                target: first.next()?.to_owned(),
                body: String::from_utf8_lossy(&bytes[end + 4..]).into_owned(),
                head,
            });
        }
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// A parameter of the Query protocol.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.body.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The operation, for people.
    pub(super) fn name(&self) -> String {
        let operation = self
            .header("x-amz-target")
            .map(str::to_owned)
            .or_else(|| self.parameter("Action"));
        match operation {
            Some(operation) => operation,
            None => format!("{} {}", self.method, self.path()),
        }
    }

    /// Whether it may change something.
    pub(super) fn changes(&self) -> bool {
        const READING: [&str; 4] = ["Get", "List", "Describe", "SelfSubject"];
        let name = self.name();
        let operation = name.rsplit('.').next().unwrap_or(&name);
        self.method != "GET"
            && !READING.iter().any(|reads| operation.starts_with(reads))
            && !self.path().ends_with("/selfsubjectreviews")
            && !self.path().ends_with("/session")
    }

    /// The secrets that it carries.
    pub(super) fn secrets(&self) -> Vec<String> {
        let body = self.json();
        if let Some(document) = body["SecretString"].as_str() {
            let document: Value = serde_json::from_str(document).unwrap_or_default();
            return document["password"].as_str().map(str::to_owned).into_iter().collect();
        }
        match body["Value"].as_str() {
            // The whole, and a line of it.
            Some(key) if body["Type"] == "SecureString" => {
                vec![key.to_owned(), key.lines().nth(2).unwrap_or_default().to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let line = head.lines().find(|l| {
        l.len() > name.len() && l[..name.len()].eq_ignore_ascii_case(name) && l[name.len()..].starts_with(':')
    })?;
    Some(line[name.len() + 1..].trim())
}

impl Answer {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            error: None,
            body: body.to_string(),
        }
    }

    pub(super) fn xml(body: String) -> Self {
        Self {
            status: 200,
            error: None,
            body,
        }
    }

    pub(super) async fn write(&self, stream: &mut TcpStream) {
        let kind = if self.body.starts_with('<') {
            "text/xml"
        } else {
            "application/json"
        };
        let error = self
            .error
            .map(|e| format!("x-amzn-errortype: {e}\r\n"))
            .unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {} X\r\ncontent-type: {kind}\r\n{error}content-length: {}\r\nconnection: close\r\n\r\n",
            self.status,
            self.body.len()
        );
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(self.body.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}
