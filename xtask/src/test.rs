//! `cargo xtask test`: the one command that runs every test, set-up included.

use crate::process::{cargo, cargo_command, run as run_command};
use crate::report::Report;
use crate::setup;

const END_TO_END: [&str; 3] = ["test", "--workspace", "--all-features"];

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
            setup::check_tool("tofu")?;
            Ok(())
        })?;
        let python = python.ok_or("ministack is not among the tools")?;
        report.part("build end-to-end tests", || {
            cargo(&["build", "--workspace", "--all-targets", "--all-features"])
        })?;
        // The whole workspace each time, and the tests by name: one package alone has other features of its dependencies, and would
        // compile them again.
        report.part("the sandbox, end to end", || {
            let tests = ["--lib", "--test", "platform", "--", "--test-threads=1"];
            run_command(cargo_command(&[&END_TO_END[..], &tests].concat()).env("MFSRE_TEST_PYTHON", &python))
        })?;
        report.part("the exporter's image", || {
            cargo(&[&END_TO_END[..], &["--test", "image"]].concat())
        })?;
        report.part("mfsre, end to end", || {
            let tests = ["--test", "e2e", "--", "--test-threads=1", "--nocapture"];
            cargo(&[&END_TO_END[..], &tests].concat())
        })?;
    }
    report.print();
    Ok(())
}
