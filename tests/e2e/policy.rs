//! The calls that were made, by the log of the proxy in front of AWS, against `mfsre iam-policy`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::project::{ENVIRONMENT, Project};

/// Calls for which IAM asks for no permission.
const FREE: [&str; 1] = ["sts:GetCallerIdentity"];

/// Neither mfsre nor Terraform has made a call that its policy does not allow. By actions: the log holds no resources.
pub(crate) fn no_call_is_outside_the_policy(project: &Project) {
    let printed = project.run(&["iam-policy", ENVIRONMENT]);
    let policies = printed.exit(0);
    let log = std::fs::read_to_string(project.private().join("sandbox/logs/aws-proxy.log")).unwrap();
    let mut calls: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        let caller = match text("user_agent") {
            agent if agent.contains("app/mfsre") => "mfsre",
            agent if agent.contains("Terraform") || agent.contains("OpenTofu") => "terraform",
            // The token webhook, and these tests.
            _ => continue,
        };
        let service = match text("service") {
            "tagging" => "tag",
            service => service,
        };
        let action = match service {
            "s3" => s3_action(text("operation")),
            _ => Some(format!("{service}:{}", text("operation"))),
        };
        let Some(action) = action else { continue };
        *calls.entry(caller).or_default().entry(action).or_default() += 1;
    }
    for (caller, made) in &calls {
        let statements = policies[caller]["Statement"].as_array().unwrap();
        let allowed: BTreeSet<&str> = statements
            .iter()
            .flat_map(|statement| statement["Action"].as_array().unwrap())
            .map(|action| action.as_str().unwrap())
            .chain(FREE)
            .collect();
        let outside: Vec<&String> = made
            .keys()
            .filter(|action| !allowed.contains(action.as_str()))
            .collect();
        assert!(
            outside.is_empty(),
            "{caller} calls what its policy does not allow: {outside:?}"
        );
        println!(
            "    {caller}: {} calls of {} actions, none outside of its policy with {}",
            made.values().sum::<usize>(),
            made.len(),
            allowed.len()
        );
    }
    assert_eq!(calls.len(), 2, "both were at work: {:?}", calls.keys());
}

/// The action of a call of S3, which is logged by method and path, such as `PUT /bucket/key`. `None` for one about a bucket:
/// what is asked of it stands in the query, and tests/aws_faults holds that against the policy.
fn s3_action(operation: &str) -> Option<String> {
    let (method, path) = operation.split_once(' ')?;
    path.trim_matches('/').split_once('/')?;
    let verb = match method {
        "GET" | "HEAD" => "Get",
        "PUT" => "Put",
        "DELETE" => "Delete",
        other => panic!("{other} {path}: which action is it?"),
    };
    Some(format!("s3:{verb}Object"))
}
