use std::fmt;

use super::{Invalid, Scalar, scalar_traits};

/// The name of an environment; every physical name on AWS is derived from it (see [`super::Names`]).
///
/// Lower-case letters, digits and single dashes, beginning with a letter, 2 to 32 characters. EKS takes up to 100
/// characters for a cluster, IAM and EventBridge 64 for a role or a rule, and the longest name derived here adds 32.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentName(String);

impl EnvironmentName {
    /// The longest name accepted, in characters.
    pub const MAX_LENGTH: usize = 32;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scalar for EnvironmentName {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let rule = "use lower-case letters, digits and single dashes, beginning with a letter, for example \"demo\"";
        if text.is_empty() {
            return Err(Invalid::new("the environment name is empty", "a name is needed").hint(rule));
        }
        let length = text.chars().count();
        if length > Self::MAX_LENGTH {
            return Err(Invalid::new(
                format!(
                    "the environment name has {length} characters; {} are allowed",
                    Self::MAX_LENGTH
                ),
                "too long",
            )
            .hint("names of IAM roles are built from it and end at 64 characters"));
        }
        let bad = text.char_indices().find(|&(i, c)| {
            let ok = c.is_ascii_lowercase() || (i > 0 && (c.is_ascii_digit() || c == '-'));
            !ok
        });
        if let Some((_, c)) = bad {
            return Err(Invalid::new(
                format!("the environment name cannot have {c:?} there"),
                "not a valid name",
            )
            .hint(rule));
        }
        if length < 2 {
            return Err(Invalid::new(
                "the environment name has one character; at least 2 are needed",
                "too short",
            )
            .hint(rule));
        }
        if text.starts_with("sg-") {
            return Err(
                Invalid::new("an environment name cannot begin with \"sg-\"", "reserved")
                    .hint("AWS keeps that prefix for the ids of security groups"),
            );
        }
        if text.ends_with('-') || text.contains("--") {
            return Err(Invalid::new(
                "dashes in an environment name stand alone and between other characters",
                "misplaced dash",
            )
            .hint(rule));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

scalar_traits!(EnvironmentName, "EnvironmentName", {
    "type": "string",
    "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$",
    "minLength": 2,
    "maxLength": 32
});
