//! What is outside goes wrong in the middle of a command: it is ridden out, or told with the call and the next step; and once it
//! is mended, the same command ends as if nothing had happened.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::canary::Searched;
use crate::checks::{final_state, nothing_has_leaked, one_of_each_works};
use crate::machine::{Cut, ENVIRONMENT, Finished, Machine, Start, TOKEN, script};
use crate::outside::{Away, Moment, NodeGroup, Trouble};
use crate::{DOWN, KEY, NOTHING, PASSWORD, UP, UP_ALREADY, report, same};

pub(crate) const STATUS: [&str; 2] = ["status", ENVIRONMENT];

/// The one document, which is the last line.
pub(crate) fn document(run: &Finished) -> Value {
    serde_json::from_str(run.stdout.lines().last().unwrap_or_else(|| panic!("{run}"))).unwrap()
}

/// Calls `check` with each of `points`, several at the same time.
pub(crate) fn at_each(points: &[usize], at_once: usize, check: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check(*point);
                }
            });
        }
    });
}

/// The calls of an undisturbed run and what it ends in.
pub(crate) fn undisturbed(start: &Start, arguments: &[&str]) -> (Vec<String>, Value) {
    let machine = Machine::from(start);
    let run = machine.run(arguments, None);
    assert!(run.status.success(), "{run}");
    (machine.outside.points(), final_state(&machine))
}

/// The first call of each kind, by number; one that is made for every object of many counts once.
pub(crate) fn first_of_each_kind(points: &[String]) -> Vec<usize> {
    let kind = |point: &str| match point.split_once("/apis/").or_else(|| point.split_once("/api/")) {
        // Method and plural.
        Some((method, path)) => {
            let plural = path.split('/').filter(|part| !part.is_empty()).rev().nth(1);
            format!("{method} {}", plural.unwrap_or_default())
        }
        None => point.to_owned(),
    };
    let mut seen = std::collections::BTreeSet::new();
    (0..points.len()).filter(|n| seen.insert(kind(&points[*n]))).collect()
}

/// What stands on the machine while it is not known what an interrupted apply has cut off.
const MARK: &str = "project/.mfsre/demo/apply.interrupted";

#[test]
fn what_was_interrupted_is_forgotten_once_it_is_looked_for_or_removed() {
    let (points, _) = undisturbed(&NOTHING, &UP);
    let point = points.iter().position(|point| point == "terraform apply").unwrap();
    let interrupted = || {
        let machine = Machine::from(&NOTHING);
        let moment = Moment {
            point,
            signal: Signal::INT,
        };
        let run = machine.run(&UP, Some(Cut::Call(moment)));
        assert_eq!(run.status.code(), Some(130), "{run}");
        machine
    };
    for command in [&UP[..], &DOWN] {
        // The signal may come when the apply has ended, which is quick here.
        let mut tries = (0..20).map(|_| interrupted());
        let machine = tries.find(|machine| machine.path(MARK).exists()).unwrap();
        let run = machine.run(command, None);
        assert!(run.status.success(), "{run}");
        assert!(!machine.path(MARK).exists(), "{run}");
    }
}

#[test]
fn a_panic_in_any_step_is_told_leaks_nothing_and_is_made_up_for_by_the_next_run() {
    let operations: [(&Start, &[&str]); 4] = [
        (&NOTHING, &UP),
        (&UP_ALREADY, &PASSWORD),
        (&UP_ALREADY, &KEY),
        (&UP_ALREADY, &DOWN),
    ];
    let whole = operations.map(|(start, arguments)| {
        let machine = Machine::from(start);
        let steps = machine.run(arguments, None).steps;
        (start, arguments, steps, final_state(&machine))
    });
    let cases: Vec<_> = whole
        .iter()
        .flat_map(|(start, arguments, steps, wanted)| steps.iter().map(move |step| (start, arguments, step, wanted)))
        .collect();
    let (panics, searched) = (AtomicUsize::new(0), Searched::default());
    at_each(&(0..cases.len()).collect::<Vec<_>>(), 16, |case| {
        let (start, arguments, step, wanted) = cases[case];
        let mut machine = Machine::from(start);
        machine.variables.push(("MFSRE_TEST_PANIC", step.clone()));
        let run = machine.run(arguments, None);
        machine.variables.clear();
        // A step that finds nothing to do does not come to it.
        if !run.status.success() {
            panics.fetch_add(1, Ordering::Relaxed);
            assert_eq!(run.status.code(), Some(101), "{step}: {run}");
            assert!(run.stderr.contains("error: mfsre has a flaw, and stopped"), "{run}");
            assert!(run.stderr.contains("because: a test asked for it"), "{run}");
        }
        nothing_has_leaked(&machine, &run, &searched);
        one_of_each_works(&machine);
        let again = machine.run(arguments, None);
        assert!(again.status.success(), "after a panic in {step}: {again}");
        same(
            &final_state(&machine),
            wanted,
            &format!("{arguments:?}, a panic in {step}"),
        );
    });
    let panics = panics.into_inner();
    assert!(panics >= 20, "{panics} panics");
    searched.report("a panic in each step");
}

#[test]
fn a_git_host_that_is_gone_keeps_down_from_nothing_else_when_it_is_forced() {
    let machine = Machine::from(&UP_ALREADY);
    machine.outside.change(|world| world.git_host.gone = true);
    let kept = |machine: &Machine| !machine.outside.world().aws.parameters.is_empty();
    let down = machine.run(&DOWN, None);
    assert_eq!(down.status.code(), Some(1), "{down}");
    let said = document(&down).to_string();
    assert!(said.contains("down demo --force"), "{said}");
    assert!(kept(&machine), "what is needed to revoke the key is kept");
    let forced = machine.run(&[&DOWN[..], &["--force"]].concat(), None);
    assert!(forced.status.success(), "{forced}");
    let said = format!("{}{}", forced.stdout, forced.stderr);
    assert!(
        said.contains("--force: the deploy key SHA256:") && said.contains("is not taken off the git host"),
        "{said}"
    );
    assert!(!kept(&machine), "{forced}");
}

#[test]
fn the_token_of_gh_is_taken_and_gh_is_given_no_secret() {
    let mut machine = Machine::from(&NOTHING);
    machine
        .variables
        .extend(["GITHUB_TOKEN", "GH_TOKEN"].map(|name| (name, String::new())));
    let told = machine.path("environment-of-gh");
    let gh = format!("#!/bin/sh\nenv > '{}'\necho {TOKEN}\n", told.display());
    script(&machine.path("bin/gh"), &gh);
    let run = machine.run(&UP, None);
    assert!(run.status.success(), "{run}");
    let told = std::fs::read_to_string(told).unwrap();
    assert!(told.contains("HOME="), "{told}");
    let known = |line: &&str| line.starts_with("AWS_") || line.contains("canary");
    assert_eq!(told.lines().filter(known).collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn a_credential_that_is_old_enough_is_rotated_and_one_that_is_not_stays() {
    let rotate = |machine: &Machine, age: &str| {
        let run = machine.run(
            &["rotate", "argocd-password", ENVIRONMENT, "--if-older-than", age],
            None,
        );
        assert!(run.status.success(), "{run}");
        machine
            .outside
            .world()
            .aws
            .secrets
            .values()
            .next()
            .unwrap()
            .labelled("AWSCURRENT")
            .unwrap()
            .id
            .clone()
    };
    let machine = Machine::from(&UP_ALREADY);
    machine.outside.change(|world| world.aws.age = 7200);
    let first = rotate(&machine, "3h");
    assert_eq!(rotate(&machine, "3h"), first);
    assert_ne!(rotate(&machine, "1h"), first);
}

#[test]
#[ignore = "takes a minute: `cargo xtask test` runs it"]
fn credentials_that_run_out_in_the_middle_of_up_are_told_and_fresh_ones_go_on() {
    let (points, wanted) = undisturbed(&NOTHING, &UP);
    let moments = first_of_each_kind(&points);
    let (told, searched) = (AtomicUsize::new(0), Searched::default());
    at_each(&moments, 4, |point| {
        let machine = Machine::from(&NOTHING);
        machine.outside.disturb(point, Trouble::Expiry);
        let run = machine.run(&UP, None);
        nothing_has_leaked(&machine, &run, &searched);
        one_of_each_works(&machine);
        let when = format!("from point {point} ({}) on", points[point]);
        if machine.outside.refused() == 0 {
            assert!(run.status.success(), "{when}: {run}");
        } else {
            told.fetch_add(1, Ordering::Relaxed);
            assert_eq!(run.status.code(), Some(1), "{when}: {run}");
            let error = document(&run)["error"].to_string();
            assert!(error.contains("sign in again"), "{when}: {error}");
            assert!(error.contains("run the same command again"), "{when}: {error}");
            names_the_call(&error, &when);
        }
        machine.outside.change(|world| world.expired = false);
        let again = machine.run(&UP, None);
        assert!(again.status.success(), "{when}: {again}\nbefore: {run}");
        nothing_has_leaked(&machine, &again, &searched);
        same(&final_state(&machine), &wanted, &when);
    });
    let told = told.into_inner();
    assert!(told * 2 > moments.len(), "{told} of {}", moments.len());
    disturbed(
        "up, credentials that run out",
        moments.len(),
        moments.len() - told,
        told,
    );
    searched.report("up, credentials that run out");
}

/// The error says which call came to nothing.
fn names_the_call(error: &str, when: &str) {
    let of_aws = [" failed with ExpiredToken", " failed with RequestExpired"];
    let of_others = ["operation error STS: GetCallerIdentity", "cannot "];
    let named = of_aws.iter().chain(&of_others).any(|sign| error.contains(sign));
    assert!(named, "{when}: {error}");
}

fn disturbed(subject: &str, scenarios: usize, survived: usize, told: usize) {
    let count = |n: usize| n as u64;
    report::figure(
        "faults",
        subject,
        &[
            ("faults", 1),
            ("calls", count(scenarios)),
            ("scenarios", count(scenarios)),
            ("retried", count(survived)),
            ("told", count(told)),
        ],
    );
}

fn of_cluster(points: &[String]) -> Vec<usize> {
    let is_of_cluster = |n: &usize| {
        let (_, path) = points[*n].split_once(' ').unwrap_or_default();
        ["/api", "/version"].iter().any(|part| path.starts_with(part)) && !points[*n].ends_with(", done")
    };
    let all = first_of_each_kind(points);
    all.into_iter().filter(is_of_cluster).collect()
}

#[test]
#[ignore = "takes a minute: `cargo xtask test` runs it"]
fn an_api_server_that_goes_away_in_the_middle_of_up_is_waited_for_or_told() {
    let (points, wanted) = undisturbed(&NOTHING, &UP);
    let moments = of_cluster(&points);
    assert!(moments.len() > 8, "{moments:?}");
    let searched = Searched::default();
    // As long as a restart takes.
    at_each(&moments, 8, |point| {
        let machine = Machine::from(&NOTHING);
        machine.outside.disturb(point, Trouble::Absence(Away::For(3)));
        let run = machine.run(&UP, None);
        let when = format!("away at point {point} ({})", points[point]);
        assert!(run.status.success(), "{when}: {run}");
        assert_eq!(machine.outside.refused(), 3, "{when}");
        nothing_has_leaked(&machine, &run, &searched);
        same(&final_state(&machine), &wanted, &when);
    });
    // For good: each call is tried for a while.
    at_each(&moments, 24, |point| {
        let machine = Machine::from(&NOTHING);
        machine.outside.disturb(point, Trouble::Absence(Away::ForEver));
        let run = machine.run(&UP, None);
        let when = format!("gone at point {point} ({})", points[point]);
        assert_eq!(run.status.code(), Some(1), "{when}: {run}");
        let error = document(&run)["error"].to_string();
        for part in [
            "cannot ",
            "check that this machine reaches the cluster's endpoint",
            "run the same command again",
        ] {
            assert!(error.contains(part), "{when}: {part}: {error}");
        }
        nothing_has_leaked(&machine, &run, &searched);
        one_of_each_works(&machine);
        machine.outside.change(|world| world.cluster.away = Away::Not);
        let again = machine.run(&UP, None);
        assert!(again.status.success(), "{when}: {again}\nbefore: {run}");
        same(&final_state(&machine), &wanted, &when);
    });
    disturbed(
        "up, an API server that goes away",
        2 * moments.len(),
        moments.len(),
        moments.len(),
    );
    searched.report("up, an API server that goes away");
}

#[test]
fn a_cluster_that_is_there_and_cannot_be_reached_is_told() {
    let machine = Machine::from(&UP_ALREADY);
    let before = final_state(&machine);
    machine.outside.change(|world| world.cluster.away = Away::ForEver);
    let up = machine.run(&UP, None);
    assert_eq!(up.status.code(), Some(1), "{up}");
    assert_eq!(up.steps.last().map(String::as_str), Some("cluster"), "{up}");
    let error = document(&up)["error"].to_string();
    assert!(error.contains("cannot reach http://127.0.0.1:"), "{error}");
    assert!(
        error.contains("check that this machine reaches the cluster's endpoint"),
        "{error}"
    );
    let status = machine.run(&STATUS, None);
    assert_eq!(status.status.code(), Some(3), "{status}");
    let cluster = &document(&status)["cluster"];
    assert_eq!(cluster["state"], "ACTIVE");
    let problem = cluster["problem"].as_str().unwrap();
    // It does not wait as long as a command that has to get through.
    assert_eq!(problem, "the Kubernetes API did not answer within 10 s");
    machine.outside.change(|world| world.cluster.away = Away::Not);
    assert!(machine.run(&UP, None).status.success());
    same(&final_state(&machine), &before, "after the cluster was back");
}

/// What can be taken away from outside is, and the rest is told.
#[test]
fn down_without_the_cluster_says_what_it_could_not_see() {
    let litter = |machine: &Machine| {
        machine.outside.change(|world| {
            world.aws.volumes = vec!["vol-1".into()];
            // What is behind it, a sweep on AWS takes away, which tests of the sweep show.
            world.cluster.objects.retain(|id, _| id.2 != "front");
        });
    };
    let reached = Machine::from(&UP_ALREADY);
    litter(&reached);
    assert!(reached.run(&DOWN, None).status.success());
    let machine = Machine::from(&UP_ALREADY);
    litter(&machine);
    machine.outside.change(|world| world.cluster.away = Away::ForEver);
    let down = machine.run(&DOWN, None);
    assert!(down.status.success(), "{down}");
    let document = document(&down);
    let unseen = document["unseen"].to_string();
    for part in [
        "the cluster cannot be reached: cannot reach http://127.0.0.1:",
        "connection closed before message completed",
        "its Applications, load balancers, volume claims and node pools were not seen",
        "what its controllers have made on AWS was looked for there",
    ] {
        assert!(unseen.contains(part), "{part}: {unseen}");
    }
    assert_eq!(document["removed"][0]["id"], "vol-1", "{down}");
    assert_eq!(document["aws"], serde_json::json!([]), "{down}");
    same(&final_state(&machine), &final_state(&reached), "without the cluster");
}

/// Ctrl-C and a shutdown while `down` looks for what is left.
#[test]
#[ignore = "takes a minute: `cargo xtask test` runs it"]
fn a_final_sweep_that_is_cut_off_anywhere_is_finished_by_the_next_down() {
    let litter = |machine: &Machine| {
        let volumes = vec!["vol-1".to_owned(), "vol-2".to_owned()];
        machine.outside.change(|world| world.aws.volumes = volumes);
    };
    let whole = Machine::from(&UP_ALREADY);
    litter(&whole);
    let run = whole.run(&DOWN, None);
    assert!(run.status.success(), "{run}");
    let (points, wanted) = (whole.outside.points(), final_state(&whole));
    let last = |name: &str| {
        points
            .iter()
            .rposition(|point| point == name)
            .unwrap_or_else(|| panic!("{name}"))
    };
    let sweep: Vec<usize> = (last("terraform apply, done") + 1..=last("DeleteVolume, done") + 4).collect();
    let searched = Searched::default();
    for (kind, signal) in [("SIGINT", Signal::INT), ("SIGTERM", Signal::TERM)] {
        let killed = AtomicUsize::new(0);
        at_each(&sweep, 6, |point| {
            let machine = Machine::from(&UP_ALREADY);
            litter(&machine);
            let run = machine.run(&DOWN, Some(Cut::Call(Moment { point, signal })));
            let when = format!("{kind} at point {point} ({})", points[point]);
            let ended = run.status.code() == Some(130) || run.status.code().is_none();
            assert!(ended || run.status.success(), "{when}: {run}");
            killed.fetch_add(usize::from(ended), Ordering::Relaxed);
            nothing_has_leaked(&machine, &run, &searched);
            let again = machine.run(&DOWN, None);
            assert!(again.status.success(), "{when}: {again}");
            same(&final_state(&machine), &wanted, &when);
        });
        let (points, killed) = (sweep.len() as u64, killed.into_inner() as u64);
        report::figure(
            "kill",
            &format!("the final sweep of down, {kind}"),
            &[("points", points), ("killed", killed), ("converged", points)],
        );
        assert!(killed * 2 > points, "{kind}: {killed} of {points} cut it off");
    }
    searched.report("down, cut off in its final sweep");
}

#[test]
fn what_was_not_created_well_is_removed_and_made_again() {
    let (_, wanted) = undisturbed(&NOTHING, &UP);
    let machine = Machine::from(&NOTHING);
    machine
        .outside
        .change(|world| world.infrastructure.node_group = NodeGroup::Fails);
    let failed = machine.run(&UP, None);
    assert_eq!(failed.status.code(), Some(1), "{failed}");
    let error = document(&failed)["error"].to_string();
    assert!(
        error.contains("NodeCreationFailure: Instances failed to join"),
        "{error}"
    );
    assert!(error.contains("run the same command again"), "{error}");
    let again = machine.run(&UP, None);
    assert!(again.status.success(), "{again}");
    let note = "module.eks.aws_eks_node_group.system was not created well; it is removed, and made again";
    assert!(again.stdout.contains(note), "{again}");
    assert_eq!(machine.outside.world().infrastructure.node_group, NodeGroup::Well);
    same(&final_state(&machine), &wanted, "after a node group failed");
}

#[test]
fn what_was_not_created_well_and_is_used_is_left_to_a_person() {
    let machine = Machine::from(&UP_ALREADY);
    let tainted = NodeGroup::TaintedAndUsed;
    machine
        .outside
        .change(|world| world.infrastructure.node_group = tainted);
    let up = machine.run(&UP, None);
    assert_eq!(up.status.code(), Some(1), "{up}");
    let error = document(&up)["error"].to_string();
    for part in [
        "module.eks.aws_eks_node_group.system (demo:system) was not created well",
        "other resources of the state stand on it",
        "terraform untaint 'module.eks.aws_eks_node_group.system'",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(
        machine.outside.world().infrastructure.node_group,
        tainted,
        "nothing was removed"
    );
}
