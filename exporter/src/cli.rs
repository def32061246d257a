//! The command line.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Serves the numbers in JSON documents as Prometheus metrics
#[derive(Debug, Clone, Parser)]
#[command(name = "mfsre-exporter", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; to serve where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `serve`, which may be given without its name.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Poll targets and serve their metrics (the default)
    Serve(Box<ServeArgs>),
    /// Apply a mapping to a document and print the metrics
    Check(CheckArgs),
}

/// Options of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// URL to poll; several are separated by commas or spaces, or given one by one
    ///
    /// Every address that the host name resolves to is a target of its own.
    #[arg(long = "target", value_name = "URL", env = "MAIN_APP_URL")]
    pub targets: Vec<String>,
    /// Address and port to serve on
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:2112",
        env = "EXPORTER_LISTEN"
    )]
    pub listen: SocketAddr,
    /// File with the mappings and further targets (YAML)
    #[arg(long, value_name = "FILE", env = "EXPORTER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Time from one poll of a target to the next, and from one look-up of a name to the next
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, env = "EXPORTER_PERIOD")]
    pub period: Duration,
    /// Options of the requests.
    #[command(flatten)]
    pub requests: RequestArgs,
    /// How long the addresses of a name are kept while no name server answers
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration, env = "EXPORTER_DNS_GRACE")]
    pub dns_grace: Duration,
    /// Least severe messages to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "EXPORTER_LOG_LEVEL")]
    pub log_level: tracing::Level,
}

/// Options of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// File with the mappings (YAML); the built-in mapping without it
    #[arg(long, value_name = "FILE", env = "EXPORTER_CONFIG")]
    pub mapping: Option<PathBuf>,
    /// Module of that file
    #[arg(long, value_name = "NAME", default_value = "default", env = "EXPORTER_MODULE")]
    pub module: String,
    /// Value of a parameter of the module, for a URL; may be given several times
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter, env = "EXPORTER_PARAMETER")]
    pub parameters: Vec<(String, String)>,
    /// Options of the request, if it is a URL.
    #[command(flatten)]
    pub requests: RequestArgs,
    /// Document to read: a file, or a URL that begins with http:// or https://
    #[arg(value_name = "FILE|URL")]
    pub document: String,
}

/// Options of the requests to targets.
#[derive(Debug, Clone, Args)]
pub struct RequestArgs {
    /// Name server to ask instead of the system's; names are then taken as complete, without a search list
    #[arg(long, value_name = "ADDRESS:PORT", env = "EXPORTER_DNS_SERVER")]
    pub dns_server: Option<SocketAddr>,
    /// Time that a request may take, from the connection to the last byte
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration, env = "EXPORTER_TIMEOUT")]
    pub timeout: Duration,
    /// Time that a connection may take, with TLS
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration, env = "EXPORTER_CONNECT_TIMEOUT")]
    pub connect_timeout: Duration,
    /// Longest body that is read, in bytes
    #[arg(long, value_name = "BYTES", default_value = "4194304", env = "EXPORTER_MAX_BODY")]
    pub max_body: NonZeroU32,
    /// Memory for bodies of all requests together, in bytes; what each has in its first 64 KiB does not count
    #[arg(long, value_name = "BYTES", default_value = "16777216", env = "EXPORTER_MAX_BUFFER")]
    pub max_buffer: NonZeroU32,
    /// Most samples from one document
    #[arg(long, value_name = "NUMBER", default_value = "50000", env = "EXPORTER_MAX_SAMPLES")]
    pub max_samples: NonZeroUsize,
    /// Most requests at the same time
    #[arg(long, value_name = "NUMBER", default_value = "512", env = "EXPORTER_CONCURRENCY")]
    pub concurrency: NonZeroU32,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A duration such as `5s`, `1m 30s` or `250ms`, above 0 and at most a day.
fn duration(text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let duration: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(duration)
        .ok()
        .filter(|duration| !duration.is_zero() && *duration <= DAY)
        .ok_or_else(|| "must be above 0 and at most a day".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default() {
        let cli = Cli::try_parse_from(["x", "--target", "http://a/", "--period", "1m 30s"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.targets, ["http://a/"]);
        assert_eq!(cli.serve.period, Duration::from_secs(90));
        let cli = Cli::try_parse_from(["x", "serve", "--target", "http://a/"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Serve(serve)) if serve.targets == ["http://a/"]));
    }

    #[test]
    fn every_option_has_a_variable() {
        use clap::CommandFactory as _;
        let command = Cli::command();
        for command in [&command].into_iter().chain(command.get_subcommands()) {
            for argument in command
                .get_opts()
                .filter(|a| !matches!(a.get_id().as_str(), "help" | "version"))
            {
                let variable = argument.get_env().and_then(|name| name.to_str()).unwrap_or("");
                assert!(
                    variable.starts_with("EXPORTER_") || variable == "MAIN_APP_URL",
                    "{argument}"
                );
            }
        }
    }

    #[test]
    fn durations_are_positive_and_short() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["0s", "-1s", "25h", "5", "", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
