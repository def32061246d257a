//! The API as a client over HTTP sees it.

use std::net::SocketAddr;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Config, Repository, Token, serve};
use crate::services::DeployKeys;
use crate::services::http::Upstream;

const KEYS: &str = "/repos/acme/platform/keys";
const FIRST: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
const TOKEN: &str = "Bearer administrator";

struct Fixture {
    _folder: TempDir,
    _stop: watch::Sender<bool>,
    address: SocketAddr,
    client: Upstream,
    log: std::path::PathBuf,
}

struct Answer {
    status: StatusCode,
    link: String,
    body: Value,
}

impl Fixture {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = |name: &str| Repository {
            name: name.parse().unwrap(),
            ssh_url: format!("ssh://git@127.0.0.1:2222/{name}.git"),
        };
        let log = folder.path().join("access.jsonl");
        let config = Config {
            repositories: vec![repository("acme/platform"), repository("acme/other")],
            tokens: vec![
                Token::administrator("administrator"),
                Token::without_administration("workflow"),
            ],
            deploy_keys: DeployKeys::open(&folder.path().join("keys.json")).unwrap(),
            access_log: log.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, shutdown) = watch::channel(false);
        tokio::spawn(serve(listener, config, shutdown));
        Self {
            _folder: folder,
            _stop: stop,
            address,
            client: Upstream::new(address),
            log,
        }
    }

    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status();
        let link = response
            .headers()
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned())
            .unwrap_or_default();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Answer {
            status,
            link,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        }
    }

    async fn request(&self, method: Method, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.call(method, path, &[("authorization", TOKEN), ("user-agent", "test")], body)
            .await
    }

    async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &Value::Null).await
    }

    async fn post(&self, body: &Value) -> Answer {
        self.request(Method::POST, KEYS, body).await
    }
}

/// A public key that differs in its last bytes.
fn key(number: u8) -> String {
    let mut wire = Vec::new();
    for part in [b"ssh-ed25519".as_slice(), &[number; 32]] {
        wire.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        wire.extend(part);
    }
    format!(
        "ssh-ed25519 {}",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, wire)
    )
}

#[tokio::test]
async fn a_key_is_created_listed_read_and_deleted() {
    let api = Fixture::start().await;
    let created = api
        .post(&json!({ "title": "demo", "key": format!("{FIRST} comment"), "read_only": true }))
        .await;
    assert_eq!(created.status, StatusCode::CREATED);
    let url = format!("http://{}{KEYS}/1", api.address);
    let mut expected = json!({
        "id": 1, "key": FIRST, "url": url, "title": "demo", "verified": true, "created_at": created.body["created_at"],
        "read_only": true, "added_by": "acme", "last_used": null, "enabled": true,
    });
    assert_eq!(created.body, expected);
    let time = created.body["created_at"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");

    assert_eq!(api.get(&format!("{KEYS}/1")).await.body, expected);
    assert_eq!(
        api.get("/repos/ACME/Platform/keys").await.body,
        json!([expected.take()])
    );
    assert_eq!(api.get("/repos/acme/other/keys/1").await.status, StatusCode::NOT_FOUND);

    assert_eq!(
        api.request(Method::DELETE, "/repos/acme/other/keys/1", &Value::Null)
            .await
            .status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        api.request(Method::DELETE, &format!("{KEYS}/1"), &Value::Null)
            .await
            .status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        api.request(Method::DELETE, &format!("{KEYS}/1"), &Value::Null)
            .await
            .status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(api.get(KEYS).await.body, json!([]));
}

#[tokio::test]
async fn a_key_can_push_unless_asked_not_to() {
    let api = Fixture::start().await;
    assert_eq!(api.post(&json!({ "key": FIRST })).await.body["read_only"], false);
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_said_as_github_says_it() {
    let api = Fixture::start().await;
    api.post(&json!({ "title": "demo", "key": FIRST })).await;
    let again = api.post(&json!({ "title": "other", "key": FIRST })).await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
    let expected = json!({
        "message": "Validation Failed",
        "errors": [{ "resource": "PublicKey", "code": "custom", "field": "key", "message": "key is already in use" }],
        "documentation_url": "https://docs.github.com/rest/deploy-keys/deploy-keys#create-a-deploy-key",
        "status": "422",
    });
    assert_eq!(again.body, expected);

    let elsewhere = api
        .request(Method::POST, "/repos/acme/other/keys", &json!({ "key": FIRST }))
        .await;
    assert_eq!(elsewhere.body["errors"][0]["message"], "key is already in use");

    for (text, status) in [("ssh-ed25519 AAAA", 422), ("", 422), ("ssh-rsa AAAAB3NzaC1yc2E=", 422)] {
        let answer = api.post(&json!({ "key": text })).await;
        assert_eq!(answer.status, status, "{text:?}");
        assert!(
            answer.body["errors"][0]["message"]
                .as_str()
                .unwrap()
                .starts_with("key is invalid."),
            "{text:?}"
        );
    }
    assert_eq!(
        api.post(&json!({ "title": "x" })).await.body["message"],
        "Invalid request.\n\n\"key\" wasn't supplied."
    );
    assert_eq!(
        api.post(&json!({ "key": 1 })).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(
        api.post(&json!({ "key": key(1), "read_only": "yes" })).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(
        api.post(&json!([])).await.body["message"],
        "Body should be a JSON object"
    );
}

#[tokio::test]
async fn bodies_are_bounded_and_must_be_json() {
    let api = Fixture::start().await;
    let headers = [("authorization", TOKEN), ("user-agent", "test")];
    let malformed = api.call(Method::POST, KEYS, &headers, "{".to_owned()).await;
    assert_eq!(
        (malformed.status, &malformed.body["message"]),
        (StatusCode::BAD_REQUEST, &json!("Problems parsing JSON"))
    );
    let large = api.call(Method::POST, KEYS, &headers, " ".repeat(100 * 1024)).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn only_a_token_with_the_permission_manages_keys() {
    let api = Fixture::start().await;
    let status = async |path: &str, headers: &[(&str, &str)]| {
        let answer = api.call(Method::GET, path, headers, String::new()).await;
        (
            answer.status.as_u16(),
            answer.body["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let agent = ("user-agent", "test");
    let answer = |status: u16, message: &str| (status, message.to_owned());
    assert_eq!(status(KEYS, &[agent]).await, answer(401, "Requires authentication"));
    for wrong in [
        "Bearer wrong",
        "Bearer ",
        "Bearer",
        "Basic administrator",
        "administrator",
    ] {
        assert_eq!(
            status(KEYS, &[agent, ("authorization", wrong)]).await,
            answer(401, "Bad credentials"),
            "{wrong}"
        );
    }
    let workflow = ("authorization", "Bearer workflow");
    assert_eq!(
        status(KEYS, &[agent, workflow]).await,
        answer(403, "Resource not accessible by integration")
    );
    assert_eq!(status("/repos/acme/platform", &[agent, workflow]).await.0, 200);
    assert_eq!(
        status(KEYS, &[("authorization", TOKEN)]).await.0,
        403,
        "GitHub wants a User-Agent"
    );
    for scheme in ["Bearer", "token", "bearer"] {
        assert_eq!(
            status(KEYS, &[agent, ("authorization", &format!("{scheme} administrator"))])
                .await
                .0,
            200,
            "{scheme}"
        );
    }
}

#[tokio::test]
async fn a_repository_is_described_and_others_are_not_found() {
    let api = Fixture::start().await;
    let found = api.get("/repos/acme/platform").await;
    assert_eq!(found.status, StatusCode::OK);
    assert_eq!(found.body["full_name"], "acme/platform");
    assert_eq!(found.body["ssh_url"], "ssh://git@127.0.0.1:2222/acme/platform.git");
    assert_eq!(found.body["default_branch"], "main");
    assert_eq!(found.body["permissions"]["admin"], true);
    for path in [
        "/repos/acme/none",
        "/repos/acme/none/keys",
        "/repos/acme/platform/keys/x",
        "/repos/acme/platform/hooks",
        "/",
    ] {
        let answer = api.get(path).await;
        assert_eq!(
            (answer.status, &answer.body["message"]),
            (StatusCode::NOT_FOUND, &json!("Not Found")),
            "{path}"
        );
    }
    assert_eq!(
        api.request(Method::PATCH, KEYS, &json!({})).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn pages_can_be_followed_to_the_end() {
    let api = Fixture::start().await;
    for number in 1..=5 {
        assert_eq!(
            api.post(&json!({ "key": key(number) })).await.status,
            StatusCode::CREATED
        );
    }
    let mut path = format!("{KEYS}?per_page=2");
    let mut ids = Vec::new();
    loop {
        let answer = api.get(&path).await;
        ids.extend(
            answer
                .body
                .as_array()
                .unwrap()
                .iter()
                .map(|key| key["id"].as_u64().unwrap()),
        );
        let next = answer
            .link
            .split(", ")
            .find_map(|link| link.strip_suffix("; rel=\"next\""))
            .map(str::to_owned);
        let Some(next) = next else { break };
        path = next
            .trim_start_matches('<')
            .trim_end_matches('>')
            .split_once(&api.address.to_string())
            .unwrap()
            .1
            .to_owned();
    }
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    assert_eq!(
        api.get(&format!("{KEYS}?per_page=x"))
            .await
            .body
            .as_array()
            .unwrap()
            .len(),
        5
    );
}

#[tokio::test]
async fn the_log_names_requests_without_what_they_carried() {
    let api = Fixture::start().await;
    api.post(&json!({ "key": FIRST })).await;
    let log = std::fs::read_to_string(&api.log).unwrap();
    let entry: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&entry["method"], &entry["path"], &entry["status"]),
        (&json!("POST"), &json!(KEYS), &json!(201))
    );
    assert!(!log.contains("AAAA") && !log.contains("administrator"), "{log}");
}

#[test]
fn a_token_cannot_be_printed() {
    assert!(!format!("{:?}", Token::administrator("verysecret")).contains("verysecret"));
}
