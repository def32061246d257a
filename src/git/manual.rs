use futures_util::future::BoxFuture;

use super::host::{DeployKeyHost, HostError, RegisteredKey, Registration};

/// A host without an API that mfsre knows: a person registers the key, and a fetch with it shows that it is done.
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

    fn is_manual(&self) -> bool {
        true
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<RegisteredKey>, HostError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn register<'a>(&'a self, title: &'a str, public: &'a str) -> BoxFuture<'a, Result<Registration, HostError>> {
        let instructions = format!(
            "add this key, read-only, to the deploy keys of {} under the title {title:?}:\n{public}",
            self.repository
        );
        Box::pin(async { Ok(Registration::Manual { instructions }) })
    }

    fn delete<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<bool, HostError>> {
        Box::pin(async { Ok(false) })
    }
}
