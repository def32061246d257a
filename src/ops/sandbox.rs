use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use mfsre_sandbox::{Event as SandboxEvent, Progress as SandboxProgress, Spec, StartedBy, ToolSettings};

use super::{Context, Platform, programs};
use crate::config::{Environment, Project};
use crate::error::{Error, ErrorKind, IoContext as _, Result, remove_file};
use crate::model::human_duration;
use crate::workflow::{Event, Outcome, Probe, Progress, Ran, Step, StepFuture};

/// Where an environment's sandbox keeps its state.
#[must_use]
pub fn sandbox_dir(project: &Project, environment: &Environment) -> PathBuf {
    project.private(environment.name.as_str()).join("sandbox")
}

/// What the sandbox of `environment` shall be.
///
/// # Errors
/// The environment is no sandbox.
pub fn sandbox_spec(project: &Project, environment: &Environment, started_by: StartedBy) -> Result<Spec> {
    if !environment.is_sandbox() {
        return Err(Error::new(
            ErrorKind::Configuration,
            format!("the environment {} is not a sandbox", environment.name),
        )
        .hint(
            "only an environment whose file has the key `sandbox` runs on this machine; `mfsre init --environment sandbox` writes one",
        ));
    }
    Ok(spec(project, environment, started_by))
}

/// As far as the tools are concerned, every environment has one.
pub(super) fn spec(project: &Project, environment: &Environment, started_by: StartedBy) -> Spec {
    let settings = environment.sandbox.clone().unwrap_or_default();
    let name = environment.name.to_string();
    let repository = &environment.argocd_repository_url;
    // The settings have made sure of both.
    let port = repository.port().unwrap_or(22);
    Spec {
        dir: sandbox_dir(project, environment),
        cache: None,
        cluster: environment.names.cluster.clone(),
        region: environment.region.to_string(),
        cluster_version: environment.cluster_version.to_string(),
        git_listen: SocketAddr::from(([127, 0, 0, 1], port)),
        git_repository: format!("{}.git", repository.path()),
        tools: ToolSettings {
            explicit: settings.tools,
            mirror: environment.mirrors.tools.clone(),
            install_manifest: environment.mirrors.argocd_manifest.clone(),
        },
        nodes: settings.nodes,
        fast_hpa: false,
        started_by,
        name,
    }
}

/// Tells a step's progress what the sandbox does.
struct Forward {
    say: Mutex<tokio::sync::mpsc::UnboundedSender<(String, bool)>>,
}

impl SandboxProgress for Forward {
    fn event(&self, event: SandboxEvent) {
        let (message, lasting) = match event {
            SandboxEvent::ToolWorking { name, how, elapsed } => {
                (format!("{name}: {how}, {}", human_duration(elapsed)), false)
            }
            SandboxEvent::ToolResolved {
                name, version, source, ..
            } => {
                let cached = matches!(source, mfsre_sandbox::Source::Cache | mfsre_sandbox::Source::Path);
                (format!("{name} {version} {source}"), !cached)
            }
            SandboxEvent::PartStarting { name } => (format!("starting {name}"), false),
            SandboxEvent::PartReady { name, elapsed, .. } => {
                (format!("{name} is ready after {}", human_duration(elapsed)), false)
            }
            _ => return,
        };
        if let Ok(say) = self.say.lock() {
            // The receiver lives as long as the step.
            let _ = say.send((message, lasting));
        }
    }
}

/// Removes the Terraform state of a sandbox whose emulator is gone: it describes nothing any more.
///
/// # Errors
/// It cannot be removed.
pub fn forget_state(project: &Project, environment: &Environment) -> Result<()> {
    let infra = project.infra(environment.name.as_str());
    remove_file(&infra.join("terraform.tfstate"))?;
    remove_file(&infra.join("terraform.tfstate.backup"))
}

/// Starts the sandbox of `spec`, telling `progress`.
///
/// # Errors
/// Something is missing on the machine, or a part does not start.
async fn start(spec: &Spec, executable: &std::path::Path, progress: Progress<'_>) -> Result<mfsre_sandbox::Status> {
    let (say, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let forward = Forward { say: Mutex::new(say) };
    let work = async {
        let tools = mfsre_sandbox::prepare(spec, &forward).await?;
        mfsre_sandbox::start(spec, &tools, executable, &forward).await
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            Some((message, lasting)) = heard.recv() => {
                if lasting { progress.note(message) } else { progress.say(message) }
            }
            done = &mut work => {
                let status = done?;
                return match lost(&status) {
                    Some(error) => Err(error),
                    None => Ok(status),
                };
            }
        }
    }
}

/// The error for a sandbox of which a part has ended. Its data may be lost with it, and what works against it would wait for
/// ever.
fn lost(status: &mfsre_sandbox::Status) -> Option<Error> {
    if status.is_abandoned() {
        return None;
    }
    let name = &status.name;
    let part = status.lost().next()?;
    let mfsre_sandbox::Health::Crashed { exit, log_tail, .. } = &part.health else {
        return None;
    };
    Some(
        Error::new(
            ErrorKind::Unhealthy,
            format!("the part {} of the sandbox has ended ({exit})", part.name),
        )
            .cause(format!("the end of its log:\n{log_tail}"))
            .hint(format!(
                "look at `mfsre sandbox logs {} --environment {name}`; then end the platform with `mfsre sandbox stop {name}`, which forgets everything on it, and run `mfsre up {name}`",
                part.name
            )),
    )
}

/// Starts the sandbox of `spec`, telling the context's reporter.
///
/// # Errors
/// Something is missing on the machine, or a part does not start.
pub async fn start_sandbox(context: &Context, spec: &Spec) -> Result<mfsre_sandbox::Status> {
    let reporter = context.reporter.clone();
    let began = std::time::Instant::now();
    reporter.report(Event::StepStarted {
        step: "sandbox",
        describe: "start the local platform".into(),
    });
    let result = tokio::select! {
        result = start(spec, &context.options.executable, Progress::new(reporter.as_ref(), "sandbox")) => result,
        () = context.cancellation.cancelled() => Err(Error::interrupted()),
    };
    let elapsed = began.elapsed();
    reporter.report(match &result {
        Ok(status) => Event::StepFinished {
            step: "sandbox",
            outcome: Outcome::Changed,
            detail: describe(status),
            elapsed,
        },
        Err(_) => Event::StepFailed {
            step: "sandbox",
            elapsed,
        },
    });
    result
}

impl Context {
    /// Takes over what a running sandbox says of itself.
    ///
    /// # Errors
    /// The file with the git server's host key cannot be written.
    pub(super) fn use_sandbox(&mut self, status: mfsre_sandbox::Status) -> Result<()> {
        let known_hosts = self.private().join("known_hosts");
        std::fs::write(&known_hosts, format!("{}\n", status.git_known_hosts))
            .or_cannot(|| format!("write {}", known_hosts.display()))?;
        self.platform = Some(Platform::of_sandbox(&self.environment, &status, &known_hosts));
        // Its host key is made on this machine, so that it cannot stand in the environment file.
        if !self.environment.argocd.known_hosts.contains(&status.git_known_hosts) {
            self.environment.argocd.known_hosts.push(status.git_known_hosts.clone());
        }
        // Its one AWS user is the administrator.
        if let Ok(arn) = <crate::model::PrincipalArn as crate::model::Scalar>::parse(&status.caller_arn)
            && !self.environment.access.administrators.contains(&arn)
        {
            self.environment.access.administrators.push(arn);
        }
        self.sandbox = Some(status);
        Ok(())
    }

    /// Finds out how the outside is reached: the running sandbox's parts, or what the machine is set up for.
    ///
    /// # Errors
    /// The environment is a sandbox that is not running.
    pub async fn attach(&mut self) -> Result<()> {
        if self.environment.is_sandbox() {
            let dir = sandbox_dir(&self.project, &self.environment);
            let Some(status) = mfsre_sandbox::status(&dir).await? else {
                return Err(
                    Error::failed(format!("the sandbox of {} is not running", self.environment.name))
                        .hint(format!(
                            "start it with `mfsre sandbox start {name}`, or bring the whole environment up with `mfsre up {name}`",
                            name = self.environment.name
                        )),
                );
            };
            self.use_sandbox(status)?;
        } else {
            self.platform = Some(Platform::of(&self.environment, self.project.root()));
        }
        Ok(())
    }
}

/// Starts the local platform where the environment is one, and finds out how the outside is reached.
pub(super) struct StartSandbox;

impl Step<Context> for StartSandbox {
    fn id(&self) -> &'static str {
        "sandbox"
    }

    fn describe(&self) -> String {
        "start the local platform".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            // Nothing is fetched, built or started for a run that could not go on.
            programs::find(&context.environment).await?;
            let dir = sandbox_dir(&context.project, &context.environment);
            match mfsre_sandbox::status(&dir).await? {
                Some(status) if status.is_up() => {
                    let detail = describe(&status);
                    context.use_sandbox(status)?;
                    Ok(Probe::Stands(detail))
                }
                Some(status) => lost(&status).map_or(Ok(Probe::Needed), Err),
                None => Ok(Probe::Needed),
            }
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let spec = sandbox_spec(&context.project, &context.environment, StartedBy::Up)?;
            if mfsre_sandbox::status(&spec.dir).await?.is_none() {
                forget_state(&context.project, &context.environment)?;
            }
            let executable = context.options.executable.clone();
            let status = start(&spec, &executable, progress).await?;
            let detail = describe(&status);
            context.use_sandbox(status)?;
            Ok(Ran::Changed(detail))
        })
    }
}

fn describe(status: &mfsre_sandbox::Status) -> String {
    let running = status
        .parts
        .iter()
        .filter(|p| p.health == mfsre_sandbox::Health::Healthy)
        .count();
    format!("{running} parts running, AWS and nodes simulated")
}

/// Finds out how AWS and the git host are reached.
pub(super) struct Attach;

impl Step<Context> for Attach {
    fn id(&self) -> &'static str {
        "platform"
    }

    fn describe(&self) -> String {
        "find AWS and the git host".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            context.attach().await?;
            Ok(Probe::Stands(context.platform()?.git_host_name(&context.environment)))
        })
    }
}
