//! Deploy keys on GitHub.

use std::time::{Duration, Instant};

use mfsre::git::{DeployKeyHost, Github, Registration};
use serde_json::{Value, json};
use url::Url;

use crate::http;
use crate::server::{Answer, OTHER, OURS, PATIENCE, Server, TOKEN, answer, shown};

fn key(id: u64, key: &str, read_only: bool) -> Value {
    json!({ "id": id, "key": key, "title": format!("key {id}"), "read_only": read_only, "verified": true, "url": "x" })
}

fn of(server: &Server) -> Github {
    github(&server.base, Some(TOKEN))
}

fn github(base: &str, token: Option<&str>) -> Github {
    // A second test finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Github::new(
        Some(&Url::parse(base).unwrap()),
        "acme/platform",
        token.map(|t| t.to_owned().into()),
        PATIENCE,
    )
}

#[tokio::test]
async fn a_key_is_found_by_its_data_whatever_its_title_and_comment() {
    let server = Server::start(|_| vec![answer(200, json!([key(1, OTHER, true), key(2, OURS, true)]))]).await;
    let found = of(&server).find(&format!("{OURS} a comment")).await.unwrap().unwrap();
    assert_eq!(
        (found.id.as_str(), found.title.as_str(), found.read_only),
        ("2", "key 2", true)
    );
    assert_eq!(server.lines(), ["GET /repos/acme/platform/keys?per_page=100"]);
    let seen = &server.seen()[0];
    assert_eq!(seen.authorization.as_deref(), Some("Bearer canary-of-a-token"));
    let header = |name: &str| seen.headers.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    assert_eq!(header("accept"), Some("application/vnd.github+json"));
    assert_eq!(header("x-github-api-version"), Some("2022-11-28"));
    assert!(header("user-agent").unwrap().starts_with("mfsre/"));
}

#[tokio::test]
async fn pages_are_followed_to_the_last_one() {
    let server = Server::start(|base| {
        let link =
            |page: u8| format!("<{base}/repositories/1/keys?page={page}>; rel=\"next\", <{base}/x>; rel=\"last\"");
        vec![
            answer(200, json!([key(1, OTHER, true)])).header("link", link(2)),
            answer(200, json!([])).header("link", link(3)),
            answer(200, json!([key(3, OURS, true)])).header("link", format!("<{base}/x>; rel=\"first\"")),
        ]
    })
    .await;
    assert_eq!(of(&server).find(OURS).await.unwrap().unwrap().id, "3");
    assert_eq!(
        server.lines(),
        [
            "GET /repos/acme/platform/keys?per_page=100",
            "GET /repositories/1/keys?page=2",
            "GET /repositories/1/keys?page=3"
        ]
    );
}

#[tokio::test]
async fn a_page_on_another_host_never_gets_the_token() {
    let other = Server::start(|_| vec![answer(200, json!([key(1, OURS, true)]))]).await;
    let foreign = other.base.clone();
    let server = Server::start(move |base| {
        vec![
            answer(200, json!([])).header("link", format!("<{foreign}/keys>; rel=\"next\"")),
            answer(200, json!([])).header("link", format!("<{base}0/keys>; rel=\"next\"")),
            answer(200, json!([])).header("link", format!("<{base}.example.com/keys>; rel=\"next\"")),
        ]
    })
    .await;
    for _ in 0..3 {
        assert_eq!(of(&server).find(OURS).await.unwrap(), None);
    }
    assert!(other.seen().is_empty());
    assert_eq!(server.lines().len(), 3);
}

#[tokio::test]
async fn a_key_is_registered_for_reading_only() {
    let server = Server::start(|_| vec![answer(201, key(7, OURS, true))]).await;
    let registration = of(&server)
        .register("Argo CD of demo", &format!("{OURS} demo"))
        .await
        .unwrap();
    assert_eq!(registration, Registration::Registered);
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /repos/acme/platform/keys");
    assert_eq!(
        seen.body,
        json!({ "title": "Argo CD of demo", "key": OURS, "read_only": true })
    );
}

fn in_use() -> Answer {
    answer(
        422,
        json!({
            "message": "Validation Failed",
            "errors": [{ "resource": "PublicKey", "code": "custom", "field": "key", "message": "key is already in use" }],
            "documentation_url": "https://docs.github.com/rest", "status": "422"
        }),
    )
}

#[tokio::test]
async fn a_key_that_is_registered_already_is_present_if_it_may_only_read() {
    let server = Server::start(|_| vec![in_use(), answer(200, json!([key(7, OURS, true)]))]).await;
    assert_eq!(of(&server).register("t", OURS).await.unwrap(), Registration::Present);
    let server = Server::start(|_| vec![in_use(), answer(200, json!([key(7, OURS, false)]))]).await;
    assert!(
        of(&server).register("t", OURS).await.is_err(),
        "a key that may write is not what was asked for"
    );
}

#[tokio::test]
async fn a_key_that_is_in_use_elsewhere_is_told() {
    let server = Server::start(|_| vec![in_use(), answer(200, json!([key(1, OTHER, true)]))]).await;
    let error = of(&server).register("t", OURS).await.unwrap_err();
    insta::assert_snapshot!(shown(&server.base, error));
}

#[tokio::test]
async fn a_key_is_removed_and_a_second_time_it_is_gone() {
    let server = Server::start(|_| vec![answer(200, json!([key(7, OURS, true)])), answer(204, json!(null))]).await;
    assert!(of(&server).remove(OURS).await.unwrap());
    assert_eq!(server.lines()[1], "DELETE /repos/acme/platform/keys/7");
    let server = Server::start(|_| vec![answer(200, json!([key(7, OURS, true)])), answer(404, json!({}))]).await;
    assert!(!of(&server).remove(OURS).await.unwrap(), "somebody else was quicker");
    let server = Server::start(|_| vec![answer(200, json!([]))]).await;
    assert!(!of(&server).remove(OURS).await.unwrap());
}

#[tokio::test]
async fn refusals_say_which_token_would_do() {
    let mut all = String::new();
    for (status, message, token) in [
        (401, "Requires authentication", None),
        (401, "Bad credentials", Some(TOKEN)),
        (403, "Resource not accessible by personal access token", Some(TOKEN)),
        (404, "Not Found", Some(TOKEN)),
    ] {
        let server = Server::start(|_| vec![answer(status, json!({ "message": message }))]).await;
        let error = github(&server.base, token).find(OURS).await.unwrap_err();
        assert_eq!(server.lines().len(), 1, "asking again does not help");
        assert_eq!(server.seen()[0].authorization.is_some(), token.is_some());
        all.push_str(&shown(&server.base, error));
    }
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn a_short_rate_limit_is_waited_for() {
    let soon = (jiff::Timestamp::now().as_second() + 1).to_string();
    let limited = answer(403, json!({ "message": "API rate limit exceeded" }));
    let server = Server::start(|_| {
        vec![
            limited.clone().header("retry-after", "1"),
            limited
                .header("x-ratelimit-remaining", "0")
                .header("x-ratelimit-reset", soon),
            answer(200, json!([key(1, OURS, true)])),
        ]
    })
    .await;
    let began = Instant::now();
    assert!(of(&server).find(OURS).await.unwrap().is_some());
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.lines().len(), 3);
}

#[tokio::test]
async fn a_long_rate_limit_is_told_with_its_end() {
    let later = (jiff::Timestamp::now().as_second() + 1800).to_string();
    let limited = answer(403, json!({ "message": "API rate limit exceeded" }));
    for limited in [
        limited.clone().header("retry-after", "3600"),
        limited
            .header("x-ratelimit-remaining", "0")
            .header("x-ratelimit-reset", later),
    ] {
        let server = Server::start(|_| vec![limited]).await;
        let began = Instant::now();
        let text = shown(&server.base, of(&server).find(OURS).await.unwrap_err());
        assert!(began.elapsed() < Duration::from_secs(2));
        assert!(text.contains("rate limit is used up; try again in "), "{text}");
        assert_eq!(server.lines().len(), 1);
    }
}

#[tokio::test]
async fn a_disturbance_of_the_host_is_tried_again() {
    let server = Server::start(|_| {
        vec![
            answer(502, json!({ "message": "Server Error" })),
            answer(200, json!([key(1, OURS, true)])),
        ]
    })
    .await;
    assert!(of(&server).find(OURS).await.unwrap().is_some());
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_host_that_stays_broken_is_told() {
    let server = Server::start(|_| vec![answer(500, json!({ "message": "Server Error" }))]).await;
    let text = shown(&server.base, of(&server).find(OURS).await.unwrap_err());
    assert!(text.contains("500 Internal Server Error: Server Error"), "{text}");
    assert_eq!(server.lines().len(), 4);
}

/// Without a header GitHub wants a minute's patience, which is more than these tests have.
#[tokio::test]
async fn a_secondary_rate_limit_is_no_refusal() {
    let message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
    let limited = answer(403, json!({ "message": message }));
    let server = Server::start(|_| vec![limited.clone()]).await;
    let text = shown(&server.base, of(&server).find(OURS).await.unwrap_err());
    assert!(text.contains("rate limit is used up; try again in 60s"), "{text}");
    assert_eq!(server.lines().len(), 1);
    let server = Server::start(|_| {
        vec![
            limited.header("retry-after", "1"),
            answer(200, json!([key(1, OURS, true)])),
        ]
    })
    .await;
    assert!(of(&server).find(OURS).await.unwrap().is_some());
}

#[tokio::test]
async fn a_connection_that_breaks_and_an_answer_that_does_not_come_are_survived_or_told() {
    let keys = http::Answer::ok(json!([key(1, OURS, true)]).to_string());
    for fault in [http::Answer::Reset, http::Answer::Silence(Duration::from_secs(20))] {
        for lasting in [false, true] {
            let count = std::sync::atomic::AtomicUsize::new(0);
            let (fault, keys) = (fault.clone(), keys.clone());
            let server = http::Server::start(move |_| {
                let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if lasting || number < 1 {
                    fault.clone()
                } else {
                    keys.clone()
                }
            })
            .await;
            let base = server.url.as_str().trim_end_matches('/').to_owned();
            let found = github(&base, Some(TOKEN)).find(OURS).await;
            if lasting {
                let text = shown(&base, found.unwrap_err());
                assert!(text.contains("check the network and git.api_url"), "{text}");
                assert_eq!(server.seen().len(), 4);
            } else {
                assert!(found.unwrap().is_some());
                assert_eq!(server.seen().len(), 2);
            }
            if lasting {
                // Nobody knows whether the key was registered: it is not sent a second time.
                github(&base, Some(TOKEN)).register("t", OURS).await.unwrap_err();
                let posts = server.seen().iter().filter(|r| r.method == "POST").count();
                assert_eq!(posts, 1);
            }
        }
    }
}

#[tokio::test]
async fn something_that_is_not_github_is_told() {
    let mut all = String::new();
    for body in [json!({ "hello": "world" }), json!([{ "id": "x" }]), json!("text")] {
        let server = Server::start(|_| vec![answer(200, body)]).await;
        all.push_str(&shown(&server.base, of(&server).find(OURS).await.unwrap_err()));
    }
    insta::assert_snapshot!(all);
    let server = Server::start(|_| {
        vec![Answer {
            status: 418,
            headers: Vec::new(),
            body: "<html>a login page of a proxy</html>".into(),
        }]
    })
    .await;
    let text = shown(&server.base, of(&server).find(OURS).await.unwrap_err());
    assert!(text.contains("418"), "{text}");
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let base = format!("http://127.0.0.1:{port}");
    let text = shown(&base, github(&base, Some(TOKEN)).find(OURS).await.unwrap_err());
    insta::assert_snapshot!(text);
}

#[test]
fn the_token_does_not_show_in_debug_output() {
    assert!(!format!("{:?}", github("http://127.0.0.1:9", Some(TOKEN))).contains(TOKEN));
}
