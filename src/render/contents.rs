//! What Terraform code is made of.

use std::collections::BTreeSet;

use hcl_edit::expr::Expression;
use hcl_edit::structure::{Block, Body};

use super::Tree;

/// The types of resources and data sources in a tree, and the sources of modules that are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TerraformContents {
    /// Such as `aws_vpc`.
    pub types: BTreeSet<String>,
    /// As the code names them.
    pub foreign_modules: BTreeSet<String>,
}

/// What the tree's Terraform code is made of. A file that is not HCL, which Terraform refuses, counts as empty.
#[must_use]
pub fn terraform_contents(tree: &Tree) -> TerraformContents {
    let mut contents = TerraformContents::default();
    let code = tree
        .files()
        .filter(|(path, _)| path.extension().is_some_and(|e| e == "tf"));
    for (_, bytes) in code {
        let Ok(body) = String::from_utf8_lossy(bytes).parse::<Body>() else {
            continue;
        };
        for block in body.blocks() {
            match (block.ident.as_str(), block.labels.first()) {
                ("resource" | "data", Some(kind)) => {
                    contents.types.insert(kind.as_str().to_owned());
                }
                ("module", _) => contents.foreign_modules.extend(foreign_source(block)),
                _ => {}
            }
        }
    }
    contents
}

fn foreign_source(module: &Block) -> Option<String> {
    let Expression::String(source) = &module.body.get_attribute("source")?.value else {
        return None;
    };
    let source = source.as_str();
    (!source.starts_with("./") && !source.starts_with("../")).then(|| source.to_owned())
}
