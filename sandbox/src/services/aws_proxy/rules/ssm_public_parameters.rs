use serde_json::{Value, json};

use super::catalog::{BOTTLEROCKET, ClusterVersion, IMAGE_DATE, cluster_version, seconds};
use super::{Outcome, Rule};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;

pub(super) const RULE: Rule = Rule {
    name: "ssm_public_parameters",
    service: "ssm",
    operations: &["GetParameter", "GetParameters"],
    reason: "the emulator lacks the public parameters that name the images of EKS nodes, and nobody can put them",
    apply,
};

/// An image that the emulator's EC2 knows; it stands for every image of a node.
const IMAGE: &str = "ami-0c2023a1b2c3d4e5f";

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        let mut asked = request.json();
        let region = request.call.region.clone();
        if request.call.operation == "GetParameter" {
            let known = asked["Name"].as_str().and_then(|name| parameter(name, &region));
            return match known {
                Some(parameter) => Ok(Answer::json(&json!({ "Parameter": parameter }))),
                None => context.ask(request).await,
            };
        }
        let names = asked["Names"].as_array().cloned().unwrap_or_default();
        let found: Vec<Value> = names
            .iter()
            .filter_map(Value::as_str)
            .filter_map(|name| parameter(name, &region))
            .collect();
        if found.is_empty() {
            return context.ask(request).await;
        }
        let others: Vec<Value> = names
            .into_iter()
            .filter(|name| name.as_str().is_none_or(|name| parameter(name, &region).is_none()))
            .collect();
        if others.is_empty() {
            return Ok(Answer::json(&json!({ "Parameters": found, "InvalidParameters": [] })));
        }
        asked["Names"] = Value::Array(others);
        let answer = context.ask(request.with_body(asked.to_string())).await?;
        let Some(mut body) = answer.success() else {
            return Ok(answer);
        };
        let mut parameters = body["Parameters"].as_array().cloned().unwrap_or_default();
        parameters.extend(found);
        body["Parameters"] = Value::Array(parameters);
        Ok(answer.with_body(body.to_string()))
    })
}

/// A public parameter of the images of EKS nodes ("Retrieve recommended Amazon Linux AMI IDs" and "Retrieve recommended
/// Bottlerocket AMI IDs", Amazon EKS User Guide).
fn parameter(name: &str, region: &str) -> Option<Value> {
    let value = value(name)?;
    Some(json!({
        "Name": name,
        "Type": "String",
        "Value": value,
        "Version": 1,
        "LastModifiedDate": seconds(jiff::civil::date(2026, 4, 15)),
        "ARN": format!("arn:aws:ssm:{region}::parameter{name}"),
        "DataType": "text",
    }))
}

fn value(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.strip_prefix("/aws/service/")?.split('/').collect();
    match parts.as_slice() {
        [
            "eks",
            "optimized-ami",
            version,
            "amazon-linux-2023",
            architecture,
            variant,
            "recommended",
            rest @ ..,
        ] if is_architecture(architecture) && matches!(*variant, "standard" | "nvidia" | "neuron") => {
            amazon_linux(cluster_version(version)?, architecture, variant, rest)
        }
        ["bottlerocket", platform, architecture, "latest" | BOTTLEROCKET, field] if is_architecture(architecture) => {
            cluster_version(platform.strip_prefix("aws-k8s-")?)?;
            match *field {
                "image_id" => Some(IMAGE.to_owned()),
                "image_version" => Some(BOTTLEROCKET.to_owned()),
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_architecture(text: &str) -> bool {
    matches!(text, "x86_64" | "arm64")
}

fn amazon_linux(version: &ClusterVersion, architecture: &str, variant: &str, field: &[&str]) -> Option<String> {
    let image_name = format!(
        "amazon-eks-node-al2023-{architecture}-{variant}-{}-v{IMAGE_DATE}",
        version.version
    );
    match field {
        ["image_id"] => Some(IMAGE.to_owned()),
        ["image_name"] => Some(image_name),
        ["release_version"] => Some(version.image_release()),
        [] => {
            let all = json!({
                "schema_version": "2",
                "image_id": IMAGE,
                "image_name": image_name,
                "release_version": version.image_release(),
            });
            Some(all.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn names_of_the_user_guide_have_values() {
        let standard = "/aws/service/eks/optimized-ami/1.34/amazon-linux-2023/x86_64/standard/recommended";
        assert_eq!(
            value(&format!("{standard}/release_version")).as_deref(),
            Some("1.34.2-20260415")
        );
        assert_eq!(
            value(&format!("{standard}/image_id")).as_deref(),
            Some("ami-0c2023a1b2c3d4e5f")
        );
        assert!(
            value(standard)
                .unwrap()
                .contains("\"release_version\":\"1.34.2-20260415\"")
        );
        assert!(value("/aws/service/bottlerocket/aws-k8s-1.35/arm64/latest/image_version").is_some());
    }

    #[test]
    fn others_have_none() {
        for name in [
            "/demo/key",
            "/aws/service/eks/optimized-ami/1.99/amazon-linux-2023/x86_64/standard/recommended/image_id",
            "/aws/service/eks/optimized-ami/1.34/amazon-linux-2023/riscv/standard/recommended/image_id",
            "/aws/service/eks/optimized-ami/1.34/amazon-linux-2023/x86_64/standard/recommended/x",
            "/aws/service/bottlerocket/aws-ecs-1/x86_64/latest/image_id",
            "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        ] {
            assert_eq!(value(name), None, "{name}");
        }
    }
}
