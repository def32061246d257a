use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::{Credential, TfeError, Trouble};

/// The media type of the API (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs#request-and-response-formats>).
const JSON_API: &str = "application/vnd.api+json";
/// Tries of a call that can be helped by trying again.
const ATTEMPTS: u32 = 4;
/// Longest wait that a rate limit may ask for before the call is given up.
const LONGEST_WAIT: Duration = Duration::from_secs(90);
/// Most pages of a list.
const MOST_PAGES: usize = 100;

/// The API of one host.
#[derive(Debug, Clone)]
pub struct Tfe {
    client: reqwest::Client,
    /// Host, with its port where it has one.
    hostname: String,
    /// Where the API is, with a slash at the end.
    api: String,
    credential: Credential,
}

/// A document with what it includes.
#[derive(Debug, Clone)]
pub(super) struct Document(pub(super) Value);

impl Document {
    pub(super) fn data(&self) -> &Value {
        &self.0["data"]
    }

    /// An included object.
    pub(super) fn included(&self, kind: &str, id: &str) -> Option<&Value> {
        let included = self.0["included"].as_array().into_iter().flatten();
        included.into_iter().find(|i| i["type"] == kind && i["id"] == id)
    }
}

impl Tfe {
    /// Finds the API of a host as Terraform does
    /// (<https://developer.hashicorp.com/terraform/internals/remote-service-discovery>).
    ///
    /// # Errors
    /// The host does not answer, or has no such API.
    pub async fn connect(hostname: &str, credential: Credential) -> Result<Self, TfeError> {
        let url = format!("https://{hostname}/.well-known/terraform.json");
        let client = reqwest::Client::builder()
            .user_agent(concat!("mfsre/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|e| unreachable(hostname, &e))?;
        let mut found = Self {
            client,
            hostname: hostname.to_owned(),
            api: String::new(),
            credential,
        };
        let what = format!("find the API of {hostname}");
        let response = found.repeat(&what, true, || found.client.get(&url)).await?;
        let status = response.status();
        let services: Value = response.json().await.unwrap_or_default();
        let Some(path) = services["tfe.v2"].as_str() else {
            return Err(TfeError {
                attempted: what,
                message: format!("{url} answers {status} and names no service tfe.v2"),
                hint: "check backend.hostname: it is that of HCP Terraform (app.terraform.io) or of a Terraform Enterprise".into(),
                kind: Trouble::Configuration,
            });
        };
        let base = reqwest::Url::parse(&url).and_then(|base| base.join(path));
        let base = base.map_err(|e| TfeError {
            attempted: what,
            message: format!("{url} names {path:?} for tfe.v2: {e}"),
            hint: "check backend.hostname".into(),
            kind: Trouble::Configuration,
        })?;
        found.api = format!("{}/", base.as_str().trim_end_matches('/'));
        Ok(found)
    }

    /// The host.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// With which token.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Calls the API. `what` reads on from "cannot".
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        what: &str,
    ) -> Result<Document, TfeError> {
        let url = format!("{}{path}", self.api);
        let response = self.send(method, &url, body, what).await?;
        let text = response.text().await.map_err(|e| lost(what, &e))?;
        if text.trim().is_empty() {
            return Ok(Document(Value::Null));
        }
        serde_json::from_str(&text).map(Document).map_err(|e| TfeError {
            attempted: what.to_owned(),
            message: format!("{url} answers what is no JSON: {e}"),
            hint: format!(
                "check that {} is what it should be, and proxies on the way",
                self.hostname
            ),
            kind: Trouble::Refused,
        })
    }

    pub(super) async fn get(&self, path: &str, what: &str) -> Result<Document, TfeError> {
        self.call(Method::GET, path, None, what).await
    }

    /// Every object of a list, with what the pages include.
    pub(super) async fn list(&self, path: &str, what: &str) -> Result<(Vec<Value>, Vec<Value>), TfeError> {
        let (mut items, mut included) = (Vec::new(), Vec::new());
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut number = 1;
        for _ in 0..MOST_PAGES {
            let page = self
                .get(
                    &format!("{path}{joint}page%5Bsize%5D=100&page%5Bnumber%5D={number}"),
                    what,
                )
                .await?
                .0;
            items.extend(page["data"].as_array().cloned().unwrap_or_default());
            included.extend(page["included"].as_array().cloned().unwrap_or_default());
            match page["meta"]["pagination"]["next-page"].as_u64() {
                Some(next) if next > number => number = next,
                _ => break,
            }
        }
        Ok((items, included))
    }

    /// Every object of a list that not every host has.
    pub(super) async fn list_if_any(&self, path: &str, what: &str) -> Result<Vec<Value>, TfeError> {
        match self.list(path, what).await {
            Err(error) if error.kind == Trouble::Missing => Ok(Vec::new()),
            list => list.map(|(items, _)| items),
        }
    }

    async fn send(&self, method: Method, url: &str, body: Option<&Value>, what: &str) -> Result<Response, TfeError> {
        // What creates something is repeated only where it cannot have been done.
        let repeatable = method != Method::POST;
        let request = || {
            let request = self
                .client
                .request(method.clone(), url)
                .timeout(Duration::from_secs(30))
                .bearer_auth(self.credential.token.expose_secret())
                .header("accept", JSON_API);
            match body {
                Some(body) => request.header("content-type", JSON_API).body(body.to_string()),
                None => request,
            }
        };
        let response = self.repeat(what, repeatable, request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response, what).await)
    }

    /// Sends until there is an answer that stands, a few times.
    async fn repeat(
        &self,
        what: &str,
        repeatable: bool,
        request: impl Fn() -> reqwest::RequestBuilder,
    ) -> Result<Response, TfeError> {
        let mut attempt = 0_u32;
        loop {
            attempt += 1;
            let pause = Duration::from_millis(250 << attempt);
            match request().send().await {
                Ok(response) if response.status() == StatusCode::TOO_MANY_REQUESTS && attempt < ATTEMPTS => {
                    let wait = wait_for(&response).unwrap_or(pause);
                    if wait > LONGEST_WAIT {
                        return Ok(response);
                    }
                    tokio::time::sleep(wait).await;
                }
                Ok(response) if response.status().is_server_error() && repeatable && attempt < ATTEMPTS => {
                    tokio::time::sleep(pause).await;
                }
                Ok(response) => return Ok(response),
                Err(error) if attempt < ATTEMPTS && (repeatable || error.is_connect()) => {
                    tokio::time::sleep(pause).await
                }
                Err(error) if self.api.is_empty() => {
                    return Err(unreachable(&self.hostname, &error));
                }
                Err(error) => return Err(lost(what, &error)),
            }
        }
    }

    async fn refused(&self, response: Response, what: &str) -> TfeError {
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        let told: Vec<String> = body["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| e["detail"].as_str().or(e["title"].as_str()).map(str::to_owned))
            .collect();
        let told = if told.is_empty() {
            String::new()
        } else {
            format!(": {}", told.join("; "))
        };
        let (kind, hint) = match status {
            StatusCode::UNAUTHORIZED => (
                Trouble::Configuration,
                format!(
                    "the token comes from {}: make a new one with `terraform login {}`",
                    self.credential.from, self.hostname
                ),
            ),
            StatusCode::FORBIDDEN => (
                Trouble::Configuration,
                format!(
                    "the token, from {}, has not the right to do this; ask an owner of the organization",
                    self.credential.from
                ),
            ),
            StatusCode::NOT_FOUND => (
                Trouble::Missing,
                format!(
                    "check backend.organization and backend.workspace; the API says the same of what the token, from {}, may not see",
                    self.credential.from
                ),
            ),
            StatusCode::CONFLICT => (
                Trouble::Conflict,
                "look at the workspace in the web UI, and run the same command again".into(),
            ),
            StatusCode::TOO_MANY_REQUESTS => (Trouble::Refused, "wait a minute, and run the same command again".into()),
            _ if status.is_server_error() => (
                Trouble::Network,
                format!("see whether {} is well, and run the same command again", self.hostname),
            ),
            _ => (
                Trouble::Refused,
                "mend what it says, and run the same command again".into(),
            ),
        };
        TfeError {
            attempted: what.to_owned(),
            message: format!("{} answers {status}{told}", self.hostname),
            hint,
            kind,
        }
    }

    /// Gets a text from an address that the API names, which may be relative to it. The token goes along to the host alone.
    pub(super) async fn download(&self, url: &str, what: &str) -> Result<String, TfeError> {
        let at = reqwest::Url::parse(&self.api).and_then(|api| Ok((api.join(url)?, api)));
        let (url, api) = at.map_err(|e| TfeError {
            attempted: what.to_owned(),
            message: format!("{} names an address that is none: {e}", self.hostname),
            hint: "run the same command again".into(),
            kind: Trouble::Refused,
        })?;
        let request = || {
            let request = self.client.get(url.clone()).timeout(Duration::from_secs(120));
            if url.origin() == api.origin() {
                request.bearer_auth(self.credential.token.expose_secret())
            } else {
                request
            }
        };
        let response = self.repeat(what, true, request).await?;
        if !response.status().is_success() {
            return Err(self.refused(response, what).await);
        }
        response.text().await.map_err(|e| lost(what, &e))
    }

    /// Puts bytes to an address that holds its own permission: the token does not go there.
    pub(super) async fn upload(&self, url: &str, bytes: &[u8], what: &str) -> Result<(), TfeError> {
        let request = || {
            self.client
                .put(url)
                .timeout(Duration::from_secs(120))
                .header("content-type", "application/octet-stream")
                .body(bytes.to_owned())
        };
        let response = self.repeat(what, true, request).await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(self.refused(response, what).await)
    }

    /// A part of a log, from `offset`; its address holds its own permission.
    pub(super) async fn log(&self, url: &str, offset: usize, what: &str) -> Result<Vec<u8>, TfeError> {
        let mut url = reqwest::Url::parse(url).map_err(|e| TfeError {
            attempted: what.to_owned(),
            message: format!("the address of the log is none: {e}"),
            hint: "look at the run in the web UI".into(),
            kind: Trouble::Refused,
        })?;
        url.query_pairs_mut()
            .append_pair("limit", "65536")
            .append_pair("offset", &offset.to_string());
        let request = || self.client.get(url.clone()).timeout(Duration::from_secs(30));
        let response = self.repeat(what, true, request).await?;
        // Object stores answer so to a range that has not been written yet.
        if matches!(
            response.status(),
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE
        ) {
            return Ok(Vec::new());
        }
        if !response.status().is_success() {
            return Err(self.refused(response, what).await);
        }
        response.bytes().await.map(|b| b.to_vec()).map_err(|e| lost(what, &e))
    }
}

/// How long a rate limit lasts: `Retry-After`, or the API's own header in seconds
/// (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs#rate-limiting>).
fn wait_for(response: &Response) -> Option<Duration> {
    ["retry-after", "x-ratelimit-reset"].iter().find_map(|name| {
        let seconds: f64 = response.headers().get(*name)?.to_str().ok()?.trim().parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    })
}

fn unreachable(hostname: &str, error: &reqwest::Error) -> TfeError {
    TfeError {
        attempted: format!("reach {hostname}"),
        message: reason(error),
        hint: "check backend.hostname and the network; a host with a certificate of a private CA needs SSL_CERT_FILE, for mfsre as for Terraform".into(),
        kind: Trouble::Network,
    }
}

fn lost(what: &str, error: &reqwest::Error) -> TfeError {
    TfeError {
        attempted: what.to_owned(),
        message: reason(error),
        hint: "check the network, and run the same command again: it goes on where this one stopped".into(),
        kind: Trouble::Network,
    }
}

/// The error with everything behind it, and without the URL, which may hold a permission.
fn reason(error: &reqwest::Error) -> String {
    let mut text = match error.url() {
        Some(url) => error.to_string().replace(&format!(" for url ({url})"), ""),
        None => error.to_string(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
