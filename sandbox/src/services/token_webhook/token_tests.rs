//! Which tokens are genuine. Those that the AWS SDK's signer makes are; every change to one must be noticed.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as SdkCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};

use super::{Rules, TokenError, verify};
use crate::services::Credentials;
use crate::services::sigv4::{self, Scope, SignedParts};

const ENDPOINT: &str = "http://127.0.0.1:4566";
const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const CLUSTER: &str = "demo";

fn rules() -> Rules {
    Rules {
        endpoint: ENDPOINT.parse().unwrap(),
        cluster: CLUSTER.to_owned(),
        region: "eu-west-1".to_owned(),
        credentials: Credentials::new(KEY_ID, SECRET),
    }
}

fn token(url: &str) -> String {
    format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url))
}

/// A URL presigned by the AWS SDK, an implementation that shares nothing with the one under test.
fn sdk_url(cluster: &str, session_token: Option<&str>, time: SystemTime) -> String {
    let identity = SdkCredentials::new(KEY_ID, SECRET, session_token.map(str::to_owned), None, "test").into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(60));
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-west-1")
        .name("sts")
        .time(time)
        .settings(settings)
        .build()
        .unwrap();
    let url = format!("{ENDPOINT}/?Action=GetCallerIdentity&Version=2011-06-15");
    let headers = [("x-k8s-aws-id", cluster)].into_iter();
    let request = SignableRequest::new("GET", &url, headers, SignableBody::Bytes(&[])).unwrap();
    let (instructions, _) = sign(request, &parameters.into()).unwrap().into_parts();
    instructions.params().iter().fold(url, |url, (name, value)| {
        format!("{url}&{name}={}", sigv4::uri_encode(value))
    })
}

/// A URL whose signature is right, whatever else is wrong with it.
struct Forged {
    endpoint: &'static str,
    secret: &'static str,
    key_id: &'static str,
    date: String,
    scope_date: Option<&'static str>,
    region: &'static str,
    service: &'static str,
    cluster: &'static str,
    parameters: Vec<(&'static str, &'static str)>,
    headers: Vec<&'static str>,
}

impl Forged {
    fn at(time: Timestamp) -> Self {
        Self {
            endpoint: ENDPOINT,
            secret: SECRET,
            key_id: KEY_ID,
            date: time.strftime("%Y%m%dT%H%M%SZ").to_string(),
            scope_date: None,
            region: "eu-west-1",
            service: "sts",
            cluster: CLUSTER,
            parameters: vec![
                ("Action", "GetCallerIdentity"),
                ("Version", "2011-06-15"),
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                ("X-Amz-Expires", "60"),
            ],
            headers: vec!["host", "x-k8s-aws-id"],
        }
    }

    fn parameter(mut self, name: &'static str, value: &'static str) -> Self {
        self.parameters.retain(|(other, _)| *other != name);
        self.parameters.push((name, value));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|(other, _)| *other != name);
        self
    }

    fn token(&self) -> String {
        let date = self
            .scope_date
            .unwrap_or_else(|| self.date.get(..8).unwrap_or_default());
        let scope = Scope {
            date,
            region: self.region,
            service: self.service,
        };
        let credential = format!("{}/{date}/{}/{}/aws4_request", self.key_id, self.region, self.service);
        let mut query: Vec<(String, String)> = self
            .parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let signed_headers = self.headers.join(";");
        for (name, value) in [
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &self.date),
            ("X-Amz-SignedHeaders", &signed_headers),
        ] {
            if self.parameters.iter().all(|(other, _)| *other != name) {
                query.push((name.to_owned(), value.clone()));
            }
        }
        let value = |name: &str| match name {
            "host" => self.endpoint.rsplit('/').next().unwrap(),
            "x-k8s-aws-id" => self.cluster,
            _ => "x",
        };
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|name| (*name, value(name))).collect();
        let parts = SignedParts {
            method: "GET",
            path: "/",
            query: &query,
            headers: &headers,
            payload_hash: sigv4::EMPTY_PAYLOAD,
        };
        let signature = sigv4::sign(&parts, &self.date, &scope, self.secret);
        let pairs: Vec<String> = query
            .iter()
            .map(|(n, v)| format!("{n}={}", sigv4::uri_encode(v)))
            .collect();
        token(&format!(
            "{}/?{}&X-Amz-Signature={signature}",
            self.endpoint,
            pairs.join("&")
        ))
    }
}

fn check(forged: &Forged) -> Result<(), TokenError> {
    verify(&forged.token(), &rules(), Timestamp::now()).map(|_| ())
}

fn now() -> Forged {
    Forged::at(Timestamp::now())
}

#[test]
fn a_token_of_the_sdk_is_genuine() {
    for session_token in [None, Some("Fwo+/=session")] {
        let url = sdk_url(CLUSTER, session_token, SystemTime::now());
        let verified = verify(&token(&url), &rules(), Timestamp::now()).unwrap();
        assert_eq!(verified.access_key_id, KEY_ID);
        assert_eq!(format!("{ENDPOINT}{}", verified.target), url);
    }
    assert_eq!(check(&now()), Ok(()), "or every other test here proves nothing");
}

#[test]
fn a_token_for_another_cluster_is_not() {
    let url = sdk_url("production", None, SystemTime::now());
    assert_eq!(
        verify(&token(&url), &rules(), Timestamp::now()).unwrap_err(),
        TokenError::Signature
    );
}

#[test]
fn any_change_after_signing_is_noticed() {
    let url = sdk_url(CLUSTER, Some("session"), SystemTime::now());
    let (_, query) = url.split_once('?').unwrap();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap();
        let last = value.chars().last().unwrap();
        let changed = format!(
            "{name}={}{}",
            &value[..value.len() - 1],
            if last == '1' { '2' } else { '1' }
        );
        for tampered in [
            url.replace(pair, &changed),
            url.replace(pair, &format!("{name}=")),
            url.replace(&format!("&{pair}"), ""),
        ] {
            if tampered != url {
                assert!(
                    verify(&token(&tampered), &rules(), Timestamp::now()).is_err(),
                    "{tampered}"
                );
            }
        }
    }
    let upper = url.replace("X-Amz-Signature", "X-Amz-Signature=0&X-Amz-Signature");
    assert_eq!(
        verify(&token(&upper), &rules(), Timestamp::now()).unwrap_err(),
        TokenError::RepeatedParameter
    );
}

#[test]
fn a_token_names_this_sts_and_no_other() {
    for endpoint in [
        "https://127.0.0.1:4566",
        "http://127.0.0.1:4567",
        "http://127.0.0.1",
        "http://sts.amazonaws.com",
        "http://localhost:4566",
        "http://127.0.0.1.evil.example:4566",
    ] {
        let forged = Forged { endpoint, ..now() };
        assert_eq!(check(&forged), Err(TokenError::Endpoint), "{endpoint}");
    }
    let url = sdk_url(CLUSTER, None, SystemTime::now());
    let refused = |url: &str| verify(&token(url), &rules(), Timestamp::now()).unwrap_err();
    assert_eq!(
        refused(&url.replace("127.0.0.1", "evil@127.0.0.1")),
        TokenError::Endpoint
    );
    assert_eq!(refused(&format!("{url}#x")), TokenError::Endpoint);
    assert_eq!(refused(&url.replace("/?", "/x?")), TokenError::Path);
}

#[test]
fn a_token_calls_get_caller_identity_and_nothing_else() {
    for (name, value, error) in [
        ("Action", "AssumeRole", TokenError::Action),
        ("Version", "2010-05-08", TokenError::Action),
        ("X-Amz-Algorithm", "AWS4-ECDSA-P256-SHA256", TokenError::Algorithm),
        ("X-Amz-Expires", "901", TokenError::Expires),
        ("X-Amz-Expires", "-1", TokenError::Expires),
        ("X-Amz-Expires", "", TokenError::Expires),
        (
            "RoleArn",
            "arn:aws:iam::123456789012:role/admin",
            TokenError::UnknownParameter,
        ),
        ("X-Amz-Content-Sha256", "x", TokenError::UnknownParameter),
        ("action", "GetCallerIdentity", TokenError::RepeatedParameter),
    ] {
        assert_eq!(check(&now().parameter(name, value)), Err(error), "{name}={value}");
    }
    assert_eq!(check(&now().parameter("X-Amz-Expires", "900")), Ok(()));
    for name in ["Action", "Version", "X-Amz-Algorithm", "X-Amz-Expires"] {
        assert!(
            matches!(check(&now().without(name)), Err(TokenError::Missing(_))),
            "{name}"
        );
    }
}

#[test]
fn a_token_lives_fifteen_minutes() {
    let at = |offset: SignedDuration| check(&Forged::at(Timestamp::now().checked_add(offset).unwrap()));
    assert_eq!(at(SignedDuration::from_secs(-14 * 60)), Ok(()));
    assert_eq!(at(SignedDuration::from_secs(-15 * 60 - 5)), Err(TokenError::Expired));
    assert_eq!(at(SignedDuration::from_secs(4 * 60)), Ok(()), "clocks differ");
    assert_eq!(at(SignedDuration::from_secs(6 * 60)), Err(TokenError::Future));
    for date in [
        "",
        "2026",
        "20261350T000000Z",
        "20260101T000000",
        "2026-01-01T00:00:00Z",
        "20260101T00000Z",
    ] {
        let forged = Forged {
            date: date.to_owned(),
            ..now()
        };
        assert!(
            matches!(check(&forged), Err(TokenError::Date | TokenError::Scope)),
            "{date:?}"
        );
    }
}

#[test]
fn the_scope_is_of_this_region_and_of_sts_on_that_day() {
    assert_eq!(
        check(&Forged {
            region: "us-east-1",
            ..now()
        }),
        Err(TokenError::Scope)
    );
    assert_eq!(
        check(&Forged {
            service: "eks",
            ..now()
        }),
        Err(TokenError::Scope)
    );
    assert_eq!(
        check(&Forged {
            scope_date: Some("20200101"),
            ..now()
        }),
        Err(TokenError::Scope)
    );
    assert_eq!(check(&now().parameter("X-Amz-Credential", "x")), Err(TokenError::Scope));
}

#[test]
fn host_and_cluster_are_signed_and_nothing_else() {
    for headers in [
        vec!["host"],
        vec!["x-k8s-aws-id"],
        vec!["host", "x-amz-date", "x-k8s-aws-id"],
        vec![],
    ] {
        let forged = Forged {
            headers: headers.clone(),
            ..now()
        };
        assert_eq!(check(&forged), Err(TokenError::SignedHeaders), "{headers:?}");
    }
}

#[test]
fn only_a_known_key_signs() {
    assert_eq!(
        check(&Forged {
            key_id: "AKIAUNKNOWN",
            ..now()
        }),
        Err(TokenError::UnknownKey)
    );
    assert_eq!(
        check(&Forged {
            secret: "guessed",
            ..now()
        }),
        Err(TokenError::Signature)
    );
}

#[test]
fn a_session_s_key_signs_once_it_was_issued() {
    let rules = rules();
    let forged = Forged {
        key_id: "ASIASESSION",
        secret: "session-secret",
        ..now()
    };
    assert_eq!(
        verify(&forged.token(), &rules, Timestamp::now()).unwrap_err(),
        TokenError::UnknownKey
    );
    rules
        .credentials
        .learn("ASIASESSION".to_owned(), "session-secret".to_owned());
    assert!(verify(&forged.token(), &rules, Timestamp::now()).is_ok());
}

#[test]
fn what_is_no_token_at_all_is_refused() {
    let refused = |text: &str| verify(text, &rules(), Timestamp::now()).unwrap_err();
    assert_eq!(refused(""), TokenError::Prefix);
    assert_eq!(refused("k8s-aws-v2.abc"), TokenError::Prefix);
    assert_eq!(refused("k8s-aws-v1."), TokenError::Encoding);
    assert_eq!(refused("k8s-aws-v1.not base64"), TokenError::Encoding);
    assert_eq!(refused(&token("no url")), TokenError::Encoding);
    assert_eq!(
        refused(&format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode([0xff, 0xfe]))),
        TokenError::Encoding
    );
    assert_eq!(
        refused(&format!("k8s-aws-v1.{}", "a".repeat(5000))),
        TokenError::TooLong
    );
    let padded = format!("{}==", now().token());
    assert_eq!(refused(&padded), TokenError::Encoding);
}
