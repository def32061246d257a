use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::clock::Clock;
use super::retry_after::RetryAfter;
use super::{AwsError, Call};
use crate::model::Region;
use crate::patience::Patience;

/// Longest wait for a connection: a host that does not answer here does not answer later.
const LONGEST_CONNECT: Duration = Duration::from_secs(5);

/// Credentials that are given instead of found.
#[derive(Debug, Clone)]
pub struct StaticCredentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: SecretString,
}

/// How AWS is reached; what is `None` is found as every AWS tool finds it.
#[derive(Debug, Clone)]
pub struct AwsAccess {
    /// Region.
    pub region: Region,
    /// One endpoint for every service.
    pub endpoint_url: Option<Url>,
    /// Credentials.
    pub credentials: Option<StaticCredentials>,
    /// How long answers are waited for, and how often a call is tried.
    pub patience: Patience,
    /// Tags for what mfsre itself creates, beside its own.
    pub tags: BTreeMap<String, String>,
}

/// Clients of the services that mfsre calls.
#[derive(Debug, Clone)]
pub struct Aws {
    pub(super) config: SdkConfig,
    pub(super) region: Region,
    pub(super) eks: aws_sdk_eks::Client,
    pub(super) secrets: aws_sdk_secretsmanager::Client,
    pub(super) ssm: aws_sdk_ssm::Client,
    pub(super) sts: aws_sdk_sts::Client,
    pub(super) clock: Clock,
    pub(super) tags: BTreeMap<String, String>,
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Twelve digits.
    pub account: String,
    /// The caller's ARN.
    pub arn: String,
}

impl Aws {
    /// Clients for `access`; nothing is called yet.
    pub async fn connect(access: &AwsAccess) -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .region(aws_config::Region::new(access.region.to_string()))
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(access.patience.attempts)
                    .with_initial_backoff(access.patience.first_pause)
                    .with_max_backoff(access.patience.longest_pause),
            )
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(LONGEST_CONNECT.min(access.patience.answer))
                    .operation_attempt_timeout(access.patience.answer)
                    .build(),
            );
        // By it AWS's logs, and those of a proxy, tell mfsre's calls from others.
        if let Ok(name) = AppName::new("mfsre") {
            loader = loader.app_name(name);
        }
        if let Some(url) = &access.endpoint_url {
            loader = loader.endpoint_url(url.as_str().trim_end_matches('/'));
        }
        if let Some(given) = &access.credentials {
            let credentials = Credentials::new(
                &given.access_key_id,
                given.secret_access_key.expose_secret(),
                None,
                None,
                "mfsre",
            );
            loader = loader.credentials_provider(credentials);
        }
        let config = loader.load().await;
        let clock = Clock::default();
        macro_rules! client {
            ($sdk:ident) => {
                $sdk::Client::from_conf(
                    $sdk::config::Builder::from(&config)
                        .interceptor(clock.clone())
                        .retry_classifier(RetryAfter)
                        .build(),
                )
            };
        }
        Self {
            region: access.region.clone(),
            eks: client!(aws_sdk_eks),
            secrets: client!(aws_sdk_secretsmanager),
            ssm: client!(aws_sdk_ssm),
            sts: client!(aws_sdk_sts),
            clock,
            config,
            tags: access.tags.clone(),
        }
    }

    /// The tags of what is created for `environment`: mfsre's own, and the user's.
    pub(super) fn tags_of<'a>(&'a self, environment: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let own = [("mfsre:environment", environment), ("mfsre:managed-by", "mfsre")];
        let given = self.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        own.into_iter().chain(given)
    }

    /// Who the credentials belong to.
    ///
    /// # Errors
    /// The call failed.
    pub async fn identity(&self) -> Result<Identity, AwsError> {
        let answer = self
            .sts
            .get_caller_identity()
            .send()
            .await
            .map_err(AwsError::of(Call::GetCallerIdentity))?;
        Ok(Identity {
            account: answer.account().unwrap_or_default().to_owned(),
            arn: answer.arn().unwrap_or_default().to_owned(),
        })
    }

    pub(super) async fn credentials(&self, call: Call) -> Result<Credentials, AwsError> {
        let provider = self
            .config
            .credentials_provider()
            .ok_or_else(|| AwsError::new(call, None, "no AWS credentials are configured"))?;
        provider
            .provide_credentials()
            .await
            .map_err(|e| AwsError::new(call, None, format!("no AWS credentials: {e}")))
    }

    /// Where `service` is reached: the service's own variable, then the common endpoint, then AWS. `global` services have
    /// one endpoint for all regions of a partition.
    pub(super) fn endpoint(&self, service: &str, global: bool) -> String {
        let variable = format!("AWS_ENDPOINT_URL_{}", service.to_ascii_uppercase().replace('-', "_"));
        let own = std::env::var(variable).ok().filter(|v| {
            !v.is_empty()
                && self
                    .config
                    .endpoint_url()
                    .is_none_or(|c| std::env::var("AWS_ENDPOINT_URL").is_ok_and(|v| v == c))
        });
        own.or_else(|| self.config.endpoint_url().map(str::to_owned))
            .unwrap_or_else(|| {
                let suffix = self.region.dns_suffix();
                match (global, self.region.global()) {
                    (false, _) => format!("https://{service}.{}.{suffix}", self.region),
                    (true, "us-east-1") => format!("https://{service}.{suffix}"),
                    (true, "us-gov-west-1") => format!("https://{service}.us-gov.{suffix}"),
                    (true, region) => format!("https://{service}.{region}.{suffix}"),
                }
            })
    }
}

/// The ARN that an access entry takes for a caller: that of the role behind a session. A path, which STS does not tell,
/// has to be added by hand.
#[must_use]
pub fn role_of(caller: &str) -> String {
    match caller.split_once(":assumed-role/") {
        Some((head, session)) => {
            let role = session.split('/').next().unwrap_or(session);
            format!("{}:role/{role}", head.replace(":sts::", ":iam::"))
        }
        None => caller.to_owned(),
    }
}
