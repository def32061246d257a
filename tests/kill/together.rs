//! Two at once, and what others have left: one proceeds and the other says who holds what since when, or both converge.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, mpsc};

use rustix::process::Signal;
use serde_json::Value;

use crate::checks::{final_state, one_of_each_works};
use crate::machine::{Cut, ENVIRONMENT, Finished, Machine, Start};
use crate::trouble::{STATUS, at_each, document, first_of_each_kind, undisturbed};
use crate::{DOWN, KEY, NOTHING, PASSWORD, UP, UP_ALREADY, report, same};

fn code(run: &Finished) -> i32 {
    run.status.code().unwrap()
}

/// Runs `first` here, and `second` at `other` once the first has begun a step.
fn both(first: &[&str], second: &[&str], here: &Machine, other: &Machine) -> (Finished, Finished) {
    std::thread::scope(|scope| {
        let (began, begun) = mpsc::channel();
        let one = scope.spawn(move || here.run_telling(first, None, Some(began)));
        begun.recv().unwrap();
        let two = other.run(second, None);
        (one.join().unwrap(), two)
    })
}

#[test]
fn on_one_machine_the_second_is_told_who_is_at_work_since_when() {
    for (start, first, second, holder) in [
        (&NOTHING, &UP[..], &UP[..], "up demo"),
        (&NOTHING, &UP[..], &DOWN[..], "up demo"),
        (&UP_ALREADY, &DOWN[..], &UP[..], "down demo"),
        (&UP_ALREADY, &DOWN[..], &PASSWORD[..], "down demo"),
        (&UP_ALREADY, &PASSWORD[..], &PASSWORD[..], "rotate argocd-password demo"),
        (&UP_ALREADY, &KEY[..], &KEY[..], "rotate deploy-key demo"),
        (&UP_ALREADY, &KEY[..], &PASSWORD[..], "rotate deploy-key demo"),
    ] {
        let machine = Machine::from(start);
        let (one, two) = both(first, second, &machine, &machine);
        assert!(one.status.success(), "{one}");
        assert_eq!(code(&two), 75, "{two}");
        assert!(
            two.stdout.contains(&format!("`mfsre {holder}` of alice (process ")),
            "{two}"
        );
        assert!(two.stdout.contains(") holds the lock since 20"), "{two}");
        one_of_each_works(&machine);
    }
}

/// Runs `second` on another machine while `first` waits here before its call number `point`; after it, where `first` has
/// made fewer calls, because it had to ask less often whether something has come about. Says whether it waited.
fn between(
    first: &[&str],
    second: &[&str],
    start: &Start,
    point: usize,
    silent: i64,
) -> (Machine, [Finished; 2], bool) {
    let here = Machine::from(start);
    let other = here.beside();
    let two = OnceLock::new();
    let run_second = || {
        here.outside.change(|world| world.aws.silent = silent);
        two.set(other.run(second, None)).ok().unwrap();
        one_of_each_works(&here);
        here.outside.change(|world| world.aws.silent = 0);
    };
    let (one, waited) = here.outside.between(point, || here.run(first, None), run_second);
    if !waited {
        run_second();
    }
    one_of_each_works(&here);
    (here, [one, two.into_inner().unwrap()], waited)
}

/// What is at work, and what begins meanwhile.
fn pairs() -> [(&'static Start, &'static [&'static str], &'static [&'static str]); 4] {
    [
        (&NOTHING, &UP, &DOWN),
        (&UP_ALREADY, &DOWN, &UP),
        (&UP_ALREADY, &PASSWORD, &PASSWORD),
        (&UP_ALREADY, &KEY, &DOWN),
    ]
}

/// The state after one command and then the other.
fn one_after_the_other(start: &Start, commands: [&[&str]; 2]) -> Value {
    let machine = Machine::from(start);
    for command in commands {
        let run = machine.run(command, None);
        assert!(run.status.success(), "{run}");
    }
    final_state(&machine)
}

/// The second is told who is at work.
fn stands_back(first: &[&str], second: &Finished) {
    let environment = first.iter().position(|word| *word == ENVIRONMENT).unwrap();
    let holder = format!("`mfsre {}` of alice at ", first[..=environment].join(" "));
    assert_eq!(code(second), 75, "{second}");
    for part in [&holder, "holds the lock since 20", "its lock ends by itself at 20"] {
        assert!(second.stdout.contains(part), "{part}: {second}");
    }
}

/// When the lock is had: after the second of the calls that put it.
fn locked(points: &[String]) -> usize {
    let puts = points.iter().enumerate();
    let mut puts = puts.filter(|(_, point)| *point == "AmazonSSM.PutParameter, done");
    puts.nth(1).unwrap().0 + 1
}

/// The first call of each kind, by number.
fn calls(points: &[String]) -> Vec<usize> {
    let first = first_of_each_kind(points);
    first.into_iter().filter(|n| !points[*n].ends_with(", done")).collect()
}

#[test]
fn on_two_machines_the_second_is_told_who_is_at_work_since_when() {
    std::thread::scope(|scope| {
        for (start, first, second) in [
            (&NOTHING, &UP[..], &DOWN[..]),
            (&UP_ALREADY, &DOWN, &UP),
            (&UP_ALREADY, &KEY, &PASSWORD),
        ] {
            scope.spawn(move || {
                let (points, _) = undisturbed(start, first);
                let (_, [one, two], waited) = between(first, second, start, locked(&points), 0);
                assert!(waited && one.status.success(), "{one}");
                stands_back(first, &two);
            });
        }
    });
}

#[test]
fn status_shows_who_is_at_work() {
    let (points, _) = undisturbed(&UP_ALREADY, &DOWN);
    let (machine, [_, status], waited) = between(&DOWN, &STATUS, &UP_ALREADY, locked(&points), 0);
    let at_work = &document(&status)["at_work"];
    assert!(
        waited && at_work["command"] == "down demo" && at_work["user"] == "alice",
        "{status}"
    );
    assert!(at_work["since"].as_str().unwrap().ends_with('Z'), "{status}");
    let after = machine.run(&STATUS, None);
    assert_eq!(document(&after)["at_work"], Value::Null);
}

#[test]
#[ignore = "takes minutes: `cargo xtask test` runs it"]
fn on_two_machines_it_does_not_matter_when_the_second_begins() {
    for (start, first, second) in pairs() {
        let (points, _) = undisturbed(start, first);
        let moments = calls(&points).into_iter().filter(|point| *point >= locked(&points));
        let moments: Vec<usize> = moments.collect();
        let wanted = one_after_the_other(start, [first, second]);
        let stood_back = AtomicU64::new(0);
        at_each(&moments, 4, |point| {
            let when = format!("{second:?} during {first:?}, at {}", points[point]);
            let (machine, [one, two], waited) = between(first, second, start, point, 0);
            assert!(one.status.success(), "{when}: {one}");
            if waited {
                stands_back(first, &two);
                stood_back.fetch_add(1, Ordering::Relaxed);
                let again = machine.run(second, None);
                assert!(again.status.success(), "{when}: {again}");
            }
            same(&final_state(&machine), &wanted, &when);
        });
        figure(
            &format!("{} during {}", second.join(" "), first.join(" ")),
            &moments,
            stood_back,
        );
    }
}

fn figure(subject: &str, moments: &[usize], stood_back: AtomicU64) {
    let figures = [
        ("moments", moments.len() as u64),
        ("stood back", stood_back.into_inner()),
    ];
    report::figure("together", subject, &figures);
}

/// The lock is no more than a courtesy: where it is taken over from one who is only slow, both converge.
#[test]
#[ignore = "takes a minute: `cargo xtask test` runs it"]
fn a_command_that_lost_its_lock_and_its_successor_converge() {
    for (start, command) in [
        (&NOTHING, &UP[..]),
        (&UP_ALREADY, &PASSWORD[..]),
        (&UP_ALREADY, &KEY[..]),
    ] {
        let (points, wanted) = undisturbed(start, command);
        let moments = calls(&points);
        let stood_back = AtomicU64::new(0);
        at_each(&moments, 8, |point| {
            let when = format!("{command:?} twice, at {}", points[point]);
            let (machine, runs, _) = between(command, command, start, point, 600);
            for run in runs {
                assert!(matches!(code(&run), 0 | 75), "{when}: {run}");
                stood_back.fetch_add(u64::from(code(&run) == 75), Ordering::Relaxed);
            }
            // A rotation that stood back has not rotated: nothing is to be done again.
            if command == UP {
                let again = machine.run(command, None);
                assert!(again.status.success(), "{when}: {again}");
            }
            one_of_each_works(&machine);
            same(&final_state(&machine), &wanted, &when);
        });
        figure(
            &format!("{}, whose lock was lost", command.join(" ")),
            &moments,
            stood_back,
        );
    }
}

#[test]
fn what_a_dead_command_on_another_machine_left_is_taken_over_in_time() {
    let here = Machine::from(&NOTHING);
    let other = here.beside();
    let died = here.run(&UP, Some(Cut::Step(12, Signal::KILL)));
    assert_eq!(died.status.signal(), Some(9), "{died}");
    let early = other.run(&UP, None);
    assert_eq!(code(&early), 75, "{early}");
    here.outside.change(|world| world.aws.silent = 170);
    assert_eq!(code(&other.run(&UP, None)), 75);
    here.outside.change(|world| world.aws.silent = 180);
    let down = other.run(&DOWN, None);
    assert!(down.status.success(), "{down}");
    assert!(
        down.stdout.contains("taken over from a command that is gone since 20"),
        "{down}"
    );
}

#[test]
fn a_lock_of_the_state_that_somebody_else_holds_is_told_and_left() {
    let machine = Machine::from(&NOTHING);
    let held = (
        "ci@runner-7".to_owned(),
        "2026-11-25 20:06:22.83028021 +0000 UTC".to_owned(),
    );
    machine
        .outside
        .change(|world| world.infrastructure.lock = Some(held.clone()));
    for arguments in [&UP[..], &["plan", ENVIRONMENT]] {
        let run = machine.run(arguments, None);
        assert_eq!(code(&run), 75, "{run}");
        assert!(run.stdout.contains("ci@runner-7 since 2026-11-25 20:06:22"), "{run}");
        assert!(run.stdout.contains("terraform force-unlock lock-1"), "{run}");
    }
    let world = machine.outside.world();
    assert_eq!(
        (world.infrastructure.lock, world.infrastructure.unlocked.len()),
        (Some(held), 0)
    );
    machine.outside.change(|world| world.infrastructure.lock = None);
    let again = machine.run(&UP, None);
    assert!(again.status.success(), "{again}");
}

#[test]
fn a_lock_that_a_dead_terraform_of_ours_has_left_is_taken_away_and_no_others() {
    let machine = Machine::from(&NOTHING);
    let elsewhere = machine.beside();
    machine.outside.change(|world| world.infrastructure.dies = true);
    let died = machine.run(&UP, None);
    assert_eq!(code(&died), 1, "{died}");
    // It is this very host's, but not this project's: nothing proves that it is not in use.
    let other = elsewhere.run(&UP, None);
    assert_eq!(code(&other), 75, "{other}");
    assert!(machine.outside.world().infrastructure.unlocked.is_empty());
    let again = machine.run(&UP, None);
    assert!(again.status.success(), "{again}");
    assert_eq!(machine.outside.world().infrastructure.unlocked, ["lock-1"]);
}

#[test]
fn what_a_cut_off_apply_has_made_is_taken_in_if_its_tags_prove_it() {
    let undisturbed = Machine::from(&NOTHING);
    assert!(undisturbed.run(&UP, None).status.success());
    let machine = Machine::from(&NOTHING);
    machine
        .outside
        .change(|world| world.infrastructure.lost = Some(ENVIRONMENT.to_owned()));
    let up = machine.run(&UP, None);
    assert!(up.status.success(), "{up}");
    let note = "module.eks.aws_iam_role.cluster (demo-cluster) stands on AWS with this environment's tags";
    assert!(up.stdout.contains(note), "{up}");
    same(
        &final_state(&machine),
        &final_state(&undisturbed),
        "after a role was taken in",
    );
}

#[test]
fn what_is_not_provably_ours_stays_where_it_is() {
    let machine = Machine::from(&NOTHING);
    machine
        .outside
        .change(|world| world.infrastructure.lost = Some("another".to_owned()));
    let up = machine.run(&UP, None);
    assert_eq!(code(&up), 1, "{up}");
    for part in [
        "demo-cluster is on AWS already",
        "mfsre:environment",
        "terraform import 'module.eks.aws_iam_role.cluster' 'demo-cluster'",
    ] {
        assert!(up.stdout.contains(part), "{part}: {up}");
    }
    let world = machine.outside.world();
    assert!(world.infrastructure.is_gone(), "nothing was applied");
    assert!(!machine.path("project/infra/demo/mfsre_import.tf.json").exists());
}
