use reqwest::StatusCode;
use secrecy::SecretString;
use url::Url;

use super::HostError;
use super::http::{Api, Paging, Refusal};
use super::rest::{ReadOnlyKey, Rest};
use crate::patience::Patience;

/// Deploy keys on Gitea or Forgejo
/// (<https://docs.gitea.com/api/1.24/#tag/repository/operation/repoListKeys>, API v1, which Forgejo shares).
#[derive(Debug)]
pub struct Gitea {
    api: Api,
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
}

impl Rest for Gitea {
    const NAME: &'static str = "Gitea";
    /// Its own limit is 50 (`[api] MAX_RESPONSE_ITEMS`), and it gives fewer where that is set lower.
    const PAGING: Paging = Paging::Counted(50);
    const READS_ONLY: (&'static str, bool) = ("read_only", true);
    type Key = ReadOnlyKey;

    fn api(&self) -> &Api {
        &self.api
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
