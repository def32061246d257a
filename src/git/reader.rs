//! Whether a key opens the repository: shown by a fetch, as Argo CD would make it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use russh::keys::PrivateKey;
use secrecy::{ExposeSecret as _, SecretString};

use super::agent::KeyAgent;
use crate::child::ChildEnvironment;

/// Longest time for one `git ls-remote`.
const LIMIT: Duration = Duration::from_secs(60);

/// Reads a repository over SSH with one key and nothing else.
///
/// The key stays in memory: `ssh` gets signatures from an agent of our own. The user's SSH configuration holds, so that
/// jump hosts and host aliases work; host keys are checked against what Argo CD trusts.
#[derive(Debug)]
pub struct KeyReader {
    url: String,
    known_hosts: Option<String>,
}

/// Why a key does not open the repository.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The private key is none.
    #[error("the deploy key cannot be read")]
    Key(#[source] russh::keys::ssh_key::Error),
    /// The agent, git or a temporary file.
    #[error("cannot {what}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// git could not read the repository.
    #[error("{url} cannot be read with the key {fingerprint}: {output}")]
    Refused {
        /// The repository.
        url: String,
        /// `SHA256:...`
        fingerprint: String,
        /// What git printed.
        output: String,
    },
    /// It did not answer in time.
    #[error("reading {url} with the key {fingerprint} took longer than {}s", LIMIT.as_secs())]
    Slow {
        /// The repository.
        url: String,
        /// `SHA256:...`
        fingerprint: String,
    },
    /// It was read, but not with this key.
    #[error("{url} was read without the key {fingerprint}, so this says nothing about the key")]
    NotUsed {
        /// The repository.
        url: String,
        /// `SHA256:...`
        fingerprint: String,
    },
}

impl KeyError {
    /// Whether the host does not know the key, or not yet.
    #[must_use]
    pub fn is_unknown_key(&self) -> bool {
        match self {
            Self::Refused { output, .. } if output.contains("Host key verification failed") => false,
            Self::Refused { output, .. } => {
                output.contains("Permission denied")
                    || output.contains("Repository not found")
                    || output.contains("could not be found")
                    || output.contains("Could not read from remote repository")
            }
            Self::NotUsed { .. } => true,
            Self::Key(_) | Self::Io { .. } | Self::Slow { .. } => false,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Key(_) => "the parameter holds something else than mfsre wrote: restore an older version of it",
            Self::Io { .. } => {
                "install git and an SSH client, and check that the folder for temporary files is writable"
            }
            Self::Refused { output, .. } if output.contains("Host key verification failed") => {
                "the host's key is not among those that Argo CD trusts: set argocd.known_hosts and run `mfsre up`"
            }
            Self::Refused { .. } | Self::NotUsed { .. } => {
                "look at the repository's deploy keys on the git host; run the same command again once the key is there"
            }
            Self::Slow { .. } => "check that this machine reaches the git host",
        }
    }
}

impl KeyReader {
    /// For the repository at `url`. Host keys are taken from `known_hosts` (lines of such a file), and where that is
    /// `None` from the user's own.
    #[must_use]
    pub fn new(url: &str, known_hosts: Option<String>) -> Self {
        Self {
            url: url.to_owned(),
            known_hosts,
        }
    }

    /// Lists the repository's branches with `private`, an OpenSSH private key.
    ///
    /// # Errors
    /// The key does not open the repository, or that could not be found out.
    pub async fn read(&self, private: &SecretString) -> Result<(), KeyError> {
        let key = PrivateKey::from_openssh(private.expose_secret()).map_err(KeyError::Key)?;
        let fingerprint = key.fingerprint(russh::keys::HashAlg::Sha256).to_string();
        let io = |what| move |source| KeyError::Io { what, source };
        let folder = tempfile::Builder::new()
            .prefix("mfsre-")
            .tempdir()
            .map_err(io("make a folder for temporary files"))?;
        // Only public things lie there.
        let public = folder.path().join("key.pub");
        let text = key.public_key().to_openssh().map_err(KeyError::Key)?;
        std::fs::write(&public, text).map_err(io("write the public key for ssh"))?;
        let hosts = folder.path().join("known_hosts");
        if let Some(lines) = &self.known_hosts {
            std::fs::write(&hosts, lines).map_err(io("write the known hosts for ssh"))?;
        }
        let agent = KeyAgent::start(folder.path(), &key)
            .await
            .map_err(io("start an SSH agent for the key"))?;
        let known_hosts = self.known_hosts.is_some().then_some(hosts.as_path());
        let mut environment = ChildEnvironment::git();
        // The user's git settings could send the URL elsewhere, with another credential.
        environment.remove_prefix("GIT_CONFIG_");
        environment.set("GIT_CONFIG_GLOBAL", "/dev/null");
        environment.set("GIT_CONFIG_NOSYSTEM", "1");
        environment.set("GIT_SSH_COMMAND", ssh_command(agent.socket(), &public, known_hosts));
        environment.set("GIT_SSH_VARIANT", "ssh");
        let run = tokio::process::Command::new("git")
            .args(["ls-remote", "--heads", &self.url])
            .current_dir(folder.path())
            .env_clear()
            .envs(environment.iter())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let Ok(output) = tokio::time::timeout(LIMIT, run).await else {
            let url = self.url.clone();
            return Err(KeyError::Slow { url, fingerprint });
        };
        let output = output.map_err(io("run git"))?;
        let url = self.url.clone();
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
            return Err(KeyError::Refused {
                url,
                fingerprint,
                output: lines.join("\n"),
            });
        }
        if !agent.was_used() {
            return Err(KeyError::NotUsed { url, fingerprint });
        }
        Ok(())
    }
}

/// The command by which git reaches the host: our agent and no other, our key before any of the user's, no connection
/// that is open already.
fn ssh_command(agent: &Path, public: &Path, known_hosts: Option<&Path>) -> String {
    let option = |name: &str, path: &Path| {
        // ssh splits a value at spaces and expands % in it; the shell sees it first.
        let path = path.to_string_lossy().replace('%', "%%");
        format!(" -o {}", shell_quote(&format!("{name}=\"{path}\"")))
    };
    let mut command = "ssh -o BatchMode=yes -o PreferredAuthentications=publickey -o IdentitiesOnly=yes".to_owned();
    command.push_str(" -o AddKeysToAgent=no -o ForwardAgent=no -o ControlMaster=no -o ControlPath=none");
    command.push_str(" -o StrictHostKeyChecking=yes -o ConnectTimeout=20");
    command.push_str(&option("IdentityAgent", agent));
    command.push_str(&option("IdentityFile", public));
    if let Some(file) = known_hosts {
        command.push_str(&option("UserKnownHostsFile", file));
        command.push_str(" -o UpdateHostKeys=no");
    }
    command
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_any_name_reaches_ssh_as_it_is() {
        let folder = Path::new("/tmp/it's 100% mine");
        let command = ssh_command(&folder.join("agent"), &folder.join("key.pub"), None);
        assert!(
            command.contains(r#"'IdentityAgent="/tmp/it'\''s 100%% mine/agent"'"#),
            "{command}"
        );
    }
}
