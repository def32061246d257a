use std::fmt;

use super::{Invalid, Scalar, credentials, scalar_traits};

/// How Argo CD reaches a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// With the deploy key.
    Ssh,
    /// Anonymously; the repository is public.
    Https,
}

/// The Git repository that Argo CD reads: `git@host:owner/repo.git`, `ssh://user@host[:port]/owner/repo.git` or
/// `https://host/owner/repo.git`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryUrl {
    text: String,
    transport: Transport,
    host: String,
    port: Option<u16>,
    path: String,
}

impl RepositoryUrl {
    /// The URL as it was written; Argo CD compares repository URLs as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// SSH or HTTPS.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The git host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port where the URL gives one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path on the host, without the leading slash and the trailing `.git`; `owner/repo` on GitHub.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.strip_suffix(".git").unwrap_or(&self.path)
    }

    /// A repository of which only the form is known, as a new environment file has it.
    pub const PLACEHOLDER: &str = "git@github.com:OWNER/REPOSITORY.git";

    /// Whether this is the [`PLACEHOLDER`](Self::PLACEHOLDER), in any form.
    #[must_use]
    pub fn is_placeholder(&self) -> bool {
        self.path() == "OWNER/REPOSITORY"
    }

    /// Owner and repository name, the first and the last part of the path.
    #[must_use]
    pub fn owner_and_name(&self) -> Option<(&str, &str)> {
        self.path().split_once('/')
    }
}

fn plain(text: &str, extra: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

impl Scalar for RepositoryUrl {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let hint =
            "write git@github.com:owner/repo.git, ssh://git@host:port/owner/repo.git or https://host/owner/repo.git";
        let refuse = |message: String, label: &str| Err(Invalid::new(message, label).hint(hint));
        if text.is_empty() {
            return refuse("the repository URL is empty".into(), "a URL is needed");
        }
        if credentials(text).is_some() {
            return Err(
                Invalid::new("the repository URL carries credentials", "credentials in a URL")
                    .hint("remove them: the file is committed, and Argo CD would show them"),
            );
        }
        if let Some(c) = text
            .chars()
            .find(|c| c.is_control() || c.is_whitespace() || "\"'`\\${}<>|;&()*?!#".contains(*c))
        {
            return refuse(format!("a repository URL cannot contain {c:?}"), "not a repository URL");
        }
        let (transport, authority, path) = if let Some(rest) = text.strip_prefix("ssh://") {
            let Some((authority, path)) = rest.split_once('/') else {
                return refuse(format!("{text:?} names no repository"), "the path is missing");
            };
            let Some((user, host)) = authority.split_once('@') else {
                return Err(Invalid::new("the SSH URL names no user", "no user before the host")
                    .hint(format!("write ssh://git@{rest}")));
            };
            if !plain(user, "-_.") || user.starts_with('-') {
                return refuse(format!("{user:?} is not a user name for SSH"), "not a user name");
            }
            (Transport::Ssh, host, path)
        } else if let Some(rest) = text.strip_prefix("https://") {
            let Some((authority, path)) = rest.split_once('/') else {
                return refuse(format!("{text:?} names no repository"), "the path is missing");
            };
            (Transport::Https, authority, path)
        } else if let Some((scheme, _)) = text.split_once("://") {
            return Err(Invalid::new(
                format!("Argo CD is not pointed at a repository over {scheme}"),
                "neither SSH nor HTTPS",
            )
            .hint(hint));
        } else {
            let Some((authority, path)) = text.split_once(':') else {
                return refuse(format!("{text:?} is not a repository URL"), "neither SSH nor HTTPS");
            };
            let Some((user, host)) = authority.split_once('@') else {
                return refuse(format!("{text:?} is not a repository URL"), "no user before the host");
            };
            if !plain(user, "-_.") || user.starts_with('-') {
                return refuse(format!("{user:?} is not a user name for SSH"), "not a user name");
            }
            (Transport::Ssh, host, path)
        };
        let (host, port) = match authority.split_once(':') {
            None => (authority, None),
            Some((host, port)) => match port.parse::<u16>() {
                Ok(port) if port > 0 => (host, Some(port)),
                _ => return refuse(format!("{port:?} is not a port"), "not a port"),
            },
        };
        if !plain(host, "-.") || host.starts_with('-') || host.starts_with('.') {
            return refuse(format!("{host:?} is not a host name"), "not a host name");
        }
        let segments: Vec<&str> = path.split('/').collect();
        if segments.len() < 2 || segments.iter().any(|s| !plain(s, "-_.~") || *s == ".." || *s == ".") {
            return refuse(
                format!("{path:?} is not the path of a repository"),
                "expected owner/repo",
            );
        }
        if path.strip_suffix(".git").unwrap_or(path).ends_with('/') || segments.last() == Some(&".git") {
            return refuse(
                format!("{path:?} is not the path of a repository"),
                "expected owner/repo",
            );
        }
        Ok(Self {
            text: text.to_owned(),
            transport,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

scalar_traits!(RepositoryUrl, "RepositoryUrl", { "type": "string", "pattern": "^(https://|ssh://[^@/]+@|[^@/:]+@)[A-Za-z0-9.-]+[:/].+$" });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_name_the_same_repository() {
        for url in [
            "git@github.com:acme/platform.git",
            "ssh://git@github.com/acme/platform.git",
            "https://github.com/acme/platform",
        ] {
            let parsed = RepositoryUrl::parse(url).unwrap();
            assert_eq!(parsed.host(), "github.com", "{url}");
            assert_eq!(parsed.owner_and_name(), Some(("acme", "platform")), "{url}");
        }
        let with_port = RepositoryUrl::parse("ssh://git@127.0.0.1:30922/mfsre/platform.git").unwrap();
        assert_eq!(with_port.port(), Some(30922));
        assert_eq!(with_port.transport(), Transport::Ssh);
    }
}
