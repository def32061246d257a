//! `mfsre backend migrate`

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::common::{Finished, Project, REPOSITORY};
use crate::server::{ACCOUNT, Server};

const LOCAL: &str = "";
const S3: &str = "backend:\n  type: s3\n  bucket: acme-state\n";
const OTHER: &str = "backend:\n  type: s3\n  bucket: acme-other\n  key: states/demo\n";
const KEY: &str = "demo/terraform.tfstate";

fn set_backend(project: &Project, backend: &str) {
    project.write("environments/demo.yaml", format!("name: demo\n{REPOSITORY}{backend}"));
}

/// A project with a local state of two resources, and two empty buckets.
fn start() -> (Server, Project) {
    let (server, project) = (Server::start(), Project::empty());
    server.bucket("acme-state", ACCOUNT, "eu-west-1");
    server.bucket("acme-other", ACCOUNT, "eu-west-1");
    set_backend(&project, LOCAL);
    project.write("infra/demo/terraform.tfstate", state(7).to_string());
    (server, project)
}

fn state(serial: u64) -> Value {
    let resource = |name: &str| {
        json!({
            "mode": "managed", "type": "example_thing", "name": name,
            // One that is nowhere: a state is moved without the providers of what is in it.
            "provider": "provider[\"registry.example.com/acme/example\"]",
            "instances": [{ "schema_version": 0, "attributes": { "id": name }, "sensitive_attributes": [] }],
        })
    };
    json!({
        "version": 4, "terraform_version": "1.10.0", "serial": serial, "lineage": "11111111-2222-3333-4444-555555555555",
        "outputs": { "answer": { "value": 42, "type": "number" } },
        "resources": [resource("one"), resource("two")], "check_results": null,
    })
}

fn migrate(server: &Server, project: &Project) -> Finished {
    server.run(project, &["backend", "migrate", "demo", "--yes", "--output", "json"])
}

/// The state of an object.
fn object(server: &Server, bucket: &str, key: &str) -> Value {
    serde_json::from_slice(&server.world().buckets[bucket].objects[key]).unwrap()
}

fn local(project: &Project) -> Value {
    serde_json::from_str(&project.read("infra/demo/terraform.tfstate")).unwrap()
}

fn the_same(found: &Value) {
    for part in ["lineage", "resources", "outputs"] {
        assert_eq!(found[part], state(7)[part], "{part}");
    }
    assert!(found["serial"].as_u64() >= Some(7));
}

/// What a place holds from which the state was moved to `to`.
fn left_behind(found: &Value, to: &str) {
    assert_eq!(found["resources"], json!([]));
    assert_eq!(found["outputs"]["mfsre_moved_to"]["value"], to);
}

#[test]
fn a_state_goes_from_any_place_to_any_other_and_back() {
    let (server, project) = start();
    set_backend(&project, S3);
    let finished = migrate(&server, &project);
    assert_eq!(finished.code, 0, "{finished}");
    let document = finished.json();
    assert_eq!((&document["moved"], &document["resources"]), (&json!(true), &json!(2)));
    the_same(&object(&server, "acme-state", KEY));
    assert!(
        !project.has("infra/demo/terraform.tfstate"),
        "init would offer to copy what is there"
    );
    assert!(!project.has("infra/demo/terraform.tfstate.backup"));
    for backup in document["backups"].as_array().unwrap() {
        let path = backup
            .as_str()
            .unwrap()
            .replace("[PROJECT]", &project.root().to_string_lossy());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    let first = document["backups"][0].as_str().unwrap().replace("[PROJECT]/", "");
    the_same(&serde_json::from_str(&project.read(&first)).unwrap());
    assert!(
        project.read("infra/demo/backend.tf").contains("acme-state"),
        "Terraform called by hand finds it too"
    );
    assert!(
        !server.world().buckets["acme-state"]
            .objects
            .contains_key(&format!("{KEY}.tflock"))
    );

    let again = migrate(&server, &project).json();
    assert_eq!(
        (&again["moved"], &again["resources"]),
        (&json!(false), &json!(2)),
        "a second run has nothing to do"
    );

    set_backend(&project, OTHER);
    let finished = migrate(&server, &project);
    assert_eq!(finished.code, 0, "{finished}");
    the_same(&object(&server, "acme-other", "states/demo"));
    left_behind(&object(&server, "acme-state", KEY), "s3://acme-other/states/demo");

    set_backend(&project, LOCAL);
    let finished = migrate(&server, &project);
    assert_eq!(finished.code, 0, "{finished}");
    the_same(&local(&project));
    left_behind(
        &object(&server, "acme-other", "states/demo"),
        "the local file terraform.tfstate",
    );

    // Over what was left behind there.
    set_backend(&project, S3);
    let text = server.run(&project, &["backend", "migrate", "demo", "--yes"]);
    assert_eq!(text.code, 0, "{text}");
    assert!(
        text.stdout
            .contains("the state of demo is in s3://acme-state/demo/terraform.tfstate now"),
        "{text}"
    );
    the_same(&object(&server, "acme-state", KEY));
}

#[test]
fn another_machine_finds_the_state_moved_already() {
    let (server, project) = start();
    set_backend(&project, S3);
    assert_eq!(migrate(&server, &project).code, 0);
    // A machine that has only ever seen the repository.
    let clone = Project::empty();
    set_backend(&clone, S3);
    let document = migrate(&server, &clone).json();
    assert_eq!((&document["moved"], &document["resources"]), (&json!(false), &json!(2)));
    assert_eq!(document["from"], Value::Null);
}

#[test]
fn the_user_is_asked_and_nobody_to_ask_is_a_usage_error() {
    let (server, project) = start();
    set_backend(&project, S3);
    let finished = server.run(&project, &["backend", "migrate", "demo"]);
    assert_eq!(finished.code, 64, "{finished}");
    assert_eq!(local(&project), state(7));
}

/// What went wrong, without the steps before it.
fn error(finished: &Finished) -> String {
    let lines: Vec<&str> = finished
        .stderr
        .lines()
        .skip_while(|line| !line.starts_with("error:"))
        .collect();
    // Ids that differ from run to run, and addresses that differ from machine to machine.
    let lasting = |word: &&str| {
        !["RequestID", "HostID", "Get \"http"]
            .iter()
            .any(|p| word.starts_with(p))
    };
    lines
        .iter()
        .map(|line| line.split(", ").filter(lasting).collect::<Vec<_>>().join(", ") + "\n")
        .collect()
}

#[test]
fn every_trouble_is_told_with_the_next_step_and_nothing_is_lost() {
    type Trouble = (
        &'static str,
        i32,
        fn(&Server, &Project),
        &'static [(&'static str, &'static str)],
    );
    let troubles: &[Trouble] = &[
        (
            "missing bucket",
            1,
            |s, _| drop(s.world().buckets.remove("acme-state")),
            &[],
        ),
        (
            "another region",
            1,
            |s, _| s.world().buckets.get_mut("acme-state").unwrap().region = "us-east-2".into(),
            &[],
        ),
        ("no right to read", 1, |s, _| s.deny("HEAD object"), &[]),
        ("no right to write", 1, |s, _| s.deny("PUT object"), &[]),
        (
            "locked by somebody",
            75,
            |s, _| {
                let lock = json!({
                    "ID": "8f2c", "Operation": "OperationTypeApply", "Info": "", "Who": "bob@laptop", "Version": "1.11.4",
                    "Created": "2026-05-01T10:00:00.123456Z", "Path": format!("acme-state/{KEY}"),
                });
                let mut world = s.world();
                let objects = &mut world.buckets.get_mut("acme-state").unwrap().objects;
                objects.insert(format!("{KEY}.tflock"), lock.to_string().into_bytes());
            },
            &[],
        ),
        (
            "state of a newer program",
            1,
            |_, p| {
                let newer = state(7).to_string().replace("\"version\":4", "\"version\":5");
                p.write("infra/demo/terraform.tfstate", newer);
            },
            &[],
        ),
        (
            "another state in the new place",
            78,
            |s, _| {
                let mut other = state(3);
                other["lineage"] = "99999999-0000-0000-0000-000000000000".into();
                let mut world = s.world();
                let objects = &mut world.buckets.get_mut("acme-state").unwrap().objects;
                objects.insert(KEY.into(), other.to_string().into_bytes());
            },
            &[],
        ),
        (
            "lost network",
            1,
            |_, _| {},
            &[("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")],
        ),
    ];
    let mut shown = String::new();
    for (what, code, arrange, variables) in troubles {
        let (server, project) = start();
        set_backend(&project, S3);
        arrange(&server, &project);
        let before = project.read("infra/demo/terraform.tfstate");
        let finished = server.run_with(&project, &["backend", "migrate", "demo", "--yes"], variables);
        assert_eq!(finished.code, *code, "{what}: {finished}");
        assert_eq!(
            project.read("infra/demo/terraform.tfstate"),
            before,
            "{what}: the state is where it was"
        );
        shown.push_str(&format!("## {what}\n{}", error(&finished)));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn encryption_takes_opentofu() {
    let (server, project) = start();
    set_backend(
        &project,
        "backend:\n  type: local\n  encryption:\n    key_provider: pbkdf2\n",
    );
    let finished = migrate(&server, &project);
    let error = &finished.json()["error"];
    // Where the tests' program is OpenTofu, it is the passphrase that is missing.
    assert_eq!(finished.code, 78, "{finished}");
    let told = error.to_string();
    assert!(
        told.contains("takes OpenTofu") || told.contains("MFSRE_STATE_PASSPHRASE"),
        "{told}"
    );
}

/// With the providers of a state missing, `init` fails after it has set up the backend.
#[test]
fn a_place_is_set_up_again_where_it_was_another_one_in_between() {
    let (server, project) = start();
    let mut empty = state(1);
    empty["resources"] = json!([]);
    empty["outputs"] = json!({});
    project.write("infra/demo/terraform.tfstate", empty.to_string());
    let move_to = |backend: &str| {
        set_backend(&project, backend);
        let finished = migrate(&server, &project);
        assert_eq!(finished.code, 0, "{finished}");
    };
    // `init` of the local file succeeds, of all others after it fails.
    move_to(S3);
    let full = state(7).to_string().into_bytes();
    let mut world = server.world();
    let bucket = world.buckets.get_mut("acme-state").unwrap();
    bucket.objects.insert(KEY.into(), full);
    drop(world);
    for backend in [OTHER, LOCAL, S3] {
        move_to(backend);
    }
    the_same(&object(&server, "acme-state", KEY));
}
