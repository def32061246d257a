//! Argo CD's API, behind a port that the Kubernetes API forwards to a pod of argocd-server.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request as Handshake, Response};

use super::http::{Answer, Request};
use super::{Watched, World};

/// One request of the API.
pub(super) async fn connection(mut stream: TcpStream, watched: Arc<Mutex<Watched>>) {
    let Some(request) = Request::read(&mut stream).await else {
        return;
    };
    let answer = {
        let watched = &mut *watched.lock().unwrap();
        if watched.dead || watched.point(format!("Argo CD: {}", request.name())) {
            return;
        }
        watched.world.argo_cd(&request)
    };
    answer.write(&mut stream).await;
}

impl World {
    fn argo_cd(&self, request: &Request) -> Answer {
        let held = self.cluster.argocd_secret();
        let value = |key: &str| {
            let bytes = STANDARD
                .decode(held["data"][key].as_str().unwrap_or_default())
                .unwrap_or_default();
            String::from_utf8(bytes).unwrap_or_default()
        };
        let (hash, since) = (value("admin.password"), value("admin.passwordMtime"));
        let since = since.parse::<Timestamp>().map_or(i64::MAX, Timestamp::as_second);
        let now = Timestamp::now().as_second();
        if request.path() == "/api/v1/session" {
            let given = request.json()["password"].clone();
            // What a hash is of is known from where both are kept; computing it takes longer than everything else here.
            let mut documents = self
                .aws
                .secrets
                .values()
                .flat_map(|s| &s.versions)
                .map(|v| serde_json::from_str::<Value>(&v.value).unwrap());
            return if documents.any(|d| d["password"] == given && d["bcrypt"] == hash.as_str()) {
                Answer::json(200, &json!({ "token": format!("session-{now}") }))
            } else {
                Answer::json(401, &json!({ "error": "Invalid username or password" }))
            };
        }
        let session = request
            .header("authorization")
            .and_then(|a| a.strip_prefix("Bearer session-")?.parse::<i64>().ok());
        let holds = session.is_some_and(|began| began >= since);
        Answer::json(if holds { 200 } else { 401 }, &json!({ "items": [] }))
    }
}

/// Leads a connection to the API server's port-forwarding to `port`
/// (protocol v4.channel.k8s.io: a byte that names the channel before each message, and the port's number first).
pub(super) async fn forward(stream: TcpStream, port: u16) {
    #[allow(clippy::result_large_err, reason = "the library's type")]
    let accept = |_: &Handshake, mut response: Response| {
        let protocol = "v4.channel.k8s.io".parse().unwrap();
        response.headers_mut().insert("sec-websocket-protocol", protocol);
        Ok(response)
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, accept).await else {
        return;
    };
    let (mut sink, mut source) = socket.split();
    for channel in [0_u8, 1] {
        let port = 8080_u16.to_le_bytes();
        if sink
            .send(Message::binary(vec![channel, port[0], port[1]]))
            .await
            .is_err()
        {
            return;
        }
    }
    let Ok(target) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (mut from, mut to) = target.into_split();
    let inward = async {
        while let Some(Ok(message)) = source.next().await {
            if let Message::Binary(bytes) = message
                && to.write_all(&bytes[1..]).await.is_err()
            {
                break;
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; 4096];
        while let Ok(read) = from.read(&mut buffer).await {
            let bytes = [&[0], &buffer[..read]].concat();
            if read == 0 || sink.send(Message::binary(bytes)).await.is_err() {
                break;
            }
        }
        let _ = sink.close().await;
    };
    tokio::join!(inward, outward);
}
