//! Programs that are started again when they end by themselves.
//!
//! What they know is in files or in other programs: etcd's data is on disk, everything else keeps its own there or can
//! lose it. So one that crashes comes back on the same port with the same files, and the others find it again.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::launcher::{Launcher, Program, Running};
use super::probes::Readiness;
use crate::services::Shutdown;
use crate::{Error, Health};

/// A program that ends once more after so many restarts within [`WINDOW`] is given up.
const RESTARTS: usize = 5;
const WINDOW: Duration = Duration::from_mins(1);
/// The pause before the second restart within [`WINDOW`]; it doubles with each further one. The first comes at once.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a program is asked whether it answers.
const PERIOD: Duration = Duration::from_millis(50);

/// Keeps programs running until the shutdown.
#[derive(Debug)]
pub(crate) struct Keeper {
    launcher: Arc<Launcher>,
    stopping: Shutdown,
    watches: Mutex<JoinSet<()>>,
}

impl Keeper {
    pub(crate) fn new(launcher: Arc<Launcher>, stopping: Shutdown) -> Self {
        Self {
            launcher,
            stopping,
            watches: Mutex::default(),
        }
    }

    /// Starts a program and waits until it answers; from then on it is started again whenever it ends.
    pub(crate) async fn launch_ready(&self, program: Program, readiness: Readiness) -> Result<(), Error> {
        let running = self.launcher.launch_ready(program.clone(), &readiness).await?;
        let kept = Kept {
            launcher: Arc::clone(&self.launcher),
            program,
            readiness,
        };
        let mut stopping = self.stopping.clone();
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.spawn(async move { kept.watch(running, &mut stopping).await });
        Ok(())
    }

    /// Returns once nothing is started again any more, which is soon after the shutdown.
    pub(crate) async fn ended(&self) {
        let watches = std::mem::take(&mut *self.watches.lock().unwrap_or_else(PoisonError::into_inner));
        watches.join_all().await;
    }
}

/// One program that is kept running.
#[derive(Debug)]
struct Kept {
    launcher: Arc<Launcher>,
    program: Program,
    readiness: Readiness,
}

impl Kept {
    async fn watch(&self, mut running: Running, stopping: &mut Shutdown) {
        let mut restarts = VecDeque::new();
        loop {
            let Some(exit) = unless(stopping, running.end_of_itself()).await else {
                return;
            };
            restarts.retain(|at: &Instant| at.elapsed() < WINDOW);
            if restarts.len() == RESTARTS {
                self.give_up(&running, &exit);
                return;
            }
            let pause = match restarts.len() {
                0 => Duration::ZERO,
                before => PAUSE.saturating_mul(1 << (before - 1)),
            };
            if unless(stopping, tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            restarts.push_back(Instant::now());
            self.launcher
                .board()
                .part(&self.program.part, |part| part.restarts += 1);
            // To be cut off here would leave a process that nobody knows.
            match self.launcher.launch(self.program.clone()).await {
                Ok(next) => {
                    note(running.log(), &format!("it ended with {exit} and was started again"));
                    running = next;
                    unless(stopping, self.answers(&running)).await;
                }
                // The old one has still ended, so it is tried again as long as there are restarts left.
                Err(error) => note(running.log(), &error.to_string()),
            }
        }
    }

    /// Waits until the program answers or has ended.
    async fn answers(&self, running: &Running) {
        while running.ended().is_none() {
            if self.readiness.is_given().await {
                running.answered(self.launcher.board());
                return;
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    fn give_up(&self, running: &Running, exit: &str) {
        let within = WINDOW.as_secs();
        let exit = format!("{exit}, after {RESTARTS} restarts within {within} s; it is not started again");
        note(running.log(), &format!("it ended with {exit}"));
        self.launcher.board().part(&self.program.part, |part| {
            let log_tail = crate::files::tail(running.log(), 10);
            part.health = Health::Crashed {
                exit,
                log_tail,
                restarting: false,
            };
        });
    }
}

/// What `work` comes to; nothing where the shutdown comes first.
async fn unless<T>(stopping: &mut Shutdown, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        _ = stopping.wait_for(|stop| *stop) => None,
        done = work => Some(done),
    }
}

/// Adds a line to a part's log. Where that cannot be done, the status still tells.
fn note(log: &Path, text: &str) {
    let line = format!("{} mfsre sandbox: {text}\n", Timestamp::now());
    let _ = OpenOptions::new()
        .append(true)
        .open(log)
        .and_then(|mut file| file.write_all(line.as_bytes()));
}
