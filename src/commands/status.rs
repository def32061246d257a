use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::json;

use super::Session;
use super::rotate::days_old;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::{Context, StatusReport, status};
use crate::ui::{OutputFormat, table};

/// How often a watch looks.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) async fn run(session: &Session, name: &str, watch: bool) -> Result<u8> {
    let mut context = session.context(name, |_| {})?;
    let report = if watch {
        follow(session, name, &mut context).await?
    } else {
        status(&mut context).await?
    };
    match session.printer.format {
        // Whoever watched has seen it.
        OutputFormat::Text if watch => {}
        OutputFormat::Text => session.printer.line(&text(name, &report))?,
        OutputFormat::Json => session
            .printer
            .document("status", Some(name), report.healthy, &report)?,
    }
    Ok(if report.healthy {
        0
    } else {
        ErrorKind::Unhealthy.exit_code()
    })
}

/// Shows how the environment stands each time that has changed, until the user stops it; returns how it stood last.
async fn follow(session: &Session, name: &str, context: &mut Context) -> Result<StatusReport> {
    let printer = &session.printer;
    let cancellation = context.cancellation.clone();
    let mut shown = None;
    loop {
        let report = status(context).await?;
        let told = match printer.format {
            OutputFormat::Text => text(name, &report),
            OutputFormat::Json => event(&report)?,
        };
        if shown.as_ref() != Some(&told) {
            if printer.format == OutputFormat::Text && std::io::stdout().is_terminal() {
                // As `watch` does: from the top of an empty screen.
                printer.line(&format!("\u{1b}[H\u{1b}[2J{told}"))?;
            } else if printer.format == OutputFormat::Text && shown.is_some() {
                printer.line(&format!("\n{told}"))?;
            } else {
                printer.line(&told)?;
            }
            shown = Some(told);
        }
        tokio::select! {
            () = cancellation.cancelled() => return Ok(report),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// The report as a line among events.
fn event(report: &StatusReport) -> Result<String> {
    let mut line = serde_json::to_value(report)
        .map_err(|error| Error::failed("cannot serialise the report").cause(error.to_string()))?;
    line["event"] = json!("status");
    Ok(line.to_string())
}

/// The report for people.
fn text(name: &str, report: &StatusReport) -> String {
    let cluster = &report.cluster;
    // What was not asked is not told as missing.
    let asked = report.sandbox.is_empty() || cluster.state != "unknown";
    let mut rows = vec![vec![
        "cluster".to_owned(),
        format!(
            "{} {} {}",
            cluster.name,
            cluster.state,
            cluster.version.as_deref().unwrap_or_default()
        )
        .trim_end()
        .to_owned(),
    ]];
    if let Some(endpoint) = &cluster.endpoint {
        rows.push(vec![String::new(), endpoint.clone()]);
    }
    if let Some(problem) = &cluster.problem {
        rows.push(vec![String::new(), problem.clone()]);
    }
    let none = if asked { "none" } else { "unknown" };
    let credentials = &report.credentials;
    let made = |since: &str, days: Option<i64>| format!("made {since}, {}", days_old(days.unwrap_or_default()));
    rows.push(vec![
        "password".into(),
        credentials
            .password_since
            .as_ref()
            .map_or_else(|| none.into(), |since| made(since, credentials.password_age_days)),
    ]);
    if let Some(since) = &credentials.password_pending_since {
        rows.push(vec![
            String::new(),
            format!("a rotation is unfinished since {since}: mfsre rotate argocd-password {name}"),
        ]);
    }
    let registered = match credentials.deploy_key_registered {
        Some(true) => " registered",
        Some(false) => " NOT registered with the git host",
        None => "",
    };
    rows.push(vec![
        "deploy key".into(),
        credentials
            .deploy_key
            .as_ref()
            .map_or_else(|| none.into(), |k| format!("{k}{registered}")),
    ]);
    if let Some(problem) = &credentials.deploy_key_problem {
        rows.push(vec![
            String::new(),
            format!("whether the git host knows it is unknown: {problem}"),
        ]);
    }
    if let Some(since) = &credentials.deploy_key_since {
        rows.push(vec![String::new(), made(since, credentials.deploy_key_age_days)]);
    }
    if let (Some(key), Some(since)) = (&credentials.deploy_key_pending, &credentials.deploy_key_pending_since) {
        rows.push(vec![
            String::new(),
            format!("a rotation to {key} is unfinished since {since}: mfsre rotate deploy-key {name}"),
        ]);
    }
    if let Some(at_work) = &report.at_work {
        let who = format!("mfsre {} of {}", at_work.command, at_work.user);
        rows.push(vec!["at work".into(), who]);
        rows.push(vec![
            String::new(),
            format!("at {} since {}", at_work.at, at_work.since),
        ]);
    }
    if let Some(url) = &report.argocd_url {
        rows.push(vec!["Argo CD".into(), url.clone()]);
    }
    for part in &report.sandbox {
        rows.push(vec!["sandbox".into(), part.clone()]);
    }
    let mut text = table(&rows, 0);
    if !report.applications.is_empty() {
        let mut apps = vec![vec![
            "APPLICATION".to_owned(),
            "SYNC".into(),
            "HEALTH".into(),
            "REVISION".into(),
        ]];
        for a in &report.applications {
            apps.push(vec![
                a.name.clone(),
                a.sync.clone(),
                a.health.clone(),
                a.revision.chars().take(10).collect(),
            ]);
        }
        let _ = write!(text, "\n{}", table(&apps, 0));
        for a in report.applications.iter().filter(|a| !a.is_ready()) {
            for reason in &a.reasons {
                let _ = writeln!(text, "{}: {reason}", a.name);
            }
        }
    }
    if !asked {
        let _ = writeln!(text, "\n{}", way_out(name, &report.sandbox));
    }
    let _ = writeln!(
        text,
        "\n{name} is {}",
        if report.healthy { "healthy" } else { "not healthy" }
    );
    text.truncate(text.trim_end().len());
    text
}

/// What to do about a sandbox behind which nothing can be asked.
fn way_out(name: &str, sandbox: &[String]) -> String {
    if sandbox.iter().any(|part| part == "not running") {
        return format!("`mfsre up {name}` starts it");
    }
    format!(
        "`mfsre sandbox status {name}` has the ends of the logs; `mfsre sandbox stop {name}` ends the platform and forgets everything on it, and `mfsre up {name}` starts it anew"
    )
}
