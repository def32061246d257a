use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// A call of AWS that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed{}", .code.as_deref().map(|c| format!(" with {c}")).unwrap_or_default())]
pub struct AwsError {
    /// Service and action as IAM names them, such as `eks:DescribeCluster`.
    pub call: &'static str,
    /// AWS's error code, where an answer came back.
    pub code: Option<String>,
    /// What came back.
    #[source]
    pub source: Message,
}

/// The text of an answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Message(pub String);

impl AwsError {
    pub(super) fn new(call: &'static str, code: Option<String>, message: impl Into<String>) -> Self {
        Self {
            call,
            code,
            source: Message(message.into()),
        }
    }

    /// The SDK's error for `call`.
    pub(super) fn of<E, R>(call: &'static str) -> impl FnOnce(SdkError<E, R>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug,
    {
        move |error| {
            let code = error.as_service_error().and_then(|e| e.code()).map(str::to_owned);
            let message = error
                .as_service_error()
                .and_then(|e| e.message())
                .map(str::to_owned)
                .unwrap_or_else(|| chain(&error));
            Self::new(call, code, message)
        }
    }

    /// Whether AWS answered with this code.
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Whether AWS answered that there is no such thing.
    pub(super) fn is_missing(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        code.contains("NotFound") || code == "NoSuchEntity"
    }

    /// Whether AWS answered that the caller may not do this.
    pub(super) fn is_denied(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        code.starts_with("AccessDenied") || code == "UnauthorizedOperation"
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self.code.as_deref() {
            Some(_) if self.is_denied() => {
                Some(format!("allow {} to the identity you run as (aws sts get-caller-identity)", self.call))
            }
            Some("ExpiredToken" | "ExpiredTokenException" | "RequestExpired") => {
                Some("your AWS session has expired: sign in again (for example aws sso login) and run the same command again".into())
            }
            Some("InvalidClientTokenId" | "UnrecognizedClientException" | "SignatureDoesNotMatch" | "InvalidSignatureException") => {
                Some("AWS does not accept your credentials: check AWS_PROFILE, AWS_ACCESS_KEY_ID and the clock".into())
            }
            Some(c) if c.contains("Throttl") || c == "TooManyRequestsException" => Some("AWS is throttling: wait a minute and run the same command again".into()),
            Some(_) => None,
            None if self.source.0.contains("credentials") || self.source.0.contains("identity") => {
                Some("no AWS credentials were found: set AWS_PROFILE or sign in (aws sso login)".into())
            }
            None => Some("check the network, AWS_REGION and AWS_ENDPOINT_URL".into()),
        }
    }
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
