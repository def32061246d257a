//! Which Terraform code an environment gets.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde_saphyr::Spanned;

use super::reader::Reader;
use crate::model::Invalid;

const BUILT_IN: &str = "built-in";
const EKS_BLUEPRINTS: &str = "eks-blueprints";
/// What `render` writes or mfsre keeps for itself; a blueprint there would be made from its own result.
const NOT_HERE: [&str; 5] = [".mfsre", "cd", "environments", "infra", "modules"];

/// Which Terraform code an environment gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Blueprint {
    /// mfsre's own, which uses `hashicorp/aws` alone.
    #[default]
    BuiltIn,
    /// The community's modules: terraform-aws-modules/vpc and eks, aws-ia/eks-blueprints-addons.
    EksBlueprints,
    /// The project's own templates.
    Path(OwnBlueprint),
}

/// A folder of a project with a blueprint of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnBlueprint {
    /// The folder relative to the project.
    pub path: PathBuf,
    /// Where it is found from the current folder.
    pub location: PathBuf,
}

impl fmt::Display for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str(BUILT_IN),
            Self::EksBlueprints => f.write_str(EKS_BLUEPRINTS),
            Self::Path(own) => write!(f, "{}", own.path.display()),
        }
    }
}

impl Serialize for Blueprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Blueprint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Blueprint".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "anyOf": [
                { "enum": [BUILT_IN, EKS_BLUEPRINTS] },
                { "description": "A folder of the project, written with a slash.", "pattern": "^[^/].*/" },
            ],
        })
    }
}

impl Reader {
    /// The blueprint. A folder is looked for in `project`, where one is given.
    pub(super) fn blueprint(&mut self, field: Option<&Spanned<String>>, project: Option<&Path>) -> Blueprint {
        let Some(field) = field else {
            return Blueprint::default();
        };
        match field.value.as_str() {
            BUILT_IN => return Blueprint::BuiltIn,
            EKS_BLUEPRINTS => return Blueprint::EksBlueprints,
            _ => {}
        }
        let own = folder(&field.value, project).and_then(|own| match own.path.components().next() {
            Some(Component::Normal(first)) if NOT_HERE.iter().any(|n| first == *n) => Err(Invalid::new(
                format!("a blueprint cannot be in {}/", first.display()),
                "generated or taken",
            )
            .hint("move it to a folder of its own, for example blueprints/own")),
            Some(_) => Ok(own),
            None => Err(Invalid::new("the project itself is no blueprint", "the whole project")
                .hint("move the templates to a folder of their own, for example blueprints/own")),
        });
        match own {
            Ok(own) => Blueprint::Path(own),
            Err(invalid) => {
                self.error(field.referenced, invalid);
                Blueprint::default()
            }
        }
    }

    /// The folder with copies of Terraform modules, relative to the project; it may lie beside the project. It is looked
    /// for where a project is given.
    pub(super) fn module_mirror(&mut self, field: Option<&Spanned<String>>, project: Option<&Path>) -> Option<PathBuf> {
        let field = field?;
        let path = Path::new(&field.value);
        let relative = !field.value.is_empty() && is_portable(&field.value) && path.is_relative();
        let invalid = if !relative {
            Invalid::new(
                format!("{:?} is not a folder relative to the project", field.value),
                "not relative",
            )
            .hint("write for example vendor/modules or ../modules: the rendered files name it, and they are the same on every machine")
        } else if project.is_some_and(|project| !project.join(path).is_dir()) {
            Invalid::new(format!("there is no folder {}", field.value), "not a folder")
                .hint("docs/blueprints.md says how it is laid out and filled")
        } else {
            return Some(path.components().collect());
        };
        self.error(field.referenced, invalid);
        None
    }
}

/// Whether a path means the same to a shell, to Terraform and in a comment.
fn is_portable(path: &str) -> bool {
    path.chars().all(|c| c.is_alphanumeric() || "-_.+@ /".contains(c)) && !path.contains("//")
}

/// A folder in the project, as it is written in an environment file.
fn folder(text: &str, project: Option<&Path>) -> Result<OwnBlueprint, Invalid> {
    let words = [BUILT_IN, EKS_BLUEPRINTS];
    let nearest = words
        .iter()
        .find(|word| strsim::damerau_levenshtein(word, text) <= 3)
        .map(|word| format!("did you mean {word}?"));
    if !text.contains('/') || !is_portable(text) {
        let hint = nearest.unwrap_or_else(|| {
            "write built-in, eks-blueprints, or a folder of the project with a slash in it, for example blueprints/own"
                .to_owned()
        });
        return Err(Invalid::new(format!("{text:?} is not a blueprint"), "not known").hint(hint));
    }
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(Invalid::new(
                    format!("{text:?} is not a folder in the project"),
                    "outside of the project",
                )
                .hint("write it relative to the project and without `..`: it is committed with the environment"));
            }
        }
    }
    let location = project.unwrap_or(Path::new("")).join(&path);
    if project.is_some() && !location.is_dir() {
        return Err(
            Invalid::new(format!("there is no folder {}", path.display()), "not a folder").hint(
                "create it with a Terraform root module in it (docs/blueprints.md), or take eks-blueprints or built-in",
            ),
        );
    }
    Ok(OwnBlueprint { path, location })
}
