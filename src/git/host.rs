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

    /// The registered key with this public part.
    fn find<'a>(&'a self, public: &'a str) -> BoxFuture<'a, Result<Option<RegisteredKey>, HostError>>;

    /// Registers a key for reading only.
    fn register<'a>(&'a self, title: &'a str, public: &'a str) -> BoxFuture<'a, Result<Registration, HostError>>;

    /// Removes a key; says whether it was there.
    fn remove<'a>(&'a self, public: &'a str) -> BoxFuture<'a, Result<bool, HostError>>;
}

/// Type and data of a public key, without its comment.
pub(super) fn key_data(public: &str) -> String {
    public.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// A host without an API that mfsre knows: a person registers the key.
#[derive(Debug)]
pub struct Manual {
    repository: String,
}

impl Manual {
    /// For the repository at this URL.
    #[must_use]
    pub fn new(repository: &str) -> Self {
        Self {
            repository: repository.to_owned(),
        }
    }
}

impl DeployKeyHost for Manual {
    fn describe(&self) -> String {
        format!("{} (deploy keys by hand)", self.repository)
    }

    fn find<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<RegisteredKey>, HostError>> {
        Box::pin(async { Ok(None) })
    }

    fn register<'a>(&'a self, title: &'a str, public: &'a str) -> BoxFuture<'a, Result<Registration, HostError>> {
        let instructions = format!(
            "add this key, read-only, to the deploy keys of {} under the title {title:?}:\n{public}",
            self.repository
        );
        Box::pin(async { Ok(Registration::Manual { instructions }) })
    }

    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<bool, HostError>> {
        Box::pin(async { Ok(false) })
    }
}
