//! Sandboxes beside one another, and what becomes of one whose parts die.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::process::{eventually, processes_of, send};
use crate::project::{ENVIRONMENT, Project};

const START: [&str; 3] = ["sandbox", "start", ENVIRONMENT];

#[test]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
fn two_sandboxes_do_not_disturb_each_other_and_a_dead_part_is_named() {
    let (one, other) = (Project::new(), Project::new());
    let first = one.run(&START).exit(0).clone();
    let second = other.run(&START).exit(0).clone();
    they_share_nothing(&first, &second);
    a_third_on_a_taken_port_says_why_it_does_not_start(&one);
    a_killed_part_is_named(&one, &other);
    nothing_survives_a_killed_supervisor(&other, &second);

    let stopped = one.run(&["sandbox", "stop", ENVIRONMENT]).exit(0).clone();
    assert_eq!(stopped["was_running"], true);
    one.assert_no_process("sandbox stop");
    assert!(
        !one.private().join("sandbox").exists(),
        "nothing of the sandbox is kept"
    );
    assert_eq!(
        one.status().exit(3)["running"],
        false,
        "a sandbox that does not run is not healthy"
    );
}

fn they_share_nothing(first: &Value, second: &Value) {
    for key in [
        "aws_endpoint_url",
        "kubernetes_endpoint",
        "argocd_url",
        "git_url",
        "git_api_url",
        "access_key_id",
    ] {
        assert_ne!(first[key], second[key], "each sandbox has its own {key}");
    }
    let (ours, theirs) = (Aws::of(first), Aws::of(second));
    let secret = json!({ "Name": "only-here", "SecretString": "x", "ClientRequestToken": "0".repeat(32) });
    ours.json("secretsmanager", "secretsmanager.CreateSecret", &secret);
    assert_eq!(ours.secrets(), ["only-here"]);
    assert!(
        theirs.secrets().is_empty(),
        "a secret in one account is not in the other"
    );
    let mut stranger = second.clone();
    stranger["access_key_id"] = first["access_key_id"].clone();
    stranger["secret_access_key"] = first["secret_access_key"].clone();
    let refused = Aws::of(&stranger).try_json("secretsmanager", "secretsmanager.ListSecrets", &json!({}));
    assert_eq!(
        refused.unwrap_err(),
        "UnrecognizedClientException",
        "each sandbox has its own credentials"
    );
}

fn a_third_on_a_taken_port_says_why_it_does_not_start(one: &Project) {
    let third = Project::with_git_port(one.port());
    let refused = third.run(&START);
    let error = &refused.exit(78)["error"];
    for told in [format!("127.0.0.1:{}", one.port()), "argocd_repository_url".to_owned()] {
        assert!(error.to_string().contains(&told), "the error names {told}: {error}");
    }
    third.assert_no_process("a start that was refused");
    assert_eq!(one.status().exit(0)["running"], true, "the first one is as it was");
}

fn a_killed_part_is_named(one: &Project, other: &Project) {
    let status = one.status();
    let pid = part(status.exit(0), "ministack")["pid"].as_u64().unwrap();
    send(u32::try_from(pid).unwrap(), Signal::KILL);
    let status = eventually("the crash of the emulator is told", Duration::from_secs(10), || {
        let status = one.status();
        (part(status.events.last()?, "ministack")["health"]["state"] == "crashed").then_some(status)
    });
    let health = &part(status.exit(3), "ministack")["health"];
    assert!(
        health["exit"].as_str().unwrap().contains("SIGKILL"),
        "it says how it ended: {health}"
    );
    let mut text = one.command(env!("CARGO_BIN_EXE_mfsre"));
    let output = text.args(["sandbox", "status", ENVIRONMENT]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("ministack crashed (signal: 9 (SIGKILL)"),
        "people are told as well:\n{text}"
    );
    let refused = one.run(&START);
    let error = refused.exit(3)["error"].to_string();
    for told in [
        "the part ministack of the sandbox has ended (signal: 9",
        "mfsre sandbox stop",
    ] {
        assert!(error.contains(told), "a start says {told}: {error}");
    }
    assert_eq!(other.status().exit(0)["ok"], true, "the other sandbox is untouched");
}

fn nothing_survives_a_killed_supervisor(project: &Project, status: &Value) {
    let supervisor = part(status, "git-server")["pid"].as_u64().unwrap();
    assert!(
        processes_of(project.folder()).len() >= 8,
        "the sandbox's processes are found by its folder"
    );
    send(u32::try_from(supervisor).unwrap(), Signal::KILL);
    project.assert_no_process("the supervisor's death");
    // A process that ends gives up its memory, by which it was found, before the lock that says it is there.
    let mut left = project.status();
    for _ in 0..50 {
        if left.status.code() == Some(3) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        left = project.status();
    }
    let etcd = part(left.exit(3), "etcd");
    assert_eq!(etcd["health"]["exit"], "the supervisor has ended", "{etcd}");
    let again = project.run(&START).exit(0).clone();
    assert_ne!(
        again["access_key_id"], status["access_key_id"],
        "a new start is a new sandbox"
    );
    project.run(&["sandbox", "stop", ENVIRONMENT]).exit(0);
    project.assert_no_process("sandbox stop");
}

fn part<'a>(status: &'a Value, name: &str) -> &'a Value {
    let parts = status["parts"].as_array().unwrap();
    let found = parts.iter().find(|p| p["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is among the parts"))
}
