//! The engine, told by what a reporter hears.

use std::sync::Mutex;

use super::{
    Cancellation, Event, Journal, Lock, Outcome, Probe, Progress, Ran, Reporter, Step, StepFuture, Steps, perform,
};
use crate::error::{Error, ErrorKind, Result};

/// Writes down what it hears, without the times.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Reporter for Recorder {
    fn report(&self, event: Event) {
        let line = match event {
            Event::StepStarted { step, describe } => format!("{step} started: {describe}"),
            Event::StepProgress { step, message, .. } => format!("{step} at work: {message}"),
            Event::StepFinished {
                step, outcome, detail, ..
            } => format!("{step} {outcome:?}: {detail}"),
            Event::StepFailed { step, .. } => format!("{step} failed"),
            Event::Note { message } => format!("note: {message}"),
            Event::Warning { message } => format!("warning: {message}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Recorder {
    fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// What a step of these tests does; the context is the list of those that ran.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Stands,
    Impossible,
    Changes,
    ChangesNothing,
    FailsToProbe,
    Fails,
    AsksToStop,
    WaitsForEver,
    StopsByItself,
}

struct Scripted {
    id: &'static str,
    does: Does,
    cancellation: Cancellation,
}

impl Step<Vec<&'static str>> for Scripted {
    fn id(&self) -> &'static str {
        self.id
    }

    fn describe(&self) -> String {
        format!("do {}", self.id)
    }

    fn droppable(&self) -> bool {
        self.does != Does::StopsByItself
    }

    fn probe<'a>(&'a self, _: &'a mut Vec<&'static str>, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            match self.does {
                Does::Stands => Ok(Probe::Stands("found".into())),
                Does::Impossible => Ok(Probe::Impossible("there is nothing".into())),
                Does::FailsToProbe => Err(Error::failed("cannot look")),
                _ => Ok(Probe::Needed),
            }
        })
    }

    fn run<'a>(&'a self, ran: &'a mut Vec<&'static str>, progress: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            ran.push(self.id);
            progress.say("working");
            match self.does {
                Does::ChangesNothing => return Ok(Ran::Unchanged("nothing to do".into())),
                Does::Fails => return Err(Error::failed("cannot run")),
                Does::AsksToStop => self.cancellation.cancel(),
                Does::WaitsForEver => {
                    self.cancellation.cancel();
                    std::future::pending::<()>().await;
                }
                Does::StopsByItself => {
                    self.cancellation.cancel();
                    self.cancellation.cancelled().await;
                    tokio::task::yield_now().await;
                    ran.push("cleaned up");
                    return Err(Error::interrupted());
                }
                _ => {}
            }
            Ok(Ran::Changed("done".into()))
        })
    }
}

/// Performs the steps in a new folder: the result, what was heard, which steps ran, and what the next run is told.
async fn run(script: &[(&'static str, Does)]) -> (Result<usize>, Vec<String>, Vec<&'static str>, Option<String>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, unfinished) = Journal::open(dir.path(), "up").unwrap();
    assert_eq!(unfinished, None);
    let cancellation = Cancellation::default();
    let steps: Steps<Vec<&'static str>> = script
        .iter()
        .map(|&(id, does)| {
            let cancellation = cancellation.clone();
            Box::new(Scripted { id, does, cancellation }) as Box<dyn Step<_>>
        })
        .collect();
    let recorder = Recorder::default();
    let mut ran = Vec::new();
    let result = perform(&steps, &mut ran, &mut journal, &recorder, &cancellation).await;
    drop(journal);
    let unfinished = Journal::open(dir.path(), "up").unwrap().1.map(|u| u.step);
    (result, recorder.heard(), ran, unfinished)
}

#[tokio::test]
async fn only_steps_whose_result_does_not_stand_are_run_and_each_is_told() {
    let (result, heard, ran, unfinished) = run(&[
        ("one", Does::Stands),
        ("two", Does::Changes),
        ("three", Does::Impossible),
        ("four", Does::ChangesNothing),
    ])
    .await;
    assert_eq!(result.unwrap(), 1, "one step changed something");
    assert_eq!(ran, ["two", "four"]);
    assert_eq!(
        heard,
        [
            "one started: do one",
            "one Unchanged: found",
            "two started: do two",
            "two at work: working",
            "two Changed: done",
            "three started: do three",
            "three Skipped: there is nothing",
            "four started: do four",
            "four at work: working",
            "four Unchanged: nothing to do",
        ]
    );
    assert_eq!(unfinished, None);
}

#[tokio::test]
async fn a_failure_ends_the_operation_and_is_not_a_cut_off() {
    for does in [Does::Fails, Does::FailsToProbe] {
        let (result, heard, ran, unfinished) =
            run(&[("one", Does::Changes), ("two", does), ("three", Does::Changes)]).await;
        assert_eq!(result.unwrap_err().kind, ErrorKind::Failed);
        assert_eq!(heard.last().map(String::as_str), Some("two failed"));
        assert!(!ran.contains(&"three"));
        assert_eq!(unfinished, None);
    }
}

#[tokio::test]
async fn a_wish_to_stop_is_heard_between_steps() {
    let (result, heard, ran, _) = run(&[("one", Does::AsksToStop), ("two", Does::Changes)]).await;
    assert_eq!(result.unwrap_err().kind, ErrorKind::Interrupted);
    assert_eq!(ran, ["one"]);
    assert!(
        heard.contains(&"one Changed: done".to_owned()),
        "what was done stands: {heard:?}"
    );
}

#[tokio::test]
async fn a_step_that_can_be_dropped_is_dropped() {
    let (result, heard, ran, _) = run(&[("one", Does::WaitsForEver), ("two", Does::Changes)]).await;
    assert_eq!(result.unwrap_err().kind, ErrorKind::Interrupted);
    assert_eq!(ran, ["one"]);
    assert_eq!(heard.last().map(String::as_str), Some("one failed"));
}

#[tokio::test]
async fn a_step_that_cannot_be_dropped_is_waited_for() {
    let (result, _, ran, _) = run(&[("one", Does::StopsByItself)]).await;
    assert_eq!(result.unwrap_err().kind, ErrorKind::Interrupted);
    assert_eq!(ran, ["one", "cleaned up"]);
}

#[tokio::test]
async fn asking_to_stop_before_the_first_step_runs_none() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), "up").unwrap();
    let cancellation = Cancellation::default();
    cancellation.cancel();
    cancellation.cancel();
    let steps: Steps<Vec<&'static str>> = vec![Box::new(Scripted {
        id: "one",
        does: Does::Changes,
        cancellation: cancellation.clone(),
    })];
    let recorder = Recorder::default();
    let error = perform(&steps, &mut Vec::new(), &mut journal, &recorder, &cancellation)
        .await
        .unwrap_err();
    assert_eq!(error.kind.exit_code(), 130);
    assert!(recorder.heard().is_empty());
}

#[tokio::test]
async fn a_run_that_is_killed_leaves_the_step_it_was_in() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), "up").unwrap();
    journal.begin("render").unwrap();
    journal.end("render").unwrap();
    journal.begin("apply").unwrap();
    drop(journal);
    let (mut journal, unfinished) = Journal::open(dir.path(), "down").unwrap();
    let unfinished = unfinished.unwrap();
    assert_eq!((unfinished.command.as_str(), unfinished.step.as_str()), ("up", "apply"));
    journal.complete().unwrap();
    drop(journal);
    assert_eq!(Journal::open(dir.path(), "up").unwrap().1, None);
}

#[test]
fn a_journal_of_nonsense_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["", "\n\n", "nonsense\n", "{}\n", "{\"time\":\"yesterday\"}\n", "\0\0\0"] {
        std::fs::write(dir.path().join("journal.jsonl"), text).unwrap();
        assert_eq!(Journal::open(dir.path(), "up").unwrap().1, None, "{text:?}");
    }
}

#[test]
fn a_lock_has_one_owner_and_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let private = dir.path().join("a/b");
    let lock = Lock::acquire(&private, "up", "demo").unwrap();
    let error = Lock::acquire(&private, "down", "demo").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Locked);
    assert!(error.causes[0].contains("`mfsre up demo`"), "{error:?}");
    assert!(error.causes[0].contains(&std::process::id().to_string()), "{error:?}");
    drop(lock);
    // What the last owner wrote, however much of it, is no obstacle.
    std::fs::write(private.join("lock"), "{\"command\":").unwrap();
    let _lock = Lock::acquire(&private, "down", "demo").unwrap();
}

#[test]
fn events_are_the_json_lines_of_the_documentation() {
    let line = |event: &Event| serde_json::to_string(event).unwrap();
    let finished = Event::StepFinished {
        step: "apply",
        outcome: Outcome::Changed,
        detail: "3 added".into(),
        elapsed: std::time::Duration::from_micros(1_234_567),
    };
    assert_eq!(
        line(&finished),
        r#"{"event":"step_finished","step":"apply","outcome":"changed","detail":"3 added","elapsed":1.235}"#
    );
    let progress = Event::StepProgress {
        step: "apply",
        message: "x".into(),
        done: None,
        total: None,
    };
    assert_eq!(
        line(&progress),
        r#"{"event":"step_progress","step":"apply","message":"x"}"#
    );
}
