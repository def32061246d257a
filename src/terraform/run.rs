use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use rustix::process::{Pid, Signal, kill_process};

use super::lock::Runs;
use super::{DiagnosticEvent, Program, TerraformError, TerraformEvent};
use crate::cancellation::Cancellation;
use crate::child::ChildEnvironment;

/// How often new output is looked for.
const POLL: Duration = Duration::from_millis(50);

/// One call of the program. Its output goes to a file that is followed, not to a pipe: if this process is killed, the
/// program finishes its work and saves its state instead of dying of a broken pipe.
pub(super) struct Call<'a> {
    pub(super) program: &'a Program,
    pub(super) dir: &'a Path,
    /// Folder that paths in messages are relative to.
    pub(super) project: &'a Path,
    pub(super) environment: &'a ChildEnvironment,
    /// Folder for the output files, 0700.
    pub(super) private: &'a Path,
    pub(super) arguments: Vec<String>,
}

/// What a call left.
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) diagnostics: Vec<DiagnosticEvent>,
}

impl Call<'_> {
    /// The command as a person would name it.
    pub(super) fn name(&self) -> String {
        let mut name = self.program.flavour.name().to_owned();
        for word in self.arguments.iter().take_while(|a| !a.starts_with('-')).take(2) {
            name.push(' ');
            name.push_str(word);
        }
        name
    }

    /// Runs it; each line that is an event is handed to `on_event`. On cancellation the program gets one SIGINT and is
    /// waited for. It is noted among `runs`, for one that takes the lock of the state.
    pub(super) async fn run(
        &self,
        cancellation: &Cancellation,
        mut on_event: impl FnMut(&TerraformEvent) + Send,
        runs: Option<&mut Runs>,
    ) -> Result<Finished, TerraformError> {
        let subcommand = self.arguments.first().map_or("run", String::as_str);
        let out = self.private.join(format!("terraform-{subcommand}.out"));
        let err = self.private.join(format!("terraform-{subcommand}.err"));
        let began = jiff::Timestamp::now();
        let mut child = tokio::process::Command::new(&self.program.path)
            .args(&self.arguments)
            .current_dir(self.dir)
            .env_clear()
            .envs(self.environment.iter())
            .stdin(Stdio::null())
            .stdout(create(&out)?)
            .stderr(create(&err)?)
            // A Ctrl-C at the terminal reaches this process only; it is passed on once, below.
            .process_group(0)
            .spawn()
            .map_err(|source| TerraformError::Unusable {
                program: self.program.path.display().to_string(),
                source,
            })?;
        if let (Some(runs), Some(pid)) = (runs, child.id()) {
            runs.begin(pid, began, &out);
        }
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let mut follower = Follower::open(&out)?;
        let mut diagnostics = Vec::new();
        let mut handle = |events: Vec<TerraformEvent>| {
            for mut event in events {
                if let TerraformEvent::Diagnostic { diagnostic } = &mut event {
                    diagnostic.locate(self.project, self.dir);
                    diagnostics.push(diagnostic.clone());
                }
                on_event(&event);
            }
        };
        let mut interrupted = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => {
                    break status.map_err(|source| TerraformError::Io { what: format!("wait for {}", self.name()), source })?;
                }
                () = cancellation.cancelled(), if !interrupted => {
                    interrupted = true;
                    if let Some(pid) = pid {
                        // It may have ended by itself in this moment.
                        let _ = kill_process(pid, Signal::INT);
                    }
                }
                () = tokio::time::sleep(POLL) => handle(follower.read()?),
            }
        };
        handle(follower.read()?);
        if interrupted {
            return Err(TerraformError::Interrupted { command: self.name() });
        }
        Ok(Finished {
            status,
            stdout: follower.text,
            diagnostics,
        })
    }

    /// Gives it `input`, and returns what it prints; nothing of either is written to a file. For calls that may end when
    /// this process does: they read only, or write nothing before the input is complete.
    pub(super) async fn pipe(&self, input: &str, cancellation: &Cancellation) -> Result<String, TerraformError> {
        let io = |source| TerraformError::Io {
            what: format!("talk to {}", self.name()),
            source,
        };
        let mut child = tokio::process::Command::new(&self.program.path)
            .args(&self.arguments)
            .current_dir(self.dir)
            .env_clear()
            .envs(self.environment.iter())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|source| TerraformError::Unusable {
                program: self.program.path.display().to_string(),
                source,
            })?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let stdin = child.stdin.take();
        let feed = async move {
            // A program that refuses before it has read everything says why by itself.
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let work = async { tokio::join!(feed, child.wait_with_output()).1 };
        tokio::pin!(work);
        let mut interrupted = false;
        let output = loop {
            tokio::select! {
                output = &mut work => break output.map_err(io)?,
                () = cancellation.cancelled(), if !interrupted => {
                    interrupted = true;
                    if let Some(pid) = pid {
                        // It may have ended by itself in this moment.
                        let _ = kill_process(pid, Signal::INT);
                    }
                }
            }
        };
        if interrupted {
            return Err(TerraformError::Interrupted { command: self.name() });
        }
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(TerraformError::Failed {
            command: self.name(),
            diagnostics: Vec::new(),
            output: tail(&String::from_utf8_lossy(&output.stderr)),
        })
    }

    /// Runs it and expects exit status 0 or one of `also`.
    pub(super) async fn expect(
        &self,
        also: &[i32],
        cancellation: &Cancellation,
        on_event: impl FnMut(&TerraformEvent) + Send,
        runs: Option<&mut Runs>,
    ) -> Result<Finished, TerraformError> {
        let finished = self.run(cancellation, on_event, runs).await?;
        if finished.status.success() || finished.status.code().is_some_and(|c| also.contains(&c)) {
            return Ok(finished);
        }
        let subcommand = self.arguments.first().map_or("run", String::as_str);
        let stderr =
            std::fs::read_to_string(self.private.join(format!("terraform-{subcommand}.err"))).unwrap_or_default();
        let output = tail(&stderr);
        Err(TerraformError::Failed {
            command: self.name(),
            diagnostics: finished
                .diagnostics
                .into_iter()
                .filter(|d| d.severity == "error")
                .collect(),
            output,
        })
    }
}

/// The last lines, without empty ones.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn create(path: &PathBuf) -> Result<File, TerraformError> {
    std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| {
            // The mode above is for a new file only.
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            Ok(file)
        })
        .map_err(|source| TerraformError::Io {
            what: format!("write {}", path.display()),
            source,
        })
}

/// Reads a file that another process appends to.
struct Follower {
    path: PathBuf,
    file: File,
    text: String,
    parsed: usize,
}

impl Follower {
    fn open(path: &Path) -> Result<Self, TerraformError> {
        let file = File::open(path).map_err(|source| TerraformError::Io {
            what: format!("read {}", path.display()),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            text: String::new(),
            parsed: 0,
        })
    }

    /// The events in the lines that were completed since the last call.
    fn read(&mut self) -> Result<Vec<TerraformEvent>, TerraformError> {
        let mut bytes = Vec::new();
        let io = |source| TerraformError::Io {
            what: format!("read {}", self.path.display()),
            source,
        };
        self.file.read_to_end(&mut bytes).map_err(io)?;
        // A character may be cut in two at the end of what is there yet: read it again with the rest of its line.
        let complete = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let rest = i64::try_from(bytes.len() - complete).unwrap_or(0);
        self.file.seek(SeekFrom::Current(-rest)).map_err(io)?;
        self.text.push_str(&String::from_utf8_lossy(&bytes[..complete]));
        let new = &self.text[self.parsed..];
        let events = new.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        self.parsed = self.text.len();
        Ok(events)
    }
}
