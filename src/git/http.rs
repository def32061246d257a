//! What calls of the git hosts' REST APIs have in common.

use std::time::Duration;

use backon::BackoffBuilder as _;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::HostError;
use crate::patience::Patience;

/// How long GitHub asks to wait where it says that its secondary limit is reached and not until when
/// (<https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#handle-rate-limit-errors-appropriately>).
const SECONDARY_LIMIT: HeaderValue = HeaderValue::from_static("60");
/// Most pages of a list: a host that never ends one is not waited for.
const MOST_PAGES: usize = 100;

/// The API of one git host, for one repository.
#[derive(Debug)]
pub(super) struct Api {
    client: reqwest::Client,
    /// Without a trailing slash.
    pub(super) base: String,
    /// The repository, as errors name it.
    pub(super) repository: String,
    /// Headers of every request.
    headers: &'static [(&'static str, &'static str)],
    /// Scheme of the `Authorization` header.
    scheme: &'static str,
    token: Option<SecretString>,
    patience: Patience,
}

/// How a host gives a long list, with the number of items that a page has at most.
#[derive(Debug, Clone, Copy)]
pub(super) enum Paging {
    /// Each page links to the next one.
    Linked(u32),
    /// There are no links: the pages are counted, to the total that a header tells.
    Counted(u32),
}

impl Paging {
    /// URL of a page of the list at `list`.
    fn page(self, list: &str, number: usize) -> String {
        match self {
            Self::Linked(size) => format!("{list}?per_page={size}"),
            Self::Counted(size) => format!("{list}?limit={size}&page={number}"),
        }
    }
}

/// A list's page, and where the next one is.
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
    total: Option<usize>,
}

impl Api {
    pub(super) fn new(
        base: &str,
        repository: &str,
        headers: &'static [(&'static str, &'static str)],
        scheme: &'static str,
        token: Option<SecretString>,
        patience: Patience,
    ) -> Self {
        Self {
            client: reqwest::Client::new(),
            base: base.trim_end_matches('/').to_owned(),
            repository: repository.to_owned(),
            headers,
            scheme,
            token,
            patience,
        }
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub(super) fn describe(&self) -> String {
        format!("{} at {}", self.repository, self.base)
    }

    pub(super) fn error(&self, what: &str, message: impl Into<String>, hint: impl Into<String>) -> HostError {
        HostError {
            attempted: format!("{what} a deploy key of {} at {}", self.repository, self.base),
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// Calls the API: again after a disturbance, and after a rate limit that ends soon.
    ///
    /// A creation is repeated only where the host answered or was not reached: it may have been done, and the host then
    /// says that the key is there.
    pub(super) async fn call(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
        what: &str,
    ) -> Result<Response, HostError> {
        let mut pauses = self.patience.pauses().build();
        loop {
            let sent = self.once(&method, url, body, what).await?;
            let pause = pauses.next();
            let pause = match (&sent, pause) {
                (_, None) => None,
                (Ok(response), Some(pause)) => match wait_for(response) {
                    Some(wait) => (wait <= self.patience.longest_pause).then_some(wait),
                    None => response.status().is_server_error().then_some(pause),
                },
                (Err(error), pause) => pause.filter(|_| method != Method::POST || error.is_connect()),
            };
            match (pause, sent) {
                (Some(pause), _) => tokio::time::sleep(pause).await,
                (None, Ok(response)) => return Ok(response),
                (None, Err(error)) => {
                    return Err(self.error(what, reason(error), "check the network and git.api_url"));
                }
            }
        }
    }

    /// Sends the request once and reads the whole answer.
    async fn once(
        &self,
        method: &Method,
        url: &str,
        body: Option<&Value>,
        what: &str,
    ) -> Result<Result<Response, reqwest::Error>, HostError> {
        let mut request = self
            .client
            .request(method.clone(), url)
            .timeout(self.patience.answer)
            .header("user-agent", concat!("mfsre/", env!("CARGO_PKG_VERSION")));
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("{} {}", self.scheme, token.expose_secret()));
            let mut value = value.map_err(|_| {
                let message = "the token has characters that no token has";
                self.error(
                    what,
                    message,
                    "look at where it comes from: a file or variable with more than the token",
                )
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(match request.send().await {
            Ok(response) => whole(response).await,
            Err(error) => Err(error),
        })
    }

    /// Every item of the list at `url` of a host of the kind `host`.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        url: &str,
        host: &str,
        paging: Paging,
    ) -> Result<Vec<T>, Failure> {
        let list = url;
        let mut url = paging.page(list, 1);
        let mut items = Vec::new();
        for number in 2..=MOST_PAGES + 1 {
            let response = self.call(Method::GET, &url, None, "look for").await?;
            if !response.status().is_success() {
                return Err(Failure::Refused(Refusal::of(response).await));
            }
            let found = self.page(response, host).await?;
            let last = found.items.is_empty();
            items.extend(found.items);
            url = match (found.next, paging) {
                // The token goes nowhere else.
                (Some(next), _) if next.strip_prefix(&self.base).is_some_and(|path| path.starts_with('/')) => next,
                (None, Paging::Counted(_)) if !last && found.total.is_none_or(|total| items.len() < total) => {
                    paging.page(list, number)
                }
                _ => return Ok(items),
            };
        }
        let message = format!("the list has not ended after {MOST_PAGES} pages");
        Err(self.error("look for", message, "check git.api_url").into())
    }

    async fn page<T: DeserializeOwned>(&self, response: Response, host: &str) -> Result<Page<T>, HostError> {
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
        let next = header("link").and_then(next_page);
        let total = header("x-total-count").and_then(|v| v.parse().ok());
        let items = response.json().await.map_err(|e| {
            let hint = format!("check git.api_url: this does not answer like {host}'s API");
            self.error("look for", reason(e), hint)
        })?;
        Ok(Page { items, next, total })
    }
}

/// The answer with its body, which can be cut off as the head can.
async fn whole(response: Response) -> Result<Response, reqwest::Error> {
    let mut head = http::Response::new(());
    *head.status_mut() = response.status();
    *head.headers_mut() = response.headers().clone();
    let body = response.bytes().await?;
    let limited =
        matches!(head.status().as_u16(), 403 | 429) && String::from_utf8_lossy(&body).contains("secondary rate limit");
    if limited && !head.headers().contains_key(RETRY_AFTER) {
        head.headers_mut().insert(RETRY_AFTER, SECONDARY_LIMIT);
    }
    Ok(Response::from(head.map(|()| body)))
}

/// Why a list could not be had.
pub(super) enum Failure {
    /// The call failed, or the answer makes no sense.
    Call(HostError),
    /// The host refused; what that means is for the host's own file to say.
    Refused(Refusal),
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::Call(error)
    }
}

impl Failure {
    /// The error as a user sees it, with the host's reading of a refusal.
    pub(super) fn told(self, refused: impl FnOnce(&Refusal) -> HostError) -> HostError {
        match self {
            Self::Call(error) => error,
            Self::Refused(refusal) => refused(&refusal),
        }
    }
}

/// An answer that need not be the wanted one: its status, the time until a rate limit ends, and its body.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) wait: Option<Duration>,
    pub(super) body: Value,
}

impl Refusal {
    pub(super) async fn of(response: Response) -> Self {
        Self {
            status: response.status(),
            wait: wait_for(&response),
            body: response
                .text()
                .await
                .ok()
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default(),
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

/// How long the host asks to wait.
///
/// `Retry-After` is RFC 9110; the `x-ratelimit-*` headers are GitHub's
/// (<https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>), the `ratelimit-*` ones GitLab's
/// (<https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/#response-headers>); both give the end in
/// seconds since 1970.
fn wait_for(response: &Response) -> Option<Duration> {
    let status = response.status().as_u16();
    if !matches!(status, 403 | 429 | 503) {
        return None;
    }
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|v| v.to_str().ok())
            .map(str::trim)
    };
    let number = |name: &str| header(name).and_then(|v| v.parse::<i64>().ok());
    let until = |end: i64| {
        let now = jiff::Timestamp::now().as_second();
        Duration::from_secs(u64::try_from(end.saturating_sub(now)).unwrap_or(0) + 1)
    };
    if let Some(text) = header("retry-after") {
        return match text.parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => jiff::fmt::rfc2822::parse(text)
                .ok()
                .map(|date| until(date.timestamp().as_second())),
        };
    }
    for prefix in ["x-ratelimit", "ratelimit"] {
        if number(&format!("{prefix}-remaining")) == Some(0) {
            return number(&format!("{prefix}-reset")).map(until);
        }
    }
    (status == 429).then_some(Duration::from_secs(60))
}

/// The URL marked `rel="next"` in a Link header.
fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (url, rest) = part.split_once(';')?;
        rest.contains("rel=\"next\"")
            .then(|| url.trim().trim_matches(['<', '>']).to_owned())
    })
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
