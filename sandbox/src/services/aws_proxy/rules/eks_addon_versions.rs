use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Rule;
use super::catalog::{ADDONS, Addon, CLUSTER_VERSIONS, ClusterVersion};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::request::Request;

pub(super) const RULE: Rule = Rule {
    name: "eks_addon_versions",
    service: "eks",
    operations: &["DescribeAddonVersions"],
    reason: "the emulator has no route for it",
    apply: |_, request| Box::pin(async move { Ok(answer(&request)) }),
};

/// The most add-ons on a page, and how many there are on one unless told otherwise.
const PAGE: usize = 100;

/// Source: "DescribeAddonVersions", Amazon EKS API Reference.
fn answer(request: &Request) -> Answer {
    let invalid = |text: &str| {
        Answer::error(
            &request.call,
            StatusCode::BAD_REQUEST,
            "InvalidParameterException",
            text,
        )
    };
    let all = |name: &str| -> Vec<String> {
        request
            .query()
            .into_iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value)
            .collect()
    };
    let matches = |name: &str, value: &str| {
        let wanted = all(name);
        wanted.is_empty() || wanted.iter().any(|wanted| wanted == value)
    };
    let size = match request.parameter("maxResults").map(|text| text.parse::<usize>()) {
        None => PAGE,
        Some(Ok(size)) if (1..=PAGE).contains(&size) => size,
        Some(_) => return invalid("maxResults must be between 1 and 100"),
    };
    let skipped = match request.parameter("nextToken").map(|text| text.parse::<usize>()) {
        None => 0,
        Some(Ok(skipped)) => skipped,
        Some(Err(_)) => return invalid("Invalid nextToken"),
    };

    let version = request.parameter("kubernetesVersion");
    let clusters: Vec<&ClusterVersion> = CLUSTER_VERSIONS
        .iter()
        .filter(|entry| version.as_ref().is_none_or(|version| version == entry.version))
        .collect();
    let found: Vec<&Addon> = ADDONS
        .iter()
        .filter(|addon| !clusters.is_empty() && matches("addonName", addon.name) && matches("types", addon.kind))
        .filter(|addon| matches("publishers", addon.publisher) && matches("owners", addon.owner))
        .collect();
    let page: Vec<Value> = found
        .iter()
        .skip(skipped)
        .take(size)
        .map(|addon| describe(addon, &clusters))
        .collect();
    let mut body = json!({ "addons": page });
    let next = skipped.saturating_add(size);
    if next < found.len() {
        body["nextToken"] = json!(next.to_string());
    }
    Answer::json(&body)
}

fn describe(addon: &Addon, clusters: &[&ClusterVersion]) -> Value {
    // The clusters of each version of the add-on, and whether it is the default there: never the newest where there
    // is an older one, as on AWS, where a new version becomes the default after some time.
    let versions_for = |cluster: &ClusterVersion| {
        if addon.versions.is_empty() {
            cluster.kube_proxy
        } else {
            addon.versions
        }
    };
    let mut listed: Vec<(&str, Vec<Value>)> = Vec::new();
    for cluster in clusters {
        let versions = versions_for(cluster);
        for version in versions {
            let compatibility = json!({
                "clusterVersion": cluster.version,
                "platformVersions": ["*"],
                "defaultVersion": versions.last() == Some(version),
            });
            match listed.iter_mut().find(|(other, _)| other == version) {
                Some((_, compatibilities)) => compatibilities.push(compatibility),
                None => listed.push((version, vec![compatibility])),
            }
        }
    }
    let versions: Vec<Value> = listed
        .into_iter()
        .map(|(version, compatibilities)| {
            json!({
                "addonVersion": version,
                "architecture": ["amd64", "arm64"],
                "computeTypes": ["ec2", "auto", "hybrid"],
                "compatibilities": compatibilities,
                "requiresConfiguration": false,
                "requiresIamPermissions": addon.needs_iam,
            })
        })
        .collect();
    json!({
        "addonName": addon.name,
        "type": addon.kind,
        "addonVersions": versions,
        "publisher": addon.publisher,
        "owner": addon.owner,
        "defaultNamespace": addon.namespace,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::answer;
    use crate::services::aws_proxy::tests::request;

    fn ask(query: &str) -> Value {
        answer(&request(
            "eks",
            "GET",
            &format!("/addons/supported-versions{query}"),
            "",
        ))
        .success()
        .unwrap()
    }

    #[test]
    fn one_add_on_for_one_version() {
        let body = ask("?addonName=kube-proxy&kubernetesVersion=1.34");
        let addon = &body["addons"][0];
        assert_eq!(body["addons"].as_array().unwrap().len(), 1);
        assert_eq!(addon["addonVersions"].as_array().unwrap().len(), 2);
        assert_eq!(
            addon["addonVersions"][0]["addonVersion"], "v1.34.1-eksbuild.2",
            "the newest first"
        );
        let default = |index: usize| addon["addonVersions"][index]["compatibilities"][0]["defaultVersion"].clone();
        assert_eq!((default(0), default(1)), (Value::Bool(false), Value::Bool(true)));
    }

    #[test]
    fn exactly_one_default_for_every_add_on_and_version() {
        let body = ask("");
        for addon in body["addons"].as_array().unwrap() {
            for cluster in ["1.35", "1.34", "1.33", "1.32", "1.31", "1.30"] {
                let defaults = addon["addonVersions"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .flat_map(|version| version["compatibilities"].as_array().unwrap())
                    .filter(|entry| entry["clusterVersion"] == cluster && entry["defaultVersion"] == true);
                assert_eq!(defaults.count(), 1, "{} {cluster}", addon["addonName"]);
            }
        }
    }

    #[test]
    fn filters_and_pages() {
        assert!(ask("?addonName=none")["addons"].as_array().unwrap().is_empty());
        assert!(ask("?kubernetesVersion=1.99")["addons"].as_array().unwrap().is_empty());
        assert_eq!(ask("?owners=community")["addons"][0]["addonName"], "metrics-server");
        assert_eq!(ask("?types=storage")["addons"][0]["addonName"], "aws-ebs-csi-driver");
        let first = ask("?maxResults=4");
        assert_eq!(
            (first["addons"].as_array().unwrap().len(), &first["nextToken"]),
            (4, &Value::from("4"))
        );
        let second = ask("?maxResults=4&nextToken=4");
        assert_eq!(
            (second["addons"].as_array().unwrap().len(), &second["nextToken"]),
            (2, &Value::Null)
        );
        for query in ["?maxResults=0", "?maxResults=101", "?nextToken=x"] {
            let answer = answer(&request(
                "eks",
                "GET",
                &format!("/addons/supported-versions{query}"),
                "",
            ));
            assert_eq!(answer.status, 400, "{query}");
        }
    }
}
