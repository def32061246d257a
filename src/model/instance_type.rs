use std::fmt;

use super::{Invalid, Scalar, scalar_traits};

/// An EC2 instance type such as `t3.medium`: a family and a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceType(String);

impl InstanceType {
    /// The processor architecture, as EC2 names it. A `g` among the attributes, which follow the generation's number, is an AWS
    /// Graviton processor; `a1` is the first of them, without one
    /// (<https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html>).
    #[must_use]
    pub fn architecture(&self) -> &'static str {
        let family = self.0.split(['.', '-']).next().unwrap_or_default();
        let attributes = family.trim_start_matches(|c: char| c.is_ascii_lowercase());
        if family == "a1" || attributes.contains('g') {
            "arm64"
        } else {
            "x86_64"
        }
    }
}

impl Scalar for InstanceType {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let family_ok = |f: &str| {
            f.starts_with(|c: char| c.is_ascii_lowercase())
                && f.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                && f.chars().any(|c| c.is_ascii_digit())
        };
        let size_ok = |s: &str| {
            !s.is_empty()
                && s.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        let well_formed = text.split_once('.').is_some_and(|(f, s)| family_ok(f) && size_ok(s));
        if !well_formed {
            return Err(
                Invalid::new(format!("{text:?} is not an EC2 instance type"), "not an instance type")
                    .hint("write a family and a size, for example t3.medium"),
            );
        }
        if matches!(
            text,
            "t2.nano" | "t3.nano" | "t3a.nano" | "t4g.nano" | "t2.micro" | "t3.micro" | "t3a.micro" | "t4g.micro"
        ) {
            return Err(Invalid::new(
                format!("{text} holds too few pods for the platform's add-ons"),
                "4 pods at most",
            )
            .hint("choose t3.small or larger"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for InstanceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

scalar_traits!(InstanceType, "InstanceType", { "type": "string", "pattern": "^[a-z][a-z0-9-]*\\.[a-z0-9-]+$" });
