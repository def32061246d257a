use futures_util::future::BoxFuture;
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::host::{DeployKeyHost, HostError, RegisteredKey, Registration, key_data};
use super::http::{Api, Refusal};
use crate::patience::Patience;

/// Deploy keys on GitHub or GitHub Enterprise Server
/// (<https://docs.github.com/en/rest/deploy-keys/deploy-keys>, API version 2022-11-28).
#[derive(Debug)]
pub struct Github {
    api: Api,
}

#[derive(Deserialize)]
struct Key {
    id: u64,
    key: String,
    title: String,
    read_only: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Problem {
    message: String,
    errors: Vec<serde_json::Value>,
}

impl Github {
    /// For `owner/name` at the API `base`, by default GitHub's own.
    #[must_use]
    pub fn new(base: Option<&Url>, repository: &str, token: Option<SecretString>, patience: Patience) -> Self {
        const HEADERS: &[(&str, &str)] = &[
            ("accept", "application/vnd.github+json"),
            ("x-github-api-version", "2022-11-28"),
        ];
        let base = base.map_or("https://api.github.com", Url::as_str);
        Self {
            api: Api::new(base, repository, HEADERS, "Bearer", token, patience),
        }
    }

    fn keys(&self) -> String {
        format!("{}/repos/{}/keys", self.api.base, self.api.repository)
    }

    fn refused(&self, refusal: &Refusal, what: &str) -> HostError {
        let problem: Problem = serde_json::from_value(refusal.body.clone()).unwrap_or_default();
        let details: Vec<String> = problem
            .errors
            .iter()
            .map(|e| e["message"].as_str().map_or_else(|| e.to_string(), str::to_owned))
            .collect();
        let message = format!(
            "{}: {}{}{}",
            refusal.status,
            problem.message,
            if details.is_empty() { "" } else { ": " },
            details.join(", ")
        );
        let hint = match (refusal.status, refusal.wait) {
            (_, Some(wait)) => format!("GitHub's rate limit is used up; try again in {}s", wait.as_secs()),
            (StatusCode::UNAUTHORIZED, _) if !self.api.has_token() => {
                "set GITHUB_TOKEN to a token that may administer the repository, or sign in with `gh auth login`".into()
            }
            (StatusCode::UNAUTHORIZED, _) => {
                "the token is not valid (any more): set GITHUB_TOKEN to a new one".into()
            }
            (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _) => format!(
                "check that {} exists and that the token may administer it: a fine-grained token with Administration read and write, or a classic one with the scope repo; the GITHUB_TOKEN of GitHub Actions cannot",
                self.api.repository
            ),
            (StatusCode::UNPROCESSABLE_ENTITY, _) if details.iter().any(|d| d.contains("already in use")) => {
                "the key is registered with another repository or account; GitHub takes a key only once: remove it there".into()
            }
            _ => "try again; https://www.githubstatus.com tells of disturbances".into(),
        };
        self.api.error(what, message, hint)
    }
}

impl DeployKeyHost for Github {
    fn describe(&self) -> String {
        self.api.describe()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<RegisteredKey>, HostError>> {
        Box::pin(async move {
            let url = format!("{}?per_page=100", self.keys());
            let listed = self.api.list(&url, "GitHub", None).await;
            let keys = listed.map_err(|failure| failure.told(|refusal| self.refused(refusal, "look for")))?;
            keys.into_iter()
                .map(|item| {
                    let key: Key = self.api.item(item, "GitHub")?;
                    Ok(RegisteredKey {
                        id: key.id.to_string(),
                        title: key.title,
                        key: key.key,
                        read_only: key.read_only,
                    })
                })
                .collect()
        })
    }

    fn register<'a>(&'a self, title: &'a str, public: &'a str) -> BoxFuture<'a, Result<Registration, HostError>> {
        Box::pin(async move {
            let body = json!({ "title": title, "key": key_data(public), "read_only": true });
            let response = self
                .api
                .call(Method::POST, &self.keys(), Some(&body), "register")
                .await?;
            if response.status() == StatusCode::CREATED {
                return Ok(Registration::Registered);
            }
            let refusal = Refusal::of(response).await;
            // A try that was cut off may have registered it.
            if refusal.status == StatusCode::UNPROCESSABLE_ENTITY
                && self.find(public).await?.is_some_and(|k| k.read_only)
            {
                return Ok(Registration::Present);
            }
            Err(self.refused(&refusal, "register"))
        })
    }

    fn delete<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, HostError>> {
        Box::pin(async move {
            let url = format!("{}/{id}", self.keys());
            let response = self.api.call(Method::DELETE, &url, None, "remove").await?;
            match response.status() {
                StatusCode::NO_CONTENT => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(self.refused(&Refusal::of(response).await, "remove")),
            }
        })
    }
}
