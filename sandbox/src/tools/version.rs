//! Reading versions out of what programs print.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use super::catalog::Accepts;

/// A `major.minor.patch` version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
}

impl Version {
    /// The first version in a text such as `Kubernetes v1.35.4` or `go version go1.26.8 linux/amd64`; a missing patch is 0.
    pub(crate) fn find(text: &str) -> Option<Self> {
        let starts = text.char_indices().filter(|(index, character)| {
            character.is_ascii_digit()
                && !text[..*index].ends_with(|before: char| before.is_ascii_digit() || before == '.')
        });
        starts.map(|(index, _)| &text[index..]).find_map(|rest| {
            let numbers = rest
                .split(|character: char| !character.is_ascii_digit() && character != '.')
                .next()?;
            let mut numbers = numbers.split('.').map(str::parse::<u64>);
            Some(Self {
                major: numbers.next()?.ok()?,
                minor: numbers.next()?.ok()?,
                patch: numbers.next().and_then(Result::ok).unwrap_or(0),
            })
        })
    }

    /// Whether this version does where `wanted` is pinned.
    pub(crate) fn satisfies(self, wanted: Self, accepts: Accepts) -> bool {
        self.major == wanted.major
            && match accepts {
                Accepts::SameMinor => self.minor == wanted.minor,
                Accepts::Minor(least) => self.minor >= least,
            }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Runs a program to learn its version.
///
/// # Errors
/// A sentence that says why there is none: it could not be run, took longer than ten seconds, or printed none.
pub(crate) async fn probe(program: &Path, arguments: &[&str]) -> Result<Version, String> {
    let run = Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .stdin(std::process::Stdio::null())
        .output();
    let output = tokio::time::timeout(Duration::from_secs(10), run)
        .await
        .map_err(|_| format!("{} did not print its version within 10 s", program.display()))?
        .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Version::find(&text).ok_or_else(|| {
        format!(
            "{} prints no version but {:?}",
            program.display(),
            text.lines().next().unwrap_or_default()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u64, minor: u64, patch: u64) -> Version {
        Version { major, minor, patch }
    }

    #[test]
    fn versions_are_found_where_programs_print_them() {
        for (text, expected) in [
            ("etcd Version: 3.6.16\nGit SHA: 0.1", version(3, 6, 16)),
            ("Kubernetes v1.35.4", version(1, 35, 4)),
            ("go version go1.26.8 linux/amd64", version(1, 26, 8)),
            ("argocd: v3.5.7+f3a2c1d", version(3, 5, 7)),
            (
                "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64",
                version(7, 0, 15),
            ),
            ("v3.22.0+g1234567", version(3, 22, 0)),
            ("Python 3.13", version(3, 13, 0)),
            ("OpenSSH_9.2p1 Debian-2+deb12u7, OpenSSL 3.0.17", version(9, 2, 0)),
        ] {
            assert_eq!(Version::find(text), Some(expected), "{text}");
        }
        assert_eq!(Version::find("no digits, 5 apples"), None);
    }

    #[test]
    fn a_control_plane_must_have_the_same_minor_version() {
        let wanted = version(1, 35, 4);
        assert!(version(1, 35, 0).satisfies(wanted, Accepts::SameMinor));
        assert!(!version(1, 34, 9).satisfies(wanted, Accepts::SameMinor));
        assert!(version(3, 14, 0).satisfies(version(3, 22, 0), Accepts::Minor(14)));
        assert!(!version(4, 14, 0).satisfies(version(3, 22, 0), Accepts::Minor(14)));
    }
}
