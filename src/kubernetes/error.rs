/// A call of the Kubernetes API that failed.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// No token could be made.
    #[error("cannot make a token for the cluster: {0}")]
    Token(String),
    /// The client cannot be set up.
    #[error("cannot set up a client for {endpoint}: {message}")]
    Client {
        /// Address of the API.
        endpoint: String,
        /// Why.
        message: String,
    },
    /// The API answered with an error, or not at all.
    #[error("cannot {verb} {object}")]
    Call {
        /// What was attempted.
        verb: &'static str,
        /// On what.
        object: String,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// No pod is there to be reached.
    #[error("no pod {selector} in {namespace} is ready")]
    NoPod {
        /// Label selector.
        selector: String,
        /// Namespace.
        namespace: String,
    },
    /// No port of this machine can be listened on.
    #[error("cannot listen on a port of 127.0.0.1")]
    Listen(#[source] std::io::Error),
    /// An object is not one.
    #[error("this is not a Kubernetes object: {0}")]
    NotAnObject(String),
    /// A kubeconfig file cannot be read or written.
    #[error("cannot {what}")]
    Kubeconfig {
        /// What was attempted.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// What a kubeconfig shall be written to is no file.
    #[error("{0} is not a regular file, nor a link to one")]
    NoRegularFile(String),
    /// A kubeconfig has an entry of the name that somebody else made.
    #[error("{path} has a {what} {name} that is not mfsre's, and it would be lost")]
    ForeignEntry {
        /// The file.
        path: String,
        /// `cluster`, `context` or `user`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A kubeconfig file is not YAML, or not a kubeconfig.
    #[error("{path} is not a kubeconfig: {message}")]
    BadKubeconfig {
        /// The file.
        path: String,
        /// Why.
        message: String,
    },
}

impl KubernetesError {
    /// The HTTP status of the answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Call { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether trying again can help: no answer, too many requests, a conflict, or a fault of the server.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Call { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => matches!(status.code, 409 | 429 | 500..=599),
                kube::Error::HyperError(_) | kube::Error::Service(_) => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the API does not know who calls: an unknown principal, or a token that has expired.
    pub(super) fn is_unknown_caller(&self) -> bool {
        self.status() == Some(401)
    }

    /// The API's own words.
    fn message(&self) -> &str {
        match self {
            Self::Call { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => &status.message,
                _ => "",
            },
            _ => "",
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let message = self.message();
        let hint = match self.status() {
            Some(500..=599) if message.contains("failed calling webhook") => {
                "an admission webhook that must allow this does not answer: look at what serves it (kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations), and run the same command again once it does"
            }
            Some(_) if message.contains("admission webhook") => {
                "a policy of this cluster does not allow it: ask whoever keeps the admission webhook that is named above"
            }
            Some(401) => {
                "the cluster does not know you: add your IAM role or user to access.administrators and run `mfsre up` again; if it knew you before, your AWS session has expired: sign in again and run the same command again"
            }
            Some(403) => {
                "the cluster knows you and does not allow this: your access entry needs AmazonEKSClusterAdminPolicy"
            }
            Some(404) => {
                "what this needs is not there, or is being taken away: look whether somebody else is at work on this environment (mfsre status), and run the same command again"
            }
            Some(409) => {
                "something else changes it all the time: look who (kubectl get -o yaml --show-managed-fields), and run the same command again"
            }
            Some(429) => {
                "the API server has too many requests: wait a minute and run the same command again; what was done stands"
            }
            Some(500..=599) => {
                "the API server has a disturbance: wait a minute and run the same command again; what was done stands"
            }
            Some(_) => return None,
            None => match self {
                Self::NoPod { selector, namespace } => {
                    return Some(format!(
                        "look at it with `kubectl -n {namespace} get pods -l {selector}`, and run the same command again once it is ready"
                    ));
                }
                Self::Call { .. } => {
                    "check that this machine reaches the cluster's endpoint (cluster.public_access_cidrs, VPN), and run the same command again; what was done stands"
                }
                Self::Token(_) => {
                    "sign in to AWS again (for example aws sso login) and run the same command again; what was done stands, and it goes on from there"
                }
                Self::Kubeconfig { source, .. } => return io_hint(source.kind()).map(str::to_owned),
                Self::BadKubeconfig { .. } => {
                    "mend or move the file, or name another with --file; it was left as it is"
                }
                Self::NoRegularFile(_) => "name a file with --file, or use --print for standard output",
                Self::ForeignEntry { name, .. } => {
                    return Some(format!(
                        "write to a file of its own with --file PATH and name that in KUBECONFIG, or rename or delete what is called {name} (kubectl config rename-context, delete-user, delete-cluster)"
                    ));
                }
                _ => return None,
            },
        };
        Some(hint.to_owned())
    }
}

/// The next step where a kubeconfig cannot be written; it is then as it was.
fn io_hint(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind as Kind;
    match kind {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
            Some("free some disk space and run the same command again; the file is as it was")
        }
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
            Some("make the folder writable for you, or name another file with --file; the file is as it was")
        }
        _ => None,
    }
}
