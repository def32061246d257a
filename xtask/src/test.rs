//! `cargo xtask test`: the one command that runs every test, set-up included.

use crate::process::{cargo, cargo_command, run as run_command};
use crate::report::Report;
use crate::setup;

/// Runs the fast tier, and with `end_to_end` the other one too.
pub(crate) fn run(end_to_end: bool) -> Result<(), String> {
    let mut report = Report::default();
    report.part("prerequisites", || setup::terraform().map(|_| ()))?;
    report.part("build", || cargo(&["build", "--workspace", "--all-targets"]))?;
    report.part("fast tests", || cargo(&["test", "--workspace"]))?;
    report.part("main-service", || {
        run_command(setup::main_service("pytest")?.args(["--quiet", "--durations=3"]))
    })?;
    if end_to_end {
        let mut python = None;
        report.part("tools", || {
            let tools = setup::tools()?;
            python = tools.get("ministack").map(|tool| tool.path.clone());
            Ok(())
        })?;
        let python = python.ok_or("ministack is not among the tools")?;
        report.part("build end-to-end tests", || {
            cargo(&["build", "--workspace", "--all-targets", "--all-features"])
        })?;
        report.part("the sandbox, end to end", || {
            run_command(
                cargo_command(&[
                    "test",
                    "--package",
                    "mfsre-sandbox",
                    "--features",
                    "e2e",
                    "--",
                    "--test-threads=1",
                ])
                .env("MFSRE_TEST_PYTHON", &python),
            )
        })?;
        report.part("mfsre, end to end", || {
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
