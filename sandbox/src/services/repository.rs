use std::fmt;
use std::str::FromStr;

/// The name of a repository on a Git host, `owner/name`.
///
/// Like GitHub's, names are compared without regard to case.
#[derive(Debug, Clone)]
pub struct RepositoryName {
    owner: String,
    name: String,
}

/// A text is not the name of a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a repository name: expected owner/name of letters, digits, '.', '-' and '_'")]
pub struct InvalidRepositoryName(String);

impl RepositoryName {
    /// The account that owns the repository.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The name without its owner.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a path of an SSH or HTTP request means this repository; a leading slash and a trailing `.git` are
    /// optional, as on GitHub.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix(".git").unwrap_or(path);
        path.split_once('/')
            .is_some_and(|(owner, name)| self.owner.eq_ignore_ascii_case(owner) && self.name.eq_ignore_ascii_case(name))
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidRepositoryName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (owner, name) = text
            .split_once('/')
            .ok_or_else(|| InvalidRepositoryName(text.to_owned()))?;
        // The name becomes a folder, so it must not be able to leave its parent or look like an option.
        let valid = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        };
        if valid(owner) && valid(name) && !name.ends_with(".git") {
            Ok(Self {
                owner: owner.to_owned(),
                name: name.to_owned(),
            })
        } else {
            Err(InvalidRepositoryName(text.to_owned()))
        }
    }
}

impl PartialEq for RepositoryName {
    fn eq(&self, other: &Self) -> bool {
        self.owner.eq_ignore_ascii_case(&other.owner) && self.name.eq_ignore_ascii_case(&other.name)
    }
}

impl Eq for RepositoryName {}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl serde::Serialize for RepositoryName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for RepositoryName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::RepositoryName;

    #[test]
    fn a_name_that_could_leave_its_folder_is_refused() {
        for name in [
            "",
            "demo",
            "../demo",
            "owner/..",
            "owner/.git",
            "owner/a/b",
            "owner/-x",
            "o wner/demo",
            "owner/demo.git",
        ] {
            assert!(name.parse::<RepositoryName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn slash_suffix_and_case_do_not_matter_in_a_path() {
        let repository: RepositoryName = "Acme/platform".parse().unwrap();
        for path in [
            "acme/platform",
            "/acme/platform",
            "/Acme/Platform.git",
            "acme/platform.git",
        ] {
            assert!(repository.is_at(path), "{path:?}");
        }
        for path in [
            "acme/platform/x",
            "acme/other",
            "//acme/platform",
            "acme/platform.git.git",
            "",
        ] {
            assert!(!repository.is_at(path), "{path:?}");
        }
    }
}
