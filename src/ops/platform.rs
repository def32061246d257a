use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;
use url::Url;

use crate::aws::{Aws, AwsAccess, StaticCredentials};
use crate::child::ChildEnvironment;
use crate::config::{Environment, GitHost};
use crate::error::Result;
use crate::git::{DeployKeyHost, Gitea, Github, Gitlab, Manual, TokenSource};
use crate::kubernetes;
use crate::model::Transport;
use crate::patience::Patience;

/// How an environment's outside world is reached: AWS, and the git host.
#[derive(Debug, Clone)]
pub struct Platform {
    /// AWS.
    pub aws: AwsAccess,
    /// The git host's API, where it is not that of the settings.
    pub git_api: Option<Url>,
    /// A token for it.
    pub git_token: GitToken,
    /// Variables for the operator's own git commands.
    pub git_environment: Vec<(String, String)>,
}

/// The patience with a git host: a rate limit may end within minutes.
const GIT_HOST: Patience = Patience {
    attempts: 4,
    longest_pause: Duration::from_secs(90),
    ..Patience::USUAL
};

/// A token for the git host's API.
#[derive(Debug, Clone)]
pub enum GitToken {
    /// This one.
    Given(SecretString),
    /// To be looked for when it is needed.
    Find(TokenSource),
    /// The host has no API.
    None,
}

impl Platform {
    /// As every AWS and git tool on this machine would reach it. Paths in the settings are relative to `root`.
    #[must_use]
    pub fn of(environment: &Environment, root: &Path) -> Self {
        let host = environment.argocd_repository_url.host();
        let source = match environment.git.host {
            GitHost::Github => Some(TokenSource::github(host)),
            GitHost::Gitlab => Some(TokenSource::gitlab(host)),
            GitHost::Gitea | GitHost::Forgejo => Some(TokenSource::gitea()),
            GitHost::Manual => None,
        };
        let file = environment.git.token_file.as_ref().map(|file| root.join(file));
        Self {
            aws: AwsAccess {
                region: environment.region.clone(),
                endpoint_url: None,
                credentials: None,
                patience: Patience::USUAL,
                tags: environment.tags.clone(),
            },
            git_api: None,
            git_token: source.map_or(GitToken::None, |source| GitToken::Find(source.or_file(file))),
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
                patience: Patience::USUAL,
                tags: environment.tags.clone(),
            },
            git_api: Some(status.git_api_url.clone()),
            git_token: GitToken::Given(status.git_api_token.expose().to_owned().into()),
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

    /// The git host of the environment's repository, with a token where there is one.
    ///
    /// # Errors
    /// A token was pointed to and cannot be read.
    pub async fn git_host(&self, environment: &Environment) -> Result<Box<dyn DeployKeyHost>> {
        let token = match &self.git_token {
            GitToken::Given(token) => Some(token.clone()),
            GitToken::Find(source) => source.find().await?,
            GitToken::None => None,
        };
        Ok(self.host(environment, token))
    }

    /// The git host's name, for people.
    #[must_use]
    pub fn git_host_name(&self, environment: &Environment) -> String {
        self.host(environment, None).describe()
    }

    fn host(&self, environment: &Environment, token: Option<SecretString>) -> Box<dyn DeployKeyHost> {
        let repository = &environment.argocd_repository_url;
        let path = repository.path();
        let given = self.git_api.as_ref().or(environment.git.api_url.as_ref());
        // Where a host of this kind has its API unless somebody moved it.
        let api = |path: &str| {
            let usual = || Url::parse(&format!("https://{}{path}", web_host(repository.host()))).ok();
            given.cloned().or_else(usual)
        };
        let known = match environment.git.host {
            GitHost::Github if matches!(repository.host(), "github.com" | "ssh.github.com") => {
                return Box::new(Github::new(given, path, token, GIT_HOST));
            }
            GitHost::Github => api("/api/v3")
                .map(|base| -> Box<dyn DeployKeyHost> { Box::new(Github::new(Some(&base), path, token, GIT_HOST)) }),
            GitHost::Gitlab => api("/api/v4")
                .map(|base| -> Box<dyn DeployKeyHost> { Box::new(Gitlab::new(&base, path, token, GIT_HOST)) }),
            GitHost::Gitea | GitHost::Forgejo => api("/api/v1")
                .map(|base| -> Box<dyn DeployKeyHost> { Box::new(Gitea::new(&base, path, token, GIT_HOST)) }),
            GitHost::Manual => None,
        };
        known.unwrap_or_else(|| Box::new(Manual::new(repository.as_str())))
    }
}

/// The page on which a pull request from `branch` to the branch that Argo CD follows is opened; `None` where the host is
/// of no known kind (<https://docs.github.com/en/pull-requests/collaborating-with-pull-requests/proposing-changes-to-your-work-with-pull-requests/using-query-parameters-to-create-a-pull-request>,
/// <https://docs.gitlab.com/user/project/merge_requests/creating_merge_requests/>).
pub(super) fn pull_request(environment: &Environment, branch: &str) -> Option<String> {
    let repository = &environment.argocd_repository_url;
    let target = &environment.git.revision;
    let path = repository.path();
    let site = match (&environment.git.api_url, repository.port()) {
        (_, _) if matches!(repository.host(), "github.com" | "ssh.github.com") => "https://github.com".to_owned(),
        (Some(api), _) => api.origin().ascii_serialization(),
        (None, Some(port)) if repository.transport() == Transport::Https => {
            format!("https://{}:{port}", repository.host())
        }
        (None, _) => format!("https://{}", web_host(repository.host())),
    };
    let page = match environment.git.host {
        GitHost::Github => format!("{path}/compare/{target}...{branch}?expand=1"),
        GitHost::Gitlab => format!(
            "{path}/-/merge_requests/new?merge_request%5Bsource_branch%5D={branch}&merge_request%5Btarget_branch%5D={target}"
        ),
        GitHost::Gitea | GitHost::Forgejo => format!("{path}/compare/{target}...{branch}"),
        GitHost::Manual => return None,
    };
    Url::parse(&format!("{site}/{page}")).ok().map(String::from)
}

/// The host of the web pages and the API, for a host that serves SSH under another name.
fn web_host(host: &str) -> &str {
    match host {
        "altssh.gitlab.com" => "gitlab.com",
        host => host,
    }
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Makes EKS tokens for one cluster.
pub(super) struct EksTokens {
    pub(super) aws: Aws,
    pub(super) cluster: String,
}

impl kubernetes::TokenSource for EksTokens {
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
pub(super) fn tokens(aws: &Aws, cluster: &str) -> Arc<dyn kubernetes::TokenSource> {
    Arc::new(EksTokens {
        aws: aws.clone(),
        cluster: cluster.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, parse};

    #[test]
    fn a_pull_request_is_opened_on_the_pages_of_the_host() {
        for (settings, link) in [
            (
                "argocd_repository_url: git@github.com:acme/platform.git",
                Some("https://github.com/acme/platform/compare/main...mfsre/demo?expand=1"),
            ),
            (
                "argocd_repository_url: ssh://git@ssh.github.com:443/acme/platform.git",
                Some("https://github.com/acme/platform/compare/main...mfsre/demo?expand=1"),
            ),
            (
                "argocd_repository_url: git@gitlab.com:acme/group/platform.git\ngit: {revision: live}",
                Some(
                    "https://gitlab.com/acme/group/platform/-/merge_requests/new?merge_request%5Bsource_branch%5D=mfsre/demo&merge_request%5Btarget_branch%5D=live",
                ),
            ),
            (
                "argocd_repository_url: ssh://git@git.acme.example:2222/acme/platform.git\ngit: {host: gitea, api_url: 'https://code.acme.example:8443/api/v1'}",
                Some("https://code.acme.example:8443/acme/platform/compare/main...mfsre/demo"),
            ),
            (
                "argocd_repository_url: https://git.acme.example:8443/acme/platform.git\ngit: {host: forgejo}",
                Some("https://git.acme.example:8443/acme/platform/compare/main...mfsre/demo"),
            ),
            (
                "argocd_repository_url: git@git.acme.example:acme/platform.git\ngit: {host: manual}",
                None,
            ),
        ] {
            let source = Source {
                path: "environments/demo.yaml".into(),
                text: format!("name: demo\n{settings}\n"),
            };
            let loaded = parse(source, "demo", jiff::civil::date(2026, 5, 1)).unwrap();
            assert_eq!(
                pull_request(&loaded.environment, "mfsre/demo").as_deref(),
                link,
                "{settings}"
            );
        }
    }
}
