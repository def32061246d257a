use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::call::{Call, Protocol};
use crate::services::xml;

/// Carries the code of an error in the REST protocols.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// An answer with its whole body.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// Success with a JSON body.
    pub(super) fn json(body: &Value) -> Self {
        Self::with(StatusCode::OK, "application/json", body.to_string())
    }

    /// Success with an XML body.
    pub(super) fn xml(body: String) -> Self {
        Self::with(StatusCode::OK, "text/xml", body)
    }

    /// The body as JSON, if this is a success with one.
    pub(super) fn success(&self) -> Option<Value> {
        self.status
            .is_success()
            .then(|| serde_json::from_slice(&self.body).ok())
            .flatten()
    }

    /// With another body of the same kind.
    pub(super) fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.headers.remove(CONTENT_LENGTH);
        self
    }

    /// An error in the form of the protocol that the caller speaks (Smithy's protocol specifications, "Operation error
    /// serialization", and the EC2 and S3 API references).
    pub(super) fn error(call: &Call, status: StatusCode, code: &str, message: &str) -> Self {
        let (code_text, text) = (xml::escape(code), xml::escape(message));
        let request_id = "<RequestId>00000000-0000-0000-0000-000000000000</RequestId>";
        let error = format!("<Code>{code_text}</Code><Message>{text}</Message>");
        match call.protocol {
            Protocol::Query => {
                let kind = if status.is_server_error() { "Receiver" } else { "Sender" };
                let body =
                    format!("<ErrorResponse><Error><Type>{kind}</Type>{error}</Error>{request_id}</ErrorResponse>");
                Self::with(status, "text/xml", body)
            }
            Protocol::Ec2 => {
                let request_id = request_id.replace("RequestId", "RequestID");
                Self::with(
                    status,
                    "text/xml",
                    format!("<Response><Errors><Error>{error}</Error></Errors>{request_id}</Response>"),
                )
            }
            Protocol::S3 => Self::with(status, "application/xml", format!("<Error>{error}{request_id}</Error>")),
            Protocol::Json => {
                let body = json!({ "__type": code, "message": message }).to_string();
                Self::with(status, "application/x-amz-json-1.1", body)
            }
            Protocol::RestJson => {
                let mut answer = Self::with(status, "application/json", json!({ "message": message }).to_string());
                if let Ok(code) = HeaderValue::from_str(code) {
                    answer.headers.insert(ERROR_TYPE, code);
                }
                answer
            }
        }
    }

    /// What AWS says to an access key that it does not know; each protocol has its own code for it ("Common errors" of
    /// the services' API references).
    pub(super) fn unknown_access_key(call: &Call) -> Self {
        let (status, code, message) = match call.protocol {
            Protocol::Query => (
                StatusCode::FORBIDDEN,
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            ),
            Protocol::Ec2 => (
                StatusCode::UNAUTHORIZED,
                "AuthFailure",
                "AWS was not able to validate the provided access credentials",
            ),
            Protocol::S3 => (
                StatusCode::FORBIDDEN,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
            ),
            Protocol::Json => (
                StatusCode::BAD_REQUEST,
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
            Protocol::RestJson => (
                StatusCode::FORBIDDEN,
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
        };
        Self::error(call, status, code, message)
    }

    /// The emulator does not answer; clients of AWS retry this status.
    pub(super) fn unavailable(call: &Call, reason: &str) -> Self {
        Self::error(call, StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", reason)
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    fn with(status: StatusCode, content_type: &'static str, body: String) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self {
            status,
            headers,
            body: body.into(),
        }
    }
}
