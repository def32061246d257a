use std::path::PathBuf;

use russh::keys::ssh_key::PublicKey;
use russh::keys::ssh_key::public::KeyData;

use super::command::{GitCommand, Service};
use super::{Config, bare};
use crate::services::deploy_keys::{fingerprint, parse_public_key};
use crate::services::{DeployKeys, Error, RepositoryName};

/// Who may do what.
#[derive(Debug)]
pub(super) struct Access {
    git: PathBuf,
    repositories_dir: PathBuf,
    repositories: Vec<RepositoryName>,
    operators: Vec<(KeyData, String)>,
    deploy_keys: DeployKeys,
}

/// A key that the server knows, as the access log names it.
#[derive(Debug, Clone)]
pub(super) struct KnownKey {
    pub(super) public: PublicKey,
    pub(super) fingerprint: String,
    pub(super) title: String,
}

/// A git command that may run.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) git: PathBuf,
    pub(super) home: PathBuf,
    pub(super) service: Service,
    pub(super) folder: PathBuf,
}

/// Why a git command may not run; the texts of the second and third are GitHub's, since tools look for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("only git-upload-pack and git-receive-pack with the path of a repository are served here")]
    NotGit,
    #[error("Repository not found.")]
    NoRepository,
    #[error("The key you are authenticating with has been marked as read only.")]
    ReadOnly,
    #[error("the key you are authenticating with has been revoked")]
    Revoked,
    #[error("shell access is not provided")]
    NoShell,
}

impl Access {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let operators = config
            .operators
            .iter()
            .map(|operator| match parse_public_key(&operator.key) {
                Some(key) => Ok((key.key_data().clone(), operator.title.clone())),
                None => Err(Error::Setting {
                    what: "an operator's key of the git server",
                    reason: format!(
                        "the key of {:?} is not an ed25519 or ECDSA public key in OpenSSH format",
                        operator.title
                    ),
                }),
            });
        Ok(Self {
            git: config.git.clone(),
            repositories_dir: config.repositories_dir.clone(),
            repositories: config.repositories.clone(),
            operators: operators.collect::<Result<_, _>>()?,
            deploy_keys: config.deploy_keys.clone(),
        })
    }

    /// The key by its public part, if it is an operator's or a registered deploy key at this moment.
    pub(super) fn known(&self, public: &PublicKey) -> Option<KnownKey> {
        let operator = self.operator(public).map(str::to_owned);
        let title = operator.or_else(|| self.deploy_keys.find(public).map(|key| key.title))?;
        Some(KnownKey {
            public: public.clone(),
            fingerprint: fingerprint(public),
            title,
        })
    }

    /// Decides anew for every command, since one connection can carry many and a key can be revoked between them.
    pub(super) fn grant(&self, key: &KnownKey, command: &GitCommand) -> Result<(Granted, RepositoryName), Refusal> {
        let repository = self
            .repositories
            .iter()
            .find(|repository| repository.is_at(&command.path));
        let repository = if self.operator(&key.public).is_some() {
            repository.ok_or(Refusal::NoRepository)?
        } else {
            let deploy_key = self.deploy_keys.find(&key.public).ok_or(Refusal::Revoked)?;
            // A repository that the key does not open must look like one that is not there.
            let repository = repository
                .filter(|name| **name == deploy_key.repository)
                .ok_or(Refusal::NoRepository)?;
            if deploy_key.read_only && command.service == Service::ReceivePack {
                return Err(Refusal::ReadOnly);
            }
            self.deploy_keys.used(deploy_key.id);
            repository
        };
        let granted = Granted {
            git: self.git.clone(),
            home: self.repositories_dir.clone(),
            service: command.service,
            folder: bare::path(&self.repositories_dir, repository),
        };
        Ok((granted, repository.clone()))
    }

    fn operator(&self, public: &PublicKey) -> Option<&str> {
        self.operators
            .iter()
            .find(|(key, _)| key == public.key_data())
            .map(|(_, title)| title.as_str())
    }
}
