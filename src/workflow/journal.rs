use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{IoContext as _, Result};

/// What was under way when the last run was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The command.
    pub command: String,
    /// The step.
    pub step: String,
    /// When it began.
    pub since: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    time: Timestamp,
    command: String,
    step: String,
    state: State,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Begin,
    End,
    Failed,
    Complete,
}

/// A file of JSON lines that says which step of which command is under way. It decides nothing: steps are repeated
/// after a look at the real world.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    command: String,
}

impl Journal {
    /// Opens the journal in `dir` for `command`, and says what the last run left unfinished.
    ///
    /// # Errors
    /// The file cannot be read or written. A torn last line, as a kill or a full disk leaves it, is no error.
    pub fn open(dir: &Path, command: &str) -> Result<(Self, Option<Unfinished>)> {
        let path = dir.join("journal.jsonl");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).or_cannot(|| format!("read {}", path.display())),
        };
        let unfinished = text
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str::<Entry>(line).ok())
            .filter(|last| last.state == State::Begin)
            .map(|last| Unfinished {
                command: last.command,
                step: last.step,
                since: last.time,
            });
        let mut options = OpenOptions::new();
        // A finished run's lines are of no more use; an unfinished one's stay readable for a person.
        options
            .create(true)
            .write(true)
            .append(unfinished.is_some())
            .truncate(unfinished.is_none())
            .mode(0o600);
        let mut file = options.open(&path).or_cannot(|| format!("write {}", path.display()))?;
        if !text.is_empty() && !text.ends_with('\n') && unfinished.is_some() {
            file.write_all(b"\n")
                .or_cannot(|| format!("write {}", path.display()))?;
        }
        Ok((
            Self {
                path,
                file,
                command: command.to_owned(),
            },
            unfinished,
        ))
    }

    fn write(&mut self, step: &str, state: State) -> Result<()> {
        let entry = Entry {
            time: Timestamp::now(),
            command: self.command.clone(),
            step: step.to_owned(),
            state,
        };
        let cannot = || format!("write the journal {}", self.path.display());
        let mut line = serde_json::to_vec(&entry)
            .map_err(std::io::Error::from)
            .or_cannot(cannot)?;
        line.push(b'\n');
        self.file.write_all(&line).or_cannot(cannot)
    }

    pub(super) fn begin(&mut self, step: &str) -> Result<()> {
        self.write(step, State::Begin)
    }

    pub(super) fn end(&mut self, step: &str) -> Result<()> {
        self.write(step, State::End)
    }

    pub(super) fn failed(&mut self, step: &str) -> Result<()> {
        self.write(step, State::Failed)
    }

    pub(super) fn complete(&mut self) -> Result<()> {
        self.write("", State::Complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_step_is_told_and_a_torn_line_is_survived() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, before) = Journal::open(dir.path(), "up").unwrap();
        assert_eq!(before, None);
        journal.begin("apply").unwrap();
        drop(journal);
        let path = dir.path().join("journal.jsonl");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"time\":\"20");
        std::fs::write(&path, text).unwrap();
        let (mut journal, before) = Journal::open(dir.path(), "down").unwrap();
        assert_eq!(
            before.as_ref().map(|u| (u.command.as_str(), u.step.as_str())),
            Some(("up", "apply"))
        );
        journal.begin("x").unwrap();
        journal.end("x").unwrap();
        journal.complete().unwrap();
        drop(journal);
        assert_eq!(Journal::open(dir.path(), "up").unwrap().1, None);
    }
}
