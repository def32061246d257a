use super::Cloud;
use crate::config::{Backend, Execution};
use crate::error::{Error, ErrorKind, IoContext as _, Result};
use crate::ops::Context;
use crate::terraform::Flavour;
use crate::tfe::{
    Credential, ExecutionMode, Holder, RemoteWorkspace, Tfe, VariableKind, WantedVariable, WorkspaceSpec,
};
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture};

/// What gives the AWS provider credentials in a run at the host: the variables of one line belong together
/// (<https://developer.hashicorp.com/terraform/cloud-docs/workspaces/dynamic-provider-credentials/aws-configuration>).
const CREDENTIALS: [[&str; 2]; 3] = [
    ["TFC_AWS_PROVIDER_AUTH", "TFC_AWS_RUN_ROLE_ARN"],
    ["TFC_AWS_PROVIDER_AUTH", "TFC_AWS_PLAN_ROLE_ARN"],
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
];

/// Makes sure that the environment's workspace is there, and as the settings say.
pub(in crate::ops) struct CloudWorkspace;

/// What the settings say of the workspace.
struct Wanted<'a> {
    hostname: &'a str,
    spec: WorkspaceSpec<'a>,
    variables: Vec<WantedVariable>,
}

impl Step<Context> for CloudWorkspace {
    fn id(&self) -> &'static str {
        "workspace"
    }

    fn describe(&self) -> String {
        "look for the workspace of HCP Terraform".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let directory = working_directory(context);
            let Some(wanted) = wanted(context, &context.environment.backend, &directory) else {
                return Ok(Probe::Stands("no backend of this kind".into()));
            };
            let (tfe, found) = find(&wanted).await?;
            let Some(found) = found else { return Ok(Probe::Needed) };
            if !fits(&found, &wanted) {
                return Ok(Probe::Needed);
            }
            let detail = take(context, tfe, found, progress).await?;
            Ok(Probe::Stands(detail))
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let directory = working_directory(context);
            let Some(wanted) = wanted(context, &context.environment.backend, &directory) else {
                return Ok(Ran::Unchanged("no backend of this kind".into()));
            };
            let (tfe, found) = find(&wanted).await?;
            let spec = &wanted.spec;
            let (found, did) = match found {
                None => (make(&tfe, spec).await?, "made"),
                Some(found) if fits(&found, &wanted) => (found, "found"),
                Some(found) => {
                    agree(context, &found, &wanted).await?;
                    tfe.change_workspace(&found, spec.execution_mode, spec.working_directory)
                        .await?;
                    (look_again(&tfe, spec).await?, "changed")
                }
            };
            let detail = take(context, tfe, found, progress).await?;
            Ok(Ran::Changed(format!("{detail} {did}")))
        })
    }
}

fn working_directory(context: &Context) -> String {
    format!("infra/{}", context.environment.name)
}

fn wanted<'a>(context: &'a Context, backend: &'a Backend, directory: &'a str) -> Option<Wanted<'a>> {
    let Backend::Cloud {
        organization,
        workspace,
        project,
        hostname,
        execution,
        aws_run_role,
    } = backend
    else {
        return None;
    };
    let variable = |key: &str, value: &str| WantedVariable {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let mut variables = vec![variable("AWS_REGION", context.environment.region.as_str())];
    if let Some(role) = aws_run_role {
        variables.push(variable("TFC_AWS_PROVIDER_AUTH", "true"));
        variables.push(variable("TFC_AWS_RUN_ROLE_ARN", role));
    }
    // A host runs Terraform, whatever runs here.
    let program = context.program().ok();
    let version = program
        .filter(|p| p.flavour == Flavour::Terraform)
        .map(|p| p.version.as_str());
    Some(Wanted {
        hostname,
        spec: WorkspaceSpec {
            organization,
            project: project.as_deref(),
            name: workspace,
            execution_mode: match execution {
                Execution::Remote => ExecutionMode::Remote,
                Execution::Local => ExecutionMode::Local,
            },
            terraform_version: version,
            working_directory: directory,
        },
        variables,
    })
}

/// The workspace of a backend, made with the settings of the environment where it is missing.
///
/// # Errors
/// The host cannot be reached, or the token has not the right to.
pub(in crate::ops) async fn open_workspace(context: &Context, backend: &Backend) -> Result<(Tfe, RemoteWorkspace)> {
    let directory = working_directory(context);
    let wanted = wanted(context, backend, &directory).ok_or_else(|| {
        Error::failed(format!("{backend} has no workspace")).hint("this is a fault of mfsre; please report it")
    })?;
    let (tfe, found) = find(&wanted).await?;
    let found = match found {
        Some(found) => found,
        None => make(&tfe, &wanted.spec).await?,
    };
    Ok((tfe, found))
}

/// Whether the workspace of a backend is not there.
///
/// # Errors
/// The host cannot be reached, or the organization is not there.
pub(in crate::ops) async fn workspace_is_missing(context: &Context, backend: &Backend) -> Result<bool> {
    let directory = working_directory(context);
    match wanted(context, backend, &directory) {
        Some(wanted) => Ok(find(&wanted).await?.1.is_none()),
        None => Ok(false),
    }
}

async fn make(tfe: &Tfe, spec: &WorkspaceSpec<'_>) -> Result<RemoteWorkspace> {
    tfe.create_workspace(spec).await?;
    look_again(tfe, spec).await
}

async fn look_again(tfe: &Tfe, spec: &WorkspaceSpec<'_>) -> Result<RemoteWorkspace> {
    let found = tfe.workspace(spec.organization, spec.name).await?;
    found.ok_or_else(|| {
        Error::failed(format!("the workspace {} is not there any more", spec.name)).hint("run the same command again")
    })
}

async fn find(wanted: &Wanted<'_>) -> Result<(Tfe, Option<RemoteWorkspace>)> {
    let credential = Credential::find(wanted.hostname).await?;
    let tfe = Tfe::connect(wanted.hostname, credential).await?;
    let found = tfe.workspace(wanted.spec.organization, wanted.spec.name).await?;
    Ok((tfe, found))
}

/// Whether runs take place where they should. Agents are the host's way of making them in a network of one's own.
fn fits(found: &RemoteWorkspace, wanted: &Wanted<'_>) -> bool {
    let remote = wanted.spec.execution_mode.makes_runs();
    found.execution_mode.makes_runs() == remote && (!remote || found.working_directory == wanted.spec.working_directory)
}

/// Asks before a workspace that is there is changed.
async fn agree(context: &Context, found: &RemoteWorkspace, wanted: &Wanted<'_>) -> Result<()> {
    let spec = &wanted.spec;
    let is = |mode: ExecutionMode, directory: &str| match mode {
        ExecutionMode::Local => "execution mode local".to_owned(),
        mode => format!("execution mode {}, working directory {directory:?}", mode.word()),
    };
    let present = is(found.execution_mode, &found.working_directory);
    let should = is(spec.execution_mode, spec.working_directory);
    let at = format!("{}/{} at {}", spec.organization, spec.name, wanted.hostname);
    let question = format!("change the workspace {at} from {present} to {should}?");
    match context.confirm.confirm(&question).await {
        Ok(true) => return Ok(()),
        Err(error) if error.kind == ErrorKind::Interrupted => return Err(error),
        // Somebody said no, or nobody can be asked.
        Ok(false) | Err(_) => {}
    }
    Err(Error::new(
        ErrorKind::Configuration,
        format!("the workspace {at} is not as the environment file says"),
    )
    .cause(format!("it has {present}; it should have {should}"))
    .hint(format!(
        "set backend.execution to {} in environments/{}.yaml, or change the workspace under Settings, General",
        if found.execution_mode.makes_runs() {
            "remote"
        } else {
            "local"
        },
        context.environment.name
    ))
    .hint("at a terminal this command asks and changes it"))
}

/// The error that somebody holds a workspace.
pub(in crate::ops) fn locked(tfe: &Tfe, workspace: &RemoteWorkspace, environment: &str, holder: &Holder) -> Error {
    let RemoteWorkspace { organization, name, .. } = workspace;
    let host = tfe.hostname();
    Error::new(ErrorKind::Locked, format!("the workspace {organization}/{name} at {host} is locked"))
        .cause(holder.to_string())
        .hint("wait until they are done, and run the same command again")
        .hint(format!(
            "if it was left by a Terraform that is gone: terraform -chdir=infra/{environment} force-unlock {organization}/{name}"
        ))
}

/// Takes the workspace for the steps that follow: nobody else holds it, and its runs have what they need.
async fn take(context: &mut Context, tfe: Tfe, found: RemoteWorkspace, progress: Progress<'_>) -> Result<String> {
    let directory = working_directory(context);
    let Some(wanted) = wanted(context, &context.environment.backend, &directory) else {
        return Ok(String::new());
    };
    let at = format!("{}/{} at {}", found.organization, found.name, wanted.hostname);
    // A run that is at work is waited for in the host's own queue.
    if let Some(holder) = &found.holder
        && !(found.execution_mode.makes_runs() && matches!(holder, Holder::Run { .. }))
    {
        return Err(locked(&tfe, &found, context.environment.name.as_str(), holder));
    }
    let mut detail = format!("{at}, {}", found.execution_mode.word());
    if found.execution_mode.makes_runs() {
        let changed = tfe.set_variables(&found, &wanted.variables).await?;
        if changed > 0 {
            detail.push_str(&format!(", {changed} variables set"));
        }
        check_variables(&tfe, &found, progress).await?;
        hide_private_files(context, progress)?;
        if let Some((repository, branch)) = &found.vcs {
            check_repository(context, repository, branch)?;
            detail.push_str(&format!(", follows {repository}"));
        }
    }
    if let Some(workspace) = &mut context.workspace {
        workspace.use_cloud(tfe.hostname(), &tfe.credential().token);
    }
    context.cloud = Some(Cloud { tfe, workspace: found });
    Ok(detail)
}

/// Terraform, run by hand in a workspace with a working directory, uploads the whole project but for what this file names.
fn hide_private_files(context: &Context, progress: Progress<'_>) -> Result<()> {
    let path = context.project.root().join(".terraformignore");
    if path.exists() {
        return Ok(());
    }
    let text = "# Generated by mfsre: what `terraform plan` by hand shall not upload to HCP Terraform.\n.git/\n.mfsre/\n.terraform/\n";
    std::fs::write(&path, text).or_cannot(|| format!("write {}", path.display()))?;
    progress.note(
        "wrote .terraformignore, which keeps private files from what `terraform plan` by hand uploads; commit it",
    );
    Ok(())
}

/// Tells what runs lack, and what would go over the environment file.
async fn check_variables(tfe: &Tfe, found: &RemoteWorkspace, progress: Progress<'_>) -> Result<()> {
    let names = tfe.variable_names(found).await?;
    let has = |key: &str| {
        names
            .iter()
            .any(|(kind, name)| *kind == VariableKind::Environment && name == key)
    };
    if !CREDENTIALS.iter().any(|together| together.iter().all(|key| has(key))) {
        progress.warn(format!(
            "runs in {}/{} have no AWS credentials that could be seen: set backend.aws_run_role, or give the workspace AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            found.organization, found.name
        ));
    }
    let over: Vec<&str> = names
        .iter()
        .filter(|(kind, _)| *kind == VariableKind::Terraform)
        .map(|(_, name)| name.as_str())
        .collect();
    if !over.is_empty() {
        progress.warn(format!(
            "the workspace {}/{} has Terraform variables of its own, which go over the environment file: {}",
            found.organization,
            found.name,
            over.join(", ")
        ));
    }
    Ok(())
}

/// A workspace that follows a repository gets its files from what `up` pushes.
fn check_repository(context: &Context, repository: &str, branch: &str) -> Result<()> {
    let own = context.environment.argocd_repository_url.path();
    let own = own.trim_matches('/').trim_end_matches(".git");
    let revision = &context.environment.git.revision;
    if repository.eq_ignore_ascii_case(own) && (branch.is_empty() || branch == revision) {
        return Ok(());
    }
    let branch = if branch.is_empty() {
        "its default branch"
    } else {
        branch
    };
    Err(Error::new(
        ErrorKind::Configuration,
        format!("the workspace follows {repository} ({branch}), and mfsre pushes to {own} ({revision})"),
    )
    .hint(
        "connect the workspace to the repository of argocd_repository_url and the branch of git.revision, or to none",
    ))
}
