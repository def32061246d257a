use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::schema;
use crate::error::{Error, ErrorKind, IoContext as _, Result};
use crate::model::{EnvironmentName, RepositoryUrl, Scalar as _};

/// What `init` shall make.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Repository that Argo CD reads.
    pub repository: Option<String>,
    /// Environments.
    pub environments: Vec<String>,
}

/// What `init` made.
#[derive(Debug, Serialize)]
pub struct InitSummary {
    /// Files written, relative to the project.
    pub written: Vec<PathBuf>,
    /// Files that were there and stay as they are.
    pub kept: Vec<PathBuf>,
}

/// Where a repository URL has to be filled in.
const PLACEHOLDER: &str = "git@github.com:OWNER/REPOSITORY.git";

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
    let names = if options.environments.is_empty() {
        vec!["demo".to_owned()]
    } else {
        options.environments.clone()
    };
    let mut files = Vec::new();
    for name in &names {
        let name = EnvironmentName::parse(name).map_err(invalid)?;
        let url = repository.as_ref().map_or(PLACEHOLDER, RepositoryUrl::as_str);
        files.push((
            PathBuf::from(format!("environments/{name}.yaml")),
            environment_file(&name, url),
        ));
    }
    let mut schema = serde_json::to_string_pretty(&schema())
        .map_err(|e| Error::failed("cannot write the JSON Schema").cause(e.to_string()))?;
    schema.push('\n');
    files.push((PathBuf::from("environments/schema.json"), schema));
    files.push((PathBuf::from(".gitignore"), GITIGNORE.to_owned()));
    let mut summary = InitSummary {
        written: Vec::new(),
        kept: Vec::new(),
    };
    for (path, contents) in files {
        let target = root.join(&path);
        if target.exists() {
            summary.kept.push(path);
            continue;
        }
        if let Some(dir) = target.parent() {
            std::fs::create_dir_all(dir).or_cannot(|| format!("create {}", dir.display()))?;
        }
        std::fs::write(&target, contents).or_cannot(|| format!("write {}", target.display()))?;
        summary.written.push(path);
    }
    Ok(summary)
}

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
  administrators: []

# The Kubernetes API is private. Name your network to reach it from outside the VPC, also for `mfsre up`.
# cluster:
#   public_access_cidrs: [203.0.113.7/32]
"
    )
}
