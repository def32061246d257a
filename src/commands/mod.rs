//! One file for each command: resolve settings, call one operation, print its result.

mod backend;
mod bump;
mod completions;
mod down;
mod iam_policy;
mod init;
mod kubeconfig;
mod load;
mod plan;
mod render;
mod rotate;
mod sandbox;
mod schema;
mod secrets;
mod session;
mod status;
mod token;
mod up;
mod validate;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser as _};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::cli::{Backend, Cli, Command, Rotate, Sandbox, Secrets};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::{Credential, Options, RotateOptions};
use crate::ui::Printer;
use session::Session;

/// Exit code for "there are changes", where it was asked for.
const CHANGES: u8 = 2;

/// Runs the command line; returns the process's exit code.
#[must_use]
pub fn main() -> ExitCode {
    without_core_dumps();
    tell_panics();
    let parsed = Cli::command()
        .color(color_of_help())
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let command = match cli.command {
        Command::Sandbox(Sandbox::Exporter { arguments }) => return exporter(arguments),
        command => command,
    };
    let cli = Cli { command, ..cli };
    // One cryptography for every TLS connection of the process. A second call, which there is none, would fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let printer = Printer {
        format: cli.global.output,
        color: cli.global.color,
        verbosity: if cli.global.quiet {
            -1
        } else {
            i8::try_from(cli.global.verbose).unwrap_or(i8::MAX)
        },
        warnings: std::sync::Arc::default(),
    };
    let name = cli.command.name();
    let environment = cli.command.environment().map(str::to_owned);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            printer.error(
                name,
                environment.as_deref(),
                &Error::failed("cannot start the runtime").cause(error.to_string()),
            );
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli, printer.clone()));
    // Work that was dropped must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            printer.error(name, environment.as_deref(), &error);
            ExitCode::from(error.kind.exit_code())
        }
    }
}

/// The choice of colour for help and for what is not understood, which are printed before the command line has been read.
fn color_of_help() -> clap::ColorChoice {
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .take_while(|argument| argument != "--")
        .collect();
    let mut pairs = arguments.iter().zip(arguments.iter().skip(1).map(Some).chain([None]));
    let flag = pairs.find_map(|(argument, next)| match argument.strip_prefix("--color") {
        Some("") => next.cloned(),
        Some(value) => value.strip_prefix('=').map(str::to_owned),
        None => None,
    });
    match flag.or_else(|| std::env::var("MFSRE_COLOR").ok()).as_deref() {
        Some("always") => clap::ColorChoice::Always,
        Some("never") => clap::ColorChoice::Never,
        _ => clap::ColorChoice::Auto,
    }
}

/// Memory holds secrets, which a core dump would put on the disk. Children inherit this; where it is refused, the limit is stricter already.
///
/// Linux does not ask for the limit where a program takes the dumps, as systemd-coredump does, but for the value 1: then
/// there is none (`coredump_pipe` in fs/coredump.c). A file of one byte is none either.
fn without_core_dumps() {
    let least = Some(u64::from(cfg!(target_os = "linux")));
    let limit = Rlimit {
        current: least,
        maximum: least,
    };
    let _ = setrlimit(Resource::Core, limit);
}

/// A panic is a flaw of the program. It is told as every error is, and without what memory holds: only its own words and its place.
fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let mut error = Error::failed("mfsre has a flaw, and stopped")
            .cause(panic.payload_as_str().unwrap_or("it does not say why"));
        if let Some(place) = panic.location() {
            error = error.cause(format!("at {place}"));
        }
        let error = error
            .hint("what was done stands: run the same command again")
            .hint("report it with this text, and with what is printed if RUST_BACKTRACE is 1");
        let backtrace = std::backtrace::Backtrace::capture();
        // Where nobody reads any more, there is nobody to tell.
        let mut out = std::io::stderr().lock();
        let _ = writeln!(out, "{}", error.render(false));
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            let _ = writeln!(out, "{backtrace}");
        }
    }));
}

/// Is the exporter, which has a runtime of its own.
fn exporter(arguments: Vec<std::ffi::OsString>) -> ExitCode {
    let name = std::ffi::OsString::from("mfsre sandbox exporter");
    match mfsre_exporter::Cli::try_parse_from(std::iter::once(name).chain(arguments)) {
        Ok(cli) => mfsre_exporter::main_with(cli),
        Err(error) => not_understood(&error),
    }
}

fn not_understood(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind as Kind;
    // Help and version go to standard output; a closed pipe is no reason to fail.
    let _ = error.print();
    match error.kind() {
        Kind::DisplayHelp | Kind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(ErrorKind::Usage.exit_code()),
    }
}

async fn run(cli: Cli, printer: Printer) -> Result<u8> {
    let session = Session::new(cli.global, printer)?;
    match cli.command {
        Command::Init {
            repository,
            environment,
            ci,
        } => init::run(&session, repository, environment, ci),
        Command::Validate { environments } => validate::run(&session, environments),
        Command::Render { environment, check } => render::run(&session, &environment, check).await,
        Command::Plan {
            environment,
            out,
            detailed_exitcode,
        } => plan::run(&session, &environment, out, detailed_exitcode).await,
        Command::Up {
            environment,
            yes,
            push,
            plan,
            timeout,
        } => {
            let options = |options: &mut Options| {
                options.push = push;
                options.plan = plan;
                options.timeout = timeout;
            };
            up::run(&session, &environment, yes, options).await
        }
        Command::Down {
            environment,
            yes,
            purge,
            force,
            timeout,
        } => {
            let options = |options: &mut Options| {
                options.purge = purge;
                options.force = force;
                options.timeout = timeout;
            };
            down::run(&session, &environment, yes, options).await
        }
        Command::Status { environment, watch } => status::run(&session, &environment, watch).await,
        Command::Backend(Backend::Create { environment }) => backend::create(&session, &environment).await,
        Command::Backend(Backend::Migrate { environment, yes }) => backend::migrate(&session, &environment, yes).await,
        Command::Kubeconfig {
            environment,
            file,
            print,
        } => kubeconfig::run(&session, &environment, file, print).await,
        Command::Token { environment } => token::run(&session, &environment).await,
        Command::Rotate(command) => {
            let (credential, arguments) = match command {
                Rotate::ArgocdPassword(arguments) => (Credential::ArgocdPassword, arguments),
                Rotate::DeployKey(arguments) => (Credential::DeployKey, arguments),
            };
            let options = RotateOptions {
                if_older_than: arguments.if_older_than,
                dry_run: arguments.dry_run,
            };
            rotate::run(&session, credential, &arguments.environment, options, arguments.timeout).await
        }
        Command::Secrets(Secrets::Show(secret)) => secrets::run(&session, secret).await,
        Command::Sandbox(command) => sandbox::run(&session, command).await,
        Command::Bump {
            chart,
            image_tag,
            environment,
            commit,
        } => bump::run(&session, &chart, &image_tag, environment, commit).await,
        Command::IamPolicy { environment, terraform } => iam_policy::run(&session, &environment, terraform),
        Command::Schema => schema::run(&session),
        Command::Completions { shell } => completions::run(&session, shell),
    }
}
