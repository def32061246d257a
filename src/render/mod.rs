//! From settings to files: structure by templates, values by serialisation.
//!
//! A template that ends in `.tera` is rendered with Tera, any other file is taken as it is. The delimiters are
//! `@{ value }@`, `<% tag %>` and `<# comment #>`, which mean nothing in HCL, Helm or GitHub Actions. Every value printed
//! by a template is quoted for the language of its file, so there is no place for an injection.
//!
//! Which templates become the root module is the environment's blueprint.

mod blueprint;
mod contents;
mod diff;
mod engine;
mod github;
mod modules;
pub(crate) mod pins;
pub(crate) mod tree;
mod values;

pub use blueprint::check;
pub use contents::{TerraformContents, terraform_contents};
pub use diff::{Change, ChangeKind};
pub use engine::{RenderError, render};
pub use github::{action, pipeline};
pub use modules::{RegistryModule, registry_modules};
pub use tree::{Origin, Tree, WriteSummary};
pub use values::{helm_values, left_out, terraform_variables};
