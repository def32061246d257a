//! Deploy keys on GitLab (<https://docs.gitlab.com/api/deploy_keys/>).

use std::time::{Duration, Instant};

use mfsre::git::{DeployKeyHost, Gitlab, Registration};
use serde_json::{Value, json};
use url::Url;

use crate::server::{Answer, OTHER, OURS, PATIENCE, Server, TOKEN, answer, shown};

fn of(server: &Server) -> Gitlab {
    gitlab(server, Some(TOKEN))
}

fn gitlab(server: &Server, token: Option<&str>) -> Gitlab {
    let base = Url::parse(&format!("{}/api/v4", server.base)).unwrap();
    Gitlab::new(
        &base,
        "acme/infra/platform",
        token.map(|t| t.to_owned().into()),
        PATIENCE,
    )
}

/// A key as the documentation shows it.
fn key(id: u64, key: &str, can_push: bool) -> Value {
    json!({
        "id": id, "key": format!("{key} comment"), "title": format!("key {id}"), "can_push": can_push,
        "fingerprint": "4a:9d:64", "fingerprint_sha256": "SHA256:x", "created_at": "2026-01-01T00:00:00Z", "expires_at": null,
    })
}

const KEYS: &str = "/api/v4/projects/acme%2Finfra%2Fplatform/deploy_keys";

#[tokio::test]
async fn a_key_of_a_project_in_a_subgroup_is_found() {
    let server = Server::start(|_| vec![answer(200, json!([key(1, OTHER, false), key(2, OURS, false)]))]).await;
    let found = of(&server).find(OURS).await.unwrap().unwrap();
    assert_eq!((found.id.as_str(), found.read_only), ("2", true));
    assert_eq!(server.lines(), [format!("GET {KEYS}?per_page=100")]);
    assert_eq!(
        server.seen()[0].authorization.as_deref(),
        Some("Bearer canary-of-a-token")
    );
}

#[tokio::test]
async fn pages_are_followed_by_their_links() {
    let server = Server::start(|base| {
        let next = format!("<{base}{KEYS}?page=2&per_page=100>; rel=\"next\", <{base}{KEYS}?page=1>; rel=\"first\"");
        vec![
            answer(200, json!([key(1, OTHER, false)])).header("link", next),
            answer(200, json!([key(2, OURS, true)])),
        ]
    })
    .await;
    let found = of(&server).find(OURS).await.unwrap().unwrap();
    assert!(!found.read_only, "a key that can push may not only read");
    assert_eq!(server.lines()[1], format!("GET {KEYS}?page=2&per_page=100"));
}

#[tokio::test]
async fn a_key_is_registered_so_that_it_cannot_push() {
    let server = Server::start(|_| vec![answer(201, key(7, OURS, false))]).await;
    let registration = of(&server)
        .register("mfsre demo", &format!("{OURS} demo"))
        .await
        .unwrap();
    assert_eq!(registration, Registration::Registered);
    let seen = &server.seen()[0];
    assert_eq!(seen.line, format!("POST {KEYS}"));
    assert_eq!(
        seen.body,
        json!({ "title": "mfsre demo", "key": OURS, "can_push": false })
    );
}

#[tokio::test]
async fn a_key_that_the_project_has_already_and_that_may_push_is_refused() {
    // GitLab answers a second creation with the key as it is.
    let server = Server::start(|_| vec![answer(201, key(7, OURS, true))]).await;
    let text = shown(&server.base, of(&server).register("t", OURS).await.unwrap_err());
    assert!(text.contains("is registered already, and may push"), "{text}");
}

fn taken() -> Answer {
    answer(
        400,
        json!({ "message": { "deploy_key.fingerprint": ["has already been taken"] } }),
    )
}

#[tokio::test]
async fn a_key_that_is_taken_is_present_if_the_project_has_it_and_else_told() {
    let server = Server::start(|_| vec![taken(), answer(200, json!([key(7, OURS, false)]))]).await;
    assert_eq!(of(&server).register("t", OURS).await.unwrap(), Registration::Present);
    let server = Server::start(|_| vec![taken(), answer(200, json!([]))]).await;
    insta::assert_snapshot!(shown(&server.base, of(&server).register("t", OURS).await.unwrap_err()));
}

#[tokio::test]
async fn a_key_is_removed_and_a_second_time_it_is_gone() {
    let server = Server::start(|_| vec![answer(200, json!([key(7, OURS, false)])), answer(204, json!(null))]).await;
    assert!(of(&server).remove(OURS).await.unwrap());
    assert_eq!(server.lines()[1], format!("DELETE {KEYS}/7"));
    let server = Server::start(|_| vec![answer(404, json!({ "message": "404 Deploy Key Not Found" }))]).await;
    assert!(!of(&server).delete("7").await.unwrap());
}

#[tokio::test]
async fn refusals_say_which_token_would_do() {
    let mut all = String::new();
    for (status, body, token) in [
        (401, json!({ "message": "401 Unauthorized" }), None),
        (
            401,
            json!({ "error": "invalid_token", "error_description": "Token was revoked." }),
            Some(TOKEN),
        ),
        (
            403,
            json!({ "error": "insufficient_scope", "scope": "api" }),
            Some(TOKEN),
        ),
        (404, json!({ "message": "404 Project Not Found" }), Some(TOKEN)),
        (
            422,
            json!({ "message": { "key": ["is invalid", "is too short"], "title": ["is missing"] } }),
            Some(TOKEN),
        ),
    ] {
        let server = Server::start(|_| vec![answer(status, body)]).await;
        let error = gitlab(&server, token).find(OURS).await.unwrap_err();
        assert_eq!(server.lines().len(), 1, "asking again does not help");
        all.push_str(&shown(&server.base, error));
    }
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn rate_limits_are_waited_for_or_told() {
    let limited = answer(429, json!({ "message": { "error": "Too many requests" } }));
    let soon = (jiff::Timestamp::now().as_second() + 1).to_string();
    let server = Server::start(|_| {
        vec![
            limited.clone().header("retry-after", "1"),
            limited
                .clone()
                .header("ratelimit-remaining", "0")
                .header("ratelimit-reset", soon),
            answer(200, json!([key(1, OURS, false)])),
        ]
    })
    .await;
    let began = Instant::now();
    assert!(of(&server).find(OURS).await.unwrap().is_some());
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.lines().len(), 3);
    let server = Server::start(|_| vec![limited.header("retry-after", "3600")]).await;
    let text = shown(&server.base, of(&server).find(OURS).await.unwrap_err());
    assert!(
        text.contains("GitLab's rate limit is used up; try again in 3600s"),
        "{text}"
    );
}

#[tokio::test]
async fn a_disturbance_of_the_host_is_tried_again() {
    let server = Server::start(|_| vec![answer(502, json!("x")), answer(201, key(7, OURS, false))]).await;
    assert_eq!(of(&server).register("t", OURS).await.unwrap(), Registration::Registered);
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn something_that_is_not_gitlab_is_told() {
    let mut all = String::new();
    for body in [json!({ "hello": "world" }), json!([{ "id": "x" }]), json!("text")] {
        let server = Server::start(|_| vec![answer(200, body)]).await;
        all.push_str(&shown(&server.base, of(&server).find(OURS).await.unwrap_err()));
    }
    insta::assert_snapshot!(all);
}
