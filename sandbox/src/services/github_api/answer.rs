use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::Api;

const DOCUMENTATION: &str = "https://docs.github.com/rest/deploy-keys/deploy-keys";

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    (
        status,
        [(CONTENT_TYPE, "application/json; charset=utf-8")],
        body.to_string(),
    )
        .into_response()
}

/// An error with a message only.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    json(
        status,
        &json!({ "message": message, "documentation_url": DOCUMENTATION, "status": status.as_str() }),
    )
}

/// There is no such thing.
pub(super) fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "Not Found")
}

/// The rejection of a deploy key.
pub(super) fn invalid_key(message: &str) -> Response {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let error = json!({ "resource": "PublicKey", "code": "custom", "field": "key", "message": message });
    json(
        status,
        &json!({
            "message": "Validation Failed",
            "errors": [error],
            "documentation_url": format!("{DOCUMENTATION}#create-a-deploy-key"),
            "status": status.as_str(),
        }),
    )
}

/// One line of the access log.
#[derive(Serialize)]
struct Entry {
    time: Timestamp,
    method: String,
    path: String,
    status: u16,
}

/// Logs a request after it was answered, never its headers or bodies.
pub(super) async fn observe(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    api.log.append(&Entry {
        time: Timestamp::now(),
        method,
        path,
        status,
    });
    response
}
