//! OpenTofu in Terraform's place, with the state in S3: an environment comes up, its state is moved about, and it goes.
//! Beside it an environment as on AWS, with Terraform, whose bucket `backend create` makes.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::aws::Aws;
use crate::process::eventually;
use crate::project::{ENVIRONMENT, Project};
use crate::report;
use crate::tools::{opentofu, terraform};

const BUCKET: &str = "mfsre-e2e-states";
const OBJECT: &str = "/mfsre-e2e-states/sandbox/terraform.tfstate";
const LOCK: &str = "/mfsre-e2e-states/sandbox/terraform.tfstate.tflock";
const PASSPHRASE: &str = "canary of a long passphrase";

#[test]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
fn opentofu_and_s3_carry_an_environment_from_up_to_down() {
    let project = Project::new();
    let shipped = std::fs::read_to_string(project.root().join("environments/sandbox.yaml")).unwrap();
    let tofu = opentofu().display();
    let with = |backend: &str| {
        let text = format!("{shipped}\nterraform:\n  program: {tofu}\nbackend:\n{backend}");
        project.write("environments/sandbox.yaml", &text);
    };
    let s3 = format!("  type: s3\n  bucket: {BUCKET}\n");
    let passphrase = [("STATE_PASSPHRASE", PASSPHRASE.to_owned())];
    let encrypted = format!("{s3}  encryption:\n    key_provider: pbkdf2\n    passphrase_variable: STATE_PASSPHRASE\n");

    with(&s3);
    let up = project.run(&["up", ENVIRONMENT]);
    let created = up.exit(0)["created"].clone();
    let status = project.status();
    let aws = Aws::of(status.exit(0));
    let resources = resources(&aws.s3(OBJECT).expect("the state is in the bucket"));
    assert!(resources >= created.as_u64().unwrap(), "{resources} of {created}");
    assert_eq!(aws.s3(LOCK), None, "the lock is given back");
    assert!(!project.infra().join("terraform.tfstate").exists());
    let lock = std::fs::read_to_string(project.infra().join(".terraform.lock.hcl")).unwrap();
    assert!(lock.contains("registry.opentofu.org/hashicorp/aws"), "{lock}");

    let again = project.run(&["up", ENVIRONMENT]);
    assert_eq!(
        again.exit(0)["changed"],
        0,
        "also not the lock file, which OpenTofu would write anew"
    );

    the_second_writer_says_who_is_the_first(&project, opentofu(), ENVIRONMENT, &aws, LOCK);
    a_state_that_could_not_be_saved_is_saved_by_the_next_run(&project, &aws);
    terraform_and_a_bucket_as_on_aws(&project, &aws);

    // To the local file.
    with("  type: local\n");
    let told = project.run(&["plan", ENVIRONMENT]);
    let error = told.exit(78)["error"].to_string();
    assert!(
        error.contains("is still in s3://") && error.contains("mfsre backend migrate sandbox"),
        "{error}"
    );
    moved_although_it_is_killed(&project, resources);
    nothing_changes(&project, &[]);

    // Another machine, on which the environment file is still the old one.
    let local = project.infra().join("terraform.tfstate");
    let aside = project.folder().join("terraform.tfstate");
    with(&s3);
    std::fs::rename(&local, &aside).unwrap();
    std::fs::remove_file(project.private().join("backend.json")).unwrap();
    std::fs::remove_dir_all(project.infra().join(".terraform")).unwrap();
    let told = project.run(&["down", ENVIRONMENT]);
    let error = told.exit(78)["error"].to_string();
    assert!(
        error.contains("was moved to the local file") && error.contains("git pull"),
        "{error}"
    );
    std::fs::rename(&aside, &local).unwrap();
    with("  type: local\n");
    nothing_changes(&project, &[]);

    // Back into the bucket, encrypted.
    with(&encrypted);
    let missing = project.run(&["backend", "migrate", ENVIRONMENT, "--yes"]);
    assert!(missing.exit(78)["error"].to_string().contains("STATE_PASSPHRASE"));
    let moved = project.run_with(&["backend", "migrate", ENVIRONMENT, "--yes"], &passphrase);
    assert_eq!(moved.exit(0)["resources"], resources);
    for backup in moved.exit(0)["backups"].as_array().unwrap() {
        let backup = std::fs::read_to_string(backup.as_str().unwrap()).unwrap();
        assert!(backup.contains("encrypted_data"), "copies are encrypted as well");
    }
    let state = aws.s3(OBJECT).unwrap();
    assert!(
        state.contains("encrypted_data") && !state.contains("aws_vpc"),
        "{state}"
    );
    nothing_changes(&project, &passphrase);

    // By a key of KMS instead, which is asked for nothing but AWS credentials afterwards.
    let key = aws.json("kms", "TrentService.CreateKey", &json!({}));
    let key = key["KeyMetadata"]["Arn"].as_str().unwrap();
    with(&format!(
        "{s3}  encryption:\n    key_provider: aws_kms\n    kms_key_id: {key}\n"
    ));
    let moved = project.run_with(&["backend", "migrate", ENVIRONMENT, "--yes"], &passphrase);
    assert_eq!(moved.exit(0)["resources"], resources);
    let state = aws.s3(OBJECT).unwrap();
    assert!(
        state.contains("encrypted_data") && state.contains(key) && !state.contains("aws_vpc"),
        "{state}"
    );
    nothing_changes(&project, &[]);

    let down = project.run(&["down", ENVIRONMENT, "--yes"]);
    let document = down.exit(0);
    assert_eq!(
        (&document["aws"], &document["sandbox_stopped"]),
        (&Value::Array(vec![]), &true.into())
    );
    project.assert_no_process("down");
    for (command, said) in project.said() {
        assert!(
            !String::from_utf8_lossy(&said).contains(PASSPHRASE),
            "{command} tells the passphrase"
        );
    }
}

/// How many instances of resources are in a state.
fn resources(state: &str) -> u64 {
    let state: Value = serde_json::from_str(state).unwrap();
    let resources = state["resources"].as_array().unwrap();
    resources
        .iter()
        .map(|r| r["instances"].as_array().unwrap().len() as u64)
        .sum()
}

/// A move that is killed in each of its steps, and then left to end.
fn moved_although_it_is_killed(project: &Project, resources: u64) {
    const MOVE: [&str; 4] = ["backend", "migrate", ENVIRONMENT, "--yes"];
    let steps = ["source", "target", "backup", "copy", "check", "leave"];
    for step in steps {
        let mut running = project.start(&MOVE);
        running.wait_for(step, |event| event["event"] == "step_started" && event["step"] == step);
        running.kill().expect_killed();
    }
    let moved = project.run(&MOVE);
    assert_eq!(moved.exit(0)["resources"], resources, "{moved}");
    report::figure(
        "kill",
        "backend migrate, real processes",
        &[
            ("points", steps.len() as u64),
            ("killed", steps.len() as u64),
            ("converged", steps.len() as u64),
        ],
    );
}

/// What Terraform leaves when the backend is away at the end of an apply.
fn a_state_that_could_not_be_saved_is_saved_by_the_next_run(project: &Project, aws: &Aws) {
    let serial = |state: &str| {
        serde_json::from_str::<Value>(state).unwrap()["serial"]
            .as_u64()
            .unwrap()
    };
    let mut unsaved: Value = serde_json::from_str(&aws.s3(OBJECT).unwrap()).unwrap();
    let newer = unsaved["serial"].as_u64().unwrap() + 5;
    unsaved["serial"] = newer.into();
    let file = project.infra().join("errored.tfstate");
    std::fs::write(&file, serde_json::to_string_pretty(&unsaved).unwrap()).unwrap();
    let plan = project.run(&["plan", ENVIRONMENT, "--detailed-exitcode"]);
    assert_eq!(plan.exit(0)["changes"], false);
    assert!(plan.notes().contains("could not save is saved now"), "{}", plan.notes());
    assert!(!file.exists());
    assert!(serial(&aws.s3(OBJECT).unwrap()) >= newer);
}

fn nothing_changes(project: &Project, variables: &[(&str, String)]) {
    let plan = project.run_with(&["plan", ENVIRONMENT, "--detailed-exitcode"], variables);
    assert_eq!(plan.exit(0)["changes"], false);
}

/// A person who called the program by hand and was asked something, while mfsre wants the same state.
fn the_second_writer_says_who_is_the_first(
    project: &Project,
    program: &std::path::Path,
    environment: &str,
    aws: &Aws,
    lock: &str,
) {
    let first = hold_the_lock(project, program, environment, aws);
    eventually("the lock is taken", Duration::from_secs(60), || aws.s3(lock));
    let variables = if environment == ENVIRONMENT {
        Vec::new()
    } else {
        aws.variables()
    };
    let second = project.run_with(&["plan", environment], &variables);
    let error = &second.exit(75)["error"];
    let told = error.to_string();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(told.contains(&format!("@{} since 20", host.trim())), "{told}");
    assert!(told.contains("force-unlock"), "{told}");
    answer_no(first);
    eventually("the lock is given back", Duration::from_secs(30), || {
        aws.s3(lock).is_none().then_some(())
    });
}

/// The program by hand, in the rendered root module, waiting for an answer with the lock in its hand.
fn hold_the_lock(project: &Project, program: &std::path::Path, environment: &str, aws: &Aws) -> Child {
    let dir = project.root().join("infra").join(environment);
    let rc = project.root().join(".mfsre").join(environment).join("terraform.rc");
    let mut command = project.command(program);
    // Something that it asks about: to destroy what is there, or to create what is not.
    let verb = if environment == ENVIRONMENT { "destroy" } else { "apply" };
    command.args([verb, "-input=true", "-no-color"]);
    if rc.exists() {
        command.env("TF_CLI_CONFIG_FILE", rc);
    }
    command
        .current_dir(dir)
        .envs(aws.variables())
        .env("AWS_REGION", "eu-west-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn answer_no(mut first: Child) {
    first.stdin.take().unwrap().write_all(b"no\n").unwrap();
    assert!(!first.wait().unwrap().success(), "nothing was applied");
}

/// As on AWS, where nobody makes the bucket but `backend create`.
fn terraform_and_a_bucket_as_on_aws(project: &Project, aws: &Aws) {
    project.write(
        "environments/planned.yaml",
        &format!(
            "name: planned\nargocd_repository_url: git@github.com:acme/platform.git\naccess:\n  administrators: [{}]\nterraform:\n  program: {}\nbackend:\n  type: s3\n  bucket: acme-planned\n",
            "arn:aws:iam::111122223333:role/platform-admin",
            terraform().display()
        ),
    );
    let run = |arguments: &[&str]| project.run_with(arguments, &aws.variables());
    let missing = run(&["plan", "planned"]);
    let error = missing.exit(1)["error"].to_string();
    assert!(
        error.contains("NoSuchBucket") && error.contains("mfsre backend create"),
        "{error}"
    );
    assert!(run(&["backend", "create", "planned"]).exit(0)["changed"].as_u64() >= Some(7));
    assert_eq!(run(&["backend", "create", "planned"]).exit(0)["changed"], 0);
    for (part, mark) in [
        ("versioning", "<Status>Enabled</Status>"),
        ("encryption", "aws:kms"),
        ("publicAccessBlock", "<BlockPublicPolicy>true</BlockPublicPolicy>"),
        ("ownershipControls", "BucketOwnerEnforced"),
        ("policy", "aws:SecureTransport"),
        ("lifecycle", "<NoncurrentDays>90</NoncurrentDays>"),
        ("tagging", "mfsre:state-bucket"),
    ] {
        let found = aws.s3(&format!("/acme-planned?{part}")).unwrap_or_default();
        assert!(found.contains(mark), "{part}: {found}");
    }
    run(&["plan", "planned", "--detailed-exitcode"]).exit(2);
    the_second_writer_says_who_is_the_first(
        project,
        terraform(),
        "planned",
        aws,
        "/acme-planned/planned/terraform.tfstate.tflock",
    );
}
