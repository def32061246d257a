//! AWS Signature Version 4, as far as checking a presigned URL and signing a request without a body need it.
//!
//! Source: "Create a signed AWS API request", AWS Identity and Access Management User Guide.

use std::fmt::Write as _;

use ring::hmac;
use sha2::{Digest, Sha256};

/// The only algorithm there is for one region.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The end of every credential scope.
pub(super) const TERMINATOR: &str = "aws4_request";

/// SHA-256 of nothing, in hex.
pub(super) const EMPTY_PAYLOAD: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// For what a key was derived: `date/region/service/aws4_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope<'a> {
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// What is signed of a request. Header names are lower case; query and headers may come in any order.
#[derive(Debug)]
pub(super) struct SignedParts<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a [(String, String)],
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) payload_hash: &'a str,
}

/// A `Credential` of a request: the access key and the scope.
pub(super) fn parse_credential(text: &str) -> Option<(&str, Scope<'_>)> {
    let mut parts = text.split('/');
    let access_key_id = parts.next()?;
    let scope = Scope {
        date: parts.next()?,
        region: parts.next()?,
        service: parts.next()?,
    };
    (parts.next() == Some(TERMINATOR) && parts.next().is_none() && !access_key_id.is_empty())
        .then_some((access_key_id, scope))
}

/// The signature in hex.
pub(super) fn sign(parts: &SignedParts<'_>, amz_date: &str, scope: &Scope<'_>, secret: &str) -> String {
    hex::encode(hmac::sign(
        &signing_key(scope, secret),
        string_to_sign(parts, amz_date, scope).as_bytes(),
    ))
}

/// Whether the signature, in hex, is the right one; takes as long for every wrong one.
pub(super) fn verify(
    parts: &SignedParts<'_>,
    amz_date: &str,
    scope: &Scope<'_>,
    secret: &str,
    signature: &str,
) -> bool {
    let Ok(signature) = hex::decode(signature) else {
        return false;
    };
    hmac::verify(
        &signing_key(scope, secret),
        string_to_sign(parts, amz_date, scope).as_bytes(),
        &signature,
    )
    .is_ok()
}

/// Percent-encodes as SigV4 wants it: everything but unreserved characters, in upper-case hex.
pub(super) fn uri_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn string_to_sign(parts: &SignedParts<'_>, amz_date: &str, scope: &Scope<'_>) -> String {
    let Scope { date, region, service } = scope;
    let hash = hex::encode(Sha256::digest(canonical_request(parts)));
    format!("{ALGORITHM}\n{amz_date}\n{date}/{region}/{service}/{TERMINATOR}\n{hash}")
}

fn canonical_request(parts: &SignedParts<'_>) -> String {
    // By name and then by value: sorting whole `name=value` texts would put `a-b=` before `a=`.
    let mut query: Vec<(String, String)> = parts
        .query
        .iter()
        .map(|(name, value)| (uri_encode(name), uri_encode(value)))
        .collect();
    query.sort_unstable();
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut headers = parts.headers.to_vec();
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{}\n", value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    format!(
        "{}\n{}\n{}\n{lines}\n{}\n{}",
        parts.method,
        parts.path,
        query.join("&"),
        names.join(";"),
        parts.payload_hash
    )
}

fn signing_key(scope: &Scope<'_>, secret: &str) -> hmac::Key {
    let start = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
    [scope.date, scope.region, scope.service, TERMINATOR]
        .iter()
        .fold(start, |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        })
}

#[cfg(test)]
mod tests {
    use super::{Scope, SignedParts, sign, uri_encode, verify};

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    /// The worked example of the signing process in the AWS General Reference.
    #[test]
    fn signs_the_list_users_example() {
        let query = [
            ("Action".to_owned(), "ListUsers".to_owned()),
            ("Version".to_owned(), "2010-05-08".to_owned()),
        ];
        let parts = SignedParts {
            method: "GET",
            path: "/",
            query: &query,
            headers: &[
                ("x-amz-date", "20150830T123600Z"),
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("host", "iam.amazonaws.com"),
            ],
            payload_hash: super::EMPTY_PAYLOAD,
        };
        let scope = Scope {
            date: "20150830",
            region: "us-east-1",
            service: "iam",
        };
        let signature = sign(&parts, "20150830T123600Z", &scope, SECRET);
        assert_eq!(
            signature,
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    /// The example of "Authenticating Requests: Using Query Parameters", Amazon S3 API Reference.
    #[test]
    fn verifies_the_presigned_url_example() {
        let query: Vec<(String, String)> = [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            (
                "X-Amz-Credential",
                "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request",
            ),
            ("X-Amz-Date", "20130524T000000Z"),
            ("X-Amz-Expires", "86400"),
            ("X-Amz-SignedHeaders", "host"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let parts = SignedParts {
            method: "GET",
            path: "/test.txt",
            query: &query,
            headers: &[("host", "examplebucket.s3.amazonaws.com")],
            payload_hash: "UNSIGNED-PAYLOAD",
        };
        let scope = Scope {
            date: "20130524",
            region: "us-east-1",
            service: "s3",
        };
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let right = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert!(verify(&parts, "20130524T000000Z", &scope, secret, right));
        for wrong in [right.replace("aeeed9", "aeeed8").as_str(), "aeee", "", "not hex"] {
            assert!(!verify(&parts, "20130524T000000Z", &scope, secret, wrong), "{wrong:?}");
        }
    }

    #[test]
    fn encodes_every_reserved_character() {
        assert_eq!(uri_encode("a/b c+ü~"), "a%2Fb%20c%2B%C3%BC~");
    }
}
