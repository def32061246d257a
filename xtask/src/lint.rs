//! `cargo xtask lint`: every linter that fits something in this repository.

use std::path::{Path, PathBuf};

use crate::process::{cargo, command, root, run as execute};
use crate::report::Report;
use crate::setup;

/// Runs the linters named, or every one.
pub(crate) fn run(names: &[&str]) -> Result<(), String> {
    let mut report = Report::only(names);
    parts(&mut report)?;
    report.print();
    Ok(())
}

/// Every linter, each a part of the report.
pub(crate) fn parts(report: &mut Report) -> Result<(), String> {
    report.part("rustfmt", || cargo(&["fmt", "--all", "--check"]))?;
    report.part("clippy", || {
        cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ])
    })?;
    report.part("terraform fmt, validate, test", terraform)?;
    report.part("checkov", || {
        let checkov = setup::python_tool("checkov")?;
        execute(command(&checkov).args([
            "--directory",
            "templates/terraform",
            "--directory",
            "templates/blueprints",
            "--framework",
            "terraform",
            "--compact",
            "--quiet",
            "--skip-download",
        ]))?;
        let files = dockerfiles()?;
        execute(
            command(checkov)
                .args(["--framework", "dockerfile", "--compact", "--quiet", "--skip-download"])
                .args(files.iter().flat_map(|file| ["--file", file])),
        )
    })?;
    report.part("helm lint", helm)?;
    report.part("promtool", promtool)?;
    report.part("workflows", workflows)?;
    report.part("hadolint", || {
        execute(command(setup::python_tool("hadolint")?).args(dockerfiles()?))
    })?;
    report.part("ruff and mypy", || {
        execute(setup::main_service("ruff")?.arg("check"))?;
        execute(setup::main_service("ruff")?.args(["format", "--check"]))?;
        execute(&mut setup::main_service("mypy")?)
    })?;
    report.part("cargo-deny", || {
        let deny = setup::cargo_deny()?;
        execute(command(&deny).args(["--all-features", "check", "licenses", "bans", "sources"]))?;
        // The advisories are a repository of their own, which not every network reaches.
        let mut reached = command("git");
        reached.args(["ls-remote", "--exit-code", ADVISORIES, "HEAD"]);
        let reached = reached.env("GIT_TERMINAL_PROMPT", "0").output();
        if reached.is_ok_and(|output| output.status.success()) {
            execute(command(&deny).args(["--all-features", "check", "advisories"]))
        } else {
            println!("advisories are not checked: {ADVISORIES} cannot be reached");
            Ok(())
        }
    })
}

/// Where `cargo deny` takes advisories from, by default.
const ADVISORIES: &str = "https://github.com/RustSec/advisory-db";

/// Formats, validates and tests the blueprint on a copy, so that no working files land among the templates.
fn terraform() -> Result<(), String> {
    let terraform = setup::terraform()?;
    let configuration = setup::terraform_configuration()?;
    execute(
        command(&terraform)
            .args([
                "fmt",
                "-check",
                "-recursive",
                "-diff",
                "templates/terraform",
                "templates/blueprints",
                "tests/fixtures/blueprint",
            ])
            .env("TF_CLI_CONFIG_FILE", &configuration),
    )?;
    let project = scratch("terraform")?;
    copy(&root().join("environments"), &project.join("environments"))?;
    render(&project, "demo")?;
    let in_dir = |dir: &str, arguments: &[&str]| {
        execute(
            command(&terraform)
                .args(arguments)
                .current_dir(project.join(dir))
                .env("TF_CLI_CONFIG_FILE", &configuration)
                .env("CHECKPOINT_DISABLE", "1"),
        )
    };
    in_dir("infra/demo", &["init", "-input=false", "-lockfile=readonly"])?;
    in_dir("infra/demo", &["validate"])?;
    in_dir("modules/eks", &["init", "-input=false"])?;
    in_dir("modules/eks", &["test"])
}

/// Lints every chart with the values of each shipped environment.
fn helm() -> Result<(), String> {
    let tools = setup::tools()?;
    let helm = tools.get("helm").ok_or("helm is not among the tools")?.path.clone();
    let project = scratch("helm")?;
    copy(&root().join("environments"), &project.join("environments"))?;
    for environment in ["demo", "sandbox"] {
        render(&project, environment)?;
        for chart in charts(&project.join("cd"))? {
            // The charts of Applications read the environment's values; the others have values of their own.
            let mut lint = command(&helm);
            lint.args(["lint", "--strict", "--quiet"]).arg(&chart);
            // This one has no defaults: the addons chart sets them.
            if chart.ends_with("karpenter-nodes") {
                lint.args(["--set", "clusterName=demo,nodeRole=demo-karpenter-node"]);
            }
            if ["addons", "apps", "infra"]
                .iter()
                .any(|name| chart.ends_with(Path::new("cd").join(name)))
            {
                lint.arg("--values")
                    .arg(project.join(format!("cd/environments/{environment}/values.yaml")));
            }
            execute(&mut lint)?;
        }
    }
    Ok(())
}

/// Checks and tests the alert rules.
fn promtool() -> Result<(), String> {
    let promtool = setup::check_tool("promtool")?;
    let chart = root().join("templates/cd/infra-charts/prometheus");
    execute(
        command(&promtool)
            .args(["check", "rules"])
            .arg(chart.join("files/alerts.yaml")),
    )?;
    execute(
        command(&promtool)
            .args(["test", "rules"])
            .arg(chart.join("tests/alerts_test.yaml")),
    )
}

/// Lints this repository's workflows, and those that `mfsre init` writes.
fn workflows() -> Result<(), String> {
    let actionlint = setup::check_tool("actionlint")?;
    let shellcheck = setup::python_tool("shellcheck")?;
    let zizmor = setup::python_tool("zizmor")?;
    let project = scratch("workflows")?;
    // actionlint looks for the actions of a project at the top of its repository.
    execute(command("git").args(["init", "--quiet"]).arg(&project))?;
    mfsre(&["init", "--ci", "github", "--project"], &project)?;
    for folder in [root(), project] {
        execute(
            command(&actionlint)
                .arg("-shellcheck")
                .arg(&shellcheck)
                .arg("-pyflakes=")
                .current_dir(&folder),
        )?;
        let audited = [folder.join(".github"), folder.join("action.yaml")];
        execute(
            command(&zizmor)
                .args(["--offline", "--persona", "pedantic", "--quiet"])
                .args(audited.iter().filter(|path| path.exists())),
        )?;
    }
    Ok(())
}

/// Every Dockerfile of the repository.
fn dockerfiles() -> Result<Vec<String>, String> {
    let output = command("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|e| format!("cannot run git: {e}"))?;
    let files = String::from_utf8_lossy(&output.stdout);
    let dockerfiles = files
        .split('\0')
        .filter(|path| Path::new(path).file_name().is_some_and(|name| name == "Dockerfile"))
        .map(str::to_owned);
    Ok(dockerfiles.collect())
}

/// Renders an environment of a project with the program of this tree.
pub(crate) fn render(project: &Path, environment: &str) -> Result<(), String> {
    mfsre(&["render", environment, "--project"], project)
}

/// Runs the program as it stands in this repository.
pub(crate) fn mfsre(arguments: &[&str], project: &Path) -> Result<(), String> {
    cargo(&["build", "--quiet", "--package", "mfsre"])?;
    let program = root().join("target/debug/mfsre");
    execute(command(program).args(arguments).arg(project))
}

fn charts(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut charts = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        if dir.join("Chart.yaml").exists() {
            charts.push(dir.clone());
        }
        for entry in std::fs::read_dir(&dir).map_err(|e| format!("cannot read {}: {e}", dir.display()))? {
            let path = entry.map_err(|e| e.to_string())?.path();
            if path.is_dir() {
                pending.push(path);
            }
        }
    }
    charts.sort();
    Ok(charts)
}

fn scratch(name: &str) -> Result<PathBuf, String> {
    let dir = root().join("target/lint").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    Ok(dir)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot copy {}: {e}", from.display());
    std::fs::create_dir_all(to).map_err(failed)?;
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(name) = path.file_name() {
            std::fs::copy(&path, to.join(name)).map_err(failed)?;
        }
    }
    Ok(())
}
