//! Places in which a state can be.

use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::child::ChildEnvironment;
use crate::config::Backend;
use crate::error::{Error, ErrorKind, IoContext as _, Result};
use crate::ops::Context;
use crate::ops::cloud::ensure_workspace;
use crate::terraform::{ENCRYPTION_VARIABLE, Encryption, NoPassphrase, Program, State, Workspace, json_literal};
use crate::workflow::Cancellation;

/// A place that holds one state, or none.
pub(super) trait StatePlace: Send + Sync {
    /// The state.
    fn pull(&self) -> BoxFuture<'_, Result<Option<State>>>;

    /// Puts a state there, under the place's lock. One that is not newer than what is there, or of another lineage, is
    /// refused unless it is `force`d.
    fn push<'a>(&'a self, state: &'a State, force: bool) -> BoxFuture<'a, Result<()>>;
}

impl From<NoPassphrase> for Error {
    fn from(error: NoPassphrase) -> Self {
        let hint = format!(
            "set {} to the passphrase, for example from your password manager; it has 16 characters at least",
            error.0
        );
        Self::new(ErrorKind::Configuration, error.to_string()).hint(hint)
    }
}

/// The environment of the programs that work on the environment's own root module.
pub(in crate::ops) fn terraform_environment(context: &Context) -> Result<ChildEnvironment> {
    let mut environment = context.platform()?.terraform_environment();
    if let Some(setting) = context.environment.backend.encryption()
        && let Some(completion) = Encryption::of(setting)?.completion()
    {
        use secrecy::ExposeSecret as _;
        environment.set(ENCRYPTION_VARIABLE, completion.expose_secret());
    }
    Ok(environment)
}

/// A place that Terraform or OpenTofu reaches by one of its backends, through a root module that has nothing but the
/// backend. So the program's own rules hold for the state, its lock and its format, whatever kind of backend it is.
pub(super) struct BackendPlace {
    workspace: Workspace,
    cancellation: Cancellation,
}

/// What a [`BackendPlace`] is made of.
pub(super) struct Site<'a> {
    /// Name of the folder of its root module, among the private files.
    pub(super) name: &'a str,
    /// The backend.
    pub(super) backend: &'a Backend,
    /// The file of a local backend.
    pub(super) file: PathBuf,
    /// Where a state is read that may still be encrypted as here, or not, with the other backend's settings.
    pub(super) former: Option<&'a Backend>,
}

impl BackendPlace {
    /// The place `site`, set up.
    ///
    /// # Errors
    /// A passphrase is missing, or the backend cannot be used.
    pub(super) async fn open(context: &Context, program: &Program, site: &Site<'_>) -> Result<Self> {
        use secrecy::ExposeSecret as _;
        let mut environment = context.platform()?.terraform_environment();
        let encryption = |backend: &Backend| backend.encryption().map(Encryption::of).transpose();
        let (wanted, former) = (encryption(site.backend)?, site.former.map(encryption).transpose()?);
        if wanted.is_some() || former.as_ref().is_some_and(Option::is_some) {
            let settings = Encryption::complete(wanted.as_ref(), former.as_ref().map(Option::as_ref));
            environment.set(ENCRYPTION_VARIABLE, settings.expose_secret());
        }
        let private = context.private().join("places").join(site.name);
        let dir = private.join("root");
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
        builder.create(&dir).or_cannot(|| format!("create {}", dir.display()))?;
        let root = serde_json::to_vec_pretty(&root_module(site.backend, &site.file))
            .map_err(std::io::Error::from)
            .or_cannot(|| "write a backend as JSON".into())?;
        crate::render::tree::write_atomically(&dir.join("backend.tf.json"), &root)?;
        let mut workspace = Workspace::new(program.clone(), dir, private, environment, None)?;
        if let Backend::Cloud { hostname, .. } = site.backend {
            ensure_workspace(context, site.backend).await?;
            workspace.use_cloud(hostname, None);
        }
        workspace.init(&context.cancellation).await?;
        Ok(Self {
            workspace,
            cancellation: context.cancellation.clone(),
        })
    }
}

impl StatePlace for BackendPlace {
    fn pull(&self) -> BoxFuture<'_, Result<Option<State>>> {
        Box::pin(async { Ok(self.workspace.pull(&self.cancellation).await?) })
    }

    fn push<'a>(&'a self, state: &'a State, force: bool) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Ok(self.workspace.push(state, force, &self.cancellation).await?) })
    }
}

/// Whether a place cannot be looked into because it is not there at all.
pub(super) fn is_missing(error: &Error) -> bool {
    error.causes.iter().any(|cause| cause.contains("NoSuchBucket"))
}

/// A root module with a backend alone.
fn root_module(backend: &Backend, file: &Path) -> Value {
    let terraform = match backend {
        Backend::Local { .. } => json!({ "backend": { "local": literal(json!({ "path": file })) } }),
        Backend::S3 {
            bucket,
            key,
            region,
            kms_key_id,
            ..
        } => {
            let mut s3 = json!({ "bucket": bucket, "key": key, "region": region, "use_lockfile": true });
            if let Some(kms_key_id) = kms_key_id {
                s3["encrypt"] = true.into();
                s3["kms_key_id"] = kms_key_id.as_str().into();
            }
            json!({ "backend": { "s3": literal(s3) } })
        }
        Backend::Cloud {
            organization,
            workspace,
            project,
            hostname,
            ..
        } => {
            let mut workspaces = json!({ "name": workspace });
            if let Some(project) = project {
                workspaces["project"] = project.as_str().into();
            }
            let cloud = json!({ "hostname": hostname, "organization": organization, "workspaces": workspaces });
            json!({ "cloud": literal(cloud) })
        }
    };
    json!({ "terraform": terraform })
}

/// With every string standing for itself.
fn literal(value: Value) -> Value {
    match value {
        Value::String(text) => json_literal(&text).into(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, literal(value))).collect(),
        other => other,
    }
}
