use axum::http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use super::{Outcome, Rule};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;

pub(super) const RULE: Rule = Rule {
    name: "secretsmanager_versions",
    service: "secretsmanager",
    operations: &["PutSecretValue"],
    reason: "the emulator overwrites a version that has the id of the request already; on AWS a version never changes",
    apply,
};

/// Names the operation of a call in JSON.
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// "PutSecretValue", AWS Secrets Manager API Reference, `ClientRequestToken`: a version with this id and the same contents
/// makes the call a success that does nothing, one with other contents makes it fail.
fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        let asked = request.json();
        if !asked["ClientRequestToken"].is_string() {
            return context.ask(request).await;
        }
        let mut read = request
            .clone()
            .with_body(json!({ "SecretId": asked["SecretId"], "VersionId": asked["ClientRequestToken"] }).to_string());
        let target = HeaderValue::from_static("secretsmanager.GetSecretValue");
        read.parts.headers.insert(TARGET, target);
        let Some(found) = context.ask(read).await?.success() else {
            return context.ask(request).await;
        };
        if found["SecretString"] == asked["SecretString"] && found["SecretBinary"] == asked["SecretBinary"] {
            let same = ["ARN", "Name", "VersionId", "VersionStages"].map(|key| (key.to_owned(), found[key].clone()));
            return Ok(Answer::json(&serde_json::Value::Object(same.into_iter().collect())));
        }
        Ok(Answer::error(
            &request.call,
            StatusCode::BAD_REQUEST,
            "ResourceExistsException",
            "You can't modify an existing version, you can only create a new version.",
        ))
    })
}
