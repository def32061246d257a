use serde::Deserialize;
use serde_json::Value;

use super::aws::{Aws, Caller, LookupError};
use super::token::VerifiedToken;

/// The access policy that lets its holder do everything.
const CLUSTER_ADMIN: &str = "cluster-access-policy/AmazonEKSClusterAdminPolicy";

/// The group that may do everything in Kubernetes.
const MASTERS: &str = "system:masters";

/// EKS refuses groups of an access entry that begin with these; the emulator stores them.
const RESERVED_GROUPS: [&str; 5] = ["system:", "eks:", "aws:", "amazon:", "iam:"];

/// Whom a token stands for in Kubernetes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) username: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
    pub(super) access_key_id: String,
    pub(super) arn: String,
    pub(super) canonical_arn: String,
    pub(super) user_id: String,
    pub(super) session_name: String,
}

/// Why a caller with a genuine token has no access.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccessError {
    #[error("{0} has no access entry in the cluster")]
    NoEntry(String),
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    username: String,
    kubernetes_groups: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AssociatedPolicy {
    policy_arn: String,
    access_scope: Scope,
}

impl AssociatedPolicy {
    /// The ARN without the partition and the service.
    fn name(&self) -> &str {
        self.policy_arn.rsplit(':').next().unwrap_or_default()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scope {
    #[serde(rename = "type")]
    kind: String,
}

/// Looks up what the cluster's access entries give the caller.
pub(super) async fn resolve(
    aws: &Aws,
    cluster: &str,
    token: &VerifiedToken,
    caller: Caller,
) -> Result<User, AccessError> {
    let entries = list(
        aws,
        "eks:ListAccessEntries",
        &["clusters", cluster, "access-entries"],
        "accessEntries",
    )
    .await?;
    let arn = entries
        .iter()
        .filter_map(Value::as_str)
        .find(|arn| caller.principal.is_named_by(arn));
    let arn = arn.ok_or_else(|| AccessError::NoEntry(caller.principal.canonical.clone()))?;

    let described = aws
        .eks(
            "eks:DescribeAccessEntry",
            &["clusters", cluster, "access-entries", arn],
            &[],
        )
        .await?;
    let entry: Entry = serde_json::from_value(described["accessEntry"].clone()).unwrap_or_default();
    let path = ["clusters", cluster, "access-entries", arn, "access-policies"];
    let policies = list(
        aws,
        "eks:ListAssociatedAccessPolicies",
        &path,
        "associatedAccessPolicies",
    )
    .await?;

    let mut groups = entry.kubernetes_groups;
    groups.retain(|group| !RESERVED_GROUPS.iter().any(|prefix| group.starts_with(prefix)));
    let administrator = policies
        .into_iter()
        .filter_map(|policy| serde_json::from_value(policy).ok())
        .any(|policy: AssociatedPolicy| policy.name() == CLUSTER_ADMIN && policy.access_scope.kind == "cluster");
    if administrator {
        groups.push(MASTERS.to_owned());
    }
    Ok(user(&entry.username, groups, token, caller))
}

fn user(template: &str, groups: Vec<String>, token: &VerifiedToken, caller: Caller) -> User {
    let principal = caller.principal;
    // A session name may hold `@`, which a user name of Kubernetes may not in every place it is used.
    let session = principal.session_name.replace('@', "-");
    let username = match template {
        "" => principal.arn.clone(),
        template => template
            .replace("{{SessionName}}", &session)
            .replace("{{AccountID}}", &principal.account),
    };
    User {
        username,
        uid: format!("aws-iam-authenticator:{}:{}", principal.account, caller.user_id),
        groups,
        access_key_id: token.access_key_id.clone(),
        arn: principal.arn,
        canonical_arn: principal.canonical,
        user_id: caller.user_id,
        session_name: principal.session_name,
    }
}

/// All pages of a list.
async fn list(aws: &Aws, call: &'static str, path: &[&str], member: &str) -> Result<Vec<Value>, LookupError> {
    let mut items = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let query: Vec<(&str, &str)> = next.iter().map(|token| ("nextToken", token.as_str())).collect();
        let mut page = aws.eks(call, path, &query).await?;
        if let Value::Array(more) = page[member].take() {
            items.extend(more);
        }
        match page["nextToken"].take() {
            Value::String(token) if !token.is_empty() && next.as_ref() != Some(&token) => next = Some(token),
            _ => return Ok(items),
        }
    }
}
