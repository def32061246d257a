//! AWS on loopback, which answers as it is told: it knows every protocol that mfsre speaks, and can fail in every way that
//! a network and a service can.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A call as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// As IAM names it, such as `secretsmanager`.
    pub(crate) service: String,
    /// As the API names it.
    pub(crate) operation: String,
    /// Path of the URL.
    pub(crate) path: String,
    /// Headers, their names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Body.
    pub(crate) body: String,
    /// When.
    pub(crate) at: Instant,
}

impl Seen {
    /// As IAM names the action.
    pub(crate) fn action(&self) -> String {
        format!("{}:{}", self.service, self.operation)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value)
    }

    fn read(head: &str, body: String) -> Self {
        let mut lines = head.lines();
        let mut request = lines.next().unwrap_or_default().split(' ');
        let (method, path) = (request.next().unwrap_or_default(), request.next().unwrap_or_default());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        // Credential=KEY/DATE/REGION/SERVICE/aws4_request
        let scope = header("authorization").and_then(|a| a.split("Credential=").nth(1));
        let signed_for = scope.and_then(|s| s.split('/').nth(3)).unwrap_or("-");
        let operation = match (header("x-amz-target"), signed_for) {
            (Some(target), _) => target.rsplit('.').next().unwrap_or(target).to_owned(),
            (None, "eks") if path.starts_with("/cluster-versions") => "DescribeClusterVersions".into(),
            (None, "eks") if method == "GET" && path.starts_with("/clusters/") => "DescribeCluster".into(),
            (None, "eks") => format!("{method} {path}"),
            (None, _) => {
                let action = body.split('&').find_map(|pair| pair.strip_prefix("Action="));
                action.unwrap_or("-").to_owned()
            }
        };
        Self {
            // The tagging API is signed for under another name than IAM has for it.
            service: if signed_for == "tagging" { "tag" } else { signed_for }.to_owned(),
            operation,
            path: path.to_owned(),
            headers,
            body,
            at: Instant::now(),
        }
    }
}

/// What comes back.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Status, headers, body.
    Reply(u16, Vec<(&'static str, String)>, String),
    /// The connection is reset.
    Reset,
    /// Nothing, for so long.
    Silence(Duration),
}

impl Answer {
    pub(crate) fn ok(body: impl Into<String>) -> Self {
        Self::Reply(200, Vec::new(), body.into())
    }

    /// AWS's error `code` as the service of `seen` says it.
    pub(crate) fn error(seen: &Seen, status: u16, code: &str, message: &str) -> Self {
        let body = match seen.service.as_str() {
            "ec2" => format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>r</RequestID></Response>"
            ),
            "iam" | "sts" | "elasticloadbalancing" => format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
            ),
            _ => serde_json::json!({ "__type": code, "message": message }).to_string(),
        };
        let kind = if seen.service == "eks" {
            vec![("x-amzn-errortype", code.to_owned())]
        } else {
            Vec::new()
        };
        Self::Reply(status, kind, body)
    }
}

/// The server.
pub(crate) struct FakeAws {
    pub(crate) url: url::Url,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl FakeAws {
    /// Answers every call as `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (remembered, answer) = (seen.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (remembered.clone(), answer.clone());
                tokio::spawn(async move {
                    // A client that goes away ends it, too.
                    let _ = serve(stream, &seen, answer.as_ref()).await;
                });
            }
        });
        Self { url, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Seen>>,
    answer: &(impl Fn(&Seen) -> Answer + ?Sized),
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        let whole = end + 4 + length.unwrap_or(0);
        while bytes.len() < whole {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
        let body = String::from_utf8_lossy(&bytes[end + 4..whole]).into_owned();
        bytes.drain(..whole);
        let call = Seen::read(&head, body);
        let reply = answer(&call);
        seen.lock().unwrap().push(call);
        match reply {
            Answer::Reply(status, headers, body) => {
                let mut text = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                stream.write_all(format!("{text}\r\n{body}").as_bytes()).await?;
            }
            Answer::Reset => {
                stream.set_zero_linger()?;
                return Ok(());
            }
            Answer::Silence(long) => tokio::time::sleep(long).await,
        }
    }
}
