use std::fmt::Write as _;

use super::Session;
use crate::error::Result;
use crate::ops::{BumpOptions, ChangedValue, bump};
use crate::ui::table;

pub(super) async fn run(
    session: &Session,
    chart: &str,
    version: &str,
    environment: Option<String>,
    commit: bool,
) -> Result<u8> {
    let project = session.project()?;
    let options = BumpOptions {
        chart: chart.to_owned(),
        version: version.to_owned(),
        environment: environment.clone(),
        commit,
        today: session.today,
    };
    let summary = bump(&project, &options).await?;
    let place = environment
        .as_ref()
        .map(|name| format!(" in {name}"))
        .unwrap_or_default();
    let rows: Vec<Vec<String>> = summary.changes.iter().map(row).collect();
    let mut text = table(&rows, 2);
    if !rows.is_empty() {
        text.push('\n');
    }
    for note in &summary.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let version = &summary.version;
    let _ = match (&summary.commit, rows.is_empty()) {
        (Some(commit), _) => writeln!(
            text,
            "{chart} is at {version}{place}, committed as {}; push it for Argo CD to see it",
            commit.get(..10).unwrap_or(commit)
        ),
        (None, true) => writeln!(text, "{chart} is at {version}{place} already; nothing changes"),
        (None, false) => writeln!(
            text,
            "{chart} is at {version}{place}; commit and push it for Argo CD to see it"
        ),
    };
    session
        .printer
        .result("bump", environment.as_deref(), &text, &summary)?;
    Ok(0)
}

fn row(change: &ChangedValue) -> Vec<String> {
    let shown = |value: &str| {
        if value.is_empty() {
            "(none)".to_owned()
        } else {
            value.to_owned()
        }
    };
    vec![
        format!("{}:{}", change.file.display(), change.line),
        change.key.clone(),
        format!(
            "{} -> {}",
            shown(change.old.as_deref().unwrap_or_default()),
            shown(&change.new)
        ),
    ]
}
