use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Method, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::host::{DeployKeyHost, HostError, RegisteredKey, Registration, key_data};

/// Longest wait that a rate limit may ask for before the call is given up.
const LONGEST_WAIT: Duration = Duration::from_secs(90);

/// Deploy keys on GitHub or GitHub Enterprise Server
/// (<https://docs.github.com/en/rest/deploy-keys/deploy-keys>, API version 2022-11-28).
#[derive(Debug)]
pub struct Github {
    client: reqwest::Client,
    base: String,
    repository: String,
    token: Option<SecretString>,
}

#[derive(Deserialize)]
struct Key {
    id: u64,
    key: String,
    title: String,
    read_only: bool,
}

#[derive(Deserialize, Default)]
struct Problem {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<serde_json::Value>,
}

impl Github {
    /// For `owner/name` at the API `base`, by default GitHub's own.
    #[must_use]
    pub fn new(base: Option<&Url>, repository: &str, token: Option<SecretString>) -> Self {
        Self {
            client: reqwest::Client::new(),
            base: base
                .map_or("https://api.github.com", Url::as_str)
                .trim_end_matches('/')
                .to_owned(),
            repository: repository.to_owned(),
            token,
        }
    }

    fn attempted(&self, what: &str) -> String {
        format!("{what} a deploy key of {} at {}", self.repository, self.base)
    }

    async fn call(
        &self,
        method: Method,
        url: &str,
        body: Option<serde_json::Value>,
        what: &str,
    ) -> Result<Response, HostError> {
        let mut attempt = 0_u32;
        loop {
            attempt += 1;
            let mut request = self
                .client
                .request(method.clone(), url)
                .timeout(Duration::from_secs(30))
                .header("accept", "application/vnd.github+json")
                .header("x-github-api-version", "2022-11-28")
                .header("user-agent", concat!("mfsre/", env!("CARGO_PKG_VERSION")));
            if let Some(token) = &self.token {
                request = request.bearer_auth(token.expose_secret());
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let response = match request.send().await {
                Ok(response) => response,
                Err(error) if attempt < 4 && (method != Method::POST || error.is_connect()) => {
                    tokio::time::sleep(Duration::from_millis(300 << attempt)).await;
                    continue;
                }
                Err(error) => {
                    return Err(HostError {
                        attempted: self.attempted(what),
                        message: reason(error),
                        hint: "check the network and git.api_url".into(),
                    });
                }
            };
            let status = response.status();
            if let Some(wait) = wait_for(&response)
                && wait <= LONGEST_WAIT
                && attempt < 4
            {
                tokio::time::sleep(wait).await;
                continue;
            }
            if status.is_server_error() && attempt < 4 {
                tokio::time::sleep(Duration::from_millis(300 << attempt)).await;
                continue;
            }
            return Ok(response);
        }
    }

    async fn problem(&self, response: Response, what: &str) -> HostError {
        let status = response.status();
        let wait = wait_for(&response);
        let text = response.text().await.unwrap_or_default();
        let problem: Problem = serde_json::from_str(&text).unwrap_or_default();
        let details: Vec<String> = problem
            .errors
            .iter()
            .map(|e| e["message"].as_str().map_or_else(|| e.to_string(), str::to_owned))
            .collect();
        let message = format!(
            "{status}: {}{}{}",
            problem.message,
            if details.is_empty() { "" } else { ": " },
            details.join(", ")
        );
        let hint = match status {
            _ if wait.is_some() => format!("GitHub's rate limit is used up; try again in {}s", wait.unwrap_or_default().as_secs()),
            StatusCode::UNAUTHORIZED if self.token.is_none() => "set GITHUB_TOKEN to a token that may administer the repository, or sign in with `gh auth login`".into(),
            StatusCode::UNAUTHORIZED => "the token is not valid (any more): set GITHUB_TOKEN to a new one".into(),
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => format!(
                "check that {} exists and that the token may administer it: a fine-grained token with Administration read and write, or a classic one with the scope repo; the GITHUB_TOKEN of GitHub Actions cannot",
                self.repository
            ),
            StatusCode::UNPROCESSABLE_ENTITY if details.iter().any(|d| d.contains("already in use")) => {
                "the key is registered with another repository or account; GitHub takes a key only once: remove it there".into()
            }
            _ => "try again; https://www.githubstatus.com tells of disturbances".into(),
        };
        HostError {
            attempted: self.attempted(what),
            message,
            hint,
        }
    }

    async fn list(&self) -> Result<Vec<Key>, HostError> {
        let mut url = format!("{}/repos/{}/keys?per_page=100", self.base, self.repository);
        let mut keys = Vec::new();
        loop {
            let response = self.call(Method::GET, &url, None, "look for").await?;
            if !response.status().is_success() {
                return Err(self.problem(response, "look for").await);
            }
            let next = response
                .headers()
                .get("link")
                .and_then(|l| l.to_str().ok())
                .and_then(next_page);
            let page: Vec<Key> = response.json().await.map_err(|e| HostError {
                attempted: self.attempted("look for"),
                message: reason(e),
                hint: "check git.api_url: this does not answer like GitHub's API".into(),
            })?;
            keys.extend(page);
            match next {
                // The token goes nowhere else.
                Some(next) if next.strip_prefix(&self.base).is_some_and(|path| path.starts_with('/')) => url = next,
                _ => return Ok(keys),
            }
        }
    }
}

/// The error with everything behind it, and without the URL, which is told already.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// How long GitHub asks to wait (<https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>).
fn wait_for(response: &Response) -> Option<Duration> {
    if !matches!(response.status().as_u16(), 403 | 429) {
        return None;
    }
    let number = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse::<i64>().ok())
    };
    if let Some(seconds) = number("retry-after") {
        return u64::try_from(seconds).ok().map(Duration::from_secs);
    }
    if number("x-ratelimit-remaining") == Some(0) {
        let now = jiff::Timestamp::now().as_second();
        return number("x-ratelimit-reset")
            .map(|reset| Duration::from_secs(u64::try_from(reset - now).unwrap_or(0) + 1));
    }
    (response.status().as_u16() == 429).then_some(Duration::from_secs(60))
}

/// The URL marked `rel="next"` in a Link header.
fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (url, rest) = part.split_once(';')?;
        rest.contains("rel=\"next\"")
            .then(|| url.trim().trim_matches(['<', '>']).to_owned())
    })
}

impl DeployKeyHost for Github {
    fn describe(&self) -> String {
        format!("{} at {}", self.repository, self.base)
    }

    fn find<'a>(&'a self, public: &'a str) -> BoxFuture<'a, Result<Option<RegisteredKey>, HostError>> {
        Box::pin(async move {
            let wanted = key_data(public);
            let found = self.list().await?.into_iter().find(|k| key_data(&k.key) == wanted);
            Ok(found.map(|k| RegisteredKey {
                id: k.id.to_string(),
                title: k.title,
                key: k.key,
                read_only: k.read_only,
            }))
        })
    }

    fn register<'a>(&'a self, title: &'a str, public: &'a str) -> BoxFuture<'a, Result<Registration, HostError>> {
        Box::pin(async move {
            let url = format!("{}/repos/{}/keys", self.base, self.repository);
            let body = json!({ "title": title, "key": key_data(public), "read_only": true });
            let response = self.call(Method::POST, &url, Some(body), "register").await?;
            if response.status() == StatusCode::CREATED {
                return Ok(Registration::Registered);
            }
            // A try that was cut off may have registered it.
            if response.status() == StatusCode::UNPROCESSABLE_ENTITY
                && self.find(public).await?.is_some_and(|k| k.read_only)
            {
                return Ok(Registration::Present);
            }
            Err(self.problem(response, "register").await)
        })
    }

    fn remove<'a>(&'a self, public: &'a str) -> BoxFuture<'a, Result<bool, HostError>> {
        Box::pin(async move {
            let Some(key) = self.find(public).await? else {
                return Ok(false);
            };
            let url = format!("{}/repos/{}/keys/{}", self.base, self.repository, key.id);
            let response = self.call(Method::DELETE, &url, None, "remove").await?;
            match response.status() {
                StatusCode::NO_CONTENT => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(self.problem(response, "remove").await),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_read_from_the_link_header() {
        let link = r#"<https://api/x?page=1>; rel="prev", <https://api/x?page=3>; rel="next""#;
        assert_eq!(next_page(link).as_deref(), Some("https://api/x?page=3"));
        assert_eq!(next_page(r#"<https://api/x?page=1>; rel="last""#), None);
    }
}
