/// A caller of AWS by its ARN (aws-iam-authenticator, `pkg/arn/arn.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Principal {
    /// As STS names it.
    pub(super) arn: String,
    /// As IAM names it: a session of a role becomes the role, without its path, which STS does not tell.
    pub(super) canonical: String,
    /// Of the account.
    pub(super) account: String,
    /// Of a role's session, else empty.
    pub(super) session_name: String,
}

impl Principal {
    /// None where the ARN is of nothing that can call.
    pub(super) fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (prefix, partition) = (parts.next()?, parts.next()?);
        let (service, _region) = (parts.next()?, parts.next()?);
        let (account, resource) = (parts.next()?, parts.next()?);
        if prefix != "arn" || !partition.starts_with("aws") {
            return None;
        }
        let (kind, rest) = resource.split_once('/').unwrap_or((resource, ""));
        let (canonical, session_name) = match (service, kind) {
            ("sts", "assumed-role") => {
                let (role, session) = rest.rsplit_once('/')?;
                (format!("arn:{partition}:iam::{account}:role/{role}"), session)
            }
            ("sts", "federated-user") | ("iam", "role" | "user") if !rest.is_empty() => (arn.to_owned(), ""),
            ("iam", "root") if rest.is_empty() => (arn.to_owned(), ""),
            _ => return None,
        };
        Some(Self {
            arn: arn.to_owned(),
            canonical,
            account: account.to_owned(),
            session_name: session_name.to_owned(),
        })
    }

    /// Whether an access entry for this ARN is for this caller.
    ///
    /// An entry names a role with its path and STS does not; the name alone is unique in an account, so the path is
    /// left out of the comparison.
    pub(super) fn is_named_by(&self, entry_arn: &str) -> bool {
        without_role_path(&self.canonical) == without_role_path(entry_arn)
    }
}

fn without_role_path(arn: &str) -> String {
    match arn.split_once(":role/") {
        Some((account, role)) => format!("{account}:role/{}", role.rsplit('/').next().unwrap_or(role)),
        None => arn.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::Principal;

    #[test]
    fn a_session_becomes_its_role() {
        let principal = Principal::parse("arn:aws:sts::123456789012:assumed-role/admin/alice@example.com").unwrap();
        assert_eq!(principal.canonical, "arn:aws:iam::123456789012:role/admin");
        assert_eq!(principal.session_name, "alice@example.com");
        assert_eq!(principal.account, "123456789012");
        assert!(principal.is_named_by("arn:aws:iam::123456789012:role/admin"));
        assert!(principal.is_named_by("arn:aws:iam::123456789012:role/team/admin"));
        assert!(!principal.is_named_by("arn:aws:iam::210987654321:role/admin"));
        assert!(!principal.is_named_by("arn:aws:iam::123456789012:user/admin"));
        assert!(!principal.is_named_by("arn:aws:iam::123456789012:role/admin2"));
    }

    #[test]
    fn others_are_themselves() {
        for arn in [
            "arn:aws:iam::123456789012:root",
            "arn:aws:iam::123456789012:user/team/bob",
            "arn:aws-cn:iam::123456789012:role/x",
            "arn:aws:sts::123456789012:federated-user/bob",
        ] {
            let principal = Principal::parse(arn).unwrap();
            assert_eq!(principal.canonical, arn);
            assert!(principal.is_named_by(arn));
        }
        let bob = Principal::parse("arn:aws:iam::123456789012:user/team/bob").unwrap();
        assert!(!bob.is_named_by("arn:aws:iam::123456789012:user/bob"));
    }

    #[test]
    fn what_cannot_call_is_refused() {
        for arn in [
            "",
            "arn:aws:iam::1:group/x",
            "arn:aws:s3:::bucket",
            "arn:aws:sts::1:assumed-role/x",
            "arn:gcp:iam::1:root",
            "arn:aws:iam::1:user/",
        ] {
            assert_eq!(Principal::parse(arn), None, "{arn}");
        }
    }
}
