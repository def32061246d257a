use std::fmt;

use super::{Invalid, Scalar, scalar_traits};

/// The ARN of an IAM user or role that an EKS access entry can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalArn(String);

impl PrincipalArn {
    /// The partition of AWS that the account is in.
    #[must_use]
    pub fn partition(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// The principal behind a caller's ARN as STS reports it: the session of an assumed role is its role, whose path
    /// STS leaves out.
    #[must_use]
    pub fn matches_caller(&self, caller: &str) -> bool {
        if self.0 == caller {
            return true;
        }
        let Some((head, session)) = caller.split_once(":assumed-role/") else {
            return false;
        };
        let Some((role, _)) = session.split_once('/') else {
            return false;
        };
        let head = head.replace(":sts::", ":iam::");
        self.0
            .strip_prefix(&format!("{head}:role/"))
            .is_some_and(|path| path.rsplit('/').next() == Some(role))
    }
}

impl Scalar for PrincipalArn {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let hint = "write the ARN of an IAM user or role, for example arn:aws:iam::123456789012:role/platform-admin";
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [arn, partition, service, region, account, resource] = parts.as_slice() else {
            return Err(Invalid::new(format!("{text:?} is not an ARN"), "not an ARN").hint(hint));
        };
        if *arn != "arn" || !partition.starts_with("aws") {
            return Err(Invalid::new(format!("{text:?} is not an ARN"), "not an ARN").hint(hint));
        }
        if *service == "sts" && resource.starts_with("assumed-role/") {
            return Err(Invalid::new(
                "a session of a role cannot be an administrator, the role can",
                "a session's ARN",
            )
            .hint("write the role's ARN as `aws iam get-role` prints it"));
        }
        let account_ok = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        let resource_ok = *resource == "root"
            || ["user/", "role/"].iter().any(|kind| {
                resource
                    .strip_prefix(kind)
                    .is_some_and(|name| !name.is_empty() && name.is_ascii() && !name.contains(char::is_whitespace))
            });
        if *service != "iam" || !region.is_empty() || !account_ok || !resource_ok {
            return Err(Invalid::new(
                format!("{text:?} is not the ARN of an IAM user or role"),
                "not an IAM principal",
            )
            .hint(hint));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PrincipalArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

scalar_traits!(PrincipalArn, "PrincipalArn", { "type": "string", "pattern": "^arn:aws[a-z-]*:iam::[0-9]{12}:(root|user/.+|role/.+)$" });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_a_role_is_its_role_whatever_its_path() {
        let role = PrincipalArn::parse("arn:aws:iam::123456789012:role/team/admin").unwrap();
        assert!(role.matches_caller("arn:aws:sts::123456789012:assumed-role/admin/alice"));
        assert!(role.matches_caller("arn:aws:iam::123456789012:role/team/admin"));
        assert!(!role.matches_caller("arn:aws:sts::123456789012:assumed-role/administrator/alice"));
        assert!(!role.matches_caller("arn:aws:sts::210987654321:assumed-role/admin/alice"));
    }
}
