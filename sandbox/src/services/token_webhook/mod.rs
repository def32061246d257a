//! The authenticator of EKS tokens: a TokenReview webhook for kube-apiserver that really checks them.
//!
//! A token is `k8s-aws-v1.` and the base64url of a presigned `sts:GetCallerIdentity` URL. The rules are those of
//! aws-iam-authenticator (`pkg/token/token.go`, `pkg/arn/arn.go`), with one difference. That program sends the URL to
//! STS and trusts the answer; an emulator of STS answers whatever the signature is, so here the signature is computed
//! again from the secret key.
//!
//! Which groups a caller is in follows from the cluster's access entries ("Grant IAM users access to Kubernetes with
//! EKS access entries", Amazon EKS User Guide).

mod access_entries;
mod aws;
#[cfg(test)]
mod e2e;
mod principal;
mod review;
#[cfg(test)]
mod tests;
mod tls;
mod token;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::TcpListener;
use url::Url;

use super::json_lines::JsonLines;
use super::{Credentials, Error, Shutdown, http};
use access_entries::User;
use aws::Aws;
use review::{Request, Review};
use token::Rules;

pub use tls::TlsIdentity;

/// The path of the webhook, as in aws-iam-authenticator.
pub const PATH: &str = "/authenticate";

/// A review holds one token, and those are 4 KiB at most.
const BODY_LIMIT: usize = 64 * 1024;

/// Settings of the webhook.
#[derive(Debug)]
pub struct Config {
    /// What the webhook proves its own identity with.
    pub tls: TlsIdentity,
    /// The cluster for which tokens must have been made.
    pub cluster: String,
    /// The region for which they must have been signed.
    pub region: String,
    /// Where a client of the sandbox finds STS; a token must be a URL of exactly this scheme, host and port.
    pub sts_endpoint: Url,
    /// The keys that may have signed.
    pub credentials: Credentials,
    /// Where callers and access entries are looked up: the AWS API over plain HTTP.
    pub aws: SocketAddr,
    /// JSON lines: time, ARN, user name, groups, error; never a token.
    pub access_log: PathBuf,
}

struct Webhook {
    rules: Rules,
    aws: Aws,
    cluster: String,
    log: JsonLines,
}

/// Serves `POST /authenticate` and `GET /healthz` over HTTPS until the shutdown.
///
/// # Errors
/// The listener is not on loopback, the log cannot be opened, or the certificate and key do not fit.
pub async fn serve(listener: TcpListener, config: Config, shutdown: Shutdown) -> Result<(), Error> {
    http::loopback(&listener)?;
    let log = JsonLines::open(&config.access_log)?;
    let aws = Aws::new(config.aws, config.credentials.clone(), config.region.clone());
    let rules = Rules {
        endpoint: config.sts_endpoint,
        cluster: config.cluster.clone(),
        region: config.region,
        credentials: config.credentials,
    };
    let webhook = Arc::new(Webhook {
        rules,
        aws,
        cluster: config.cluster,
        log,
    });
    let router = Router::new()
        .route(PATH, post(authenticate))
        .route("/healthz", get(|| async { "ok" }))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(webhook);
    http::serve(tls::TlsListener::new(listener, config.tls)?, router, shutdown).await
}

async fn authenticate(State(webhook): State<Arc<Webhook>>, body: axum::body::Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<Request>(&body) else {
        return (
            StatusCode::BAD_REQUEST,
            "expected a TokenReview of authentication.k8s.io/v1",
        )
            .into_response();
    };
    let decision = webhook.decide(&request.spec.token).await;
    webhook.log.append(&Entry::new(&decision));
    Json(Review::new(decision.map_err(|denied| denied.error))).into_response()
}

/// Why a token gives no access, and whose it was as far as that is known.
struct Denied {
    arn: Option<String>,
    error: String,
}

impl Webhook {
    async fn decide(&self, token: &str) -> Result<User, Denied> {
        let denied = |arn: Option<&str>, error: String| Denied {
            arn: arn.map(str::to_owned),
            error,
        };
        let verified =
            token::verify(token, &self.rules, Timestamp::now()).map_err(|error| denied(None, error.to_string()))?;
        let caller = self
            .aws
            .caller(&verified, &self.cluster)
            .await
            .map_err(|error| denied(None, error.to_string()))?;
        let arn = caller.principal.arn.clone();
        match access_entries::resolve(&self.aws, &self.cluster, &verified, caller).await {
            Ok(user) => Ok(user),
            Err(error) => Err(denied(Some(&arn), error.to_string())),
        }
    }
}

/// One line of the access log.
#[derive(Serialize)]
struct Entry<'a> {
    time: Timestamp,
    arn: Option<&'a str>,
    username: Option<&'a str>,
    groups: &'a [String],
    error: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn new(decision: &'a Result<User, Denied>) -> Self {
        let time = Timestamp::now();
        match decision {
            Ok(user) => Self {
                time,
                arn: Some(&user.arn),
                username: Some(&user.username),
                groups: &user.groups,
                error: None,
            },
            Err(denied) => Self {
                time,
                arn: denied.arn.as_deref(),
                username: None,
                groups: &[],
                error: Some(&denied.error),
            },
        }
    }
}
