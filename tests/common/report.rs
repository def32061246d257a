//! What a test has counted, for the report of `cargo xtask report`.
//!
//! A test calls [`figure`] once for each row, at its end, when everything that it counts has been asserted:
//!
//! ```ignore
//! report::figure("kill", "up", &[("points", 212), ("killed", 212), ("converged", 212)]);
//! ```
//!
//! The figures are printed, and written as JSON to the folder that the variable `MFSRE_REPORT` names, one file a row:
//!
//! ```json
//! {"kind": "kill", "subject": "up", "figures": [["points", 212], ["killed", 212], ["converged", 212]]}
//! ```
//!
//! `cargo xtask report` sets the variable, runs the tests that have figures, and prints one table for each kind, with a
//! row for each subject and a column for each figure, in the order in which they are given. Kinds, and what is counted:
//!
//! | kind | subject | figures |
//! |---|---|---|
//! | `kill` | the operation and how it was killed | `points`, `killed`, `worlds` (what the cuts left, each once; the operation is repeated from each), `converged` |
//! | `together` | what begins while what is held up at a call | `moments`, `stood back` |
//! | `faults` | whose calls fail | `faults`, `calls`, `scenarios`, `retried`, `told` |
//! | `canaries` | where they were planted | `canaries`, `forms`, `places`, `found` |
//! | `rotations` | the credential | `rotations`, `fetches` or `logins`, `failed` |
//! | `teardowns` | the situation | `teardowns`, `planted`, `found`, `left`, `look-alikes`, `survived` |
//!
//! The end-to-end tier includes this file with `#[path = "../common/report.rs"] mod report;`. A new test that has figures is
//! named in `xtask/src/figures.rs`.

use serde_json::json;

/// Prints the figures of one row, and keeps them for the report.
#[allow(clippy::print_stdout, reason = "the figures are for whoever runs the test")]
pub(crate) fn figure(kind: &str, subject: &str, figures: &[(&str, u64)]) {
    let told: Vec<String> = figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
    println!("  {kind}: {subject}: {}", told.join(", "));
    let Some(folder) = std::env::var_os("MFSRE_REPORT") else {
        return;
    };
    let name: String = format!("{kind}-{subject}")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let row = json!({ "kind": kind, "subject": subject, "figures": figures });
    let folder = std::path::PathBuf::from(folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{name}.json")), row.to_string()).unwrap();
}
