//! Where Terraform keeps its state: which keys belong to which kind of backend.

use serde_saphyr::Spanned;

use super::file::{BackendFile, EncryptionFile};
use super::reader::Reader;
use super::settings::{BackendKind, Execution, KeyProvider};
use super::{Backend, StateEncryption};
use crate::model::{EnvironmentName, Invalid, PrincipalArn, Region};

impl Reader {
    pub(super) fn backend(
        &mut self,
        file: Option<&BackendFile>,
        name: Option<&EnvironmentName>,
        region: Option<&Region>,
    ) -> Backend {
        let Some(file) = file else {
            return Backend::Local { encryption: None };
        };
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
        let encryption = file
            .encryption
            .as_ref()
            .and_then(|encryption| self.encryption(encryption, region));
        if kind == BackendKind::Cloud
            && let Some(encryption) = &file.encryption
        {
            self.error(
                encryption.key_provider.referenced,
                Invalid::new(
                    "HCP Terraform takes no state that is encrypted before",
                    "not with this backend",
                )
                .hint("remove encryption, or change type"),
            );
        }
        let named = |s: &str| {
            !s.is_empty() && s.len() <= 90 && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_ ".contains(c))
        };
        let default_name = name.map(ToString::to_string).unwrap_or_default();
        match kind {
            BackendKind::Local => Backend::Local { encryption },
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
                let bucket_region: Option<Region> = self.scalar(file.region.as_ref());
                Backend::S3 {
                    bucket: bucket.unwrap_or_default(),
                    key: key.unwrap_or_else(|| format!("{default_name}/terraform.tfstate")),
                    region: bucket_region
                        .as_ref()
                        .or(region)
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    kms_key_id: self.kms_key(file.kms_key_id.as_ref()),
                    encryption,
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

    fn encryption(&mut self, file: &EncryptionFile, region: Option<&Region>) -> Option<StateEncryption> {
        let provider: KeyProvider = self.scalar(Some(&file.key_provider))?;
        let foreign: &[_] = match provider {
            KeyProvider::Pbkdf2 => &[("kms_key_id", &file.kms_key_id), ("region", &file.region)],
            KeyProvider::AwsKms => &[("passphrase_variable", &file.passphrase_variable)],
        };
        for (key, field) in foreign {
            if let Some(field) = field {
                self.error(
                    field.referenced,
                    Invalid::new(format!("{key} does not belong to this key provider"), "not used")
                        .hint("remove it, or change key_provider"),
                );
            }
        }
        match provider {
            KeyProvider::Pbkdf2 => {
                let passphrase_variable = self.text(
                    file.passphrase_variable.as_ref(),
                    "the name of a variable",
                    |s| {
                        s.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
                            && s.chars()
                                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
                    },
                    "write a name such as STATE_PASSPHRASE, not the passphrase: the file is committed",
                );
                Some(StateEncryption::Pbkdf2 {
                    passphrase_variable: passphrase_variable.unwrap_or_else(|| "MFSRE_STATE_PASSPHRASE".into()),
                })
            }
            KeyProvider::AwsKms => {
                if file.kms_key_id.is_none() && !self.incomplete {
                    self.error(
                        file.key_provider.referenced,
                        Invalid::new("the key provider aws_kms needs a key", "which key?")
                            .hint("add kms_key_id under encryption"),
                    );
                }
                let kms_key_id = self.kms_key(file.kms_key_id.as_ref());
                let own: Option<Region> = self.scalar(file.region.as_ref());
                let region = own.as_ref().or(region).map(ToString::to_string);
                Some(StateEncryption::AwsKms {
                    kms_key_id: kms_key_id.unwrap_or_default(),
                    region: region.unwrap_or_default(),
                })
            }
        }
    }

    fn kms_key(&mut self, field: Option<&Spanned<String>>) -> Option<String> {
        self.text(
            field,
            "a KMS key",
            |s| !s.is_empty() && !s.contains(char::is_whitespace),
            "write a key ARN or alias/NAME",
        )
    }
}
