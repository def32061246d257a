//! Terraform's lock on its state: who holds it, and whether that was a Terraform of ours that has died.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::TerraformError;
use crate::cancellation::Cancellation;
use crate::machine::{boot, host};

/// How often it is looked whether an earlier Terraform has ended.
const POLL: Duration = Duration::from_millis(200);

/// A lock, as Terraform tells of it. All backends tell it alike
/// (<https://developer.hashicorp.com/terraform/language/state/locking>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLock {
    /// By which it can be broken.
    pub id: String,
    /// What is locked.
    pub path: String,
    /// What the owner does, such as `apply`.
    pub operation: String,
    /// `user@host`.
    pub who: String,
    /// Since when, as Terraform writes it.
    pub created: String,
}

impl StateLock {
    /// The lock that made a command fail, if that is why.
    #[must_use]
    pub fn of(error: &TerraformError) -> Option<Self> {
        match error {
            TerraformError::Locked { lock, .. } => Some((**lock).clone()),
            TerraformError::Failed {
                diagnostics, output, ..
            } => {
                let text = diagnostics.iter().map(ToString::to_string).chain([output.clone()]);
                text.filter(|text| text.contains("Lock Info:"))
                    .find_map(|text| Self::read(&text))
            }
            _ => None,
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (_, info) = text.split_once("Lock Info:")?;
        let field = |name: &str| {
            let mut lines = info.lines();
            let value = lines.find_map(|line| {
                // In a box, lines begin with a bar.
                let (key, value) = line.trim_start_matches(['│', ' ', '\t']).split_once(':')?;
                (key == name).then(|| value.trim().to_owned())
            });
            value.unwrap_or_default()
        };
        Some(Self {
            id: field("ID"),
            path: field("Path"),
            operation: field("Operation").trim_start_matches("OperationType").to_lowercase(),
            who: field("Who"),
            created: field("Created"),
        })
    }

    /// Since when; Go's form of a time, such as `2026-11-25 20:06:22.83028021 +0000 UTC`.
    fn since(&self) -> Option<Timestamp> {
        let mut words = self.created.split(' ');
        let (date, time) = (words.next()?, words.next()?);
        (words.next()? == "+0000").then(|| format!("{date}T{time}Z").parse().ok())?
    }
}

/// `alice@laptop since 2026-05-01 10:00:00 +0000 (apply, lock ID)`
impl std::fmt::Display for StateLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the fractions of a second, which nobody reads.
        let since = match self.created.split_once('.') {
            Some((seconds, rest)) => {
                let zone = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{seconds}{}", zone.trim_end_matches(" UTC"))
            }
            None => self.created.clone(),
        };
        let operation = if self.operation.is_empty() {
            String::new()
        } else {
            format!("{}, ", self.operation)
        };
        write!(f, "{} since {since} ({operation}lock {})", self.who, self.id)
    }
}

/// A Terraform that this machine started for a project, and of which it is not known that it gave its lock back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    pid: u32,
    /// The kernel's time of its start, which tells it from a later process with the same number.
    started: u64,
    /// Identifies the machine since its last start.
    boot: String,
    host: String,
    began: Timestamp,
    /// Its output.
    output: PathBuf,
    /// When it was last seen to work on the state.
    worked: Option<Timestamp>,
}

impl Run {
    fn is_alive(&self) -> bool {
        self.boot == boot() && start_of(self.pid) == Some(self.started)
    }

    /// Whether `lock` was this run's, and can be nobody's any more: it was taken after the run began; the run worked on the
    /// state after that, which only the holder does; the machine is this one, not started again since; the process is gone.
    fn held(&self, lock: &StateLock) -> bool {
        let in_time = lock
            .since()
            .is_some_and(|since| self.began <= since && self.worked.is_some_and(|worked| since <= worked));
        let here = !self.boot.is_empty() && self.boot == boot() && self.host == host() && !self.host.is_empty();
        in_time && here && lock.who.rsplit('@').next() == Some(self.host.as_str()) && !self.is_alive()
    }
}

/// The record of such runs, among a project's private files.
#[derive(Debug)]
pub(super) struct Runs {
    path: PathBuf,
    runs: Vec<Run>,
}

impl Runs {
    /// Reads the record. One that cannot be read proves nothing, and is no obstacle.
    pub(super) fn read(private: &Path) -> Self {
        let path = private.join("terraform.runs");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut runs: Vec<Run> = serde_json::from_str(&text).unwrap_or_default();
        // Before a later run writes over the output.
        for run in runs.iter_mut().filter(|run| run.worked.is_none()) {
            run.worked = last_work(&run.output);
        }
        Self { path, runs }
    }

    /// The process of an earlier run that is still at work.
    pub(super) fn at_work(&self) -> Option<u32> {
        self.runs.iter().find(|run| run.is_alive()).map(|run| run.pid)
    }

    /// Waits until earlier runs have ended; a killed mfsre leaves its Terraform behind, which finishes its work.
    pub(super) async fn wait(&self, cancellation: &Cancellation) {
        while self.at_work().is_some() && !cancellation.is_cancelled() {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Notes a run that has just begun. Without the note a lock that it leaves is told of instead of being broken.
    pub(super) fn begin(&mut self, pid: u32, began: Timestamp, output: &Path) {
        let Some(started) = start_of(pid) else { return };
        self.runs.push(Run {
            pid,
            started,
            boot: boot(),
            host: host(),
            began,
            output: output.to_owned(),
            worked: None,
        });
        self.write();
    }

    /// Forgets every run: somebody got the lock and gave it back, so none of them holds it.
    pub(super) fn forget(self) {
        let _ = std::fs::remove_file(self.path);
    }

    /// Whether `lock` is one that a run left behind when it died.
    pub(super) fn left(&self, lock: &StateLock) -> bool {
        self.runs.iter().any(|run| run.held(lock))
    }

    fn write(&self) {
        if let Ok(text) = serde_json::to_vec(&self.runs) {
            let _ = std::fs::write(&self.path, text);
        }
    }
}

/// A line of Terraform's output, as far as it tells when there was work.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "@timestamp")]
    at: Timestamp,
    #[serde(rename = "type")]
    kind: String,
}

/// When work on the state is last told of. What comes before the lock is had, and errors, are none.
fn last_work(output: &Path) -> Option<Timestamp> {
    let text = std::fs::read_to_string(output).ok()?;
    let lines = text
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let mut work =
        lines.filter(|line| !["version", "log", "state_lock_acquire", "diagnostic"].contains(&line.kind.as_str()));
    work.next().map(|line| line.at)
}

/// When a process was started, in the kernel's ticks; `None` where there is none, or no `/proc`.
fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything. The start is the 22nd field, the 20th after the name (proc_pid_stat(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Terraform 1.11.4 tells, by the local backend and by S3 with its lock file.
    const LOCAL: &str = "Error message: resource temporarily unavailable\nLock Info:\n  ID:        f73d9a6c-bcdd-bdb2-459a-823dd07c7437\n  Path:      terraform.tfstate\n  Operation: OperationTypeApply\n  Who:       alice@laptop\n  Version:   1.11.4\n  Created:   2026-11-25 20:06:22.83028021 +0000 UTC\n  Info:      \n\n\nTerraform acquires a state lock to protect the state from being written\nby multiple users at the same time.";
    const S3: &str = "Error message: operation error S3: PutObject, https response error\nStatusCode: 412, RequestID: 4442587FB7D0A2F9, HostID: , api error PreconditionFailed: At least one of the pre-conditions you specified did not hold\nLock Info:\n  ID:        5f0a1d6e-6a5e-2c0a-7a4f-2b8c4b0a9d11\n  Path:      acme-state/demo/terraform.tfstate\n  Operation: OperationTypePlan\n  Who:       ci@runner-7\n  Version:   1.11.4\n  Created:   2026-11-25 19:00:00 +0000 UTC\n  Info:      \n";

    fn told(detail: &str) -> StateLock {
        StateLock::read(detail).unwrap()
    }

    #[test]
    fn the_owner_is_read_with_and_without_a_box() {
        let lock = told(LOCAL);
        assert_eq!(
            lock.to_string(),
            "alice@laptop since 2026-11-25 20:06:22 +0000 (apply, lock f73d9a6c-bcdd-bdb2-459a-823dd07c7437)"
        );
        let boxed: String = LOCAL.lines().map(|line| format!("│ {line}\n")).collect();
        assert_eq!(StateLock::read(&boxed), Some(lock));
        assert_eq!(StateLock::read("no lock"), None);
    }

    #[test]
    fn a_lock_is_read_from_what_each_backend_tells() {
        let local = told(LOCAL);
        assert_eq!(local.id, "f73d9a6c-bcdd-bdb2-459a-823dd07c7437");
        assert_eq!(
            (local.who.as_str(), local.operation.as_str()),
            ("alice@laptop", "apply")
        );
        assert_eq!(local.since(), "2026-11-25T20:06:22.83028021Z".parse().ok());
        let s3 = told(S3);
        assert_eq!(s3.id, "5f0a1d6e-6a5e-2c0a-7a4f-2b8c4b0a9d11");
        assert_eq!(
            (s3.who.as_str(), s3.path.as_str()),
            ("ci@runner-7", "acme-state/demo/terraform.tfstate")
        );
        assert_eq!(s3.since(), "2026-11-25T19:00:00Z".parse().ok());
    }

    /// A process that has ended.
    fn dead() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    fn run() -> Run {
        Run {
            pid: dead(),
            started: 1,
            boot: boot(),
            host: host(),
            began: "2026-11-25T20:06:20Z".parse().unwrap(),
            output: PathBuf::new(),
            worked: "2026-11-25T20:06:30Z".parse().ok(),
        }
    }

    #[test]
    fn only_a_lock_that_is_provably_a_dead_runs_is_left_behind() {
        let lock = StateLock {
            who: format!("alice@{}", host()),
            ..told(LOCAL)
        };
        assert!(run().held(&lock));
        let elsewhere = told(LOCAL);
        assert!(!run().held(&elsewhere), "on another host");
        assert!(
            !Run {
                boot: "another".into(),
                ..run()
            }
            .held(&lock),
            "before the machine was started again"
        );
        assert!(!Run { worked: None, ..run() }.held(&lock), "never seen to work");
        let before = "2026-11-25T20:06:21Z".parse().ok();
        assert!(
            !Run {
                worked: before,
                ..run()
            }
            .held(&lock),
            "it worked only before: the lock is a later one's"
        );
        let later = "2026-11-25T20:06:23Z".parse().unwrap();
        assert!(
            !Run { began: later, ..run() }.held(&lock),
            "somebody had it when the run began"
        );
        let own = std::process::id();
        let alive = Run {
            pid: own,
            started: start_of(own).unwrap(),
            ..run()
        };
        assert!(alive.is_alive() && !alive.held(&lock), "its process is there");
        let reused = Run { pid: own, ..run() };
        assert!(reused.held(&lock), "another process has its number now");
        let unreadable = StateLock {
            created: "yesterday".into(),
            ..lock
        };
        assert!(!run().held(&unreadable));
    }

    #[test]
    fn work_is_what_only_the_holder_of_the_lock_does() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("terraform-apply.out");
        let waiting = "{\"@timestamp\":\"2026-11-25T20:06:24Z\",\"type\":\"version\"}\n{\"@timestamp\":\"2026-11-25T20:06:25Z\",\"type\":\"state_lock_acquire\"}\n";
        std::fs::write(&output, waiting).unwrap();
        assert_eq!(last_work(&output), None);
        let working = "{\"@timestamp\":\"2026-11-25T20:06:26Z\",\"type\":\"apply_start\"}\n{\"@timestamp\":\"2026-1";
        std::fs::write(&output, format!("{waiting}{working}")).unwrap();
        assert_eq!(last_work(&output), "2026-11-25T20:06:26Z".parse().ok());
    }

    #[test]
    fn the_record_survives_until_somebody_got_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let mut runs = Runs::read(folder.path());
        runs.begin(std::process::id(), Timestamp::now(), Path::new("nowhere"));
        assert_eq!(Runs::read(folder.path()).at_work(), Some(std::process::id()));
        runs.forget();
        assert!(!folder.path().join("terraform.runs").exists());
    }
}
