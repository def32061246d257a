//! The webhook in front of the real emulator.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use super::tests::Fixture;
use crate::services::http::Upstream;
use crate::services::ministack::Ministack;

async fn eks(emulator: &Ministack, method: &str, target: &str, body: &str) -> u16 {
    let authorization =
        "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/eu-west-1/eks/aws4_request, SignedHeaders=host, Signature=0";
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("authorization", authorization);
    let request = request.body(Body::from(body.to_owned())).unwrap();
    Upstream::new(emulator.address)
        .send(request)
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test]
#[ignore = "starts the AWS emulator: `cargo xtask test` runs it"]
async fn access_follows_the_access_entries() {
    let emulator = Ministack::start().await;
    let webhook = Fixture::in_front_of(emulator.address).await;
    let denied = webhook.review(&webhook.token("secret")).await;
    assert_eq!(denied["authenticated"], false, "there is no cluster: {denied}");

    let role = "Action=CreateRole&Version=2010-05-08&RoleName=cluster&AssumeRolePolicyDocument=%7B%7D";
    let request = Request::post("/")
        .header("content-type", "application/x-www-form-urlencoded")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/eu-west-1/iam/aws4_request, SignedHeaders=host, Signature=0",
        );
    Upstream::new(emulator.address)
        .send(request.body(Body::from(role)).unwrap())
        .await
        .unwrap();
    let cluster = r#"{"name":"demo","version":"1.34","roleArn":"arn:aws:iam::000000000000:role/cluster"}"#;
    assert_eq!(eks(&emulator, "POST", "/clusters", cluster).await, 200);
    let denied = webhook.review(&webhook.token("secret")).await;
    assert!(
        denied["error"].as_str().unwrap().contains("has no access entry"),
        "{denied}"
    );

    let entry = "/clusters/demo/access-entries/arn%3Aaws%3Aiam%3A%3A000000000000%3Aroot";
    let body = r#"{"principalArn":"arn:aws:iam::000000000000:root","kubernetesGroups":["viewers"]}"#;
    assert_eq!(eks(&emulator, "POST", "/clusters/demo/access-entries", body).await, 200);
    assert_eq!(
        webhook.review(&webhook.token("secret")).await["user"]["groups"],
        json!(["viewers"])
    );
    let policy = r#"{"policyArn":"arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy","accessScope":{"type":"cluster"}}"#;
    assert_eq!(
        eks(&emulator, "POST", &format!("{entry}/access-policies"), policy).await,
        200
    );
    let review = webhook.review(&webhook.token("secret")).await;
    assert_eq!(review["user"]["groups"], json!(["viewers", "system:masters"]));
    assert_eq!(review["user"]["username"], "arn:aws:iam::000000000000:root");

    assert_eq!(webhook.review(&webhook.token("guessed")).await["authenticated"], false);
    assert_eq!(eks(&emulator, "DELETE", entry, "").await, 200);
    assert_eq!(webhook.review(&webhook.token("secret")).await["authenticated"], false);
}
