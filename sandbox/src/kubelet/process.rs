//! One process that is kept running, as a kubelet keeps a container.

use std::time::{Duration, Instant};

use crate::supervisor::launcher::Running;
use crate::supervisor::state::Board;
use crate::{Error, Health};

/// The first and the longest pause before a restart, as a kubelet's but shorter.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A process and its history. What it is to run is its owner's affair.
#[derive(Debug)]
pub(super) struct Process {
    part: String,
    running: Option<Running>,
    answers: bool,
    restarts: u32,
    not_before: Option<Instant>,
    problem: Option<String>,
}

impl Process {
    /// A process that was not started yet, of the part of that name.
    pub(super) fn new(part: impl Into<String>) -> Self {
        Self {
            part: part.into(),
            running: None,
            answers: false,
            restarts: 0,
            not_before: None,
            problem: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether it has answered since it was started.
    pub(super) fn answers(&self) -> bool {
        self.answers
    }

    /// How often it has ended by itself.
    pub(super) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Why it does not run, where that is known.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether it does not run and the pause after its last end is over.
    pub(super) fn is_due(&self) -> bool {
        self.running.is_none() && self.not_before.is_none_or(|time| time <= Instant::now())
    }

    /// Takes note of an attempt to start it.
    pub(super) fn started(&mut self, attempt: Result<Running, Error>, board: &Board) {
        match attempt {
            Ok(running) => {
                self.running = Some(running);
                self.problem = None;
            }
            Err(error) => {
                // As a kubelet would show an event; a Secret or ConfigMap may still be on its way.
                self.not_before = Some(Instant::now() + PAUSE.0);
                self.problem = Some(format!("not started: {error}"));
                board.part(&self.part, |part| {
                    part.health = Health::Crashed {
                        exit: format!("not started: {error}"),
                        log_tail: String::new(),
                        restarting: true,
                    };
                });
            }
        }
    }

    /// Takes note of its end, if it has ended; it may start again after a pause that grows from time to time.
    pub(super) fn notice_end(&mut self, board: &Board) {
        let Some(exit) = self.running.as_ref().and_then(Running::ended) else {
            return;
        };
        self.running = None;
        self.answers = false;
        self.restarts += 1;
        self.problem = Some(format!("ended with {exit}"));
        let pause = PAUSE.0.saturating_mul(1 << self.restarts.min(6)).min(PAUSE.1);
        self.not_before = Some(Instant::now() + pause);
        board.part(&self.part, |part| part.restarts = self.restarts);
    }

    /// Takes note that it answers.
    pub(super) fn answered(&mut self, board: &Board) {
        self.answers = true;
        if let Some(running) = &self.running {
            running.answered(board);
        }
    }

    /// Asks it to end, and kills it after `grace`. Started again, it is a new process with no history.
    pub(super) async fn stop(&mut self, grace: Duration) {
        if let Some(running) = self.running.take() {
            running.end(grace).await;
        }
        *self = Self::new(std::mem::take(&mut self.part));
    }
}
