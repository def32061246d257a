//! Signed calls of services for which the SDK's client is not worth its minutes of compile time. They run in the SDK's
//! own machinery, so that credentials, signatures, pauses, time limits and the correction of a wrong clock are the same
//! for every call.

use aws_config::BehaviorVersion;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_runtime::auth::{SigV4OperationSigningConfig, SigningOptions};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_runtime::service_clock_skew::{ServiceClockSkewClassifier, ServiceClockSkewInterceptor};
use aws_runtime::user_agent::{ApiMetadata, UserAgentInterceptor};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier};
use aws_smithy_runtime_api::client::auth::AuthSchemeOptionResolverParams;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::Layer;
use aws_smithy_types::error::metadata::{ErrorMetadata, ProvideErrorMetadata};
use aws_types::SigningName;
use aws_types::region::SigningRegion;

use super::retry_after::RetryAfter;
use super::{Aws, AwsError, Call};

/// A call that may be made twice: a read, or a write whose repetition changes nothing.
#[derive(Debug)]
pub(super) struct Request {
    /// As in the endpoint's host name and the signature.
    pub(super) service: &'static str,
    /// One endpoint for all regions.
    pub(super) global: bool,
    /// What it calls.
    pub(super) call: Call,
    pub(super) method: &'static str,
    /// With the query string, encoded.
    pub(super) path: String,
    /// Headers besides those of the signature.
    pub(super) headers: Vec<(&'static str, String)>,
    /// Body.
    pub(super) body: String,
}

/// An answer that refuses: AWS's code and message.
#[derive(Debug, thiserror::Error)]
#[error("{meta}")]
pub(super) struct Refused {
    meta: ErrorMetadata,
}

impl Refused {
    pub(super) fn new(code: Option<String>, message: String) -> Self {
        let mut meta = ErrorMetadata::builder().message(message);
        if let Some(code) = code {
            meta = meta.code(code);
        }
        Self { meta: meta.build() }
    }
}

impl ProvideErrorMetadata for Refused {
    fn meta(&self) -> &ErrorMetadata {
        &self.meta
    }
}

/// An answer, whatever its status is.
pub(super) struct Answer<'a> {
    response: &'a HttpResponse,
    pub(super) text: &'a str,
}

impl Answer<'_> {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn is_success(&self) -> bool {
        self.response.status().is_success()
    }

    pub(super) fn header(&self, name: &'static str) -> Option<&str> {
        self.response.headers().get(name)
    }
}

/// Reads an answer.
pub(super) type Read<O> = fn(&Answer<'_>) -> Result<O, Failure>;

/// Why an answer gives no result.
pub(super) enum Failure {
    /// AWS refuses.
    Refused(Refused),
    /// It is not what the service answers.
    Unreadable(String),
}

impl Aws {
    /// Sends `request`, again where that can help, and reads the answer.
    pub(super) async fn signed<O>(&self, request: Request, read: Read<O>) -> Result<O, AwsError>
    where
        O: std::fmt::Debug + Send + Sync + 'static,
    {
        let Request {
            service,
            global,
            call,
            method,
            path,
            headers,
            body,
        } = request;
        let region = if global {
            self.region.global()
        } else {
            self.region.as_str()
        };
        let mut signing_options = SigningOptions::default();
        if service == "s3" {
            // S3 signs paths as they are sent, and wants the hash of the body said.
            signing_options.double_uri_encode = false;
            signing_options.normalize_uri_path = false;
            signing_options.content_sha256_header = true;
        }
        let config = &self.config;
        let mut layer = Layer::new("signed");
        layer
            .store_put(AuthSchemeOptionResolverParams::new(()))
            .store_put(ApiMetadata::new(service, env!("CARGO_PKG_VERSION")))
            .store_put(SigV4OperationSigningConfig {
                region: Some(SigningRegion::from(aws_config::Region::new(region.to_owned()))),
                name: Some(SigningName::from(service)),
                signing_options,
                ..Default::default()
            });
        if let Some(name) = config.app_name() {
            layer.store_put(name.clone());
        }
        let mut components = RuntimeComponentsBuilder::new("signed");
        components
            .set_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID])))
            .push_auth_scheme(SigV4AuthScheme::new())
            .set_identity_cache(config.identity_cache());
        let provider = config
            .credentials_provider()
            .ok_or_else(|| AwsError::new(call, None, "no AWS credentials are configured"))?;
        components.set_identity_resolver(SCHEME_ID, provider);

        let mut operation = Operation::builder()
            // Also the name of the budget of retries, which the SDK keeps for each service and region.
            .service_name(format!("{service}-{}", self.region))
            .operation_name(call.operation())
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint(service, global))
            .with_connection_poisoning()
            .interceptor(ServiceClockSkewInterceptor::new())
            .interceptor(self.clock.clone())
            .time_source(self.clock.shift())
            .interceptor(UserAgentInterceptor::new())
            .retry_classifier(TransientErrorClassifier::<Refused>::new())
            .retry_classifier(HttpStatusCodeClassifier::default())
            .retry_classifier(AwsErrorCodeClassifier::<Refused>::new())
            .retry_classifier(ServiceClockSkewClassifier::<Refused>::new())
            .retry_classifier(RetryAfter)
            .runtime_plugin(
                StaticRuntimePlugin::new()
                    .with_config(layer.freeze())
                    .with_runtime_components(components),
            );
        if let Some(retry) = config.retry_config() {
            operation = operation.standard_retry(retry);
        }
        if let Some(limits) = config.timeout_config() {
            operation = operation.timeout_config(limits.clone());
        }
        if let Some(http) = config.http_client() {
            operation = operation.http_client(http);
        }
        if let Some(sleep) = config.sleep_impl() {
            operation = operation.sleep_impl(sleep);
        }
        operation
            .serializer(move |()| {
                let mut request = HttpRequest::new(SdkBody::from(body.as_str()));
                request.set_method(method)?;
                request.set_uri(path.as_str())?;
                for (name, value) in &headers {
                    request.headers_mut().insert(*name, value.clone());
                }
                Ok(request)
            })
            .deserializer(move |response: &HttpResponse| {
                let text = String::from_utf8_lossy(response.body().bytes().unwrap_or_default());
                let answer = Answer { response, text: &text };
                read(&answer).map_err(|failure| match failure {
                    Failure::Refused(refused) => OrchestratorError::operation(refused),
                    Failure::Unreadable(why) => OrchestratorError::response(why.into()),
                })
            })
            .build()
            .invoke(())
            .await
            .map_err(AwsError::of(call))
    }
}
