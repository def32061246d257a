use std::path::Path;

use super::Context;
use crate::error::Error;
use crate::git::{GitError, GitRepository, Publication};
use crate::text::counted;
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture};

/// Lines of a diff that an error shows; the rest is counted.
const SHOWN_LINES: usize = 60;

/// Makes sure that the branch Argo CD follows holds what was rendered.
pub(super) struct Publish;

impl Step<Context> for Publish {
    fn id(&self) -> &'static str {
        "publish"
    }

    fn describe(&self) -> String {
        "compare Git with what was rendered".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            Ok(match compare(context).await? {
                Publication::Published(commit) => {
                    let detail = format!("{} is at {}", context.environment.git.revision, short(&commit));
                    context.revision = Some(commit);
                    Probe::Stands(detail)
                }
                differs @ Publication::Differs { .. } => {
                    context.publication = Some(differs);
                    Probe::Needed
                }
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let Some(Publication::Differs { files, diff }) = context.publication.take() else {
                return Ok(Ran::Unchanged("nothing to push".into()));
            };
            let name = context.environment.name.to_string();
            let branch = context.environment.git.revision.clone();
            let all = folders(context).join(" ");
            if !context.options.push && !context.environment.is_sandbox() {
                let lines: Vec<&str> = diff.lines().collect();
                let mut shown = lines[..lines.len().min(SHOWN_LINES)].join("\n");
                if lines.len() > SHOWN_LINES {
                    shown.push_str(&format!(
                        "\n... {} more lines; `mfsre render {name}` writes the files",
                        lines.len() - SHOWN_LINES
                    ));
                }
                return Err(Error::failed(format!("the branch {branch} of {} does not hold what was rendered", context.environment.argocd_repository_url))
                    .cause(match files.len() {
 1 => "1 file differs".to_owned(),
 n => format!("{n} files differ"),
 })
                    .cause(shown)
                    .hint(format!("commit and push {all} yourself:\ngit add {all} && git commit -m 'Render {name}' && git push origin HEAD:{branch}"))
                    .hint(format!("or let mfsre do it with your own git credentials: mfsre up {name} --push")));
            }
            let repository = repository(context)?;
            let message = format!("Render {name}\n\nWritten by mfsre from environments/{name}.yaml.");
            let commit = match repository.publish(&message).await {
                Err(refused) if refused.is_protected() => return Err(propose(context, &repository, &refused).await?),
                // Another machine may have pushed the same in this moment.
                Err(error) if error.is_outrun() => match compare(context).await? {
                    Publication::Published(commit) => {
                        let detail = format!("{branch} is at {}", short(&commit));
                        context.revision = Some(commit);
                        return Ok(Ran::Unchanged(detail));
                    }
                    Publication::Differs { .. } => repository.publish(&message).await?,
                },
                pushed => pushed?,
            };
            let detail = format!(
                "{} pushed to {branch}, {}",
                counted(files.len(), "file"),
                short(&commit)
            );
            context.revision = Some(commit);
            context.pushed = Some(detail.clone());
            Ok(Ran::Changed(detail))
        })
    }
}

/// Pushes to a branch of mfsre's own, from which a person opens a pull request; the error says how to go on.
async fn propose(context: &Context, repository: &GitRepository, refused: &GitError) -> Result<Error, Error> {
    let environment = &context.environment;
    let name = &environment.name;
    let target = &environment.git.revision;
    let branch = format!("mfsre/{name}");
    repository.propose(&branch).await?;
    let open = match super::platform::pull_request(environment, &branch) {
        Some(link) => format!("open a pull request: {link}"),
        None => format!("open a pull request from {branch} to {target}"),
    };
    let message = format!(
        "{target} of {} is protected; what was rendered is in its branch {branch}",
        environment.argocd_repository_url
    );
    Ok(Error::failed(message)
        .cause(refused.to_string())
        .hint(open)
        .hint(format!(
            "once it is merged, go on with `mfsre up {name}`; nothing was changed on AWS"
        )))
}

async fn compare(context: &Context) -> Result<Publication, Error> {
    let name = context.environment.name.to_string();
    let tree = context.tree()?;
    let folders = folders(context);
    let files = tree
        .files()
        .filter(|(path, _)| folders.iter().any(|folder| path.starts_with(folder)));
    // Other environments share the repository.
    let foreign = |path: &Path| {
        let own_values = Path::new("cd/environments").join(&name);
        let own_root = format!("cd/root/{name}.yaml");
        (path.starts_with("cd/environments") && !path.starts_with(&own_values))
            || (path.starts_with("cd/root") && path != Path::new(&own_root))
            || path.starts_with("modules")
    };
    Ok(repository(context)?.compare(files, foreign).await?)
}

/// The folders that the branch has to hold: what Argo CD reads and, where a workspace of HCP Terraform follows the
/// repository, what that reads.
fn folders(context: &Context) -> Vec<String> {
    let mut folders = vec!["cd".to_owned()];
    if context.cloud.as_ref().is_some_and(|c| c.follows().is_some()) {
        folders.push(format!("infra/{}", context.environment.name));
        folders.push("modules".to_owned());
    }
    folders
}

fn repository(context: &Context) -> Result<GitRepository, Error> {
    Ok(context.repository()?.and(folders(context).into_iter().skip(1)))
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}
