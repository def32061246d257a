use reqwest::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::HostError;
use super::http::{Api, Paging, Refusal};
use super::rest::{ReadOnlyKey, Rest};
use crate::patience::Patience;

/// Deploy keys on GitHub or GitHub Enterprise Server
/// (<https://docs.github.com/en/rest/deploy-keys/deploy-keys>, API version 2022-11-28).
#[derive(Debug)]
pub struct Github {
    api: Api,
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
}

impl Rest for Github {
    const NAME: &'static str = "GitHub";
    const PAGING: Paging = Paging::Linked(100);
    const READS_ONLY: (&'static str, bool) = ("read_only", true);
    type Key = ReadOnlyKey;

    fn api(&self) -> &Api {
        &self.api
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
