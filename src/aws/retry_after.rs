use std::time::Duration;

use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{
    ClassifyRetry, RetryAction, RetryClassifierPriority, RetryReason,
};

/// Has a call that is tried again wait as long as the answer asks in `Retry-After` (RFC 9110, section 10.2.3, in
/// seconds), up to the longest pause. The SDK itself reads only AWS's own `x-amz-retry-after`.
#[derive(Debug)]
pub(super) struct RetryAfter;

impl ClassifyRetry for RetryAfter {
    fn classify_retry(&self, _: &InterceptorContext) -> RetryAction {
        RetryAction::NoActionIndicated
    }

    fn classify_retry_v2(&self, context: &InterceptorContext, verdict: &RetryAction) -> RetryAction {
        let asked = context
            .response()
            .and_then(|response| response.headers().get("retry-after"))
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs);
        match (verdict, asked) {
            (
                RetryAction::RetryIndicated(RetryReason::RetryableError {
                    kind,
                    retry_after: None,
                }),
                Some(_),
            ) => RetryAction::RetryIndicated(RetryReason::RetryableError {
                kind: *kind,
                retry_after: asked,
            }),
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "Retry-After"
    }

    /// After those that say whether to try again.
    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::modeled_as_retryable_classifier())
    }
}
