//! When a call of the Kubernetes API is made again.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::Retryable as _;

use super::{Kubernetes, KubernetesError};

/// The API server's wish to be left alone until then, as its last `Retry-After` said (RFC 9110, section 10.2.3). It says so
/// when it has too many requests and when it is about to end; the wish is about all calls.
#[derive(Debug, Clone, Default)]
pub(super) struct Pushback(Arc<Mutex<Option<Instant>>>);

impl Pushback {
    /// Notices the wish in an answer, which is passed on as it is.
    pub(super) fn notice<B>(&self, response: http::Response<B>) -> http::Response<B> {
        let asked = response.headers().get("retry-after").and_then(|v| v.to_str().ok());
        if let Some(seconds) = asked.and_then(|v| v.trim().parse().ok()) {
            let until = Instant::now().checked_add(Duration::from_secs(seconds));
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
        }
        response
    }

    /// How long it still lasts.
    fn left(&self) -> Duration {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

impl Kubernetes {
    /// Makes `call`, again where that can help.
    ///
    /// A token that is refused is replaced once: it may have expired in the middle, and EKS takes a moment to know a new
    /// access entry.
    pub(super) async fn retry<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, KubernetesError>
    where
        F: Future<Output = Result<T, KubernetesError>>,
    {
        let mut refused = 0;
        let attempt = || {
            let answer = call();
            async move {
                let result = answer.await;
                if result.as_ref().is_err_and(KubernetesError::is_unknown_caller) {
                    self.forget_client().await;
                }
                result
            }
        };
        attempt
            .retry(self.patience.pauses())
            .when(|error| {
                refused += u32::from(error.is_unknown_caller());
                error.is_transient() || (error.is_unknown_caller() && refused == 1)
            })
            .adjust(|_, pause| {
                let left = self.pushback.left();
                pause
                    .filter(|_| left <= self.patience.longest_pause)
                    .map(|pause| pause.max(left))
            })
            .await
    }
}
