//! `up` is cut off again and again, and each next run takes it further, until everything stands as if nothing had happened. So are
//! both rotations and `down` on the same platform, by each signal. The fast tier does it at every call (`tests/kill`).

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::git::GitHost;
use crate::process::{processes_of, send};
use crate::project::{ENVIRONMENT, Finished, Project};
use crate::report;

const UP: [&str; 2] = ["up", ENVIRONMENT];

/// An event in the middle of a step's work.
type Moment = (&'static str, fn(&Value) -> bool);

/// Where `up` is killed, in order. Each run is stopped one step later than the one before.
const MOMENTS: [Moment; 10] = [
    ("sandbox", |e| {
        at_work(e, "sandbox") && message(e).starts_with("starting kube-apiserver")
    }),
    ("publish", |e| begins(e, "publish")),
    ("plan", |e| at_work(e, "plan")),
    ("apply", |e| at_work(e, "apply") && e["done"].as_u64() >= Some(1)),
    ("password", |e| begins(e, "password")),
    ("deploy-key", |e| begins(e, "deploy-key")),
    ("cluster-secrets", |e| begins(e, "cluster-secrets")),
    ("argocd", |e| at_work(e, "argocd") && e["done"].as_u64() >= Some(20)),
    ("roots", |e| begins(e, "roots")),
    ("healthy", |e| at_work(e, "healthy")),
];

fn begins(event: &Value, step: &str) -> bool {
    event["event"] == "step_started" && event["step"] == step
}

fn at_work(event: &Value, step: &str) -> bool {
    event["event"] == "step_progress" && event["step"] == step
}

fn message(event: &Value) -> &str {
    event["message"].as_str().unwrap_or_default()
}

#[test]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
fn up_that_was_killed_anywhere_converges_when_it_is_run_again() {
    let project = Project::new();
    let mut killed_in = None;
    let mut secret = None;
    for (step, moment) in MOMENTS {
        println!("  killed in {step}");
        let mut running = project.start(&UP);
        if step == "roots" {
            // In the middle of the install manifest.
            running.wait_for("argocd", |e| at_work(e, "argocd"));
            the_api_server_dies(&project);
        }
        running.wait_for(step, moment);
        let killed = running.kill();
        killed.expect_killed();
        the_cut_is_told(&killed, killed_in);
        killed_in = Some(step);
        if step == "plan" {
            an_interrupted_apply_is_waited_for(&project);
            // It was stopped in good order: there is nothing to tell.
            killed_in = None;
        }
        if secret.is_none() && after_password(step) {
            secret = Some(secret_version(&project));
        }
    }
    let mut last = project.start(&UP);
    last.wait_for("healthy", |e| at_work(e, "healthy"));
    the_api_server_dies(&project);
    let last = last.finish();
    the_cut_is_told(&last, killed_in);
    assert_eq!(last.exit(0)["ok"], true);
    let api_server = api_server(&project);
    assert_eq!(
        api_server["restarts"], 2,
        "it was started again each time: {api_server}"
    );
    everything_stands_once(&project, secret.expect("the password was made on the way"));
    what_the_state_has_lost_is_taken_in(&project);
    converged("up", MOMENTS.len(), 1, 0);
    rotations_are_cut_off_and_finished(&project);
    goes_without_a_trace(&project);
}

fn api_server(project: &Project) -> Value {
    let status = project.status();
    let document = status.events.last().unwrap();
    let parts = document["parts"].as_array().unwrap();
    parts
        .iter()
        .find(|part| part["name"] == "kube-apiserver")
        .unwrap()
        .clone()
}

/// What is under way has to wait until it is started again.
fn the_api_server_dies(project: &Project) {
    println!("  the API server is killed");
    let pid = api_server(project)["pid"].as_u64().expect("it runs");
    send(u32::try_from(pid).unwrap(), Signal::KILL);
}

/// As after an apply that was cut off between a call and the saving of the state: the thing is on AWS, with its tags.
fn what_the_state_has_lost_is_taken_in(project: &Project) {
    let before = state(project);
    let lost = [
        ("aws_iam_role", "pod"),
        ("aws_cloudwatch_log_group", "cluster"),
        ("aws_kms_alias", "this"),
    ];
    for (kind, name) in lost {
        forget(project, kind, name);
    }
    let up = project.run(&UP);
    up.exit(0);
    for (kind, name) in lost {
        let note = up
            .notes()
            .lines()
            .find(|note| note.contains(&format!("{kind}.{name}")))
            .map(str::to_owned);
        assert!(
            note.is_some_and(|note| note.ends_with("and no state knew it; it is taken in")),
            "{kind}.{name}: {up}"
        );
    }
    assert_eq!(state(project), before, "the state knows them again");
    assert_eq!(project.run(&UP).exit(0)["changed"], 0);
}

/// Takes the first instance of a resource out of the state.
fn forget(project: &Project, kind: &str, name: &str) {
    let path = project.infra().join("terraform.tfstate");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let resources = state["resources"].as_array_mut().unwrap();
    let is_it = |r: &Value| r["mode"] == "managed" && r["type"] == kind && r["name"] == name;
    let at = resources
        .iter()
        .position(is_it)
        .unwrap_or_else(|| panic!("{kind}.{name}"));
    let instances = resources[at]["instances"].as_array_mut().unwrap();
    instances.remove(0);
    if instances.is_empty() {
        resources.remove(at);
    }
    state["serial"] = json!(state["serial"].as_u64().unwrap() + 1);
    std::fs::write(&path, serde_json::to_vec_pretty(&state).unwrap()).unwrap();
}

/// How a run is cut off.
#[derive(Clone, Copy)]
enum Cut {
    Kill,
    Interrupt,
    Terminate,
}

/// Cuts one run off when `moment` comes.
fn cut(project: &Project, arguments: &[&str], how: Cut, what: &str, moment: impl Fn(&Value) -> bool) {
    println!("  {arguments:?} cut off in {what}");
    let mut running = project.start(arguments);
    running.wait_for(what, moment);
    match how {
        Cut::Kill => running.kill().expect_killed(),
        Cut::Interrupt => {
            running.interrupt().exit(130);
        }
        Cut::Terminate => {
            running.terminate().exit(130);
        }
    }
}

fn converged(operation: &str, killed: usize, interrupted: usize, terminated: usize) {
    let count = |n: usize| n as u64;
    report::figure(
        "kill",
        &format!("{operation}, real processes"),
        &[
            ("points", count(killed + interrupted + terminated)),
            ("killed", count(killed + interrupted + terminated)),
            ("converged", count(killed + interrupted + terminated)),
        ],
    );
}

/// Each rotation is cut off three times, and the next run finishes what the first has begun.
fn rotations_are_cut_off_and_finished(project: &Project) {
    for (credential, steps) in [
        ("argocd-password", ["patch", "verify", "promote"]),
        ("deploy-key", ["prove", "see", "revoke"]),
    ] {
        let rotate = ["rotate", credential, ENVIRONMENT];
        for (step, how) in steps.into_iter().zip([Cut::Interrupt, Cut::Terminate, Cut::Kill]) {
            cut(project, &rotate, how, step, |e| begins(e, step));
        }
        let last = project.run(&rotate);
        let document = last.exit(0);
        assert_eq!(
            (&document["outcome"], &document["adopted"]),
            (&json!("rotated"), &json!(true)),
            "{last}"
        );
        let status = project.status().exit(0)["credentials"].clone();
        assert!(
            status["password_pending_since"].is_null() && status["deploy_key_pending"].is_null(),
            "{status}"
        );
        converged(&format!("rotate {credential}"), 1, 1, 1);
    }
    let up = project.run(&UP);
    assert_eq!(up.exit(0)["changed"], 0, "the rotations left nothing to do: {up}");
}

fn after_password(step: &str) -> bool {
    !["sandbox", "publish", "plan", "apply", "password"].contains(&step)
}

/// The run after a cut says what was under way.
fn the_cut_is_told(run: &Finished, step: Option<&str>) {
    match step {
        Some(step) => {
            let wanted = format!("the last `up` was cut off in the step {step}; continuing");
            assert!(run.notes().contains(&wanted), "a note says {wanted:?}: {run}");
        }
        None => assert!(!run.notes().contains("cut off"), "nothing was cut off: {run}"),
    }
}

/// Ctrl-C in the middle of `terraform apply`: Terraform gets it once, finishes what it has begun and saves its state.
fn an_interrupted_apply_is_waited_for(project: &Project) {
    println!("  interrupted in apply");
    let mut running = project.start(&UP);
    // The queue was made and is waited for, and nothing else is under way. A call that is under way when the provider
    // gives up may have made something that no state knows; the error of the next run tells what to do then.
    running.wait_for("the queue in apply", |e| {
        let left = e["total"].as_u64().unwrap_or(u64::MAX) - e["done"].as_u64().unwrap_or(0);
        at_work(e, "apply") && left <= 6 && message(e).contains("aws_sqs_queue.karpenter")
    });
    let interrupted = running.interrupt();
    let error = &interrupted.exit(130)["error"];
    assert!(error.to_string().contains("stopped"), "{error}");
    let left = processes_of(&project.infra());
    assert!(left.is_empty(), "mfsre has waited for Terraform: {left:?}");
    let state = state(project);
    assert!(!state.is_empty(), "what was made is in the state");
    assert!(
        !project.infra().join(".terraform.tfstate.lock.info").exists(),
        "the state is not locked"
    );
    assert!(
        !project.infra().join("errored.tfstate").exists(),
        "the state was saved where it belongs"
    );
}

/// How many resources of each type the state holds.
fn state(project: &Project) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(project.infra().join("terraform.tfstate")).unwrap();
    let state: Value = serde_json::from_str(&text).unwrap();
    let mut counts = BTreeMap::new();
    for resource in state["resources"].as_array().unwrap() {
        if resource["mode"] == "managed" {
            let count = counts.entry(resource["type"].as_str().unwrap().to_owned()).or_default();
            *count += resource["instances"].as_array().unwrap().len();
        }
    }
    counts
}

fn secret_version(project: &Project) -> Vec<Value> {
    Aws::of(project.status().exit(0)).secret_versions("sandbox/argocd")
}

/// AWS holds exactly what the state holds: nothing was made twice, and nothing was forgotten.
fn everything_stands_once(project: &Project, secret: Vec<Value>) {
    let status = project.status().exit(0).clone();
    let aws = Aws::of(&status);
    let state = state(project);
    for (kind, action, element) in [
        ("aws_vpc", "DescribeVpcs", "vpcId"),
        ("aws_subnet", "DescribeSubnets", "subnetId"),
        ("aws_internet_gateway", "DescribeInternetGateways", "internetGatewayId"),
        ("aws_eip", "DescribeAddresses", "allocationId"),
        ("aws_launch_template", "DescribeLaunchTemplates", "launchTemplateId"),
    ] {
        let found = aws.ec2(action, ENVIRONMENT, element);
        let mut ids: Vec<String> = found;
        ids.dedup();
        assert_eq!(ids.len(), state[kind], "{kind}: the state's and no other: {ids:?}");
    }
    assert_eq!(aws.iam("ListRoles", &[], "RoleName").len(), state["aws_iam_role"]);
    assert_eq!(aws.queues().len(), state["aws_sqs_queue"]);
    assert_eq!(aws.rules().len(), state["aws_cloudwatch_event_rule"]);
    assert_eq!(aws.keys().len(), state["aws_kms_key"]);
    let groups = &aws.eks("/clusters/sandbox/node-groups").unwrap()["nodegroups"];
    assert_eq!(groups.as_array().unwrap().len(), state["aws_eks_node_group"]);

    assert_eq!(
        aws.secret_versions("sandbox/argocd"),
        secret,
        "the password is the one that was made first"
    );
    assert_eq!(aws.secrets().len(), 1);
    assert_eq!(aws.parameter("/sandbox/argocd/deploy-key").unwrap()["Version"], 1);
    assert_eq!(aws.parameter("/sandbox/argocd/deploy-key.pub").unwrap()["Version"], 1);
    let keys = GitHost::of(project, &status).deploy_keys();
    assert_eq!(keys.len(), 1, "one deploy key: {keys:?}");

    let again = project.run(&UP);
    let document = again.exit(0);
    assert_eq!(document["changed"], 0, "nothing is left to do: {again}");
    assert_eq!(document["applications"].as_array().unwrap().len(), 8);
    the_cut_is_told(&again, None);
}

/// Whoever started the platform stops it.
fn goes_without_a_trace(project: &Project) {
    let command = ["down", ENVIRONMENT];
    cut(project, &command, Cut::Interrupt, "workloads", |e| {
        begins(e, "workloads")
    });
    cut(project, &command, Cut::Terminate, "argocd", |e| {
        at_work(e, "argocd") && e["done"].as_u64() >= Some(5)
    });
    cut(project, &command, Cut::Kill, "destroy", |e| {
        at_work(e, "destroy") && e["done"].as_u64() >= Some(1)
    });
    cut(project, &command, Cut::Kill, "revoke", |e| begins(e, "revoke"));
    println!("  down");
    let down = project.run(&["down", ENVIRONMENT]);
    let document = down.exit(0);
    assert_eq!(
        document["sandbox_stopped"], true,
        "`up` started the platform, so `down` stops it: {down}"
    );
    assert_eq!((&document["aws"], &document["cluster"]), (&json!([]), &json!([])));
    project.assert_no_process("down");
    assert!(
        !project.private().join("sandbox").exists(),
        "nothing of the platform is kept"
    );
    assert!(down.took < Duration::from_secs(300), "{:?}", down.took);
    converged("down", 2, 1, 1);
    let again = project.run(&["down", ENVIRONMENT]);
    assert_eq!(again.exit(0)["was_there"], false, "{again}");
    project.assert_no_process("a second down");
}
