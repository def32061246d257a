//! `mfsre iam-policy`.

use std::sync::LazyLock;

use mfsre::aws::Call;
use mfsre::config::Environment;
use mfsre::ops::IamPolicies;
use serde_json::{Value, json};

use crate::aws::Seen;
use crate::calls::{BUCKET, ENVIRONMENT};
use crate::common::{Project, REPOSITORY, environment};
use crate::iam::allows;

/// What the policy of the environment in these tests says. The secrets in other states have names of their own.
static POLICY: LazyLock<Value> = LazyLock::new(|| {
    let policy = of(&format!("backend:\n  type: s3\n  bucket: {BUCKET}\n"));
    let text = policy["mfsre"]
        .to_string()
        .replace("secret:demo/argocd-", "secret:demo/*-");
    serde_json::from_str(&text).unwrap()
});

fn of(settings: &str) -> Value {
    let environment = environment(&format!("name: demo\n{REPOSITORY}region: eu-west-1\n{settings}"));
    serde_json::to_value(policies(&environment)).unwrap()
}

fn policies(environment: &Environment) -> IamPolicies {
    let tree = mfsre::render::render(environment, None, Some(&[])).unwrap();
    IamPolicies::of(environment, &tree)
}

/// What was called, on what it names, is allowed.
pub(crate) fn assert_allowed(seen: &Seen) {
    let body: Value = serde_json::from_str(&seen.request.body).unwrap_or_default();
    let named = |key: &str| body[key].as_str().unwrap_or_default();
    let region = seen.region.as_str();
    let arn = |service: &str, resource: String| Some(format!("arn:aws:{service}:{region}:000000000000:{resource}"));
    let resource = match (seen.service.as_str(), seen.operation.as_str()) {
        // IAM asks for no permission.
        ("sts", "GetCallerIdentity") => return,
        ("eks", "DescribeCluster") => arn("eks", seen.request.path.replacen("/clusters/", "cluster/", 1)),
        ("secretsmanager", "CreateSecret") => arn("secretsmanager", format!("secret:{}-AbCdEf", named("Name"))),
        ("secretsmanager", _) => arn("secretsmanager", format!("secret:{}-AbCdEf", named("SecretId"))),
        ("ssm", _) => arn("ssm", format!("parameter{}", named("Name"))),
        ("kms", "CreateKey") => None,
        ("kms", _) => Some(named("KeyId").to_owned()),
        ("s3", _) => Some(format!("arn:aws:s3:::{BUCKET}")),
        ("logs", "DeleteLogGroup") => arn("logs", format!("log-group:{}:*", named("logGroupName"))),
        ("ec2", "DeleteNetworkInterface") => arn("ec2", "network-interface/eni-1".to_owned()),
        // What is removed is known by its tags, which are conditions.
        ("ec2" | "elasticloadbalancing", operation) if !operation.starts_with("Describe") => {
            arn(&seen.service, "something/of-the-environment".to_owned())
        }
        ("iam", "DeleteInstanceProfile" | "RemoveRoleFromInstanceProfile") => {
            Some("arn:aws:iam::000000000000:instance-profile/demo_1".to_owned())
        }
        _ => None,
    };
    let call = Call::ALL.iter().find(|c| c.to_string() == seen.action()).unwrap();
    for action in call.actions() {
        let resource = resource.as_deref().map(|arn| arn.replace(region, "eu-west-1"));
        assert!(
            allows(&POLICY, action, resource.as_deref()),
            "{action} on {resource:?}: {seen:?}"
        );
    }
}

/// A call whose error is not told by its name could be missing in the table.
#[test]
fn every_call_is_made_under_its_name() {
    let mut pending = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/aws"
    ))];
    let mut made = 0;
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let count = |what: &str| text.matches(what).count();
            let calls = count(".send()") + count(".invoke(");
            assert_eq!(calls, count("AwsError::of("), "{}", path.display());
            made += calls;
        }
    }
    assert!(made > 10, "{made}");
}

#[test]
fn the_policy_is_narrowed_to_the_environment() {
    let policy = of("images:\n  pull_secret: acme/registry\n");
    insta::assert_snapshot!(serde_json::to_string_pretty(&policy["mfsre"]).unwrap());
    let own = &policy["mfsre"];
    let secret = |name: &str| format!("arn:aws:secretsmanager:eu-west-1:000000000000:secret:{name}-AbCdEf");
    let get = "secretsmanager:GetSecretValue";
    assert!(allows(own, get, Some(&secret("demo/argocd"))));
    assert!(allows(own, get, Some(&secret("acme/registry"))));
    assert!(
        !allows(own, "secretsmanager:DeleteSecret", Some(&secret("acme/registry"))),
        "it is only read"
    );
    assert!(!allows(own, get, Some(&secret("demo2/argocd"))));
    assert!(!allows(
        own,
        "eks:DescribeCluster",
        Some("arn:aws:eks:eu-west-1:000000000000:cluster/demo2")
    ));
}

#[test]
fn terraform_has_a_policy_for_what_the_root_module_holds() {
    let policy = of("backend:\n  type: s3\n  bucket: acme-state\n  kms_key_id: alias/state\n");
    insta::assert_snapshot!(serde_json::to_string_pretty(&policy["terraform"]).unwrap());
    assert_eq!(policy["unknown"], json!([]));
    let rules = |policy: &Value| policy["terraform"].to_string().contains("ec2:CreateFlowLogs");
    assert!(rules(&policy));
    // Modules of others call what they like; it is told that they are there.
    let policy = of("blueprint: eks-blueprints\n");
    assert!(!rules(&policy));
    assert!(
        policy["unknown"].to_string().contains("terraform-aws-modules/eks"),
        "{}",
        policy["unknown"]
    );
}

#[test]
fn arns_are_those_of_the_partition() {
    for (region, partition) in [
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-east-1", "aws"),
    ] {
        let text = format!("name: demo\n{REPOSITORY}region: {region}\n");
        let policies = serde_json::to_value(policies(&environment(&text))).unwrap();
        let statements = ["mfsre", "terraform"].map(|whose| policies[whose]["Statement"].as_array().unwrap());
        let mut arns = 0;
        for statement in statements.into_iter().flatten() {
            for resource in statement["Resource"].as_array().unwrap() {
                let resource = resource.as_str().unwrap();
                let right = resource == "*" || resource.starts_with(&format!("arn:{partition}:"));
                assert!(right, "{region}: {resource}");
                arns += usize::from(resource != "*");
            }
        }
        assert!(arns > 20, "{arns}");
    }
}

/// IAM counts characters without white space (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>).
#[test]
fn the_documents_fit_where_policies_are_put() {
    let long = "a".repeat(20);
    let text = format!("name: {long}\n{REPOSITORY}region: us-gov-west-1\n");
    let mut file = text.lines().map(str::to_owned).collect::<Vec<_>>();
    file.push("backend: { type: s3, bucket: acme-state-of-a-long-name, kms_key_id: alias/state }".into());
    let parsed = mfsre::config::parse(
        mfsre::config::Source {
            path: "environments/x.yaml".into(),
            text: file.join("\n") + "\n",
        },
        &long,
        crate::common::TODAY,
    );
    let policies = match parsed {
        Ok(loaded) => policies(&loaded.environment),
        Err(diagnostics) => panic!("{}", diagnostics.render(false)),
    };
    let size = |value: &Value| value.to_string().len();
    let own = size(&serde_json::to_value(&policies.mfsre).unwrap());
    let terraform = size(&serde_json::to_value(&policies.terraform).unwrap());
    println!("IAM policies: mfsre {own}, Terraform {terraform} characters");
    assert!(own <= 6144, "a managed policy: {own}");
    assert!(
        terraform <= 10_240,
        "what a role's inline policies may come to: {terraform}"
    );
}

#[test]
fn the_command_prints_a_document_that_iam_takes() {
    let project = Project::empty();
    project.write(
        &format!("environments/{ENVIRONMENT}.yaml"),
        format!("name: {ENVIRONMENT}\n{REPOSITORY}region: eu-west-1\n"),
    );
    let both = project.run(&["iam-policy", ENVIRONMENT, "--output", "json"]).json();
    assert_eq!((&both["command"], &both["ok"]), (&json!("iam-policy"), &json!(true)));
    for (arguments, whose) in [(&[][..], "mfsre"), (&["--terraform"], "terraform")] {
        let text = project.run(&[&["iam-policy", ENVIRONMENT], arguments].concat());
        assert_eq!((text.code, text.stderr.as_str()), (0, ""), "{text}");
        let printed: Value = serde_json::from_str(&text.stdout).unwrap();
        assert_eq!(printed, both[whose]);
    }
}
