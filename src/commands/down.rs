use std::fmt::Write as _;
use std::time::Instant;

use super::Session;
use crate::aws::Leftover;
use crate::error::{Error, Result};
use crate::model::human_duration;
use crate::ops::{DownSummary, Options, down};
use crate::ui::OutputFormat;

pub(super) async fn run(session: &Session, name: &str, yes: bool, options: impl FnOnce(&mut Options)) -> Result<u8> {
    let started = Instant::now();
    let mut context = session.context(name, options)?;
    if session.printer.verbosity >= 0 && session.printer.format == OutputFormat::Text {
        let place = context.environment.place();
        session
            .printer
            .diagnostic(&format!("\nmfsre down {name} · {place}\n\n"));
    }
    let summary = down(&mut context, yes).await?;
    let mut text = String::new();
    let _ = match (summary.was_there, summary.clean) {
        (true, true) => writeln!(text, "\n{name} is down in {}", human_duration(started.elapsed())),
        (false, true) => writeln!(text, "\n{name} is down already; nothing had to be removed"),
        (true, false) => writeln!(text, "\n{name} is down but for what is left"),
        (false, false) => writeln!(text, "\nnothing of {name} was removed"),
    };
    tell_aws(&mut text, &summary);
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
    if summary.clean {
        session.printer.result("down", Some(name), &text, &summary)?;
        return Ok(0);
    }
    let error = not_clean(name, &summary);
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

fn tell_aws(text: &mut String, summary: &DownSummary) {
    let mut tell = |heading: &str, found: &[Leftover]| {
        if !found.is_empty() {
            let _ = writeln!(text, "  {heading}");
        }
        for leftover in found {
            let why = match leftover.why.as_str() {
                "" => String::new(),
                why => format!(": {why}"),
            };
            let _ = writeln!(text, "    {} {}{why}", leftover.kind, leftover.id);
            if let Some(command) = &leftover.command {
                let _ = writeln!(text, "      {command}");
            }
        }
    };
    tell("removed on AWS, beside what Terraform had made:", &summary.removed);
    tell("kept on AWS:", &summary.kept);
    tell(
        "left alone on AWS, because it is not provably the environment's:",
        &summary.doubtful,
    );
    match summary.aws.as_slice() {
        [] if summary.clean => {
            let _ = writeln!(text, "  left on AWS: nothing");
        }
        [] => {}
        left => tell("left on AWS, in the order in which it can be removed:", left),
    }
    for unseen in &summary.unseen {
        let _ = writeln!(text, "  not seen: {unseen}");
    }
}

fn not_clean(name: &str, summary: &DownSummary) -> Error {
    if summary.aws.is_empty() {
        let mut error = Error::failed(format!("it is not known whether anything of {name} is left on AWS"));
        error.causes.clone_from(&summary.unseen);
        return error
            .hint("allow these calls (aws sts get-caller-identity tells to whom), then run the same command again");
    }
    let count = match summary.aws.len() {
        1 => "1 thing of".to_owned(),
        n => format!("{n} things of"),
    };
    let verb = if summary.aws.len() == 1 { "is" } else { "are" };
    Error::failed(format!("{count} {name} {verb} left on AWS"))
        .hint("where Terraform's state is elsewhere, take it back and run the same command again")
        .hint("else remove them with the commands above, from top to bottom, then run it again")
}
