use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Outcome, Rule};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;
use crate::services::http::UpstreamError;

pub(super) const RULE: Rule = Rule {
    name: "eks_updates",
    service: "eks",
    operations: &["DescribeUpdate", "ListUpdates", "AssociateEncryptionConfig"],
    reason: "the emulator gives out ids of updates and has no route to ask after one, which every change waits for",
    apply,
};

/// The type of an update, as the API names it.
pub(super) struct UpdateKind(pub(super) &'static str);

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        match request.call.operation.as_str() {
            "DescribeUpdate" => Ok(describe(context, &request)),
            "ListUpdates" => list(context, request).await,
            _ => remember(context, request).await,
        }
    })
}

/// Records an update that is done at once and answers with it.
pub(super) fn begin(context: &Context, region: &str, cluster: &str, kind: UpdateKind, parameters: Value) -> Answer {
    let id = new_id();
    let update = json!({
        "id": id,
        "status": "Successful",
        "type": kind.0,
        "params": parameters,
        "createdAt": Timestamp::now().as_second(),
        "errors": [],
    });
    context.memory.put(key(region, cluster, &id), update.clone());
    Answer::json(&json!({ "update": update }))
}

/// Forgets the updates of a cluster.
pub(super) fn forget_all(context: &Context, region: &str, cluster: &str) {
    context.memory.forget(&key(region, cluster, ""));
}

fn describe(context: &Context, request: &Request) -> Answer {
    let (cluster, id) = (request.segment(1), request.segment(3));
    match context.memory.get(&key(&request.call.region, &cluster, &id)) {
        Some(update) => Answer::json(&json!({ "update": update })),
        None => {
            let text = format!("No update found for ID: {id}");
            Answer::error(&request.call, StatusCode::NOT_FOUND, "ResourceNotFoundException", &text)
        }
    }
}

async fn list(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (region, cluster) = (request.call.region.clone(), request.segment(1));
    let answer = context.ask(request.get(&["clusters", &cluster])).await?;
    if answer.success().is_none() {
        return Ok(answer);
    }
    Ok(Answer::json(
        &json!({ "updateIds": context.memory.suffixes(&key(&region, &cluster, "")) }),
    ))
}

/// Passes the call on and records the update in its answer.
pub(super) async fn remember(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (region, cluster) = (request.call.region.clone(), request.segment(1));
    let answer = context.ask(request).await?;
    if let Some(body) = answer.success()
        && let Some(id) = body["update"]["id"].as_str()
    {
        context.memory.put(key(&region, &cluster, id), body["update"].clone());
    }
    Ok(answer)
}

fn key(region: &str, cluster: &str, id: &str) -> String {
    format!("update/{region}/{cluster}/{id}")
}

/// A random UUID (RFC 9562, version 4).
fn new_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness the id is the nil UUID, and updates merely overwrite each other.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(bytes);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32)
    )
}
