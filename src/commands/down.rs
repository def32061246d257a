use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::Session;
use crate::error::{Error, Result};
use crate::model::human_duration;
use crate::ops::down;
use crate::ui::OutputFormat;

pub(super) async fn run(session: &Session, name: &str, yes: bool, purge: bool, timeout: Duration) -> Result<u8> {
    let started = Instant::now();
    let mut context = session.context(name, |options| {
        options.purge = purge;
        options.timeout = timeout;
    })?;
    if session.printer.verbosity >= 0 && session.printer.format == OutputFormat::Text {
        let place = context.environment.place();
        session
            .printer
            .diagnostic(&format!("\nmfsre down {name} · {place}\n\n"));
    }
    let summary = down(&mut context, yes).await?;
    let mut text = String::new();
    if summary.was_there {
        let _ = writeln!(text, "\n{name} is down in {}", human_duration(started.elapsed()));
    } else {
        let _ = writeln!(text, "\n{name} is down already; nothing had to be removed");
    }
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
    } else if context.environment.is_sandbox() && summary.was_there {
        let _ = writeln!(
            text,
            "  the local platform still runs; stop it with `mfsre sandbox stop {name}`"
        );
    }
    if summary.aws.is_empty() {
        session.printer.result("down", Some(name), &text, &summary)?;
        return Ok(0);
    }
    let error = Error::failed(format!("{} things of {name} are left on AWS", summary.aws.len()))
        .hint("remove them by hand, or find out what keeps them, then run the same command again");
    match session.printer.format {
        OutputFormat::Text => {
            session.printer.line(text.trim_end())?;
            session
                .printer
                .diagnostic(&error.render(session.printer.color_stderr()));
        }
        OutputFormat::Json => {
            let mut body = serde_json::to_value(&summary)
                .map_err(|e| Error::failed("cannot serialise the result").cause(e.to_string()))?;
            body["error"] = error.to_json();
            session.printer.document("down", Some(name), false, &body)?;
        }
    }
    Ok(error.kind.exit_code())
}
