use reqwest::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::http::{Api, Paging, Refusal};
use super::rest::Rest;
use super::{HostError, RegisteredKey};
use crate::patience::Patience;

/// Deploy keys on GitLab, GitLab.com or self-managed (<https://docs.gitlab.com/api/deploy_keys/>, API v4).
#[derive(Debug)]
pub struct Gitlab {
    api: Api,
    /// The project's path, encoded to be one segment of a URL.
    project: String,
}

#[derive(Deserialize)]
pub(super) struct Key {
    id: u64,
    key: String,
    title: String,
    /// Absent where GitLab has nothing to say of it; its default is a key that cannot push.
    #[serde(default)]
    can_push: bool,
}

impl From<Key> for RegisteredKey {
    fn from(key: Key) -> Self {
        Self {
            id: key.id.to_string(),
            read_only: !key.can_push,
            title: key.title,
            key: key.key,
        }
    }
}

impl Gitlab {
    /// For the project `group/.../name` at the API `base`, such as `https://gitlab.com/api/v4`.
    #[must_use]
    pub fn new(base: &Url, project: &str, token: Option<SecretString>, patience: Patience) -> Self {
        const HEADERS: &[(&str, &str)] = &[("accept", "application/json")];
        Self {
            // Personal, project and group access tokens are taken as bearer tokens, and so are those of OAuth, which
            // `glab auth login` may hold.
            api: Api::new(base.as_str(), project, HEADERS, "Bearer", token, patience),
            project: url::form_urlencoded::byte_serialize(project.as_bytes()).collect(),
        }
    }
}

impl Rest for Gitlab {
    const NAME: &'static str = "GitLab";
    const PAGING: Paging = Paging::Linked(100);
    const READS_ONLY: (&'static str, bool) = ("can_push", false);
    type Key = Key;

    fn api(&self) -> &Api {
        &self.api
    }

    fn keys(&self) -> String {
        format!("{}/projects/{}/deploy_keys", self.api.base, self.project)
    }

    fn refused(&self, refusal: &Refusal, what: &str) -> HostError {
        let told = told(&refusal.body);
        let hint = match (refusal.status, refusal.wait) {
            (_, Some(wait)) => format!("GitLab's rate limit is used up; try again in {}s", wait.as_secs()),
            (StatusCode::UNAUTHORIZED, _) if !self.api.has_token() => {
                "set GITLAB_TOKEN to a token with the scope api of a Maintainer of the project, or sign in with `glab auth login`".into()
            }
            (StatusCode::UNAUTHORIZED, _) => "the token is not valid (any more): set GITLAB_TOKEN to a new one".into(),
            (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _) => format!(
                "check that {} exists and that the token has the scope api and the role Maintainer there; a CI_JOB_TOKEN cannot manage deploy keys",
                self.api.repository
            ),
            _ if is_taken(&told) => {
                "the key is registered elsewhere on this GitLab, as a person's key or where the token does not reach: remove it there".into()
            }
            (status, _) if status.is_client_error() => "look at the project's deploy keys in its settings".into(),
            _ => "try again; https://status.gitlab.com tells of disturbances of GitLab.com".into(),
        };
        // Some of its messages begin with the status.
        let message = match told.strip_prefix(refusal.status.as_str()) {
            Some(_) => told,
            None => format!("{}: {told}", refusal.status),
        };
        self.api.error(what, message, hint)
    }
}

/// What GitLab says: `message` is a text, or texts by field; `error` and `error_description` are those of OAuth.
fn told(body: &Value) -> String {
    let texts = |list: &Value| -> Vec<String> {
        let items = list.as_array().into_iter().flatten();
        items.filter_map(|t| t.as_str().map(str::to_owned)).collect()
    };
    match (&body["message"], body["error"].as_str()) {
        (Value::String(text), _) => text.clone(),
        (Value::Object(fields), _) => fields
            .iter()
            .map(|(field, list)| format!("{field} {}", texts(list).join(", ")))
            .collect::<Vec<_>>()
            .join("; "),
        (_, Some(error)) => match body["error_description"].as_str() {
            Some(description) => format!("{error}: {description}"),
            None => error.to_owned(),
        },
        _ => String::new(),
    }
}

/// A key that another record of this GitLab holds.
fn is_taken(told: &str) -> bool {
    told.contains("has already been taken")
}
