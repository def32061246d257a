//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::ui::{ColorChoice, OutputFormat};

/// One environment file to a running GitOps platform on Amazon EKS, and back.
#[derive(Debug, Parser)]
#[command(
    name = "mfsre",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// For every command.
    #[command(flatten)]
    pub global: Global,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Folder of the project [default: the nearest one upwards that has environments/]
    #[arg(long, global = true, value_name = "DIR", env = "MFSRE_PROJECT")]
    pub project: Option<PathBuf>,
    /// Form of the output
    #[arg(long, global = true, value_enum, default_value = "text", env = "MFSRE_OUTPUT")]
    pub output: OutputFormat,
    /// Never ask; fail where an answer is needed
    #[arg(long, global = true, env = "MFSRE_NO_INPUT", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_input: bool,
    /// Use of colour
    #[arg(long, global = true, value_enum, default_value = "auto", env = "MFSRE_COLOR")]
    pub color: ColorChoice,
    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, env = "MFSRE_VERBOSE")]
    pub verbose: u8,
    /// Say only what is wrong
    #[arg(short, long, global = true, env = "MFSRE_QUIET", conflicts_with = "verbose", value_parser = clap::builder::FalseyValueParser::new())]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a project: environment files, their JSON Schema, .gitignore, workflows
    Init {
        /// Git repository that Argo CD reads
        #[arg(long, value_name = "URL")]
        repository: Option<String>,
        /// Environment to write, `sandbox` for the local platform; may be given more than once [default: those that are there, or else demo]
        #[arg(long, value_name = "NAME")]
        environment: Vec<String>,
        /// Write the workflows of a pipeline, and a service with its Dockerfile to begin with
        #[arg(long, value_enum, default_value = "none")]
        ci: Ci,
    },
    /// Check environment files
    Validate {
        /// Environments [default: all]
        #[arg(value_name = "ENV")]
        environments: Vec<String>,
    },
    /// Write the Terraform and GitOps files of an environment
    Render {
        /// Environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Write nothing; show what would change as a unified diff and exit with 2 if anything would
        #[arg(long)]
        check: bool,
    },
    /// Show what `up` would create, change and destroy on AWS
    Plan {
        /// Environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Keep the plan in a file; it holds values in clear
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Exit with 2 if there are changes
        #[arg(long)]
        detailed_exitcode: bool,
    },
    /// Bring an environment up, or to its current settings
    Up {
        /// Environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Apply the plan without asking
        #[arg(long, short)]
        yes: bool,
        /// Commit and push the rendered cd/ with your own git credentials where the branch differs
        #[arg(long)]
        push: bool,
        /// Apply this plan, which `plan --out` kept, instead of planning anew
        #[arg(long, value_name = "FILE")]
        plan: Option<PathBuf>,
        /// How long to wait until everything is synced and healthy
        #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
        timeout: Duration,
    },
    /// Take an environment away, and show that nothing is left
    Down {
        /// Environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Remove without asking
        #[arg(long, short)]
        yes: bool,
        /// Delete the password's secret at once, without Secrets Manager's recovery window
        #[arg(long)]
        purge: bool,
        /// Take the finalizers off what is not gone after the timeout, and do without a git host that cannot be asked; what should
        /// have been removed there may stay
        #[arg(long)]
        force: bool,
        /// How long to wait for each stage
        #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
        timeout: Duration,
    },
    /// Show how an environment stands; exit with 3 if it is not healthy
    Status {
        /// Environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Go on looking, and show each change, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Replace a credential by a new one, or finish a rotation that was cut off
    #[command(subcommand)]
    Rotate(Rotate),
    /// Where Terraform's state is kept
    #[command(subcommand)]
    Backend(Backend),
    /// Merge an environment's cluster into your kubeconfig
    Kubeconfig {
        /// Environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// File to merge into [default: the first of KUBECONFIG, or ~/.kube/config]
        #[arg(long, value_name = "PATH", conflicts_with = "print")]
        file: Option<PathBuf>,
        /// Write a kubeconfig of this cluster alone to standard output instead
        #[arg(long)]
        print: bool,
    },
    /// Print a token for the cluster as ExecCredential; kubectl calls this
    Token {
        /// Environment
        #[arg(value_name = "ENV")]
        environment: String,
    },
    /// Show a credential that mfsre keeps
    #[command(subcommand)]
    Secrets(Secrets),
    /// The local platform of a sandbox environment
    #[command(subcommand)]
    Sandbox(Sandbox),
    /// Set the version of a chart's image, and change nothing else
    Bump {
        /// Chart, a folder of cd/charts
        #[arg(value_name = "CHART")]
        chart: String,
        /// The image's tag, its digest (sha256:...), or TAG@sha256:...
        #[arg(long, value_name = "TAG|DIGEST")]
        image_tag: String,
        /// For this environment only, in its file; the chart keeps its version
        #[arg(long, value_name = "ENV")]
        environment: Option<String>,
        /// Commit the changed files, and nothing else
        #[arg(long)]
        commit: bool,
    },
    /// Print the least IAM policy that mfsre itself needs for an environment
    IamPolicy {
        /// Environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Print the one that Terraform needs for the root module instead
        #[arg(long)]
        terraform: bool,
    },
    /// Print the JSON Schema of environment files
    Schema,
    /// Print a completion script
    Completions {
        /// Shell
        shell: Shell,
    },
}

/// Whose pipeline `mfsre init` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ci {
    /// GitHub Actions
    Github,
    /// None
    None,
}

/// `mfsre rotate`
#[derive(Debug, Subcommand)]
pub enum Rotate {
    /// The password of Argo CD's user admin; its sessions end
    ArgocdPassword(RotateArguments),
    /// The key with which Argo CD reads the repository
    DeployKey(RotateArguments),
}

/// Of every `mfsre rotate`.
#[derive(Debug, Args)]
pub struct RotateArguments {
    /// Environment
    #[arg(value_name = "ENV")]
    pub environment: String,
    /// Do nothing if it is younger, and no rotation is unfinished
    #[arg(long, value_name = "AGE", value_parser = duration)]
    pub if_older_than: Option<Duration>,
    /// Show the steps and what they would do; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for Argo CD, and for a person who adds the key by hand
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    pub timeout: Duration,
}

/// `mfsre backend`
#[derive(Debug, Subcommand)]
pub enum Backend {
    /// Make the bucket of an S3 backend, or everything about it as it should be
    Create {
        /// Environment
        #[arg(value_name = "ENV")]
        environment: String,
    },
    /// Move the state to the backend that the environment file names now
    Migrate {
        /// Environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Move without asking
        #[arg(long, short)]
        yes: bool,
    },
}

/// `mfsre secrets`
#[derive(Debug, Subcommand)]
pub enum Secrets {
    /// Show a secret
    #[command(subcommand)]
    Show(ShowSecret),
}

/// `mfsre secrets show`
#[derive(Debug, Subcommand)]
pub enum ShowSecret {
    /// The password of Argo CD's user admin
    ArgocdPassword {
        /// Environment
        #[arg(value_name = "ENV")]
        environment: String,
        /// Print it although standard output is no terminal, as into a pipe
        #[arg(long)]
        reveal: bool,
    },
}

/// `mfsre sandbox`
#[derive(Debug, Subcommand)]
pub enum Sandbox {
    /// Start the local platform without creating anything on it
    Start {
        /// Environment
        #[arg(value_name = "ENV", default_value = "sandbox")]
        environment: String,
    },
    /// Stop the local platform and forget everything on it
    Stop {
        /// Environment
        #[arg(value_name = "ENV", default_value = "sandbox")]
        environment: String,
    },
    /// Show the parts of the local platform; exit with 3 if one is not healthy
    Status {
        /// Environment
        #[arg(value_name = "ENV", default_value = "sandbox")]
        environment: String,
    },
    /// Print the log of a part
    Logs {
        /// Part, as `sandbox status` names it
        part: String,
        /// Environment
        #[arg(long, value_name = "ENV", default_value = "sandbox")]
        environment: String,
    },
    /// Send requests to main-service and watch the autoscaler answer
    Load {
        /// Environment
        #[arg(value_name = "ENV", default_value = "sandbox")]
        environment: String,
        /// Requests per second, sent at that rate however slowly they are answered
        #[arg(long, value_name = "N", default_value = "37", value_parser = clap::value_parser!(u32).range(1..=2000))]
        rate: u32,
        /// For how long [default: until Ctrl-C]
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        duration: Option<Duration>,
    },
    /// Be the exporter; the sandbox starts this itself
    #[command(hide = true)]
    Exporter {
        /// The exporter's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Supervise the parts; the sandbox starts this itself
    #[command(hide = true)]
    Supervise {
        /// Folder of the sandbox
        #[arg(long)]
        dir: PathBuf,
    },
    /// Become a part that ends with its supervisor; the sandbox starts this itself
    #[command(hide = true)]
    Exec {
        /// Process of the supervisor
        #[arg(long)]
        parent: u32,
        /// Program
        program: std::ffi::OsString,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// Reads `90s`, `15m`, `1h` or `90d`.
fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is not a duration; write for example 90s, 15m, 1h or 90d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
    let number: u64 = text[..digits].parse().map_err(|_| refuse())?;
    let seconds = match &text[digits..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(refuse()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(refuse)
}

impl Command {
    /// The command's name, as scripts and JSON documents know it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Init { .. } => "init",
            Self::Validate { .. } => "validate",
            Self::Render { .. } => "render",
            Self::Plan { .. } => "plan",
            Self::Up { .. } => "up",
            Self::Down { .. } => "down",
            Self::Status { .. } => "status",
            Self::Rotate(_) => "rotate",
            Self::Backend(Backend::Create { .. }) => "backend create",
            Self::Backend(Backend::Migrate { .. }) => "backend migrate",
            Self::Kubeconfig { .. } => "kubeconfig",
            Self::Token { .. } => "token",
            Self::Secrets(_) => "secrets show",
            Self::Sandbox(Sandbox::Start { .. }) => "sandbox start",
            Self::Sandbox(Sandbox::Stop { .. }) => "sandbox stop",
            Self::Sandbox(Sandbox::Status { .. }) => "sandbox status",
            Self::Sandbox(Sandbox::Logs { .. }) => "sandbox logs",
            Self::Sandbox(Sandbox::Load { .. }) => "sandbox load",
            Self::Sandbox(Sandbox::Exporter { .. }) => "sandbox exporter",
            Self::Sandbox(Sandbox::Supervise { .. }) => "sandbox supervise",
            Self::Sandbox(Sandbox::Exec { .. }) => "sandbox exec",
            Self::Bump { .. } => "bump",
            Self::IamPolicy { .. } => "iam-policy",
            Self::Schema => "schema",
            Self::Completions { .. } => "completions",
        }
    }

    /// The environment it is about, where it is about one.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        match self {
            Self::Render { environment, .. }
            | Self::Plan { environment, .. }
            | Self::Up { environment, .. }
            | Self::Down { environment, .. }
            | Self::Status { environment, .. }
            | Self::Kubeconfig { environment, .. }
            | Self::Token { environment }
            | Self::Backend(Backend::Create { environment } | Backend::Migrate { environment, .. })
            | Self::IamPolicy { environment, .. }
            | Self::Rotate(
                Rotate::ArgocdPassword(RotateArguments { environment, .. })
                | Rotate::DeployKey(RotateArguments { environment, .. }),
            )
            | Self::Secrets(Secrets::Show(ShowSecret::ArgocdPassword { environment, .. }))
            | Self::Sandbox(
                Sandbox::Start { environment }
                | Sandbox::Stop { environment }
                | Sandbox::Status { environment }
                | Sandbox::Logs { environment, .. }
                | Sandbox::Load { environment, .. },
            ) => Some(environment),
            Self::Bump { environment, .. } => environment.as_deref(),
            _ => None,
        }
    }
}
