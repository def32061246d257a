//! The API's endpoints: a path and a method to an answer.

mod configuration;
mod organizations;
mod runs;
mod states;
mod workspaces;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde_json::{Value, json};

use crate::store::{Store, User};
use crate::{Shared, runner};

pub(crate) const JSON_API: &str = "application/vnd.api+json";

/// An answer.
pub(crate) enum Reply {
    Document(u16, Value),
    /// JSON that is no JSON:API document.
    Plain(Value),
    Bytes(Vec<u8>),
    Redirect(String),
    Empty(u16),
    Refused(u16, &'static str, String),
}

impl Reply {
    pub(crate) fn data(data: Value) -> Self {
        Self::Document(200, json!({ "data": data }))
    }

    /// What the API says of what is not there, and of what a caller may not know.
    pub(crate) fn missing() -> Self {
        Self::Refused(404, "not found", String::new())
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::Refused(409, "conflict", detail.into())
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::Refused(422, "invalid attribute", detail.into())
    }
}

/// A request with its caller.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) store: &'a mut Store,
    pub(crate) user: User,
    pub(crate) path: &'a str,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Call<'_> {
    pub(crate) fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Whether a relation is asked for.
    pub(crate) fn includes(&self, relation: &str) -> bool {
        self.query("include")
            .is_some_and(|all| all.split(',').any(|one| one == relation))
    }

    pub(crate) fn attribute(&self, key: &str) -> &Value {
        &self.body["data"]["attributes"][key]
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> bool {
        self.attribute(key).as_bool().unwrap_or(default)
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.attribute(key).as_str().map(str::to_owned)
    }

    pub(crate) fn relation(&self, key: &str) -> Option<String> {
        self.body["data"]["relationships"][key]["data"]["id"]
            .as_str()
            .map(str::to_owned)
    }

    pub(crate) fn list(&self, items: Vec<Value>) -> Reply {
        Reply::Document(
            200,
            crate::documents::page(items, &self.query, &format!("/api/v2/{}", self.path)),
        )
    }
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let reply = reply(&shared, &method, &uri, &headers, &body);
    let left = |n: i64| (n > 0).then(|| n - 1);
    let _ = shared.answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
    while shared.answers.load(Ordering::SeqCst) == 0 && !shared.is_down() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let builder = Response::builder()
        .header("TFP-API-Version", "2.6")
        .header("TFP-AppName", "Terraform Enterprise")
        .header("X-TFE-Version", "v202505-1")
        .header("X-RateLimit-Limit", "30");
    let response = match reply {
        Reply::Document(status, document) => builder
            .status(status)
            .header("content-type", JSON_API)
            .body(Body::from(document.to_string())),
        Reply::Plain(value) => builder
            .header("content-type", "application/json")
            .body(Body::from(value.to_string())),
        Reply::Bytes(bytes) => builder
            .header("content-type", "application/octet-stream")
            .body(Body::from(bytes)),
        Reply::Redirect(url) => builder.status(307).header("location", url).body(Body::empty()),
        Reply::Empty(status) => builder.status(status).body(Body::empty()),
        Reply::Refused(429, title, wait) => builder
            .status(429)
            .header("retry-after", &wait)
            .header("x-ratelimit-reset", &wait)
            .header("content-type", JSON_API)
            .body(Body::from(
                errors(429, title, "You have exceeded the API's rate limit.").to_string(),
            )),
        Reply::Refused(status, title, detail) => builder
            .status(status)
            .header("content-type", JSON_API)
            .body(Body::from(errors(status, title, &detail).to_string())),
    };
    response.unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

fn errors(status: u16, title: &str, detail: &str) -> Value {
    let mut error = json!({ "status": status.to_string(), "title": title });
    if !detail.is_empty() {
        error["detail"] = json!(detail);
    }
    json!({ "errors": [error] })
}

fn reply(shared: &Arc<Shared>, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Reply {
    shared.requests.lock().unwrap().push(format!("{method} {}", uri.path()));
    let path = uri.path();
    if path == "/.well-known/terraform.json" {
        return Reply::Plain(json!({
            "modules.v1": "/api/registry/v1/modules/", "state.v2": "/api/v2/", "tfe.v2": "/api/v2/", "tfe.v2.1": "/api/v2/", "tfe.v2.2": "/api/v2/",
        }));
    }
    let query: Vec<(String, String)> = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    if let Some(object) = path.strip_prefix("/_archivist/v1/object/") {
        return shared.with(|store| crate::objects::answer(shared, store, method, object, &query, body));
    }
    let Some(path) = path.strip_prefix("/api/v2/") else {
        return Reply::missing();
    };
    if let Some(plan) = path
        .strip_prefix("plans/")
        .and_then(|p| p.strip_suffix("/json-output-redacted"))
    {
        runner::redact(shared, plan);
    }
    let token = headers
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    shared.with(|store| {
        if let Some(seconds) = store.limited.pop_front() {
            return Reply::Refused(429, "Too many requests", seconds.to_string());
        }
        // The one endpoint that answers to anybody.
        if path == "ping" {
            return Reply::Empty(204);
        }
        let Some(user) = token.and_then(|token| store.tokens.get(token)).cloned() else {
            return Reply::Refused(401, "unauthorized", String::new());
        };
        let written = matches!(*method, Method::POST | Method::PATCH) && !body.is_empty();
        let kind = headers
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if written && !kind.starts_with(JSON_API) {
            return Reply::Refused(
                415,
                "unsupported media type",
                format!("the content type has to be {JSON_API}"),
            );
        }
        let body = if body.is_empty() {
            Value::Null
        } else {
            match serde_json::from_slice(body) {
                Ok(body) => body,
                Err(error) => return Reply::Refused(400, "JSON body is invalid", error.to_string()),
            }
        };
        let mut call = Call {
            shared,
            store,
            user,
            path,
            query,
            body,
        };
        route(&mut call, method)
    })
}

fn route(call: &mut Call<'_>, method: &Method) -> Reply {
    let decoded: Vec<String> = call
        .path
        .split('/')
        .map(|s| {
            url::form_urlencoded::parse(format!("x={s}").as_bytes())
                .next()
                .map(|(_, v)| v.into_owned())
                .unwrap_or_default()
        })
        .collect();
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["account", "details"]) => Reply::data(crate::documents::user(&call.user)),
        (_, ["organizations", rest @ ..]) => organizations::answer(call, method, rest),
        (
            _,
            [
                "workspaces",
                id,
                "state-versions" | "current-state-version" | "current-state-version-outputs",
            ],
        )
        | (_, ["workspaces", id, "current-state-version", "outputs"]) => {
            states::of_workspace(call, method, id, parts[2], parts.len())
        }
        (_, ["workspaces", id, "configuration-versions"]) => configuration::of_workspace(call, method, id),
        ("GET", ["workspaces", id, "runs"]) => runs::list(call, id),
        (_, ["workspaces", id, rest @ ..]) => workspaces::answer(call, method, id, rest),
        ("GET", ["projects", id]) => organizations::project(call, id),
        (_, ["configuration-versions", id, rest @ ..]) => configuration::answer(call, method, id, rest),
        (_, ["runs", rest @ ..]) => runs::answer(call, method, rest),
        ("GET", ["plans", id, rest @ ..]) => runs::plan(call, id, rest),
        ("GET", ["applies", id]) => runs::apply(call, id),
        (_, ["policy-checks", id, rest @ ..]) => runs::policy_check(call, method, id, rest),
        (_, ["task-stages", id, rest @ ..]) => runs::task_stage(call, method, id, rest),
        ("GET", ["policy-evaluations", id, rest @ ..]) => runs::policy_evaluation(call, id, rest),
        ("GET", ["state-versions", rest @ ..]) => states::answer(call, rest),
        ("GET", ["state-version-outputs", id]) => states::output(call, id),
        _ => Reply::missing(),
    }
}

pub(crate) use runs::pushed as pushed_run;
pub(crate) use states::receive as receive_state;
