use futures_util::future::BoxFuture;

/// A deploy key as a host knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredKey {
    /// The host's id.
    pub id: String,
    /// Title.
    pub title: String,
    /// Public key, type and data.
    pub key: String,
    /// Whether it may only read.
    pub read_only: bool,
}

impl RegisteredKey {
    /// Whether this is the key with the public part `public`, whatever its comment.
    #[must_use]
    pub fn is(&self, public: &str) -> bool {
        key_data(&self.key) == key_data(public)
    }
}

/// What registering a key came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// It was registered.
    Registered,
    /// It was there.
    Present,
    /// A person has to do it.
    Manual {
        /// What to do.
        instructions: String,
    },
}

/// A call of a git host that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {attempted}: {message}")]
pub struct HostError {
    /// What was attempted.
    pub attempted: String,
    /// What came back.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

/// A git host's deploy keys of one repository.
pub trait DeployKeyHost: Send + Sync {
    /// Where it is, for people.
    fn describe(&self) -> String;

    /// Whether a person does what the other methods would; then the host cannot be asked either.
    fn is_manual(&self) -> bool {
        false
    }

    /// Every registered key; none where the host cannot be asked.
    fn list(&self) -> BoxFuture<'_, Result<Vec<RegisteredKey>, HostError>>;

    /// Registers a key for reading only.
    fn register<'a>(&'a self, title: &'a str, public: &'a str) -> BoxFuture<'a, Result<Registration, HostError>>;

    /// Removes the key with the host's id `id`; says whether it was there, as far as the host tells.
    fn delete<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, HostError>>;

    /// The registered key with this public part.
    fn find<'a>(&'a self, public: &'a str) -> BoxFuture<'a, Result<Option<RegisteredKey>, HostError>> {
        Box::pin(async move { Ok(self.list().await?.into_iter().find(|k| k.is(public))) })
    }

    /// Removes the key with this public part; says whether it was there.
    fn remove<'a>(&'a self, public: &'a str) -> BoxFuture<'a, Result<bool, HostError>> {
        Box::pin(async move {
            match self.find(public).await? {
                Some(key) => self.delete(&key.id).await,
                None => Ok(false),
            }
        })
    }
}

/// Type and data of a public key, without its comment.
pub(super) fn key_data(public: &str) -> String {
    public.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
