//! `mfsre backend migrate` from the local file to a workspace and back, and what is told where the state and the backend do not
//! fit together.

use serde_json::{Value, json};

use crate::server::write_state;
use crate::setup::{Ended, Setup};

const FILE: &str = "infra/demo/terraform.tfstate";

impl Setup {
    async fn migrate(&self) -> Ended {
        self.run(&["backend", "migrate", "demo", "--yes"]).await
    }

    fn local(&self) -> Value {
        serde_json::from_str(&self.project.read(FILE)).unwrap()
    }

    /// An environment whose state is in the local file, with one resource in it.
    async fn local_first() -> (Self, Value) {
        let s = Self::new().await;
        s.environment("");
        s.up().await.applied();
        let state = s.local();
        (s, state)
    }
}

fn the_same(found: &Value, state: &Value) {
    for part in ["lineage", "resources", "outputs"] {
        assert_eq!(found[part], state[part], "{part}");
    }
    assert!(found["serial"].as_u64() >= state["serial"].as_u64());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_state_moves_to_a_workspace_and_back() {
    for execution in ["remote", "local"] {
        let (s, state) = Setup::local_first().await;
        s.backend(&format!("  execution: {execution}\n"));
        let error = s.run(&["plan", "demo"]).await.error(78);
        assert!(
            error.contains("still in the local file") && error.contains("mfsre backend migrate demo"),
            "{error}"
        );

        let moved = s.migrate().await;
        assert_eq!(moved.code, 0, "{moved}");
        let document = moved.events.last().unwrap();
        assert_eq!(
            (&document["moved"], &document["resources"], &document["lineage"]),
            (&json!(true), &json!(1), &state["lineage"]),
            "{moved}"
        );
        assert_eq!(
            s.alice.workspace("demo").await["attributes"]["execution-mode"],
            execution
        );
        the_same(&s.state().await, &state);
        let backup = document["backups"][0].as_str().unwrap();
        the_same(
            &serde_json::from_str(&std::fs::read_to_string(backup).unwrap()).unwrap(),
            &state,
        );
        assert!(!s.project.has(FILE), "init would offer to copy what is there");

        let again = s.migrate().await;
        assert_eq!(again.events.last().unwrap()["moved"], false, "{again}");
        let plan = s.run(&["plan", "demo", "--detailed-exitcode"]).await;
        assert_eq!(plan.code, 0, "nothing would be made a second time: {plan}");

        s.environment("");
        let back = s.migrate().await;
        assert_eq!(back.code, 0, "{back}");
        the_same(&s.local(), &state);
        assert_eq!(s.state().await["resources"], json!([]));
        let plan = s.run(&["plan", "demo", "--detailed-exitcode"]).await;
        assert_eq!(plan.code, 0, "{plan}");

        // Somebody whose environment file still has the workspace.
        std::fs::remove_dir_all(s.project.root().join(".mfsre/demo")).unwrap();
        std::fs::remove_dir_all(s.project.root().join("infra/demo")).unwrap();
        s.backend(&format!("  execution: {execution}\n"));
        let error = s.up().await.error(78);
        assert!(
            error.contains("it was moved to") && error.contains("git pull"),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_move_to_a_workspace_that_is_locked_says_by_whom_and_leaves_everything() {
    let (s, state) = Setup::local_first().await;
    let bob = s.server.person("bob", true);
    let id = bob
        .create_workspace("demo", json!({ "working-directory": "infra/demo" }))
        .await;
    let lock = json!({ "reason": "I look into something" });
    let path = format!("/workspaces/{id}/actions/lock");
    assert_eq!(bob.call("POST", &path, Some(lock)).await.0, 200);
    s.backend("");
    let error = s.migrate().await.error(75);
    for part in ["acme/demo", "locked by bob", "I look into something"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    the_same(&s.local(), &state);
    assert!(s.state().await.is_null());

    let path = format!("/workspaces/{id}/actions/unlock");
    assert_eq!(bob.call("POST", &path, None).await.0, 200);
    let moved = s.migrate().await;
    assert_eq!(moved.code, 0, "{moved}");
    the_same(&s.state().await, &state);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_workspace_that_holds_another_state_is_not_written_over() {
    let (s, state) = Setup::local_first().await;
    let id = s
        .alice
        .create_workspace("demo", json!({ "working-directory": "infra/demo" }))
        .await;
    let mut other = state.clone();
    other["lineage"] = json!("99999999-2222-3333-4444-555555555555");
    write_state(&s.alice, &id, &other, 3).await;
    s.backend("");
    let error = s.migrate().await.error(78);
    assert!(error.contains("a state of something else"), "{error}");
    the_same(&s.local(), &state);
    assert_eq!(s.state().await["lineage"], other["lineage"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_former_workspace_that_is_gone_is_not_made_again() {
    let s = Setup::new().await;
    s.backend("  execution: local\n");
    assert_eq!(s.run(&["plan", "demo"]).await.code, 0);
    let id = s.alice.workspace("demo").await["id"].as_str().unwrap().to_owned();
    let (status, _) = s.alice.call("DELETE", &format!("/workspaces/{id}"), None).await;
    assert_eq!(status, 204);
    s.environment("");
    let plan = s.run(&["plan", "demo"]).await;
    assert_eq!(plan.code, 0, "{plan}");
    let (status, _) = s.alice.call("GET", "/organizations/acme/workspaces/demo", None).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_state_of_a_newer_terraform_is_told_with_the_next_step() {
    for execution in ["remote", "local"] {
        let s = Setup::new().await;
        s.backend(&format!("  execution: {execution}\n"));
        s.up().await.applied();
        let id = s.alice.workspace("demo").await["id"].as_str().unwrap().to_owned();
        let mut state = s.state().await;
        // The format, of which each version can be read by newer programs alone.
        state["version"] = json!(5);
        state["terraform_version"] = json!("99.0.0");
        write_state(&s.alice, &id, &state, 70).await;
        let error = s.up().await.error(1);
        assert!(
            error.contains("written by a newer program") && error.contains("terraform.program"),
            "{error}"
        );
        assert_eq!(s.state().await["serial"], 70, "nothing is lost");
    }
}

/// Kills the program while it waits for the answer to each of its requests in turn; the host has done by then what was asked.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs Terraform at a test server: `cargo xtask test` runs it"]
async fn a_move_that_is_killed_anywhere_is_finished_by_the_next_one() {
    const WORKERS: u16 = 3;
    let workers = (0..WORKERS).map(|first| tokio::spawn(kill_every_third(first, WORKERS)));
    let mut requests = 0;
    for worker in workers.collect::<Vec<_>>() {
        requests = requests.max(worker.await.unwrap());
    }
    assert!(requests > 10, "killed at {requests} requests");
}

/// Returns after how many answers there was nothing left to kill.
async fn kill_every_third(first: u16, step: u16) -> u16 {
    let s = Setup::new().await;
    let resource = json!({
        "mode": "managed", "type": "terraform_data", "name": "one",
        "provider": "provider[\"terraform.io/builtin/terraform\"]",
        "instances": [{ "schema_version": 0, "attributes": { "id": "1" }, "sensitive_attributes": [] }],
    });
    let state = json!({
        "version": 4, "terraform_version": "1.10.0", "serial": 7, "lineage": "11111111-2222-3333-4444-555555555555",
        "outputs": { "answer": { "value": 42, "type": "number" } }, "resources": [resource], "check_results": null,
    });
    let mut answers = first;
    loop {
        for folder in [".mfsre/demo", "infra/demo"] {
            let _ = std::fs::remove_dir_all(s.project.root().join(folder));
        }
        s.project.write(FILE, state.to_string());
        s.backend("");
        s.server.stall_after(answers + 1);
        let mut command = tokio::process::Command::from(s.mfsre(&["backend", "migrate", "demo", "--yes"]));
        let quiet = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = quiet.spawn().unwrap();
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if s.server.stalls() {
                break None;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        };
        child.kill().await.unwrap();
        s.server.resume();
        if let Some(status) = ended {
            assert!(status.success());
            return answers;
        }
        let moved = s.migrate().await;
        assert_eq!(moved.code, 0, "killed after {answers} answers: {moved}");
        the_same(&s.state().await, &state);
        let workspace = s.alice.workspace("demo").await;
        assert_eq!(workspace["attributes"]["locked"], false, "after {answers} answers");
        assert!(!s.project.has(FILE), "after {answers} answers");
        let path = format!("/workspaces/{}", workspace["id"].as_str().unwrap());
        assert_eq!(s.alice.call("DELETE", &path, None).await.0, 204);
        answers += step;
    }
}
