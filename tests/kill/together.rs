//! Two at once, and what others have left: one proceeds and the other says who holds what since when, or both converge.

use std::sync::mpsc;

use crate::checks::{final_state, one_of_each_works};
use crate::machine::{ENVIRONMENT, Finished, Machine, Start};
use crate::{DOWN, NOTHING, UP, UP_ALREADY, same};

const PASSWORD: [&str; 3] = ["rotate", "argocd-password", ENVIRONMENT];
const KEY: [&str; 3] = ["rotate", "deploy-key", ENVIRONMENT];

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

#[test]
fn on_two_machines_both_converge_or_one_stands_back() {
    let operations = [
        ("up", &NOTHING, &UP[..]),
        ("password", &UP_ALREADY, &PASSWORD[..]),
        ("key", &UP_ALREADY, &KEY[..]),
    ];
    std::thread::scope(|scope| {
        for (name, start, arguments) in operations {
            scope.spawn(move || on_two_machines(name, start, arguments));
        }
    });
}

fn on_two_machines(name: &str, start: &Start, arguments: &[&str]) {
    let undisturbed = Machine::from(start);
    assert!(undisturbed.run(arguments, None).status.success());
    let here = Machine::from(start);
    let other = here.beside();
    let (one, two) = both(arguments, arguments, &here, &other);
    one_of_each_works(&here);
    assert!(one.status.success() || two.status.success(), "{name}: {one}\n{two}");
    for (machine, run) in [(&here, &one), (&other, &two)] {
        assert!(matches!(code(run), 0 | 75), "{name}: {run}");
        if code(run) == 75 {
            let again = machine.run(arguments, None);
            assert!(again.status.success(), "{name}: {again}");
        }
    }
    one_of_each_works(&here);
    same(&final_state(&here), &final_state(&undisturbed), name);
}

/// Two people want opposite things, each on a machine of their own. Either may fail and say why; whatever comes of it, the next
/// `down` finds it, and takes away everything that a single `down` does.
#[test]
fn up_on_one_machine_during_down_on_another_leaves_nothing_that_is_not_found() {
    let undisturbed = Machine::from(&UP_ALREADY);
    assert!(undisturbed.run(&DOWN, None).status.success());
    let here = Machine::from(&UP_ALREADY);
    let other = here.beside();
    let (down, up) = both(&DOWN, &UP, &here, &other);
    for run in [&down, &up] {
        assert!(matches!(code(run), 0 | 1 | 75), "{run}");
        let told: serde_json::Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
        let hinted = told["error"]["hints"].as_array().is_some_and(|hints| !hints.is_empty());
        assert!(code(run) == 0 || hinted, "it says what to do next: {run}");
    }
    let last = here.run(&DOWN, None);
    assert!(last.status.success(), "{last}\nbefore: {down}\n{up}");
    same(&final_state(&here), &final_state(&undisturbed), "up during down");
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
