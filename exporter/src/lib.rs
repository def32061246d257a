//! Serves the numbers in JSON documents as Prometheus metrics.
//!
//! The program `mfsre-exporter` is [`main_with`] and nothing else; a program that carries the exporter along parses [`Cli`]
//! from its own arguments and calls the same.

mod check;
mod cli;
mod config;
mod exposition;
mod fetch;
mod mapping;
mod poll;
mod probe;
mod read;
mod server;
mod telemetry;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use cli::{CheckArgs, Cli, Command, RequestArgs, ServeArgs};

use check::CheckError;
use config::{Config, ConfigError};
use fetch::{Client, Resolver};
use poll::{Board, Poller};
use probe::Prober;
use server::App;
use telemetry::Telemetry;

/// Exit code of a command line that cannot be understood, as in sysexits.h.
const USAGE: u8 = 64;
/// Exit code of a configuration that cannot be used, as in sysexits.h.
const CONFIGURATION: u8 = 78;
/// How often connections are looked at that nobody uses.
const TIDY: Duration = Duration::from_secs(10);

/// Why the exporter ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Setup(String),
    #[error("cannot listen on {address}: {source}\n  next: choose another address with --listen")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Check(#[from] Box<CheckError>),
    #[error("cannot print the metrics: {0}")]
    Print(std::io::Error),
}

impl Error {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::from(CONFIGURATION),
            Self::Check(error) if matches!(**error, CheckError::Config(_)) => ExitCode::from(CONFIGURATION),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Parses the arguments of this process and does what they say.
///
/// Exit codes: 0 done, 1 failed, 64 the command line cannot be understood, 78 the configuration cannot be used.
#[must_use]
pub fn main() -> ExitCode {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    match Cli::try_parse() {
        Ok(cli) => main_with(cli),
        Err(error) => {
            // Help and version go to standard output; a closed pipe is no reason to fail.
            let _ = error.print();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(USAGE),
            }
        }
    }
}

/// Does what the arguments say, in a runtime of its own, until it is done or the process gets SIGTERM or SIGINT.
///
/// While it serves, it logs lines of JSON to standard error. What `check` finds goes to standard output, and its errors to
/// standard error. Must not be called inside of an asynchronous runtime.
///
/// Exit codes: as [`main`].
#[must_use]
pub fn main_with(cli: Cli) -> ExitCode {
    // One thread is enough for thousands of targets, and the memory of more is better spent on them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(|error| Error::Setup(format!("cannot start the runtime: {error}")));
    let result = runtime.and_then(|runtime| {
        let result = match &cli.command {
            Some(Command::Check(args)) => runtime.block_on(run_check(args)),
            Some(Command::Serve(args)) => runtime.block_on(run_serve(args)),
            None => runtime.block_on(run_serve(&cli.serve)),
        };
        // Work that was dropped must not keep the process.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            error.exit_code()
        }
    }
}

async fn run_check(args: &CheckArgs) -> Result<(), Error> {
    let text = check::check(args).await.map_err(Box::new)?;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Print(error)),
        _ => Ok(()),
    }
}

async fn run_serve(args: &ServeArgs) -> Result<(), Error> {
    let config = Arc::new(Config::load(args.config.as_deref(), &args.targets)?);
    if config.targets.is_empty() && config.modules.iter().all(|module| module.allow.is_empty()) {
        return Err(ConfigError::Nothing.into());
    }
    // A program that carries the exporter along may log already.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_max_level(args.log_level)
        .with_writer(std::io::stderr)
        .try_init();
    let stop = stop_signal()?;
    let listener = TcpListener::bind(args.listen).await.map_err(|source| Error::Listen {
        address: args.listen,
        source,
    })?;
    let address = listener.local_addr().unwrap_or(args.listen);

    let client = Arc::new(Client::new(&args.requests));
    let resolver = Arc::new(Resolver::new(args.requests.dns_server).map_err(Error::Setup)?);
    let telemetry = Arc::new(Telemetry::default());
    // A poll may take the whole time-out and wait as long for its turn.
    let max_age = args.period * 2 + client.limits.timeout * 2;
    let board = Arc::new(Board::new(&config.targets, max_age));
    let app = Arc::new(App {
        board: Arc::clone(&board),
        telemetry: Arc::clone(&telemetry),
        prober: Prober {
            config: Arc::clone(&config),
            client: Arc::clone(&client),
            resolver: Arc::clone(&resolver),
            telemetry: Arc::clone(&telemetry),
        },
        ready: AtomicBool::new(false),
    });
    let poller = Arc::new(Poller {
        client: Arc::clone(&client),
        resolver,
        telemetry,
        board,
        period: args.period,
        dns_grace: args.dns_grace,
    });
    let mut first_round = poller.start(config.targets.clone()).map_err(Error::Setup)?;
    tracing::info!(%address, urls = config.targets.len(), "serving");

    let ready = Arc::clone(&app);
    tokio::spawn(async move {
        // Ends when the last sender is dropped; nothing is ever sent.
        let _ = first_round.recv().await;
        ready.ready.store(true, Ordering::Relaxed);
        tracing::info!("every target was polled once");
    });
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(TIDY).await;
            client.tidy();
        }
    });
    server::serve(listener, app, stop).await;
    tracing::info!("stopped");
    Ok(())
}

/// Becomes true when the process is asked to end.
fn stop_signal() -> Result<watch::Receiver<bool>, Error> {
    let listen = |kind| signal(kind).map_err(|error| Error::Setup(format!("cannot wait for signals: {error}")));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        let _ = sender.send(true);
    });
    Ok(receiver)
}
