//! The webhook as kube-apiserver sees it, in front of recorded answers of STS and EKS.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Config, PATH, TlsIdentity, serve};
use crate::services::sigv4::{self, Scope, SignedParts};
use crate::services::{Credentials, Error};

const ROLE: &str = "arn:aws:iam::123456789012:role/team/admin";
const ENTRY: &str = "/clusters/demo/access-entries/arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fteam%2Fadmin";
const ADMIN_POLICY: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy";

/// What the AWS API has on record.
#[derive(Clone)]
struct Recorded {
    caller: &'static str,
    entry: Value,
    policies: Value,
}

impl Recorded {
    fn administrator() -> Self {
        Self {
            caller: "arn:aws:sts::123456789012:assumed-role/admin/alice@example.com",
            entry: json!({ "username": "", "kubernetesGroups": [] }),
            policies: json!([{ "policyArn": ADMIN_POLICY, "accessScope": { "type": "cluster", "namespaces": [] } }]),
        }
    }

    fn answer(&self, request: &Request) -> Response {
        let path = request.uri().path();
        if path == "/" {
            let cluster = request
                .headers()
                .get("x-k8s-aws-id")
                .map(|value| value.to_str().unwrap());
            assert_eq!(cluster, Some("demo"), "STS would not find the signature right");
            let caller = self.caller;
            return format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                 <Arn>{caller}</Arn><UserId>AROAEXAMPLE:alice</UserId><Account>123456789012</Account>\
                 </GetCallerIdentityResult></GetCallerIdentityResponse>"
            )
            .into_response();
        }
        assert!(
            request.headers()["authorization"]
                .to_str()
                .unwrap()
                .contains("/eu-west-1/eks/aws4_request")
        );
        let query = request.uri().query().unwrap_or_default();
        let body = match path {
            // Two pages, so that the second is asked for.
            "/clusters/demo/access-entries" if query.is_empty() => {
                json!({ "accessEntries": ["arn:aws:iam::123456789012:role/node"], "nextToken": "2+" })
            }
            "/clusters/demo/access-entries" if query == "nextToken=2%2B" => json!({ "accessEntries": [ROLE] }),
            ENTRY => json!({ "accessEntry": self.entry }),
            path if path == format!("{ENTRY}/access-policies") => json!({ "associatedAccessPolicies": self.policies }),
            _ => return (StatusCode::NOT_FOUND, "{}").into_response(),
        };
        body.to_string().into_response()
    }
}

pub(super) struct Fixture {
    folder: TempDir,
    _stop: watch::Sender<bool>,
    address: SocketAddr,
    sts: SocketAddr,
    certificate: CertificateDer<'static>,
}

impl Fixture {
    async fn start(recorded: Recorded) -> Self {
        let aws = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sts = aws.local_addr().unwrap();
        let router = Router::new().fallback(move |request: Request| async move { recorded.answer(&request) });
        tokio::spawn(async move { axum::serve(aws, router).await });
        Self::in_front_of(sts).await
    }

    /// In front of an AWS API.
    pub(super) async fn in_front_of(sts: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let config = Config {
            tls: TlsIdentity::from_pem(&certificate.pem(), &key.serialize_pem()).unwrap(),
            cluster: "demo".to_owned(),
            region: "eu-west-1".to_owned(),
            sts_endpoint: format!("http://{sts}").parse().unwrap(),
            credentials: Credentials::new("AKIATEST", "secret"),
            aws: sts,
            access_log: folder.path().join("webhook.jsonl"),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, shutdown) = watch::channel(false);
        tokio::spawn(serve(listener, config, shutdown));
        Self {
            folder,
            _stop: stop,
            address,
            sts,
            certificate: certificate.der().clone(),
        }
    }

    /// Sends one HTTPS request and returns status line and body.
    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that closes without TLS's goodbye is no concern of this test.
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(super) async fn review(&self, token: &str) -> Value {
        let review = json!({
            "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": { "creationTimestamp": null },
            "spec": { "token": token, "audiences": ["https://kubernetes.default.svc"] }, "status": { "user": {} },
        });
        let (status, body) = self.post(PATH, &review.to_string()).await;
        assert_eq!(status, 200);
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&answer["apiVersion"], &answer["kind"]),
            (&json!("authentication.k8s.io/v1"), &json!("TokenReview"))
        );
        answer["status"].clone()
    }

    pub(super) fn token(&self, secret: &str) -> String {
        let date = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let scope = Scope {
            date: &date[..8],
            region: "eu-west-1",
            service: "sts",
        };
        let query: Vec<(String, String)> = [
            ("Action", "GetCallerIdentity".to_owned()),
            ("Version", "2011-06-15".to_owned()),
            ("X-Amz-Algorithm", sigv4::ALGORITHM.to_owned()),
            (
                "X-Amz-Credential",
                format!("AKIATEST/{}/eu-west-1/sts/aws4_request", scope.date),
            ),
            ("X-Amz-Date", date.clone()),
            ("X-Amz-Expires", "60".to_owned()),
            ("X-Amz-SignedHeaders", "host;x-k8s-aws-id".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        let host = self.sts.to_string();
        let headers = [("host", host.as_str()), ("x-k8s-aws-id", "demo")];
        let parts = SignedParts {
            method: "GET",
            path: "/",
            query: &query,
            headers: &headers,
            payload_hash: sigv4::EMPTY_PAYLOAD,
        };
        let signature = sigv4::sign(&parts, &date, &scope, secret);
        let pairs: Vec<String> = query
            .iter()
            .map(|(n, v)| format!("{n}={}", sigv4::uri_encode(v)))
            .collect();
        let url = format!("http://{host}/?{}&X-Amz-Signature={signature}", pairs.join("&"));
        format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url))
    }
}

#[tokio::test]
async fn an_administrator_is_master_by_the_access_policy() {
    let webhook = Fixture::start(Recorded::administrator()).await;
    let token = webhook.token("secret");
    let status = webhook.review(&token).await;
    let arn = "arn:aws:sts::123456789012:assumed-role/admin/alice@example.com";
    let expected = json!({
        "authenticated": true,
        "user": {
            "username": arn,
            "uid": "aws-iam-authenticator:123456789012:AROAEXAMPLE:alice",
            "groups": ["system:masters"],
            "extra": {
                "accessKeyId": ["AKIATEST"], "arn": [arn], "canonicalArn": ["arn:aws:iam::123456789012:role/admin"],
                "principalId": ["AROAEXAMPLE:alice"], "sessionName": ["alice@example.com"],
            },
        },
    });
    assert_eq!(status, expected);
    let log = std::fs::read_to_string(webhook.folder.path().join("webhook.jsonl")).unwrap();
    assert!(
        log.contains("\"groups\":[\"system:masters\"]") && !log.contains(&token),
        "{log}"
    );
}

#[tokio::test]
async fn groups_of_the_entry_pass_except_reserved_ones() {
    let recorded = Recorded {
        entry: json!({ "username": "ops:{{SessionName}}:{{AccountID}}", "kubernetesGroups": ["viewers", "system:masters", "eks:x"] }),
        policies: json!([]),
        ..Recorded::administrator()
    };
    let webhook = Fixture::start(recorded).await;
    let user = webhook.review(&webhook.token("secret")).await["user"].take();
    assert_eq!(user["groups"], json!(["viewers"]));
    assert_eq!(user["username"], "ops:alice-example.com:123456789012");
}

#[tokio::test]
async fn another_policy_or_a_namespace_makes_no_master() {
    for policies in [
        json!([{ "policyArn": ADMIN_POLICY, "accessScope": { "type": "namespace", "namespaces": ["default"] } }]),
        json!([{ "policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy", "accessScope": { "type": "cluster" } }]),
        json!([{ "policyArn": ADMIN_POLICY }]),
    ] {
        let webhook = Fixture::start(Recorded {
            policies,
            ..Recorded::administrator()
        })
        .await;
        assert_eq!(
            webhook.review(&webhook.token("secret")).await["user"]["groups"],
            json!([])
        );
    }
}

#[tokio::test]
async fn a_caller_without_an_entry_is_not_authenticated() {
    for caller in [
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::123456789012:user/admin",
        "arn:aws:sts::999999999999:assumed-role/admin/x",
    ] {
        let webhook = Fixture::start(Recorded {
            caller,
            ..Recorded::administrator()
        })
        .await;
        let status = webhook.review(&webhook.token("secret")).await;
        assert_eq!(status["authenticated"], false, "{caller}");
        assert!(
            status["error"].as_str().unwrap().contains("has no access entry"),
            "{status}"
        );
        assert_eq!(status["user"], Value::Null);
    }
}

#[tokio::test]
async fn a_forged_token_is_not_authenticated() {
    let webhook = Fixture::start(Recorded::administrator()).await;
    let status = webhook.review(&webhook.token("guessed")).await;
    assert_eq!(status["authenticated"], false);
    assert!(status["error"].as_str().unwrap().contains("signature"), "{status}");
}

#[tokio::test]
async fn an_aws_api_that_does_not_answer_authenticates_nobody() {
    let webhook = Fixture::start(Recorded {
        caller: "",
        ..Recorded::administrator()
    })
    .await;
    let status = webhook.review(&webhook.token("secret")).await;
    assert_eq!(status["authenticated"], false);
    assert!(
        status["error"]
            .as_str()
            .unwrap()
            .contains("sts:GetCallerIdentity failed"),
        "{status}"
    );
}

#[tokio::test]
async fn what_is_no_token_review_is_refused() {
    let webhook = Fixture::start(Recorded::administrator()).await;
    for body in [
        "",
        "{}",
        "[]",
        r#"{"apiVersion":"authentication.k8s.io/v1beta1","spec":{"token":"x"}}"#,
        r#"{"apiVersion":"authentication.k8s.io/v1","spec":{}}"#,
    ] {
        assert_eq!(webhook.post(PATH, body).await.0, 400, "{body}");
    }
    assert_eq!(webhook.post(PATH, &"x".repeat(100 * 1024)).await.0, 413);
    assert_eq!(webhook.post("/other", "{}").await.0, 404);
}

#[tokio::test]
async fn a_client_that_never_shakes_hands_delays_nobody() {
    let webhook = Fixture::start(Recorded::administrator()).await;
    let _silent = TcpStream::connect(webhook.address).await.unwrap();
    assert_eq!(webhook.review(&webhook.token("secret")).await["authenticated"], true);
}

#[test]
fn a_certificate_and_a_key_are_needed() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    for (chain, key) in [("", key.serialize_pem()), (&certificate.pem(), String::new())] {
        assert!(matches!(TlsIdentity::from_pem(chain, &key), Err(Error::Setting { .. })));
    }
    let identity = TlsIdentity::from_pem(&certificate.pem(), &key.serialize_pem()).unwrap();
    assert!(!format!("{identity:?}").contains(key.serialize_pem().lines().nth(1).unwrap()));
}
