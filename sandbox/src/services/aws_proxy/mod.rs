//! A reverse proxy in front of the AWS emulator: everything passes as it came, except where a rule supplies what the
//! emulator lacks or gets wrong.
//!
//! The rules are listed in [`rules()`], each in a file of its own with its reason. A blueprint is never weakened for
//! the emulator's sake; the emulator is completed here instead.

mod answer;
mod call;
mod context;
#[cfg(test)]
mod e2e;
mod eks_operations;
mod memory;
mod request;
mod rules;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::USER_AGENT;
use axum::http::{Request as HttpRequest, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::TcpListener;

use super::json_lines::JsonLines;
use super::{Credentials, Error, Shutdown, http};
use answer::Answer;
use call::Call;
use context::Context;
use request::Request;

pub use rules::{RuleDescription, rules};

/// The longest body that a rule, or the search for the operation in a form, reads; objects of S3 and the like are not
/// read but passed on.
const BODY_LIMIT: usize = 4 << 20;

/// Settings of the proxy.
#[derive(Debug)]
pub struct Config {
    /// The emulator.
    pub emulator: SocketAddr,
    /// The access keys that are valid; keys that the emulator issues are added.
    pub credentials: Credentials,
    /// The control plane that stands behind an EKS cluster.
    pub cluster: ClusterEndpoint,
    /// Where what the emulator forgets is kept over a restart of the proxy; to be removed with the emulator's data.
    pub memory: PathBuf,
    /// JSON lines: time, service, operation, user_agent, status, duration_ms, rule; never a body.
    pub request_log: PathBuf,
}

/// The control plane that stands behind an EKS cluster.
#[derive(Debug, Clone)]
pub struct ClusterEndpoint {
    /// The name of the EKS cluster; another one keeps what the emulator says.
    pub name: String,
    /// The address of kube-apiserver, `https://…`.
    pub url: String,
    /// The certificate authority of kube-apiserver, PEM.
    pub certificate_authority_pem: String,
}

struct Proxy {
    context: Context,
    log: JsonLines,
}

/// Serves until the shutdown.
///
/// # Errors
/// The listener is not on loopback, or the memory or the log is unusable.
pub async fn serve(listener: TcpListener, config: Config, shutdown: Shutdown) -> Result<(), Error> {
    http::loopback(&listener)?;
    let log = JsonLines::open(&config.request_log)?;
    let context = Context::new(config.emulator, config.credentials, config.cluster, &config.memory)?;
    let router = Router::new()
        .fallback(handle)
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::new(Proxy { context, log }));
    http::serve_tcp(listener, router, shutdown).await
}

async fn handle(State(proxy): State<Arc<Proxy>>, request: HttpRequest<Body>) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let is_form = request::is_form(&parts);
    // The operation of the query protocol stands in the body.
    let form = if is_form {
        to_bytes(Body::new(body), BODY_LIMIT).await.map(Payload::Read)
    } else {
        Ok(Payload::Unread(body))
    };
    let call = Call::read(&parts, form.as_ref().ok().and_then(Payload::bytes));
    let user_agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    let user_agent = user_agent.unwrap_or_default().to_owned();
    let (response, rule) = match form {
        Ok(payload) => proxy.answer(&call, Request::new(parts, call.clone()), payload).await,
        Err(_) => (too_large(&call), None),
    };
    let duration = started.elapsed();
    proxy.log.append(&Entry {
        time: Timestamp::now(),
        service: &call.service,
        operation: &call.operation,
        user_agent: &user_agent,
        status: response.status().as_u16(),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        rule,
    });
    response
}

/// The body of a request.
enum Payload {
    Read(Bytes),
    Unread(Body),
}

impl Payload {
    fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Read(bytes) => Some(bytes),
            Self::Unread(_) => None,
        }
    }
}

impl Proxy {
    /// The answer and the reason of the rule that gave it.
    async fn answer(&self, call: &Call, request: Request, payload: Payload) -> (Response, Option<&'static str>) {
        if let Some(key) = &call.access_key
            && !self.context.credentials.knows(key)
        {
            return (Answer::unknown_access_key(call).into_response(), None);
        }
        let Some(rule) = rules::find(call) else {
            let body = match payload {
                Payload::Read(bytes) => Body::from(bytes),
                Payload::Unread(body) => body,
            };
            let response = self.context.stream(request, body).await;
            return (
                response.unwrap_or_else(|error| Answer::unavailable(call, &error.to_string()).into_response()),
                None,
            );
        };
        let body = match payload {
            Payload::Read(bytes) => bytes,
            Payload::Unread(body) => match to_bytes(body, BODY_LIMIT).await {
                Ok(bytes) => bytes,
                Err(_) => return (too_large(call), Some(rule.name)),
            },
        };
        let answer = (rule.apply)(&self.context, request.with_body(body)).await;
        let answer = answer.unwrap_or_else(|error| Answer::unavailable(call, &error.to_string()));
        (answer.into_response(), Some(rule.name))
    }
}

fn too_large(call: &Call) -> Response {
    let message = format!("the request is longer than {BODY_LIMIT} bytes or was cut off");
    Answer::error(call, StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message).into_response()
}

/// One line of the request log.
#[derive(Serialize)]
struct Entry<'a> {
    time: Timestamp,
    service: &'a str,
    operation: &'a str,
    /// Which program calls.
    user_agent: &'a str,
    status: u16,
    /// Until the answer began.
    duration_ms: u64,
    /// The rule that took part, if any.
    rule: Option<&'static str>,
}
