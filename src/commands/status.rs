use std::fmt::Write as _;

use super::Session;
use super::rotate::days_old;
use crate::error::{ErrorKind, Result};
use crate::ops::status;
use crate::ui::{OutputFormat, table};

pub(super) async fn run(session: &Session, name: &str) -> Result<u8> {
    let mut context = session.context(name, |_| {})?;
    let report = status(&mut context).await?;
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
    match session.printer.format {
        OutputFormat::Text => session.printer.line(text.trim_end())?,
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

/// What to do about a sandbox behind which nothing can be asked.
fn way_out(name: &str, sandbox: &[String]) -> String {
    if sandbox.iter().any(|part| part == "not running") {
        return format!("`mfsre up {name}` starts it");
    }
    format!(
        "`mfsre sandbox status {name}` has the ends of the logs; `mfsre sandbox stop {name}` ends the platform and forgets everything on it, and `mfsre up {name}` starts it anew"
    )
}
