use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;

use super::Session;
use crate::config::{Diagnostics, ProjectError};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::check_blueprint;
use crate::ui::OutputFormat;

pub(super) fn run(session: &Session, environments: Vec<String>) -> Result<u8> {
    let project = session.project()?;
    let names = if environments.is_empty() {
        project.candidates()?
    } else {
        environments
    };
    let mut seen = BTreeSet::new();
    let names: Vec<String> = names.into_iter().filter(|name| seen.insert(name.clone())).collect();
    if names.is_empty() {
        return Err(
            Error::new(ErrorKind::Configuration, "environments/ holds no environment")
                .hint("create one with `mfsre init`"),
        );
    }
    let mut text = String::new();
    let mut reports = Vec::new();
    let mut ok = true;
    for name in &names {
        let (found, valid) = match project.load(name, session.today) {
            Ok(loaded) => {
                let blueprint = check_blueprint(&project, &loaded.environment)?;
                let valid = blueprint.is_empty();
                let mut found = vec![loaded.warnings];
                found.extend(blueprint);
                (found, valid)
            }
            Err(ProjectError::Invalid(diagnostics)) => (vec![*diagnostics], false),
            Err(error) => return Err(error.into()),
        };
        ok &= valid;
        if session.printer.format == OutputFormat::Text {
            for diagnostics in &found {
                let shown = diagnostics.render(session.printer.color_stderr());
                session.printer.diagnostic(&shown);
            }
        }
        if valid {
            let _ = writeln!(text, "environments/{name}.yaml is valid");
        }
        let all: Vec<_> = found.iter().flat_map(Diagnostics::to_json).collect();
        reports.push(json!({ "name": name, "valid": valid, "diagnostics": all }));
    }
    match session.printer.format {
        OutputFormat::Text => session.printer.line(text.trim_end())?,
        OutputFormat::Json => session
            .printer
            .document("validate", None, ok, &json!({ "environments": reports }))?,
    }
    Ok(if ok { 0 } else { ErrorKind::Configuration.exit_code() })
}
