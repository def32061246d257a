use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{OutputFormat, Printer};
use crate::model::human_duration;
use crate::workflow::{Event, Outcome, Reporter};

/// On a terminal that is not live, how often a step that takes long says that it is still at work.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Width of a step's description.
const WIDTH: usize = 54;

/// Shows an operation as it happens: a live line on a terminal, a line a step elsewhere, a JSON line an event for
/// programs.
pub struct Console {
    printer: Printer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bar: Option<ProgressBar>,
    describe: String,
    last_said: Option<Instant>,
}

impl Console {
    /// Shows through `printer`.
    #[must_use]
    pub fn new(printer: Printer) -> Self {
        Self {
            printer,
            state: Mutex::default(),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.printer.color_stderr() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// Prints a line that stays, above the live one.
    fn stay(&self, state: &State, line: &str) {
        match &state.bar {
            Some(bar) => bar.println(line),
            None => self.printer.diagnostic(&format!("{line}\n")),
        }
    }

    fn start(&self, state: &mut State, describe: &str) {
        describe.clone_into(&mut state.describe);
        state.last_said = Some(Instant::now());
        if self.printer.is_live() {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("  {spinner:.cyan} {prefix} {wide_msg}") {
                bar.set_style(style.tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "]));
            }
            bar.set_prefix(pad(describe));
            bar.enable_steady_tick(Duration::from_millis(90));
            state.bar = Some(bar);
        }
    }

    fn progress(&self, state: &mut State, message: &str, done: Option<u64>, total: Option<u64>) {
        let count = match (done, total) {
            (Some(done), Some(total)) => format!("{done}/{total}  "),
            _ => String::new(),
        };
        if let Some(bar) = &state.bar {
            bar.set_message(format!("{count}{message}"));
        } else if self.printer.verbosity > 0 || state.last_said.is_some_and(|t| t.elapsed() > HEARTBEAT) {
            self.printer
                .diagnostic(&format!("  · {} {count}{message}\n", pad(&state.describe)));
            state.last_said = Some(Instant::now());
        }
    }

    fn finish(&self, state: &mut State, mark: &str, detail: &str, elapsed: Duration) {
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        let time = if elapsed < Duration::from_millis(50) {
            String::new()
        } else {
            human_duration(elapsed)
        };
        let line = format!("  {mark} {} {detail}  {}", pad(&state.describe), self.paint("2", &time));
        self.printer.diagnostic(&format!("{}\n", line.trim_end()));
    }
}

fn pad(text: &str) -> String {
    let length = text.chars().count();
    format!("{text}{}", " ".repeat(WIDTH.saturating_sub(length)))
}

impl Reporter for Console {
    fn report(&self, event: Event) {
        if self.printer.format == OutputFormat::Json {
            if let Ok(line) = serde_json::to_string(&event) {
                // A closed pipe is noticed when the document is printed.
                let _ = self.printer.line(&line);
            }
            return;
        }
        let Ok(mut state) = self.state.lock() else { return };
        if self.printer.verbosity < 0 && !matches!(event, Event::Warning { .. }) {
            return;
        }
        match event {
            Event::StepStarted { describe, .. } => self.start(&mut state, &describe),
            Event::StepProgress {
                message, done, total, ..
            } => self.progress(&mut state, &message, done, total),
            Event::StepFinished {
                outcome,
                detail,
                elapsed,
                ..
            } => {
                let mark = match outcome {
                    Outcome::Changed => self.paint("1;32", "✔"),
                    Outcome::Unchanged => self.paint("32", "✔"),
                    Outcome::Skipped => self.paint("33", "-"),
                };
                self.finish(&mut state, &mark, &detail, elapsed);
            }
            Event::StepFailed { elapsed, .. } => {
                let mark = self.paint("1;31", "✘");
                self.finish(&mut state, &mark, "", elapsed);
            }
            Event::Note { message } => self.stay(&state, &format!("    {message}")),
            Event::Warning { message } => {
                let line = format!(
                    "  {} {}",
                    self.paint("1;33", "warning:"),
                    message.replace('\n', "\n    ")
                );
                self.stay(&state, &line);
            }
        }
    }
}

impl Console {
    /// Makes room for a question.
    pub fn suspend<T>(&self, ask: impl FnOnce() -> T) -> T {
        let bar = self.state.lock().ok().and_then(|s| s.bar.clone());
        match bar {
            Some(bar) => bar.suspend(ask),
            None => ask(),
        }
    }
}
