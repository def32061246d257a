//! The Kubernetes API fails at every call that mfsre makes, in every way that it can: what can be helped by trying again is,
//! and the rest is told. The client is the real one; the API is on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "common/canary.rs"]
mod canary;
#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "common/http.rs"]
mod http;
#[path = "common/report.rs"]
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use canary::{Canary, Searched};
use http::{Answer, Request, Server};
use jiff::Timestamp;
use mfsre::kubernetes::{Applied, Kubernetes, KubernetesError, ObjectId, TokenSource};
use mfsre::patience::Patience;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Numbers its tokens.
struct Tokens(AtomicUsize);

impl TokenSource for Tokens {
    fn token(&self) -> futures_util::future::BoxFuture<'_, Result<(SecretString, Timestamp), String>> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let expires = Timestamp::now() + jiff::SignedDuration::from_mins(10);
        Box::pin(async move { Ok((format!("canary-of-a-cluster-token-{number}").into(), expires)) })
    }
}

/// Credentials that have run out.
struct NoTokens;

impl TokenSource for NoTokens {
    fn token(&self) -> futures_util::future::BoxFuture<'_, Result<(SecretString, Timestamp), String>> {
        Box::pin(async { Err("no AWS credentials: the SSO session has expired".to_owned()) })
    }
}

fn client(url: &url::Url, tokens: Arc<dyn TokenSource>) -> Kubernetes {
    // A second test finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let patience = Patience {
        attempts: 4,
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_secs(2),
        answer: Duration::from_secs(2),
    };
    Kubernetes::new(
        url.as_str().trim_end_matches('/'),
        authority.cert.pem().as_bytes(),
        tokens,
        patience,
    )
}

/// The calls, and what of each arrives: method, and how the path begins.
const CALLS: [(&str, &str, &str); 9] = [
    ("version", "GET", "/version"),
    ("find the kind", "GET", "/api/v1?"),
    ("clock", "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews"),
    ("get", "GET", "/api/v1/namespaces/argocd/configmaps/x"),
    ("list", "GET", "/api/v1/namespaces/argocd/configmaps?"),
    ("apply", "PATCH", "/api/v1/namespaces/argocd/configmaps/x"),
    ("apply at", "PATCH", "/api/v1/namespaces/argocd/configmaps/x"),
    ("merge", "PATCH", "/api/v1/namespaces/argocd/configmaps/x"),
    ("delete", "DELETE", "/api/v1/namespaces/argocd/configmaps/x"),
];

fn id() -> ObjectId {
    ObjectId::namespaced("v1", "ConfigMap", "argocd", "x")
}

fn object() -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x", "namespace": "argocd" }, "data": {} })
}

async fn make(kubernetes: &Kubernetes, call: &str) -> Result<(), KubernetesError> {
    match call {
        "version" => kubernetes.version().await.map(drop),
        "find the kind" | "get" => kubernetes.get(&id()).await.map(drop),
        "clock" => kubernetes.clock().await.map(drop),
        "list" => kubernetes.list("v1", "ConfigMap", Some("argocd")).await.map(drop),
        "apply" => kubernetes
            .apply(&object(), "mfsre")
            .await
            .map(|a| assert_eq!(a, Applied::Unchanged)),
        "apply at" => kubernetes.apply_at(&object(), "mfsre", "7").await.map(drop),
        "merge" => kubernetes.merge(&id(), &json!({ "data": {} })).await,
        "delete" => kubernetes.delete(&id()).await.map(|was_there| assert!(was_there)),
        other => panic!("{other}"),
    }
}

fn healthy(request: &Request) -> Answer {
    let mut object = object();
    object["metadata"]["resourceVersion"] = json!("7");
    let path = request.path.as_str();
    let body = match request.method.as_str() {
        _ if path == "/version" => json!({
            "major": "1", "minor": "35", "gitVersion": "v1.35.4", "gitCommit": "", "gitTreeState": "", "buildDate": "",
            "goVersion": "", "compiler": "", "platform": "",
        }),
        _ if path == "/api/v1" => json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1",
            "resources": [{ "name": "configmaps", "singularName": "configmap", "namespaced": true, "kind": "ConfigMap",
                "verbs": ["get", "list", "patch", "delete"] }],
        }),
        "POST" => json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
            "metadata": { "creationTimestamp": "2026-01-01T00:00:00Z" }, "status": { "userInfo": {} } }),
        "GET" if path.contains("configmaps?") => {
            json!({ "apiVersion": "v1", "kind": "ConfigMapList", "metadata": {}, "items": [object] })
        }
        "DELETE" => json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }),
        _ => object,
    };
    Answer::Reply(200, vec![("content-type", "application/json".into())], body.to_string())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The API server's filter, with the wish to be left alone for a second; the text is no Status.
    TooMany,
    Conflict,
    Internal,
    /// An admission webhook that does not answer, with failurePolicy Fail.
    Webhook,
    /// The API server is about to end.
    Ending,
    Reset,
    Silent,
    /// The token that the client holds.
    Expired,
    /// An admission webhook says no.
    Refused,
    Forbidden,
    Invalid,
}

use Fault::{Conflict, Ending, Expired, Forbidden, Internal, Invalid, Refused, Reset, Silent, TooMany, Webhook};

const FAULTS: [Fault; 11] = [
    TooMany, Conflict, Internal, Webhook, Ending, Reset, Silent, Expired, Refused, Forbidden, Invalid,
];

impl Fault {
    fn is_helped_by_time(self) -> bool {
        !matches!(self, Refused | Forbidden | Invalid)
    }

    fn answer(self) -> Answer {
        let status = |code: u16, reason: &str, message: &str| {
            let body = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
                "reason": reason, "code": code,
            });
            Answer::Reply(
                code,
                vec![("content-type", "application/json".into())],
                body.to_string(),
            )
        };
        let asks = |code: u16, text: &str| Answer::Reply(code, vec![("retry-after", "1".into())], text.to_owned());
        match self {
            TooMany => asks(429, "Too many requests, please try again later."),
            Ending => asks(503, "apiserver is shutting down"),
            Conflict => status(
                409,
                "Conflict",
                "the object has been modified; please apply your changes to the latest version",
            ),
            Internal => status(500, "InternalError", "etcdserver: leader changed"),
            Webhook => status(
                500,
                "InternalError",
                "Internal error occurred: failed calling webhook \"policy.example.com\": connect: connection refused",
            ),
            Expired => status(401, "Unauthorized", "Unauthorized"),
            Refused => status(
                403,
                "Forbidden",
                "admission webhook \"policy.example.com\" denied the request: no",
            ),
            Forbidden => status(
                403,
                "Forbidden",
                "configmaps \"x\" is forbidden: User \"alice\" cannot do this",
            ),
            Invalid => status(422, "Invalid", "ConfigMap \"x\" is invalid"),
            Reset => Answer::Reset,
            Silent => Answer::Silence(Duration::from_secs(30)),
        }
    }

    /// What the error says to do.
    fn hint(self) -> &'static str {
        match self {
            TooMany => "has too many requests: wait a minute",
            Conflict => "something else changes it all the time",
            Internal | Ending => "the API server has a disturbance",
            Webhook => "an admission webhook that must allow this does not answer",
            Reset | Silent => "check that this machine reaches the cluster's endpoint",
            Expired => "your AWS session has expired: sign in again",
            Refused => "a policy of this cluster does not allow it",
            Forbidden => "your access entry needs AmazonEKSClusterAdminPolicy",
            Invalid => "",
        }
    }
}

/// Errors that were searched for the tokens of their calls.
#[derive(Default)]
struct Told(Searched);

impl Told {
    /// What the user reads, and what a developer would.
    fn told(&self, shown: &str, inside: String) {
        let tokens: Vec<_> = (0..4).map(|n| format!("canary-of-a-cluster-token-{n}")).collect();
        let tokens: Vec<_> = tokens
            .iter()
            .map(|token| ("the token", token.clone().into_bytes()))
            .collect();
        let places = [("the error", shown.to_owned()), ("its inside", inside)];
        let places = places.map(|(place, text)| (place.to_owned(), text));
        Canary::new(&tokens).assert_absent(places, &self.0);
    }
}

/// Whether it came right in the end.
async fn scenario(
    (call, method, path): (&'static str, &'static str, &'static str),
    fault: Fault,
    lasting: bool,
    searched: Arc<Told>,
) -> bool {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let is_target = move |request: &Request| request.method == method && format!("{}?", request.path).starts_with(path);
    let server = Server::start(move |request| {
        let number = if is_target(request) {
            counter.fetch_add(1, Ordering::Relaxed)
        } else {
            usize::MAX
        };
        let fails = match fault {
            Expired => lasting || request.header("authorization") == "Bearer canary-of-a-cluster-token-0",
            _ => lasting || number < 2,
        };
        if number != usize::MAX && fails {
            fault.answer()
        } else {
            healthy(request)
        }
    })
    .await;
    let result = make(&client(&server.url, Arc::new(Tokens(AtomicUsize::new(0)))), call).await;

    let tries: Vec<Request> = server.seen().into_iter().filter(is_target).collect();
    match result {
        Ok(()) => {
            // An object that is at another version by now is an answer there.
            if (call, fault) == ("apply at", Conflict) {
                assert_eq!(tries.len(), 1);
                return true;
            }
            assert!(fault.is_helped_by_time() && !lasting, "{call} {fault:?}");
            let failed = if fault == Expired { 1 } else { 2 };
            assert_eq!(tries.len(), failed + 1, "{call} {fault:?}");
            if matches!(fault, TooMany | Ending) {
                let waited = tries[1].at - tries[0].at;
                assert!(
                    waited >= Duration::from_millis(950),
                    "{call}: Retry-After was not honoured: {waited:?}"
                );
            }
            true
        }
        Err(error) => {
            let inside = format!("{error:?}");
            let shown = mfsre::error::Error::from(error).render(false);
            searched.told(&shown, inside);
            assert!(lasting || !fault.is_helped_by_time(), "{call} {fault:?}: {shown}");
            let wanted = match fault {
                Expired => 2,
                Refused | Forbidden | Invalid => 1,
                _ => 4,
            };
            assert_eq!(tries.len(), wanted, "{call} {fault:?}: {shown}");
            assert!(shown.starts_with("error: cannot "), "{shown}");
            assert!(shown.contains(fault.hint()), "{call} {fault:?}: {shown}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_every_call_is_survived_or_told() {
    let mut scenarios = JoinSet::new();
    let searched = Arc::new(Told::default());
    for call in CALLS {
        for fault in FAULTS {
            scenarios.spawn(scenario(call, fault, false, searched.clone()));
            if fault.is_helped_by_time() {
                scenarios.spawn(scenario(call, fault, true, searched.clone()));
            }
        }
    }
    let results = scenarios.join_all().await;
    let retried = results.iter().filter(|came_right| **came_right).count();
    report::figure(
        "faults",
        "Kubernetes",
        &[
            ("faults", FAULTS.len() as u64),
            ("calls", CALLS.len() as u64),
            ("scenarios", results.len() as u64),
            ("retried", retried as u64),
            ("told", (results.len() - retried) as u64),
        ],
    );
    searched.0.report("errors of Kubernetes");
}

#[tokio::test]
async fn a_restart_of_the_api_server_is_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}").parse().unwrap();
    let kubernetes = client(&url, Arc::new(Tokens(AtomicUsize::new(0))));
    let began = Instant::now();
    let back = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(40)).await;
        Server::on(tokio::net::TcpListener::bind(address).await.unwrap(), healthy)
    });
    assert_eq!(kubernetes.version().await.unwrap(), "v1.35.4");
    assert!(began.elapsed() >= Duration::from_millis(40));
    drop(back.await.unwrap());
}

#[tokio::test]
async fn a_server_that_asks_for_an_hour_is_told_at_once() {
    let server = Server::start(|_| Answer::Reply(429, vec![("retry-after", "3600".into())], "later".into())).await;
    let kubernetes = client(&server.url, Arc::new(Tokens(AtomicUsize::new(0))));
    let began = Instant::now();
    kubernetes.version().await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn credentials_that_run_out_in_a_long_wait_are_told_with_the_way_on() {
    let server = Server::start(healthy).await;
    let error = client(&server.url, Arc::new(NoTokens)).version().await.unwrap_err();
    insta::assert_snapshot!(mfsre::error::Error::from(error).render(false));
}
