//! Signed calls of services for which the SDK's client is not worth its minutes of compile time: EC2 alone takes longer
//! to build than everything else here together, for a handful of Describe calls, and S3's brings crates of its own for
//! checksums, event streams and SigV4a, for the settings of one bucket.

use std::time::SystemTime;

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};

use super::{Aws, AwsError};

/// A call that may be made twice: a read, or a write whose repetition changes nothing.
pub(super) struct Request<'a> {
    /// As in the endpoint's host name and the signature.
    pub(super) service: &'a str,
    /// One endpoint for all regions, signed for us-east-1.
    pub(super) global: bool,
    /// Service and action as IAM names them.
    pub(super) call: &'static str,
    pub(super) method: Method,
    /// With the query string, encoded.
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a str,
}

/// An answer, whatever its status is.
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Aws {
    /// Signs a request and sends it, five times at most while the service is not able to answer.
    pub(super) async fn signed(&self, request: &Request<'_>) -> Result<Response, AwsError> {
        let failed = |e: &dyn std::fmt::Display| AwsError::new(request.call, None, e.to_string());
        let identity = self.credentials(request.call).await?.into();
        let region = if request.global {
            "us-east-1".to_owned()
        } else {
            self.region.to_string()
        };
        let mut settings = SigningSettings::default();
        if request.service == "s3" {
            // S3 signs paths as they are sent, and wants the hash of the body said.
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&region)
            .name(request.service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|e| failed(&e))?
            .into();
        let endpoint = self.endpoint(request.service, request.global);
        let url = format!("{}{}", endpoint.trim_end_matches('/'), request.path);
        let signable = SignableRequest::new(
            request.method.as_str(),
            &url,
            request.headers.iter().map(|(k, v)| (*k, *v)),
            SignableBody::Bytes(request.body.as_bytes()),
        )
        .map_err(|e| failed(&e))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|e| failed(&e))?.into_parts();
        let mut attempt = 0_u32;
        loop {
            let mut message = self.http.request(request.method.clone(), &url);
            for (key, value) in request.headers {
                message = message.header(*key, *value);
            }
            for (key, value) in instructions.headers() {
                message = message.header(key, value);
            }
            let response = message
                .body(request.body.to_owned())
                .send()
                .await
                .map_err(|e| AwsError::new(request.call, None, super::error::chain(&e)))?;
            let (status, headers) = (response.status(), response.headers().clone());
            let text = response.text().await.map_err(|e| failed(&e))?;
            // The signature holds for five minutes.
            attempt += 1;
            let transient = status.is_server_error()
                || status.as_u16() == 429
                || text.contains("Throttling")
                || text.contains("RequestLimitExceeded");
            if !transient || attempt >= 5 {
                return Ok(Response { status, headers, text });
            }
            tokio::time::sleep(std::time::Duration::from_millis(200 << attempt)).await;
        }
    }
}
