use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;
use url::Url;

use crate::aws::{Aws, AwsAccess, StaticCredentials};
use crate::child::ChildEnvironment;
use crate::config::{Environment, GitHost};
use crate::error::Result;
use crate::git::{DeployKeyHost, Github, Manual};
use crate::kubernetes::TokenSource;

/// How an environment's outside world is reached: AWS, and the git host.
#[derive(Debug, Clone)]
pub struct Platform {
    /// AWS.
    pub aws: AwsAccess,
    /// The git host's API.
    pub git_api: Option<Url>,
    /// A token for it.
    pub git_token: Option<SecretString>,
    /// Variables for the operator's own git commands.
    pub git_environment: Vec<(String, String)>,
}

impl Platform {
    /// As every AWS and git tool on this machine would reach it.
    pub async fn of(environment: &Environment) -> Self {
        Self {
            aws: AwsAccess {
                region: environment.region.clone(),
                endpoint_url: None,
                credentials: None,
            },
            git_api: environment.git.api_url.clone(),
            git_token: if environment.git.host == GitHost::Github {
                github_token().await
            } else {
                None
            },
            git_environment: Vec::new(),
        }
    }

    /// The sandbox's.
    #[must_use]
    pub fn of_sandbox(environment: &Environment, status: &mfsre_sandbox::Status, known_hosts: &Path) -> Self {
        // The operator's key and the sandbox's host key, and nothing of the user's own SSH configuration.
        let ssh = format!(
            "ssh -F /dev/null -i {} -o IdentitiesOnly=yes -o IdentityAgent=none -o StrictHostKeyChecking=yes -o UserKnownHostsFile={}",
            shell_quote(&status.operator_key.to_string_lossy()),
            shell_quote(&known_hosts.to_string_lossy()),
        );
        Self {
            aws: AwsAccess {
                region: environment.region.clone(),
                endpoint_url: Some(status.aws_endpoint_url.clone()),
                credentials: Some(StaticCredentials {
                    access_key_id: status.access_key_id.clone(),
                    secret_access_key: status.secret_access_key.expose().to_owned().into(),
                }),
            },
            git_api: Some(status.git_api_url.clone()),
            git_token: Some(status.git_api_token.expose().to_owned().into()),
            git_environment: vec![("GIT_SSH_COMMAND".into(), ssh)],
        }
    }

    /// The environment of Terraform's processes.
    #[must_use]
    pub fn terraform_environment(&self) -> ChildEnvironment {
        use secrecy::ExposeSecret as _;
        let mut variables = ChildEnvironment::terraform();
        if let Some(url) = &self.aws.endpoint_url {
            variables.remove_prefix("AWS_");
            variables.set("AWS_ENDPOINT_URL", url.as_str().trim_end_matches('/'));
            // The user's own profiles must not reach the emulator.
            variables.set("AWS_CONFIG_FILE", "/dev/null");
            variables.set("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
            variables.set("AWS_EC2_METADATA_DISABLED", "true");
        }
        if let Some(credentials) = &self.aws.credentials {
            variables.set("AWS_ACCESS_KEY_ID", &credentials.access_key_id);
            variables.set("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key.expose_secret());
        }
        variables.set("AWS_REGION", self.aws.region.as_str());
        variables
    }

    /// The git host of the environment's repository.
    #[must_use]
    pub fn git_host(&self, environment: &Environment) -> Box<dyn DeployKeyHost> {
        let repository = &environment.argocd_repository_url;
        match environment.git.host {
            GitHost::Github => Box::new(Github::new(
                self.git_api.as_ref(),
                repository.path(),
                self.git_token.clone(),
            )),
            GitHost::Manual => Box::new(Manual::new(repository.as_str())),
        }
    }
}

/// A token for GitHub: `GITHUB_TOKEN`, `GH_TOKEN`, or that of the `gh` program.
async fn github_token() -> Option<SecretString> {
    for variable in ["GITHUB_TOKEN", "GH_TOKEN"] {
        if let Some(token) = std::env::var(variable).ok().filter(|t| !t.is_empty()) {
            return Some(token.into());
        }
    }
    let output = tokio::process::Command::new("gh")
        .args(["auth", "token"])
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .ok()?;
    let token = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !token.is_empty()).then(|| token.into())
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Makes EKS tokens for one cluster.
pub(super) struct EksTokens {
    pub(super) aws: Aws,
    pub(super) cluster: String,
}

impl TokenSource for EksTokens {
    fn token(&self) -> BoxFuture<'_, Result<(SecretString, Timestamp), String>> {
        Box::pin(async {
            let token = self
                .aws
                .cluster_token(&self.cluster)
                .await
                .map_err(|e| format!("{e}: {}", e.source))?;
            // Renewed well before it expires, so that no call starts with a token about to end.
            Ok((token.token, token.expires - jiff::SignedDuration::from_mins(4)))
        })
    }
}

/// Tokens for `cluster` by `aws`.
pub(super) fn tokens(aws: &Aws, cluster: &str) -> Arc<dyn TokenSource> {
    Arc::new(EksTokens {
        aws: aws.clone(),
        cluster: cluster.to_owned(),
    })
}
