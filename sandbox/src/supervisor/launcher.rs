//! Starting programs so that they end with the supervisor, and noticing when they end before it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::layout::Layout;
use super::probes::Readiness;
use super::processes::{MARKER, signal_group};
use super::state::Board;
use crate::files::tail;
use crate::{Error, Health};

/// How long a part may take until it answers.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// How long parts may take to end with the sandbox. The API server and etcd would take ten seconds to say goodbye to
/// each other, and what they would still save is thrown away.
const END_LIMIT: Duration = Duration::from_millis(500);

/// A program to run as a part.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub part: String,
    pub executable: PathBuf,
    pub arguments: Vec<String>,
    /// In addition to what every part gets.
    pub environment: Vec<(String, OsString)>,
    /// Whether whoever starts it starts it again when it ends by itself.
    pub restarts: bool,
}

/// Starts programs.
#[derive(Debug)]
pub(crate) struct Launcher {
    /// The executable that offers `sandbox exec`.
    executable: PathBuf,
    layout: Layout,
    board: Arc<Board>,
    spawner: Spawner,
    running: Mutex<Vec<Running>>,
}

/// A program that was started.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    part: String,
    pid: u32,
    log: PathBuf,
    began: Instant,
    /// How it ended, once it did.
    ended: watch::Receiver<Option<String>>,
    /// Whether it is meant to end.
    dismissed: Arc<AtomicBool>,
    /// Whether it is started again when it ends by itself.
    restarts: bool,
}

impl Launcher {
    pub(crate) fn new(layout: Layout, board: Arc<Board>) -> Result<Self, Error> {
        let executable = std::env::current_exe().map_err(|error| Error::Internal {
            action: "find the path of this program".to_owned(),
            message: error.to_string(),
            next: "run it from a file system that has /proc".to_owned(),
        })?;
        Ok(Self {
            executable,
            layout,
            board,
            spawner: Spawner::new()?,
            running: Mutex::default(),
        })
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// The executable that offers the hidden commands.
    pub(crate) fn executable(&self) -> &Path {
        &self.executable
    }

    /// Starts a program and returns at once; its part is `starting` from then on.
    pub(crate) async fn launch(&self, program: Program) -> Result<Running, Error> {
        let Program {
            part,
            executable,
            arguments,
            environment,
            restarts,
        } = program;
        let log = self.layout.log(&part);
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log)
            .map_err(Error::file("create", &log))?;
        let errors = output.try_clone().map_err(Error::file("open", &log))?;
        let mut command = Command::new(&self.executable);
        command
            .args(["sandbox", "exec", "--parent", &std::process::id().to_string(), "--"])
            .arg(&executable)
            .args(&arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.layout.folder("home")?)
            .env("TMPDIR", self.layout.folder("tmp")?)
            .env("LANG", "C.UTF-8")
            .env(MARKER, self.layout.dir())
            .envs(environment)
            .current_dir(self.layout.dir())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        let began = Instant::now();
        let failed = |problem: String| Error::Part {
            part: part.clone(),
            problem,
            log_tail: String::new(),
            log: log.clone(),
        };
        let mut child = self
            .spawner
            .spawn(command)
            .await
            .map_err(|error| failed(format!("({}) cannot be started: {error}", executable.display())))?;
        let pid = child.id().ok_or_else(|| failed("ended at once".to_owned()))?;
        self.board.part(&part, |part| {
            part.pid = Some(pid);
            part.health = Health::Starting;
        });
        let (end, ended) = watch::channel(None);
        let running = Running {
            part,
            pid,
            log,
            began,
            ended,
            dismissed: Arc::default(),
            restarts,
        };
        let (watched, board) = (running.clone(), Arc::clone(&self.board));
        tokio::spawn(async move {
            let exit = match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => format!("unknown: {error}"),
            };
            // What it started would go on without it, and hold its port.
            signal_group(pid, Signal::KILL);
            watched.note_end(&board, &exit);
            let _ = end.send(Some(exit));
        });
        let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|running| running.ended().is_none());
        all.push(running.clone());
        Ok(running)
    }

    /// Starts a program and waits until it answers.
    pub(crate) async fn launch_ready(&self, program: Program, readiness: &Readiness) -> Result<Running, Error> {
        let running = self.launch(program).await?;
        running.ready(&self.board, readiness).await?;
        Ok(running)
    }

    /// Ends everything that was started.
    pub(crate) async fn end_all(&self) {
        let all = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        let mut ending = JoinSet::new();
        for running in all {
            ending.spawn(async move { running.end(END_LIMIT).await });
        }
        ending.join_all().await;
    }
}

impl Running {
    /// Its log.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// How the program ended, if it did.
    pub(crate) fn ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Waits until the program has ended, and says how.
    pub(crate) async fn end_of_itself(&self) -> String {
        let mut ended = self.ended.clone();
        let exit = ended.wait_for(Option::is_some).await;
        exit.ok().and_then(|exit| exit.clone()).unwrap_or_default()
    }

    /// Waits until the program answers, or until it has ended.
    pub(crate) async fn ready(&self, board: &Board, readiness: &Readiness) -> Result<(), Error> {
        let failed = |problem: String| Error::Part {
            part: self.part.clone(),
            problem,
            log_tail: tail(&self.log, 10),
            log: self.log.clone(),
        };
        loop {
            if let Some(exit) = self.ended() {
                return Err(failed(format!("ended with {exit} before it answered")));
            }
            if readiness.is_given().await {
                break;
            }
            if self.began.elapsed() > READY_LIMIT {
                return Err(failed(format!("did not answer within {} s", READY_LIMIT.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.answered(board);
        Ok(())
    }

    /// Notes that the program answers.
    pub(crate) fn answered(&self, board: &Board) {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        board.part(&self.part, |part| {
            part.health = Health::Healthy;
            part.ready_after_ms = Some(elapsed);
        });
    }

    /// Asks the program and its children to end, and kills what is left after `limit`.
    pub(crate) async fn end(&self, limit: Duration) {
        self.dismissed.store(true, Ordering::SeqCst);
        if self.ended().is_some() {
            return;
        }
        signal_group(self.pid, Signal::TERM);
        let mut ended = self.ended.clone();
        if tokio::time::timeout(limit, ended.wait_for(Option::is_some))
            .await
            .is_err()
        {
            signal_group(self.pid, Signal::KILL);
            let _ = ended.wait_for(Option::is_some).await;
        }
    }

    fn note_end(&self, board: &Board, exit: &str) {
        let dismissed = self.dismissed.load(Ordering::SeqCst);
        board.part(&self.part, |part| {
            part.pid = None;
            part.health = if dismissed {
                Health::Stopped
            } else {
                Health::Crashed {
                    exit: exit.to_owned(),
                    log_tail: tail(&self.log, 10),
                    restarting: self.restarts,
                }
            };
        });
    }
}

/// A thread that starts all programs.
///
/// Linux sends the signal of a parent's death when the *thread* that started the child ends, and threads of the async
/// runtime may end at any time. This one lives as long as the supervisor.
#[derive(Debug)]
struct Spawner(mpsc::Sender<(Command, oneshot::Sender<std::io::Result<Child>>)>);

impl Spawner {
    fn new() -> Result<Self, Error> {
        let (sender, requests) = mpsc::channel::<(Command, oneshot::Sender<_>)>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                let _runtime = runtime.enter();
                for (mut command, answer) in requests {
                    let _ = answer.send(command.spawn());
                }
            })
            .map_err(|error| Error::Internal {
                action: "start a thread".to_owned(),
                message: error.to_string(),
                next: "raise the limit on processes (`ulimit -u`)".to_owned(),
            })?;
        Ok(Self(sender))
    }

    async fn spawn(&self, command: Command) -> std::io::Result<Child> {
        let (answer, spawned) = oneshot::channel();
        let gone = |_| std::io::Error::other("the thread that starts programs has ended");
        self.0.send((command, answer)).map_err(|_| gone(()))?;
        spawned.await.map_err(|_| gone(()))?
    }
}
