//! A server that answers as it is told, and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::Response;
use mfsre::git::HostError;
use mfsre::patience::Patience;
use serde_json::Value;

use crate::canary::{Canary, Searched};

pub(crate) const OURS: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
pub(crate) const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHnSgFZZ0yyRqYjGzvDCTRa2hsyJ7XKeKdd0tT8LZ5Qp";
pub(crate) const TOKEN: &str = "canary-of-a-token";

/// As usual, without the long waits.
pub(crate) const PATIENCE: Patience = Patience {
    attempts: 4,
    first_pause: std::time::Duration::from_millis(100),
    longest_pause: std::time::Duration::from_secs(30),
    answer: std::time::Duration::from_secs(2),
};

/// An answer of the server.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

pub(crate) fn answer(status: u16, body: Value) -> Answer {
    Answer {
        status,
        headers: Vec::new(),
        body: body.to_string(),
    }
}

impl Answer {
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    seen: Vec<Seen>,
}

/// A server that gives the answers of its script in turn; the last one again and again.
pub(crate) struct Server {
    pub(crate) base: String,
    script: Arc<Mutex<Script>>,
}

async fn handle(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let mut script = script.lock().unwrap();
    script.seen.push(Seen {
        line: format!("{} {}", head.method, head.uri),
        authorization: head
            .headers
            .get("authorization")
            .map(|v| v.to_str().unwrap().to_owned()),
        headers: head
            .headers
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_owned()))
            .collect(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let answer = if script.answers.len() > 1 {
        script.answers.pop_front().unwrap()
    } else {
        script.answers[0].clone()
    };
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).unwrap()
}

impl Server {
    pub(crate) async fn start(answers: impl FnOnce(&str) -> Vec<Answer>) -> Self {
        // A second test finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script {
            answers: answers(&base).into(),
            seen: Vec::new(),
        }));
        let app = axum::Router::new().fallback(handle).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { base, script }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|s| s.line).collect()
    }
}

/// An error as a person sees it, without the port; it must never hold the token.
pub(crate) fn shown(server: &str, error: HostError) -> String {
    static SEARCHED: LazyLock<Searched> = LazyLock::new(Searched::default);
    let inside = format!("{error} {error:?}");
    let text = mfsre::error::Error::from(error).render(false);
    let places = [("the error", text.clone()), ("its inside", inside)];
    let places = places.map(|(place, text)| (place.to_owned(), text));
    Canary::new(&[("the token", TOKEN.into())]).assert_absent(places, &SEARCHED);
    // The last one has the figures of all.
    SEARCHED.report("errors of git hosts");
    text.replace(server, "[SERVER]")
}
