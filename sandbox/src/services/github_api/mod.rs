//! A stand-in for the part of GitHub's REST API that manages deploy keys.
//!
//! Source: "REST API endpoints for deploy keys", "Get a repository", "Authenticating to the REST API", "Using
//! pagination in the REST API" and "Troubleshooting the REST API", docs.github.com, API version 2022-11-28.

mod answer;
mod auth;
mod keys;
mod pages;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;

use super::json_lines::JsonLines;
use super::{DeployKeys, Error, RepositoryName, Shutdown, http};
use auth::{Denied, Permission};

pub use auth::Token;

/// A deploy key with its title is a few hundred bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// Settings of the API.
#[derive(Debug, Clone)]
pub struct Config {
    /// The repositories that exist.
    pub repositories: Vec<Repository>,
    /// The tokens that are accepted.
    pub tokens: Vec<Token>,
    /// The set that the git server uses too.
    pub deploy_keys: DeployKeys,
    /// JSON lines: time, method, path, status.
    pub access_log: PathBuf,
}

/// A repository as the API describes it.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Owner and name.
    pub name: RepositoryName,
    /// The address to clone from, `ssh://git@…`.
    pub ssh_url: String,
}

/// What every request needs.
struct Api {
    config: Config,
    address: SocketAddr,
    log: JsonLines,
}

/// Serves until the shutdown.
///
/// # Errors
/// The listener is not on loopback, or the log cannot be opened.
pub async fn serve(listener: TcpListener, config: Config, shutdown: Shutdown) -> Result<(), Error> {
    let address = http::loopback(&listener)?;
    let log = JsonLines::open(&config.access_log)?;
    let api = Arc::new(Api { config, address, log });
    let router = Router::new()
        .route("/repos/{owner}/{repo}", get(repository))
        .route("/repos/{owner}/{repo}/keys", get(keys::list).post(keys::create))
        .route("/repos/{owner}/{repo}/keys/{id}", get(keys::read).delete(keys::delete))
        .fallback(|| async { answer::not_found() })
        .method_not_allowed_fallback(|| async { answer::not_found() })
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&api), answer::observe))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(api);
    http::serve_tcp(listener, router, shutdown).await
}

impl Api {
    /// The repository of a path, for a request that may do this.
    fn authorise(
        &self,
        headers: &HeaderMap,
        owner: &str,
        repo: &str,
        permission: Permission,
    ) -> Result<&Repository, Denied> {
        auth::check(headers, &self.config.tokens, permission)?;
        let path = format!("{owner}/{repo}");
        let name: Option<RepositoryName> = path.parse().ok();
        let found = self
            .config
            .repositories
            .iter()
            .find(|repository| name.as_ref() == Some(&repository.name));
        found.ok_or(Denied::NoRepository)
    }

    fn url(&self, repository: &Repository) -> String {
        format!("http://{}/repos/{}", self.address, repository.name)
    }
}

async fn repository(
    State(api): State<Arc<Api>>,
    Path((owner, repo)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let repository = match api.authorise(&headers, &owner, &repo, Permission::Metadata) {
        Ok(repository) => repository,
        Err(denied) => return denied.response(),
    };
    let administration = auth::check(&headers, &api.config.tokens, Permission::Administration).is_ok();
    let url = api.url(repository);
    let id = api
        .config
        .repositories
        .iter()
        .position(|other| other.name == repository.name)
        .unwrap_or_default()
        + 1;
    answer::json(
        StatusCode::OK,
        &json!({
            "id": id,
            "name": repository.name.name(),
            "full_name": repository.name.to_string(),
            "private": true,
            "owner": { "login": repository.name.owner(), "type": "Organization" },
            "html_url": format!("http://{}/{}", api.address, repository.name),
            "description": null,
            "fork": false,
            "url": url,
            "keys_url": format!("{url}/keys{{/key_id}}"),
            "ssh_url": repository.ssh_url,
            "default_branch": "main",
            "archived": false,
            "disabled": false,
            "visibility": "private",
            "permissions": { "admin": administration, "push": administration, "pull": true },
        }),
    )
}

/// The form of GitHub's time stamps: whole seconds, UTC.
fn time(timestamp: Timestamp) -> String {
    timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
