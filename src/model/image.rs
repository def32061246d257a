use std::fmt;

use super::{Invalid, Scalar, scalar_traits};

/// Which version of an image is meant: a tag, a digest, or both as `TAG@DIGEST`, where the digest decides and the tag is
/// for people.
///
/// Tags and digests are those of the OCI distribution specification
/// (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests>); of the digest's
/// algorithms only SHA-256 is taken, which every registry has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageVersion {
    tag: Option<String>,
    digest: Option<String>,
}

/// Characters in a tag.
const LONGEST_TAG: usize = 128;
/// Characters in the value of a Kubernetes label
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).
const LONGEST_LABEL: usize = 63;

impl ImageVersion {
    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// A chart's `appVersion` for it. The charts put that into the label `app.kubernetes.io/version`, so it is made what a
    /// label may be: 63 characters that begin and end with a letter or a digit. A digest is shortened to 12 digits.
    #[must_use]
    pub fn app_version(&self) -> String {
        let text = match (&self.tag, &self.digest) {
            (Some(tag), _) => tag.clone(),
            (None, Some(digest)) => digest.replace(':', "-").chars().take("sha256-".len() + 12).collect(),
            (None, None) => String::new(),
        };
        let edge = |c: char| !c.is_ascii_alphanumeric();
        let text: String = text.trim_start_matches(edge).chars().take(LONGEST_LABEL).collect();
        let text = text.trim_end_matches(edge);
        // A tag may be all dashes and dots; Kubernetes takes an empty label, Helm an empty version.
        text.to_owned()
    }
}

/// Whether it is a tag.
fn is_tag(text: &str) -> bool {
    text.len() <= LONGEST_TAG
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Whether it is a digest.
fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)))
}

impl Scalar for ImageVersion {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let (tag, digest) = match text.split_once('@') {
            Some((tag, digest)) => (Some(tag), Some(digest)),
            None if text.contains(':') => (None, Some(text)),
            None => (Some(text), None),
        };
        if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
            return Err(Invalid::new(
                format!("{digest:?} is not the digest of an image"),
                "not a digest",
            )
            .hint("write sha256: and 64 hexadecimal digits in lower case, or a tag without the image's name, for example 1.4.0"));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(Invalid::new(format!("{tag:?} is not the tag of an image"), "not a tag").hint(
                "a tag has 1 to 128 letters, digits, dots, dashes and underscores, and does not begin with a dot or a dash",
            ));
        }
        Ok(Self {
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

impl fmt::Display for ImageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.tag, &self.digest) {
            (Some(tag), Some(digest)) => write!(f, "{tag}@{digest}"),
            (Some(one), None) | (None, Some(one)) => f.write_str(one),
            (None, None) => Ok(()),
        }
    }
}

scalar_traits!(ImageVersion, "ImageVersion", {
    "type": "string",
    "pattern": "^([A-Za-z0-9_][A-Za-z0-9._-]{0,127}(@sha256:[0-9a-f]{64})?|sha256:[0-9a-f]{64})$"
});

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_version_of_the_application_is_a_label() {
        let long = "x".repeat(128);
        for (written, expected) in [
            ("1.4.0", "1.4.0"),
            ("_v1.-", "v1"),
            (&*format!("1.4.0@{DIGEST}"), "1.4.0"),
            (DIGEST, "sha256-0123456789ab"),
            (&*long, &long[..63]),
            ("__", ""),
        ] {
            let version = ImageVersion::parse(written).unwrap();
            assert_eq!(version.app_version(), expected);
            assert_eq!(version.to_string(), written);
        }
    }
}
