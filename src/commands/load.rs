use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Session;
use crate::error::{Error, Result};
use crate::model::human_duration;
use crate::ops::{Delays, LoadOptions, LoadView, Sample, Scaling, load};
use crate::ui::{OutputFormat, Printer, table};

/// Without a live view, how often there is a line.
const LINE: f64 = 5.0;

pub(super) async fn run(session: &Session, name: &str, options: LoadOptions) -> Result<u8> {
    let mut context = session.context(name, |_| {})?;
    let mut view: Box<dyn LoadView> = if session.printer.format == OutputFormat::Json {
        Box::new(JsonLines(session.printer.clone()))
    } else if session.printer.is_live() {
        Box::new(Live::new(name, options))
    } else {
        Box::new(Lines {
            printer: session.printer.clone(),
            next: 0.0,
        })
    };
    let summary = load(&mut context, options, view.as_mut()).await?;
    // A live view makes room for what follows.
    drop(view);
    let last = &summary.last;
    let requests = &last.requests;
    let rows = [
        (
            "requests",
            format!(
                "{} sent in {}, {} answered, {} failed, {} withheld; the slowest answer took {} ms",
                requests.sent,
                seconds(last.elapsed),
                requests.answered,
                requests.failed,
                requests.withheld,
                requests.slowest_ms
            ),
        ),
        ("metric", metric(&last.scaling)),
        (
            "replicas",
            format!(
                "{} before, {} now, at most {} wanted",
                summary.replicas_before, last.scaling.replicas, summary.most_desired
            ),
        ),
        ("delay", delays(&last.delays)),
    ];
    let text = table(&rows.map(|(title, text)| vec![title.to_owned(), text]), 2);
    session.printer.result("sandbox load", Some(name), &text, &summary)?;
    Ok(0)
}

/// One JSON object a sample.
struct JsonLines(Printer);

impl LoadView for JsonLines {
    fn show(&mut self, sample: &Sample) -> Result<()> {
        let mut line = serde_json::to_value(sample)
            .map_err(|error| Error::failed("cannot serialise a sample").cause(error.to_string()))?;
        line["event"] = json!("load");
        self.0.line(&line.to_string())
    }
}

/// A line now and then.
struct Lines {
    printer: Printer,
    next: f64,
}

impl LoadView for Lines {
    fn show(&mut self, sample: &Sample) -> Result<()> {
        if sample.elapsed >= self.next && self.printer.verbosity >= 0 {
            self.next = sample.elapsed + LINE - 0.5;
            self.printer.diagnostic(&format!(
                "  {:>6}  {:5.1}/s sent, {} failed  metric {}  {}\n",
                seconds(sample.elapsed),
                sample.rate,
                sample.requests.failed,
                metric(&sample.scaling),
                replicas(&sample.scaling)
            ));
        }
        Ok(())
    }
}

/// A view on a terminal that is drawn again and again.
struct Live {
    bar: ProgressBar,
    title: String,
}

impl Live {
    fn new(name: &str, options: LoadOptions) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        let time = options
            .duration
            .map_or_else(String::new, |duration| format!(" for {}", human_duration(duration)));
        Self {
            bar,
            title: format!(
                "mfsre sandbox load {name} · {} requests/s to main-service{time} · Ctrl-C ends it",
                options.rate
            ),
        }
    }
}

impl LoadView for Live {
    fn show(&mut self, sample: &Sample) -> Result<()> {
        let requests = &sample.requests;
        let rows = [
            ("time", seconds(sample.elapsed)),
            (
                "requests",
                format!(
                    "{:.1}/s, {} sent, {} failed, {} withheld",
                    sample.rate, requests.sent, requests.failed, requests.withheld
                ),
            ),
            ("metric", metric(&sample.scaling)),
            ("replicas", replicas(&sample.scaling)),
            ("delay", delays(&sample.delays)),
        ];
        let text = table(&rows.map(|(title, text)| vec![title.to_owned(), text]), 2);
        self.bar.set_message(format!("\n  {}\n\n{text}", self.title));
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish();
    }
}

fn metric(scaling: &Scaling) -> String {
    match (scaling.metric, &scaling.holds) {
        (Some(metric), _) => format!("{metric:.1} requests/s"),
        (None, Some(holds)) => format!("none ({holds})"),
        (None, None) => "none".to_owned(),
    }
}

fn replicas(scaling: &Scaling) -> String {
    format!(
        "{} wanted, {} there, {} ready",
        scaling.desired, scaling.replicas, scaling.ready
    )
}

/// When each link saw the load, as far as they have.
fn delays(delays: &Delays) -> String {
    let links = [
        ("counted", delays.counted),
        ("polled", delays.polled),
        ("scraped", delays.scraped),
        ("served", delays.served),
        ("decided", delays.decided),
    ];
    let mut text = String::new();
    for (link, after) in links {
        let Some(after) = after else { break };
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{link} after {after:.1}s");
    }
    if text.is_empty() {
        "no link has seen the load yet".to_owned()
    } else {
        text
    }
}

fn seconds(seconds: f64) -> String {
    human_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_told_as_far_as_they_are_known() {
        assert_eq!(delays(&Delays::default()), "no link has seen the load yet");
        let some = Delays {
            counted: Some(0.04),
            polled: Some(3.26),
            ..Delays::default()
        };
        assert_eq!(delays(&some), "counted after 0.0s, polled after 3.3s");
    }

    #[test]
    fn a_missing_metric_is_told_with_the_autoscalers_reason() {
        let scaling = Scaling {
            holds: Some("FailedGetExternalMetric: no metrics returned".to_owned()),
            ..Scaling::default()
        };
        assert_eq!(metric(&scaling), "none (FailedGetExternalMetric: no metrics returned)");
        assert_eq!(
            metric(&Scaling {
                metric: Some(36.97),
                ..scaling
            }),
            "37.0 requests/s"
        );
    }
}
