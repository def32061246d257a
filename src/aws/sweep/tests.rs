//! The sweep over answers as AWS gives them: whose each resource is, and what is asked of AWS to remove it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::json;

use super::resource::{Resource, ResourceKind, State};
use super::{Attempt, Inventory, Maker, Owner, Scope, Verdict, ec2, elb, iam, logs, tagged};
use crate::aws::query::parse;
use crate::aws::{Aws, AwsAccess, StaticCredentials};
use crate::model::{Region, Scalar as _};

const OWN_VPC: &str = "vpc-0aaa";

fn owner() -> Owner {
    Owner {
        name: "demo".into(),
        region: "eu-west-1".into(),
        networks: [OWN_VPC.to_owned()].into(),
        cluster_network: None,
    }
}

fn resource(kind: ResourceKind, tags: &[(&str, &str)], vpc: Option<&str>) -> Resource {
    Resource {
        tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        vpc: vpc.map(str::to_owned),
        ..Resource::new(kind, "id")
    }
}

fn judged(kind: ResourceKind, tags: &[(&str, &str)], vpc: Option<&str>) -> Verdict {
    owner().judge(&resource(kind, tags, vpc))
}

const OWNED: (&str, &str) = ("kubernetes.io/cluster/demo", "owned");
const SHARED: (&str, &str) = ("kubernetes.io/cluster/demo", "shared");

#[test]
fn what_only_this_cluster_s_resources_carry_proves_whose_they_are() {
    use ResourceKind::*;
    let own = Some(OWN_VPC);
    for (kind, tags, vpc, maker) in [
        (
            LoadBalancer,
            &[("elbv2.k8s.aws/cluster", "demo")][..],
            own,
            Maker::Controller,
        ),
        (
            TargetGroup,
            &[("elbv2.k8s.aws/cluster", "demo"), OWNED],
            own,
            Maker::Controller,
        ),
        (
            ClassicLoadBalancer,
            &[OWNED, ("kubernetes.io/service-name", "shop/web")],
            own,
            Maker::Controller,
        ),
        (SecurityGroup, &[OWNED], own, Maker::Controller),
        (
            SecurityGroup,
            &[OWNED, ("aws:eks:cluster-name", "demo")],
            own,
            Maker::Eks,
        ),
        (
            SecurityGroup,
            &[OWNED, ("mfsre:environment", "demo"), ("mfsre:managed-by", "terraform")],
            own,
            Maker::Terraform,
        ),
        (
            NetworkInterface,
            &[("cluster.k8s.amazonaws.com/name", "demo")],
            own,
            Maker::Controller,
        ),
        (
            Volume,
            &[
                OWNED,
                ("ebs.csi.aws.com/cluster", "true"),
                ("KubernetesCluster", "demo"),
            ],
            None,
            Maker::Controller,
        ),
        (
            LaunchTemplate,
            &[OWNED, ("karpenter.k8s.aws/cluster", "demo")],
            None,
            Maker::Controller,
        ),
        (
            LaunchTemplate,
            &[("eks:cluster-name", "demo"), ("eks:nodegroup-name", "demo-1")],
            None,
            Maker::Eks,
        ),
        (
            Instance,
            &[
                OWNED,
                ("karpenter.sh/nodepool", "default"),
                ("aws:eks:cluster-name", "demo"),
            ],
            own,
            Maker::Controller,
        ),
        (Instance, &[OWNED, ("eks:cluster-name", "demo")], own, Maker::Eks),
        (
            InstanceProfile,
            &[OWNED, ("topology.kubernetes.io/region", "eu-west-1")],
            None,
            Maker::Controller,
        ),
    ] {
        assert_eq!(judged(kind, tags, vpc), Verdict::Ours(maker), "{kind:?} {tags:?}");
    }
    // A node leaves interfaces behind that its plugin had no time to tag.
    let mut interface = resource(NetworkInterface, &[], own);
    interface.detail = "aws-K8S-i-0123456789abcdef0".into();
    assert_eq!(owner().judge(&interface), Verdict::Ours(Maker::Controller));
    interface.vpc = Some("vpc-0bbb".into());
    assert_eq!(owner().judge(&interface), Verdict::Foreign, "another network's");
}

#[test]
fn what_looks_like_it_is_another_s_or_not_proved() {
    use ResourceKind::*;
    let own = Some(OWN_VPC);
    let foreign = |kind, tags: &[(&str, &str)], vpc| {
        assert_eq!(judged(kind, tags, vpc), Verdict::Foreign, "{kind:?} {tags:?} {vpc:?}");
    };
    foreign(
        SecurityGroup,
        &[("kubernetes.io/cluster/demo-2", "owned")],
        Some("vpc-0bbb"),
    );
    foreign(LoadBalancer, &[("elbv2.k8s.aws/cluster", "demo-2")], Some("vpc-0bbb"));
    foreign(SecurityGroup, &[SHARED], Some("vpc-0bbb"));
    foreign(Volume, &[SHARED], None);
    foreign(Volume, &[("KubernetesCluster", "demo")], None);
    foreign(Volume, &[("Name", "demo")], None);
    foreign(Volume, &[("kubernetes.io/created-for/pvc/name", "data")], None);
    foreign(Subnet, &[("karpenter.sh/discovery", "demo")], Some("vpc-0bbb"));
    foreign(
        InstanceProfile,
        &[OWNED, ("topology.kubernetes.io/region", "eu-west-2")],
        None,
    );
    let mut default = resource(SecurityGroup, &[("mfsre:environment", "demo")], own);
    default.detail = "default".into();
    assert_eq!(owner().judge(&default), Verdict::Foreign, "it goes with its VPC");

    let doubtful = |kind, tags: &[(&str, &str)], vpc, why: &str| match judged(kind, tags, vpc) {
        Verdict::Doubtful(told) => assert!(told.contains(why), "{told}"),
        other => panic!("{kind:?} {tags:?}: {other:?}"),
    };
    doubtful(SecurityGroup, &[OWNED], Some("vpc-0bbb"), "it is in vpc-0bbb");
    doubtful(
        LoadBalancer,
        &[OWNED, ("elbv2.k8s.aws/cluster", "other")],
        own,
        "name other as well",
    );
    doubtful(
        Volume,
        &[OWNED, ("kubernetes.io/cluster/other", "shared")],
        None,
        "name other as well",
    );
    doubtful(
        LoadBalancer,
        &[("elbv2.k8s.aws/cluster", "other")],
        own,
        "its tags name other",
    );
    doubtful(NetworkInterface, &[], own, "nothing tells whose it is");
    doubtful(LoadBalancer, &[SHARED], own, "nothing tells whose it is");
    doubtful(InstanceProfile, &[OWNED], None, "of which region");

    let kept = judged(Volume, &[OWNED, ("mfsre:keep", "its policy is Retain")], None);
    assert_eq!(kept, Verdict::Kept("its policy is Retain".into()));
    let mut endpoint = resource(VpcEndpoint, &[], own);
    endpoint.managed_by_service = true;
    assert_eq!(owner().judge(&endpoint), Verdict::Foreign, "its service removes it");
}

#[test]
fn the_network_of_the_cluster_counts_without_a_tag_as_long_as_eks_knows_it() {
    let mut owner = owner();
    owner.networks.clear();
    owner.cluster_network = Some("vpc-0ccc".into());
    let group = resource(ResourceKind::SecurityGroup, &[OWNED], Some("vpc-0ccc"));
    assert_eq!(owner.judge(&group), Verdict::Ours(Maker::Controller));
    // Others may be in it.
    let unmarked = resource(ResourceKind::SecurityGroup, &[], Some("vpc-0ccc"));
    assert_eq!(owner.judge(&unmarked), Verdict::Foreign);
}

/// Names that a careless comparison takes for `demo`.
const ALIKE: [&str; 10] = [
    "demo-2", "demo2", "dem", "mydemo", "Demo", "demo_", "demo/", " demo", "demo.", "",
];

fn any_kind() -> impl Strategy<Value = ResourceKind> {
    use ResourceKind::*;
    prop::sample::select(vec![
        Instance,
        ClassicLoadBalancer,
        LoadBalancer,
        TargetGroup,
        VpcEndpoint,
        NetworkInterface,
        SecurityGroup,
        Volume,
        LaunchTemplate,
        Subnet,
        Vpc,
        InstanceProfile,
        Role,
        LogGroup,
    ])
}

/// A tag that a cluster of this name sets, or somebody who shares something with it.
fn any_mark(name: impl Strategy<Value = String>) -> impl Strategy<Value = (String, String)> {
    let keys = [
        "elbv2.k8s.aws/cluster",
        "cluster.k8s.amazonaws.com/name",
        "karpenter.k8s.aws/cluster",
        "eks:eks-cluster-name",
        "eks:cluster-name",
        "aws:eks:cluster-name",
        "mfsre:environment",
        "KubernetesCluster",
        "owned",
        "shared",
    ];
    (prop::sample::select(keys.to_vec()), name).prop_map(|(key, name)| match key {
        "owned" | "shared" => (format!("kubernetes.io/cluster/{name}"), key.to_owned()),
        _ => (key.to_owned(), name),
    })
}

fn other_name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(ALIKE.to_vec()).prop_map(str::to_owned),
        "[a-z][a-z0-9-]{0,12}".prop_filter("another", |name| name != "demo"),
    ]
}

/// Tags that say nothing of whose it is.
fn any_noise() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        Just(("Name".to_owned(), "demo".to_owned())),
        Just(("karpenter.sh/discovery".to_owned(), "demo".to_owned())),
        Just(("ebs.csi.aws.com/cluster".to_owned(), "true".to_owned())),
        Just(("topology.kubernetes.io/region".to_owned(), "eu-west-1".to_owned())),
        Just(("karpenter.sh/nodepool".to_owned(), "default".to_owned())),
        ("[a-z:/.]{1,20}", "[a-z]{0,8}"),
    ]
}

fn any_place() -> impl Strategy<Value = Option<String>> {
    prop::sample::select(vec![None, Some(OWN_VPC.to_owned()), Some("vpc-0bbb".to_owned())])
}

fn tagged_resource(kind: ResourceKind, id: String, tags: Vec<(String, String)>, vpc: Option<String>) -> Resource {
    Resource {
        tags: tags.into_iter().collect::<BTreeMap<_, _>>(),
        vpc,
        ..Resource::new(kind, id)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever else it carries: one sign of another cluster, and it is never removed.
    #[test]
    fn nothing_with_a_tag_of_another_cluster_is_ever_taken(
        kind in any_kind(), vpc in any_place(), other in any_mark(other_name()),
        ours in prop::collection::vec(any_mark(Just("demo".to_owned())), 0..4), noise in prop::collection::vec(any_noise(), 0..4),
    ) {
        // Last, so that it stands where two tags have one key.
        let tags = noise.into_iter().chain(ours).chain([other]).collect();
        let verdict = owner().judge(&tagged_resource(kind, "id".into(), tags, vpc));
        prop_assert!(!matches!(verdict, Verdict::Ours(_) | Verdict::Kept(_)), "{verdict:?}");
    }

    /// A name that begins or ends like ours, a shared resource, and names in tags that prove nothing.
    #[test]
    fn nothing_without_a_proof_is_ever_taken(
        kind in any_kind(), vpc in any_place(), alike in prop::sample::select(ALIKE.to_vec()), noise in prop::collection::vec(any_noise(), 0..4),
        shared in any::<bool>(),
    ) {
        let id = match kind {
            ResourceKind::LogGroup => format!("/aws/eks/{alike}/cluster"),
            ResourceKind::Role => format!("{alike}-cluster"),
            _ => alike.to_owned(),
        };
        let shared = shared.then(|| ("kubernetes.io/cluster/demo".to_owned(), "shared".to_owned()));
        let legacy = ("KubernetesCluster".to_owned(), "demo".to_owned());
        let tags = noise.into_iter().chain(shared).chain([legacy]).collect();
        let verdict = owner().judge(&tagged_resource(kind, id, tags, vpc));
        prop_assert!(!matches!(verdict, Verdict::Ours(_) | Verdict::Kept(_)), "{verdict:?}");
    }

    /// Our own tags in somebody else's network.
    #[test]
    fn nothing_in_another_network_is_ever_taken(
        kind in any_kind(), ours in prop::collection::vec(any_mark(Just("demo".to_owned())), 1..5), noise in prop::collection::vec(any_noise(), 0..4),
    ) {
        let tags = noise.into_iter().chain(ours).collect();
        let verdict = owner().judge(&tagged_resource(kind, "id".into(), tags, Some("vpc-0bbb".into())));
        prop_assert!(!matches!(verdict, Verdict::Ours(_) | Verdict::Kept(_)), "{verdict:?}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Answers as AWS gives them

const INTERFACES: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeNetworkInterfacesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>1</requestId>
<networkInterfaceSet>
  <item><networkInterfaceId>eni-1</networkInterfaceId><vpcId>vpc-0aaa</vpcId><description>aws-K8S-i-0a</description>
    <requesterManaged>false</requesterManaged><status>available</status>
    <tagSet><item><key>cluster.k8s.amazonaws.com/name</key><value>demo</value></item></tagSet></item>
  <item><networkInterfaceId>eni-2</networkInterfaceId><vpcId>vpc-0aaa</vpcId><description>ELB app/k8s-shop/1</description>
    <requesterManaged>true</requesterManaged><status>in-use</status>
    <attachment><attachmentId>eni-attach-1</attachmentId><instanceOwnerId>amazon-elb</instanceOwnerId></attachment><tagSet/></item>
  <item><networkInterfaceId>eni-3</networkInterfaceId><vpcId>vpc-0aaa</vpcId><description>aws-K8S-i-0b</description>
    <status>in-use</status><attachment><instanceId>i-0b</instanceId></attachment><tagSet/></item>
</networkInterfaceSet></DescribeNetworkInterfacesResponse>"#;

const GROUPS: &str = r#"<DescribeSecurityGroupsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><securityGroupInfo>
  <item><groupId>sg-node</groupId><groupName>demo-node</groupName><vpcId>vpc-0aaa</vpcId>
    <ipPermissions><item><ipProtocol>tcp</ipProtocol><fromPort>30000</fromPort><toPort>32767</toPort>
      <groups><item><userId>1</userId><groupId>sg-elb</groupId></item></groups><ipRanges/></item>
      <item><ipProtocol>-1</ipProtocol><groups><item><groupId>sg-node</groupId></item></groups></item></ipPermissions>
    <ipPermissionsEgress/>
    <tagSet><item><key>kubernetes.io/cluster/demo</key><value>owned</value></item>
      <item><key>mfsre:environment</key><value>demo</value></item><item><key>mfsre:managed-by</key><value>terraform</value></item></tagSet></item>
  <item><groupId>sg-elb</groupId><groupName>k8s-elb-1</groupName><vpcId>vpc-0aaa</vpcId><ipPermissions/><ipPermissionsEgress/>
    <tagSet><item><key>kubernetes.io/cluster/demo</key><value>owned</value></item></tagSet></item>
</securityGroupInfo></DescribeSecurityGroupsResponse>"#;

fn listing(kind: ResourceKind) -> &'static ec2::Listing {
    ec2::LISTINGS.iter().find(|l| l.kind == kind).unwrap()
}

#[test]
fn interfaces_are_read_with_what_holds_them() {
    let found = listing(ResourceKind::NetworkInterface).read(&parse(INTERFACES).unwrap());
    let told: Vec<(&str, &State, Verdict)> = found
        .iter()
        .map(|r| (r.id.as_str(), &r.state, owner().judge(r)))
        .collect();
    let by_elb = State::Held("it is in use by ELB app/k8s-shop/1".into());
    let by_instance = State::Held("it is attached to i-0b".into());
    assert_eq!(
        told,
        [
            ("eni-1", &State::Free, Verdict::Ours(Maker::Controller)),
            // It goes with its load balancer.
            ("eni-2", &by_elb, Verdict::Foreign),
            ("eni-3", &by_instance, Verdict::Ours(Maker::Controller)),
        ]
    );
}

#[test]
fn states_in_which_something_is_gone_are_known() {
    let instances = r"<DescribeInstancesResponse><reservationSet><item><instancesSet>
        <item><instanceId>i-1</instanceId><instanceState><name>terminated</name></instanceState></item>
        <item><instanceId>i-2</instanceId><instanceState><name>shutting-down</name></instanceState></item>
        </instancesSet></item></reservationSet></DescribeInstancesResponse>";
    let found = listing(ResourceKind::Instance).read(&parse(instances).unwrap());
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].id.as_str(), &found[0].state), ("i-2", &State::Going));
    let volumes = r"<DescribeVolumesResponse><volumeSet><item><volumeId>vol-1</volumeId><status>in-use</status>
        <attachmentSet><item><instanceId>i-1</instanceId></item></attachmentSet></item></volumeSet></DescribeVolumesResponse>";
    let found = listing(ResourceKind::Volume).read(&parse(volumes).unwrap());
    assert_eq!(found[0].state, State::Held("it is attached to i-1".into()));
}

#[test]
fn load_balancers_of_both_generations_are_read() {
    let classic = r"<DescribeLoadBalancersResponse><DescribeLoadBalancersResult><LoadBalancerDescriptions><member>
        <LoadBalancerName>a1b2</LoadBalancerName><VPCId>vpc-0aaa</VPCId></member></LoadBalancerDescriptions>
        </DescribeLoadBalancersResult></DescribeLoadBalancersResponse>";
    let found = elb::LISTINGS[0].read(&parse(classic).unwrap());
    assert_eq!((found[0].id.as_str(), found[0].vpc.as_deref()), ("a1b2", Some(OWN_VPC)));
    let tags = r"<DescribeTagsResponse><DescribeTagsResult><TagDescriptions><member><LoadBalancerName>a1b2</LoadBalancerName>
        <Tags><member><Key>k</Key><Value>v</Value></member></Tags></member></TagDescriptions></DescribeTagsResult></DescribeTagsResponse>";
    assert_eq!(elb::LISTINGS[0].read_tags(&parse(tags).unwrap())["a1b2"]["k"], "v");
    let newer = r"<DescribeLoadBalancersResponse><DescribeLoadBalancersResult><LoadBalancers><member>
        <LoadBalancerArn>arn:lb</LoadBalancerArn><LoadBalancerName>k8s</LoadBalancerName><VpcId>vpc-0aaa</VpcId></member></LoadBalancers>
        </DescribeLoadBalancersResult></DescribeLoadBalancersResponse>";
    let found = elb::LISTINGS[1].read(&parse(newer).unwrap());
    assert_eq!((found[0].id.as_str(), found[0].detail.as_str()), ("arn:lb", "k8s"));
}

#[test]
fn log_groups_are_known_by_their_exact_names() {
    let groups = [
        "/aws/eks/demo/cluster",
        "/aws/eks/demo/cluster-old",
        "/aws/eks/demo-2/cluster",
        "/aws/vpc/demo/flow-logs",
    ];
    let answer = json!({ "logGroups": groups.map(|name| json!({ "logGroupName": name })) });
    let found: Vec<String> = logs::read("demo", &answer).into_iter().map(|r| r.id).collect();
    assert_eq!(found, ["/aws/eks/demo/cluster", "/aws/vpc/demo/flow-logs"]);
    let judged = |name: &str| owner().judge(&Resource::new(ResourceKind::LogGroup, name));
    assert_eq!(judged(&found[0]), Verdict::Ours(Maker::Terraform));
    let insights = "/aws/containerinsights/demo/performance";
    assert_eq!(judged(insights), Verdict::Ours(Maker::Controller));
    assert_eq!(judged("/aws/containerinsights/demo-2/performance"), Verdict::Foreign);
}

#[test]
fn the_tags_of_a_profile_are_asked_for_where_it_may_be_the_cluster_s() {
    assert!(iam::is_candidate("demo", "demo_123", "/", ""));
    assert!(iam::is_candidate("demo", "x", "/karpenter/eu-west-1/demo/uid/", ""));
    assert!(iam::is_candidate("demo", "x", "/", "demo-karpenter-node"));
    assert!(!iam::is_candidate(
        "demo",
        "demo2_123",
        "/karpenter/eu-west-1/demo2/uid/",
        "demo2-node"
    ));
}

#[test]
fn the_tagging_api_is_for_what_nothing_else_lists() {
    let kind = |arn| tagged::read("demo", arn).map(|r| r.kind);
    assert_eq!(
        kind("arn:aws:sqs:eu-west-1:1:demo-karpenter"),
        Some(ResourceKind::Queue)
    );
    assert_eq!(
        kind("arn:aws:events:eu-west-1:1:rule/demo-karpenter-x"),
        Some(ResourceKind::EventRule)
    );
    assert_eq!(kind("arn:aws:kms:eu-west-1:1:key/1"), Some(ResourceKind::Key));
    assert_eq!(
        kind("arn:aws:eks:eu-west-1:1:nodegroup/demo/a/1"),
        Some(ResourceKind::Other)
    );
    assert_eq!(kind("arn:aws:eks:eu-west-1:1:cluster/demo"), None);
    assert_eq!(kind("arn:aws:ec2:eu-west-1:1:vpc/vpc-1"), None);
    assert_eq!(kind("arn:aws:secretsmanager:eu-west-1:1:secret:demo/argocd-x"), None);
    assert_eq!(kind("nonsense"), None);
}

fn inventory(resources: Vec<Resource>) -> Inventory {
    Inventory {
        resources,
        ..Inventory::of(owner())
    }
}

#[test]
fn terraform_s_and_eks_own_are_left_to_them_until_the_cluster_is_gone() {
    use ResourceKind::*;
    let named = |kind, id: &str, tags: &[(&str, &str)]| Resource {
        id: id.into(),
        ..resource(kind, tags, Some(OWN_VPC))
    };
    let terraform = [("mfsre:environment", "demo"), ("mfsre:managed-by", "terraform")];
    let all = vec![
        named(Instance, "managed", &[OWNED, ("eks:cluster-name", "demo")]),
        named(Instance, "karpenter", &[OWNED, ("karpenter.sh/nodepool", "default")]),
        named(SecurityGroup, "node", &[OWNED, terraform[0], terraform[1]]),
        named(SecurityGroup, "elb", &[OWNED]),
        Resource {
            vpc: None,
            ..named(Volume, "data", &[OWNED])
        },
        named(Subnet, "subnet", &[SHARED, terraform[0], terraform[1]]),
    ];
    let ids = |inventory: &Inventory, scope| -> Vec<String> {
        inventory.doomed(scope).into_iter().map(|r| r.id.clone()).collect()
    };
    let mut inventory = inventory(all);
    assert_eq!(ids(&inventory, Scope::InTheWay), ["managed", "karpenter", "elb"]);
    assert_eq!(
        ids(&inventory, Scope::Everything),
        ["managed", "karpenter", "node", "elb", "data"]
    );
    inventory.resources.push(Resource::new(Cluster, "demo"));
    assert_eq!(ids(&inventory, Scope::InTheWay), ["karpenter", "elb"]);
    assert_eq!(ids(&inventory, Scope::Everything), ["karpenter", "elb"]);
    let ours: Vec<&str> = inventory.ours().iter().map(|r| r.id.as_str()).collect();
    assert!(
        ours.contains(&"subnet") && ours.contains(&"demo"),
        "named, with the command: {ours:?}"
    );
    let interface = |id: &str, state| Resource {
        state,
        ..named(NetworkInterface, id, &[("cluster.k8s.amazonaws.com/name", "demo")])
    };
    let worn = State::Held("it is attached to i-1".into());
    inventory
        .resources
        .extend([interface("worn", worn), interface("loose", State::Free)]);
    assert_eq!(
        ids(&inventory, Scope::InTheWay),
        ["karpenter", "elb", "loose"],
        "a node's go with it"
    );
    inventory.resources.push(named(LoadBalancer, "stranger", &[]));
    inventory.resources.push(Resource {
        vpc: Some("vpc-0bbb".into()),
        ..named(LoadBalancer, "elsewhere", &[OWNED])
    });
    let blockers: Vec<String> = inventory.blockers().into_iter().map(|l| l.id).collect();
    assert_eq!(blockers, ["stranger"]);
    assert_eq!(inventory.doubtful().len(), 2);
}

#[test]
fn what_terraform_made_and_its_state_has_lost_goes_where_the_state_has_the_network() {
    use ResourceKind::*;
    let terraform = [("mfsre:environment", "demo"), ("mfsre:managed-by", "terraform")];
    let named = |kind, id: &str| Resource {
        id: id.into(),
        ..resource(kind, &terraform, Some(OWN_VPC))
    };
    let mut inventory = inventory(vec![
        Resource::new(Cluster, "demo"),
        named(Subnet, "known"),
        named(Subnet, "lost"),
        named(NatGateway, "lost-too"),
    ]);
    let ids = |inventory: &Inventory| -> Vec<String> {
        let doomed = inventory.doomed(Scope::InTheWay);
        doomed.into_iter().map(|r| r.id.clone()).collect()
    };
    assert!(
        ids(&inventory).is_empty(),
        "without a state nothing is known to be lost"
    );
    inventory.managed = ["known".to_owned(), "vpc-of-another-state".to_owned()].into();
    assert!(ids(&inventory).is_empty(), "that is the state of something else");
    inventory.managed.insert(OWN_VPC.into());
    assert_eq!(ids(&inventory), ["lost"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// What AWS is asked

/// Clients of a server that answers by what is asked, and what it was asked.
async fn asked(answer: fn(&str) -> (u16, &'static str)) -> (Aws, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let record = calls.clone();
    let router = Router::new().fallback(move |body: String| async move {
        let call: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let call: Vec<String> = call
            .into_iter()
            .filter(|(key, _)| key != "Version")
            .map(|(key, value)| {
                if key == "Action" {
                    value
                } else {
                    format!("{key}={value}")
                }
            })
            .collect();
        let call = call.join(" ");
        let earlier = record.lock().unwrap().iter().filter(|c| **c == call).count();
        record.lock().unwrap().push(call.clone());
        let (status, text) = answer(&format!("{call} #{earlier}"));
        (StatusCode::from_u16(status).unwrap(), text)
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    let access = AwsAccess {
        region: Region::parse("eu-west-1").unwrap(),
        endpoint_url: Some(format!("http://{address}").parse().unwrap()),
        credentials: Some(StaticCredentials {
            access_key_id: "test".into(),
            secret_access_key: SecretString::from("test"),
        }),
        patience: crate::patience::Patience::USUAL,
        tags: BTreeMap::new(),
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    (Aws::connect(&access).await, calls)
}

const IN_USE: &str = "<Response><Errors><Error><Code>DependencyViolation</Code><Message>resource sg-elb has a dependent object</Message></Error></Errors></Response>";
const DENIED: &str =
    "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>";
const MISSING: &str =
    "<Response><Errors><Error><Code>InvalidVolume.NotFound</Code><Message>no</Message></Error></Errors></Response>";

#[tokio::test]
async fn a_group_that_rules_name_goes_after_these_rules() {
    let (aws, calls) = asked(|call| match call {
        "DeleteSecurityGroup GroupId=sg-elb #0" => (400, IN_USE),
        _ => (200, "<Response><return>true</return></Response>"),
    })
    .await;
    let answer = parse(GROUPS).unwrap();
    let mut inventory = inventory(listing(ResourceKind::SecurityGroup).read(&answer));
    inventory.rules = ec2::peer_rules(&answer);
    let group = inventory.resources.iter().find(|r| r.id == "sg-elb").unwrap();
    assert_eq!(aws.remove(group, &inventory).await, Attempt::Removed);
    assert_eq!(
        *calls.lock().unwrap(),
        [
            "DeleteSecurityGroup GroupId=sg-elb",
            "RevokeSecurityGroupIngress GroupId=sg-node IpPermissions.1.IpProtocol=tcp IpPermissions.1.Groups.1.GroupId=sg-elb IpPermissions.1.FromPort=30000 IpPermissions.1.ToPort=32767",
            "DeleteSecurityGroup GroupId=sg-elb",
        ]
    );
}

#[tokio::test]
async fn a_rule_of_another_cluster_s_group_is_not_touched() {
    let (aws, calls) = asked(|_| (400, IN_USE)).await;
    let answer = parse(&GROUPS.replace("<value>demo</value>", "<value>other</value>")).unwrap();
    let mut inventory = inventory(listing(ResourceKind::SecurityGroup).read(&answer));
    inventory.rules = ec2::peer_rules(&answer);
    let group = inventory.resources.iter().find(|r| r.id == "sg-elb").unwrap();
    match aws.remove(group, &inventory).await {
        Attempt::Waits(why) => assert!(why.contains("has a dependent object"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_held_waits_what_is_gone_is_removed_and_what_is_forbidden_is_refused() {
    let (aws, calls) = asked(|call| match call {
        c if c.contains("vol-gone") => (400, MISSING),
        _ => (403, DENIED),
    })
    .await;
    let inventory = inventory(Vec::new());
    let volume = |id: &str, state| Resource {
        state,
        ..Resource::new(ResourceKind::Volume, id)
    };
    let held = volume("vol-held", State::Held("it is attached to i-1".into()));
    assert_eq!(
        aws.remove(&held, &inventory).await,
        Attempt::Waits("it is attached to i-1".into())
    );
    assert_eq!(calls.lock().unwrap().len(), 0, "nothing is torn off");
    assert_eq!(
        aws.remove(&volume("vol-gone", State::Free), &inventory).await,
        Attempt::Removed
    );
    match aws.remove(&volume("vol-1", State::Free), &inventory).await {
        Attempt::Refused(why) => assert!(
            why.contains("ec2:DeleteVolume failed with UnauthorizedOperation"),
            "{why}"
        ),
        other => panic!("{other:?}"),
    }
    let vpc = Resource::new(ResourceKind::Vpc, OWN_VPC);
    assert!(
        matches!(aws.remove(&vpc, &inventory).await, Attempt::Refused(_)),
        "Terraform's alone"
    );
}

#[tokio::test]
async fn what_may_not_be_listed_is_told_and_the_rest_is_found() {
    let (aws, _) = asked(|call| {
        if call.starts_with("DescribeVolumes") {
            (403, DENIED)
        } else if call.starts_with("DescribeVpcs") {
            (
                200,
                "<R><vpcSet><item><vpcId>vpc-0aaa</vpcId><tagSet><item><key>mfsre:environment</key><value>demo</value></item></tagSet></item></vpcSet></R>",
            )
        } else if call.starts_with("DescribeSecurityGroups") {
            (200, GROUPS)
        } else if call.starts_with("Describe") || call.starts_with("List") {
            (200, "<R/>")
        } else if call.contains("logGroupNamePrefix") {
            (200, r#"{"logGroups": [{"logGroupName": "/aws/eks/demo/cluster"}]}"#)
        } else if call.contains("TagFilters") {
            (200, r#"{"ResourceTagMappingList": [{"ResourceARN": "arn:aws:sqs:eu-west-1:1:demo-karpenter"}]}"#)
        } else {
            // EKS, which has no such cluster.
            (404, r#"{"__type": "ResourceNotFoundException", "message": "no"}"#)
        }
    })
    .await;
    let found = aws.inventory("demo", None).await.unwrap();
    assert_eq!(
        found.unseen,
        [
            "volumes: ec2:DescribeVolumes failed with UnauthorizedOperation: no; allow ec2:DescribeVolumes to the identity you run as (aws sts get-caller-identity); `mfsre iam-policy ENV` prints all that mfsre needs"
        ]
    );
    assert_eq!(found.owner.networks, [OWN_VPC.to_owned()].into());
    let ours: Vec<(ResourceKind, &str)> = found.ours().iter().map(|r| (r.kind, r.id.as_str())).collect();
    assert_eq!(
        ours,
        [
            (ResourceKind::SecurityGroup, "sg-elb"),
            (ResourceKind::SecurityGroup, "sg-node"),
            (ResourceKind::Vpc, OWN_VPC),
            (ResourceKind::LogGroup, "/aws/eks/demo/cluster"),
            (ResourceKind::Queue, "arn:aws:sqs:eu-west-1:1:demo-karpenter"),
        ],
        "in the order of removal"
    );
}

#[test]
fn a_listing_that_fails_for_another_reason_ends_the_sweep() {
    let mut inventory = inventory(Vec::new());
    let denied = crate::aws::AwsError::new(
        crate::aws::Call::DescribeVolumes,
        Some("UnauthorizedOperation".into()),
        "no",
    );
    inventory.add("volumes", Err(denied)).unwrap();
    assert_eq!(
        inventory.unseen,
        [
            "volumes: ec2:DescribeVolumes failed with UnauthorizedOperation: no; allow ec2:DescribeVolumes to the identity you run as (aws sts get-caller-identity); `mfsre iam-policy ENV` prints all that mfsre needs"
        ]
    );
    let broken = crate::aws::AwsError::new(crate::aws::Call::DescribeVolumes, Some("InternalError".into()), "no");
    assert!(inventory.add("volumes", Err(broken)).is_err());
}
