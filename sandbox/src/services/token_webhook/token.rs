use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use url::Url;

use crate::services::Credentials;
use crate::services::sigv4::{self, Scope, SignedParts};

/// What every token begins with.
const PREFIX: &str = "k8s-aws-v1.";

/// The longest token, in bytes.
const LONGEST: usize = 4096;

/// STS takes a presigned URL for so long, whatever `X-Amz-Expires` says.
const VALIDITY: SignedDuration = SignedDuration::from_mins(15);

/// How far the clock of the signer may be ahead before AWS calls a signature "not yet current".
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The header that carries the name of the cluster; its value is in no token, only in the signature.
pub(super) const CLUSTER_HEADER: &str = "x-k8s-aws-id";

/// The parameters that a token may have, in lower case.
const PARAMETERS: [&str; 9] = [
    "action",
    "version",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// What a token must fit.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) endpoint: Url,
    pub(super) cluster: String,
    pub(super) region: String,
    pub(super) credentials: Credentials,
}

/// A token of which the signature is right.
#[derive(Debug)]
pub(super) struct VerifiedToken {
    pub(super) access_key_id: String,
    /// Path and query of the URL, to be sent to STS.
    pub(super) target: String,
}

/// Why a token is refused. No text repeats a part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("the token is longer than {LONGEST} bytes")]
    TooLong,
    #[error("the token does not begin with {PREFIX}")]
    Prefix,
    #[error("the token is not the base64url of a URL")]
    Encoding,
    #[error("the URL in the token is not one of this cluster's STS endpoint")]
    Endpoint,
    #[error("the URL in the token has a path")]
    Path,
    #[error("the URL in the token has a parameter that does not belong there")]
    UnknownParameter,
    #[error("the URL in the token has a parameter twice")]
    RepeatedParameter,
    #[error("the URL in the token lacks {0}")]
    Missing(&'static str),
    #[error("the URL in the token is not a call of GetCallerIdentity of version 2011-06-15")]
    Action,
    #[error("the URL in the token is not signed with {}", sigv4::ALGORITHM)]
    Algorithm,
    #[error("the credential scope in the token is not of this region, of sts, and of the day it was signed")]
    Scope,
    #[error("X-Amz-Expires in the token is not between 0 and 900")]
    Expires,
    #[error("X-Amz-Date in the token is not a time")]
    Date,
    #[error("the token is expired")]
    Expired,
    #[error("the token was signed in the future")]
    Future,
    #[error("the token was made without signing host and {CLUSTER_HEADER}, or with other headers")]
    SignedHeaders,
    #[error("the token was signed with an unknown access key")]
    UnknownKey,
    #[error("the signature of the token is wrong, or the token is for another cluster")]
    Signature,
}

/// Checks everything that can be checked without asking AWS.
pub(super) fn verify(token: &str, rules: &Rules, now: Timestamp) -> Result<VerifiedToken, TokenError> {
    if token.len() > LONGEST {
        return Err(TokenError::TooLong);
    }
    let encoded = token.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Encoding)?;
    let text = String::from_utf8(bytes).map_err(|_| TokenError::Encoding)?;
    let url = Url::parse(&text).map_err(|_| TokenError::Encoding)?;

    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if url.origin() != rules.endpoint.origin() || !plain {
        return Err(TokenError::Endpoint);
    }
    if url.path() != "/" {
        return Err(TokenError::Path);
    }
    let query = Query::read(&url)?;

    if query.get("action")? != "GetCallerIdentity" || query.get("version")? != "2011-06-15" {
        return Err(TokenError::Action);
    }
    if query.get("x-amz-algorithm")? != sigv4::ALGORITHM {
        return Err(TokenError::Algorithm);
    }
    let amz_date = query.get("x-amz-date")?;
    let (access_key_id, scope) = sigv4::parse_credential(query.get("x-amz-credential")?).ok_or(TokenError::Scope)?;
    let expected = Scope {
        date: amz_date.get(..8).unwrap_or_default(),
        region: &rules.region,
        service: "sts",
    };
    if scope != expected {
        return Err(TokenError::Scope);
    }
    // The number changes nothing for STS, but no genuine token has another.
    if !query
        .get("x-amz-expires")?
        .parse::<u16>()
        .is_ok_and(|seconds| seconds <= 900)
    {
        return Err(TokenError::Expires);
    }
    let signed_at = parse_date(amz_date).ok_or(TokenError::Date)?;
    if now.duration_since(signed_at) > VALIDITY {
        return Err(TokenError::Expired);
    }
    if signed_at.duration_since(now) > CLOCK_SKEW {
        return Err(TokenError::Future);
    }
    let mut signed: Vec<&str> = query.get("x-amz-signedheaders")?.split(';').collect();
    signed.sort_unstable();
    if signed != ["host", CLUSTER_HEADER] {
        return Err(TokenError::SignedHeaders);
    }

    let secret = rules.credentials.secret(access_key_id).ok_or(TokenError::UnknownKey)?;
    let host = match (rules.endpoint.host_str(), rules.endpoint.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let parts = SignedParts {
        method: "GET",
        path: "/",
        query: &query.signed(),
        headers: &[("host", &host), (CLUSTER_HEADER, &rules.cluster)],
        payload_hash: sigv4::EMPTY_PAYLOAD,
    };
    if !sigv4::verify(&parts, amz_date, &scope, &secret, query.get("x-amz-signature")?) {
        return Err(TokenError::Signature);
    }
    let target = format!("/?{}", url.query().unwrap_or_default());
    Ok(VerifiedToken {
        access_key_id: access_key_id.to_owned(),
        target,
    })
}

/// The parameters of the URL.
struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    fn read(url: &Url) -> Result<Self, TokenError> {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(TokenError::UnknownParameter);
            }
            // Also in another case: two readers could take different ones.
            if pairs[..index].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                return Err(TokenError::RepeatedParameter);
            }
        }
        Ok(Self { pairs })
    }

    fn get(&self, name: &'static str) -> Result<&str, TokenError> {
        let found = self.pairs.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).ok_or(TokenError::Missing(name))
    }

    /// All but the signature itself.
    fn signed(&self) -> Vec<(String, String)> {
        let mut pairs = self.pairs.clone();
        pairs.retain(|(name, _)| !name.eq_ignore_ascii_case("x-amz-signature"));
        pairs
    }
}

fn parse_date(text: &str) -> Option<Timestamp> {
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    // `strptime` takes shorter numbers too, with which one time could be written in several ways.
    (text.len() == 16)
        .then(|| date.to_zoned(TimeZone::UTC).ok())?
        .map(|zoned| zoned.timestamp())
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
