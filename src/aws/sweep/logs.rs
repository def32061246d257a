//! CloudWatch's log groups, which are known by their exact names.

use serde_json::{Value, json};

use super::resource::{Resource, ResourceKind};
use super::{Attempt, attempt, owner};
use crate::aws::{Aws, AwsError};

/// The log groups of `cluster` in an answer to a search by a prefix, which finds those of longer names too.
pub(super) fn read(cluster: &str, answer: &Value) -> Vec<Resource> {
    let ours = owner::log_groups(cluster);
    let groups = answer["logGroups"].as_array().into_iter().flatten();
    groups
        .filter_map(|group| group["logGroupName"].as_str())
        .filter(|name| ours.iter().any(|known| known == name))
        .map(|name| Resource::new(ResourceKind::LogGroup, name))
        .collect()
}

impl Aws {
    /// The log groups of `cluster`.
    pub(super) async fn log_groups(&self, cluster: &str) -> Result<Vec<Resource>, AwsError> {
        let mut found: Vec<Resource> = Vec::new();
        for name in owner::log_groups(cluster) {
            // Few groups begin with a whole name: one page has them.
            let answer = self
                .json_call(
                    "logs",
                    "Logs_20140328.DescribeLogGroups",
                    "logs:DescribeLogGroups",
                    &json!({ "logGroupNamePrefix": name }),
                )
                .await?;
            for group in read(cluster, &answer) {
                if !found.contains(&group) {
                    found.push(group);
                }
            }
        }
        Ok(found)
    }

    pub(super) async fn delete_log_group(&self, name: &str) -> Attempt {
        attempt(
            self.json_call(
                "logs",
                "Logs_20140328.DeleteLogGroup",
                "logs:DeleteLogGroup",
                &json!({ "logGroupName": name }),
            )
            .await,
        )
    }
}
