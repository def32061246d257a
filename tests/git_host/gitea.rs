//! Deploy keys on Gitea and Forgejo; the messages are those of Gitea's own source (`routers/api/v1/repo/key.go`).

use std::time::{Duration, Instant};

use mfsre::git::{DeployKeyHost, Gitea, Registration};
use serde_json::{Value, json};
use url::Url;

use crate::server::{Answer, OTHER, OURS, PATIENCE, Server, TOKEN, answer, shown};

fn of(server: &Server) -> Gitea {
    gitea(server, Some(TOKEN))
}

fn gitea(server: &Server, token: Option<&str>) -> Gitea {
    let base = Url::parse(&format!("{}/api/v1/", server.base)).unwrap();
    Gitea::new(&base, "acme/platform", token.map(|t| t.to_owned().into()), PATIENCE)
}

fn key(id: u64, key: &str, read_only: bool) -> Value {
    json!({
        "id": id, "key_id": id + 100, "key": format!("{key} comment"), "title": format!("key {id}"), "read_only": read_only,
        "fingerprint": "SHA256:x", "created_at": "2026-01-01T00:00:00Z", "url": "x",
    })
}

const KEYS: &str = "/api/v1/repos/acme/platform/keys";

fn refused(status: u16, message: &str) -> Answer {
    answer(
        status,
        json!({ "message": message, "url": "https://git.example.com/api/swagger" }),
    )
}

#[tokio::test]
async fn a_key_is_found_with_a_token_as_the_host_wants_it() {
    let server = Server::start(|_| {
        vec![answer(200, json!([key(1, OTHER, true), key(2, OURS, true)])).header("x-total-count", "2")]
    })
    .await;
    let found = of(&server).find(OURS).await.unwrap().unwrap();
    assert_eq!((found.id.as_str(), found.read_only), ("2", true));
    assert_eq!(server.lines(), [format!("GET {KEYS}?limit=50&page=1")]);
    assert_eq!(
        server.seen()[0].authorization.as_deref(),
        Some("token canary-of-a-token")
    );
}

#[tokio::test]
async fn pages_are_counted_to_the_total_however_small_the_host_makes_them() {
    let server = Server::start(|_| {
        let page = |items: Value| answer(200, items).header("x-total-count", "3");
        vec![
            page(json!([key(1, OTHER, true)])),
            page(json!([key(2, OTHER, true)])),
            page(json!([key(3, OURS, true)])),
        ]
    })
    .await;
    assert_eq!(of(&server).find(OURS).await.unwrap().unwrap().id, "3");
    let pages = [1, 2, 3].map(|page| format!("GET {KEYS}?limit=50&page={page}"));
    assert_eq!(server.lines(), pages);
    // An old host that tells no total: an empty page is the end.
    let server = Server::start(|_| vec![answer(200, json!([key(1, OTHER, true)])), answer(200, json!([]))]).await;
    assert_eq!(of(&server).list().await.unwrap().len(), 1);
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_key_is_registered_for_reading_only() {
    let server = Server::start(|_| vec![answer(201, key(7, OURS, true))]).await;
    let registration = of(&server)
        .register("mfsre demo", &format!("{OURS} demo"))
        .await
        .unwrap();
    assert_eq!(registration, Registration::Registered);
    let seen = &server.seen()[0];
    assert_eq!(seen.line, format!("POST {KEYS}"));
    assert_eq!(
        seen.body,
        json!({ "title": "mfsre demo", "key": OURS, "read_only": true })
    );
}

#[tokio::test]
async fn a_key_that_is_registered_already_is_present_if_it_may_only_read() {
    let added = || refused(422, "This key has already been added to this repository");
    let server = Server::start(|_| {
        vec![
            added(),
            answer(200, json!([key(7, OURS, true)])).header("x-total-count", "1"),
        ]
    })
    .await;
    assert_eq!(of(&server).register("t", OURS).await.unwrap(), Registration::Present);
    let server = Server::start(|_| {
        vec![
            added(),
            answer(200, json!([key(7, OURS, false)])).header("x-total-count", "1"),
        ]
    })
    .await;
    assert!(
        of(&server).register("t", OURS).await.is_err(),
        "a key that may write is not what was asked for"
    );
}

#[tokio::test]
async fn what_the_host_does_not_take_is_told_with_what_to_do() {
    let mut all = String::new();
    for message in [
        "Key content has been used as non-deploy key",
        "A key with the same name already exists",
        "Invalid key content: unable to verify key content",
    ] {
        let server = Server::start(|_| vec![refused(422, message), answer(200, json!([]))]).await;
        all.push_str(&shown(&server.base, of(&server).register("t", OURS).await.unwrap_err()));
    }
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn a_key_is_removed_by_its_id() {
    let server = Server::start(|_| {
        vec![
            answer(200, json!([key(7, OURS, true)])).header("x-total-count", "1"),
            answer(204, json!(null)),
        ]
    })
    .await;
    assert!(of(&server).remove(OURS).await.unwrap());
    assert_eq!(server.lines()[1], format!("DELETE {KEYS}/7"));
    let server = Server::start(|_| vec![refused(403, "You do not have access to this key")]).await;
    assert!(of(&server).delete("7").await.is_err());
    let server = Server::start(|_| vec![refused(404, "not found")]).await;
    assert!(!of(&server).delete("7").await.unwrap());
}

#[tokio::test]
async fn refusals_say_which_token_would_do() {
    let mut all = String::new();
    for (status, message, token) in [
        (401, "token is required", None),
        (401, "user does not exist [uid: 0, name: ]", Some(TOKEN)),
        (
            403,
            "token does not have at least one of required scope(s): [write:repository]",
            Some(TOKEN),
        ),
        (404, "The target couldn't be found.", Some(TOKEN)),
    ] {
        let server = Server::start(|_| vec![refused(status, message)]).await;
        let error = gitea(&server, token).find(OURS).await.unwrap_err();
        assert_eq!(server.lines().len(), 1, "asking again does not help");
        all.push_str(&shown(&server.base, error));
    }
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn a_token_that_cannot_be_one_is_told_without_it() {
    let server = Server::start(|_| vec![answer(200, json!([]))]).await;
    let error = gitea(&server, Some("canary\nof a token")).find(OURS).await.unwrap_err();
    let text = shown(&server.base, error);
    assert!(
        text.contains("characters that no token has") && !text.contains("canary"),
        "{text}"
    );
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_proxy_that_asks_to_wait_is_waited_for_or_told() {
    // Gitea has no rate limit of its own; what stands before it may answer with a date.
    let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1);
    let date = jiff::fmt::rfc2822::to_string(&date.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
    let server = Server::start(|_| {
        vec![
            refused(503, "x").header("retry-after", date.replace("+0000", "GMT")),
            answer(200, json!([key(1, OURS, true)])).header("x-total-count", "1"),
        ]
    })
    .await;
    let began = Instant::now();
    assert!(of(&server).find(OURS).await.unwrap().is_some());
    assert!(began.elapsed() >= Duration::from_millis(900));
    let server = Server::start(|_| vec![refused(429, "slow down").header("retry-after", "1200")]).await;
    let text = shown(&server.base, of(&server).find(OURS).await.unwrap_err());
    assert!(text.contains("the host asks to wait; try again in 1200s"), "{text}");
}

#[tokio::test]
async fn something_that_is_not_gitea_is_told() {
    let items = json!([{ "id": 1, "key": OURS, "title": "t" }]);
    let server = Server::start(|_| vec![answer(200, items.clone()).header("x-total-count", "1")]).await;
    insta::assert_snapshot!(shown(&server.base, of(&server).find(OURS).await.unwrap_err()));
    let items = json!([{ "id": 1, "key": OTHER, "title": "t", "read_only": true }]);
    let server = Server::start(|_| vec![answer(200, items)]).await;
    let text = shown(&server.base, of(&server).find(OURS).await.unwrap_err());
    assert!(text.contains("the list has not ended after 100 pages"), "{text}");
}
