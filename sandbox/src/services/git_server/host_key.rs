use std::fmt;
use std::fs::Permissions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{LineEnding, PrivateKey};

use crate::services::Error;

/// The ed25519 key by which clients know the server.
#[derive(Clone)]
pub struct HostKey {
    key: PrivateKey,
}

impl HostKey {
    /// Reads the key, or makes it where there is none yet; the file is readable by its owner only.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        match std::fs::read(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(Error::file("read the host key", path)(error)),
        }
    }

    /// The line of a known_hosts file for a server at this address (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
    #[must_use]
    pub fn known_hosts_line(&self, address: SocketAddr) -> String {
        let key = self.key.public_key();
        let text = key.to_openssh().unwrap_or_default();
        // ssh looks for the bare name on port 22 and for the bracketed one on any other.
        match address.port() {
            22 => format!("{} {text}", address.ip()),
            port => format!("[{}]:{port} {text}", address.ip()),
        }
    }

    pub(super) fn private(&self) -> &PrivateKey {
        &self.key
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Content {
            path: path.to_owned(),
            reason,
        };
        let mut key = PrivateKey::from_openssh(text).map_err(|error| unusable(error.to_string()))?;
        if key.key_data().ed25519().is_none() {
            return Err(unusable("the host key is not an ed25519 key".to_owned()));
        }
        key.set_comment("");
        Ok(Self { key })
    }

    fn create(path: &Path) -> Result<Self, Error> {
        let failed = || Error::file("write the host key", path);
        let mut seed = [0; 32];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed)
            .map_err(|_| failed()(std::io::Error::other("the system gave no random numbers")))?;
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
        let text = key
            .to_openssh(LineEnding::LF)
            .map_err(|error| failed()(std::io::Error::other(error)))?;

        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(folder)
            .map_err(failed())?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.as_file().sync_all())
            .map_err(failed())?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(Self { key }),
            // Somebody else made one meanwhile: theirs counts.
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
                let text = std::fs::read(path).map_err(Error::file("read the host key", path))?;
                Self::parse(path, &text)
            }
            Err(error) => Err(failed()(error.error)),
        }
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostKey").field(self.key.public_key()).finish()
    }
}
