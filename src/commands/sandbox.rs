use std::fmt::Write as _;

use mfsre_sandbox::{Health, StartedBy, Status};
use serde_json::json;

use super::Session;
use crate::cli::Sandbox;
use crate::error::{Error, ErrorKind, IoContext as _, Result};
use crate::ops::{LoadOptions, forget_state, sandbox_dir, sandbox_spec, start_sandbox};
use crate::ui::{OutputFormat, table};
use crate::workflow::Lock;

pub(super) async fn run(session: &Session, command: Sandbox) -> Result<u8> {
    match command {
        Sandbox::Start { environment } => start(session, &environment).await,
        Sandbox::Stop { environment } => stop(session, &environment).await,
        Sandbox::Status { environment } => status(session, &environment).await,
        Sandbox::Logs { part, environment } => logs(session, &part, &environment).await,
        Sandbox::Load {
            environment,
            rate,
            duration,
        } => super::load::run(session, &environment, LoadOptions { rate, duration }).await,
        Sandbox::Supervise { dir } => {
            mfsre_sandbox::supervise(&dir).await?;
            Ok(0)
        }
        Sandbox::Exec {
            parent,
            program,
            arguments,
        } => Err(mfsre_sandbox::exec(parent, &program, &arguments).into()),
        // The exporter has a runtime of its own and is started before there is one.
        Sandbox::Exporter { .. } => Err(Error::usage("the exporter is started by the sandbox only")),
    }
}

async fn start(session: &Session, name: &str) -> Result<u8> {
    let context = session.context(name, |_| {})?;
    let _lock = Lock::acquire(&context.private(), "sandbox start", name)?;
    let spec = sandbox_spec(&context.project, &context.environment, StartedBy::Start)?;
    let status = start_sandbox(&context, &spec).await?;
    show(session, "sandbox start", name, &status)
}

async fn stop(session: &Session, name: &str) -> Result<u8> {
    let context = session.context(name, |_| {})?;
    let _lock = Lock::acquire(&context.private(), "sandbox stop", name)?;
    sandbox_spec(&context.project, &context.environment, StartedBy::Start)?;
    let stopped = mfsre_sandbox::stop(&sandbox_dir(&context.project, &context.environment)).await?;
    forget_state(&context.project, &context.environment)?;
    let text = if stopped.was_running {
        "the local platform was stopped; no process is left"
    } else {
        "the local platform was not running"
    };
    session.printer.result("sandbox stop", Some(name), text, &stopped)?;
    Ok(0)
}

async fn status(session: &Session, name: &str) -> Result<u8> {
    let project = session.project()?;
    let environment = session.environment(&project, name)?;
    sandbox_spec(&project, &environment, StartedBy::Start)?;
    match mfsre_sandbox::status(&sandbox_dir(&project, &environment)).await? {
        Some(status) => show(session, "sandbox status", name, &status),
        None => {
            let text = format!("the sandbox of {name} is not running; `mfsre up {name}` starts it");
            match session.printer.format {
                OutputFormat::Text => session.printer.line(&text)?,
                OutputFormat::Json => session.printer.document(
                    "sandbox status",
                    Some(name),
                    false,
                    &json!({ "running": false, "parts": [] }),
                )?,
            }
            Ok(ErrorKind::Unhealthy.exit_code())
        }
    }
}

fn show(session: &Session, command: &str, name: &str, status: &Status) -> Result<u8> {
    let mut rows = vec![vec![
        "PART".to_owned(),
        "VERSION".into(),
        "PID".into(),
        "ADDRESS".into(),
        "MEMORY".into(),
        "HEALTH".into(),
    ]];
    let mut total = 0;
    let mut trouble = String::new();
    for part in &status.parts {
        total += part.memory_bytes.unwrap_or(0);
        let health = match &part.health {
            Health::Starting => "starting".to_owned(),
            Health::Healthy => "healthy".to_owned(),
            Health::Stopped => "stopped".to_owned(),
            Health::Crashed { exit, log_tail, .. } => {
                let _ = writeln!(
                    trouble,
                    "\n{} crashed ({exit}); the end of its log:\n{log_tail}",
                    part.name
                );
                "crashed".to_owned()
            }
        };
        let health = match part.restarts {
            0 => health,
            1 => format!("{health}, started again once"),
            more => format!("{health}, started again {more} times"),
        };
        rows.push(vec![
            part.name.clone(),
            part.version.clone(),
            part.pid.map(|p| p.to_string()).unwrap_or_default(),
            part.address.clone().unwrap_or_default(),
            part.memory_bytes
                .map(|b| format!("{} MiB", b >> 20))
                .unwrap_or_default(),
            health,
        ]);
    }
    let mut text = table(&rows, 0);
    let _ = writeln!(text, "\n{} MiB in all", total >> 20);
    text.push_str(&trouble);
    let endpoints = vec![
        vec!["AWS_ENDPOINT_URL".to_owned(), status.aws_endpoint_url.to_string()],
        vec![
            "KUBECONFIG".into(),
            format!("{} (the platform's own administrator)", status.kubeconfig.display()),
        ],
        vec!["Argo CD".into(), status.argocd_url.to_string()],
        vec!["Git".into(), status.git_url.clone()],
    ];
    let _ = write!(text, "\n{}", table(&endpoints, 0));
    let healthy = status.is_healthy();
    match session.printer.format {
        OutputFormat::Text => session.printer.line(text.trim_end())?,
        OutputFormat::Json => {
            let mut body = serde_json::to_value(status)
                .map_err(|e| Error::failed("cannot serialise the status").cause(e.to_string()))?;
            body["running"] = json!(true);
            session.printer.document(command, Some(name), healthy, &body)?;
        }
    }
    Ok(if healthy { 0 } else { ErrorKind::Unhealthy.exit_code() })
}

async fn logs(session: &Session, part: &str, name: &str) -> Result<u8> {
    let project = session.project()?;
    let environment = session.environment(&project, name)?;
    sandbox_spec(&project, &environment, StartedBy::Start)?;
    let path = mfsre_sandbox::logs(&sandbox_dir(&project, &environment), part).await?;
    let text = std::fs::read(&path).or_cannot(|| format!("read {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    session.printer.line(text.trim_end())?;
    Ok(0)
}
