//! Where Terraform keeps its state: which keys belong to which kind of backend.

use super::Backend;
use super::file::BackendFile;
use super::reader::Reader;
use super::settings::{BackendKind, Execution};
use crate::model::{EnvironmentName, Invalid, PrincipalArn};

impl Reader {
    pub(super) fn backend(
        &mut self,
        file: Option<&BackendFile>,
        name: Option<&EnvironmentName>,
        region: Option<&crate::model::Region>,
    ) -> Backend {
        let Some(file) = file else { return Backend::Local };
        let kind = self.or_default(Some(&file.kind), BackendKind::Local);
        let s3 = [
            ("bucket", &file.bucket),
            ("key", &file.key),
            ("region", &file.region),
            ("kms_key_id", &file.kms_key_id),
        ];
        let cloud = [
            ("organization", &file.organization),
            ("workspace", &file.workspace),
            ("project", &file.project),
            ("hostname", &file.hostname),
            ("execution", &file.execution),
            ("aws_run_role", &file.aws_run_role),
        ];
        let foreign: Vec<_> = match kind {
            BackendKind::Local => s3.iter().chain(&cloud).collect(),
            BackendKind::S3 => cloud.iter().collect(),
            BackendKind::Cloud => s3.iter().collect(),
        };
        for (key, field) in foreign {
            if let Some(field) = field {
                self.error(
                    field.referenced,
                    Invalid::new(format!("{key} does not belong to this backend"), "not used")
                        .hint("remove it, or change type"),
                );
            }
        }
        let named = |s: &str| {
            !s.is_empty() && s.len() <= 90 && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_ ".contains(c))
        };
        let default_name = name.map(ToString::to_string).unwrap_or_default();
        match kind {
            BackendKind::Local => Backend::Local,
            BackendKind::S3 => {
                let bucket_ok = |s: &str| {
                    (3..=63).contains(&s.len())
                        && s.chars()
                            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
                        && s.starts_with(|c: char| c.is_ascii_alphanumeric())
                        && s.ends_with(|c: char| c.is_ascii_alphanumeric())
                };
                if file.bucket.is_none() && !self.incomplete {
                    self.error(
                        file.kind.referenced,
                        Invalid::new("the s3 backend needs a bucket", "which bucket?")
                            .hint("add bucket: NAME under backend"),
                    );
                }
                let bucket = self.text(
                    file.bucket.as_ref(),
                    "a bucket name",
                    bucket_ok,
                    "3 to 63 lower-case letters, digits, dots and dashes",
                );
                let key = self.text(
                    file.key.as_ref(),
                    "an object key",
                    |s| !s.is_empty() && s.len() <= 1024 && !s.starts_with('/') && !s.ends_with('/'),
                    "write for example demo/terraform.tfstate",
                );
                let bucket_region: Option<crate::model::Region> = self.scalar(file.region.as_ref());
                Backend::S3 {
                    bucket: bucket.unwrap_or_default(),
                    key: key.unwrap_or_else(|| format!("{default_name}/terraform.tfstate")),
                    region: bucket_region
                        .as_ref()
                        .or(region)
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    kms_key_id: self.text(
                        file.kms_key_id.as_ref(),
                        "a KMS key",
                        |s| !s.is_empty() && !s.contains(char::is_whitespace),
                        "write a key ARN or alias/NAME",
                    ),
                }
            }
            BackendKind::Cloud => {
                if file.organization.is_none() && !self.incomplete {
                    self.error(
                        file.kind.referenced,
                        Invalid::new("the cloud backend needs an organization", "which organization?")
                            .hint("add organization: NAME under backend"),
                    );
                }
                let hint = "letters, digits, dashes and underscores, 90 at most";
                Backend::Cloud {
                    organization: self
                        .text(file.organization.as_ref(), "an organization's name", named, hint)
                        .unwrap_or_default(),
                    workspace: self
                        .text(
                            file.workspace.as_ref(),
                            "a workspace's name",
                            |s| named(s) && !s.contains(' '),
                            hint,
                        )
                        .unwrap_or(default_name),
                    project: self.text(file.project.as_ref(), "a project's name", named, hint),
                    hostname: self
                        .text(
                            file.hostname.as_ref(),
                            "a host name",
                            |s| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "-.:".contains(c)),
                            "write for example terraform.example.com",
                        )
                        .unwrap_or_else(|| "app.terraform.io".into()),
                    execution: self.or_default(file.execution.as_ref(), Execution::Remote),
                    aws_run_role: self
                        .scalar::<PrincipalArn>(file.aws_run_role.as_ref())
                        .map(|arn| arn.to_string()),
                }
            }
        }
    }
}
