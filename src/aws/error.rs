use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::Call;

/// A call of AWS that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed{}", .code.as_deref().map(|c| format!(" with {c}")).unwrap_or_default())]
pub struct AwsError {
    /// What was called.
    pub call: Call,
    /// AWS's error code, or the HTTP status of an answer that has none; `None` where no answer came, or the fault lies here.
    pub code: Option<String>,
    /// Whether AWS was asked and did not answer.
    pub unanswered: bool,
    /// What came back.
    #[source]
    pub source: Message,
}

/// The text of an answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Message(pub String);

impl AwsError {
    pub(super) fn new(call: Call, code: Option<String>, message: impl Into<String>) -> Self {
        Self {
            call,
            code,
            unanswered: false,
            source: Message(message.into()),
        }
    }

    /// The SDK's error for `call`.
    pub(super) fn of<E>(call: Call) -> impl FnOnce(SdkError<E, HttpResponse>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        move |error| {
            let status = error.raw_response().map(HttpResponse::status);
            let code = error.as_service_error().and_then(|e| e.code()).map(str::to_owned);
            let message = error
                .as_service_error()
                .and_then(|e| e.message())
                .filter(|message| !message.is_empty())
                .map_or_else(|| chain(&error), str::to_owned);
            Self {
                unanswered: status.is_none(),
                ..Self::new(call, code.or(status.map(|s| s.as_u16().to_string())), message)
            }
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

    /// The whole of it in a line: what came back, and what to do next.
    pub(super) fn in_a_line(&self) -> String {
        let hint = self.hint().map(|hint| format!("; {hint}"));
        format!("{self}: {}{}", self.source, hint.unwrap_or_default())
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let message = &self.source.0;
        let hint = match self.code.as_deref() {
            Some(_) if self.is_denied() => {
                return Some(format!(
                    "allow {} to the identity you run as (aws sts get-caller-identity); `mfsre iam-policy ENV` prints all that mfsre needs",
                    self.call.actions().join(" and ")
                ));
            }
            Some("ExpiredToken" | "ExpiredTokenException" | "RequestExpired") => {
                "your AWS session has expired: sign in again (for example aws sso login) and run the same command again; what was done stands, and it goes on from there"
            }
            Some("RequestTimeTooSkewed") => CLOCK,
            Some("SignatureDoesNotMatch" | "InvalidSignatureException" | "AuthFailure")
                if ["Signature expired", "Signature not yet current"]
                    .iter()
                    .any(|s| message.contains(s)) =>
            {
                CLOCK
            }
            Some(
                "InvalidClientTokenId"
                | "UnrecognizedClientException"
                | "SignatureDoesNotMatch"
                | "InvalidSignatureException"
                | "AuthFailure",
            ) => {
                "AWS does not accept your credentials: check AWS_PROFILE, AWS_ACCESS_KEY_ID and the clock of this machine"
            }
            Some(c)
                if c.contains("Throttl")
                    || matches!(
                        c,
                        "TooManyRequestsException" | "RequestLimitExceeded" | "SlowDown" | "429"
                    ) =>
            {
                "AWS is throttling this account: wait a minute and run the same command again; what was done stands"
            }
            Some(
                "InternalFailure"
                | "InternalError"
                | "InternalServerError"
                | "InternalServiceError"
                | "ServerException"
                | "ServiceUnavailable"
                | "ServiceUnavailableException"
                | "Unavailable"
                | "500"
                | "502"
                | "503"
                | "504",
            ) => {
                "AWS has a disturbance (https://health.aws.amazon.com): wait some minutes and run the same command again; what was done stands"
            }
            None if message.contains("credentials") || message.contains("identity") => {
                return Some(match std::env::var("AWS_PROFILE") {
                    Ok(profile) if !profile.is_empty() => format!(
                        "the profile {profile} (AWS_PROFILE) gives no AWS credentials: `aws configure list-profiles` names those there are; sign in to it (aws sso login) or set another"
                    ),
                    _ => "no AWS credentials were found: set AWS_PROFILE or sign in (aws sso login)".to_owned(),
                });
            }
            None if self.unanswered => {
                "check the network and AWS_ENDPOINT_URL, and run the same command again; what was done stands"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// The next step where AWS refuses a call's date, which is corrected by AWS's own where its answer tells it.
const CLOCK: &str =
    "the clock of this machine is wrong: set it (for example timedatectl set-ntp true) and run the same command again";

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
