//! Everything that the tests and linters need and that a machine with the prerequisites lacks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mfsre_sandbox::{Event, Progress, Spec, StartedBy, ToolSettings, Toolset};

use crate::process::{command, on_path, root, run};

/// Says which tool is being fetched or built, about every 20 seconds.
struct Say;

impl Progress for Say {
    fn event(&self, event: Event) {
        match event {
            Event::ToolWorking { name, how, elapsed } if elapsed.as_secs() % 20 == 0 => {
                println!("  {name}: {how}, {}s", elapsed.as_secs());
            }
            Event::ToolResolved {
                name, version, source, ..
            } => println!("  {name} {version} {source}"),
            _ => {}
        }
    }
}

/// Fetches or builds the sandbox's tools.
pub(crate) fn tools() -> Result<Toolset, String> {
    runtime()?
        .block_on(mfsre_sandbox::prepare(&spec(), &Say))
        .map_err(|e| e.to_string())
}

/// Fetches or builds a program that only the checks need.
pub(crate) fn check_tool(name: &str) -> Result<PathBuf, String> {
    let resolved = runtime()?
        .block_on(mfsre_sandbox::check_tool(name, &spec(), &Say))
        .map_err(|e| e.to_string())?;
    Ok(resolved.path)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    // One cryptography for every TLS connection of the process; a second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Runtime::new().map_err(|e| format!("cannot start the runtime: {e}"))
}

fn spec() -> Spec {
    Spec {
        name: "setup".into(),
        dir: root().join("target/setup"),
        cache: None,
        cluster: "setup".into(),
        region: "eu-west-1".into(),
        cluster_version: "1.35".into(),
        git_listen: ([127, 0, 0, 1], 0).into(),
        git_repository: "mfsre/platform.git".into(),
        tools: ToolSettings {
            explicit: BTreeMap::new(),
            mirror: None,
            install_manifest: None,
        },
        nodes: 1,
        fast_hpa: false,
        started_by: StartedBy::Start,
    }
}

/// The terraform program, which the prerequisites name.
pub(crate) fn terraform() -> Result<PathBuf, String> {
    on_path("terraform")
        .or_else(|| on_path("tofu"))
        .ok_or_else(|| "neither terraform nor tofu is on PATH: install Terraform 1.10 or newer, https://developer.hashicorp.com/terraform/install".to_owned())
}

/// A Terraform CLI configuration that uses a filesystem mirror, where this machine has one.
pub(crate) fn terraform_configuration() -> Result<PathBuf, String> {
    let mirror = mfsre::terraform::ProviderMirror::find(None, mfsre::terraform::Flavour::Terraform);
    let path = root().join("target/xtask.terraformrc");
    let text = match mirror {
        None => Ok("# Providers come from the registry.\n".to_owned()),
        Some(mirror) => mirror.cli_configuration(&root().join("target/xtask-providers")),
    };
    text.and_then(|text| std::fs::write(&path, text))
        .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(path)
}

/// A program from PyPI in an environment of its own, checked against pinned hashes.
pub(crate) fn python_tool(name: &str) -> Result<PathBuf, String> {
    Ok(python_environment(name, &format!("tools/python/{name}.txt"))?
        .join("bin")
        .join(name))
}

/// A Python environment with exactly what a lock file names, made again when that changes.
pub(crate) fn python_environment(name: &str, lock: &str) -> Result<PathBuf, String> {
    let requirements = root().join(lock);
    let pinned = std::fs::read(&requirements).map_err(|e| format!("cannot read {}: {e}", requirements.display()))?;
    let environment = cache()?.join("python").join(name);
    let stamp = environment.join("requirements.txt");
    // The interpreter is a link, which a newer Python on the machine may have left dangling.
    if environment.join("bin/python").exists() && std::fs::read(&stamp).is_ok_and(|s| s == pinned) {
        return Ok(environment);
    }
    run(command("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    run(command(environment.join("bin/pip"))
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "--requirement",
        ])
        .arg(&requirements))?;
    std::fs::write(&stamp, pinned).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
    Ok(environment)
}

/// One of the programs that check the main service, to be run in its folder.
pub(crate) fn main_service(program: &str) -> Result<std::process::Command, String> {
    const FOLDER: &str = "services/main-service";
    let environment = python_environment("main-service", &format!("{FOLDER}/requirements-dev.txt"))?;
    let mut command = command(environment.join("bin").join(program));
    command.current_dir(root().join(FOLDER));
    Ok(command)
}

/// cargo-deny, built once.
pub(crate) fn cargo_deny() -> Result<PathBuf, String> {
    const VERSION: &str = "0.20.2";
    let root = cache()?.join("cargo-deny").join(VERSION);
    let program = root.join("bin/cargo-deny");
    if !program.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        run(command(cargo)
            .args([
                "install",
                "--quiet",
                "--locked",
                "--version",
                VERSION,
                "cargo-deny",
                "--root",
            ])
            .arg(&root))?;
    }
    Ok(program)
}

/// Where tools of the project's own checks are kept.
fn cache() -> Result<PathBuf, String> {
    let base = std::env::var_os("MFSRE_CACHE_DIR")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("XDG_CACHE_HOME").map(|d| Path::new(&d).join("mfsre")))
        .or_else(|| std::env::var_os("HOME").map(|d| Path::new(&d).join(".cache/mfsre")))
        .ok_or("neither HOME nor XDG_CACHE_HOME is set")?;
    Ok(base.join("checks"))
}
