//! The sandbox's programs: found on the machine, in the cache, downloaded or built, in this order.

mod cache;
mod catalog;
mod download;
mod go;
mod prerequisites;
mod python;
mod run;
#[cfg(test)]
mod tests;
mod version;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use self::cache::{Cache, Filling};
pub use self::catalog::ARGO_CD;
use self::catalog::{
    ARGO_CD_INSTALL_SHA256, ARGO_CD_INSTALL_URL, Accepts, CHECKS, KUBERNETES_MINOR, Prebuilt, TOOLS, Tool,
};
use self::download::Downloads;
pub use self::prerequisites::missing;
use self::python::{MINISTACK_VERSION, MainService, Python};
use self::version::Version;
use crate::{Error, Event, Progress, Source, Spec};

/// The file name of Argo CD's install manifest in the cache and its name in settings.
const INSTALL_MANIFEST: &str = "argocd-install.yaml";

const REDIS: &str = "redis-server";

/// The names in [`ToolSettings::explicit`](crate::ToolSettings::explicit) that mean something.
pub fn tool_names() -> impl Iterator<Item = &'static str> {
    let others = ["ministack", REDIS, python::MAIN_SERVICE, INSTALL_MANIFEST];
    TOOLS.iter().map(|tool| tool.name).chain(others)
}

/// One program that is ready to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Where it is.
    pub path: PathBuf,
    /// Its version, as `v1.35.4`.
    pub version: String,
    /// Where it came from.
    pub source: Source,
}

/// Every program of the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Toolset {
    tools: BTreeMap<String, Resolved>,
}

impl Toolset {
    /// A program by name, for example `helm`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Resolved> {
        self.tools.get(name)
    }

    /// Every program with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Resolved)> {
        self.tools.iter().map(|(name, tool)| (name.as_str(), tool))
    }

    /// Argo CD's official install manifest, of the release that the sandbox runs.
    #[must_use]
    pub fn argocd_install_manifest(&self) -> Option<&Path> {
        self.get(INSTALL_MANIFEST).map(|tool| tool.path.as_path())
    }

    /// A program that [`prepare`] always resolves.
    pub(crate) fn require(&self, name: &str) -> Result<&Resolved, Error> {
        self.get(name).ok_or_else(|| Error::Internal {
            action: format!("run {name}"),
            message: "it is not among the prepared tools".to_owned(),
            next: "run the command again, so that the tools are prepared anew".to_owned(),
        })
    }
}

/// Finds, downloads or builds every program that the sandbox needs.
///
/// # Errors
/// [`Error::Prerequisites`] with everything that is missing, before anything is fetched; [`Error::Tool`] for the first
/// program that no way leads to.
pub async fn prepare(spec: &Spec, progress: &dyn Progress) -> Result<Toolset, Error> {
    let prerequisites = prerequisites::check().await?;
    let getter = Getter::new(spec, prerequisites.python, progress)?;
    let mut tools = BTreeMap::new();
    let mut keep = |name: &str, tool: Resolved| {
        progress.event(Event::ToolResolved {
            name: name.to_owned(),
            version: tool.version.clone(),
            source: tool.source,
            path: tool.path.clone(),
        });
        tools.insert(name.to_owned(), tool);
    };
    keep("git", prerequisites.git);
    keep("ssh", prerequisites.ssh);
    // Before all that is built: some machines must have it.
    keep(REDIS, getter.redis().await?);
    for tool in TOOLS {
        keep(tool.name, getter.program(tool).await?);
    }
    keep("ministack", getter.ministack().await?);
    keep(python::MAIN_SERVICE, getter.main_service().await?);
    keep(INSTALL_MANIFEST, getter.install_manifest().await?);
    Ok(Toolset { tools })
}

/// One of the programs that only the project's own checks need.
///
/// # Errors
/// [`Error::Prerequisites`], or [`Error::Tool`] when there is no such program or no way leads to it.
pub async fn check_tool(name: &str, spec: &Spec, progress: &dyn Progress) -> Result<Resolved, Error> {
    let prerequisites = prerequisites::check().await?;
    let getter = Getter::new(spec, prerequisites.python, progress)?;
    match CHECKS.iter().find(|tool| tool.name == name) {
        Some(tool) => getter.program(tool).await,
        None => Err(failed(
            name,
            "any version",
            Vec::new(),
            "name one of the catalogue".to_owned(),
        )),
    }
}

/// Argo CD's official install manifest alone, which an environment on AWS needs as well.
///
/// # Errors
/// [`Error::Tool`] when no way leads to it.
pub async fn install_manifest(spec: &Spec, progress: &dyn Progress) -> Result<Resolved, Error> {
    // Only the way by a Go toolchain needs it; where it is missing, that way fails as any other.
    let python = Python(find_on_path("python3").unwrap_or_else(|| "python3".into()));
    Getter::new(spec, python, progress)?.install_manifest().await
}

/// Gets tools, one after the other: a Go build uses every core by itself.
struct Getter<'a> {
    cache: Cache,
    downloads: Downloads,
    python: Python,
    spec: &'a Spec,
    progress: &'a dyn Progress,
}

impl<'a> Getter<'a> {
    fn new(spec: &'a Spec, python: Python, progress: &'a dyn Progress) -> Result<Self, Error> {
        Ok(Self {
            cache: Cache::locate(spec.cache.as_deref())?,
            downloads: Downloads::new().map_err(|message| Error::Internal {
                action: "make an HTTP client".to_owned(),
                message,
                next: "check SSL_CERT_FILE and SSL_CERT_DIR".to_owned(),
            })?,
            python,
            spec,
            progress,
        })
    }

    async fn program(&self, tool: &Tool) -> Result<Resolved, Error> {
        let mut attempts = Vec::new();
        let wanted = self.wanted(tool);
        if let Some(found) = self
            .on_machine(tool.name, wanted, tool.version_arguments, tool.accepts, &mut attempts)
            .await?
        {
            return Ok(found);
        }
        let pinned = Version::find(tool.version);
        if pinned.is_none_or(|pinned| !pinned.satisfies(wanted, tool.accepts)) {
            attempts.push(format!(
                "cache, download and build: they are pinned to {}",
                tool.version
            ));
            return Err(failed(
                tool.name,
                &wanted.to_string(),
                attempts,
                format!("set cluster_version to {KUBERNETES_MINOR}, or put the wanted version on PATH"),
            ));
        }
        if let Some(found) = self.cached(tool.name, tool.version, tool.name) {
            return Ok(found);
        }
        let filling = self.cache.fill(tool.name, tool.version, self.progress).await?;
        if let Some(found) = self.cached(tool.name, tool.version, tool.name) {
            return Ok(found);
        }
        let source = match self.download(tool, &filling, &mut attempts).await {
            true => Source::Download,
            false => {
                filling.reset()?;
                let built = match go::toolchain(&self.cache, &self.python, self.progress).await {
                    Ok(go) => go::build(tool, &go, &filling, self.progress).await,
                    Err(problem) => Err(format!("no Go toolchain: {problem}")),
                };
                if let Err(problem) = built {
                    attempts.push(format!("build: {problem}"));
                    return Err(failed(tool.name, tool.version, attempts, network_hint(tool.name)));
                }
                Source::GoModules
            }
        };
        let path = filling.finish(tool.name)?;
        Ok(Resolved {
            path,
            version: tool.version.to_owned(),
            source,
        })
    }

    async fn ministack(&self) -> Result<Resolved, Error> {
        let resolved = |path, source| Resolved {
            path,
            version: MINISTACK_VERSION.to_owned(),
            source,
        };
        if let Some(path) = self.explicit("ministack")? {
            return Ok(resolved(path, Source::Explicit));
        }
        if let Some(path) = python::find_ministack(&self.cache) {
            return Ok(resolved(path, Source::Cache));
        }
        let filling = self.cache.fill("ministack", MINISTACK_VERSION, self.progress).await?;
        if let Some(path) = python::find_ministack(&self.cache) {
            return Ok(resolved(path, Source::Cache));
        }
        self.python
            .install_ministack(&filling, self.progress)
            .await
            .map_err(|problem| failed("ministack", MINISTACK_VERSION, vec![problem], network_hint("ministack")))?;
        Ok(resolved(filling.finish("bin/python")?, Source::Pypi))
    }

    /// The Python that runs the main service.
    async fn main_service(&self) -> Result<Resolved, Error> {
        const NAME: &str = python::MAIN_SERVICE;
        let sources = MainService::embedded();
        let resolved = |path, source| Resolved {
            path,
            version: sources.version.clone(),
            source,
        };
        if let Some(path) = self.explicit(NAME)? {
            return Ok(resolved(path, Source::Explicit));
        }
        let find = || self.cache.find(NAME, &sources.key, python::VENV_PYTHON);
        if let Some(path) = find() {
            return Ok(resolved(path, Source::Cache));
        }
        let filling = self.cache.fill(NAME, &sources.key, self.progress).await?;
        if let Some(path) = find() {
            return Ok(resolved(path, Source::Cache));
        }
        self.python
            .install_main_service(&filling, &sources, self.progress)
            .await
            .map_err(|problem| failed(NAME, &sources.version, vec![problem], network_hint(NAME)))?;
        Ok(resolved(filling.finish(python::VENV_PYTHON)?, Source::Pypi))
    }

    async fn redis(&self) -> Result<Resolved, Error> {
        const NAME: &str = REDIS;
        const VERSION: &str = "v6.2.14";
        let mut attempts = Vec::new();
        let least = Version {
            major: 6,
            minor: 0,
            patch: 0,
        };
        if let Some(path) = self.explicit(NAME)? {
            return Ok(Resolved {
                path,
                version: String::new(),
                source: Source::Explicit,
            });
        }
        for name in [NAME, "valkey-server"] {
            let Some(path) = find_on_path(name) else {
                attempts.push(format!("PATH: no {name}"));
                continue;
            };
            match version::probe(&path, &["--version"]).await {
                Ok(version) if version >= least => {
                    return Ok(Resolved {
                        path,
                        version: format!("v{version}"),
                        source: Source::Path,
                    });
                }
                Ok(version) => attempts.push(format!(
                    "PATH: {} is {version}, wanted {least} or newer",
                    path.display()
                )),
                Err(problem) => attempts.push(format!("PATH: {problem}")),
            }
        }
        if let Some(found) = self.cached(NAME, VERSION, NAME) {
            return Ok(found);
        }
        let filling = self.cache.fill(NAME, VERSION, self.progress).await?;
        if let Some(found) = self.cached(NAME, VERSION, NAME) {
            return Ok(found);
        }
        if let Err(problem) = self.python.extract_redis(&filling, self.progress).await {
            attempts.push(format!("PyPI: {problem}"));
            let next = "install it with `apt install redis-server` or `brew install redis`".to_owned();
            return Err(failed(NAME, "6 or newer", attempts, next));
        }
        Ok(Resolved {
            path: filling.finish(NAME)?,
            version: VERSION.to_owned(),
            source: Source::Pypi,
        })
    }

    async fn install_manifest(&self) -> Result<Resolved, Error> {
        const FOLDER: &str = "argocd-install";
        let resolved = |path, source| Resolved {
            path,
            version: ARGO_CD.to_owned(),
            source,
        };
        if let Some(path) = self.explicit(INSTALL_MANIFEST)? {
            return Ok(resolved(path, Source::Explicit));
        }
        if let Some(path) = self.cache.find(FOLDER, ARGO_CD, INSTALL_MANIFEST) {
            return Ok(resolved(path, Source::Cache));
        }
        let filling = self.cache.fill(FOLDER, ARGO_CD, self.progress).await?;
        if let Some(path) = self.cache.find(FOLDER, ARGO_CD, INSTALL_MANIFEST) {
            return Ok(resolved(path, Source::Cache));
        }
        let target = filling.dir().join(INSTALL_MANIFEST);
        let mut attempts = Vec::new();
        let url = self
            .spec
            .tools
            .install_manifest
            .as_ref()
            .map_or(ARGO_CD_INSTALL_URL, Url::as_str);
        let source = match self
            .fetch(FOLDER, ARGO_CD, url, ARGO_CD_INSTALL_SHA256, &mut attempts)
            .await
        {
            Some(content) => {
                std::fs::write(&target, content).map_err(Error::file("write", &target))?;
                Source::Download
            }
            // Whoever names a mirror wants the file from there: another way would hide that it is wrong.
            None if self.spec.tools.install_manifest.is_some() => {
                let next = "correct mirrors.argocd_manifest in the environment file, or remove it".to_owned();
                return Err(failed(INSTALL_MANIFEST, ARGO_CD, attempts, next));
            }
            None => {
                if let Err(problem) = self.manifest_from_module(&filling, &target).await {
                    attempts.push(format!("Go module: {problem}"));
                    return Err(failed(
                        INSTALL_MANIFEST,
                        ARGO_CD,
                        attempts,
                        network_hint(INSTALL_MANIFEST),
                    ));
                }
                Source::GoModules
            }
        };
        Ok(resolved(filling.finish(INSTALL_MANIFEST)?, source))
    }

    async fn manifest_from_module(&self, filling: &Filling, target: &Path) -> Result<(), String> {
        use sha2::{Digest as _, Sha256};
        let go = go::toolchain(&self.cache, &self.python, self.progress).await?;
        let manifest = go::argo_cd_module(&go, filling, self.progress)
            .await?
            .join("manifests/install.yaml");
        let content = std::fs::read(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
        let found = hex::encode(Sha256::digest(&content));
        if found != ARGO_CD_INSTALL_SHA256 {
            return Err(format!(
                "{}: sha256 is {found}, pinned is {ARGO_CD_INSTALL_SHA256}",
                manifest.display()
            ));
        }
        std::fs::write(target, content).map_err(|error| format!("{}: {error}", target.display()))
    }

    /// The version to look for: the pinned one, except that the control plane's minor version is the environment's.
    fn wanted(&self, tool: &Tool) -> Version {
        let pinned = Version::find(tool.version).unwrap_or(Version {
            major: 0,
            minor: 0,
            patch: 0,
        });
        match (
            tool.name.starts_with("kube-"),
            Version::find(&self.spec.cluster_version),
        ) {
            (true, Some(cluster)) if (cluster.major, cluster.minor) != (pinned.major, pinned.minor) => cluster,
            _ => pinned,
        }
    }

    /// A path from the settings, which must be a file.
    fn explicit(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        let Some(path) = self.spec.tools.explicit.get(name) else {
            return Ok(None);
        };
        if path.is_file() {
            return Ok(Some(path.clone()));
        }
        let attempt = format!("settings: {} is not a file", path.display());
        Err(failed(
            name,
            "as set",
            vec![attempt],
            format!("correct the setting for {name}, or remove it"),
        ))
    }

    /// A program from the settings, PATH or KUBEBUILDER_ASSETS.
    async fn on_machine(
        &self,
        name: &str,
        wanted: Version,
        version_arguments: &[&str],
        accepts: Accepts,
        attempts: &mut Vec<String>,
    ) -> Result<Option<Resolved>, Error> {
        let kubebuilder = std::env::var_os("KUBEBUILDER_ASSETS")
            .map(|folder| PathBuf::from(folder).join(name))
            .filter(|path| is_executable(path));
        let explicit = self.explicit(name)?;
        let is_explicit = explicit.is_some();
        let candidates = [
            (explicit, Source::Explicit, "settings"),
            (find_on_path(name), Source::Path, "PATH"),
            (kubebuilder, Source::KubebuilderAssets, "KUBEBUILDER_ASSETS"),
        ];
        for (path, source, place) in candidates {
            let problem = match path {
                None => format!("no {name}"),
                // Whoever sets a path answers for it; another one may be of any version.
                Some(path) if version_arguments.is_empty() => {
                    if source == Source::Explicit {
                        return Ok(Some(Resolved {
                            path,
                            version: String::new(),
                            source,
                        }));
                    }
                    format!("{} does not tell its version", path.display())
                }
                Some(path) => match version::probe(&path, version_arguments).await {
                    Ok(version) if version.satisfies(wanted, accepts) => {
                        return Ok(Some(Resolved {
                            path,
                            version: format!("v{version}"),
                            source,
                        }));
                    }
                    Ok(version) => format!("{} is {version}, wanted {wanted}", path.display()),
                    Err(problem) => problem,
                },
            };
            if source == Source::Explicit && is_explicit {
                let next = format!("correct the setting for {name}, or remove it");
                return Err(failed(
                    name,
                    &wanted.to_string(),
                    vec![format!("{place}: {problem}")],
                    next,
                ));
            }
            if source != Source::Explicit {
                attempts.push(format!("{place}: {problem}"));
            }
        }
        Ok(None)
    }

    fn cached(&self, name: &str, version: &str, file: &str) -> Option<Resolved> {
        let path = self.cache.find(name, version, file)?;
        Some(Resolved {
            path,
            version: version.to_owned(),
            source: Source::Cache,
        })
    }

    /// Downloads the prebuilt file for this machine into the working folder; `false` where that was not possible.
    async fn download(&self, tool: &Tool, filling: &Filling, attempts: &mut Vec<String>) -> bool {
        let Some(prebuilt) = prebuilt_for_this_machine(tool) else {
            attempts.push("download: no prebuilt file with a known checksum for this machine".to_owned());
            return false;
        };
        let Some(content) = self
            .fetch(tool.name, tool.version, prebuilt.url, prebuilt.sha256, attempts)
            .await
        else {
            return false;
        };
        let target = filling.dir().join(tool.name);
        let written = match prebuilt.member {
            Some(member) => download::unpack(&content, member, &target),
            None => std::fs::write(&target, content).map_err(|error| format!("{}: {error}", target.display())),
        };
        match written.and_then(|()| crate::files::make_executable(&target).map_err(|error| error.to_string())) {
            Ok(()) => true,
            Err(problem) => {
                attempts.push(format!("download: {problem}"));
                false
            }
        }
    }

    /// A file from the mirror, or else from its publisher.
    async fn fetch(
        &self,
        name: &str,
        version: &str,
        official: &str,
        sha256: &str,
        attempts: &mut Vec<String>,
    ) -> Option<Vec<u8>> {
        let file = official.rsplit('/').next().unwrap_or_default();
        let mirror = self.spec.tools.mirror.as_ref().map(|base| {
            let base = base.as_str().trim_end_matches('/');
            format!("{base}/{name}/{version}/{file}")
        });
        for (place, url) in mirror
            .iter()
            .map(|url| ("mirror", url.as_str()))
            .chain([("download", official)])
        {
            let Ok(url) = Url::parse(url) else {
                attempts.push(format!("{place}: {url} is not a URL"));
                continue;
            };
            match run::ticking(self.downloads.get(&url, sha256), name, "downloading", self.progress).await {
                Ok(content) => return Some(content),
                Err(problem) => attempts.push(format!("{place}: {problem}")),
            }
        }
        None
    }
}

fn prebuilt_for_this_machine(tool: &Tool) -> Option<&'static Prebuilt> {
    let machine = (std::env::consts::OS, std::env::consts::ARCH);
    tool.prebuilt
        .iter()
        .find(|prebuilt| (prebuilt.os, prebuilt.arch) == machine)
}

/// The first executable file of that name on PATH.
pub(crate) fn find_on_path(name: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH")?, name)
}

/// The first executable file of that name in a list of folders as PATH has it.
fn find_in(folders: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(folders)
        .map(|folder| folder.join(name))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn failed(name: &str, version: &str, attempts: Vec<String>, next: String) -> Error {
    Error::Tool {
        name: name.to_owned(),
        version: version.to_owned(),
        attempts,
        next,
    }
}

fn network_hint(name: &str) -> String {
    format!("check the network, the proxy settings and the space in the cache; or set sandbox.tools.{name} to a path")
}
