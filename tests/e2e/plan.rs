//! What an emulator cannot show, asserted on the plan of an environment on AWS. What the module promises by itself is shown by
//! its own tests in `templates/terraform/modules/eks/tests`; this is the whole root module, as mfsre renders and plans it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::aws::Aws;
use crate::project::Project;
use crate::tools::terraform;

const ADMINISTRATORS: [&str; 2] = [
    "arn:aws:iam::111122223333:role/platform-admin",
    "arn:aws:iam::444455556666:user/ada",
];

/// Plans the environment `demo` on an AWS on which nothing is, and asserts on the plan's JSON.
pub(crate) fn the_plan_of_an_environment_on_aws(project: &Project, aws: &Aws) {
    project.write(
        "environments/planned.yaml",
        &format!(
            "name: planned\nargocd_repository_url: git@github.com:acme/platform.git\ntags: {{team: platform}}\naccess:\n  administrators:\n    - {}\n    - {}\n",
            ADMINISTRATORS[0], ADMINISTRATORS[1]
        ),
    );
    let file = project.folder().join("planned.tfplan");
    let plan = project.run_with(
        &[
            "plan",
            "planned",
            "--out",
            file.to_str().unwrap(),
            "--detailed-exitcode",
        ],
        &aws.variables(),
    );
    let document = plan.exit(2);
    assert_eq!((&document["change"], &document["destroy"]), (&0.into(), &0.into()));
    let plan = show(project, aws, &file);
    // By which `up --plan` knows whose plan it is.
    assert_eq!(plan["planned_values"]["outputs"]["cluster_name"]["value"], "planned");
    let changes = plan["resource_changes"].as_array().unwrap();
    let created = changes.iter().filter(|c| c["mode"] == "managed").count();
    assert_eq!(document["add"], created, "mfsre's own count is that of the plan");
    administrators_come_from_the_setting(changes);
    nobody_reaches_the_api_over_the_internet(changes);
    everything_is_tagged(changes);
    addons_come_in_order(&plan, changes);
    no_secret_is_in_it(&plan);
}

/// `terraform show -json` of a plan.
fn show(project: &Project, aws: &Aws, file: &std::path::Path) -> Value {
    let output = project
        .command(terraform())
        .args(["show", "-json"])
        .arg(file)
        .current_dir(project.root().join("infra/planned"))
        .envs(aws.variables())
        .env("AWS_REGION", "eu-west-1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn of_type<'a>(changes: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    changes
        .iter()
        .filter(move |c| c["type"] == kind && c["mode"] == "managed")
        .map(|c| &c["change"]["after"])
}

fn administrators_come_from_the_setting(changes: &[Value]) {
    let entries: BTreeSet<(&str, &str)> = of_type(changes, "aws_eks_access_entry")
        .filter_map(|e| Some((e["principal_arn"].as_str()?, e["type"].as_str()?)))
        .collect();
    let wanted = BTreeSet::from(ADMINISTRATORS.map(|arn| (arn, "STANDARD")));
    assert!(
        entries.is_superset(&wanted) && entries.iter().filter(|(_, kind)| *kind == "STANDARD").count() == wanted.len(),
        "administrators come from the setting, not from who calls: {entries:?}"
    );
    // The role does not exist yet, so its ARN is not known yet.
    let nodes = of_type(changes, "aws_eks_access_entry")
        .filter(|e| e["type"] == "EC2_LINUX")
        .count();
    assert_eq!(nodes, 1, "the nodes that Karpenter starts may join by an access entry");
}

fn nobody_reaches_the_api_over_the_internet(changes: &[Value]) {
    let cluster = of_type(changes, "aws_eks_cluster").next().unwrap();
    let network = &cluster["vpc_config"][0];
    assert_eq!(
        network["endpoint_public_access"], false,
        "without a setting there is no public endpoint"
    );
    assert_eq!(network["endpoint_private_access"], true);
}

fn everything_is_tagged(changes: &[Value]) {
    let mut taggable = 0;
    for change in changes.iter().filter(|c| c["mode"] == "managed") {
        let (after, unknown) = (&change["change"]["after"], &change["change"]["after_unknown"]);
        if after.get("tags_all").is_none() && unknown.get("tags_all").is_none() {
            continue;
        }
        taggable += 1;
        let tags = &after["tags_all"];
        for (key, value) in [
            ("mfsre:environment", "planned"),
            ("mfsre:managed-by", "terraform"),
            ("team", "platform"),
        ] {
            assert_eq!(tags[key], value, "{} has the tag {key}: {tags}", change["address"]);
        }
    }
    assert!(taggable > 30, "only {taggable} resources take tags");
}

fn addons_come_in_order(plan: &Value, changes: &[Value]) {
    let names = |resource: &str| -> BTreeSet<String> {
        let ours = |c: &&Value| c["type"] == "aws_eks_addon" && c["name"] == resource;
        let planned = changes.iter().filter(ours);
        planned
            .map(|c| c["change"]["after"]["addon_name"].as_str().unwrap().to_owned())
            .collect()
    };
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(
        names("before_nodes"),
        set(&["eks-pod-identity-agent", "kube-proxy", "vpc-cni"])
    );
    assert_eq!(
        names("after_nodes"),
        set(&["aws-ebs-csi-driver", "coredns", "metrics-server"])
    );
    let depends = |address: &str| -> Vec<String> {
        let calls = plan["configuration"]["root_module"]["module_calls"]
            .as_object()
            .unwrap();
        let modules = calls.values().filter_map(|c| c["module"]["resources"].as_array());
        let resource = modules.flatten().find(|r| r["address"] == address);
        let resource = resource.unwrap_or_else(|| panic!("{address} is in the configuration"));
        let on = resource["depends_on"].as_array().cloned().unwrap_or_default();
        on.iter().map(|d| d.as_str().unwrap().to_owned()).collect()
    };
    let has = |address: &str, on: &str| {
        let all = depends(address);
        assert!(all.iter().any(|d| d == on), "{address} comes after {on}: {all:?}");
    };
    has("aws_eks_node_group.this", "aws_eks_addon.before_nodes");
    has("aws_eks_addon.after_nodes", "aws_eks_node_group.this");
}

fn no_secret_is_in_it(plan: &Value) {
    let mut suspects = Vec::new();
    let mut pending = vec![(String::from("plan"), plan)];
    while let Some((path, value)) = pending.pop() {
        match value {
            Value::Object(map) => pending.extend(map.iter().map(|(k, v)| (format!("{path}.{k}"), v))),
            Value::Array(list) => pending.extend(list.iter().enumerate().map(|(i, v)| (format!("{path}[{i}]"), v))),
            Value::String(text) => {
                let name = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
                let telling = ["password", "secret_string", "private_key", "secret_access_key"];
                let looks = ["PRIVATE KEY", "$2a$", "$2b$", "$2y$", "ghp_", "github_pat_"];
                if telling.iter().any(|t| name.contains(t)) || looks.iter().any(|l| text.contains(l)) {
                    suspects.push(format!("{path} = {text}"));
                }
            }
            // Terraform marks what a provider or a variable calls sensitive.
            Value::Bool(true) if path.contains("sensitive") => suspects.push(path),
            _ => {}
        }
    }
    assert!(
        suspects.is_empty(),
        "the plan holds what looks like a secret: {suspects:#?}"
    );
}
