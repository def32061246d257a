//! `cargo xtask test`: the one command that runs every test, set-up included.

use crate::process::cargo;
use crate::report::Report;
use crate::setup;

/// Runs the fast tier, and with `end_to_end` the other one too.
pub(crate) fn run(end_to_end: bool) -> Result<(), String> {
    let mut report = Report::default();
    report.part("prerequisites", || setup::terraform().map(|_| ()))?;
    report.part("build", || cargo(&["build", "--workspace", "--all-targets"]))?;
    report.part("fast tests", || cargo(&["test", "--workspace"]))?;
    if end_to_end {
        report.part("tools", || setup::tools().map(|_| ()))?;
        report.part("build end-to-end tests", || {
            cargo(&["build", "--workspace", "--all-targets", "--all-features"])
        })?;
        report.part("sandbox end to end", || {
            cargo(&[
                "test",
                "--package",
                "mfsre-sandbox",
                "--features",
                "e2e",
                "--",
                "--test-threads=1",
            ])
        })?;
        report.part("end-to-end tests", || {
            cargo(&[
                "test",
                "--package",
                "mfsre",
                "--features",
                "e2e",
                "--test",
                "e2e",
                "--",
                "--test-threads=1",
                "--nocapture",
            ])
        })?;
    }
    report.print();
    Ok(())
}
