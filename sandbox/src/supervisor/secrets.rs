//! The sandbox's own credentials: random, different for each sandbox, worthless outside it.

use crate::crypto::random_text;
use crate::{Error, Secret};

const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX: &[u8] = b"0123456789abcdef";

/// What parts authenticate with.
#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    /// Shaped like AWS's: the emulator takes an id of twelve digits for an account.
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub git_api_token: Secret,
    pub redis_password: Secret,
}

impl Secrets {
    pub(crate) fn generate() -> Result<Self, Error> {
        Ok(Self {
            access_key_id: format!("AKIA{}", random_text(16, BASE32)?),
            secret_access_key: Secret::new(random_text(40, BASE64)?),
            git_api_token: Secret::new(format!("github_pat_{}", random_text(40, HEX)?)),
            redis_password: Secret::new(random_text(32, HEX)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_are_not_shown() {
        let (one, other) = (Secrets::generate().unwrap(), Secrets::generate().unwrap());
        assert_ne!(one.secret_access_key, other.secret_access_key);
        assert_eq!(one.access_key_id.len(), 20);
        let shown = format!("{one:?}");
        for secret in [&one.secret_access_key, &one.git_api_token, &one.redis_password] {
            assert!(!shown.contains(secret.expose()));
        }
    }
}
