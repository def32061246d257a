use std::fmt::Write as _;
use std::time::Instant;

use super::Session;
use crate::error::Result;
use crate::model::human_duration;
use crate::ops::{Options, up};
use crate::text::counted;
use crate::ui::table;

pub(super) async fn run(session: &Session, name: &str, yes: bool, options: impl FnOnce(&mut Options)) -> Result<u8> {
    let started = Instant::now();
    let mut context = session.context(name, options)?;
    let sandbox = context.environment.is_sandbox();
    if session.printer.verbosity >= 0 && session.printer.format == crate::ui::OutputFormat::Text {
        let place = context.environment.place();
        session.printer.diagnostic(&format!(
            "\nmfsre up {name} · {place} · {}\n\n",
            context.environment.argocd_repository_url
        ));
    }
    let summary = up(&mut context, yes).await?;
    let mut text = String::new();
    let took = human_duration(started.elapsed());
    if summary.changed == 0 {
        let _ = writeln!(text, "\n{name} is up; nothing had to be changed ({took})");
    } else {
        let _ = writeln!(text, "\n{name} is up in {took}");
    }
    let mut rows = Vec::new();
    if summary.created > 0 {
        let applications = summary.applications.len();
        rows.push(vec![
            "created".into(),
            format!(
                "{}, Argo CD, {}",
                counted(summary.created, "AWS resource"),
                counted(applications, "Application")
            ),
        ]);
    }
    rows.push(vec![
        "Argo CD".to_owned(),
        match &summary.argocd_url {
            Some(url) if summary.argocd_pages => format!("{url}   user admin"),
            Some(url) => format!("{url}   user admin (API only: this build has no web pages)"),
            None => {
                "kubectl -n argocd port-forward svc/argocd-server 8080:443, then https://localhost:8080   user admin"
                    .to_owned()
            }
        },
    ]);
    rows.push(vec![
        "password".into(),
        format!("mfsre secrets show argocd-password {name}"),
    ]);
    rows.push(vec![
        "kubectl".into(),
        format!("export KUBECONFIG={}", summary.kubeconfig.display()),
    ]);
    rows.push(vec![
        String::new(),
        format!("or mfsre kubeconfig {name}, which merges it into your own"),
    ]);
    if let Some(url) = &summary.aws_endpoint_url {
        rows.push(vec!["AWS".into(), format!("{url} (emulated)")]);
    }
    for (i, application) in summary.applications.iter().enumerate() {
        let title = if i == 0 { "apps" } else { "" };
        rows.push(vec![
            title.into(),
            format!("{:24} {} {}", application.name, application.sync, application.health),
        ]);
    }
    if !summary.left_out.is_empty() {
        rows.push(vec![
            "left out".into(),
            format!("{} (their charts lie on the internet)", summary.left_out.join(", ")),
        ]);
    }
    rows.push(vec![
        "look".into(),
        format!(
            "mfsre status {name}{}",
            if sandbox {
                format!(" · mfsre sandbox status {name}")
            } else {
                String::new()
            }
        ),
    ]);
    rows.push(vec!["take down".into(), format!("mfsre down {name}")]);
    text.push_str(&table(&rows, 2));
    session.printer.result("up", Some(name), &text, &summary)?;
    Ok(0)
}
