use std::fmt;

use axum::http::header::{AUTHORIZATION, USER_AGENT};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use ring::hmac;

use super::answer;

/// An access token, kept so that it can be recognised but not read.
#[derive(Clone)]
pub struct Token {
    key: hmac::Key,
    tag: hmac::Tag,
    administration: bool,
}

impl Token {
    /// A token with the repository permission "Administration: write", which managing deploy keys needs.
    #[must_use]
    pub fn administrator(text: &str) -> Self {
        Self::new(text, true)
    }

    /// A token that sees the repository and cannot manage it, such as a workflow's `GITHUB_TOKEN`.
    #[must_use]
    pub fn without_administration(text: &str) -> Self {
        Self::new(text, false)
    }

    fn new(text: &str, administration: bool) -> Self {
        // The key is no secret: it only makes both sides of a comparison equally long, so that it can take equally
        // long.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"token");
        let tag = hmac::sign(&key, text.as_bytes());
        Self {
            key,
            tag,
            administration,
        }
    }

    fn is(&self, text: &str) -> bool {
        hmac::verify(&self.key, text.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("administration", &self.administration)
            .finish_non_exhaustive()
    }
}

/// What a request needs to be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permission {
    /// See that the repository exists.
    Metadata,
    /// Manage the repository.
    Administration,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    NoUserAgent,
    NoToken,
    UnknownToken,
    Forbidden,
    NoRepository,
}

impl Denied {
    /// What GitHub says.
    pub(super) fn response(self) -> Response {
        match self {
            Self::NoUserAgent => {
                let text = "Request forbidden by administrative rules. Please make sure your request has a User-Agent \
                            header (https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required).";
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Self::NoToken => answer::error(StatusCode::UNAUTHORIZED, "Requires authentication"),
            Self::UnknownToken => answer::error(StatusCode::UNAUTHORIZED, "Bad credentials"),
            Self::Forbidden => answer::error(StatusCode::FORBIDDEN, "Resource not accessible by integration"),
            // Also for what exists and is not to be seen.
            Self::NoRepository => answer::not_found(),
        }
    }
}

/// Checks what a request brings with it.
pub(super) fn check(headers: &HeaderMap, tokens: &[Token], permission: Permission) -> Result<(), Denied> {
    if headers.get(USER_AGENT).is_none_or(|agent| agent.is_empty()) {
        return Err(Denied::NoUserAgent);
    }
    let header = headers.get(AUTHORIZATION).ok_or(Denied::NoToken)?;
    let presented = header.to_str().ok().and_then(|header| header.split_once(' '));
    let known = presented
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token"))
        .and_then(|(_, text)| tokens.iter().find(|token| token.is(text.trim())));
    match known {
        None => Err(Denied::UnknownToken),
        Some(token) if permission == Permission::Administration && !token.administration => Err(Denied::Forbidden),
        Some(_) => Ok(()),
    }
}
