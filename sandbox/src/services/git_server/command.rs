use std::fmt;

/// What a client may ask a Git server to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Fetch.
    UploadPack,
    /// Push.
    ReceivePack,
}

impl Service {
    /// The subcommand of git.
    pub(super) const fn subcommand(self) -> &'static str {
        match self {
            Self::UploadPack => "upload-pack",
            Self::ReceivePack => "receive-pack",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "git-{}", self.subcommand())
    }
}

/// A request that git sent over SSH: a service and the path of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GitCommand {
    pub(super) service: Service,
    pub(super) path: String,
}

impl GitCommand {
    /// Reads `git-upload-pack '<path>'` and `git-receive-pack '<path>'`, and nothing else.
    ///
    /// No shell is involved. A path with a quote or a backslash in it names no repository here, so that git's whole
    /// quoting (`sq_quote`) is not needed to understand every path that can succeed.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let (program, argument) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        let service = match program {
            "git-upload-pack" => Service::UploadPack,
            "git-receive-pack" => Service::ReceivePack,
            _ => return None,
        };
        let quoted = argument.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        let path = quoted.unwrap_or(argument);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '~');
        (!path.is_empty() && path.chars().all(plain)).then(|| Self {
            service,
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{GitCommand, Service};

    #[test]
    fn reads_what_git_sends() {
        let parsed = GitCommand::parse(b"git-upload-pack '/acme/platform.git'").unwrap();
        assert_eq!(
            parsed,
            GitCommand {
                service: Service::UploadPack,
                path: "/acme/platform.git".to_owned()
            }
        );
        let parsed = GitCommand::parse(b"git-receive-pack 'acme/platform'").unwrap();
        assert_eq!(
            parsed,
            GitCommand {
                service: Service::ReceivePack,
                path: "acme/platform".to_owned()
            }
        );
    }

    #[test]
    fn reads_nothing_else() {
        for line in [
            "",
            "ls",
            "git-upload-pack",
            "git-upload-pack ",
            "git-upload-pack ''",
            "git upload-pack '/acme/platform'",
            "git-upload-archive '/acme/platform'",
            "git-upload-pack '/acme/platform'; id",
            "git-upload-pack '/acme/platform' '/etc'",
            "git-upload-pack --upload-pack=id '/acme/platform'",
            "git-upload-pack '/acme/$(id)'",
            "git-upload-pack '/acme/`id`'",
            "git-upload-pack '/acme/'\\''x'",
            "git-upload-pack '/acme/platform\n'",
        ] {
            assert_eq!(GitCommand::parse(line.as_bytes()), None, "{line:?}");
        }
        assert_eq!(GitCommand::parse(b"git-upload-pack '\xff'"), None);
    }
}
