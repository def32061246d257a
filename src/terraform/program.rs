use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::TerraformError;
use crate::child::ChildEnvironment;

/// The oldest release with S3's native lock file, for both programs.
const OLDEST: &str = "1.10.0";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// HashiCorp Terraform.
    Terraform,
    /// OpenTofu.
    OpenTofu,
}

impl Flavour {
    /// The program's usual name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Terraform => "terraform",
            Self::OpenTofu => "tofu",
        }
    }

    /// The registry that addresses without a host name refer to.
    #[must_use]
    pub fn registry(self) -> &'static str {
        match self {
            Self::Terraform => "registry.terraform.io",
            Self::OpenTofu => "registry.opentofu.org",
        }
    }
}

/// A Terraform or OpenTofu that works with mfsre.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Which of the two.
    pub flavour: Flavour,
    /// Its version.
    pub version: String,
}

#[derive(Deserialize)]
struct VersionOutput {
    terraform_version: String,
}

impl Program {
    /// The program named by `setting`, else the first of `terraform` and `tofu` on PATH.
    ///
    /// # Errors
    /// There is none, it cannot be run, or it is too old.
    pub async fn find(setting: Option<&Path>) -> Result<Self, TerraformError> {
        let path = match setting {
            Some(name) if name.components().count() > 1 => name.to_owned(),
            Some(name) => on_path(name).ok_or_else(|| TerraformError::Unusable {
                program: name.display().to_string(),
                source: std::io::Error::new(std::io::ErrorKind::NotFound, "it is not on PATH"),
            })?,
            None => on_path("terraform".as_ref())
                .or_else(|| on_path("tofu".as_ref()))
                .ok_or(TerraformError::NotFound)?,
        };
        let program = path.display().to_string();
        let unusable = |source| TerraformError::Unusable {
            program: program.clone(),
            source,
        };
        let mut environment = ChildEnvironment::terraform();
        environment.remove_prefix("TF_CLI_CONFIG_FILE");
        let output = tokio::process::Command::new(&path)
            .args(["version", "-json"])
            .env_clear()
            .envs(environment.iter())
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .map_err(unusable)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = serde_json::from_str::<VersionOutput>(&text)
            .map_err(|_| {
                let stderr = String::from_utf8_lossy(&output.stderr);
                let said = stderr.lines().find(|line| !line.trim().is_empty());
                let said = said.map(|line| format!(": {}", line.trim())).unwrap_or_default();
                unusable(std::io::Error::other(format!(
                    "`version -json` printed no version{said}"
                )))
            })?
            .terraform_version;
        let plain = tokio::process::Command::new(&path)
            .arg("version")
            .env_clear()
            .envs(environment.iter())
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .map_err(unusable)?;
        let flavour = if String::from_utf8_lossy(&plain.stdout).contains("OpenTofu") {
            Flavour::OpenTofu
        } else {
            Flavour::Terraform
        };
        if numbers(&version) < numbers(OLDEST) {
            return Err(TerraformError::TooOld {
                program,
                found: version,
                needed: OLDEST,
            });
        }
        Ok(Self { path, flavour, version })
    }
}

fn numbers(version: &str) -> Vec<u64> {
    version
        .split(['-', '+'])
        .next()
        .unwrap_or("")
        .split('.')
        .filter_map(|n| n.parse().ok())
        .collect()
}

fn on_path(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}
