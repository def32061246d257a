//! The pipeline that `mfsre init --ci github` writes. It belongs to the project from then on and is not rendered again.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use serde_json::json;

use super::engine::{RenderError, render_yaml};

static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates/github");

/// Where somebody has to write which repository they take mfsre from.
const PLACEHOLDER: &str = "OWNER/mfsre";

/// The files below `.github`, for these environments on AWS.
///
/// # Errors
/// A template is wrong.
pub fn pipeline(environments: &[&str]) -> Result<Vec<(PathBuf, Vec<u8>)>, RenderError> {
    let repository = env!("CARGO_PKG_REPOSITORY")
        .strip_prefix("https://github.com/")
        .unwrap_or(PLACEHOLDER);
    let values = values(environments, repository);
    let mut files = Vec::new();
    let mut pending = vec![&TEMPLATES];
    while let Some(dir) = pending.pop() {
        for file in dir.files() {
            let name = file.path().to_string_lossy();
            let contents = match name.strip_suffix(".tera") {
                None => file.contents().to_vec(),
                Some(_) => render_yaml(file.path(), &String::from_utf8_lossy(file.contents()), &values)?.into_bytes(),
            };
            let target = Path::new(".github").join(name.strip_suffix(".tera").unwrap_or(&name));
            files.push((target, contents));
        }
        pending.extend(dir.dirs());
    }
    files.sort();
    Ok(files)
}

/// The action of mfsre's own repository, which takes mfsre from where it is itself taken from.
///
/// # Errors
/// The template is wrong.
pub fn action() -> Result<String, RenderError> {
    let path = Path::new("actions/mfsre/action.yaml.tera");
    let template = TEMPLATES.get_file(path).map(|file| file.contents()).unwrap_or_default();
    render_yaml(path, &String::from_utf8_lossy(template), &values(&[], ""))
}

fn values(environments: &[&str], repository: &str) -> serde_json::Value {
    json!({
        "environments": environments,
        "repository": repository,
        "version": env!("CARGO_PKG_VERSION"),
        "rust": env!("CARGO_PKG_RUST_VERSION"),
    })
}
