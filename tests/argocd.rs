//! Argo CD's API through a Kubernetes API: a server that answers as both do, and real TLS between.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use futures_util::{SinkExt as _, StreamExt as _};
use jiff::Timestamp;
use mfsre::argocd::{ArgoCd, ArgoCdError};
use mfsre::kubernetes::{Kubernetes, KubernetesError, TokenSource};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// Reads one request; its first line, and its body.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0_usize);
        if body.len() >= length {
            let authorization = head
                .lines()
                .find(|l| l.to_ascii_lowercase().starts_with("authorization"));
            let first = head.lines().next()?.to_owned();
            return Some((
                format!("{first} {}", authorization.unwrap_or_default()),
                body.to_owned(),
            ));
        }
    }
}

async fn respond(stream: &mut (impl AsyncWrite + Unpin), status: u16, body: &Value) {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Argo CD as far as a password can be tried there (`server/session`, `server/account` of its source).
async fn argo_cd(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let Some((line, body)) = request(&mut stream).await else {
        return;
    };
    let refused = json!({ "error": "Invalid username or password", "code": 16 });
    if line.starts_with("POST /api/v1/session ") {
        let body: Value = serde_json::from_str(&body).unwrap();
        match body["password"].as_str().unwrap() {
            "right" if body["username"] == "admin" => {
                respond(&mut stream, 200, &json!({ "token": "canary-session" })).await
            }
            "broken" => respond(&mut stream, 500, &json!({ "error": "x" })).await,
            "empty" => respond(&mut stream, 200, &json!({})).await,
            _ => respond(&mut stream, 401, &refused).await,
        }
    } else if line.starts_with("GET /api/v1/account ") {
        let status = if line.contains("Bearer canary-session") {
            200
        } else {
            401
        };
        respond(&mut stream, status, &json!({ "items": [] })).await;
    } else if line.starts_with("GET / ") {
        // As a build without web assets: Go's file server.
        respond(&mut stream, 200, &json!("<pre><a href=\"assets/\">assets/</a></pre>")).await;
    } else {
        respond(&mut stream, 404, &json!({})).await;
    }
}

/// Argo CD behind a listener, with the certificate that it makes for itself, or in plain HTTP.
async fn serve_argo_cd(tls: bool) -> (SocketAddr, Option<Vec<u8>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let names = ["localhost", "argocd-server", "argocd-server.argocd.svc"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let pem = made.cert.pem().into_bytes();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if !tls {
                    argo_cd(stream).await;
                } else if let Ok(stream) = acceptor.accept(stream).await {
                    argo_cd(stream).await;
                }
            });
        }
    });
    (address, tls.then_some(pem))
}

fn pod(name: &str, ready: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "argocd" },
        "spec": { "containers": [] },
        "status": { "conditions": [{ "type": "Ready", "status": ready, "lastProbeTime": null }] },
    })
}

/// A Kubernetes API with these pods; port-forwarding leads to `target`
/// (<https://kubernetes.io/docs/concepts/architecture/control-plane-node-communication/>, protocol v4.channel.k8s.io:
/// a byte that names the channel before each message, and the port's number first).
async fn kubernetes(pods: Vec<Value>, target: SocketAddr, asked: Arc<Mutex<Vec<String>>>) -> Kubernetes {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let list = json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": pods });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (list, asked) = (list.clone(), asked.clone());
            tokio::spawn(async move {
                let mut head = [0; 2048];
                let length = stream.peek(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                asked
                    .lock()
                    .unwrap()
                    .push(head.lines().next().unwrap_or_default().to_owned());
                if head.contains("/portforward?") {
                    forward(stream, target).await;
                } else if request(&mut stream).await.is_some() {
                    respond(&mut stream, 200, &list).await;
                }
            });
        }
    });
    let authority = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
        .unwrap()
        .cert
        .pem();
    Kubernetes::new(
        &endpoint,
        authority.as_bytes(),
        Arc::new(NoToken),
        mfsre::patience::Patience::USUAL,
    )
}

struct NoToken;

impl TokenSource for NoToken {
    fn token(&self) -> BoxFuture<'_, Result<(SecretString, Timestamp), String>> {
        let expires = Timestamp::now() + jiff::SignedDuration::from_mins(10);
        Box::pin(async move { Ok(("token".to_owned().into(), expires)) })
    }
}

async fn forward(stream: TcpStream, target: SocketAddr) {
    #[allow(clippy::result_large_err, reason = "the library's type")]
    let accept = |_: &Request, mut response: Response| {
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
        sink.send(Message::binary(vec![channel, port[0], port[1]]))
            .await
            .unwrap();
    }
    let (mut from, mut to) = TcpStream::connect(target).await.unwrap().into_split();
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
            let end = read == 0;
            let bytes = [&[0], &buffer[..read]].concat();
            if end || sink.send(Message::binary(bytes)).await.is_err() {
                break;
            }
        }
        let _ = sink.close().await;
    };
    tokio::join!(inward, outward);
}

fn password(text: &str) -> SecretString {
    text.to_owned().into()
}

#[tokio::test]
async fn a_password_is_tried_through_the_kubernetes_api_over_tls() {
    for tls in [true, false] {
        let (address, certificate) = serve_argo_cd(tls).await;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let pods = vec![pod("starting", "False"), pod("argocd-server-1", "True")];
        let kubernetes = kubernetes(pods, address, asked.clone()).await;
        let selector = "app.kubernetes.io/name=argocd-server";
        let port = kubernetes.forward("argocd", selector, 8080).await.unwrap();
        let argocd = ArgoCd::forwarded(port.address(), certificate.as_deref()).unwrap();
        assert!(argocd.log_in(&password("wrong")).await.unwrap().is_none());
        let session = argocd
            .log_in(&password("right"))
            .await
            .unwrap()
            .expect("it is the password");
        assert!(argocd.holds(&session).await.unwrap());
        let other = password("another session").into();
        assert!(!argocd.holds(&other).await.unwrap());
        assert!(
            !format!("{session:?}").contains("canary"),
            "a session does not show in debug output"
        );
        let asked = asked.lock().unwrap();
        let to_pod = asked
            .iter()
            .filter(|l| l.contains("/pods/argocd-server-1/portforward?"))
            .count();
        assert_eq!(to_pod, 4, "each connection goes to the ready pod: {asked:?}");
        assert!(
            asked[0].contains("labelSelector=app.kubernetes.io%2Fname%3Dargocd-server"),
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn a_server_with_another_certificate_gets_no_password() {
    let (address, _) = serve_argo_cd(true).await;
    let (_, another) = serve_argo_cd(true).await;
    let argocd = ArgoCd::forwarded(address, another.as_deref()).unwrap();
    let error = argocd.log_in(&password("right")).await.unwrap_err();
    assert!(matches!(error, ArgoCdError::Unreachable { .. }), "{error}");
    let text = mfsre::error::Error::from(error).render(false);
    assert!(text.contains("certificate") && text.contains("hint:"), "{text}");
}

#[tokio::test]
async fn what_argo_cd_answers_instead_is_told() {
    let (address, _) = serve_argo_cd(false).await;
    let argocd = ArgoCd::at(&format!("http://{address}/").parse().unwrap()).unwrap();
    for (text, status) in [("broken", 500), ("empty", 200)] {
        let error = argocd.log_in(&password(text)).await.unwrap_err();
        assert!(
            matches!(error, ArgoCdError::Refused { status: found, .. } if found == status),
            "{error}"
        );
    }
    assert!(ArgoCd::forwarded(address, Some(b"no certificate")).is_err());
    assert!(!argocd.has_pages().await.unwrap());
}

#[tokio::test]
async fn without_a_ready_pod_nothing_is_forwarded() {
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let kubernetes = kubernetes(vec![pod("starting", "False")], nowhere, Arc::default()).await;
    let error = kubernetes.forward("argocd", "app=x", 8080).await.unwrap_err();
    assert!(matches!(error, KubernetesError::NoPod { .. }), "{error}");
    let text = mfsre::error::Error::from(error).render(false);
    assert!(
        text.contains("no pod app=x in argocd is ready") && text.contains("kubectl"),
        "{text}"
    );
}

#[tokio::test]
async fn a_disturbance_is_ridden_out_and_one_that_lasts_is_told() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (url, disturbed) = (
        format!("http://{address}").parse().unwrap(),
        Arc::new(Mutex::new(2_u32)),
    );
    let left = disturbed.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let fails = {
                let mut left = left.lock().unwrap();
                let fails = *left > 0;
                *left = left.saturating_sub(1);
                fails
            };
            if !fails {
                argo_cd(stream).await;
            } else if request(&mut stream).await.is_some() {
                respond(&mut stream, 503, &json!({})).await;
            }
        }
    });
    let argo_cd = ArgoCd::at(&url).unwrap();
    let session = argo_cd.log_in(&"right".to_owned().into()).await.unwrap().unwrap();
    *disturbed.lock().unwrap() = 2;
    assert!(argo_cd.holds(&session).await.unwrap());
    *disturbed.lock().unwrap() = 9;
    let error = argo_cd.holds(&session).await.unwrap_err();
    assert!(matches!(error, ArgoCdError::Refused { status: 503, .. }), "{error}");
    assert_eq!(*disturbed.lock().unwrap(), 5, "four tries");
}
