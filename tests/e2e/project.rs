//! A user's project in a folder of its own, with a home of its own, and the program as the user runs it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{processes_of, send};
use crate::tools;

/// The environment that every test uses.
pub(crate) const ENVIRONMENT: &str = "sandbox";
/// No command takes longer, or it hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// A project with the environments that mfsre ships. Dropped, it stops its sandbox and makes sure that no process is left.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    port: u16,
    said: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Project {
    pub(crate) fn new() -> Self {
        Self::with_git_port(free_port())
    }

    pub(crate) fn with_git_port(port: u16) -> Self {
        let folder = tempfile::Builder::new().prefix("mfsre-e2e-").tempdir().unwrap();
        for name in ["project/environments", "home", "tmp"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let project = Self {
            folder,
            port,
            said: Mutex::default(),
        };
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("environments");
        for name in ["demo.yaml", "sandbox.yaml"] {
            let text = std::fs::read_to_string(shipped.join(name)).unwrap();
            let url = with_port(&text, port);
            project.write(&format!("environments/{name}"), &url);
        }
        project
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where everything of the test lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder().join("project")
    }

    /// The environment's files that are never committed.
    pub(crate) fn private(&self) -> PathBuf {
        self.root().join(".mfsre").join(ENVIRONMENT)
    }

    /// The environment's root module.
    pub(crate) fn infra(&self) -> PathBuf {
        self.root().join("infra").join(ENVIRONMENT)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Any program, in the environment of this project's user.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let ambient = std::env::vars_os().map(|(key, _)| key).filter(|key| {
            let key = key.to_string_lossy();
            ["AWS_", "MFSRE_", "TF_VAR_", "TF_CLI_ARGS", "KUBE", "GIT_SSH"]
                .iter()
                .any(|p| key.starts_with(p))
                || ["SSH_AUTH_SOCK", "GITHUB_TOKEN", "GH_TOKEN"].contains(&&*key)
        });
        for key in ambient {
            command.env_remove(key);
        }
        command
            .current_dir(self.root())
            .env("HOME", self.folder().join("home"))
            .env("TMPDIR", self.folder().join("tmp"))
            .env("MFSRE_CACHE_DIR", tools::cache())
            // Providers that come over the network come once.
            .env("TF_PLUGIN_CACHE_DIR", tools::providers())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Starts the program; its events can be followed.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running<'_> {
        self.start_with(arguments, &[])
    }

    fn start_with(&self, arguments: &[&str], variables: &[(&str, String)]) -> Running<'_> {
        let mut command = self.command(env!("CARGO_BIN_EXE_mfsre"));
        command
            .args(arguments)
            .envs(variables.iter().map(|(key, value)| (key, value)))
            .args(["--output", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Running {
            project: self,
            name: arguments.join(" "),
            began: Instant::now(),
            child,
            lines,
            errors: Some(errors),
            heard: Vec::new(),
        }
    }

    /// Runs the program to its end, with JSON output.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish()
    }

    /// Runs the program to its end, with more variables in its environment.
    pub(crate) fn run_with(&self, arguments: &[&str], variables: &[(&str, String)]) -> Finished {
        self.start_with(arguments, variables).finish()
    }

    /// Runs the program to its end as a person does, and expects it to succeed; returns what it printed.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let mut command = self.command(env!("CARGO_BIN_EXE_mfsre"));
        let output = command.args(arguments).output().unwrap();
        // The one command that is there to show a secret.
        if arguments.first() != Some(&"secrets") {
            self.remember(
                &arguments.join(" "),
                &[output.stdout.clone(), output.stderr.clone()].concat(),
            );
        }
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mfsre {arguments:?} failed: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn remember(&self, command: &str, output: &[u8]) {
        self.said.lock().unwrap().push((command.to_owned(), output.to_owned()));
    }

    /// What every command printed.
    pub(crate) fn said(&self) -> Vec<(String, Vec<u8>)> {
        self.said.lock().unwrap().clone()
    }

    /// What `sandbox status` says.
    pub(crate) fn status(&self) -> Finished {
        self.run(&["sandbox", "status", ENVIRONMENT])
    }

    /// Waits until no process of this project is left.
    pub(crate) fn assert_no_process(&self, after: &str) {
        let began = Instant::now();
        loop {
            let left = processes_of(self.folder());
            if left.is_empty() {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "after {after} no process may be left, but there are {left:#?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A failed test is understood by its logs.
            let kept = tools::scratch().join(format!("failed-{}", self.port));
            let _ = std::fs::remove_dir_all(&kept);
            let _ = std::fs::create_dir_all(&kept);
            let _ = Command::new("cp")
                .arg("-r")
                .args([
                    self.private().join("sandbox/logs"),
                    self.private().join("journal.jsonl"),
                ])
                .arg(&kept)
                .output();
            for (i, (command, output)) in self.said().iter().enumerate() {
                let text = [command.as_bytes(), b"\n", output].concat();
                let _ = std::fs::write(kept.join(format!("command-{i:02}.txt")), text);
            }
            eprintln!("logs and output of the failed test are in {}", kept.display());
        }
        let stopped = self
            .command(env!("CARGO_BIN_EXE_mfsre"))
            .args(["sandbox", "stop", ENVIRONMENT])
            .output();
        let left = processes_of(self.folder());
        for pid in left.keys() {
            let _ = std::panic::catch_unwind(|| send(*pid, Signal::KILL));
        }
        let trouble = format!("{stopped:?} left {left:#?}");
        if std::thread::panicking() {
            if !left.is_empty() {
                eprintln!("{trouble}");
            }
        } else {
            assert!(left.is_empty(), "{trouble}");
        }
    }
}

/// A port of the loopback interface on which nothing listens, outside the range from which the kernel hands out ports.
fn free_port() -> u16 {
    static NEXT: Mutex<u16> = Mutex::new(0);
    let mut next = NEXT.lock().unwrap();
    for _ in 0..1000 {
        *next = if *next == 0 {
            // Two runs at once on one machine begin at different places.
            20_000 + u16::try_from(std::process::id() % 10_000).unwrap()
        } else {
            20_000 + (*next + 1 - 20_000) % 10_000
        };
        if std::net::TcpListener::bind(("127.0.0.1", *next)).is_ok() {
            return *next;
        }
    }
    panic!("no port between 20000 and 30000 is free")
}

/// The shipped file with another port for the sandbox's git server.
fn with_port(text: &str, port: u16) -> String {
    const BEFORE: &str = "ssh://git@127.0.0.1:";
    let Some(at) = text.find(BEFORE) else {
        return text.to_owned();
    };
    let (head, rest) = text.split_at(at + BEFORE.len());
    let end = rest.find('/').unwrap();
    format!("{head}{port}{}", &rest[end..])
}

/// The program at work.
pub(crate) struct Running<'a> {
    project: &'a Project,
    name: String,
    began: Instant,
    child: Child,
    lines: Receiver<String>,
    errors: Option<std::thread::JoinHandle<String>>,
    heard: Vec<(Duration, String)>,
}

impl Running<'_> {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Follows the events until one is what is waited for.
    pub(crate) fn wait_for(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) {
        let end = self.began + LIMIT;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let event = serde_json::from_str(&line).unwrap_or(Value::Null);
                    self.heard.push((self.began.elapsed(), line));
                    if is_it(&event) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("mfsre {} hangs, waiting for {what}", self.name),
                Err(RecvTimeoutError::Disconnected) => {
                    let heard: Vec<&str> = self.heard.iter().map(|(_, l)| l.as_str()).collect();
                    panic!("mfsre {} ended before {what}:\n{}", self.name, heard.join("\n"))
                }
            }
        }
    }

    pub(crate) fn kill(self) -> Finished {
        send(self.pid(), Signal::KILL);
        self.finish()
    }

    pub(crate) fn interrupt(self) -> Finished {
        send(self.pid(), Signal::INT);
        self.finish()
    }

    pub(crate) fn terminate(self) -> Finished {
        send(self.pid(), Signal::TERM);
        self.finish()
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Finished {
        let end = self.began + LIMIT;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.push((self.began.elapsed(), line)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("mfsre {} hangs", self.name)
                }
            }
        }
        let status = self.child.wait().unwrap();
        let took = self.began.elapsed();
        let stderr = self.errors.take().unwrap().join().unwrap();
        let stdout: Vec<&str> = self.heard.iter().map(|(_, line)| line.as_str()).collect();
        self.project
            .remember(&self.name, format!("{}\n{stderr}", stdout.join("\n")).as_bytes());
        Finished {
            name: self.name.clone(),
            status,
            took,
            stderr,
            events: self
                .heard
                .iter()
                .map(|(_, line)| {
                    serde_json::from_str(line)
                        .unwrap_or_else(|e| panic!("mfsre {} printed what is no JSON ({e}): {line}", self.name))
                })
                .collect(),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // A test that failed while the program was at work.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run of the program left.
pub(crate) struct Finished {
    pub(crate) name: String,
    pub(crate) status: ExitStatus,
    pub(crate) took: Duration,
    pub(crate) stderr: String,
    pub(crate) events: Vec<Value>,
}

impl Finished {
    /// Expects this exit code, and returns the document.
    pub(crate) fn exit(&self, code: i32) -> &Value {
        assert_eq!(self.status.code(), Some(code), "exit code of {self}");
        let document = self.events.last().unwrap_or_else(|| panic!("a document from {self}"));
        assert_eq!(document["schema"], 1, "the last line is the document: {self}");
        document
    }

    pub(crate) fn expect_killed(&self) {
        assert_eq!(self.status.signal(), Some(9), "it was to be killed: {self}");
    }

    /// The events of one kind.
    pub(crate) fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |e| e["event"] == kind)
    }

    /// The notes, one a line.
    pub(crate) fn notes(&self) -> String {
        let notes: Vec<&str> = self.of("note").filter_map(|e| e["message"].as_str()).collect();
        notes.join("\n")
    }

    /// Seconds that a step took; none where it did not finish.
    pub(crate) fn step(&self, id: &str) -> Option<f64> {
        let finished = self.of("step_finished").find(|e| e["step"] == id)?;
        finished["elapsed"].as_f64()
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "`mfsre {}` ({}, {:?}):", self.name, self.status, self.took)?;
        for event in self.events.iter().filter(|e| e["event"] != "step_progress") {
            writeln!(f, "{event}")?;
        }
        f.write_str(&self.stderr)
    }
}
