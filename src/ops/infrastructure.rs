use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cloud::{self, Cloud};
use super::down::alongside;
use super::{Context, adoption, programs};
use crate::config::{Blueprint, Environment};
use crate::error::{Error, ErrorKind, IoContext as _, Result, remove_file};
use crate::model::contract::OUTPUTS;
use crate::model::{ClusterVersion, Invalid, Support, Transport, VersionCalendar, human_duration};
use crate::terraform::{Destroyed, Flavour, Plan, ProviderMirror, TerraformError, TerraformEvent, Workspace};
use crate::text::counted;
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture};

/// What the slowest resources usually take, in minutes, so that a person who waits knows what to expect
/// (<https://docs.aws.amazon.com/eks/latest/userguide/create-cluster.html> says "several minutes" for a cluster).
const USUAL_MINUTES: [(&str, u64); 3] = [
    ("aws_eks_cluster.", 10),
    ("aws_eks_node_group.", 3),
    ("aws_nat_gateway.", 2),
];

/// What the access is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Only looking: whoever may read AWS may plan.
    Plan,
    /// Creating, and working in the cluster.
    Up,
    /// Removing.
    Down,
}

/// Checks the tools and the rights before anything is changed.
pub(super) struct CheckAccess {
    pub(super) purpose: Purpose,
}

impl Step<Context> for CheckAccess {
    fn id(&self) -> &'static str {
        "access"
    }

    fn describe(&self) -> String {
        "check tools and access".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            progress.say("programs");
            let program = programs::find(&context.environment).await?;
            super::backend::check_program(&program, &context.environment.backend)?;
            if program.flavour == Flavour::OpenTofu && !context.environment.terraform.is_opentofu() {
                progress.warn(
                    "this is OpenTofu, and the lock file of the providers is made for Terraform: set terraform.program to tofu",
                );
            }
            let named = context.environment.mirrors.terraform_providers.as_deref();
            // One that happens to be on the machine is known to hold what the built-in blueprint needs, and no more.
            if named.is_some() || context.environment.blueprint == Blueprint::BuiltIn {
                context.mirror = ProviderMirror::find(named, program.flavour);
            }
            progress.say("AWS");
            let aws = context.connect().await?;
            let identity = aws.identity().await?;
            if self.purpose == Purpose::Up
                || (self.purpose == Purpose::Plan && context.environment.access.administrators.is_empty())
            {
                administrator(&context.environment, &identity.arn)?;
            }
            if self.purpose == Purpose::Up {
                let calendar = aws.version_calendar(context.environment.checked_on).await;
                if let Some(warning) = supported_version(&context.environment, calendar.map_err(|e| e.to_string()))? {
                    progress.warn(warning);
                }
                progress.say(context.environment.argocd_repository_url.as_str());
                if context.environment.argocd_repository_url.transport() == Transport::Ssh || context.options.push {
                    context.repository()?.reach().await?;
                }
                deploy_keys(context, progress).await?;
                reachable_later(context, progress).await?;
            }
            let mut detail = format!(
                "{} {}, account {}",
                program.flavour.name(),
                program.version,
                identity.account
            );
            if let Some(mirror) = &context.mirror {
                detail.push_str(&format!(", providers from {}", mirror.path.display()));
            }
            let infra = context.project.infra(context.environment.name.as_str());
            let environment = super::backend::terraform_environment(context)?;
            context.program = Some(program.clone());
            context.workspace = Some(Workspace::new(
                program,
                context.project.root().to_owned(),
                infra,
                context.private(),
                environment,
                context.mirror.as_ref(),
            )?);
            Ok(Probe::Stands(detail))
        })
    }
}

/// Who runs `up` must be able to work in the cluster afterwards; who may is a setting, never whoever happens to call.
fn administrator(environment: &Environment, caller: &str) -> Result<()> {
    let administrators = &environment.access.administrators;
    if administrators.iter().any(|a| a.matches_caller(caller)) {
        return Ok(());
    }
    let role = crate::aws::role_of(caller);
    let mut lines = vec!["access:".to_owned(), "  administrators:".to_owned()];
    lines.extend(administrators.iter().map(|a| format!("    - {a}")));
    lines.push(format!("    - {role}"));
    Err(Error::new(
        ErrorKind::Configuration,
        format!(
            "you ({caller}) are not among the administrators of {}",
            environment.name
        ),
    )
    .cause("Argo CD is installed with your identity, so it needs access to the cluster")
    .hint(format!(
        "write into environments/{}.yaml:\n{}",
        environment.name,
        lines.join("\n")
    )))
}

/// Makes sure that the git host lets the deploy keys be seen, before anything is built that would wait for one.
async fn deploy_keys(context: &Context, progress: Progress<'_>) -> Result<()> {
    if context.environment.argocd_repository_url.transport() != Transport::Ssh {
        return Ok(());
    }
    let host = context.platform()?.git_host(&context.environment).await?;
    if !host.is_manual() {
        progress.say(host.describe());
        host.list().await?;
    }
    Ok(())
}

/// Warns before a cluster is built that this machine may not be able to talk to.
async fn reachable_later(context: &Context, progress: Progress<'_>) -> Result<()> {
    let environment = &context.environment;
    if environment.is_sandbox() || !environment.cluster.public_access_cidrs.is_empty() {
        return Ok(());
    }
    // What cannot be asked here is told by the step that needs the answer.
    if let Ok(None) = context.aws()?.cluster(&environment.names.cluster).await {
        progress.warn(format!(
            "the Kubernetes API of {name} will be reachable from within its VPC {vpc} only; after the cluster is built, mfsre installs Argo CD through it\n\
             go on where this machine will be connected to that network, by a VPN, a peering or by being in it; else name your own network first, in environments/{name}.yaml:\n\
             cluster:\n  public_access_cidrs: [YOUR-ADDRESS/32]",
            name = environment.name,
            vpc = environment.vpc_cidr,
        ));
    }
    Ok(())
}

/// Holds the cluster version against what EKS answers to the question which versions it supports. Returns a warning where it
/// gives no answer and the built-in calendar has to do.
///
/// # Errors
/// EKS does not offer the version, or nobody knows whether it does.
fn supported_version(
    environment: &Environment,
    answer: Result<Option<VersionCalendar>, String>,
) -> Result<Option<String>> {
    let today = environment.checked_on;
    let version = environment.cluster_version;
    let calendar = match answer {
        Ok(Some(calendar)) => calendar,
        // The built-in calendar has refused what is past its end already.
        answer => {
            let problem = answer.err().map_or_else(
                || "EKS reports no versions".to_owned(),
                |error| format!("EKS could not be asked which versions it supports ({error})"),
            );
            if VersionCalendar::built_in().support(version, today) == Support::Unknown {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!("it is not known whether EKS offers the cluster version {version}"),
                )
                .cause(problem)
                .hint(format!(
                    "allow eks:DescribeClusterVersions, or set cluster_version to \"{}\" in environments/{}.yaml",
                    ClusterVersion::DEFAULT,
                    environment.name
                )));
            }
            return Ok(Some(format!("{problem}; the built-in calendar is used")));
        }
    };
    let refuse = |invalid: Invalid| {
        let error = Error::new(ErrorKind::Configuration, invalid.message).cause(format!("EKS says: {}", invalid.label));
        match invalid.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    };
    calendar.check(version, today).map_err(refuse)?;
    if calendar.support(version, today) == Support::Unknown {
        let supported: Vec<String> = calendar.supported(today).iter().map(ToString::to_string).collect();
        return Err(Error::new(
            ErrorKind::Configuration,
            format!(
                "EKS does not offer the cluster version {version} in {}",
                environment.region
            ),
        )
        .hint(format!("choose one of {}", supported.join(", "))));
    }
    Ok(None)
}

/// Plans, and keeps the plan.
pub(super) struct PlanStep {
    pub(super) purpose: Purpose,
    /// Whether the plan is only looked at, and never applied.
    pub(super) speculative: bool,
}

impl PlanStep {
    fn destroys(&self) -> bool {
        self.purpose == Purpose::Down
    }

    async fn plan(&self, context: &Context, progress: Progress<'_>) -> Result<Plan> {
        let destroy = self.destroys();
        if at_the_host(context) {
            return cloud::plan(context, destroy, self.speculative, progress).await;
        }
        progress.say("refreshing");
        let name = if destroy { "destroy" } else { "apply" };
        let cancellation = &context.cancellation;
        let plan = context
            .workspace()?
            .plan(name, destroy, cancellation, |event| tell_planning(event, progress))
            .await?;
        Ok(plan)
    }
}

impl Step<Context> for PlanStep {
    fn id(&self) -> &'static str {
        "plan"
    }

    fn describe(&self) -> String {
        if self.destroys() {
            "plan the removal".into()
        } else {
            "plan".into()
        }
    }

    fn droppable(&self) -> bool {
        false
    }

    fn probe<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let cancellation = context.cancellation.clone();
            if let Some(process) = context.workspace()?.at_work() {
                progress.note(format!(
                    "Terraform of a run that was cut off is still at work (process {process}); waiting until it is done"
                ));
            }
            // Terraform reads a state only in a folder that is set up.
            progress.say(format!("{} init", context.program()?.flavour.name()));
            context.workspace()?.init(&cancellation).await?;
            if self.destroys() && context.workspace()?.state_list(&cancellation).await?.is_empty() {
                remove_file(&interruption_mark(context))?;
                return Ok(Probe::Stands("the state is empty".into()));
            }
            if self.destroys() {
                context.state_ids = context.workspace()?.state_ids(&cancellation).await?;
            }
            if let Some(file) = &context.options.plan {
                let plan = take_plan(context, file).await?;
                let detail = format!("{} in {}", told(&plan), file.display());
                context.plan = Some(plan);
                return Ok(Probe::Stands(detail));
            }
            let mark = interruption_mark(context);
            // Whoever only looks leaves the state as it is.
            if self.purpose == Purpose::Up && mark.exists() {
                progress.say("looking for what was interrupted");
                for address in context.workspace()?.untaint(&cancellation).await? {
                    progress.note(format!(
                        "{address} was interrupted while it was created; it is completed, not replaced"
                    ));
                }
                adoption::wait_for_cluster(context, progress).await?;
                remove_file(&mark)?;
            }
            let plan = self.plan(context, progress).await?;
            let detail = told(&plan);
            context.plan = Some(plan);
            Ok(Probe::Stands(detail))
        })
    }
}

/// What a plan would do, in a few words.
fn told(plan: &Plan) -> String {
    if plan.has_changes {
        plan.counts.to_string()
    } else {
        "no changes".into()
    }
}

/// Takes the plan that the user names. A saved plan knows its own backend, so one of another environment would be applied to
/// that one; the names that every blueprint promises tell whose it is.
async fn take_plan(context: &Context, file: &Path) -> Result<Plan> {
    let environment = &context.environment;
    let hint = format!(
        "make a plan with `mfsre plan {} --out FILE`, and name that file",
        environment.name
    );
    let taken = context
        .workspace()?
        .take_plan("apply", file, &context.cancellation)
        .await;
    let (plan, shown) = match taken.map_err(Error::from) {
        Err(error) if error.kind != ErrorKind::Interrupted => return Err(error.hint(hint)),
        taken => taken?,
    };
    let outputs = &shown["planned_values"]["outputs"];
    let promises: Vec<bool> = OUTPUTS
        .iter()
        .filter_map(|output| Some(outputs[output.name]["value"].as_str()? == output.promised?(&environment.names)))
        .collect();
    if promises.contains(&true) && !promises.contains(&false) {
        return Ok(plan);
    }
    remove_file(&plan.path)?;
    Err(Error::new(
        ErrorKind::Configuration,
        format!("the plan {} is not one of {}", file.display(), environment.name),
    )
    .cause("the names in its outputs are not those of the environment")
    .hint(hint))
}

/// Stands while the last apply was interrupted and what it cut off has neither been looked for nor removed.
fn interruption_mark(context: &Context) -> std::path::PathBuf {
    context.private().join("apply.interrupted")
}

/// Whether plans and applies run at HCP Terraform.
fn at_the_host(context: &Context) -> bool {
    context.cloud.as_ref().is_some_and(Cloud::makes_runs)
}

/// Tells what a plan is at.
pub(super) fn tell_planning(event: &TerraformEvent, progress: Progress<'_>) {
    match event {
        TerraformEvent::RefreshStart { hook } => progress.say(format!("reading {}", short(&hook.resource.addr))),
        TerraformEvent::PlannedChange { change } => {
            progress.say(format!("{} {}", change.action, short(&change.resource.addr)))
        }
        TerraformEvent::Diagnostic { diagnostic } if diagnostic.severity == "warning" => {
            progress.warn(diagnostic.to_string())
        }
        _ => {}
    }
}

/// Applies the plan that was kept, after asking.
pub(super) struct ApplyStep {
    pub(super) destroy: bool,
    /// Whether the user has agreed already.
    pub(super) agreed: bool,
}

impl Step<Context> for ApplyStep {
    fn id(&self) -> &'static str {
        if self.destroy { "destroy" } else { "apply" }
    }

    fn describe(&self) -> String {
        if self.destroy {
            "remove the AWS resources".into()
        } else {
            "create the AWS resources".into()
        }
    }

    fn droppable(&self) -> bool {
        false
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            Ok(match &context.plan {
                Some(plan) if plan.has_changes => Probe::Needed,
                Some(plan) => {
                    remove_file(&plan.path)?;
                    Probe::Stands("nothing to do".into())
                }
                None => Probe::Stands("nothing to do".into()),
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let Some(plan) = context.plan.take() else {
                return Ok(Ran::Unchanged("nothing to do".into()));
            };
            if !self.destroy && !plan.destroyed.is_empty() {
                progress.warn(losses(&plan.destroyed));
            }
            let remote = at_the_host(context);
            let agreed = self.agreed || (remote && cloud::has_consent(context, &plan).await?);
            let question = format!("apply this plan ({})?", plan.counts);
            if !agreed && !context.confirm.confirm(&question).await? {
                if remote {
                    cloud::decline(context, &plan).await?;
                }
                let hint = match &context.pushed {
                    Some(pushed) => format!("{pushed}; nothing was changed on AWS; `mfsre plan` shows the plan again"),
                    None => "nothing was changed on AWS; `mfsre plan` shows the plan again".to_owned(),
                };
                return Err(Error::new(ErrorKind::Interrupted, "the plan was not applied").hint(hint));
            }
            if remote {
                let (created, total) = (plan.counts.add, plan.counts.total());
                let mut bar = Bar::new(total);
                let swept = Mutex::new(BTreeSet::new());
                let mut on_event = |event: &TerraformEvent| bar.tell(event, progress);
                let applying = cloud::apply(context, &plan, progress, &mut on_event);
                if self.destroy {
                    tokio::select! {
                        applied = applying => applied?,
                        never = alongside(context, &swept, progress) => match never {},
                    }
                } else {
                    applying.await?;
                }
                let swept = swept.into_inner().unwrap_or_else(PoisonError::into_inner);
                context.remains.removed.extend(swept);
                context.created = created;
                return Ok(Ran::Changed(counted(total, "resource")));
            }
            let mut plan = if self.destroy {
                plan
            } else {
                adoption::clear_the_way(context, plan, progress).await?
            };
            let (created, total) = (plan.counts.add, plan.counts.total());
            let mut bar = Bar::new(total);
            let cancellation = context.cancellation.clone();
            let swept = Mutex::new(BTreeSet::new());
            // Each time something in the way is taken in, the apply comes further.
            let mut rounds = 0..total;
            let applied = loop {
                let applying = context
                    .workspace()?
                    .apply(&plan, &cancellation, |event| bar.tell(event, progress));
                let applied = if self.destroy {
                    tokio::select! {
                        applied = applying => applied,
                        never = alongside(context, &swept, progress) => match never {},
                    }
                } else {
                    applying.await
                };
                let next = match &applied {
                    Err(TerraformError::Failed { diagnostics, .. }) if !self.destroy && rounds.next().is_some() => {
                        adoption::adopt(context, &plan, diagnostics, progress).await?
                    }
                    _ => None,
                };
                match next {
                    Some(next) => plan = next,
                    None => break applied,
                }
            };
            let swept = swept.into_inner().unwrap_or_else(PoisonError::into_inner);
            context.remains.removed.extend(swept);
            let mark = interruption_mark(context);
            if !self.destroy && matches!(applied, Err(TerraformError::Interrupted { .. })) {
                std::fs::write(&mark, "").or_cannot(|| format!("write {}", mark.display()))?;
            }
            applied?;
            if self.destroy {
                remove_file(&mark)?;
            }
            context.created = created;
            Ok(Ran::Changed(counted(total, "resource")))
        })
    }
}

/// Says what a plan would destroy, each by its address: counts alone do not tell a tag from a cluster.
fn losses(destroyed: &[Destroyed]) -> String {
    let count = match destroyed.len() {
        1 => "1 resource, with what is in it".to_owned(),
        n => format!("{n} resources, with what is in them"),
    };
    let mut text = format!("this plan destroys {count}:");
    for Destroyed { address, replaced } in destroyed {
        let verb = if *replaced { "replace" } else { "destroy" };
        text.push_str(&format!("\n{verb}  {address}"));
    }
    text
}

/// An address without the module that holds everything in the built-in blueprint.
fn short(address: &str) -> &str {
    address.strip_prefix("module.platform.").unwrap_or(address)
}

/// Follows an apply: how many resources are done, which one is at work longest.
struct Bar {
    total: u64,
    done: u64,
    at_work: BTreeMap<String, Instant>,
}

impl Bar {
    fn new(total: u64) -> Self {
        Self {
            total,
            done: 0,
            at_work: BTreeMap::new(),
        }
    }

    fn tell(&mut self, event: &TerraformEvent, progress: Progress<'_>) {
        match event {
            TerraformEvent::ApplyStart { hook } => {
                self.at_work.insert(hook.resource.addr.clone(), Instant::now());
            }
            TerraformEvent::ApplyComplete { hook } => {
                self.at_work.remove(&hook.resource.addr);
                // What is only read is no change, and was not counted as one.
                self.done += u64::from(hook.action != "read");
            }
            TerraformEvent::ApplyErrored { hook } => {
                self.at_work.remove(&hook.resource.addr);
            }
            TerraformEvent::ApplyProgress { .. } => {}
            TerraformEvent::Diagnostic { diagnostic } if diagnostic.severity == "warning" => {
                progress.warn(diagnostic.to_string())
            }
            _ => return,
        }
        let oldest = self.at_work.iter().min_by_key(|(_, since)| **since);
        let message = oldest.map_or_else(String::new, |(address, since)| {
            let elapsed = since.elapsed();
            let usual = USUAL_MINUTES
                .iter()
                .find(|(kind, _)| address.contains(kind))
                .map(|(_, minutes)| format!(" of ~{minutes}m"));
            let clock = if elapsed < Duration::from_secs(2) {
                String::new()
            } else {
                format!("{}{}  ", human_duration(elapsed), usual.unwrap_or_default())
            };
            // The time first: the end is what a narrow terminal does not show.
            format!("{clock}{}", short(address))
        });
        progress.count(self.done, self.total, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, parse};

    fn environment(version: &str) -> Environment {
        let source = Source {
            path: "environments/demo.yaml".into(),
            text: format!("argocd_repository_url: git@github.com:acme/platform.git\ncluster_version: \"{version}\"\n"),
        };
        parse(source, "demo", jiff::civil::date(2026, 5, 1))
            .unwrap()
            .environment
    }

    #[test]
    fn a_version_that_nobody_knows_is_refused_where_eks_gives_no_answer() {
        for answer in [Ok(None), Err("eks:DescribeClusterVersions failed".to_owned())] {
            let warning = supported_version(&environment("1.35"), answer.clone()).unwrap();
            assert!(warning.unwrap().contains("the built-in calendar is used"));
            let error = supported_version(&environment("1.99"), answer).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Configuration);
            assert!(error.hints[0].contains("cluster_version"), "{}", error.render(false));
        }
        let offered = VersionCalendar::built_in();
        assert!(
            supported_version(&environment("1.35"), Ok(Some(offered.clone())))
                .unwrap()
                .is_none()
        );
        let error = supported_version(&environment("1.99"), Ok(Some(offered))).unwrap_err();
        assert!(error.message.contains("EKS does not offer"), "{}", error.render(false));
    }
}
