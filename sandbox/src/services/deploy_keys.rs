use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use russh::keys::ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey};
use serde::{Deserialize, Serialize};

use super::{Error, RepositoryName};

/// A deploy key: an SSH key that opens one repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeployKey {
    /// Unique over all repositories and never used twice.
    pub id: u64,
    /// `type base64`, without a comment.
    pub key: String,
    /// What the owner calls it.
    pub title: String,
    /// The one repository that it opens.
    pub repository: RepositoryName,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Whether it may only fetch.
    pub read_only: bool,
    /// Who registered it.
    pub added_by: String,
    /// When it last opened the repository; on disk only as of the last change of the set, since writing it at every
    /// fetch would cost more than the fetch.
    pub last_used: Option<Timestamp>,
}

impl DeployKey {
    /// `SHA256:` and the unpadded base64 of the digest, as ssh-keygen prints it.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        PublicKey::from_openssh(&self.key).ok().map(|key| fingerprint(&key))
    }
}

/// A deploy key to register.
#[derive(Debug, Clone)]
pub struct NewDeployKey {
    /// The public key in OpenSSH format; a comment is dropped.
    pub key: String,
    /// What the owner calls it.
    pub title: String,
    /// The one repository that it opens.
    pub repository: RepositoryName,
    /// Whether it may only fetch.
    pub read_only: bool,
    /// Who registers it.
    pub added_by: String,
}

/// Why a deploy key was not registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddKeyError {
    /// The text is not a public key, or of a kind that the git server cannot check.
    #[error("key is invalid. You must supply a key in OpenSSH public key format")]
    Invalid,
    /// A key opens one repository only, and only once.
    #[error("key is already in use")]
    InUse,
    /// The set could not be saved; nothing changed.
    #[error(transparent)]
    Save(#[from] Error),
}

/// The registered deploy keys, kept in memory and in a JSON file. Clones share one set.
#[derive(Debug, Clone)]
pub struct DeployKeys {
    path: Arc<PathBuf>,
    set: Arc<Mutex<Set>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Set {
    last_id: u64,
    keys: Vec<DeployKey>,
}

impl DeployKeys {
    /// Reads the set, which is empty where there is no file yet.
    ///
    /// # Errors
    /// The file cannot be read or is not such a set.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let set = match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| Error::Content {
                path: path.to_owned(),
                reason: error.to_string(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Set::default(),
            Err(error) => return Err(Error::file("read the deploy keys", path)(error)),
        };
        Ok(Self {
            path: Arc::new(path.to_owned()),
            set: Arc::new(Mutex::new(set)),
        })
    }

    /// The keys of a repository, oldest first.
    #[must_use]
    pub fn list(&self, repository: &RepositoryName) -> Vec<DeployKey> {
        self.lock()
            .keys
            .iter()
            .filter(|key| key.repository == *repository)
            .cloned()
            .collect()
    }

    /// The key with this id, where it is one of the repository's.
    #[must_use]
    pub fn get(&self, repository: &RepositoryName, id: u64) -> Option<DeployKey> {
        self.lock()
            .keys
            .iter()
            .find(|key| key.id == id && key.repository == *repository)
            .cloned()
    }

    /// Registers a key.
    ///
    /// # Errors
    /// See [`AddKeyError`]; nothing was registered then.
    pub fn add(&self, new: NewDeployKey) -> Result<DeployKey, AddKeyError> {
        let public = parse_public_key(&new.key).ok_or(AddKeyError::Invalid)?;
        let text = without_comment(&public).ok_or(AddKeyError::Invalid)?;
        self.change(|set| {
            if set.keys.iter().any(|key| key.key == text) {
                return Err(AddKeyError::InUse);
            }
            set.last_id += 1;
            let key = DeployKey {
                id: set.last_id,
                key: text,
                title: new.title,
                repository: new.repository,
                created_at: Timestamp::now(),
                read_only: new.read_only,
                added_by: new.added_by,
                last_used: None,
            };
            set.keys.push(key.clone());
            Ok(key)
        })
    }

    /// Revokes a key; false where the repository has none with this id.
    ///
    /// # Errors
    /// The set could not be saved; the key is still valid then.
    pub fn remove(&self, repository: &RepositoryName, id: u64) -> Result<bool, Error> {
        self.change(|set| {
            let before = set.keys.len();
            set.keys.retain(|key| key.id != id || key.repository != *repository);
            Ok(set.keys.len() < before)
        })
    }

    /// The registration of a public key that a client offers.
    pub(super) fn find(&self, public: &PublicKey) -> Option<DeployKey> {
        let text = without_comment(public)?;
        self.lock().keys.iter().find(|key| key.key == text).cloned()
    }

    /// Notes that a key opened its repository.
    pub(super) fn used(&self, id: u64) {
        if let Some(key) = self.lock().keys.iter_mut().find(|key| key.id == id) {
            key.last_used = Some(Timestamp::now());
        }
    }

    /// Changes the set on disk first, so that memory never holds what a crash would forget.
    ///
    /// The file is a few hundred bytes, so the calling task may wait for it.
    fn change<T, E: From<Error>>(&self, change: impl FnOnce(&mut Set) -> Result<T, E>) -> Result<T, E> {
        let mut current = self.lock();
        let mut next = current.clone();
        let result = change(&mut next)?;
        save(&self.path, &next)?;
        *current = next;
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn save(path: &Path, set: &Set) -> Result<(), Error> {
    let failed = || Error::file("save the deploy keys in", path);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed())?;
    let text = serde_json::to_vec_pretty(set).map_err(|error| failed()(error.into()))?;
    file.write_all(&text)
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    Ok(())
}

/// A public key in OpenSSH format, of a kind that the git server can check: RSA is not.
pub(super) fn parse_public_key(text: &str) -> Option<PublicKey> {
    let key = PublicKey::from_openssh(text.trim()).ok()?;
    let checked = matches!(
        key.algorithm(),
        Algorithm::Ed25519
            | Algorithm::Ecdsa {
                curve: EcdsaCurve::NistP256 | EcdsaCurve::NistP384 | EcdsaCurve::NistP521
            }
    );
    checked.then_some(key)
}

/// `SHA256:` and the unpadded base64 of the digest.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn without_comment(key: &PublicKey) -> Option<String> {
    PublicKey::new(key.key_data().clone(), "").to_openssh().ok()
}

#[cfg(test)]
mod tests {
    use super::{AddKeyError, DeployKeys, NewDeployKey};

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti alice@example";

    fn new(key: &str, repository: &str) -> NewDeployKey {
        NewDeployKey {
            key: key.to_owned(),
            title: "demo".to_owned(),
            repository: repository.parse().unwrap(),
            read_only: true,
            added_by: "operator".to_owned(),
        }
    }

    #[test]
    fn the_set_survives_a_restart_and_ids_are_never_used_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let keys = DeployKeys::open(&path).unwrap();
        let first = keys.add(new(ED25519, "acme/platform")).unwrap();
        assert_eq!(first.key, ED25519.rsplit_once(' ').unwrap().0, "the comment is dropped");
        assert!(first.fingerprint().unwrap().starts_with("SHA256:"));

        let reopened = DeployKeys::open(&path).unwrap();
        assert_eq!(reopened.list(&first.repository).len(), 1);
        assert!(reopened.remove(&first.repository, first.id).unwrap());
        assert!(!reopened.remove(&first.repository, first.id).unwrap());
        let second = DeployKeys::open(&path)
            .unwrap()
            .add(new(ED25519, "acme/platform"))
            .unwrap();
        assert!(second.id > first.id);
    }

    #[test]
    fn a_key_opens_one_repository_only() {
        let folder = tempfile::tempdir().unwrap();
        let keys = DeployKeys::open(&folder.path().join("keys.json")).unwrap();
        keys.add(new(ED25519, "acme/platform")).unwrap();
        assert!(matches!(keys.add(new(ED25519, "acme/other")), Err(AddKeyError::InUse)));
    }

    #[test]
    fn what_is_not_a_public_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let keys = DeployKeys::open(&folder.path().join("keys.json")).unwrap();
        for text in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==",
        ] {
            assert!(
                matches!(keys.add(new(text, "acme/platform")), Err(AddKeyError::Invalid)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_set_that_cannot_be_saved_does_not_change() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        std::fs::create_dir(&gone).unwrap();
        let keys = DeployKeys::open(&gone.join("keys.json")).unwrap();
        std::fs::remove_dir(&gone).unwrap();
        let new = new(ED25519, "acme/platform");
        let repository = new.repository.clone();
        assert!(matches!(keys.add(new), Err(AddKeyError::Save(_))));
        assert!(keys.list(&repository).is_empty());
    }
}
