use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use jiff::civil::Date;
use serde::Serialize;

use crate::config::{Project, schema};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EnvironmentName, RepositoryUrl, Scalar as _};
use crate::render::pipeline;
use crate::render::tree::write_atomically;

/// What `init` shall make.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Repository that Argo CD reads.
    pub repository: Option<String>,
    /// Environments; none for those that are there, or else `demo`.
    pub environments: Vec<String>,
    /// Write the workflows of GitHub Actions, and a service with its Dockerfile.
    pub github: bool,
    /// The day on which environment files are read.
    pub today: Date,
}

/// What `init` made.
#[derive(Debug, Serialize)]
pub struct InitSummary {
    /// Files written, relative to the project.
    pub written: Vec<PathBuf>,
    /// Files that were there and stay as they are.
    pub kept: Vec<PathBuf>,
    /// The environments, new ones and those that were there.
    pub environments: Vec<String>,
    /// What of the command line could not be done.
    pub notes: Vec<String>,
    /// What the first environment still needs before `up`, as keys of its file.
    pub missing: Vec<&'static str>,
}

/// The environment that is the local platform, as the commands of `mfsre sandbox` call it unless they are told otherwise.
const SANDBOX: &str = "sandbox";

/// Starts a project in `root`; what is there already stays.
///
/// # Errors
/// A name or the URL is not valid, or a file cannot be written.
pub fn init(root: &Path, options: &InitOptions) -> Result<InitSummary> {
    let invalid = |i: crate::model::Invalid| {
        let error = Error::new(ErrorKind::Usage, i.message);
        match i.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    };
    let repository = options
        .repository
        .as_deref()
        .map(RepositoryUrl::parse)
        .transpose()
        .map_err(invalid)?;
    let (mut names, on_aws) = present(root, options.today)?;
    if names.is_empty() && options.environments.is_empty() {
        names.push("demo".to_owned());
    }
    if !options.environments.is_empty() {
        names.clone_from(&options.environments);
    }
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for name in &names {
        let name = EnvironmentName::parse(name).map_err(invalid)?;
        let url = repository
            .as_ref()
            .map_or(RepositoryUrl::PLACEHOLDER, RepositoryUrl::as_str);
        let text = if name.as_str() == SANDBOX {
            SANDBOX_FILE.to_owned()
        } else {
            environment_file(&name, url)
        };
        files.push((PathBuf::from(format!("environments/{name}.yaml")), text.into_bytes()));
    }
    let mut schema = serde_json::to_string_pretty(&schema())
        .map_err(|e| Error::failed("cannot write the JSON Schema").cause(e.to_string()))?;
    schema.push('\n');
    files.push((PathBuf::from("environments/schema.json"), schema.into_bytes()));
    files.push((PathBuf::from(".gitignore"), GITIGNORE.into()));
    if options.github {
        let named = options.environments.iter().filter(|name| *name != SANDBOX);
        let mut deployed: Vec<&str> = on_aws.iter().chain(named).map(String::as_str).collect();
        if deployed.is_empty() {
            deployed.push("demo");
        }
        deployed.sort_unstable();
        deployed.dedup();
        files.extend(pipeline(&deployed)?);
        files.extend(services());
    }
    let mut summary = InitSummary {
        written: Vec::new(),
        kept: Vec::new(),
        environments: names,
        notes: Vec::new(),
        missing: Vec::new(),
    };
    for (path, contents) in files {
        let target = root.join(&path);
        if target.exists() {
            let written =
                |url: &RepositoryUrl| std::fs::read_to_string(&target).is_ok_and(|text| text.contains(url.as_str()));
            if let Some(url) = repository.as_ref().filter(|url| is_environment(&path) && !written(url)) {
                summary.notes.push(format!(
                    "{} stays as it is: {url} was not written into it",
                    path.display()
                ));
            }
            summary.kept.push(path);
            continue;
        }
        // Whole or not at all: what is there already is kept the next time.
        write_atomically(&target, contents.as_ref())?;
        summary.written.push(path);
    }
    if let Some(first) = summary.environments.first() {
        let path = root.join(format!("environments/{first}.yaml"));
        summary.missing = std::fs::read_to_string(path)
            .map(|text| missing(&text))
            .unwrap_or_default();
    }
    Ok(summary)
}

fn is_environment(path: &Path) -> bool {
    path.starts_with("environments") && path.extension().is_some_and(|e| e == "yaml")
}

/// The settings that only the owner of an environment file knows, and that are missing in it or as `init` wrote them.
fn missing(text: &str) -> Vec<&'static str> {
    let has = |written: &str| {
        text.lines()
            .any(|line| !line.starts_with('#') && line.contains(written))
    };
    let sandbox = text.lines().any(|line| line.starts_with("sandbox:"));
    let mut missing = Vec::new();
    if has(RepositoryUrl::PLACEHOLDER) || !has("argocd_repository_url:") {
        missing.push("argocd_repository_url");
    }
    if (has(NOBODY) || !has("administrators:")) && !sandbox {
        missing.push("access.administrators");
    }
    missing
}

/// The environments that are there, and those of them that are no sandbox.
fn present(root: &Path, today: Date) -> Result<(Vec<String>, Vec<String>)> {
    if !root.join("environments").is_dir() {
        return Ok((Vec::new(), Vec::new()));
    }
    let project = Project::find(Some(root))?;
    let names = project.environments()?;
    let is_sandbox = |name: &String| {
        project
            .load(name, today)
            .is_ok_and(|loaded| loaded.environment.is_sandbox())
    };
    let on_aws = names.iter().filter(|name| !is_sandbox(name)).cloned().collect();
    Ok((names, on_aws))
}

static SERVICES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/services");

/// The services of this repository, which a project begins with: what tools left beside the sources stays out.
fn services() -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut pending: Vec<&Dir<'_>> = SERVICES.dirs().collect();
    while let Some(dir) = pending.pop() {
        for file in dir.files().filter(|file| is_source(file.path())) {
            files.push((Path::new("services").join(file.path()), file.contents().to_vec()));
        }
        pending.extend(dir.dirs().filter(|dir| is_source(dir.path())));
    }
    files.sort();
    files
}

fn is_source(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    match name.strip_prefix('.') {
        Some(hidden) => ["dockerignore", "gitignore", "python-version"].contains(&hidden),
        None => name != "__pycache__" && !name.ends_with(".pyc") && !name.ends_with(".egg-info"),
    }
}

/// The shipped one, which needs nothing but itself.
const SANDBOX_FILE: &str = include_str!("../../environments/sandbox.yaml");

/// The list of administrators that has to be filled in.
const NOBODY: &str = "administrators: []";

const GITIGNORE: &str = "# Plans, journal and lock of mfsre, and Terraform's working files; none belongs into Git.\n.mfsre/\n.terraform/\n*.tfstate\n*.tfstate.*\n*.tfplan\n";

fn environment_file(name: &EnvironmentName, url: &str) -> String {
    let version = crate::model::ClusterVersion::DEFAULT;
    format!(
        "# yaml-language-server: $schema=schema.json
# One environment of the platform: `mfsre validate {name}`, `mfsre plan {name}`, `mfsre up {name}`.

name: {name}
region: eu-west-1
vpc_cidr: 10.0.0.0/16
cluster_version: \"{version}\"
instance_types: [t3.medium]
capacity_type: SPOT
argocd_repository_url: {url}

# Who may administer the cluster; whoever runs `mfsre up` must be among them.
access:
  {NOBODY}

# The Kubernetes API is private. Name your network to reach it from outside the VPC, also for `mfsre up`.
# cluster:
#   public_access_cidrs: [203.0.113.7/32]
"
    )
}
