use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{CHANGES, Session};
use crate::error::{IoContext as _, Result};
use crate::ops::plan;
use crate::ui::table;

pub(super) async fn run(session: &Session, name: &str, out: Option<PathBuf>, detailed: bool) -> Result<u8> {
    let mut context = session.context(name, |_| {})?;
    let summary = plan(&mut context, out.is_some()).await?;
    let plan = &summary.plan;
    let mut rows = Vec::new();
    let mut changes = Vec::new();
    for change in summary.json["resource_changes"].as_array().into_iter().flatten() {
        let actions: Vec<&str> = change["change"]["actions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let Some((sign, action)) = action(&actions) else {
            continue;
        };
        let address = change["address"].as_str().unwrap_or_default();
        rows.push(vec![sign.to_owned(), address.to_owned()]);
        changes.push(json!({ "action": action, "address": address }));
    }
    let mut text = table(&rows, 2);
    let counts = plan.counts;
    let _ = writeln!(
        text,
        "{}{}",
        if rows.is_empty() { "" } else { "\n" },
        if plan.has_changes {
            counts.to_string()
        } else {
            "no changes".into()
        }
    );
    if let Some(out) = &out {
        copy_private(&plan.path, out).or_cannot(|| format!("write {}", out.display()))?;
        let _ = writeln!(text, "the plan is in {}; it holds values in clear", out.display());
    }
    let body = json!({
        "changes": plan.has_changes,
        "add": counts.add,
        "change": counts.change,
        "destroy": counts.destroy,
        "resource_changes": changes,
    });
    session.printer.result("plan", Some(name), &text, &body)?;
    Ok(if detailed && plan.has_changes { CHANGES } else { 0 })
}

/// What happens to a resource, as a sign for people and as a word for programs; `None` where nothing does.
fn action(actions: &[&str]) -> Option<(&'static str, &'static str)> {
    match actions {
        ["no-op"] | ["read"] => None,
        ["create"] => Some(("+", "create")),
        ["update"] => Some(("~", "update")),
        ["delete"] => Some(("-", "delete")),
        _ => Some(("±", "replace")),
    }
}

/// Copies a file that only its owner may read.
fn copy_private(from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut target = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(to)?;
    std::io::copy(&mut std::fs::File::open(from)?, &mut target).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_words_and_people_get_signs() {
        assert_eq!(action(&["no-op"]), None);
        assert_eq!(action(&["create"]), Some(("+", "create")));
        assert_eq!(action(&["update"]), Some(("~", "update")));
        assert_eq!(action(&["delete"]), Some(("-", "delete")));
        for order in [["delete", "create"], ["create", "delete"]] {
            assert_eq!(action(&order), Some(("±", "replace")));
        }
    }
}
