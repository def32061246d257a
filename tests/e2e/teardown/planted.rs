//! Resources of a cluster that nothing but AWS knows of, made as the controllers that make such things tag them.

use serde_json::json;

use crate::aws::Aws;

const EC2: (&str, &str) = ("Version", "2016-11-15");
const ELBV2: (&str, &str) = ("Version", "2015-12-01");
const CLASSIC: (&str, &str) = ("Version", "2012-06-01");
const IAM: (&str, &str) = ("Version", "2010-05-08");

/// A resource, by the kind that `down` tells and its id.
pub(super) type Planted = (String, String);

/// A subnet with its VPC.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) vpc: String,
    pub(super) subnet: String,
}

/// One call of EC2; the text of `element`.
pub(super) fn ec2(aws: &Aws, action: &str, parameters: &[(&str, &str)], element: &str) -> String {
    let form = [&[("Action", action), EC2], parameters].concat();
    let found = aws.query("ec2", &form, element);
    found.into_iter().next().unwrap_or_default()
}

/// The parameters of a TagSpecification.
fn tagged(kind: &str, tags: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut parameters = vec![("TagSpecification.1.ResourceType".to_owned(), kind.to_owned())];
    for (i, (key, value)) in tags.iter().enumerate() {
        parameters.push((format!("TagSpecification.1.Tag.{}.Key", i + 1), (*key).to_owned()));
        parameters.push((format!("TagSpecification.1.Tag.{}.Value", i + 1), (*value).to_owned()));
    }
    parameters
}

/// The parameters of the tags of IAM and of load balancers.
fn members(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    for (i, (key, value)) in tags.iter().enumerate() {
        parameters.push((format!("Tags.member.{}.Key", i + 1), (*key).to_owned()));
        parameters.push((format!("Tags.member.{}.Value", i + 1), (*value).to_owned()));
    }
    parameters
}

fn borrowed(parameters: &[(String, String)]) -> Vec<(&str, &str)> {
    parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

fn create(aws: &Aws, action: &str, kind: &str, tags: &[(&str, &str)], rest: &[(&str, &str)], element: &str) -> String {
    let tags = tagged(kind, tags);
    let id = ec2(aws, action, &[&borrowed(&tags)[..], rest].concat(), element);
    assert!(!id.is_empty(), "{action} gives {element}");
    id
}

pub(super) fn network(aws: &Aws) -> Place {
    let vpc = ec2(aws, "CreateVpc", &[("CidrBlock", "10.77.0.0/16")], "vpcId");
    let subnet = [("VpcId", vpc.as_str()), ("CidrBlock", "10.77.0.0/24")];
    let subnet = ec2(aws, "CreateSubnet", &subnet, "subnetId");
    Place { vpc, subnet }
}

pub(super) fn volume(aws: &Aws, tags: &[(&str, &str)]) -> String {
    let rest = [("AvailabilityZone", "eu-west-1a"), ("Size", "1")];
    create(aws, "CreateVolume", "volume", tags, &rest, "volumeId")
}

pub(super) fn security_group(aws: &Aws, name: &str, tags: &[(&str, &str)], vpc: &str) -> String {
    let rest = [("GroupName", name), ("GroupDescription", "planted"), ("VpcId", vpc)];
    create(aws, "CreateSecurityGroup", "security-group", tags, &rest, "groupId")
}

/// Lets what wears the group `from` reach what wears `to`.
pub(super) fn allow(aws: &Aws, to: &str, from: &str) {
    let rule = [
        ("GroupId", to),
        ("IpPermissions.1.IpProtocol", "tcp"),
        ("IpPermissions.1.FromPort", "30000"),
        ("IpPermissions.1.ToPort", "32767"),
        ("IpPermissions.1.Groups.1.GroupId", from),
    ];
    ec2(aws, "AuthorizeSecurityGroupIngress", &rule, "groupId");
}

pub(super) fn instance(aws: &Aws, tags: &[(&str, &str)], subnet: &str) -> String {
    let rest = [
        ("ImageId", "ami-0123456789abcdef0"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("SubnetId", subnet),
    ];
    create(aws, "RunInstances", "instance", tags, &rest, "instanceId")
}

pub(super) fn instance_profile(aws: &Aws, name: &str, tags: &[(&str, &str)]) {
    let tags = members(tags);
    let head = [("Action", "CreateInstanceProfile"), IAM, ("InstanceProfileName", name)];
    aws.query("iam", &[&head, &borrowed(&tags)[..]].concat(), "Arn");
}

/// A load balancer and a target group; their ARNs.
pub(super) fn load_balancer(
    aws: &Aws,
    name: &str,
    tags: &[(&str, &str)],
    place: &Place,
    group: &str,
) -> (String, String) {
    let tags = members(tags);
    let balancer = [
        &[
            ("Action", "CreateLoadBalancer"),
            ELBV2,
            ("Name", name),
            ("Subnets.member.1", &place.subnet),
            ("SecurityGroups.member.1", group),
        ],
        &borrowed(&tags)[..],
    ]
    .concat();
    let balancer = aws
        .query("elasticloadbalancing", &balancer, "LoadBalancerArn")
        .remove(0);
    let targets = [
        &[
            ("Action", "CreateTargetGroup"),
            ELBV2,
            ("Name", name),
            ("Protocol", "HTTP"),
            ("Port", "80"),
            ("VpcId", &place.vpc),
        ],
        &borrowed(&tags)[..],
    ]
    .concat();
    let targets = aws.query("elasticloadbalancing", &targets, "TargetGroupArn").remove(0);
    (balancer, targets)
}

pub(super) fn delete_load_balancer(aws: &Aws, arn: &str) {
    let form = [("Action", "DeleteLoadBalancer"), ELBV2, ("LoadBalancerArn", arn)];
    aws.query("elasticloadbalancing", &form, "-");
}

pub(super) fn delete_target_group(aws: &Aws, arn: &str) {
    let form = [("Action", "DeleteTargetGroup"), ELBV2, ("TargetGroupArn", arn)];
    aws.query("elasticloadbalancing", &form, "-");
}

pub(super) fn delete_instance_profile(aws: &Aws, name: &str) {
    let form = [("Action", "DeleteInstanceProfile"), IAM, ("InstanceProfileName", name)];
    aws.query("iam", &form, "-");
}

fn log_group(aws: &Aws, name: &str) {
    aws.json("logs", "Logs_20140328.CreateLogGroup", &json!({ "logGroupName": name }));
}

/// One of everything that a cluster's controllers leave behind.
pub(super) fn everything_of(aws: &Aws, cluster: &str, place: &Place) -> Vec<Planted> {
    let owned = format!("kubernetes.io/cluster/{cluster}");
    let owned = (owned.as_str(), "owned");
    let by_controller = [
        ("elbv2.k8s.aws/cluster", cluster),
        ("service.k8s.aws/stack", "gone/web"),
    ];
    let by_karpenter = [
        owned,
        ("karpenter.sh/nodepool", "gone"),
        ("eks:eks-cluster-name", cluster),
    ];
    let mut planted: Vec<Planted> = Vec::new();
    let mut add = |kind: &str, id: String| planted.push((kind.to_owned(), id));

    let group = security_group(aws, &format!("k8s-elb-{cluster}"), &by_controller, &place.vpc);
    let (balancer, targets) = load_balancer(aws, &format!("k8s-{cluster}"), &by_controller, place, &group);
    add("security group", group);
    add("load balancer", balancer);
    add("target group", targets);
    let name = format!("a{cluster}");
    let classic = [
        ("Action", "CreateLoadBalancer"),
        CLASSIC,
        ("LoadBalancerName", name.as_str()),
        ("Subnets.member.1", place.subnet.as_str()),
        ("Tags.member.1.Key", owned.0),
        ("Tags.member.1.Value", "owned"),
    ];
    aws.query("elasticloadbalancing", &classic, "DNSName");
    add("classic load balancer", name);
    let interface = [
        ("cluster.k8s.amazonaws.com/name", cluster),
        ("node.k8s.amazonaws.com/instance_id", "i-0"),
    ];
    let rest = [("SubnetId", place.subnet.as_str()), ("Description", "aws-K8S-i-0")];
    let interface = create(
        aws,
        "CreateNetworkInterface",
        "network-interface",
        &interface,
        &rest,
        "networkInterfaceId",
    );
    add("network interface", interface);
    let claim = ("kubernetes.io/created-for/pvc/name", "data");
    add(
        "volume",
        volume(aws, &[owned, ("ebs.csi.aws.com/cluster", "true"), claim]),
    );
    add("instance", instance(aws, &by_karpenter, &place.subnet));
    let name = format!("karpenter.k8s.aws/{cluster}");
    let rest = [
        ("LaunchTemplateName", name.as_str()),
        ("LaunchTemplateData.InstanceType", "t3.medium"),
    ];
    let template = create(
        aws,
        "CreateLaunchTemplate",
        "launch-template",
        &by_karpenter,
        &rest,
        "launchTemplateId",
    );
    add("launch template", template);
    let name = format!("{cluster}_4711");
    instance_profile(aws, &name, &[owned, ("topology.kubernetes.io/region", "eu-west-1")]);
    add("instance profile", name);
    let name = format!("/aws/containerinsights/{cluster}/performance");
    log_group(aws, &name);
    add("log group", name);
    planted
}

/// What a careless sweep of `cluster` would take, in another network. The second list is what carries a sign of the
/// cluster all the same, so that it is told.
pub(super) fn alike(aws: &Aws, cluster: &str, place: &Place) -> (Vec<Planted>, Vec<Planted>) {
    let owned = format!("kubernetes.io/cluster/{cluster}");
    let another = format!("kubernetes.io/cluster/{cluster}-2");
    let (owned, shared) = ((owned.as_str(), "owned"), (owned.as_str(), "shared"));
    let mut silent = everything_of(aws, &format!("{cluster}-2"), place);
    silent.push((
        "security group".into(),
        security_group(aws, "shared", &[shared], &place.vpc),
    ));
    silent.push(("volume".into(), volume(aws, &[shared])));
    silent.push((
        "volume".into(),
        volume(aws, &[("Name", cluster), ("KubernetesCluster", cluster)]),
    ));
    let name = format!("{cluster}_elsewhere");
    instance_profile(aws, &name, &[owned, ("topology.kubernetes.io/region", "eu-west-2")]);
    silent.push(("instance profile".into(), name));
    for name in [
        format!("/aws/eks/{cluster}/cluster-archive"),
        format!("/aws/eks/{cluster}2/cluster"),
    ] {
        log_group(aws, &name);
        silent.push(("log group".into(), name));
    }
    let told = vec![
        (
            "security group".into(),
            security_group(aws, "elsewhere", &[owned], &place.vpc),
        ),
        ("volume".into(), volume(aws, &[owned, (another.as_str(), "shared")])),
    ];
    (silent, told)
}

/// Whether a resource is there.
pub(super) fn is_there(aws: &Aws, (kind, id): &Planted) -> bool {
    let ec2 = |action, element: &str| {
        let form = [("Action", action), EC2];
        aws.query("ec2", &form, element)
    };
    let elb = |version, action, element: &str| {
        let form = [("Action", action), version];
        aws.query("elasticloadbalancing", &form, element)
    };
    let found = match kind.as_str() {
        "security group" => ec2("DescribeSecurityGroups", "groupId"),
        "network interface" => ec2("DescribeNetworkInterfaces", "networkInterfaceId"),
        "volume" => ec2("DescribeVolumes", "volumeId"),
        "launch template" => ec2("DescribeLaunchTemplates", "launchTemplateId"),
        "instance" => {
            let running = [
                ("Action", "DescribeInstances"),
                EC2,
                ("Filter.1.Name", "instance-state-name"),
                ("Filter.1.Value.1", "running"),
                ("Filter.1.Value.2", "pending"),
            ];
            aws.query("ec2", &running, "instanceId")
        }
        "vpc" => ec2("DescribeVpcs", "vpcId"),
        "load balancer" => elb(ELBV2, "DescribeLoadBalancers", "LoadBalancerArn"),
        "target group" => elb(ELBV2, "DescribeTargetGroups", "TargetGroupArn"),
        "classic load balancer" => elb(CLASSIC, "DescribeLoadBalancers", "LoadBalancerName"),
        "instance profile" => aws.query("iam", &[("Action", "ListInstanceProfiles"), IAM], "InstanceProfileName"),
        "log group" => {
            let body = json!({ "logGroupNamePrefix": id });
            let answer = aws.json("logs", "Logs_20140328.DescribeLogGroups", &body);
            let groups = answer["logGroups"].as_array().unwrap().iter();
            groups.map(|g| g["logGroupName"].as_str().unwrap().to_owned()).collect()
        }
        other => panic!("{other} is not planted"),
    };
    found.contains(id)
}
