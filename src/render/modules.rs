//! Module calls in rendered Terraform files: which registry modules they name, and copies in place of them.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use hcl_edit::Span as _;
use hcl_edit::structure::Body;

/// A call of a module from a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryModule {
    /// The call's name.
    pub call: String,
    /// `NAMESPACE/NAME/PROVIDER`, without the registry's host.
    pub address: String,
    /// Folder in the module's package, behind `//`.
    pub folder: Option<String>,
    /// Version constraint.
    pub version: Option<String>,
    source: Range<usize>,
    constraint: Option<Range<usize>>,
}

/// The registry modules that a body calls, in the order of the file. Modules from folders, Git and archives are left out.
///
/// The form of an address is that of <https://developer.hashicorp.com/terraform/internals/module-registry-protocol>.
#[must_use]
pub fn registry_modules(body: &Body) -> Vec<RegistryModule> {
    body.get_blocks("module")
        .filter_map(|block| {
            let source = block.body.get_attribute("source")?;
            let (address, folder) = registry_address(source.value.as_str()?)?;
            let version = block.body.get_attribute("version");
            Some(RegistryModule {
                call: block.labels.first().map(|l| l.as_str().to_owned()).unwrap_or_default(),
                address,
                folder,
                version: version.and_then(|v| v.value.as_str()).map(str::to_owned),
                source: source.span()?,
                constraint: version.and_then(|v| v.span()),
            })
        })
        .collect()
}

fn registry_address(source: &str) -> Option<(String, Option<String>)> {
    let (package, folder) = match source.split_once("//") {
        Some((package, folder)) => (package, Some(folder.to_owned())),
        None => (source, None),
    };
    let parts: Vec<&str> = package.split('/').collect();
    let address = match parts.as_slice() {
        [_, _, _] => parts.as_slice(),
        // The first of four is a registry's host.
        [host, address @ ..] if address.len() == 3 && host.contains('.') => address,
        _ => return None,
    };
    let part = |text: &&str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    address.iter().all(part).then(|| (address.join("/"), folder))
}

/// `text` with the copies in `mirror` in place of registry modules. `file` and `mirror` are relative to the project.
/// Whatever is not changed stays as it is, byte for byte.
///
/// # Errors
/// What stands in the way, as one line: the text is not HCL, or a call has no exact version and so no copy.
pub(super) fn use_copies(text: &str, file: &Path, mirror: &Path) -> Result<String, String> {
    let body: Body = text
        .parse()
        .map_err(|e: hcl_edit::parser::Error| e.message().to_owned())?;
    let mut out = text.to_owned();
    // From the end, so that what comes before keeps its place.
    for module in registry_modules(&body).iter().rev() {
        let version = match &module.version {
            Some(version) if is_exact(version) => version.trim_start_matches('=').trim(),
            other => {
                return Err(format!(
                    "module {:?} has {} and mirrors.modules has a copy for each exact version: write one, such as version = \"1.2.3\"",
                    module.call,
                    other
                        .as_ref()
                        .map_or_else(|| "no version".to_owned(), |v| format!("the version {v:?}"))
                ));
            }
        };
        let mut copy = relative(file.parent().unwrap_or(Path::new("")), mirror);
        copy.push(&module.address);
        copy.push(version);
        copy.extend(module.folder.as_deref().map(Path::new));
        let copy = copy.to_string_lossy();
        // A source that begins otherwise would be a registry's.
        let prefix = if copy.starts_with("..") { "" } else { "./" };
        let source = (
            module.source.clone(),
            format!("source = {}", quoted(&format!("{prefix}{copy}"))),
        );
        let mut edits = vec![source];
        edits.extend(
            module
                .constraint
                .clone()
                .map(|range| (whole_line(text, range), String::new())),
        );
        edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        for (range, new) in edits {
            out.replace_range(range, &new);
        }
    }
    Ok(out)
}

/// Three numbers, perhaps with a suffix: a version of which there is one.
fn is_exact(constraint: &str) -> bool {
    let version = constraint.trim().trim_start_matches('=').trim();
    let core = version.split(['-', '+']).next().unwrap_or("");
    core.split('.').count() == 3
        && core
            .split('.')
            .all(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
}

/// The range with its line, where nothing else stands on it.
fn whole_line(text: &str, range: Range<usize>) -> Range<usize> {
    let begin = text[..range.start].rfind('\n').map_or(0, |i| i + 1);
    let end = text[range.end..].find('\n').map_or(text.len(), |i| range.end + i + 1);
    let alone = text[begin..range.start].trim().is_empty() && text[range.end..end].trim().is_empty();
    if alone { begin..end } else { range }
}

/// The way from the folder `from` to `to`, both relative to the same folder.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let from: Vec<Component<'_>> = from.components().collect();
    let to: Vec<Component<'_>> = to.components().collect();
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[shared..].iter().map(|_| Component::ParentDir);
    up.chain(to[shared..].iter().copied()).collect()
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    // Writing into a vector does not fail.
    let _ = super::engine::quote_hcl(text, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "infra/demo/main.tf";

    fn copied(text: &str) -> Result<String, String> {
        use_copies(text, Path::new(FILE), Path::new("vendor/modules"))
    }

    #[test]
    fn a_registry_module_becomes_its_copy_and_all_else_stays() {
        let text = "# kept\nmodule \"eks\" {\n  source  = \"terraform-aws-modules/eks/aws//modules/karpenter\" # why\n  version = \"21.19.0\"\n\n  name = \"x\"\n}\n";
        assert_eq!(
            copied(text).unwrap(),
            "# kept\nmodule \"eks\" {\n  source = \"../../vendor/modules/terraform-aws-modules/eks/aws/21.19.0/modules/karpenter\" # why\n\n  name = \"x\"\n}\n"
        );
    }

    #[test]
    fn the_version_may_come_first_and_the_registry_may_be_named() {
        let text = "module \"a\" {\n  version = \"= 1.2.3\"\n  source = \"registry.example.com/ns/name/aws\"\n}\nmodule \"b\" {\n  source = \"ns/other/aws\"\n  version = \"4.5.6-rc.1\"\n}\n";
        assert_eq!(
            copied(text).unwrap(),
            "module \"a\" {\n  source = \"../../vendor/modules/ns/name/aws/1.2.3\"\n}\nmodule \"b\" {\n  source = \"../../vendor/modules/ns/other/aws/4.5.6-rc.1\"\n}\n"
        );
    }

    #[test]
    fn other_sources_are_left_alone() {
        for source in [
            "./modules/eks",
            "../../modules/eks",
            "/srv/modules/a/b",
            "github.com/acme/modules",
            "git::https://example.com/a/b.git",
            "https://example.com/a/b.zip",
            "a/b",
            "a/b/c/d/e",
            "${var.x}/b/c",
        ] {
            let text = format!("module \"x\" {{\n  source = \"{source}\"\n}}\n");
            assert_eq!(copied(&text).as_deref(), Ok(text.as_str()));
        }
    }

    #[test]
    fn a_module_without_an_exact_version_has_no_copy() {
        for version in [
            "",
            "version = \"~> 1.0\"",
            "version = \"1.2\"",
            "version = \">= 1.2.3\"",
            "version = \"1.2.3, < 2.0.0\"",
        ] {
            let text = format!("module \"x\" {{\n  source = \"a/b/c\"\n  {version}\n}}\n");
            let error = copied(&text).unwrap_err();
            assert!(
                error.contains("module \"x\"") && error.contains("exact version"),
                "{error}"
            );
        }
        assert!(copied("module {").is_err());
    }

    #[test]
    fn the_way_to_the_copies_is_relative() {
        for (file, mirror, way) in [
            ("infra/demo/main.tf", "vendor", "../../vendor"),
            ("infra/demo/modules/x/main.tf", "vendor", "../../../../vendor"),
            ("infra/demo/main.tf", "../modules", "../../../modules"),
            ("infra/demo/main.tf", "infra/copies", "../copies"),
            ("infra/demo/main.tf", "infra/demo/copies", "copies"),
        ] {
            assert_eq!(
                relative(Path::new(file).parent().unwrap(), Path::new(mirror)),
                Path::new(way)
            );
        }
    }
}
