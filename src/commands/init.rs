use std::fmt::Write as _;
use std::path::PathBuf;

use super::Session;
use crate::cli::Ci;
use crate::error::{IoContext as _, Result};
use crate::ops::{InitOptions, init};

pub(super) fn run(session: &Session, repository: Option<String>, environments: Vec<String>, ci: Ci) -> Result<u8> {
    let root = match &session.global.project {
        Some(dir) => dir.clone(),
        None => std::env::current_dir().or_cannot(|| "find the current folder".into())?,
    };
    let summary = init(
        &root,
        &InitOptions {
            repository,
            environments,
            github: ci == Ci::Github,
            today: session.today,
        },
    )?;
    let first = summary.environments.first().map_or("demo", String::as_str);
    let mut text = String::new();
    let list = |text: &mut String, verb: &str, paths: &[PathBuf]| {
        for path in paths {
            let _ = writeln!(text, "  {verb:8} {}", path.display());
        }
    };
    list(&mut text, "written", &summary.written);
    list(&mut text, "kept", &summary.kept);
    let _ = writeln!(text);
    for note in &summary.notes {
        let _ = writeln!(text, "note: {note}");
    }
    if summary.missing.is_empty() {
        let _ = writeln!(text, "next: run `mfsre up {first}`");
    } else {
        let _ = writeln!(
            text,
            "next: set {} in environments/{first}.yaml, then run `mfsre up {first}`",
            summary.missing.join(" and ")
        );
    }
    if ci == Ci::Github {
        let _ = writeln!(
            text,
            "for the pipeline: set the default of the input repository in .github/actions/mfsre/action.yaml, and the roles and variables that docs/github-actions.md of mfsre names"
        );
    }
    session.printer.result("init", None, &text, &summary)?;
    Ok(0)
}
