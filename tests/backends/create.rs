//! `mfsre backend create`

use serde_json::{Value, json};

use crate::common::{Project, REPOSITORY};
use crate::server::{ACCOUNT, Server};

const CREATE: [&str; 3] = ["backend", "create", "demo"];

fn project(backend: &str) -> Project {
    let project = Project::empty();
    project.write("environments/demo.yaml", format!("name: demo\n{REPOSITORY}{backend}"));
    project
}

fn s3() -> Project {
    project("backend:\n  type: s3\n  bucket: acme-state\n")
}

/// The output without the times that steps took.
fn steady(finished: &crate::common::Finished) -> String {
    let text = finished.to_string();
    let lines = text.lines().map(|line| match line.rsplit_once("  ") {
        Some((head, time)) if time.ends_with('s') && time[..time.len() - 1].parse::<f64>().is_ok() => head.trim_end(),
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_bucket_is_made_as_it_should_be_and_a_second_run_changes_nothing() {
    let (server, project) = (Server::start(), s3());
    let first = server.run(&project, &CREATE);
    assert_eq!(first.code, 0, "{first}");
    let bucket = server.world().buckets["acme-state"].clone();
    let mut shown = steady(&first);
    for (part, document) in &bucket.parts {
        shown.push_str(&format!("----- {part} -----\n{document}\n"));
    }
    insta::assert_snapshot!(shown);

    let writes = server.world().writes.len();
    let second = server.run(&project, &CREATE);
    insta::assert_snapshot!("nothing_is_changed", steady(&second));
    assert_eq!(server.world().writes.len(), writes, "a second run writes nothing");
    let document = server
        .run(&project, &[&CREATE[..], &["--output", "json"]].concat())
        .json();
    assert_eq!(
        (&document["changed"], &document["account"]),
        (&json!(0), &json!(ACCOUNT))
    );
}

#[test]
fn cut_off_at_any_call_it_is_finished_by_the_next_run() {
    let whole = {
        let (server, project) = (Server::start(), s3());
        assert_eq!(server.run(&project, &CREATE).code, 0);
        server.world().buckets["acme-state"].clone()
    };
    for call in [
        "HEAD bucket",
        "PUT bucket",
        "GET publicAccessBlock",
        "PUT publicAccessBlock",
        "GET ownershipControls",
        "GET versioning",
        "PUT versioning",
        "GET encryption",
        "GetResources",
        "CreateKey",
        "EnableKeyRotation",
        "PUT encryption",
        "GET policy",
        "PUT policy",
        "GET lifecycle",
        "PUT lifecycle",
        "GET tagging",
        "PUT tagging",
    ] {
        let (server, project) = (Server::start(), s3());
        server.deny(call);
        let refused = server.run(&project, &CREATE);
        assert!([1, 78].contains(&refused.code), "{call}: {refused}");
        assert!(refused.stderr.contains("acme-state"), "{call}: {refused}");
        assert!(
            refused.stderr.contains("allow "),
            "{call}: the missing right is named: {refused}"
        );
        server.world().denied.clear();
        let again = server.run(&project, &CREATE);
        assert_eq!(again.code, 0, "{call}: {again}");
        assert_eq!(server.world().buckets["acme-state"], whole, "{call}");
        assert_eq!(server.world().keys.len(), 1, "{call}: one key is made");
    }
}

#[test]
fn what_is_there_already_stays() {
    let (server, project) = (Server::start(), s3());
    server.bucket("acme-state", ACCOUNT, "eu-west-1");
    {
        let mut world = server.world();
        let parts = &mut world.buckets.get_mut("acme-state").unwrap().parts;
        let theirs = json!({ "Version": "2012-10-17", "Statement": { "Sid": "Theirs", "Effect": "Deny" } });
        parts.insert("policy".into(), theirs.to_string());
        let tags = "<Tagging><TagSet><Tag><Key>team</Key><Value>a&amp;b</Value></Tag></TagSet></Tagging>";
        parts.insert("tagging".into(), tags.into());
        let rules = "<LifecycleConfiguration><Rule><ID>theirs</ID></Rule></LifecycleConfiguration>";
        parts.insert("lifecycle".into(), rules.into());
    }
    let finished = server.run(&project, &CREATE);
    assert_eq!(finished.code, 0, "{finished}");
    assert!(finished.stderr.contains("rules of its own"), "{finished}");
    let world = server.world();
    let parts = &world.buckets["acme-state"].parts;
    let policy: Value = serde_json::from_str(&parts["policy"]).unwrap();
    let sids: Vec<&str> = policy["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["Sid"].as_str().unwrap())
        .collect();
    assert_eq!(sids, ["Theirs", "MfsreTlsOnly"]);
    assert!(
        parts["tagging"].contains("<Key>team</Key><Value>a&amp;b</Value>"),
        "{}",
        parts["tagging"]
    );
    assert!(parts["tagging"].contains("mfsre:state-bucket"));
    assert!(parts["lifecycle"].contains("theirs") && !parts["lifecycle"].contains("mfsre"));
}

#[test]
fn a_key_that_is_named_is_used_and_one_that_is_not_there_is_told() {
    let (server, project) = (
        Server::start(),
        project("backend:\n  type: s3\n  bucket: acme-state\n  kms_key_id: own\n"),
    );
    let missing = server.run(&project, &CREATE);
    assert_eq!(missing.code, 78, "{missing}");
    insta::assert_snapshot!(
        "no_such_key",
        missing
            .stderr
            .lines()
            .skip_while(|l| !l.starts_with("error"))
            .collect::<Vec<_>>()
            .join("\n")
    );
    let own = format!("arn:aws:kms:eu-west-1:{ACCOUNT}:key/own");
    server.world().keys.insert(own.clone(), "something else".into());
    let finished = server.run(&project, &CREATE);
    assert_eq!(finished.code, 0, "{finished}");
    let world = server.world();
    assert!(world.buckets["acme-state"].parts["encryption"].contains(&own));
    assert_eq!(world.keys.len(), 1, "none is made");
}

#[test]
fn a_bucket_of_somebody_else_or_somewhere_else_is_refused_and_left_alone() {
    let mut shown = String::new();
    for (owner, region) in [("444455556666", "eu-west-1"), (ACCOUNT, "us-east-2")] {
        let (server, project) = (Server::start(), s3());
        server.bucket("acme-state", owner, region);
        let before = server.world().buckets.clone();
        let finished = server.run(&project, &CREATE);
        assert_eq!(finished.code, 78, "{finished}");
        assert_eq!(server.world().buckets, before);
        shown.push_str(&steady(&finished));
    }
    let (server, project) = (Server::start(), project(""));
    let finished = server.run(&project, &CREATE);
    assert_eq!(finished.code, 78, "{finished}");
    shown.push_str(&finished.stderr);
    insta::assert_snapshot!(shown);
}
