use std::fmt;

use super::{Invalid, Scalar, scalar_traits};

/// An AWS region code such as `eu-west-1`. Which regions exist is AWS's to say; only the form is checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region(String);

impl Region {
    /// The region code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition, as ARNs name it
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html#arns-syntax>).
    #[must_use]
    pub fn partition(&self) -> &'static str {
        match self.0.split('-').next() {
            Some("cn") => "aws-cn",
            Some("us") if self.0.starts_with("us-gov-") => "aws-us-gov",
            Some("us") if self.0.starts_with("us-iso-") => "aws-iso",
            Some("us") if self.0.starts_with("us-isob-") => "aws-iso-b",
            Some("us") if self.0.starts_with("us-isof-") => "aws-iso-f",
            Some("eu") if self.0.starts_with("eu-isoe-") => "aws-iso-e",
            _ => "aws",
        }
    }

    /// The region for which calls of services are signed that have one endpoint for the whole partition, as IAM has
    /// (<https://docs.aws.amazon.com/general/latest/gr/iam-service.html>).
    #[must_use]
    pub fn global(&self) -> &'static str {
        match self.partition() {
            "aws-cn" => "cn-north-1",
            "aws-us-gov" => "us-gov-west-1",
            _ => "us-east-1",
        }
    }

    /// The partition's DNS suffix, as in the endpoint tables of the AWS SDKs.
    #[must_use]
    pub fn dns_suffix(&self) -> &'static str {
        if self.0.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        }
    }
}

impl Scalar for Region {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split('-').collect();
        let letters = |s: &&str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase());
        let well_formed = matches!(parts.as_slice(), [first, middle @ .., last]
            if !middle.is_empty() && middle.len() <= 3 && first.len() == 2
                && letters(first) && middle.iter().all(letters)
                && last.len() <= 2 && !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()));
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                Invalid::new(format!("{text:?} is not an AWS region"), "not a region code").hint(
                    "write the code, for example eu-west-1; an availability zone such as eu-west-1a is not a region",
                ),
            )
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

scalar_traits!(Region, "Region", { "type": "string", "pattern": "^[a-z]{2}(-[a-z]+){1,3}-[0-9]{1,2}$" });
