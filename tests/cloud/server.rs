//! The test server itself: that it refuses what the API refuses.

use serde_json::{Value, json};
use tfe_test_server::{Person, Server};

fn bytes(state: &Value) -> Vec<u8> {
    serde_json::to_vec(state).unwrap()
}

async fn create(person: &Person, workspace: &str, attributes: Value) -> (u16, Value) {
    let body = json!({ "data": { "type": "state-versions", "attributes": attributes } });
    person
        .call("POST", &format!("/workspaces/{workspace}/state-versions"), Some(body))
        .await
}

fn attributes(state: &Value) -> Value {
    use base64::Engine as _;
    let bytes = bytes(state);
    json!({
        "serial": state["serial"],
        "lineage": state["lineage"],
        "md5": tfe_test_server::md5(&bytes),
        "state": base64::prelude::BASE64_STANDARD.encode(bytes),
    })
}

/// Writes a state with another serial, under a lock.
pub(crate) async fn write_state(person: &Person, workspace: &str, state: &Value, serial: u64) {
    let mut state = state.clone();
    state["serial"] = json!(serial);
    let actions = format!("/workspaces/{workspace}/actions");
    assert_eq!(
        person.call("POST", &format!("{actions}/lock"), Some(json!({}))).await.0,
        200
    );
    let (status, answer) = create(person, workspace, attributes(&state)).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(person.call("POST", &format!("{actions}/unlock"), None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_taken_under_a_lock_and_only_as_what_it_says_it_is() {
    let server = Server::start(&[]);
    let (alice, bob) = (server.person("alice", true), server.person("bob", false));
    let workspace = alice
        .create_workspace("states", json!({ "execution-mode": "local" }))
        .await;
    let state = json!({ "version": 4, "serial": 3, "lineage": "a", "outputs": {}, "resources": [] });
    let (status, answer) = create(&alice, &workspace, attributes(&state)).await;
    assert_eq!(status, 409, "without a lock: {answer}");
    write_state(&alice, &workspace, &state, 3).await;

    let lock = format!("/workspaces/{workspace}/actions/lock");
    assert_eq!(bob.call("POST", &lock, Some(json!({}))).await.0, 200);
    let (status, answer) = alice.call("POST", &lock, Some(json!({}))).await;
    assert_eq!(status, 409, "{answer}");
    let (status, answer) = create(&alice, &workspace, attributes(&state)).await;
    assert_eq!(status, 409, "under the lock of somebody else: {answer}");
    let unlock = format!("/workspaces/{workspace}/actions/unlock");
    let (status, answer) = alice.call("POST", &unlock, None).await;
    assert!(
        status == 409 && answer.to_string().contains("is locked by User bob"),
        "{answer}"
    );
    assert_eq!(bob.call("POST", &unlock, None).await.0, 200);

    assert_eq!(alice.call("POST", &lock, Some(json!({}))).await.0, 200);
    let with = |key: &str, value: Value| {
        let mut state = state.clone();
        state["serial"] = json!(4);
        state[key] = value;
        attributes(&state)
    };
    assert_eq!(
        create(&alice, &workspace, with("serial", json!(2))).await.0,
        409,
        "an older serial"
    );
    assert_eq!(
        create(&alice, &workspace, with("lineage", json!("b"))).await.0,
        409,
        "another lineage"
    );
    let mut wrong = with("serial", json!(4));
    wrong["md5"] = json!("00000000000000000000000000000000");
    assert_eq!(create(&alice, &workspace, wrong).await.0, 422, "another MD5");
    assert_eq!(create(&alice, &workspace, with("serial", json!(4))).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_learns_nothing() {
    let server = Server::start(&[]);
    let alice = server.person("alice", true);
    let mut stranger = alice.clone();
    stranger.token = "stranger".into();
    assert_eq!(stranger.call("GET", "/organizations/acme", None).await.0, 401);
    assert_eq!(alice.call("GET", "/organizations/other", None).await.0, 404);
    assert_eq!(stranger.call("GET", "/ping", None).await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let server = Server::start(&[]);
    let alice = server.person("alice", true);
    for i in 0..5 {
        alice.create_workspace(&format!("w{i}"), json!({})).await;
    }
    let path = "/organizations/acme/workspaces?page%5Bsize%5D=2&page%5Bnumber%5D=3";
    let (_, document) = alice.call("GET", path, None).await;
    assert_eq!(document["data"].as_array().unwrap().len(), 1);
    assert_eq!(document["meta"]["pagination"]["total-pages"], 3);
    assert!(document["meta"]["pagination"]["next-page"].is_null());
}
