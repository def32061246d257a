use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::Session;
use crate::error::{Error, Result};
use crate::model::human_duration;
use crate::ops::down;

pub(super) async fn run(session: &Session, name: &str, yes: bool, purge: bool, timeout: Duration) -> Result<u8> {
    let started = Instant::now();
    let mut context = session.context(name, |options| {
        options.purge = purge;
        options.timeout = timeout;
    })?;
    if session.printer.verbosity >= 0 && session.printer.format == crate::ui::OutputFormat::Text {
        session
            .printer
            .diagnostic(&format!("\nmfsre down {name} · {}\n\n", context.environment.region));
    }
    let summary = down(&mut context, yes).await?;
    let mut text = String::new();
    if summary.was_there {
        let _ = writeln!(text, "\n{name} is down in {}", human_duration(started.elapsed()));
    } else {
        let _ = writeln!(text, "\n{name} is down already; nothing had to be removed");
    }
    let left = summary.aws.len() + summary.cluster.len();
    let _ = writeln!(
        text,
        "  left on AWS: {}",
        if summary.aws.is_empty() { "nothing" } else { "" }
    );
    for leftover in &summary.aws {
        let _ = writeln!(text, "    {} {}", leftover.kind, leftover.id);
    }
    let _ = writeln!(
        text,
        "  left in the cluster: {}",
        if summary.cluster.is_empty() { "nothing" } else { "" }
    );
    for leftover in &summary.cluster {
        let _ = writeln!(text, "    {leftover}");
    }
    for scheduled in &summary.scheduled {
        let _ = writeln!(text, "  removed later by AWS: {scheduled}");
    }
    if summary.sandbox_stopped {
        let _ = writeln!(text, "  the local platform was stopped; no process is left");
    }
    session.printer.result("down", Some(name), &text, &summary)?;
    if left > 0 {
        return Err(Error::failed(format!("{left} things of {name} are left"))
            .hint("remove them by hand, or find out what keeps them, then run the same command again"));
    }
    Ok(0)
}
