use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{OutputFormat, Printer};
use crate::model::human_duration;
use crate::workflow::{Event, Outcome, Reporter};

/// On a terminal that is not live, how often a step that takes long says that it is still at work.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Width of a step's description.
const WIDTH: usize = 54;
/// Most lines below that of a step; a terminal has 24.
const MOST_ROWS: usize = 12;

/// Shows an operation as it happens: live lines on a terminal, a line a step elsewhere, a JSON line an event for
/// programs.
pub struct Console {
    printer: Printer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
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

    /// Shows a question in place of the live display; [`Self::answered`] brings it back.
    pub fn ask(&self, question: &str) {
        let Ok(mut state) = self.state.lock() else { return };
        if let Some(live) = state.live.take() {
            live.clear();
        }
        self.printer.diagnostic(&format!("  ? {question} [y/N] "));
    }

    /// Goes on after a question. Whoever answered with Enter has ended the line (`line_ended`).
    pub fn answered(&self, line_ended: bool) {
        if !line_ended {
            self.printer.diagnostic("\n");
        }
        let Ok(mut state) = self.state.lock() else { return };
        if self.printer.is_live() {
            state.live = Live::start(&state.describe);
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.printer.color_stderr() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// Prints a line that stays, above the live ones.
    fn stay(&self, state: &State, line: &str) {
        match &state.live {
            Some(live) => live.println(line),
            None => self.printer.diagnostic(&format!("{line}\n")),
        }
    }

    fn start(&self, state: &mut State, describe: &str) {
        describe.clone_into(&mut state.describe);
        state.last_said = Some(Instant::now());
        if self.printer.is_live() {
            state.live = Live::start(describe);
        }
    }

    fn progress(&self, state: &mut State, message: &str, count: Option<(u64, u64)>) {
        if let Some(live) = &mut state.live {
            live.update(message, count);
        } else if self.printer.verbosity > 0 || state.last_said.is_some_and(|t| t.elapsed() > HEARTBEAT) {
            let count = count.map_or_else(String::new, |(done, total)| format!("{done}/{total}  "));
            self.printer.diagnostic(&format!(
                "  · {} {count}{}\n",
                pad(&state.describe),
                message.replace('\n', " · ")
            ));
            state.last_said = Some(Instant::now());
        }
    }

    fn finish(&self, state: &mut State, mark: &str, detail: &str, elapsed: Duration) {
        if let Some(live) = state.live.take() {
            live.clear();
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

/// What moves at the bottom of a terminal: a line for the step, with a bar where it counts, and below it a line for each
/// thing that is at work. Each is cut at the terminal's width, so that none ever takes two.
struct Live {
    all: MultiProgress,
    step: ProgressBar,
    rows: Vec<ProgressBar>,
}

impl Live {
    /// `None` where a template is wrong, which a test would show.
    fn start(describe: &str) -> Option<Self> {
        let all = MultiProgress::new();
        let step = all.add(ProgressBar::new_spinner());
        step.set_style(style("  {spinner:.cyan} {prefix} {wide_msg}")?);
        step.set_prefix(describe.to_owned());
        step.enable_steady_tick(Duration::from_millis(90));
        Some(Self {
            all,
            step,
            rows: Vec::new(),
        })
    }

    fn update(&mut self, message: &str, count: Option<(u64, u64)>) {
        let mut lines: Vec<String> = message.lines().map(str::to_owned).collect();
        // Behind a bar there is no room in 80 columns.
        if let Some((done, total)) = count {
            if self.step.length().is_none()
                && let Some(style) = style("  {spinner:.cyan} {prefix} {bar:20.cyan} {pos}/{len}")
            {
                self.step.set_style(style);
            }
            self.step.set_length(total);
            self.step.set_position(done);
        } else {
            let only = if lines.len() == 1 { lines.pop() } else { None };
            self.step.set_message(only.unwrap_or_default());
        }
        if lines.len() > MOST_ROWS {
            let more = lines.len() - (MOST_ROWS - 1);
            lines.truncate(MOST_ROWS - 1);
            lines.push(format!("and {more} more"));
        }
        while self.rows.len() > lines.len() {
            if let Some(row) = self.rows.pop() {
                row.finish_and_clear();
                self.all.remove(&row);
            }
        }
        while self.rows.len() < lines.len() {
            let Some(style) = style("    {wide_msg}") else { return };
            let row = self.all.add(ProgressBar::new_spinner());
            row.set_style(style);
            self.rows.push(row);
        }
        for (row, line) in self.rows.iter().zip(lines) {
            row.set_message(line);
        }
    }

    fn println(&self, line: &str) {
        // With standard error closed there is nowhere left to say so.
        let _ = self.all.println(line);
    }

    fn clear(self) {
        for row in &self.rows {
            row.finish_and_clear();
        }
        self.step.finish_and_clear();
        let _ = self.all.clear();
    }
}

fn style(template: &str) -> Option<ProgressStyle> {
    let style = ProgressStyle::with_template(template).ok()?;
    let spinner = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "];
    Some(style.tick_strings(&spinner).progress_chars("━╸┄"))
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
            } => self.progress(&mut state, &message, done.zip(total)),
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
