//! Time to render one environment, in memory and through the program: `cargo xtask bench`.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mfsre::config::{Source, parse};
use mfsre::render::render;

const FILE: &str = "name: demo\nargocd_repository_url: git@github.com:acme/platform.git\n";

fn main() {
    let today = jiff::civil::date(2026, 11, 1);
    let source = || Source {
        path: "environments/demo.yaml".into(),
        text: FILE.into(),
    };
    let environment = parse(source(), "demo", today).unwrap().environment;
    row(
        "parse the environment file",
        200,
        || {},
        || drop(parse(source(), "demo", today).unwrap()),
    );
    row(
        "render in memory",
        200,
        || {},
        || drop(render(&environment, None, None).unwrap()),
    );

    let project = tempfile::tempdir().unwrap();
    std::fs::create_dir(project.path().join("environments")).unwrap();
    std::fs::write(project.path().join("environments/demo.yaml"), FILE).unwrap();
    let program = |arguments: &[&str]| {
        let status = Command::new(env!("CARGO_BIN_EXE_mfsre"))
            .args(arguments)
            .arg("--project")
            .arg(project.path())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    };
    program(&["render", "demo"]);
    row(
        "mfsre render, nothing to write",
        50,
        || {},
        || program(&["render", "demo"]),
    );
    let remove = || {
        for folder in ["cd", "infra", "modules"] {
            std::fs::remove_dir_all(project.path().join(folder)).unwrap();
        }
    };
    row("mfsre render, every file to write", 50, remove, || {
        program(&["render", "demo"])
    });
    row("mfsre --version, which does nothing", 50, || {}, program_version);
}

fn program_version() {
    let status = Command::new(env!("CARGO_BIN_EXE_mfsre"))
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

/// Prints minimum, median and maximum of `runs` runs in milliseconds; `prepare` is not timed.
fn row(name: &str, runs: usize, prepare: impl Fn(), mut work: impl FnMut()) {
    work();
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            prepare();
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .collect();
    times.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    println!(
        "{name:38} min {:7.2} ms  median {:7.2} ms  max {:7.2} ms",
        ms(times[0]),
        ms(times[runs / 2]),
        ms(times[runs - 1])
    );
}
