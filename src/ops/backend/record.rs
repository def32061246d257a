//! Which backend an environment's state was in when it was last used on this machine.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::{Backend, Environment, Project};
use crate::error::{IoContext as _, Result};
use crate::render::tree::write_atomically;

fn path(project: &Project, environment: &Environment) -> PathBuf {
    project.private(environment.name.as_str()).join("backend.json")
}

/// Remembers that the environment's state is in `backend` from now on.
pub(super) fn remember(project: &Project, environment: &Environment, backend: &Backend) -> Result<()> {
    let path = path(project, environment);
    let text = serde_json::to_vec(backend)
        .map_err(std::io::Error::from)
        .or_cannot(|| format!("write {}", path.display()))?;
    write_atomically(&path, &text)
}

/// What `terraform init` writes.
fn initialised(project: &Project, environment: &Environment) -> PathBuf {
    let infra = project.infra(environment.name.as_str());
    infra.join(".terraform/terraform.tfstate")
}

/// Where the state was last: as mfsre remembers it; else as `terraform init` did, where somebody called it by hand; else in
/// the local file, where there is one.
pub(super) fn former(project: &Project, environment: &Environment) -> Option<Backend> {
    let read = |path: &Path| serde_json::from_slice::<Value>(&std::fs::read(path).ok()?).ok();
    if let Some(remembered) = read(&path(project, environment)) {
        return serde_json::from_value(remembered).ok();
    }
    let file = project.infra(environment.name.as_str()).join("terraform.tfstate");
    let initialised = read(&initialised(project, environment)).and_then(|found| of_init(&found["backend"]));
    let found = initialised.or_else(|| file.is_file().then_some(Backend::Local { encryption: None }))?;
    // How the state is encrypted is not told there.
    if found.is_same_place(&environment.backend) {
        return Some(environment.backend.clone());
    }
    Some(found)
}

/// The backend of a folder that was set up (the file's format has been the same since Terraform 0.9).
fn of_init(found: &Value) -> Option<Backend> {
    let config = &found["config"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match found["type"].as_str()? {
        "local" => Some(Backend::Local { encryption: None }),
        "s3" => Some(Backend::S3 {
            bucket: text(&config["bucket"])?,
            key: text(&config["key"])?,
            region: text(&config["region"])?,
            kms_key_id: text(&config["kms_key_id"]),
            encryption: None,
        }),
        "cloud" => Some(Backend::Cloud {
            organization: text(&config["organization"])?,
            workspace: text(&config["workspaces"]["name"])?,
            project: text(&config["workspaces"]["project"]),
            hostname: text(&config["hostname"]).unwrap_or_else(|| "app.terraform.io".to_owned()),
            execution: crate::config::Execution::Remote,
            aws_run_role: None,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_init_wrote_is_read() {
        let s3 = json!({ "type": "s3", "config": {
            "bucket": "b", "key": "k", "region": "eu-west-1", "kms_key_id": null, "use_lockfile": true,
        } });
        assert_eq!(
            of_init(&s3),
            Some(Backend::S3 {
                bucket: "b".into(),
                key: "k".into(),
                region: "eu-west-1".into(),
                kms_key_id: None,
                encryption: None,
            })
        );
        let cloud = json!({ "type": "cloud", "config": {
            "hostname": null, "organization": "acme", "token": null,
            "workspaces": { "name": "demo", "project": "p", "tags": null },
        } });
        assert!(matches!(of_init(&cloud), Some(Backend::Cloud { project: Some(p), .. }) if p == "p"));
        let local = json!({ "type": "local", "config": { "path": "terraform.tfstate" } });
        assert_eq!(of_init(&local), Some(Backend::Local { encryption: None }));
        assert_eq!(of_init(&json!({ "type": "gcs", "config": {} })), None);
    }
}
