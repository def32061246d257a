//! The sandbox by itself, for its tests and for trying it out: the hidden commands of `mfsre`, and start, status, stop.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mfsre_sandbox::{Event, Progress, Spec, StartedBy, ToolSettings};

const USAGE: &str = "usage: mfsre-sandbox start|status|stop DIR";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let words: Vec<&str> = arguments
        .iter()
        .map(|argument| argument.to_str().unwrap_or_default())
        .collect();
    match words[..] {
        ["sandbox", "exec", "--parent", parent, "--", _, ..] => {
            Err(mfsre_sandbox::exec(parent.parse()?, &arguments[5], &arguments[6..]).into())
        }
        ["sandbox", "supervise", "--dir", _] => runtime()?
            .block_on(mfsre_sandbox::supervise(Path::new(&arguments[3])))
            .map_err(Into::into),
        ["start", dir] => runtime()?.block_on(start(dir)),
        ["status", dir] => runtime()?.block_on(async { print(&mfsre_sandbox::status(Path::new(dir)).await?) }),
        ["stop", dir] => runtime()?.block_on(async { print(&mfsre_sandbox::stop(Path::new(dir)).await?) }),
        _ => Err(USAGE.into()),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

async fn start(dir: &str) -> Result<(), Box<dyn Error>> {
    let spec = Spec {
        name: "sandbox".to_owned(),
        cluster: "sandbox".to_owned(),
        dir: PathBuf::from(dir),
        cache: None,
        region: "eu-west-1".to_owned(),
        cluster_version: "1.35".to_owned(),
        git_listen: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?,
        git_repository: "mfsre/platform.git".to_owned(),
        tools: ToolSettings {
            explicit: BTreeMap::new(),
            mirror: None,
            install_manifest: None,
        },
        nodes: 3,
        fast_hpa: false,
        started_by: StartedBy::Start,
    };
    let tools = mfsre_sandbox::prepare(&spec, &Lines).await?;
    print(&mfsre_sandbox::start(&spec, &tools, &std::env::current_exe()?, &Lines).await?)
}

fn print(value: &impl serde::Serialize) -> Result<(), Box<dyn Error>> {
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(value)?)?)
}

/// Writes each event as a line to standard error.
struct Lines;

impl Progress for Lines {
    fn event(&self, event: Event) {
        if let Ok(line) = serde_json::to_string(&event) {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}
