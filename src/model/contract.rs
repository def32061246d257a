//! What a blueprint's root module promises to everything that comes after Terraform.

use std::fmt;

use serde_json::Value;

use super::Names;

/// The type that an output must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// `string`.
    String,
    /// `list(string)`; the order counts, so it is no set.
    ListOfStrings,
}

impl OutputKind {
    /// Whether a value, as `terraform output -json` prints it, is of this type.
    #[must_use]
    pub fn accepts(self, value: &Value) -> bool {
        match self {
            Self::String => value.as_str().is_some_and(|text| !text.is_empty()),
            Self::ListOfStrings => value
                .as_array()
                .is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_string)),
        }
    }
}

impl fmt::Display for OutputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::ListOfStrings => "a list of strings",
        })
    }
}

/// An output that every blueprint has.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: OutputKind,
    /// What it holds, as a noun phrase without a full stop.
    pub meaning: &'static str,
    /// The value that Git already refers to, where it is a function of the environment's name.
    pub promised: Option<fn(&Names) -> &str>,
}

const fn string(name: &'static str, meaning: &'static str) -> Output {
    Output {
        name,
        kind: OutputKind::String,
        meaning,
        promised: None,
    }
}

const fn promised(name: &'static str, meaning: &'static str, value: fn(&Names) -> &str) -> Output {
    Output {
        name,
        kind: OutputKind::String,
        meaning,
        promised: Some(value),
    }
}

/// The contract: every blueprint's root module has these outputs. `docs/blueprints.md` shows the same table to its readers.
pub const OUTPUTS: [Output; 14] = [
    promised("cluster_name", "the name of the EKS cluster", |names| &names.cluster),
    string("cluster_arn", "the ARN of the EKS cluster"),
    string("cluster_endpoint", "the URL of the Kubernetes API"),
    string(
        "cluster_certificate_authority_data",
        "the certificate of the Kubernetes API's authority, base64-encoded PEM",
    ),
    string("cluster_version", "the Kubernetes version of the control plane"),
    string("region", "the AWS region of the cluster"),
    string("vpc_id", "the id of the VPC"),
    Output {
        name: "private_subnet_ids",
        kind: OutputKind::ListOfStrings,
        meaning: "the ids of the subnets of nodes and pods, in the order of their zones",
        promised: None,
    },
    string("node_security_group_id", "the id of the security group that nodes wear"),
    string("node_role_name", "the name of the IAM role of the managed nodes"),
    promised(
        "karpenter_node_role_name",
        "the name of the IAM role of the nodes that Karpenter makes",
        |names| &names.karpenter_node_role,
    ),
    promised(
        "karpenter_controller_role_name",
        "the name of the IAM role of kube-system/karpenter",
        |names| &names.karpenter_controller_role,
    ),
    promised(
        "karpenter_queue_name",
        "the name of the SQS queue of interruption warnings",
        |names| &names.karpenter_queue,
    ),
    string(
        "kms_key_arn",
        "the ARN of the KMS key of the cluster's Secrets and logs",
    ),
];

/// How the outputs of an applied root module, as `terraform output -json` prints them, break the contract: one sentence
/// for each output that does.
#[must_use]
pub fn violations(outputs: &Value, names: &Names) -> Vec<String> {
    let mut found = Vec::new();
    for output in OUTPUTS {
        let Output {
            name, kind, meaning, ..
        } = output;
        match outputs.get(name).and_then(|o| o.get("value")) {
            None | Some(Value::Null) => found.push(format!("the output {name} is missing: {kind}, {meaning}")),
            Some(value) if !kind.accepts(value) => {
                found.push(format!("the output {name} must be {kind}, {meaning}; it is {value}"));
            }
            Some(value) => {
                if let Some(promised) = output.promised.map(|p| p(names))
                    && value != promised
                {
                    found.push(format!(
                        "the output {name} is {value}, and cd/ was rendered for {promised:?}"
                    ));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{EnvironmentName, Scalar as _};

    fn names() -> Names {
        Names::of(&EnvironmentName::parse("demo").unwrap())
    }

    /// What an applied root module that keeps the contract prints.
    fn kept() -> Value {
        let value = |o: &Output| match (o.kind, o.promised) {
            (OutputKind::ListOfStrings, _) => json!(["subnet-a", "subnet-b"]),
            (_, Some(promised)) => json!(promised(&names())),
            _ => json!("x"),
        };
        OUTPUTS
            .iter()
            .map(|o| (o.name.to_owned(), json!({ "value": value(o) })))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    #[test]
    fn outputs_that_keep_the_contract_are_not_mentioned() {
        assert!(violations(&kept(), &names()).is_empty());
    }

    #[test]
    fn every_output_that_is_missing_is_named_with_what_it_must_be() {
        let found = violations(&json!({}), &names());
        assert_eq!(found.len(), OUTPUTS.len());
        for (output, sentence) in OUTPUTS.iter().zip(found) {
            assert!(
                sentence.contains(output.name) && sentence.contains(output.meaning),
                "{sentence}"
            );
        }
    }

    #[test]
    fn a_value_of_another_type_or_another_name_is_told() {
        for (name, value, part) in [
            ("cluster_version", json!(1.35), "must be a string"),
            ("cluster_endpoint", json!(""), "must be a string"),
            ("kms_key_arn", Value::Null, "is missing"),
            ("private_subnet_ids", json!("subnet-a"), "must be a list of strings"),
            ("private_subnet_ids", json!([]), "must be a list of strings"),
            ("private_subnet_ids", json!([1]), "must be a list of strings"),
            (
                "karpenter_queue_name",
                json!("Karpenter-demo"),
                "cd/ was rendered for \"demo-karpenter\"",
            ),
        ] {
            let mut outputs = kept();
            outputs[name]["value"] = value;
            let found = violations(&outputs, &names());
            assert!(
                found.len() == 1 && found[0].contains(name) && found[0].contains(part),
                "{found:?}"
            );
        }
    }
}
