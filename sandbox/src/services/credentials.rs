use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// The access keys that are valid in the sandbox: its own, and those that its emulator issued through the proxy.
///
/// Clones share the same set, so that a key issued through [`super::aws_proxy`] is known to
/// [`super::token_webhook`] at once.
#[derive(Clone)]
pub struct Credentials {
    own_id: String,
    secrets: Arc<RwLock<HashMap<String, String>>>,
}

impl Credentials {
    /// A set that holds the sandbox's own access key.
    #[must_use]
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        let own_id = access_key_id.into();
        let secrets = HashMap::from([(own_id.clone(), secret_access_key.into())]);
        Self {
            own_id,
            secrets: Arc::new(RwLock::new(secrets)),
        }
    }

    /// Adds a key that the emulator issued.
    pub(super) fn learn(&self, access_key_id: String, secret_access_key: String) {
        self.secrets
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(access_key_id, secret_access_key);
    }

    /// Removes a key that the emulator deleted; the sandbox's own stays.
    pub(super) fn forget(&self, access_key_id: &str) {
        if access_key_id != self.own_id {
            self.secrets
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(access_key_id);
        }
    }

    /// Whether the key is valid.
    pub(super) fn knows(&self, access_key_id: &str) -> bool {
        self.secrets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(access_key_id)
    }

    /// The secret of a valid key.
    pub(super) fn secret(&self, access_key_id: &str) -> Option<String> {
        self.secrets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(access_key_id)
            .cloned()
    }

    /// The sandbox's own access key id.
    pub(super) fn own_id(&self) -> &str {
        &self.own_id
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("own_id", &self.own_id)
            .finish_non_exhaustive()
    }
}
