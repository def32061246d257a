//! `cargo xtask test`: the one command that runs every check, set-up included.

use std::process::Command;

use crate::process::{cargo, cargo_command, root, run as run_command, side_by_side};
use crate::report::Report;
use crate::{fast, lint, setup};

/// The whole workspace each time, and the tests by name: one package alone has other features of its dependencies, and would compile
/// them again.
const END_TO_END: [&str; 2] = ["test", "--workspace"];

/// Runs the fast tier, and with `all` the linters and the end-to-end tier too.
pub(crate) fn run(all: bool) -> Result<(), String> {
    let mut report = Report::default();
    report.part("prerequisites", || setup::terraform().map(|_| ()))?;
    report.part("build", || cargo(&["build", "--workspace", "--all-targets"]))?;
    report.part("fast tests", fast::run)?;
    report.part("main-service", || {
        run_command(setup::main_service("pytest")?.args(["--quiet", "--durations=3"]))
    })?;
    if all {
        lint::parts(&mut report)?;
        let mut python = None;
        report.part("tools", || {
            let tools = setup::tools()?;
            python = tools.get("ministack").map(|tool| tool.path.clone());
            setup::check_tool("tofu")?;
            Ok(())
        })?;
        let python = python.ok_or("ministack is not among the tools")?;
        report.part("sandbox and exporter, end to end", || {
            let tests = ["--lib", "--test", "platform", "--test", "image"];
            let how = ["--", "--ignored", "--test-threads=1"];
            let mut command = cargo_command(&[&END_TO_END[..], &tests, &how].concat());
            run_command(command.env("MFSRE_TEST_PYTHON", &python))
        })?;
        report.part("long faults and HCP Terraform", || {
            let tests = ["--test", "cloud", "--test", "kill", "--", "--ignored"];
            cargo(&[&END_TO_END[..], &tests].concat())
        })?;
        report.part("mfsre, end to end", platforms)?;
    }
    report.print();
    Ok(())
}

/// The tests that bring up platforms, by the modules that take about half of the time together: the chain's mostly waits.
const ONE_HALF: [&str; 3] = ["chain::", "cloud::", "rotation::"];

/// The tests that bring up platforms, two at a time.
fn platforms() -> Result<(), String> {
    let skipped: Vec<&str> = ONE_HALF.iter().flat_map(|name| ["--skip", name]).collect();
    side_by_side(
        &mut platform_tests(&skipped),
        &mut platform_tests(&ONE_HALF),
        root().join("target/e2e-beside.log"),
    )
}

/// Those of the tests that bring up platforms that `names` select, as the test harness takes them: names, and `--skip` before one.
pub(crate) fn platform_tests(names: &[&str]) -> Command {
    let how = ["--test", "e2e", "--", "--ignored", "--test-threads=1", "--nocapture"];
    cargo_command(&[&END_TO_END[..], &how, names].concat())
}
