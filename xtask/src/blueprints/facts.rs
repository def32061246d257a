//! What is recorded of the modules that blueprints call, and of the provider that the built-in one uses.
//!
//! The tests of the root package include this file too (`tests/blueprints.rs`).

use std::collections::{BTreeMap, BTreeSet};

use hcl_edit::structure::{Block, Body};
use serde::{Deserialize, Serialize};

use super::code::{Code, Type, label};

/// `tests/blueprints/modules.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Modules {
    /// How the file is made.
    pub(crate) about: String,
    /// Modules that the blueprint calls, and those that they call, by `ADDRESS` or `ADDRESS//FOLDER`.
    pub(crate) modules: BTreeMap<String, Module>,
}

/// A released module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Module {
    /// The release.
    pub(crate) version: String,
    /// Where its source is.
    pub(crate) repository: String,
    /// Versions of Terraform.
    pub(crate) terraform: String,
    /// Ranges of providers.
    pub(crate) providers: BTreeMap<String, String>,
    /// Registry modules that it calls, with their versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) calls: BTreeMap<String, String>,
    /// Every variable without a default.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) required: BTreeSet<String>,
    /// The variables that we set, with what of their type we use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) variables: BTreeMap<String, Type>,
    /// The outputs that we read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) outputs: BTreeSet<String>,
}

/// `tests/blueprints/provider-aws.json`: every argument and attribute of `hashicorp/aws` that the built-in blueprint uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provider {
    /// How the file is made.
    pub(crate) about: String,
    /// The provider's versions whose schemas have all of it, none of it deprecated.
    pub(crate) checked: BTreeSet<String>,
    /// By type of resource; `data.` before a data source's.
    pub(crate) uses: BTreeMap<String, BTreeSet<String>>,
}

/// What code uses of `hashicorp/aws`, by type: paths of arguments and blocks, and attributes that are read.
pub(crate) fn provider_uses(code: &Code) -> BTreeMap<String, BTreeSet<String>> {
    // Terraform's own, in every resource.
    const META: [&str; 7] = [
        "count",
        "for_each",
        "provider",
        "depends_on",
        "lifecycle",
        "connection",
        "provisioner",
    ];
    fn arguments(body: &Body, prefix: &str, found: &mut BTreeSet<String>) {
        for attribute in body.attributes() {
            if !(prefix.is_empty() && META.contains(&attribute.key.as_str())) {
                found.insert(format!("{prefix}{}", attribute.key.as_str()));
            }
        }
        for block in body.blocks() {
            let (name, inner): (&str, &Body) = match (block.ident.as_str(), block.body.get_blocks("content").next()) {
                ("dynamic", Some(content)) => (label(block, 0), &content.body),
                (name, _) => (name, &block.body),
            };
            if prefix.is_empty() && META.contains(&name) {
                continue;
            }
            found.insert(format!("{prefix}{name}"));
            arguments(inner, &format!("{prefix}{name}."), found);
        }
    }
    let key = |block: &Block| match block.ident.as_str() {
        "data" => format!("data.{}", label(block, 0)),
        _ => label(block, 0).to_owned(),
    };
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for block in code.blocks("resource").chain(code.blocks("data")) {
        if label(block, 0).starts_with("aws_") {
            arguments(&block.body, "", found.entry(key(block)).or_default());
        }
    }
    for names in code.references() {
        let (key, rest) = match names.as_slice() {
            [data, kind, _, rest @ ..] if data == "data" && kind.starts_with("aws_") => (format!("data.{kind}"), rest),
            [kind, _, rest @ ..] if kind.starts_with("aws_") => (kind.clone(), rest),
            _ => continue,
        };
        // `aws_subnet.private["x"].id`, `aws_eks_cluster.this.certificate_authority[0].data`
        let path: Vec<&str> = rest.iter().map(String::as_str).filter(|n| *n != "[*]").collect();
        let uses = found.entry(key).or_default();
        for length in 1..=path.len() {
            uses.insert(path[..length].join("."));
        }
    }
    found
}
