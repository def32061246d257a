//! Values in generated files that belong to the project: which version of an image a chart deploys. `mfsre bump` sets
//! them, and rendering leaves them as they stand.

use std::path::Path;

use crate::config::{Diagnostic, Diagnostics, Severity, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ImageVersion, Scalar as _};
use crate::yaml::{self, YamlError};

/// A path of keys in a YAML file.
pub(crate) type Key = &'static [&'static str];

/// The tag of the image, in `values.yaml`.
pub(crate) const TAG: Key = &["image", "tag"];
/// Its digest, which goes over the tag; empty for none.
pub(crate) const DIGEST: Key = &["image", "digest"];
/// The version of what the chart deploys, in `Chart.yaml`.
pub(crate) const APP_VERSION: Key = &["appVersion"];

/// The pins in the file at `path`, where it is one of a workload's chart.
pub(super) fn of(path: &Path) -> Option<&'static [Key]> {
    let in_chart = path.parent()?.parent()? == Path::new("cd/charts");
    match path.file_name()?.to_str()? {
        "values.yaml" if in_chart => Some(&[TAG, DIGEST]),
        "Chart.yaml" if in_chart => Some(&[APP_VERSION]),
        _ => None,
    }
}

/// `new`, which goes to `path`, with the pins of `old`, which stands there. A pin that either of them lacks is left alone.
pub(super) fn keep(path: &Path, pins: &[Key], old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    let old = text(path, old)?;
    let mut new = text(path, new)?;
    for pin in pins {
        let Some(found) = yaml::get(&old, pin).map_err(|e| broken(path, &old, e))? else {
            continue;
        };
        if !is_version(pin, &found.value) {
            let error = YamlError {
                message: format!("{:?} cannot be {}", found.value, pin.join(".")),
                span: Some(found.span),
            };
            return Err(broken(path, &old, error));
        }
        if yaml::get(&new, pin).map_err(|e| broken(path, &new, e))?.is_some() {
            new = yaml::set(&new, pin, &found.value).map_err(|e| broken(path, &new, e))?;
        }
    }
    Ok(new.into_bytes())
}

fn is_version(pin: Key, value: &str) -> bool {
    let version = ImageVersion::parse(value);
    match pin {
        TAG => version.is_ok_and(|v| v.tag().is_some() && v.digest().is_none()),
        DIGEST => value.is_empty() || version.is_ok_and(|v| v.tag().is_none()),
        _ => !value.contains(char::is_control),
    }
}

fn text(path: &Path, contents: &[u8]) -> Result<String> {
    String::from_utf8(contents.to_vec()).map_err(|e| {
        Error::new(ErrorKind::Configuration, format!("cannot read {}", path.display()))
            .cause(e.to_string())
            .hint("the file is text in UTF-8: save it as such, or take it from Git again")
    })
}

/// A chart's file in which the version of the image cannot be found.
pub(crate) fn broken(path: &Path, text: &str, error: YamlError) -> Error {
    mistake(
        path,
        text,
        error,
        "mend the file, or take it from Git again; the version of the image in it belongs to the project",
    )
}

/// A mistake in a YAML file, with its place.
pub(crate) fn mistake(path: &Path, text: &str, error: YamlError, hint: &str) -> Error {
    let name = path.display().to_string();
    let diagnostics = Diagnostics {
        source: Source {
            path: name.clone(),
            text: text.to_owned(),
        },
        items: vec![Diagnostic {
            severity: Severity::Error,
            message: error.message,
            span: error.span,
            label: String::new(),
            hint: Some(hint.to_owned()),
        }],
    };
    Error {
        diagnostics: Some(Box::new(diagnostics)),
        ..Error::new(ErrorKind::Configuration, format!("{name} cannot be used"))
    }
}
