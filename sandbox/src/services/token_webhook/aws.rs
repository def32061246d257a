use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::http::header::{ACCEPT, AUTHORIZATION, HOST};
use jiff::Timestamp;
use serde_json::Value;

use super::principal::Principal;
use super::token::{CLUSTER_HEADER, VerifiedToken};
use crate::services::http::Upstream;
use crate::services::sigv4::{self, Scope, SignedParts};
use crate::services::{Credentials, xml};

/// kube-apiserver gives its webhook 30 seconds in all.
const LIMIT: Duration = Duration::from_secs(8);

/// The largest answer that is read.
const BODY_LIMIT: usize = 1 << 20;

/// The AWS API, as far as the webhook asks it.
#[derive(Debug)]
pub(super) struct Aws {
    upstream: Upstream,
    host: String,
    credentials: Credentials,
    region: String,
}

/// Who signed a token, according to STS.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) principal: Principal,
    pub(super) user_id: String,
}

/// The AWS API did not answer as it should.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed: {reason}")]
pub(super) struct LookupError {
    call: &'static str,
    reason: String,
}

impl Aws {
    pub(super) fn new(address: SocketAddr, credentials: Credentials, region: String) -> Self {
        Self {
            upstream: Upstream::new(address),
            host: address.to_string(),
            credentials,
            region,
        }
    }

    /// Sends the presigned URL of a token to STS, as aws-iam-authenticator does.
    pub(super) async fn caller(&self, token: &VerifiedToken, cluster: &str) -> Result<Caller, LookupError> {
        let call = "sts:GetCallerIdentity";
        let failed = |reason: &str| LookupError {
            call,
            reason: reason.to_owned(),
        };
        let request = Request::get(&token.target)
            .header(CLUSTER_HEADER, cluster)
            .header(HOST, &self.host);
        let body = self
            .send(
                call,
                request
                    .body(Body::empty())
                    .map_err(|error| failed(&error.to_string()))?,
            )
            .await?;
        let text = String::from_utf8_lossy(&body);
        let arn = xml::text(&text, "Arn").ok_or_else(|| failed("the answer has no ARN"))?;
        let principal = Principal::parse(&arn).ok_or_else(|| failed("the ARN is of nothing that can call"))?;
        Ok(Caller {
            principal,
            user_id: xml::text(&text, "UserId").unwrap_or_default(),
        })
    }

    /// A GET of the EKS API. `segments` are the parts of the path.
    pub(super) async fn eks(
        &self,
        call: &'static str,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Value, LookupError> {
        let failed = |reason: String| LookupError { call, reason };
        let encoded: Vec<String> = segments.iter().map(|segment| sigv4::uri_encode(segment)).collect();
        let path = format!("/{}", encoded.join("/"));
        // Every service but S3 wants the path encoded once more in what is signed.
        let signed_path = format!(
            "/{}",
            encoded
                .iter()
                .map(|s| sigv4::uri_encode(s))
                .collect::<Vec<_>>()
                .join("/")
        );
        let query: Vec<(String, String)> = query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let pairs: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{}={}", sigv4::uri_encode(name), sigv4::uri_encode(value)))
            .collect();
        let target = if pairs.is_empty() {
            path
        } else {
            format!("{path}?{}", pairs.join("&"))
        };

        let amz_date = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = amz_date.get(..8).unwrap_or_default();
        let scope = Scope {
            date,
            region: &self.region,
            service: "eks",
        };
        let parts = SignedParts {
            method: "GET",
            path: &signed_path,
            query: &query,
            headers: &[("host", &self.host), ("x-amz-date", &amz_date)],
            payload_hash: sigv4::EMPTY_PAYLOAD,
        };
        let id = self.credentials.own_id();
        let secret = self.credentials.secret(id).unwrap_or_default();
        let signature = sigv4::sign(&parts, &amz_date, &scope, &secret);
        let authorization = format!(
            "{} Credential={id}/{date}/{}/eks/{}, SignedHeaders=host;x-amz-date, Signature={signature}",
            sigv4::ALGORITHM,
            self.region,
            sigv4::TERMINATOR
        );
        let request = Request::get(target)
            .header(HOST, &self.host)
            .header(ACCEPT, "application/json")
            .header("x-amz-date", &amz_date)
            .header(AUTHORIZATION, authorization)
            .body(Body::empty())
            .map_err(|error| failed(error.to_string()))?;
        let body = self.send(call, request).await?;
        serde_json::from_slice(&body).map_err(|error| failed(format!("the answer is not JSON: {error}")))
    }

    async fn send(&self, call: &'static str, request: Request<Body>) -> Result<Vec<u8>, LookupError> {
        let failed = |reason: String| LookupError { call, reason };
        let answer = async {
            let response = self
                .upstream
                .send(request)
                .await
                .map_err(|error| failed(error.to_string()))?;
            let status = response.status();
            let body = to_bytes(response.into_body(), BODY_LIMIT)
                .await
                .map_err(|error| failed(error.to_string()))?;
            if status.is_success() {
                Ok(body.to_vec())
            } else {
                Err(failed(format!("answered {status}")))
            }
        };
        tokio::time::timeout(LIMIT, answer)
            .await
            .unwrap_or_else(|_| Err(failed(format!("no answer in {LIMIT:?}"))))
    }
}
