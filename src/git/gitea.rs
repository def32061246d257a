use futures_util::future::BoxFuture;
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::host::{DeployKeyHost, HostError, RegisteredKey, Registration, key_data};
use super::http::{Api, Refusal};
use crate::patience::Patience;

/// Keys a page; Gitea's own limit is 50 (`[api] MAX_RESPONSE_ITEMS`), and it gives fewer where that is set lower.
const PER_PAGE: usize = 50;

/// Deploy keys on Gitea or Forgejo
/// (<https://docs.gitea.com/api/1.24/#tag/repository/operation/repoListKeys>, API v1, which Forgejo shares).
#[derive(Debug)]
pub struct Gitea {
    api: Api,
}

#[derive(Deserialize)]
struct Key {
    id: u64,
    key: String,
    title: String,
    read_only: bool,
}

impl Gitea {
    /// For `owner/name` at the API `base`, such as `https://codeberg.org/api/v1`.
    #[must_use]
    pub fn new(base: &Url, repository: &str, token: Option<SecretString>, patience: Patience) -> Self {
        const HEADERS: &[(&str, &str)] = &[("accept", "application/json")];
        Self {
            api: Api::new(base.as_str(), repository, HEADERS, "token", token, patience),
        }
    }

    fn keys(&self) -> String {
        format!("{}/repos/{}/keys", self.api.base, self.api.repository)
    }

    fn refused(&self, refusal: &Refusal, what: &str) -> HostError {
        let told = refusal.body["message"].as_str().unwrap_or_default();
        let hint = match (refusal.status, refusal.wait) {
            (_, Some(wait)) => format!("the host asks to wait; try again in {}s", wait.as_secs()),
            (StatusCode::UNAUTHORIZED, _) if !self.api.has_token() => {
                "set GITEA_TOKEN (or FORGEJO_TOKEN) to an access token with the permission write:repository of an administrator of the repository".into()
            }
            (StatusCode::UNAUTHORIZED, _) => "the token is not valid (any more): set GITEA_TOKEN to a new one".into(),
            (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _) => format!(
                "check that {} exists and that the token has the permission write:repository and belongs to an administrator of the repository",
                self.api.repository
            ),
            (StatusCode::UNPROCESSABLE_ENTITY, _) if told.contains("used as non-deploy key") => {
                "the key is registered as a person's key on this host: remove it there".into()
            }
            (StatusCode::UNPROCESSABLE_ENTITY, _) if told.contains("same name") || told.contains("title has been used") => {
                "another deploy key of the repository has this title: remove it there".into()
            }
            (StatusCode::UNPROCESSABLE_ENTITY, _) => "look at the repository's deploy keys in its settings".into(),
            _ => "try again; the host's log tells more".into(),
        };
        self.api.error(what, format!("{}: {told}", refusal.status), hint)
    }
}

impl DeployKeyHost for Gitea {
    fn describe(&self) -> String {
        self.api.describe()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<RegisteredKey>, HostError>> {
        Box::pin(async move {
            // The list has no links: the pages are counted, to the total that a header tells.
            let page = |number: usize| format!("{}?limit={PER_PAGE}&page={number}", self.keys());
            let listed = self.api.list(&page(1), "Gitea", Some(&page)).await;
            let keys = listed.map_err(|failure| failure.told(|refusal| self.refused(refusal, "look for")))?;
            keys.into_iter()
                .map(|item| {
                    let key: Key = self.api.item(item, "Gitea")?;
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
            // Gitea answers 204 for a key that is not there as well.
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
