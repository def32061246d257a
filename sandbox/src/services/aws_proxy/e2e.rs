//! Every rule in front of the real emulator. Each test also fails when the emulator learns what a rule supplies in
//! another form, and then the rule can go.

use serde_json::{Value, json};

use super::tests::Fixture;
use crate::services::ministack::Ministack;
use crate::services::xml;

async fn start() -> (Ministack, Fixture) {
    let emulator = Ministack::start().await;
    let proxy = Fixture::of(emulator.address).await;
    (emulator, proxy)
}

async fn create_cluster(proxy: &Fixture) {
    let cluster = json!({
        "name": "demo", "version": "1.34", "roleArn": "arn:aws:iam::000000000000:role/cluster",
        "resourcesVpcConfig": { "subnetIds": ["subnet-1", "subnet-2"] }, "accessConfig": { "authenticationMode": "API" },
    });
    proxy.query("iam", "Action=CreateRole&Version=2010-05-08&RoleName=cluster&AssumeRolePolicyDocument=%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%5D%7D").await;
    let created = proxy.eks("POST", "/clusters", &cluster).await;
    assert_eq!(created.status, 200, "{}", created.body);
}

#[tokio::test]
#[ignore = "starts the AWS emulator: `cargo xtask test` runs it"]
async fn clusters_and_node_groups() {
    let (_emulator, proxy) = start().await;
    create_cluster(&proxy).await;
    let cluster = proxy.eks("GET", "/clusters/demo", &Value::Null).await.json()["cluster"].take();
    assert_eq!(cluster["endpoint"], "https://127.0.0.1:6443");
    assert_eq!(
        cluster["certificateAuthority"]["data"],
        "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCngK"
    );
    assert_eq!(cluster["upgradePolicy"]["supportType"], "EXTENDED");
    assert_eq!(
        proxy.eks("GET", "/clusters", &Value::Null).await.json()["clusters"],
        json!(["demo"])
    );

    let template = "Action=CreateLaunchTemplate&Version=2016-11-15&LaunchTemplateName=nodes&LaunchTemplateData.InstanceType=t3.medium";
    let template = proxy.query("ec2", template).await.body;
    let id = xml::text(&template, "launchTemplateId").unwrap();
    let group = json!({
        "nodegroupName": "a", "nodeRole": "arn:aws:iam::000000000000:role/node", "subnets": ["subnet-1"],
        "launchTemplate": { "id": id, "version": "1" }, "updateConfig": { "maxUnavailablePercentage": 33 },
        "labels": { "x": "1" }, "scalingConfig": { "minSize": 1, "maxSize": 2, "desiredSize": 1 },
    });
    let created = proxy.eks("POST", "/clusters/demo/node-groups", &group).await;
    assert_eq!(created.status, 200, "{}", created.body);
    let described = async || {
        proxy
            .eks("GET", "/clusters/demo/node-groups/a", &Value::Null)
            .await
            .json()["nodegroup"]
            .take()
    };
    let group = described().await;
    assert_eq!(
        group["launchTemplate"],
        json!({ "id": id, "name": "nodes", "version": "1" })
    );
    assert_eq!(group["updateConfig"], json!({ "maxUnavailablePercentage": 33 }));
    assert_eq!(group["releaseVersion"], "1.34.2-20260415");
    assert_eq!(group["diskSize"], Value::Null);

    let change = json!({ "scalingConfig": { "maxSize": 4 }, "labels": { "removeLabels": ["x"] } });
    let update = proxy
        .eks("POST", "/clusters/demo/node-groups/a/update-config", &change)
        .await
        .json();
    let target = format!(
        "/clusters/demo/updates/{}?nodegroupName=a",
        update["update"]["id"].as_str().unwrap()
    );
    assert_eq!(
        proxy.eks("GET", &target, &Value::Null).await.json()["update"]["status"],
        "Successful"
    );
    let group = described().await;
    assert_eq!(
        group["scalingConfig"],
        json!({ "minSize": 1, "maxSize": 4, "desiredSize": 1 })
    );
    assert_eq!(group["labels"], json!({}));

    proxy
        .eks("POST", "/clusters/demo/updates", &json!({ "version": "1.35" }))
        .await;
    assert_eq!(
        proxy.eks("GET", "/clusters/demo", &Value::Null).await.json()["cluster"]["version"],
        "1.35"
    );
    assert_eq!(
        proxy
            .eks("DELETE", "/clusters/demo/node-groups/a", &Value::Null)
            .await
            .status,
        200
    );
    assert_eq!(proxy.eks("DELETE", "/clusters/demo", &Value::Null).await.status, 200);
    assert_eq!(proxy.eks("GET", "/clusters/demo", &Value::Null).await.status, 404);
}

#[tokio::test]
#[ignore = "starts the AWS emulator: `cargo xtask test` runs it"]
async fn add_ons_and_versions() {
    let (_emulator, proxy) = start().await;
    create_cluster(&proxy).await;
    let target = "/addons/supported-versions?addonName=vpc-cni&kubernetesVersion=1.34";
    let versions = proxy.eks("GET", target, &Value::Null).await.json();
    let version = &versions["addons"][0]["addonVersions"][0]["addonVersion"];
    assert!(version.as_str().unwrap().contains("eksbuild"), "{versions}");
    assert!(
        !proxy.eks("GET", "/cluster-versions", &Value::Null).await.json()["clusterVersions"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    let addon = json!({ "addonName": "vpc-cni", "addonVersion": version });
    assert_eq!(proxy.eks("POST", "/clusters/demo/addons", &addon).await.status, 200);
    let update = proxy
        .eks(
            "POST",
            "/clusters/demo/addons/vpc-cni/update",
            &json!({ "configurationValues": "{}" }),
        )
        .await
        .json();
    let target = format!(
        "/clusters/demo/updates/{}?addonName=vpc-cni",
        update["update"]["id"].as_str().unwrap()
    );
    assert_eq!(
        proxy.eks("GET", &target, &Value::Null).await.json()["update"]["status"],
        "Successful"
    );
}

#[tokio::test]
#[ignore = "starts the AWS emulator: `cargo xtask test` runs it"]
async fn a_version_of_a_secret_never_changes() {
    let (_emulator, proxy) = start().await;
    let made = json!({ "Name": "demo/argocd", "SecretString": "first" });
    assert_eq!(proxy.secret("CreateSecret", &made).await.status, 200);
    let id = "0123456789abcdef0123456789abcdef";
    let put = |text: &str| {
        json!({
            "SecretId": "demo/argocd", "ClientRequestToken": id, "SecretString": text, "VersionStages": ["AWSPENDING"],
        })
    };
    assert_eq!(
        proxy.secret("PutSecretValue", &put("second")).await.json()["VersionId"],
        id
    );
    let again = proxy.secret("PutSecretValue", &put("second")).await.json();
    assert_eq!(
        again["VersionStages"],
        json!(["AWSPENDING"]),
        "the same once more does nothing"
    );
    let refused = proxy.secret("PutSecretValue", &put("third")).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("ResourceExistsException"), "{}", refused.body);
    let held = proxy
        .secret(
            "GetSecretValue",
            &json!({ "SecretId": "demo/argocd", "VersionStage": "AWSPENDING" }),
        )
        .await
        .json();
    assert_eq!(held["SecretString"], "second");
}

#[tokio::test]
#[ignore = "starts the AWS emulator: `cargo xtask test` runs it"]
async fn parameters_and_labels() {
    let (_emulator, proxy) = start().await;
    let put = json!({ "Name": "/demo/key", "Type": "SecureString", "Value": "x" });
    assert_eq!(proxy.ssm("PutParameter", &put).await.status, 200);
    let labels = json!({ "Name": "/demo/key", "Labels": ["AWSCURRENT", "ssm-x", "current"] });
    let labelled = proxy.ssm("LabelParameterVersion", &labels).await.json();
    assert_eq!(labelled["InvalidLabels"], json!(["AWSCURRENT", "ssm-x"]));
    assert_eq!(
        proxy
            .ssm("GetParameter", &json!({ "Name": "/demo/key:current" }))
            .await
            .status,
        200
    );
    assert_eq!(
        proxy
            .ssm("GetParameter", &json!({ "Name": "/demo/key:AWSCURRENT" }))
            .await
            .status,
        400
    );

    let image = "/aws/service/eks/optimized-ami/1.34/amazon-linux-2023/x86_64/standard/recommended/image_id";
    let answer = proxy
        .ssm("GetParameters", &json!({ "Names": [image, "/demo/key", "/none"] }))
        .await
        .json();
    assert_eq!(answer["Parameters"].as_array().unwrap().len(), 2);
    assert_eq!(answer["InvalidParameters"], json!(["/none"]));
    let id = proxy.ssm("GetParameter", &json!({ "Name": image })).await.json()["Parameter"]["Value"].take();
    let images = proxy
        .query(
            "ec2",
            &format!(
                "Action=DescribeImages&Version=2016-11-15&ImageId.1={}",
                id.as_str().unwrap()
            ),
        )
        .await;
    assert!(
        images.body.contains(id.as_str().unwrap()),
        "the image must be one that EC2 knows: {}",
        images.body
    );
}

#[tokio::test]
#[ignore = "starts the AWS emulator: `cargo xtask test` runs it"]
async fn security_groups_and_flow_logs() {
    let (_emulator, proxy) = start().await;
    let ec2 = async |form: &str| {
        let answer = proxy.query("ec2", &format!("Version=2016-11-15&{form}")).await;
        assert_eq!(answer.status, 200, "{form}: {}", answer.body);
        answer.body
    };
    let vpc = xml::text(&ec2("Action=CreateVpc&CidrBlock=10.0.0.0%2F16").await, "vpcId").unwrap();
    let group = ec2(&format!(
        "Action=CreateSecurityGroup&GroupName=g&GroupDescription=g&VpcId={vpc}"
    ))
    .await;
    let group = xml::text(&group, "groupId").unwrap();
    let described = async || ec2(&format!("Action=DescribeSecurityGroups&GroupId.1={group}")).await;
    assert!(
        described().await.contains("0.0.0.0/0"),
        "a new group lets everything out"
    );
    ec2(&format!(
        "Action=RevokeSecurityGroupEgress&GroupId={group}&IpPermissions.1.IpProtocol=-1&IpPermissions.1.FromPort=0\
         &IpPermissions.1.ToPort=0&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0%2F0"
    ))
    .await;
    assert!(!described().await.contains("0.0.0.0/0"));

    ec2(&format!(
        "Action=CreateFlowLogs&ResourceType=VPC&ResourceId.1={vpc}&TrafficType=ALL&MaxAggregationInterval=60\
         &DeliverLogsPermissionArn=arn%3Aaws%3Aiam%3A%3A000000000000%3Arole%2Fflow\
         &LogDestination=arn%3Aaws%3Alogs%3Aeu-west-1%3A000000000000%3Alog-group%3Aflow\
         &TagSpecification.1.ResourceType=vpc-flow-log&TagSpecification.1.Tag.1.Key=team&TagSpecification.1.Tag.1.Value=platform"
    ))
    .await;
    let described = ec2("Action=DescribeFlowLogs").await;
    for (element, value) in [
        ("deliverLogsPermissionArn", "arn:aws:iam::000000000000:role/flow"),
        ("maxAggregationInterval", "60"),
        ("logGroupName", "flow"),
        ("key", "team"),
    ] {
        assert_eq!(xml::text(&described, element).as_deref(), Some(value), "{described}");
    }
}

#[tokio::test]
#[ignore = "starts the AWS emulator: `cargo xtask test` runs it"]
async fn access_keys() {
    let (_emulator, proxy) = start().await;
    proxy
        .query("iam", "Action=CreateUser&Version=2010-05-08&UserName=bob")
        .await;
    let created = proxy
        .query("iam", "Action=CreateAccessKey&Version=2010-05-08&UserName=bob")
        .await
        .body;
    let key = xml::text(&created, "AccessKeyId").unwrap();
    let identity = async || {
        let signature = format!(
            "AWS4-HMAC-SHA256 Credential={key}/20260101/eu-west-1/sts/aws4_request, SignedHeaders=host, Signature=0"
        );
        let headers = [
            ("authorization", signature.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        proxy
            .call(
                "sts",
                "POST",
                "/",
                &headers,
                "Action=GetCallerIdentity&Version=2011-06-15",
            )
            .await
    };
    assert_eq!(
        xml::text(&identity().await.body, "Arn").as_deref(),
        Some("arn:aws:iam::000000000000:user/bob")
    );
    proxy
        .query(
            "iam",
            &format!("Action=DeleteAccessKey&Version=2010-05-08&UserName=bob&AccessKeyId={key}"),
        )
        .await;
    assert_eq!(identity().await.status, 403);
}

#[tokio::test]
#[ignore = "starts the AWS emulator: `cargo xtask test` runs it"]
async fn tags_that_change_later() {
    let (_emulator, proxy) = start().await;
    create_cluster(&proxy).await;
    let association = json!({
        "namespace": "karpenter", "serviceAccount": "karpenter", "roleArn": "arn:aws:iam::000000000000:role/karpenter",
        "tags": { "team": "a", "old": "1" },
    });
    let association = proxy
        .eks("POST", "/clusters/demo/pod-identity-associations", &association)
        .await
        .json();
    let id = association["association"]["associationId"].as_str().unwrap();
    let arn = association["association"]["associationArn"].as_str().unwrap();
    let cluster = proxy.eks("GET", "/clusters/demo", &Value::Null).await.json()["cluster"]["arn"].take();
    for (arn, target, resource) in [
        (
            arn,
            format!("/clusters/demo/pod-identity-associations/{id}"),
            "association",
        ),
        (cluster.as_str().unwrap(), "/clusters/demo".to_owned(), "cluster"),
    ] {
        let tags = format!("/tags/{}", crate::services::sigv4::uri_encode(arn));
        let described = async || proxy.eks("GET", &target, &Value::Null).await.json()[resource]["tags"].take();
        let set = json!({ "tags": { "team": "b", "old": "1", "x": "1", "y": "1" } });
        assert_eq!(proxy.eks("POST", &tags, &set).await.status, 200);
        assert_eq!(
            described().await,
            json!({ "team": "b", "old": "1", "x": "1", "y": "1" }),
            "{arn}"
        );
        assert_eq!(
            proxy
                .eks("DELETE", &format!("{tags}?tagKeys=old&tagKeys=x"), &Value::Null)
                .await
                .status,
            200
        );
        assert_eq!(described().await, json!({ "team": "b", "y": "1" }), "{arn}");
        assert_eq!(
            proxy.eks("GET", &tags, &Value::Null).await.json()["tags"],
            json!({ "team": "b", "y": "1" }),
            "{arn}"
        );
    }
    proxy.eks("DELETE", "/clusters/demo", &Value::Null).await;
    assert_eq!(proxy.memory(), json!({}), "nothing is left of a cluster");
    create_cluster(&proxy).await;
    assert_eq!(
        proxy.eks("GET", "/clusters/demo", &Value::Null).await.json()["cluster"]["tags"],
        json!({})
    );

    let template = "Action=CreateLaunchTemplate&Version=2016-11-15&LaunchTemplateName=nodes&LaunchTemplateData.InstanceType=t3.medium\
                    &TagSpecification.1.ResourceType=launch-template&TagSpecification.1.Tag.1.Key=team&TagSpecification.1.Tag.1.Value=a";
    let id = xml::text(&proxy.query("ec2", template).await.body, "launchTemplateId").unwrap();
    let described = async || {
        proxy
            .query("ec2", "Action=DescribeLaunchTemplates&Version=2016-11-15")
            .await
            .body
    };
    assert!(described().await.contains("<key>team</key><value>a</value>"));
    proxy
        .query(
            "ec2",
            &format!("Action=CreateTags&Version=2016-11-15&ResourceId.1={id}&Tag.1.Key=team&Tag.1.Value=b"),
        )
        .await;
    assert!(described().await.contains("<key>team</key><value>b</value>"));
    proxy
        .query(
            "ec2",
            &format!("Action=DeleteTags&Version=2016-11-15&ResourceId.1={id}&Tag.1.Key=team"),
        )
        .await;
    assert!(!described().await.contains("<key>team</key>"));
    let delete = format!("Action=DeleteLaunchTemplate&Version=2016-11-15&LaunchTemplateId={id}");
    assert_eq!(proxy.query("ec2", &delete).await.status, 200);
    let again = proxy.query("ec2", &delete).await;
    assert_eq!(again.status, 400);
    assert!(
        again.body.contains("<Code>InvalidLaunchTemplateId.NotFound</Code>"),
        "{}",
        again.body
    );
}

#[tokio::test]
#[ignore = "starts the AWS emulator: `cargo xtask test` runs it"]
async fn an_add_on_has_its_pod_identity_associations_and_takes_them_along() {
    let (_emulator, proxy) = start().await;
    create_cluster(&proxy).await;
    let associations = async || {
        let path = "/clusters/demo/pod-identity-associations";
        proxy.eks("GET", path, &Value::Null).await.json()["associations"].take()
    };
    let role = |name: &str| format!("arn:aws:iam::000000000000:role/{name}");
    let cni = json!({ "addonName": "vpc-cni", "podIdentityAssociations": [
        { "serviceAccount": "aws-node", "roleArn": role("one") },
    ] });
    let created = proxy.eks("POST", "/clusters/demo/addons", &cni).await.json();
    let arns = &created["addon"]["podIdentityAssociations"];
    assert_eq!(arns.as_array().map(Vec::len), Some(1), "{created}");
    let found = associations().await;
    assert_eq!(
        (
            &found[0]["associationArn"],
            &found[0]["namespace"],
            &found[0]["serviceAccount"]
        ),
        (&arns[0], &json!("kube-system"), &json!("aws-node"))
    );
    let described = proxy
        .eks("GET", "/clusters/demo/addons/vpc-cni", &Value::Null)
        .await
        .json();
    assert_eq!(&described["addon"]["podIdentityAssociations"], arns);
    let change = json!({ "podIdentityAssociations": [{ "serviceAccount": "aws-node", "roleArn": role("two") }] });
    let update = proxy
        .eks("POST", "/clusters/demo/addons/vpc-cni/update", &change)
        .await
        .json();
    assert_eq!(update["update"]["status"], "Successful", "{update}");
    assert_eq!(associations().await.as_array().map(Vec::len), Some(1));
    let deleted = proxy.eks("DELETE", "/clusters/demo/addons/vpc-cni", &Value::Null).await;
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    assert_eq!(associations().await, json!([]));
}

#[tokio::test]
#[ignore = "starts the AWS emulator: `cargo xtask test` runs it"]
async fn a_load_balancer_keeps_its_subnet_and_its_group_until_its_interfaces_are_gone() {
    let (_emulator, proxy) = start().await;
    let ec2 = async |form: &str| proxy.query("ec2", &format!("{form}&Version=2016-11-15")).await;
    let elb = async |version: &str, form: &str| {
        let answer = proxy
            .query("elasticloadbalancing", &format!("{form}&Version={version}"))
            .await;
        assert_eq!(answer.status, 200, "{form}: {}", answer.body);
        answer.body
    };
    let made = async |form: &str, id: &str| xml::text(&ec2(form).await.body, id).unwrap();
    let vpc = made("Action=CreateVpc&CidrBlock=10.9.0.0/16", "vpcId").await;
    let subnet = made(
        &format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.9.0.0/24"),
        "subnetId",
    )
    .await;
    let group = |name: &str| format!("Action=CreateSecurityGroup&GroupName={name}&GroupDescription=x&VpcId={vpc}");
    let (worn, other) = (made(&group("a"), "groupId").await, made(&group("b"), "groupId").await);
    let allowed = format!(
        "Action=AuthorizeSecurityGroupIngress&GroupId={other}&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=1&IpPermissions.1.ToPort=2&IpPermissions.1.Groups.1.GroupId={worn}"
    );
    assert_eq!(ec2(&allowed).await.status, 200);

    let tag = "Tags.member.1.Key=a&Tags.member.1.Value=b%26c";
    let place = format!("Subnets.member.1={subnet}&SecurityGroups.member.1={worn}");
    let newer = elb("2015-12-01", &format!("Action=CreateLoadBalancer&Name=n&{place}")).await;
    assert_eq!(xml::text(&newer, "VpcId"), Some(vpc.clone()));
    let arn = xml::text(&newer, "LoadBalancerArn").unwrap();
    elb(
        "2012-06-01",
        &format!("Action=CreateLoadBalancer&LoadBalancerName=c&{tag}&{place}"),
    )
    .await;
    let classic = elb("2012-06-01", "Action=DescribeLoadBalancers").await;
    assert_eq!(xml::text(&classic, "VPCId"), Some(vpc.clone()), "{classic}");
    assert!(!classic.contains(&arn), "each version has its own: {classic}");
    let tags = elb("2012-06-01", "Action=DescribeTags&LoadBalancerNames.member.1=c").await;
    assert_eq!(xml::text(&tags, "Value").as_deref(), Some("b&c"));

    let within = format!("Action=DescribeNetworkInterfaces&Filter.1.Name=group-id&Filter.1.Value.1={worn}");
    let interfaces = ec2(&within).await.body;
    assert_eq!(xml::items(&interfaces, "networkInterfaceSet").len(), 2, "{interfaces}");
    assert!(interfaces.contains("<status>in-use</status>"), "{interfaces}");
    let one = xml::text(&interfaces, "networkInterfaceId").unwrap();
    let deleted = ec2(&format!("Action=DeleteNetworkInterface&NetworkInterfaceId={one}")).await;
    assert!(deleted.body.contains("OperationNotPermitted"), "{}", deleted.body);
    let refused = async |form: &str| {
        let answer = ec2(form).await;
        assert!(answer.body.contains("DependencyViolation"), "{form}: {}", answer.body);
    };
    let (subnet, group) = (
        format!("Action=DeleteSubnet&SubnetId={subnet}"),
        format!("Action=DeleteSecurityGroup&GroupId={worn}"),
    );
    refused(&subnet).await;
    refused(&group).await;

    elb(
        "2015-12-01",
        &format!("Action=DeleteLoadBalancer&LoadBalancerArn={arn}"),
    )
    .await;
    elb("2012-06-01", "Action=DeleteLoadBalancer&LoadBalancerName=c").await;
    refused(&subnet).await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(ec2(&subnet).await.status, 200);
    refused(&group).await;
    assert_eq!(ec2(&allowed.replace("Authorize", "Revoke")).await.status, 200);
    assert_eq!(ec2(&group).await.status, 200, "no rule names it any more");
}

#[tokio::test]
#[ignore = "starts the AWS emulator: `cargo xtask test` runs it"]
async fn a_network_interface_takes_tags_and_is_found_by_them() {
    let (_emulator, proxy) = start().await;
    let ec2 = async |form: &str| proxy.query("ec2", &format!("{form}&Version=2016-11-15")).await.body;
    let tag = "TagSpecification.1.ResourceType=network-interface&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=1";
    let made = ec2(&format!("Action=CreateNetworkInterface&{tag}")).await;
    ec2("Action=CreateNetworkInterface&Description=other").await;
    let found = ec2("Action=DescribeNetworkInterfaces&Filter.1.Name=tag:a&Filter.1.Value.1=1").await;
    assert_eq!(xml::items(&found, "networkInterfaceSet").len(), 1, "{found}");
    assert_eq!(
        xml::text(&found, "networkInterfaceId"),
        xml::text(&made, "networkInterfaceId")
    );
}
