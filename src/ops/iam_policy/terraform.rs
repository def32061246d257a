//! What Terraform calls, by the types of resources and data sources; those of the built-in blueprint are known.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{Arns, Statement};
use crate::config::Environment;

/// What some actions are allowed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum On {
    /// Everything: IAM knows nothing narrower, or what is made has no name yet.
    Everything,
    /// EC2's things in the region.
    Network,
    /// The cluster and what belongs to it.
    Cluster,
    /// The roles that the blueprint names.
    Roles,
    /// The same, to be given to the services that run as them.
    PassedRoles,
    /// Roles that services make for themselves.
    ServiceRoles,
    /// KMS keys with the environment's tag.
    Keys,
    /// The key's alias, and the keys that it may name.
    Alias,
    /// The log groups that the blueprint names.
    Logs,
    /// EventBridge's rules for Karpenter.
    Rules,
    /// Karpenter's queue.
    Queue,
}

/// The suffixes of the roles' names after the environment's.
const ROLES: [&str; 7] = [
    "cluster",
    "node",
    "karpenter-controller",
    "karpenter-node",
    "ebs-csi",
    "vpc-cni",
    "flow-logs",
];

/// Services that take a role from Terraform.
const TAKE_ROLES: [&str; 4] = [
    "ec2.amazonaws.com",
    "eks.amazonaws.com",
    "pods.eks.amazonaws.com",
    "vpc-flow-logs.amazonaws.com",
];

/// Services that make a role for themselves when they are first used in an account.
const MAKE_ROLES: [&str; 4] = [
    "autoscaling.amazonaws.com",
    "eks.amazonaws.com",
    "eks-nodegroup.amazonaws.com",
    "spot.amazonaws.com",
];

/// Actions that Terraform needs for some types.
struct Row {
    types: &'static [&'static str],
    on: On,
    service: &'static str,
    actions: &'static [&'static str],
}

const fn row(types: &'static [&'static str], on: On, service: &'static str, actions: &'static [&'static str]) -> Row {
    Row {
        types,
        on,
        service,
        actions,
    }
}

/// EC2 resources that carry tags.
const TAGGED: &[&str] = &[
    "aws_default_security_group",
    "aws_eip",
    "aws_flow_log",
    "aws_internet_gateway",
    "aws_launch_template",
    "aws_nat_gateway",
    "aws_route_table",
    "aws_security_group",
    "aws_subnet",
    "aws_vpc",
    "aws_vpc_security_group_egress_rule",
    "aws_vpc_security_group_ingress_rule",
];

/// From the provider's sources of each resource and the services' authorization reference.
const ROWS: &[Row] = &[
    row(
        &["aws_availability_zones"],
        On::Everything,
        "ec2",
        &["DescribeAvailabilityZones"],
    ),
    row(
        &["aws_ec2_instance_type"],
        On::Everything,
        "ec2",
        &["DescribeInstanceTypes"],
    ),
    row(
        &["aws_eks_addon_version"],
        On::Everything,
        "eks",
        &["DescribeAddonVersions"],
    ),
    row(TAGGED, On::Network, "ec2", &["CreateTags", "DeleteTags"]),
    row(
        &["aws_vpc"],
        On::Everything,
        "ec2",
        &[
            "DescribeNetworkAcls",
            "DescribeRouteTables",
            "DescribeSecurityGroups",
            "DescribeVpcAttribute",
            "DescribeVpcs",
        ],
    ),
    row(
        &["aws_vpc"],
        On::Network,
        "ec2",
        &["CreateVpc", "DeleteVpc", "ModifyVpcAttribute"],
    ),
    row(
        &["aws_subnet"],
        On::Everything,
        "ec2",
        &["DescribeNetworkInterfaces", "DescribeSubnets"],
    ),
    row(
        &["aws_subnet"],
        On::Network,
        "ec2",
        &["CreateSubnet", "DeleteSubnet", "ModifySubnetAttribute"],
    ),
    row(
        &["aws_internet_gateway"],
        On::Everything,
        "ec2",
        &["DescribeInternetGateways"],
    ),
    row(
        &["aws_internet_gateway"],
        On::Network,
        "ec2",
        &[
            "AttachInternetGateway",
            "CreateInternetGateway",
            "DeleteInternetGateway",
            "DetachInternetGateway",
        ],
    ),
    row(
        &["aws_eip"],
        On::Everything,
        "ec2",
        &["DescribeAddresses", "DescribeAddressesAttribute"],
    ),
    row(
        &["aws_eip"],
        On::Network,
        "ec2",
        &["AllocateAddress", "DisassociateAddress", "ReleaseAddress"],
    ),
    row(&["aws_nat_gateway"], On::Everything, "ec2", &["DescribeNatGateways"]),
    row(
        &["aws_nat_gateway"],
        On::Network,
        "ec2",
        &["CreateNatGateway", "DeleteNatGateway"],
    ),
    row(
        &["aws_route_table", "aws_route", "aws_route_table_association"],
        On::Everything,
        "ec2",
        &["DescribeRouteTables"],
    ),
    row(
        &["aws_route_table"],
        On::Network,
        "ec2",
        &["CreateRouteTable", "DeleteRouteTable"],
    ),
    row(
        &["aws_route"],
        On::Network,
        "ec2",
        &["CreateRoute", "DeleteRoute", "ReplaceRoute"],
    ),
    row(
        &["aws_route_table_association"],
        On::Network,
        "ec2",
        &[
            "AssociateRouteTable",
            "DisassociateRouteTable",
            "ReplaceRouteTableAssociation",
        ],
    ),
    row(
        &["aws_security_group", "aws_default_security_group"],
        On::Everything,
        "ec2",
        &[
            "DescribeNetworkInterfaces",
            "DescribeSecurityGroups",
            "DescribeSecurityGroupRules",
        ],
    ),
    row(
        &["aws_security_group"],
        On::Network,
        "ec2",
        &["CreateSecurityGroup", "DeleteSecurityGroup"],
    ),
    row(
        &["aws_security_group", "aws_default_security_group"],
        On::Network,
        "ec2",
        &["RevokeSecurityGroupEgress", "RevokeSecurityGroupIngress"],
    ),
    row(
        &[
            "aws_vpc_security_group_egress_rule",
            "aws_vpc_security_group_ingress_rule",
        ],
        On::Everything,
        "ec2",
        &["DescribeSecurityGroupRules"],
    ),
    row(
        &["aws_vpc_security_group_egress_rule"],
        On::Network,
        "ec2",
        &[
            "AuthorizeSecurityGroupEgress",
            "ModifySecurityGroupRules",
            "RevokeSecurityGroupEgress",
        ],
    ),
    row(
        &["aws_vpc_security_group_ingress_rule"],
        On::Network,
        "ec2",
        &[
            "AuthorizeSecurityGroupIngress",
            "ModifySecurityGroupRules",
            "RevokeSecurityGroupIngress",
        ],
    ),
    row(&["aws_flow_log"], On::Everything, "ec2", &["DescribeFlowLogs"]),
    row(
        &["aws_flow_log"],
        On::Network,
        "ec2",
        &["CreateFlowLogs", "DeleteFlowLogs"],
    ),
    row(
        &["aws_launch_template"],
        On::Everything,
        "ec2",
        &["DescribeLaunchTemplateVersions", "DescribeLaunchTemplates"],
    ),
    row(
        &["aws_launch_template"],
        On::Network,
        "ec2",
        &[
            "CreateLaunchTemplate",
            "CreateLaunchTemplateVersion",
            "DeleteLaunchTemplate",
            "ModifyLaunchTemplate",
        ],
    ),
    // EKS checks that whoever names a launch template may start instances from it; images belong to Amazon.
    row(&["aws_eks_node_group"], On::Network, "ec2", &["RunInstances"]),
    row(
        &["aws_eks_cluster"],
        On::Cluster,
        "eks",
        &[
            "CreateCluster",
            "DeleteCluster",
            "DescribeCluster",
            "DescribeUpdate",
            "ListTagsForResource",
            "TagResource",
            "UntagResource",
            "UpdateClusterConfig",
            "UpdateClusterVersion",
        ],
    ),
    row(
        &["aws_eks_node_group"],
        On::Cluster,
        "eks",
        &[
            "CreateNodegroup",
            "DeleteNodegroup",
            "DescribeNodegroup",
            "DescribeUpdate",
            "TagResource",
            "UntagResource",
            "UpdateNodegroupConfig",
            "UpdateNodegroupVersion",
        ],
    ),
    row(
        &["aws_eks_addon"],
        On::Cluster,
        "eks",
        &[
            "CreateAddon",
            "CreatePodIdentityAssociation",
            "DeleteAddon",
            "DeletePodIdentityAssociation",
            "DescribeAddon",
            "DescribePodIdentityAssociation",
            "DescribeUpdate",
            "ListPodIdentityAssociations",
            "TagResource",
            "UntagResource",
            "UpdateAddon",
            "UpdatePodIdentityAssociation",
        ],
    ),
    row(
        &["aws_eks_access_entry"],
        On::Cluster,
        "eks",
        &[
            "CreateAccessEntry",
            "DeleteAccessEntry",
            "DescribeAccessEntry",
            "TagResource",
            "UntagResource",
            "UpdateAccessEntry",
        ],
    ),
    row(
        &["aws_eks_access_policy_association"],
        On::Cluster,
        "eks",
        &[
            "AssociateAccessPolicy",
            "DisassociateAccessPolicy",
            "ListAssociatedAccessPolicies",
        ],
    ),
    row(
        &["aws_eks_pod_identity_association"],
        On::Cluster,
        "eks",
        &[
            "CreatePodIdentityAssociation",
            "DeletePodIdentityAssociation",
            "DescribePodIdentityAssociation",
            "TagResource",
            "UntagResource",
            "UpdatePodIdentityAssociation",
        ],
    ),
    row(
        &["aws_iam_role"],
        On::Roles,
        "iam",
        &[
            "CreateRole",
            "DeleteRole",
            "GetRole",
            "ListAttachedRolePolicies",
            "ListInstanceProfilesForRole",
            "ListRolePolicies",
            "TagRole",
            "UntagRole",
            "UpdateAssumeRolePolicy",
            "UpdateRole",
            "UpdateRoleDescription",
        ],
    ),
    row(
        &["aws_iam_role_policy"],
        On::Roles,
        "iam",
        &["DeleteRolePolicy", "GetRolePolicy", "PutRolePolicy"],
    ),
    row(
        &["aws_iam_role_policy_attachment"],
        On::Roles,
        "iam",
        &["AttachRolePolicy", "DetachRolePolicy", "ListAttachedRolePolicies"],
    ),
    row(
        &[
            "aws_eks_cluster",
            "aws_eks_node_group",
            "aws_eks_pod_identity_association",
            "aws_flow_log",
        ],
        On::PassedRoles,
        "iam",
        &["PassRole"],
    ),
    row(
        &["aws_eks_cluster", "aws_eks_node_group"],
        On::ServiceRoles,
        "iam",
        &["CreateServiceLinkedRole"],
    ),
    row(&["aws_kms_key"], On::Everything, "kms", &["CreateKey"]),
    row(
        &["aws_kms_key"],
        On::Keys,
        "kms",
        &[
            "DescribeKey",
            "DisableKeyRotation",
            "EnableKeyRotation",
            "GetKeyPolicy",
            "GetKeyRotationStatus",
            "ListResourceTags",
            "PutKeyPolicy",
            "ScheduleKeyDeletion",
            "TagResource",
            "UntagResource",
            "UpdateKeyDescription",
        ],
    ),
    // EKS, as whoever creates the cluster.
    row(&["aws_eks_cluster"], On::Keys, "kms", &["CreateGrant", "DescribeKey"]),
    row(
        &["aws_kms_alias"],
        On::Alias,
        "kms",
        &["CreateAlias", "DeleteAlias", "UpdateAlias"],
    ),
    row(&["aws_kms_alias"], On::Everything, "kms", &["ListAliases"]),
    row(
        &["aws_cloudwatch_log_group"],
        On::Everything,
        "logs",
        &["DescribeLogGroups"],
    ),
    row(
        &["aws_cloudwatch_log_group"],
        On::Logs,
        "logs",
        &[
            "CreateLogGroup",
            "DeleteLogGroup",
            "ListTagsForResource",
            "PutRetentionPolicy",
            "TagResource",
            "UntagResource",
        ],
    ),
    row(
        &["aws_cloudwatch_event_rule"],
        On::Rules,
        "events",
        &[
            "DeleteRule",
            "DescribeRule",
            "ListTagsForResource",
            "PutRule",
            "TagResource",
            "UntagResource",
        ],
    ),
    row(
        &["aws_cloudwatch_event_target"],
        On::Rules,
        "events",
        &["ListTargetsByRule", "PutTargets", "RemoveTargets"],
    ),
    row(
        &["aws_sqs_queue"],
        On::Queue,
        "sqs",
        &[
            "CreateQueue",
            "DeleteQueue",
            "GetQueueAttributes",
            "GetQueueUrl",
            "ListQueueTags",
            "SetQueueAttributes",
            "TagQueue",
            "UntagQueue",
        ],
    ),
];

/// Types whose reading needs no permission.
const FREE: [&str; 2] = ["aws_caller_identity", "aws_partition"];

/// Whether it is known what Terraform calls for the type `kind`.
pub(super) fn knows(kind: &str) -> bool {
    FREE.contains(&kind) || ROWS.iter().any(|row| row.types.contains(&kind))
}

/// The statements of Terraform's policy for resources and data sources of these types, one for each kind of thing.
pub(super) fn statements(environment: &Environment, types: &BTreeSet<String>) -> Vec<Statement> {
    let used = |row: &&Row| row.types.iter().any(|kind| types.contains(*kind));
    let mut actions: BTreeMap<On, BTreeSet<String>> = BTreeMap::new();
    for row in ROWS.iter().filter(used) {
        let of_row = row.actions.iter().map(|action| format!("{}:{action}", row.service));
        actions.entry(row.on).or_default().extend(of_row);
    }
    let mut statements: Vec<Statement> = actions
        .into_iter()
        .map(|(on, actions)| statement(environment, on, actions.into_iter().collect()))
        .collect();
    statements.extend(state(environment));
    statements
}

fn statement(environment: &Environment, on: On, actions: Vec<String>) -> Statement {
    let arns = Arns(environment);
    let name = &environment.names.cluster;
    let roles = || {
        ROLES
            .iter()
            .map(|role| arns.global("iam", &format!("role/{name}-{role}")))
            .collect()
    };
    let allow = |resources: Vec<String>| Statement::new(format!("Terraform{on:?}"), actions, resources);
    let tagged = json!({ "StringEquals": { "aws:ResourceTag/mfsre:environment": name } });
    match on {
        On::Everything => allow(vec!["*".into()]),
        On::Network => allow(vec![arns.regional("ec2", "*")]),
        On::Cluster => allow(
            [
                "cluster/{}",
                "nodegroup/{}/*",
                "addon/{}/*",
                "access-entry/{}/*",
                "podidentityassociation/{}/*",
            ]
            .iter()
            .map(|pattern| arns.regional("eks", &pattern.replace("{}", name)))
            .collect(),
        ),
        On::Roles => allow(roles()),
        On::PassedRoles => allow(roles()).only_if(json!({ "StringEquals": { "iam:PassedToService": TAKE_ROLES } })),
        On::ServiceRoles => allow(vec![arns.global("iam", "role/aws-service-role/*")])
            .only_if(json!({ "StringEquals": { "iam:AWSServiceName": MAKE_ROLES } })),
        On::Keys => allow(vec![arns.regional("kms", "key/*")]).only_if(tagged),
        On::Alias => allow(vec![
            arns.regional("kms", &format!("alias/eks/{name}")),
            arns.regional("kms", "key/*"),
        ]),
        On::Logs => allow(
            [format!("/aws/eks/{name}/cluster"), format!("/aws/vpc/{name}/flow-logs")]
                .iter()
                // With and without what stands for the group's streams.
                .flat_map(|group| ["", ":*"].map(|end| arns.regional("logs", &format!("log-group:{group}{end}"))))
                .collect(),
        ),
        On::Rules => allow(vec![arns.regional("events", &format!("rule/{name}-karpenter-*"))]),
        On::Queue => allow(vec![arns.regional("sqs", &environment.names.karpenter_queue)]),
    }
}

/// Where the state lies in S3: the object, its lock, and the key that encrypts them.
fn state(environment: &Environment) -> Vec<Statement> {
    use crate::config::Backend;
    let Backend::S3 {
        bucket,
        key,
        region,
        kms_key_id,
        ..
    } = &environment.backend
    else {
        return Vec::new();
    };
    let partition = environment.region.partition();
    let allow = |sid: &str, actions: &[&str], resources: Vec<String>| {
        Statement::new(sid, actions.iter().map(|&a| a.to_owned()).collect(), resources)
    };
    let object = format!("arn:{partition}:s3:::{bucket}/{key}");
    let mut statements = vec![
        allow(
            "TerraformStateBucket",
            &["s3:ListBucket"],
            vec![format!("arn:{partition}:s3:::{bucket}")],
        ),
        allow(
            "TerraformState",
            &["s3:GetObject", "s3:PutObject"],
            vec![object.clone()],
        ),
        allow(
            "TerraformStateLock",
            &["s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            vec![format!("{object}.tflock")],
        ),
    ];
    if let Some(key) = kms_key_id {
        // A key is named by its ARN, its alias or its id; IAM knows ARNs of keys alone.
        let arn = match key {
            arn if arn.contains(":key/") => arn.clone(),
            alias if alias.contains("alias/") => format!("arn:{partition}:kms:{region}:*:key/*"),
            id => format!("arn:{partition}:kms:{region}:*:key/{id}"),
        };
        statements.push(allow(
            "TerraformStateKey",
            &["kms:Decrypt", "kms:GenerateDataKey"],
            vec![arn],
        ));
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_about_a_type_of_the_blueprint() {
        let parsed = crate::config::parse(
            crate::config::Source {
                path: "environments/demo.yaml".into(),
                text: "name: demo\nargocd_repository_url: git@github.com:acme/platform.git\n".into(),
            },
            "demo",
            jiff::civil::date(2026, 5, 1),
        );
        let environment = parsed.unwrap().environment;
        let tree = crate::render::render(&environment, None, Some(&[])).unwrap();
        let used = crate::render::terraform_contents(&tree).types;
        let known: BTreeSet<String> = ROWS
            .iter()
            .flat_map(|row| row.types)
            .chain(&FREE)
            .map(|kind| (*kind).to_owned())
            .collect();
        assert_eq!(known, used, "and every type has its rows");
    }
}
