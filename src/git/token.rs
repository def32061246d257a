use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use secrecy::SecretString;

use crate::child::ChildEnvironment;

/// Longest time for a program to print its token; one that asks something never ends.
const LIMIT: Duration = Duration::from_secs(20);

/// Where a token for a git host's API is looked for: a file that a setting names, else variables, else the host's own
/// command-line program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSource {
    file: Option<PathBuf>,
    variables: &'static [&'static str],
    program: Option<(&'static str, Vec<String>)>,
}

/// A token that was pointed to and cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the git host's token from {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no token.
    #[error("{} holds no token for the git host: it is empty or has more than one line", .path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
    },
}

impl TokenSource {
    /// GitHub's tokens, named as the program `gh` names them. `host` is the repository's.
    #[must_use]
    pub fn github(host: &str) -> Self {
        let own = matches!(host, "github.com" | "ssh.github.com");
        Self {
            file: None,
            variables: if own {
                &["GITHUB_TOKEN", "GH_TOKEN"]
            } else {
                &[
                    "GH_ENTERPRISE_TOKEN",
                    "GITHUB_ENTERPRISE_TOKEN",
                    "GITHUB_TOKEN",
                    "GH_TOKEN",
                ]
            },
            program: Some((
                "gh",
                vec![
                    "auth".into(),
                    "token".into(),
                    "--hostname".into(),
                    if own { "github.com".into() } else { host.into() },
                ],
            )),
        }
    }

    /// GitLab's tokens, named as the program `glab` names them.
    #[must_use]
    pub fn gitlab(host: &str) -> Self {
        let host = if host == "altssh.gitlab.com" {
            "gitlab.com"
        } else {
            host
        };
        Self {
            file: None,
            variables: &["GITLAB_TOKEN", "GITLAB_ACCESS_TOKEN"],
            program: Some((
                "glab",
                vec![
                    "config".into(),
                    "get".into(),
                    "token".into(),
                    "--host".into(),
                    host.into(),
                ],
            )),
        }
    }

    /// Gitea's and Forgejo's tokens.
    #[must_use]
    pub fn gitea() -> Self {
        Self {
            file: None,
            variables: &["GITEA_TOKEN", "FORGEJO_TOKEN"],
            program: None,
        }
    }

    /// Takes the token from a file instead, where one is named.
    #[must_use]
    pub fn or_file(mut self, file: Option<PathBuf>) -> Self {
        self.file = file;
        self
    }

    /// The token; `None` where there is none anywhere.
    ///
    /// # Errors
    /// The file that a setting names gives none.
    pub async fn find(&self) -> Result<Option<SecretString>, TokenError> {
        if let Some(path) = &self.file {
            let text = tokio::fs::read_to_string(path).await;
            let text = zeroize::Zeroizing::new(text.map_err(|source| TokenError::Unreadable {
                path: path.clone(),
                source,
            })?);
            let token = text.trim();
            return if token.is_empty() || token.contains(char::is_whitespace) {
                Err(TokenError::NoToken { path: path.clone() })
            } else {
                Ok(Some(token.into()))
            };
        }
        for variable in self.variables {
            if let Some(token) = std::env::var(variable).ok().filter(|t| !t.trim().is_empty()) {
                return Ok(Some(token.trim().into()));
            }
        }
        let Some((program, arguments)) = &self.program else {
            return Ok(None);
        };
        let run = tokio::process::Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(ChildEnvironment::git_host().iter())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        // Not installed, not signed in or stuck: then there is no token from there.
        let Ok(Ok(output)) = tokio::time::timeout(LIMIT, run).await else {
            return Ok(None);
        };
        let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let usable = output.status.success() && !token.is_empty() && !token.contains(char::is_whitespace);
        Ok(usable.then(|| token.into()))
    }
}
