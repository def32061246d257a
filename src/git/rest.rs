//! Deploy keys over a git host's REST API: one way of working for every host, and what each has of its own.

use futures_util::future::BoxFuture;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::host::{DeployKeyHost, HostError, RegisteredKey, Registration, key_data};
use super::http::{Api, Failure, Paging, Refusal};

/// What one host has of its own. Whoever implements this is a [`DeployKeyHost`].
pub(super) trait Rest: Send + Sync {
    /// The host's software, as errors name it.
    const NAME: &'static str;
    /// How it gives a long list.
    const PAGING: Paging;
    /// The field that says what a key may do, and its value for one that only reads.
    const READS_ONLY: (&'static str, bool);
    /// A key, as it gives them.
    type Key: DeserializeOwned + Into<RegisteredKey> + Send;

    /// Where its API is.
    fn api(&self) -> &Api;

    /// URL of the repository's deploy keys.
    fn keys(&self) -> String;

    /// The error for a refusal of the attempt `what`, with the next step.
    fn refused(&self, refusal: &Refusal, what: &str) -> HostError;
}

/// A key as GitHub gives it, and Gitea, which follows GitHub's API.
#[derive(Deserialize)]
pub(super) struct ReadOnlyKey {
    id: u64,
    key: String,
    title: String,
    read_only: bool,
}

impl From<ReadOnlyKey> for RegisteredKey {
    fn from(key: ReadOnlyKey) -> Self {
        Self {
            id: key.id.to_string(),
            read_only: key.read_only,
            title: key.title,
            key: key.key,
        }
    }
}

impl<R: Rest> DeployKeyHost for R {
    fn describe(&self) -> String {
        self.api().describe()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<RegisteredKey>, HostError>> {
        Box::pin(async move {
            let listed: Result<Vec<R::Key>, Failure> = self.api().list(&self.keys(), R::NAME, R::PAGING).await;
            let keys = listed.map_err(|failure| failure.told(|refusal| self.refused(refusal, "look for")))?;
            Ok(keys.into_iter().map(Into::into).collect())
        })
    }

    fn register<'a>(&'a self, title: &'a str, public: &'a str) -> BoxFuture<'a, Result<Registration, HostError>> {
        Box::pin(async move {
            let (field, value) = R::READS_ONLY;
            let body = json!({ "title": title, "key": key_data(public), field: value });
            let api = self.api();
            let response = api.call(Method::POST, &self.keys(), Some(&body), "register").await?;
            let answer = Refusal::of(response).await;
            if answer.status == StatusCode::CREATED {
                // GitLab answers so for a key that is there already, with what it may do.
                return if answer.body[field] == !value {
                    Err(api.error(
                        "register",
                        "the key is registered already, and may push",
                        "remove it from the repository's deploy keys and run the same command again",
                    ))
                } else {
                    Ok(Registration::Registered)
                };
            }
            // A try that was cut off may have registered it.
            let exists = [StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY].contains(&answer.status);
            if exists && self.find(public).await?.is_some_and(|key| key.read_only) {
                return Ok(Registration::Present);
            }
            Err(self.refused(&answer, "register"))
        })
    }

    fn delete<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, HostError>> {
        Box::pin(async move {
            let url = format!("{}/{id}", self.keys());
            let response = self.api().call(Method::DELETE, &url, None, "remove").await?;
            match response.status() {
                // Gitea answers so for a key that is not there as well.
                StatusCode::NO_CONTENT | StatusCode::OK => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(self.refused(&Refusal::of(response).await, "remove")),
            }
        })
    }
}
