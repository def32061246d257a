//! Where Terraform's state is kept: making the place, finding the state, moving it.

mod create;
mod find;
mod migrate;
mod place;
mod record;
#[cfg(test)]
mod tests;
mod workspace_place;

pub use create::{BucketSummary, create_backend};
pub(super) use find::FindState;
pub use migrate::{MigrationSummary, migrate_backend};
pub(super) use place::terraform_environment;

use std::path::PathBuf;

use super::Context;
use crate::config::Backend;
use crate::error::{Error, ErrorKind, IoContext as _, Result};
use crate::terraform::{Flavour, Program};

/// The state of a local backend.
fn local_file(context: &Context) -> PathBuf {
    let infra = context.project.infra(context.environment.name.as_str());
    // Terraform is called in other folders than this process.
    std::path::absolute(&infra).unwrap_or(infra).join("terraform.tfstate")
}

/// Where copies of states are put before anything is done to them, 0700.
fn backups(context: &Context) -> Result<PathBuf> {
    let dir = context.private().join("backups");
    let dir = std::path::absolute(&dir).unwrap_or(dir);
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(&dir).or_cannot(|| format!("create {}", dir.display()))?;
    Ok(dir)
}

/// This moment, as a part of a file name that sorts.
fn stamp() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ").to_string()
}

/// Terraform has no encryption of states.
pub(super) fn check_program(program: &Program, backend: &Backend) -> Result<()> {
    if backend.encryption().is_none() || program.flavour == Flavour::OpenTofu {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Configuration,
        "backend.encryption takes OpenTofu, and the program is Terraform",
    )
    .cause(format!(
        "{} is Terraform {}, which cannot encrypt states",
        program.path.display(),
        program.version
    ))
    .hint("set terraform.program to tofu, or remove backend.encryption; S3 encrypts with KMS by itself"))
}
