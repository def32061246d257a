use std::path::PathBuf;

use super::Context;
use crate::config::{Diagnostic, Diagnostics, Environment, ManifestSource, Project};
use crate::error::{Error, ErrorKind, IoContext as _, Result};
use crate::render::{Tree, check, render};
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture};

/// Renders an environment with the project's own templates, and with the image versions that stand in its charts.
///
/// # Errors
/// A template is wrong, Argo CD's manifest is needed and not given, or a chart's image version cannot be read.
pub fn render_tree(project: &Project, environment: &Environment, manifest: Option<&[u8]>) -> Result<Tree> {
    let mut tree = render(environment, overrides(project).as_deref(), manifest)?;
    tree.keep_pins(project.root())?;
    Ok(tree)
}

/// Every mistake in the environment's root module, by file.
///
/// # Errors
/// A template is wrong.
pub fn check_blueprint(project: &Project, environment: &Environment) -> Result<Vec<Diagnostics>> {
    // Argo CD's manifest is no part of the root module.
    let tree = render(environment, overrides(project).as_deref(), Some(&[]))?;
    Ok(check(&tree, environment))
}

/// The project's own templates.
pub(super) fn overrides(project: &Project) -> Option<PathBuf> {
    Some(project.root().join("templates")).filter(|dir| dir.is_dir())
}

/// Argo CD's install manifest, where the environment carries it in Git.
///
/// # Errors
/// It is neither in the cache nor can it be fetched.
pub async fn manifest(project: &Project, environment: &Environment) -> Result<Option<Vec<u8>>> {
    if environment.argocd.manifest == ManifestSource::Remote {
        return Ok(None);
    }
    Ok(Some(fetch(project, environment).await?.0))
}

async fn fetch(project: &Project, environment: &Environment) -> Result<(Vec<u8>, String)> {
    let spec = super::sandbox::spec(project, environment, mfsre_sandbox::StartedBy::Up);
    let resolved = mfsre_sandbox::install_manifest(&spec, &mfsre_sandbox::Silent).await?;
    let contents = std::fs::read(&resolved.path).or_cannot(|| format!("read {}", resolved.path.display()))?;
    Ok((contents, format!("{}, {}", resolved.version, resolved.source)))
}

/// Fetches Argo CD's install manifest, once.
pub(super) struct FetchManifest;

impl Step<Context> for FetchManifest {
    fn id(&self) -> &'static str {
        "manifest"
    }

    fn describe(&self) -> String {
        "get Argo CD's install manifest".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            progress.say("argocd-install.yaml");
            let (contents, detail) = fetch(&context.project, &context.environment).await?;
            context.manifest = Some(contents);
            Ok(Probe::Stands(detail))
        })
    }
}

/// Renders the environment and writes what differs.
pub(super) struct WriteTree;

impl Step<Context> for WriteTree {
    fn id(&self) -> &'static str {
        "render"
    }

    fn describe(&self) -> String {
        "render Terraform and GitOps files".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let tree = render_tree(&context.project, &context.environment, context.manifest.as_deref())?;
            let changed = tree.changes(context.project.root())?.len();
            let files = tree.files().count();
            context.tree = Some(tree);
            Ok(if changed == 0 {
                Probe::Stands(format!("{files} files"))
            } else {
                Probe::Needed
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let summary = context.tree()?.write(context.project.root())?;
            Ok(Ran::Changed(format!(
                "{} files, {} changed",
                summary.files, summary.changed
            )))
        })
    }
}

/// Checks that the rendered root module is a blueprint, before anything is planned.
pub(super) struct CheckBlueprint;

impl Step<Context> for CheckBlueprint {
    fn id(&self) -> &'static str {
        "blueprint"
    }

    fn describe(&self) -> String {
        "check the blueprint".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            usable(context.tree()?, &context.environment)?;
            Ok(Probe::Stands(context.environment.blueprint.to_string()))
        })
    }
}

fn usable(tree: &Tree, environment: &Environment) -> Result<()> {
    let mut found = check(tree, environment);
    let message = format!("the blueprint {} cannot be used", environment.blueprint);
    let mut error = Error::new(ErrorKind::Configuration, message);
    if found.len() <= 1 {
        let Some(diagnostics) = found.pop() else { return Ok(()) };
        error.diagnostics = Some(Box::new(diagnostics));
        return Err(error);
    }
    for diagnostics in &found {
        let items = diagnostics.items.iter();
        let cause = |item: &Diagnostic| format!("{}: {}", diagnostics.source.path, item.message);
        error.causes.extend(items.map(cause));
    }
    Err(error.hint(format!("`mfsre validate {}` shows each place", environment.name)))
}
