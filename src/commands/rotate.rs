use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::Session;
use crate::error::Result;
use crate::model::human_duration;
use crate::ops::{Credential, RotateOptions, RotationOutcome, rotate};
use crate::ui::{OutputFormat, table};

pub(super) async fn run(
    session: &Session,
    credential: Credential,
    name: &str,
    options: RotateOptions,
    timeout: Duration,
) -> Result<u8> {
    let started = Instant::now();
    let mut context = session.context(name, |chosen| chosen.timeout = timeout)?;
    let what = credential.name();
    if session.printer.verbosity >= 0 && session.printer.format == OutputFormat::Text {
        let place = context.environment.place();
        session
            .printer
            .diagnostic(&format!("\nmfsre rotate {what} {name} · {place}\n\n"));
    }
    let summary = rotate(&mut context, credential, options).await?;
    let old = days_old(summary.found_age_days);
    let mut text = String::new();
    match summary.outcome {
        RotationOutcome::NotDue => {
            let limit = options.if_older_than.unwrap_or_default();
            let _ = writeln!(
                text,
                "the {what} of {name} is {old}, nothing to do before {}",
                span(limit)
            );
        }
        RotationOutcome::Planned => {
            let _ = writeln!(
                text,
                "the {what} of {name} is {old}; nothing was changed. A rotation would:\n"
            );
            let rows: Vec<Vec<String>> = summary
                .steps
                .iter()
                .map(|step| {
                    let would = match step.would {
                        "run" => String::new(),
                        "nothing" => format!("nothing to do: {}", step.detail),
                        _ => format!("left out: {}", step.detail),
                    };
                    vec![step.step.to_owned(), step.describe.clone(), would]
                })
                .collect();
            text.push_str(&table(&rows, 2));
        }
        RotationOutcome::Rotated => {
            let took = human_duration(started.elapsed());
            let _ = writeln!(
                text,
                "\nthe {what} of {name} is a new one ({took}); the old one was {old}"
            );
            if summary.adopted {
                let _ = writeln!(text, "  a rotation that had been begun was finished");
            }
            if let Some(fingerprint) = &summary.fingerprint {
                let _ = writeln!(text, "  now     {fingerprint}");
            }
            if let Some(fingerprint) = &summary.former_fingerprint {
                let _ = writeln!(text, "  before  {fingerprint}");
            }
            if credential == Credential::ArgocdPassword {
                let _ = writeln!(text, "  show    mfsre secrets show argocd-password {name}");
            }
        }
    }
    session.printer.result("rotate", Some(name), &text, &summary)?;
    Ok(0)
}

/// An age as a person says it.
pub(super) fn days_old(days: i64) -> String {
    match days {
        0 => "less than a day old".into(),
        1 => "1 day old".into(),
        days => format!("{days} days old"),
    }
}

/// A span as it was asked for, in the largest unit that it is a whole number of.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        s if s > 0 && s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s > 0 && s % 3600 == 0 => format!("{}h", s / 3600),
        s if s > 0 && s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}
