//! Headers whose values stand in files.

use base64::Engine as _;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use super::FetchError;
use crate::config::{Credential, Scheme};

/// A file may hold a token, but no more.
const MAX_LENGTH: u64 = 64 * 1024;

/// Writes the headers behind the head of a request. Each file is read now, since it may have been replaced.
pub(super) async fn append(credentials: &[Credential], head: &mut Zeroizing<Vec<u8>>) -> Result<(), FetchError> {
    for credential in credentials {
        let failed = |source| FetchError::CredentialsFile {
            path: credential.file.clone(),
            source,
        };
        let mut text = Zeroizing::new(String::new());
        tokio::fs::File::open(&credential.file)
            .await
            .map_err(failed)?
            .take(MAX_LENGTH)
            .read_to_string(&mut text)
            .await
            .map_err(failed)?;
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() || secret.contains(|c: char| c.is_control() && c != '\t') {
            return Err(FetchError::CredentialsText {
                path: credential.file.clone(),
            });
        }
        let value = match &credential.scheme {
            Scheme::Plain => Zeroizing::new(secret.to_owned()),
            Scheme::Bearer => Zeroizing::new(format!("Bearer {secret}")),
            Scheme::Basic(username) => {
                let pair = Zeroizing::new(format!("{username}:{secret}"));
                let coded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
                Zeroizing::new(format!("Basic {}", *coded))
            }
        };
        for part in [credential.header.as_str(), ": ", &value, "\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
    }
    Ok(())
}
