//! IAM: the instance profiles that Karpenter makes, and the blueprint's roles.

use super::ec2::owned;
use super::resource::{Resource, ResourceKind};
use super::{Attempt, attempt, owner};
use crate::aws::query::{Element, Service};
use crate::aws::{Aws, AwsError};

const IAM: Service = Service {
    name: "iam",
    version: "2010-05-08",
    global: true,
};

/// Whether an instance profile may be this cluster's. Only then its tags are asked for, which takes a call each: a listing
/// has none. Karpenter puts the cluster's name first and an underscore behind it, or into the path.
pub(super) fn is_candidate(cluster: &str, name: &str, path: &str, role: &str) -> bool {
    name.strip_prefix(cluster)
        .is_some_and(|rest| rest.starts_with(['_', '-']))
        || path.split('/').any(|part| part == cluster)
        || owner::roles(cluster).iter().any(|known| known == role)
}

impl Aws {
    async fn iam_pages(&self, call: &'static str, result: &str) -> Result<Vec<Element>, AwsError> {
        let mut answers = Vec::new();
        let mut marker = String::new();
        loop {
            let parameters = owned(&[("Marker", &marker)]);
            let parameters = if marker.is_empty() { &[][..] } else { &parameters };
            let answer = self.query(&IAM, call, parameters).await?;
            marker = answer.root().text_at(&[result, "Marker"]).to_owned();
            let more = answer.root().text_at(&[result, "IsTruncated"]) == "true" && !marker.is_empty();
            answers.push(answer);
            if !more {
                return Ok(answers);
            }
        }
    }

    /// Roles whose names the blueprint would give.
    pub(super) async fn roles_of(&self, cluster: &str) -> Result<Vec<Resource>, AwsError> {
        let ours = owner::roles(cluster);
        let answers = self.iam_pages("iam:ListRoles", "ListRolesResult").await?;
        let members = answers
            .iter()
            .flat_map(|answer| answer.root().all(&["ListRolesResult", "Roles", "member"]));
        Ok(members
            .map(|member| member.text_at(&["RoleName"]).to_owned())
            .filter(|name| ours.contains(name))
            .map(|name| Resource::new(ResourceKind::Role, name))
            .collect())
    }

    /// Instance profiles that may be the cluster's, with their tags.
    pub(super) async fn instance_profiles(&self, cluster: &str) -> Result<Vec<Resource>, AwsError> {
        const RESULT: &str = "ListInstanceProfilesResult";
        let answers = self.iam_pages("iam:ListInstanceProfiles", RESULT).await?;
        let mut found = Vec::new();
        for member in answers
            .iter()
            .flat_map(|answer| answer.root().all(&[RESULT, "InstanceProfiles", "member"]))
        {
            let (name, role) = (
                member.text_at(&["InstanceProfileName"]),
                member.text_at(&["Roles", "member", "RoleName"]),
            );
            if !is_candidate(cluster, name, member.text_at(&["Path"]), role) {
                continue;
            }
            let parameters = owned(&[("InstanceProfileName", name)]);
            let tags = match self.query(&IAM, "iam:ListInstanceProfileTags", &parameters).await {
                Err(error) if error.is_missing() => continue,
                answer => answer?,
            };
            let tags = tags
                .root()
                .all(&["ListInstanceProfileTagsResult", "Tags", "member"])
                .into_iter()
                .map(|tag| (tag.text_at(&["Key"]).to_owned(), tag.text_at(&["Value"]).to_owned()));
            found.push(Resource {
                detail: role.to_owned(),
                tags: tags.collect(),
                ..Resource::new(ResourceKind::InstanceProfile, name)
            });
        }
        Ok(found)
    }

    /// Deletes an instance profile, after its role was taken out of it.
    pub(super) async fn delete_instance_profile(&self, name: &str, role: &str) -> Attempt {
        if !role.is_empty() {
            let parameters = owned(&[("InstanceProfileName", name), ("RoleName", role)]);
            match attempt(self.query(&IAM, "iam:RemoveRoleFromInstanceProfile", &parameters).await) {
                Attempt::Removed => {}
                other => return other,
            }
        }
        let parameters = owned(&[("InstanceProfileName", name)]);
        attempt(self.query(&IAM, "iam:DeleteInstanceProfile", &parameters).await)
    }
}
