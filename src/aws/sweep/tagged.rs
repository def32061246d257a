//! The tagging API, for what no other listing asks after, and the keys that KMS deletes later.

use jiff::Timestamp;
use serde_json::json;

use super::owner::ENVIRONMENT_TAG;
use super::resource::{Resource, ResourceKind};
use crate::aws::{Aws, AwsError};

/// Services of which every resource is listed by their own calls, or deleted by name.
const ASKED_THEMSELVES: [&str; 6] = ["ec2", "iam", "elasticloadbalancing", "logs", "secretsmanager", "ssm"];

/// What an ARN of the tagging API is, unless its service was asked itself.
pub(super) fn read(cluster: &str, arn: &str) -> Option<Resource> {
    let mut parts = arn.splitn(6, ':').skip(2);
    let (service, rest) = (parts.next()?, parts.nth(2).unwrap_or_default());
    if ASKED_THEMSELVES.contains(&service) || (service == "eks" && rest == format!("cluster/{cluster}")) {
        return None;
    }
    let kind = match service {
        "kms" => ResourceKind::Key,
        "sqs" => ResourceKind::Queue,
        "events" if rest.starts_with("rule/") => ResourceKind::EventRule,
        _ => ResourceKind::Other,
    };
    let mut resource = Resource::new(kind, arn);
    resource.tags.insert(ENVIRONMENT_TAG.to_owned(), cluster.to_owned());
    resource
        .tags
        .insert("mfsre:managed-by".to_owned(), "terraform".to_owned());
    Some(resource)
}

impl Aws {
    /// ARNs of everything that carries the environment's tag. The tagging API lags, and does not know every resource.
    pub(super) async fn tagged(&self, name: &str) -> Result<Vec<String>, AwsError> {
        let mut arns = Vec::new();
        let mut token = String::new();
        loop {
            let body =
                json!({ "TagFilters": [{ "Key": ENVIRONMENT_TAG, "Values": [name] }], "PaginationToken": token });
            let answer = self
                .json_call(
                    "tagging",
                    "ResourceGroupsTaggingAPI_20170126.GetResources",
                    "tag:GetResources",
                    &body,
                )
                .await?;
            let page = answer["ResourceTagMappingList"].as_array().cloned().unwrap_or_default();
            arns.extend(page.iter().filter_map(|m| m["ResourceARN"].as_str().map(str::to_owned)));
            token = answer["PaginationToken"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                return Ok(arns);
            }
        }
    }

    /// When a KMS key is going to be deleted.
    pub(super) async fn key_deletion(&self, arn: &str) -> Result<Option<Timestamp>, AwsError> {
        let answer = self
            .json_call(
                "kms",
                "TrentService.DescribeKey",
                "kms:DescribeKey",
                &json!({ "KeyId": arn }),
            )
            .await?;
        let date = answer["KeyMetadata"]["DeletionDate"].as_f64();
        #[allow(clippy::cast_possible_truncation, reason = "a date fits, and seconds are enough")]
        Ok(date.and_then(|seconds| Timestamp::from_second(seconds as i64).ok()))
    }
}
