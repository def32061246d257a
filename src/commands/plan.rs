use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{CHANGES, Session};
use crate::error::{IoContext as _, Result};
use crate::ops::plan;
use crate::ui::table;
use crate::workflow::{Lock, Progress};

pub(super) async fn run(session: &Session, name: &str, out: Option<PathBuf>, detailed: bool) -> Result<u8> {
    let mut context = session.context(name, |_| {})?;
    let _lock = Lock::acquire(&context.private(), "plan", name)?;
    context.prepare_plan().await?;
    let reporter = context.reporter.clone();
    let (plan, json) = plan(&mut context, out.is_some(), Progress::new(reporter.as_ref(), "plan")).await?;
    let mut rows = Vec::new();
    for change in json["resource_changes"].as_array().into_iter().flatten() {
        let actions: Vec<&str> = change["change"]["actions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mark = match actions.as_slice() {
            ["no-op"] | ["read"] => continue,
            ["create"] => "+",
            ["update"] => "~",
            ["delete"] => "-",
            _ => "±",
        };
        rows.push(vec![
            mark.to_owned(),
            change["address"].as_str().unwrap_or_default().to_owned(),
        ]);
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
        "resource_changes": rows.iter().map(|r| json!({ "action": r[0], "address": r[1] })).collect::<Vec<_>>(),
    });
    session.printer.result("plan", Some(name), &text, &body)?;
    Ok(if detailed && plan.has_changes { CHANGES } else { 0 })
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
