use std::collections::BTreeMap;

use serde::Serialize;

/// Kinds of resources, in the order in which they can be removed: what uses something goes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceKind {
    /// EKS cluster.
    Cluster,
    /// EC2 instance.
    Instance,
    /// Load balancer of the first generation.
    ClassicLoadBalancer,
    /// Application, network or gateway load balancer.
    LoadBalancer,
    /// Target group of such a load balancer.
    TargetGroup,
    /// NAT gateway.
    NatGateway,
    /// Elastic IP address.
    ElasticIp,
    /// VPC endpoint.
    VpcEndpoint,
    /// Network interface.
    NetworkInterface,
    /// Security group.
    SecurityGroup,
    /// EBS volume.
    Volume,
    /// Launch template.
    LaunchTemplate,
    /// Internet gateway.
    InternetGateway,
    /// Subnet.
    Subnet,
    /// Route table.
    RouteTable,
    /// VPC.
    Vpc,
    /// Instance profile.
    InstanceProfile,
    /// IAM role.
    Role,
    /// CloudWatch log group.
    LogGroup,
    /// SQS queue.
    Queue,
    /// EventBridge rule.
    EventRule,
    /// KMS key.
    Key,
    /// Whatever else the tagging API names.
    Other,
}

impl ResourceKind {
    /// For people and scripts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "eks cluster",
            Self::Instance => "instance",
            Self::ClassicLoadBalancer => "classic load balancer",
            Self::LoadBalancer => "load balancer",
            Self::TargetGroup => "target group",
            Self::NatGateway => "nat gateway",
            Self::ElasticIp => "elastic ip",
            Self::VpcEndpoint => "vpc endpoint",
            Self::NetworkInterface => "network interface",
            Self::SecurityGroup => "security group",
            Self::Volume => "volume",
            Self::LaunchTemplate => "launch template",
            Self::InternetGateway => "internet gateway",
            Self::Subnet => "subnet",
            Self::RouteTable => "route table",
            Self::Vpc => "vpc",
            Self::InstanceProfile => "instance profile",
            Self::Role => "iam role",
            Self::LogGroup => "log group",
            Self::Queue => "queue",
            Self::EventRule => "event rule",
            Self::Key => "kms key",
            Self::Other => "resource",
        }
    }

    /// Whether a sweep removes such a thing. What is not here is Terraform's alone: without its state the network and the
    /// cluster are named, with the command, and left to a person.
    #[must_use]
    pub fn is_swept(self) -> bool {
        matches!(
            self,
            Self::Instance
                | Self::ClassicLoadBalancer
                | Self::LoadBalancer
                | Self::TargetGroup
                | Self::NetworkInterface
                | Self::SecurityGroup
                | Self::Volume
                | Self::LaunchTemplate
                | Self::InstanceProfile
                | Self::LogGroup
        )
    }

    /// Whether such a thing keeps the network from being removed.
    #[must_use]
    pub fn blocks_network(self) -> bool {
        matches!(
            self,
            Self::Instance
                | Self::ClassicLoadBalancer
                | Self::LoadBalancer
                | Self::TargetGroup
                | Self::VpcEndpoint
                | Self::NetworkInterface
                | Self::SecurityGroup
                | Self::Subnet
        )
    }
}

/// What holds a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing that its description shows.
    Free,
    /// This, so that it cannot be removed now.
    Held(String),
    /// It is being removed.
    Going,
}

/// A resource as it was found, with everything that tells whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// Id, name or ARN, as the call takes that removes it.
    pub id: String,
    /// Its name or description, where it has one besides.
    pub detail: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// The VPC that it is in.
    pub vpc: Option<String>,
    /// What holds it.
    pub state: State,
    /// Whether an AWS service made it and removes it.
    pub managed_by_service: bool,
}

impl Resource {
    pub(super) fn new(kind: ResourceKind, id: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
            detail: String::new(),
            tags: BTreeMap::new(),
            vpc: None,
            state: State::Free,
            managed_by_service: false,
        }
    }

    /// The command that removes it, as `aws` of version 2 takes it; none where it cannot be told.
    #[must_use]
    pub fn command(&self, region: &str) -> Option<String> {
        let id = quoted(&self.id);
        let name = quoted(self.id.rsplit([':', '/']).next().unwrap_or(&self.id));
        let regional = |command: String| Some(format!("aws --region {region} {command}"));
        match self.kind {
            ResourceKind::Cluster => regional(format!("eks delete-cluster --name {id}")),
            ResourceKind::Instance => regional(format!("ec2 terminate-instances --instance-ids {id}")),
            ResourceKind::ClassicLoadBalancer => {
                regional(format!("elb delete-load-balancer --load-balancer-name {id}"))
            }
            ResourceKind::LoadBalancer => regional(format!("elbv2 delete-load-balancer --load-balancer-arn {id}")),
            ResourceKind::TargetGroup => regional(format!("elbv2 delete-target-group --target-group-arn {id}")),
            ResourceKind::NatGateway => regional(format!("ec2 delete-nat-gateway --nat-gateway-id {id}")),
            ResourceKind::ElasticIp => regional(format!("ec2 release-address --allocation-id {id}")),
            ResourceKind::VpcEndpoint => regional(format!("ec2 delete-vpc-endpoints --vpc-endpoint-ids {id}")),
            ResourceKind::NetworkInterface => {
                regional(format!("ec2 delete-network-interface --network-interface-id {id}"))
            }
            ResourceKind::SecurityGroup => regional(format!("ec2 delete-security-group --group-id {id}")),
            ResourceKind::Volume => regional(format!("ec2 delete-volume --volume-id {id}")),
            ResourceKind::LaunchTemplate => regional(format!("ec2 delete-launch-template --launch-template-id {id}")),
            ResourceKind::InternetGateway => self.vpc.as_ref().map_or_else(
                || regional(format!("ec2 delete-internet-gateway --internet-gateway-id {id}")),
                |vpc| {
                    Some(format!(
                        "aws --region {region} ec2 detach-internet-gateway --internet-gateway-id {id} --vpc-id {vpc} && aws --region {region} ec2 delete-internet-gateway --internet-gateway-id {id}"
                    ))
                },
            ),
            ResourceKind::Subnet => regional(format!("ec2 delete-subnet --subnet-id {id}")),
            ResourceKind::RouteTable => regional(format!("ec2 delete-route-table --route-table-id {id}")),
            ResourceKind::Vpc => regional(format!("ec2 delete-vpc --vpc-id {id}")),
            ResourceKind::InstanceProfile => {
                let role = match self.detail.as_str() {
                    "" => String::new(),
                    role => format!(
                        "aws iam remove-role-from-instance-profile --instance-profile-name {id} --role-name {} && ",
                        quoted(role)
                    ),
                };
                Some(format!("{role}aws iam delete-instance-profile --instance-profile-name {id}"))
            }
            ResourceKind::Role => Some(format!(
                "for p in $(aws iam list-attached-role-policies --role-name {id} --query 'AttachedPolicies[].PolicyArn' --output text); do aws iam detach-role-policy --role-name {id} --policy-arn $p; done; for p in $(aws iam list-role-policies --role-name {id} --query 'PolicyNames[]' --output text); do aws iam delete-role-policy --role-name {id} --policy-name $p; done; aws iam delete-role --role-name {id}"
            )),
            ResourceKind::LogGroup => regional(format!("logs delete-log-group --log-group-name {id}")),
            ResourceKind::Queue => regional(format!(
                "sqs delete-queue --queue-url \"$(aws --region {region} sqs get-queue-url --queue-name {name} --query QueueUrl --output text)\""
            )),
            ResourceKind::EventRule => Some(format!(
                "aws --region {region} events remove-targets --rule {name} --ids $(aws --region {region} events list-targets-by-rule --rule {name} --query 'Targets[].Id' --output text); aws --region {region} events delete-rule --name {name}"
            )),
            ResourceKind::Key => regional(format!("kms schedule-key-deletion --key-id {id} --pending-window-in-days 7")),
            ResourceKind::Other => None,
        }
    }

    /// For people: why it is there, and how it goes.
    #[must_use]
    pub fn left(&self, region: &str, why: impl Into<String>) -> Leftover {
        Leftover {
            kind: self.kind.name(),
            id: self.id.clone(),
            why: why.into(),
            command: self.command(region),
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.id)
    }
}

/// Something on AWS that a teardown has met.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Leftover {
    /// What it is, such as `subnet`.
    pub kind: &'static str,
    /// Its id, name or ARN.
    pub id: String,
    /// Why it is there still; empty where it was removed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The command that removes it, where one can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_the_region_and_quotes_what_a_shell_would_read() {
        let command = |kind, id: &str| Resource::new(kind, id).command("eu-west-1").unwrap();
        assert_eq!(
            command(ResourceKind::Volume, "vol-1"),
            "aws --region eu-west-1 ec2 delete-volume --volume-id vol-1"
        );
        assert_eq!(
            command(ResourceKind::LogGroup, "/aws/eks/a b'c/cluster"),
            r"aws --region eu-west-1 logs delete-log-group --log-group-name '/aws/eks/a b'\''c/cluster'"
        );
        assert_eq!(
            command(ResourceKind::Queue, "arn:aws:sqs:eu-west-1:1:demo-karpenter"),
            "aws --region eu-west-1 sqs delete-queue --queue-url \"$(aws --region eu-west-1 sqs get-queue-url --queue-name demo-karpenter --query QueueUrl --output text)\""
        );
        let mut profile = Resource::new(ResourceKind::InstanceProfile, "demo_1");
        profile.detail = "demo-karpenter-node".into();
        assert_eq!(
            profile.command("eu-west-1").unwrap(),
            "aws iam remove-role-from-instance-profile --instance-profile-name demo_1 --role-name demo-karpenter-node && aws iam delete-instance-profile --instance-profile-name demo_1"
        );
    }
}
