//! The project's own chores: `cargo xtask test`, `cargo xtask lint`, `cargo xtask report`,
//! `cargo xtask bench`, `cargo xtask blueprints`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore talks to the person who runs it"
)]

mod blueprints;
mod fast;
mod figures;
mod lint;
mod process;
mod report;
mod setup;
mod test;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  test [--fast]   set up what is missing, then run every test and every linter; --fast runs the fast tests alone
  lint [PART]...  set up what is missing, then run every linter, or those whose names begin so
  report [--fast] run the tests that count what was killed, broken, searched and planted, and print their figures; --fast
                  leaves out the end-to-end tier
  bench           time rendering
  blueprints [--record] [CLONES]
                  hold what is recorded of modules and providers (tests/blueprints) against their releases: the schema of the
                  provider that is at hand and, with a folder of clones, the modules' sources, terraform validate and test,
                  and an environment of these modules that is brought up and taken away in the sandbox
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["test"] => test::run(true),
        ["test", "--fast"] => test::run(false),
        ["report"] => figures::run(true),
        ["report", "--fast"] => figures::run(false),
        ["lint", parts @ ..] => lint::run(parts),
        ["blueprints"] => blueprints::run(None, false),
        ["blueprints", "--record"] => blueprints::run(None, true),
        ["blueprints", "--record", clones] => blueprints::run(Some(Path::new(clones)), true),
        ["blueprints", clones] => blueprints::run(Some(Path::new(clones)), false),
        ["bench"] => process::cargo(&["bench", "--package", "mfsre", "--bench", "render"]),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nerror: {message}");
            ExitCode::FAILURE
        }
    }
}
