use std::fmt::Write as _;
use std::time::Instant;

use super::Session;
use crate::error::Result;
use crate::model::human_duration;
use crate::ops::{create_backend, migrate_backend};
use crate::ui::OutputFormat;

pub(super) async fn create(session: &Session, name: &str) -> Result<u8> {
    let mut context = session.context(name, |_| {})?;
    announce(
        session,
        "backend create",
        name,
        &context.environment.backend.to_string(),
    );
    let summary = create_backend(&mut context).await?;
    let text = match summary.changed {
        0 => format!("\n{} is as it should be; nothing had to be changed\n", summary.bucket),
        1 => format!("\n{} is as it should be; 1 thing was changed\n", summary.bucket),
        n => format!("\n{} is as it should be; {n} things were changed\n", summary.bucket),
    };
    session.printer.result("backend create", Some(name), &text, &summary)?;
    Ok(0)
}

pub(super) async fn migrate(session: &Session, name: &str, yes: bool) -> Result<u8> {
    let started = Instant::now();
    let mut context = session.context(name, |_| {})?;
    announce(
        session,
        "backend migrate",
        name,
        &context.environment.backend.to_string(),
    );
    let summary = migrate_backend(&mut context, yes).await?;
    let mut text = String::new();
    let took = human_duration(started.elapsed());
    match &summary.from {
        Some(from) if summary.moved => {
            let _ = writeln!(text, "\nthe state of {name} is in {} now ({took})", summary.to);
            let _ = writeln!(text, "  before     {from}");
        }
        _ => {
            let _ = writeln!(
                text,
                "\nthe state of {name} is in {}; nothing had to be moved",
                summary.to
            );
        }
    }
    let _ = writeln!(text, "  resources  {}", summary.resources);
    for backup in &summary.backups {
        let _ = writeln!(text, "  copy       {}", backup.display());
    }
    let _ = writeln!(text, "  look       mfsre plan {name}");
    session.printer.result("backend migrate", Some(name), &text, &summary)?;
    Ok(0)
}

fn announce(session: &Session, command: &str, name: &str, backend: &str) {
    if session.printer.verbosity >= 0 && session.printer.format == OutputFormat::Text {
        session
            .printer
            .diagnostic(&format!("\nmfsre {command} {name} · {backend}\n\n"));
    }
}
