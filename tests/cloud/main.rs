//! `backend: cloud` with real Terraform, against a test server with the API of HCP Terraform and Terraform Enterprise.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "../common/mod.rs"]
mod common;
mod migrate;
mod server;
mod setup;

use std::time::Duration;

use serde_json::{Value, json};
use setup::{Setup, ended, wait_for_file};
use tfe_test_server::{Enforcement, Policy};

fn status(run: &Value) -> &str {
    run["attributes"]["status"].as_str().unwrap()
}

/// A resource that is made only once a file `may-go` is there, and says by a file `started` that it waits.
fn slow(folder: &std::path::Path) -> String {
    let dir = folder.display();
    format!(
        "resource \"terraform_data\" \"slow\" {{\n  provisioner \"local-exec\" {{\n    command = \"touch {dir}/started; while [ ! -e {dir}/may-go ]; do sleep 0.05; done\"\n  }}\n}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn the_workspace_is_made_and_a_saved_plan_is_applied_as_it_was_reviewed() {
    let s = Setup::new().await;
    s.backend("  project: platform\n  aws_run_role: arn:aws:iam::123456789012:role/terraform\n");
    let up = s.up().await;
    assert_eq!(up.applied(), "1 resource", "{up}");
    assert!(up.step("workspace").unwrap().contains("made"), "{up}");

    let workspace = s.alice.workspace("demo").await;
    let attributes = &workspace["attributes"];
    assert_eq!(attributes["execution-mode"], "remote");
    assert_eq!(attributes["working-directory"], "infra/demo");
    assert_eq!(attributes["auto-apply"], false);
    let projects = s.alice.get("/organizations/acme/projects").await;
    let project = projects
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["attributes"]["name"] == "platform")
        .unwrap();
    assert_eq!(workspace["relationships"]["project"]["data"]["id"], project["id"]);

    let id = workspace["id"].as_str().unwrap();
    let variables = s.alice.get(&format!("/workspaces/{id}/vars")).await;
    let mut variables: Vec<(String, String, bool)> = variables
        .as_array()
        .unwrap()
        .iter()
        .map(|v| {
            let a = &v["attributes"];
            assert_eq!(a["category"], "env");
            let text = |key: &str| a[key].as_str().unwrap().to_owned();
            (text("key"), text("value"), a["sensitive"] == true)
        })
        .collect();
    variables.sort();
    let wanted = [
        ("AWS_REGION", "eu-west-1"),
        ("TFC_AWS_PROVIDER_AUTH", "true"),
        ("TFC_AWS_RUN_ROLE_ARN", "arn:aws:iam::123456789012:role/terraform"),
    ];
    assert_eq!(
        variables,
        wanted.map(|(k, v)| (k.to_owned(), v.to_owned(), false)),
        "and no secret"
    );

    let runs = s.alice.runs("demo").await;
    assert_eq!(runs.len(), 1, "what was planned was applied: {runs:#?}");
    assert_eq!(status(&runs[0]), "applied");
    assert_eq!(runs[0]["attributes"]["save-plan"], true);
    let run = runs[0]["id"].as_str().unwrap();
    let url = format!("https://{}/app/acme/demo/runs/{run}", s.server.host());
    assert!(up.notes().contains(&url), "{up}");
    assert!(!up.notes().contains("no AWS credentials"), "{up}");
    assert_eq!(s.resources_in_state().await, ["terraform_data.one"]);

    // Only the root module and its modules were uploaded.
    let configuration = runs[0]["relationships"]["configuration-version"]["data"]["id"]
        .as_str()
        .unwrap();
    let (_, archive) = s
        .alice
        .call(
            "GET",
            &format!("/configuration-versions/{configuration}/download"),
            None,
        )
        .await;
    assert!(!archive.to_string().contains(".mfsre"));

    let again = s.up().await;
    assert_eq!(again.step("plan").as_deref(), Some("no changes"), "{again}");
    assert_eq!(status(&s.alice.runs("demo").await[0]), "planned_and_finished");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_plan_that_is_only_looked_at_is_speculative_and_shown_by_terraform() {
    let s = Setup::new().await;
    let plan = s.run(&["plan", "demo", "--detailed-exitcode"]).await;
    assert_eq!(plan.code, 2, "{plan}");
    let document = plan.events.last().unwrap();
    assert_eq!(document["add"], 1, "{plan}");
    assert_eq!(document["resource_changes"][0]["address"], "terraform_data.one");
    let runs = s.alice.runs("demo").await;
    assert_eq!(runs[0]["attributes"]["plan-only"], true);
    assert!(
        plan.notes().contains("no AWS credentials"),
        "what runs lack is told: {plan}"
    );
    assert!(s.state().await.is_null(), "nothing was done");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn who_may_not_apply_waits_for_somebody_who_may() {
    let s = Setup::new().await;
    let bob = s.server.person("bob", false);
    let up = s.mfsre_as(&bob, &["up", "demo", "--yes", "--push"]);
    let approve = async {
        let run = s.alice.wait_for_run("demo", "planned_and_saved").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(status(&s.alice.runs("demo").await[0]), "planned_and_saved", "it waits");
        s.alice.act(&run, "apply").await;
    };
    let (up, ()) = tokio::join!(ended(up), approve);
    up.applied();
    assert!(up.notes().contains("waits for the approval"), "{up}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_run_that_somebody_discards_is_told_and_nothing_is_changed() {
    let s = Setup::new().await;
    let bob = s.server.person("bob", false);
    let up = s.mfsre_as(&bob, &["up", "demo", "--yes", "--push"]);
    let discard = async {
        let run = s.alice.wait_for_run("demo", "planned_and_saved").await;
        s.alice.act(&run, "discard").await;
    };
    let (up, ()) = tokio::join!(ended(up), discard);
    let error = up.error(130);
    assert!(
        error.contains("was discarded") && error.contains("/runs/run-"),
        "{error}"
    );
    assert!(s.state().await.is_null());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_plan_that_fails_tells_what_terraform_says_and_where_to_look() {
    let s = Setup::new().await;
    s.resources(
        "resource \"terraform_data\" \"one\" {\n  lifecycle {\n    precondition {\n      condition     = var.name == \"other\"\n      error_message = \"it is not the other one\"\n    }\n  }\n}\n",
    );
    let error = s.up().await.error(1);
    assert!(error.contains("it is not the other one"), "{error}");
    assert!(error.contains("main.tf:") && error.contains("/runs/run-"), "{error}");
    assert_eq!(status(&s.alice.runs("demo").await[0]), "errored");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_soft_mandatory_policy_waits_for_a_person_and_is_never_overridden_by_mfsre() {
    let checked = Setup::new().await;
    waits_for_a_person(&checked, "policy_override").await;
    let evaluated = Setup::new().await;
    evaluated.server.evaluate_policies();
    waits_for_a_person(&evaluated, "post_plan_awaiting_decision").await;
}

async fn waits_for_a_person(s: &Setup, waiting_status: &str) {
    let policy = |name: &str, enforcement, passes| Policy {
        name: name.into(),
        enforcement,
        passes,
    };
    s.server.add_policy(policy("costs", Enforcement::SoftMandatory, false));
    s.server.add_policy(policy("names", Enforcement::HardMandatory, true));

    let plan = s.run(&["plan", "demo"]).await;
    assert_eq!(plan.code, 0, "{plan}");
    assert!(plan.notes().contains("costs (soft-mandatory) failed"), "{plan}");

    let cut_short = s.run(&["up", "demo", "--yes", "--push", "--timeout", "2s"]).await;
    let error = cut_short.error(1);
    assert!(
        error.contains("costs (soft-mandatory)") && error.contains("override"),
        "{error}"
    );
    let waiting = s.alice.wait_for_run("demo", waiting_status).await;

    let asks = format!("GET /api/v2/runs/{}/policy-checks", waiting["id"].as_str().unwrap());
    let overrides = async {
        s.asked(&asks).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(status(&s.alice.runs("demo").await[0]), waiting_status, "it waits");
        s.alice.override_policies(&waiting).await;
    };
    let (up, ()) = tokio::join!(s.up(), overrides);
    up.applied();
    assert!(up.notes().contains("waits for a person to override costs"), "{up}");
    let runs = s.alice.runs("demo").await;
    assert_eq!(
        runs[0]["id"], waiting["id"],
        "the second `up` went on with the run of the first"
    );
    assert_eq!(status(&runs[0]), "applied");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_hard_mandatory_policy_ends_the_run_and_is_named() {
    for evaluated in [false, true] {
        let s = Setup::new().await;
        if evaluated {
            s.server.evaluate_policies();
        }
        s.server.add_policy(Policy {
            name: "regions".into(),
            enforcement: Enforcement::HardMandatory,
            passes: false,
        });
        let error = s.up().await.error(1);
        assert!(error.contains("regions (hard-mandatory)"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_lock_names_its_holder_and_since_when() {
    for execution in ["remote", "local"] {
        let s = Setup::new().await;
        s.backend(&format!("  execution: {execution}\n"));
        s.up().await.applied();
        let bob = s.server.person("bob", true);
        let id = bob.workspace("demo").await["id"].as_str().unwrap().to_owned();
        let lock = json!({ "reason": "I look into something" });
        assert_eq!(
            bob.call("POST", &format!("/workspaces/{id}/actions/lock"), Some(lock))
                .await
                .0,
            200
        );
        let since = bob.workspace("demo").await["attributes"]["updated-at"]
            .as_str()
            .unwrap()
            .to_owned();
        let error = s.up().await.error(75);
        for part in [
            "acme/demo",
            "locked by bob",
            &since,
            "I look into something",
            "force-unlock acme/demo",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let workspace = bob.workspace("demo").await;
        assert_eq!(
            workspace["attributes"]["locked"], true,
            "the lock of somebody else stays"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn tokens_and_names_that_are_wrong_are_told_with_the_next_step() {
    let s = Setup::new().await;
    let mut command = s.mfsre(&["plan", "demo"]);
    command.env(s.server.token_variable(), "wrong.atlasv1.canary");
    let error = ended(command).await.error(78);
    assert!(
        error.contains("401") && error.contains("TF_TOKEN_localhost") && error.contains("terraform login"),
        "{error}"
    );
    assert!(!error.contains("canary"), "{error}");

    let mut command = s.mfsre(&["plan", "demo"]);
    command.env_remove(s.server.token_variable());
    let error = ended(command).await.error(78);
    assert!(
        error.contains("terraform login localhost") && error.contains("TF_TOKEN_localhost"),
        "{error}"
    );

    // Where `terraform login` keeps it.
    let kept = s.project.home().join(".terraform.d");
    std::fs::create_dir_all(&kept).unwrap();
    let credentials = json!({ "credentials": { s.server.host(): { "token": s.alice.token } } });
    std::fs::write(kept.join("credentials.tfrc.json"), credentials.to_string()).unwrap();
    let mut command = s.mfsre(&["plan", "demo"]);
    command.env_remove(s.server.token_variable());
    let plan = ended(command).await;
    assert_eq!(plan.code, 0, "{plan}");

    s.backend("  workspace: other\n");
    let text = s
        .project
        .read("environments/demo.yaml")
        .replace("organization: acme", "organization: nobody");
    s.project.write("environments/demo.yaml", text);
    let error = s.run(&["plan", "demo"]).await.error(78);
    assert!(
        error.contains("nobody") && error.contains("404") && error.contains("backend.organization"),
        "{error}"
    );

    let text = s
        .project
        .read("environments/demo.yaml")
        .replace(s.server.host(), "localhost:9");
    s.project.write("environments/demo.yaml", text);
    let mut command = s.mfsre(&["plan", "demo"]);
    command.env("TF_TOKEN_localhost:9", "x");
    let error = ended(command).await.error(1);
    assert!(
        error.contains("reach localhost:9") && error.contains("backend.hostname"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_workspace_in_the_wrong_execution_mode_is_told_and_not_changed_without_consent() {
    let s = Setup::new().await;
    s.alice
        .create_workspace("demo", json!({ "execution-mode": "local" }))
        .await;
    let error = s.up().await.error(78);
    assert!(
        error.contains("execution mode local") && error.contains("backend.execution to local"),
        "{error}"
    );
    assert_eq!(s.alice.workspace("demo").await["attributes"]["execution-mode"], "local");
    s.backend("  execution: local\n");
    s.up().await.applied();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn with_local_execution_only_the_state_is_at_the_host() {
    let s = Setup::new().await;
    s.backend("  execution: local\n");
    let up = s.up().await;
    up.applied();
    assert_eq!(s.alice.workspace("demo").await["attributes"]["execution-mode"], "local");
    assert!(s.alice.runs("demo").await.is_empty());
    assert_eq!(s.resources_in_state().await, ["terraform_data.one"]);
    assert!(!s.project.has("infra/demo/terraform.tfstate"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_state_that_somebody_changed_meanwhile_is_not_written_over_and_nothing_is_lost() {
    let s = Setup::new().await;
    s.backend("  execution: local\n");
    s.up().await.applied();
    let folder = s.project.home();
    s.resources(&slow(&folder));
    let intrude = async {
        wait_for_file(&folder.join("started")).await;
        let id = s.alice.workspace("demo").await["id"].as_str().unwrap().to_owned();
        // Somebody breaks the lock and writes a state of their own, far ahead.
        assert_eq!(
            s.alice
                .call("POST", &format!("/workspaces/{id}/actions/force-unlock"), None)
                .await
                .0,
            200
        );
        server::write_state(&s.alice, &id, &s.state().await, 50).await;
        std::fs::write(folder.join("may-go"), "").unwrap();
    };
    let (up, ()) = tokio::join!(s.up(), intrude);
    let error = up.error(1);
    assert!(error.contains("errored.tfstate"), "{error}");
    assert_eq!(s.state().await["serial"], 50);
    let kept: Value = serde_json::from_str(&s.project.read("infra/demo/errored.tfstate")).unwrap();
    assert!(
        kept["resources"].to_string().contains("slow"),
        "what was done is kept: {kept}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_network_that_is_lost_in_the_middle_of_a_run_is_waited_for() {
    let s = Setup::new().await;
    let folder = s.project.home();
    s.resources(&slow(&folder));
    let disturb = async {
        wait_for_file(&folder.join("started")).await;
        s.server.cut_network();
        tokio::time::sleep(Duration::from_secs(8)).await;
        std::fs::write(folder.join("may-go"), "").unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        s.server.mend_network();
    };
    let (up, ()) = tokio::join!(s.up(), disturb);
    up.applied();
    assert!(up.notes().contains("does not answer"), "{up}");
    assert_eq!(s.resources_in_state().await, ["terraform_data.slow"]);
    assert_eq!(s.alice.runs("demo").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_program_that_is_killed_finds_its_run_again() {
    let s = Setup::new().await;
    let folder = s.project.home();
    s.resources(&slow(&folder));
    let mut command = tokio::process::Command::from(s.mfsre(&["up", "demo", "--yes", "--push"]));
    let mut first = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for_file(&folder.join("started")).await;
    first.kill().await.unwrap();
    let run = s.alice.wait_for_run("demo", "applying").await;
    let go = async {
        s.asked(&format!("GET /api/v2/runs/{}", run["id"].as_str().unwrap()))
            .await;
        std::fs::write(folder.join("may-go"), "").unwrap();
    };
    let (up, ()) = tokio::join!(s.up(), go);
    up.applied();
    assert!(
        up.notes().contains("is unfinished (applying); going on with it"),
        "{up}"
    );
    let runs = s.alice.runs("demo").await;
    assert_eq!((runs.len(), status(&runs[0])), (1, "applied"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn ctrl_c_stops_watching_and_not_the_run() {
    let s = Setup::new().await;
    let folder = s.project.home();
    s.resources(&slow(&folder));
    let mut command = tokio::process::Command::from(s.mfsre(&["up", "demo", "--yes", "--push"]));
    let child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_file(&folder.join("started")).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("the run itself goes on") && text.contains("/runs/run-"),
        "{text}"
    );
    std::fs::write(folder.join("may-go"), "").unwrap();
    s.alice.wait_for_run("demo", "applied").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_rate_limit_is_waited_for() {
    let s = Setup::new().await;
    s.server.limit(&[1, 1]);
    let plan = s.run(&["plan", "demo"]).await;
    assert_eq!(plan.code, 0, "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn in_a_workspace_that_follows_a_repository_up_waits_for_the_run_of_the_pushed_commit() {
    let s = Setup::following("acme/platform").await;
    // What the service does when a push is reported to it.
    let deliver = async {
        let checkout = s.project.home().join("checkout");
        let git = |arguments: &[&str]| {
            let output = std::process::Command::new("git").args(arguments).output().unwrap();
            output
                .status
                .success()
                .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let repository = s.repository();
        let commit = loop {
            if let Some(commit) = git(&[
                "-C",
                repository.to_str().unwrap(),
                "rev-parse",
                "--verify",
                "--quiet",
                "refs/heads/main",
            ]) {
                break commit;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        git(&[
            "clone",
            "--quiet",
            repository.to_str().unwrap(),
            checkout.to_str().unwrap(),
        ])
        .unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        (s.server.push("demo", &commit, "Render demo", &checkout), commit)
    };
    let (up, (run, commit)) = tokio::join!(s.up(), deliver);
    up.applied();
    let runs = s.alice.runs("demo").await;
    assert_eq!(runs.len(), 1, "no run but that of the push: {up}");
    assert_eq!(
        (runs[0]["id"].as_str().unwrap(), status(&runs[0])),
        (run.as_str(), "applied")
    );
    assert!(up.step("publish").unwrap().contains(&commit[..10]), "{up}");
    assert_eq!(s.resources_in_state().await, ["terraform_data.one"]);

    // The run of this commit is done: a second `up` compares by a run of the same configuration.
    let again = s.up().await;
    assert_eq!(again.step("plan").as_deref(), Some("no changes"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_workspace_that_follows_another_repository_is_refused() {
    let s = Setup::following("acme/else").await;
    let error = s.up().await.error(78);
    assert!(
        error.contains("acme/else") && error.contains("acme/platform"),
        "{error}"
    );
}
