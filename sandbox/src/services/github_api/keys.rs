use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{LINK, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::auth::Permission;
use super::pages::Page;
use super::{Api, Repository, answer, time};
use crate::services::{AddKeyError, DeployKey, NewDeployKey};

/// `GET /repos/{owner}/{repo}/keys`
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path((owner, repo)): Path<(String, String)>,
    page: Result<Query<Page>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let repository = match api.authorise(&headers, &owner, &repo, Permission::Administration) {
        Ok(repository) => repository,
        Err(denied) => return denied.response(),
    };
    // GitHub ignores numbers that it cannot read.
    let page = page.map(|Query(page)| page).unwrap_or_default();
    let keys = api.config.deploy_keys.list(&repository.name);
    let link = page.link(&format!("{}/keys", api.url(repository)), keys.len());
    let body: Vec<Value> = page
        .of(keys)
        .iter()
        .map(|key| describe(&api, repository, key))
        .collect();
    let mut response = answer::json(StatusCode::OK, &Value::Array(body));
    if let Some(link) = link {
        response.headers_mut().insert(LINK, link);
    }
    response
}

/// `GET /repos/{owner}/{repo}/keys/{key_id}`
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Path((owner, repo, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let repository = match api.authorise(&headers, &owner, &repo, Permission::Administration) {
        Ok(repository) => repository,
        Err(denied) => return denied.response(),
    };
    let key = id
        .parse()
        .ok()
        .and_then(|id| api.config.deploy_keys.get(&repository.name, id));
    key.map_or_else(answer::not_found, |key| {
        answer::json(StatusCode::OK, &describe(&api, repository, &key))
    })
}

/// `POST /repos/{owner}/{repo}/keys`
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Path((owner, repo)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let repository = match api.authorise(&headers, &owner, &repo, Permission::Administration) {
        Ok(repository) => repository,
        Err(denied) => return denied.response(),
    };
    let Ok(body) = body else {
        return answer::error(StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large");
    };
    let body: Value = match serde_json::from_slice(&body) {
        Ok(body @ Value::Object(_)) => body,
        Ok(_) => return answer::error(StatusCode::BAD_REQUEST, "Body should be a JSON object"),
        Err(_) => return answer::error(StatusCode::BAD_REQUEST, "Problems parsing JSON"),
    };
    let new = match requested(&body, repository) {
        Ok(new) => new,
        Err(message) => {
            let message = format!("Invalid request.\n\n{message}");
            return answer::error(StatusCode::UNPROCESSABLE_ENTITY, &message);
        }
    };
    match api.config.deploy_keys.add(new) {
        Ok(key) => {
            let body = describe(&api, repository, &key);
            let mut response = answer::json(StatusCode::CREATED, &body);
            if let Some(url) = body["url"].as_str().and_then(|url| HeaderValue::from_str(url).ok()) {
                response.headers_mut().insert(LOCATION, url);
            }
            response
        }
        Err(AddKeyError::Save(_)) => answer::error(StatusCode::INTERNAL_SERVER_ERROR, "Server Error"),
        Err(error) => answer::invalid_key(&error.to_string()),
    }
}

/// `DELETE /repos/{owner}/{repo}/keys/{key_id}`
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Path((owner, repo, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let repository = match api.authorise(&headers, &owner, &repo, Permission::Administration) {
        Ok(repository) => repository,
        Err(denied) => return denied.response(),
    };
    let Ok(id) = id.parse() else { return answer::not_found() };
    match api.config.deploy_keys.remove(&repository.name, id) {
        Ok(true) => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Ok(false) => answer::not_found(),
        Err(_) => answer::error(StatusCode::INTERNAL_SERVER_ERROR, "Server Error"),
    }
}

/// Reads the body of a creation; an error is the second half of GitHub's message.
fn requested(body: &Value, repository: &Repository) -> Result<NewDeployKey, String> {
    let text = |name: &str| match &body[name] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        other => Err(format!("For 'properties/{name}', {other} is not a string.")),
    };
    let key = text("key")?.ok_or("\"key\" wasn't supplied.")?;
    let read_only = match &body["read_only"] {
        // A key can push unless it is asked not to.
        Value::Null => false,
        Value::Bool(read_only) => *read_only,
        other => return Err(format!("For 'properties/read_only', {other} is not a boolean.")),
    };
    Ok(NewDeployKey {
        title: text("title")?.unwrap_or_default(),
        key,
        repository: repository.name.clone(),
        read_only,
        added_by: repository.name.owner().to_owned(),
    })
}

fn describe(api: &Api, repository: &Repository, key: &DeployKey) -> Value {
    json!({
        "id": key.id,
        "key": key.key,
        "url": format!("{}/keys/{}", api.url(repository), key.id),
        "title": key.title,
        "verified": true,
        "created_at": time(key.created_at),
        "read_only": key.read_only,
        "added_by": key.added_by,
        "last_used": key.last_used.map(time),
        "enabled": true,
    })
}
