//! `cargo xtask report`: what the tests have killed, broken, searched and planted, in one report.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::fast::{KILLING, in_many_threads};
use crate::process::{cargo_command, root, run as run_command, side_by_side};
use crate::test::platform_tests;

/// The fast tests that have figures, by test target. Those that kill come by themselves, since many of them can wait at once.
const FAST: [&[&str]; 2] = [
    &["aws_faults", "bump", "disk_faults", "git_host", "kubernetes_faults"],
    &[KILLING],
];
/// Those of the end-to-end tier, by the beginning of their names, in two halves that take about the same time.
const END_TO_END: [&[&str]; 2] = [&["backends", "interruptions", "story", "teardown"], &["rotation"]];

/// The tables of the report, with their headings; `tests/common/report.rs` tells what each counts.
const KINDS: [(&str, &str); 6] = [
    ("kill", "Operations killed"),
    ("together", "Two machines at once"),
    ("faults", "Faults from outside"),
    ("canaries", "Secrets looked for"),
    ("rotations", "Rotations in use"),
    ("teardowns", "Teardowns"),
];

/// A row, as a test writes it.
#[derive(Deserialize)]
struct Row {
    kind: String,
    subject: String,
    figures: Vec<(String, u64)>,
}

/// Runs the tests that have figures, and prints the report.
pub(crate) fn run(end_to_end: bool) -> Result<(), String> {
    let folder = root().join("target/report");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| format!("cannot remove {}: {e}", folder.display()))?;
    }
    for targets in FAST {
        let mut arguments = vec!["test", "--workspace"];
        arguments.extend(targets.iter().flat_map(|target| ["--test", target]));
        // Some that take long are left out of the fast tier, and count here.
        arguments.extend(["--", "--include-ignored"]);
        let mut tests = cargo_command(&arguments);
        if targets.contains(&KILLING) {
            in_many_threads(&mut tests);
        }
        run_command(tests.env("MFSRE_REPORT", &folder))?;
    }
    if end_to_end {
        let [mut some, mut others] = END_TO_END.map(platform_tests);
        side_by_side(
            some.env("MFSRE_REPORT", &folder),
            others.env("MFSRE_REPORT", &folder),
            root().join("target/report-beside.log"),
        )?;
    }
    print!("\n{}", tables(&rows(&folder)?));
    Ok(())
}

fn rows(folder: &Path) -> Result<Vec<Row>, String> {
    let entries =
        std::fs::read_dir(folder).map_err(|e| format!("no test has written figures to {}: {e}", folder.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{} holds no figures: {e}", path.display()))
    };
    files.iter().map(read).collect()
}

/// The rows as Markdown, one table for each kind.
fn tables(rows: &[Row]) -> String {
    let mut text = String::new();
    for (kind, heading) in KINDS {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.kind == kind).collect();
        let mut columns: Vec<&str> = Vec::new();
        for (name, _) in rows.iter().flat_map(|row| &row.figures) {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
        if rows.is_empty() {
            continue;
        }
        text.push_str(&format!(
            "| {heading} | {} |\n|---|{}\n",
            columns.join(" | "),
            "--:|".repeat(columns.len())
        ));
        for row in rows {
            let values: BTreeMap<&str, u64> = row
                .figures
                .iter()
                .map(|(name, value)| (name.as_str(), *value))
                .collect();
            let cell = |column: &&str| values.get(column).map_or_else(String::new, u64::to_string);
            let cells: Vec<String> = columns.iter().map(cell).collect();
            text.push_str(&format!("| {} | {} |\n", row.subject, cells.join(" | ")));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_table_with_the_columns_of_all_its_rows() {
        let row = |kind: &str, subject: &str, figures: &[(&str, u64)]| Row {
            kind: kind.into(),
            subject: subject.into(),
            figures: figures
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
        };
        let rows = [
            row(
                "rotations",
                "deploy key",
                &[("rotations", 1), ("fetches", 90), ("failed", 0)],
            ),
            row("kill", "up", &[("points", 7), ("converged", 7)]),
            row(
                "rotations",
                "password",
                &[("rotations", 2), ("logins", 30), ("failed", 0)],
            ),
        ];
        assert_eq!(
            tables(&rows),
            "| Operations killed | points | converged |\n|---|--:|--:|\n| up | 7 | 7 |\n\n\
             | Rotations in use | rotations | fetches | failed | logins |\n|---|--:|--:|--:|--:|\n\
             | deploy key | 1 | 90 | 0 |  |\n| password | 2 |  | 0 | 30 |\n\n"
        );
    }
}
