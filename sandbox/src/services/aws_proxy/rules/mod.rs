//! What the emulator lacks or gets wrong, one file each.

mod catalog;
mod creation_tags;
mod ec2_flow_logs;
mod ec2_launch_templates;
mod ec2_network_interfaces;
mod ec2_security_group_ports;
mod eks_addon_versions;
mod eks_addons;
mod eks_cluster;
mod eks_cluster_versions;
mod eks_nodegroup;
mod eks_tags;
mod eks_updates;
mod elb_load_balancers;
mod iam_issued_keys;
mod secretsmanager_versions;
mod ssm_labels;
mod ssm_public_parameters;

use futures_util::future::BoxFuture;

use super::answer::Answer;
use super::call::Call;
use super::context::Context;
use super::request::Request;
use crate::services::http::UpstreamError;

/// What becomes of a request.
type Outcome<'a> = BoxFuture<'a, Result<Answer, UpstreamError>>;

/// A correction of the emulator.
pub(super) struct Rule {
    /// The file's name, for the log.
    pub(super) name: &'static str,
    /// The service of the credential scope.
    service: &'static str,
    /// The operations that it takes over; no two rules share one.
    operations: &'static [&'static str],
    /// What the emulator does otherwise.
    reason: &'static str,
    /// Answers by itself, or asks the emulator in between.
    pub(super) apply: for<'a> fn(&'a Context, Request) -> Outcome<'a>,
}

const RULES: &[Rule] = &[
    ec2_flow_logs::RULE,
    ec2_launch_templates::RULE,
    ec2_network_interfaces::RULE,
    ec2_security_group_ports::RULE,
    eks_addon_versions::RULE,
    eks_addons::RULE,
    eks_cluster::RULE,
    eks_cluster_versions::RULE,
    eks_nodegroup::RULE,
    eks_tags::RULE,
    eks_updates::RULE,
    elb_load_balancers::RULE,
    iam_issued_keys::RULE_IAM,
    iam_issued_keys::RULE_STS,
    secretsmanager_versions::RULE,
    ssm_labels::RULE,
    ssm_public_parameters::RULE,
];

/// The rule for a call, if there is one.
pub(super) fn find(call: &Call) -> Option<&'static Rule> {
    RULES
        .iter()
        .find(|rule| rule.service == call.service && rule.operations.contains(&call.operation.as_str()))
}

/// A correction of the emulator, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleDescription {
    /// Its name in the request log.
    pub name: &'static str,
    /// The service, as in a credential scope.
    pub service: &'static str,
    /// The operations that it takes part in.
    pub operations: &'static [&'static str],
    /// What the emulator does otherwise.
    pub reason: &'static str,
}

/// All corrections.
pub fn rules() -> impl Iterator<Item = RuleDescription> {
    RULES.iter().map(|rule| RuleDescription {
        name: rule.name,
        service: rule.service,
        operations: rule.operations,
        reason: rule.reason,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::rules;

    #[test]
    fn no_two_rules_share_an_operation() {
        let mut seen = HashSet::new();
        for rule in rules() {
            assert!(!rule.reason.is_empty());
            for operation in rule.operations {
                assert!(seen.insert((rule.service, operation)), "{}: {operation}", rule.name);
            }
        }
    }
}
