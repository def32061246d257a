use std::fmt::Write as _;

use serde_json::json;

use super::{CHANGES, Session};
use crate::error::Result;
use crate::ops::{manifest, render_tree};
use crate::ui::OutputFormat;

pub(super) async fn run(session: &Session, name: &str, check: bool) -> Result<u8> {
    let project = session.project()?;
    let environment = session.environment(&project, name)?;
    let manifest = manifest(&project, &environment).await?;
    let tree = render_tree(&project, &environment, manifest.as_deref())?;
    let changes = tree.changes(project.root())?;
    let files = tree.files().count();
    if !check {
        tree.write(project.root())?;
    }
    let mut text = String::new();
    if check {
        for change in &changes {
            text.push_str(&change.diff);
        }
        if changes.is_empty() {
            let _ = writeln!(text, "{files} files are as rendered");
        }
    } else {
        let _ = writeln!(text, "{files} files, {} changed", changes.len());
    }
    let body = json!({ "files": files, "changes": changes });
    match session.printer.format {
        OutputFormat::Text => session.printer.line(text.trim_end())?,
        OutputFormat::Json => session.printer.document("render", Some(name), true, &body)?,
    }
    Ok(if check && !changes.is_empty() { CHANGES } else { 0 })
}
