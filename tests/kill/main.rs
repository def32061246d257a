//! The real program is killed at every call that it makes and at every step, and run again until it ends. What is outside is
//! on loopback and in memory, so that every moment can be hit; the end-to-end tier does the same at some moments against
//! the real thing.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, clippy::print_stdout)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "../common/canary.rs"]
mod canary;
#[path = "../common/report.rs"]
mod report;

mod checks;
mod documents;
mod machine;
mod outside;
mod together;
mod trouble;

use std::collections::{BTreeMap, HashSet};
use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use rustix::process::Signal;
use serde_json::Value;

use canary::Searched;
use checks::{final_state, nothing_has_leaked, one_of_each_works};
use machine::{Cut, ENVIRONMENT, Finished, Machine, Start};
use outside::Moment;

const UP: [&str; 4] = ["up", ENVIRONMENT, "--yes", "--push"];
const DOWN: [&str; 3] = ["down", ENVIRONMENT, "--yes"];
const PASSWORD: [&str; 3] = ["rotate", "argocd-password", ENVIRONMENT];
const KEY: [&str; 3] = ["rotate", "deploy-key", ENVIRONMENT];

/// A project, and nothing else.
static NOTHING: LazyLock<Start> = LazyLock::new(|| Machine::new().into_start());

/// The first call of `up` after the credentials are kept.
const IN_THE_CLUSTER: &str = "GET /clusters/demo";

/// An `up` that was cut off there.
static HALF_UP: LazyLock<Start> = LazyLock::new(|| {
    let whole = Machine::from(&NOTHING);
    whole.run(&UP, None);
    let point = whole
        .outside
        .points()
        .iter()
        .position(|point| point == IN_THE_CLUSTER)
        .unwrap();
    let machine = Machine::from(&NOTHING);
    machine.run(
        &UP,
        Some(Cut::Call(Moment {
            point,
            signal: Signal::KILL,
        })),
    );
    // Its lock counts no more on machines to which this one is copied.
    machine.outside.change(|world| {
        world.aws.parameters.remove(&format!("/{ENVIRONMENT}/mfsre/lock"));
    });
    machine.into_start()
});

/// An environment that is up.
static UP_ALREADY: LazyLock<Start> = LazyLock::new(|| {
    let machine = Machine::from(&NOTHING);
    let up = machine.run(&UP, None);
    assert!(up.status.success(), "{up}");
    machine.into_start()
});

/// A project in a git repository of its own, with everything rendered and committed.
static COMMITTED: LazyLock<Start> = LazyLock::new(|| {
    let machine = Machine::from(&UP_ALREADY);
    std::fs::write(machine.path("project/.gitignore"), ".mfsre/\n").unwrap();
    for arguments in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["config", "user.name", "Alice"],
        &["config", "user.email", "alice@example.com"],
        &["add", "--all"],
        &["commit", "--quiet", "--message=Start"],
    ] {
        machine.git("project", arguments);
    }
    machine.into_start()
});

/// An operation that is cut off everywhere.
struct Operation {
    name: &'static str,
    arguments: &'static [&'static str],
    /// How many runs at the same time; more where they wait for a clock.
    at_once: usize,
}

/// By which signals it is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// SIGKILL at every moment, and the other two at some.
    Killed,
    /// SIGINT and SIGTERM at every moment.
    Interrupted,
}

/// What came of the cuts of one kind.
#[derive(Default, Clone, Copy)]
struct Count {
    points: u64,
    killed: u64,
    /// Cuts that left what no other had left before, so that the operation was repeated.
    repeated: u64,
    converged: u64,
}

/// The counts by signal, and what was searched for secrets meanwhile.
#[derive(Default)]
struct Counts {
    cuts: BTreeMap<&'static str, Count>,
    searched: Searched,
}

impl Operation {
    /// Cuts it off at every moment from the point `first` on; then repeats it.
    ///
    /// What is repeated is decided by what a cut has left: the same world, the same files and the same step lead to the same
    /// run, so one run answers for all of them.
    fn cut_everywhere(&self, extent: Extent, start: &Start, first: &str, last: &str, counts: &mut Counts) {
        let undisturbed = Machine::from(start);
        let run = undisturbed.run(self.arguments, None);
        assert!(run.status.success(), "{run}");
        let wanted = final_state(&undisturbed);
        let points = undisturbed.outside.points();
        if std::env::var_os("MFSRE_POINTS").is_some() {
            points.iter().enumerate().for_each(|(n, point)| println!("{n} {point}"));
        }
        let at = |name: &str| points.iter().position(|point| point == name);
        let calls = at(first).unwrap_or(0)..at(last).unwrap_or(points.len());
        let steps = 0..if first.is_empty() { run.steps.len() } else { 0 };
        let call = |signal| move |point| Cut::Call(Moment { point, signal });
        let everywhere = |signal: Signal| {
            let steps = steps.clone().map(move |step| Cut::Step(step, signal));
            calls.clone().map(call(signal)).chain(steps)
        };
        let cuts: Vec<Cut> = match extent {
            Extent::Killed => {
                let interrupted = calls.clone().skip(3).step_by(16).map(call(Signal::INT));
                let terminated = calls.clone().skip(11).step_by(16).map(call(Signal::TERM));
                everywhere(Signal::KILL).chain(interrupted).chain(terminated).collect()
            }
            Extent::Interrupted => everywhere(Signal::INT).chain(everywhere(Signal::TERM)).collect(),
        };
        let next = AtomicUsize::new(0);
        let worlds = Mutex::new(HashSet::new());
        let (counts, searched) = (Mutex::new(&mut counts.cuts), &counts.searched);
        std::thread::scope(|scope| {
            for _ in 0..self.at_once {
                scope.spawn(|| {
                    while let Some(cut) = cuts.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let kind = named(cut.signal());
                        let machine = Machine::from(start);
                        let run = machine.run(self.arguments, Some(*cut));
                        let killed = self.check(&machine, *cut, &run, searched);
                        let step = run.steps.last().cloned();
                        let world = (kind, step, machine.outside.effects(), final_state(&machine).to_string());
                        let is_new = worlds.lock().unwrap().insert(world);
                        if is_new {
                            let again = machine.run(self.arguments, None);
                            assert!(
                                again.status.success(),
                                "after {}: {again}\nbefore: {run}",
                                told(*cut, &points)
                            );
                            one_of_each_works(&machine);
                            nothing_has_leaked(&machine, &again, searched);
                            same(
                                &final_state(&machine),
                                &wanted,
                                &format!("{} cut off at {}", self.name, told(*cut, &points)),
                            );
                        }
                        let mut counts = counts.lock().unwrap();
                        let count = counts.entry(kind).or_default();
                        count.points += 1;
                        count.killed += u64::from(killed);
                        count.repeated += u64::from(is_new);
                        count.converged += 1;
                    }
                });
            }
        });
        println!(
            "  {}: {} cuts left {} worlds",
            self.name,
            cuts.len(),
            worlds.into_inner().unwrap().len()
        );
    }

    /// What holds after every cut; says whether it was one.
    fn check(&self, machine: &Machine, cut: Cut, run: &Finished, searched: &Searched) -> bool {
        let signal = cut.signal();
        // A command that has nothing to wait for does not listen for signals.
        let killed = run.status.signal() == Some(signal.as_raw()) || run.status.code() == Some(130);
        assert!(killed || run.status.success(), "{} {cut:?}: {run}", self.name);
        one_of_each_works(machine);
        nothing_has_leaked(machine, run, searched);
        killed
    }

    fn report(&self, extent: Extent, counts: &Counts) {
        let how = match extent {
            Extent::Killed => "killed",
            Extent::Interrupted => "interrupted",
        };
        counts.searched.report(&format!("{}, {how} everywhere", self.name));
        for (kind, count) in &counts.cuts {
            let Count {
                points,
                killed,
                repeated,
                converged,
            } = *count;
            let subject = format!("{}, {kind}", self.name);
            let is_kill = *kind == "SIGKILL";
            if is_kill == (extent == Extent::Killed) {
                let figures = [
                    ("points", points),
                    ("killed", killed),
                    ("worlds", repeated),
                    ("converged", converged),
                ];
                report::figure("kill", &subject, &figures);
            }
            // Calls that are made at the same time come in another order each time, so the last one may be one fewer; the other
            // signals can come too late, and on a busy machine most of them do.
            let least = if is_kill { points - points / 20 } else { points / 4 };
            assert!(killed >= least, "{subject}: {killed} of {points} cut it off");
        }
    }

    /// Cuts it off everywhere, from one start.
    fn matrix(&self, extent: Extent, start: &Start) {
        let mut counts = Counts::default();
        self.cut_everywhere(extent, start, "", "", &mut counts);
        self.report(extent, &counts);
    }
}

fn named(signal: Signal) -> &'static str {
    match signal {
        Signal::KILL => "SIGKILL",
        Signal::INT => "SIGINT",
        _ => "SIGTERM",
    }
}

fn told(cut: Cut, points: &[String]) -> String {
    let signal = named(cut.signal());
    match cut {
        Cut::Call(Moment { point, .. }) => format!("point {point} ({}) by {signal}", points[point]),
        Cut::Step(step, _) => format!("the beginning of step {step} by {signal}"),
    }
}

/// Two states are the same; else the lines in which they differ are told.
fn same(found: &Value, wanted: &Value, when: &str) {
    if found != wanted {
        let text = |value: &Value| serde_json::to_string_pretty(value).unwrap();
        let diff = similar::TextDiff::from_lines(text(wanted), text(found))
            .unified_diff()
            .context_radius(2)
            .to_string();
        panic!("{when}: it ends in another state\n{diff}");
    }
}

const UP_OPERATION: Operation = Operation {
    name: "up",
    arguments: &UP,
    at_once: 4,
};

const DOWN_OPERATION: Operation = Operation {
    name: "down",
    arguments: &DOWN,
    at_once: 6,
};

const ROTATE_PASSWORD: Operation = Operation {
    name: "rotate argocd-password",
    arguments: &PASSWORD,
    at_once: 16,
};

const ROTATE_KEY: Operation = Operation {
    name: "rotate deploy-key",
    arguments: &KEY,
    at_once: 48,
};

const BUMP: Operation = Operation {
    name: "bump",
    arguments: &["bump", "main-service", "--image-tag", "v2.0.0", "--commit"],
    at_once: 4,
};

fn up(extent: Extent) {
    let mut counts = Counts::default();
    UP_OPERATION.cut_everywhere(extent, &NOTHING, "", IN_THE_CLUSTER, &mut counts);
    // What comes after is cut off in runs that find the first half done.
    UP_OPERATION.cut_everywhere(extent, &HALF_UP, IN_THE_CLUSTER, "", &mut counts);
    UP_OPERATION.report(extent, &counts);
}

#[test]
fn up_that_is_killed_anywhere_converges() {
    up(Extent::Killed);
}

#[test]
#[ignore = "takes minutes: `cargo xtask test` runs it"]
fn up_that_is_interrupted_anywhere_converges() {
    up(Extent::Interrupted);
}

#[test]
fn down_that_is_killed_anywhere_converges() {
    DOWN_OPERATION.matrix(Extent::Killed, &UP_ALREADY);
}

#[test]
#[ignore = "takes a minute: `cargo xtask test` runs it"]
fn down_that_is_interrupted_anywhere_converges() {
    DOWN_OPERATION.matrix(Extent::Interrupted, &UP_ALREADY);
}

#[test]
fn a_rotation_of_the_password_that_is_killed_anywhere_converges() {
    ROTATE_PASSWORD.matrix(Extent::Killed, &UP_ALREADY);
}

#[test]
#[ignore = "takes a minute: `cargo xtask test` runs it"]
fn a_rotation_of_the_password_that_is_interrupted_anywhere_converges() {
    ROTATE_PASSWORD.matrix(Extent::Interrupted, &UP_ALREADY);
}

#[test]
fn a_rotation_of_the_deploy_key_that_is_killed_anywhere_converges() {
    ROTATE_KEY.matrix(Extent::Killed, &UP_ALREADY);
}

#[test]
#[ignore = "takes a minute: `cargo xtask test` runs it"]
fn a_rotation_of_the_deploy_key_that_is_interrupted_anywhere_converges() {
    ROTATE_KEY.matrix(Extent::Interrupted, &UP_ALREADY);
}

#[test]
fn a_bump_that_is_killed_anywhere_converges() {
    BUMP.matrix(Extent::Killed, &COMMITTED);
}

#[test]
#[ignore = "takes a minute: `cargo xtask test` runs it"]
fn a_bump_that_is_interrupted_anywhere_converges() {
    BUMP.matrix(Extent::Interrupted, &COMMITTED);
}
