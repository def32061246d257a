use serde_json::{Map, Value, json};

use super::{Outcome, Rule};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;
use crate::services::http::UpstreamError;
use crate::services::sigv4::uri_encode;

pub(super) const RULE: Rule = Rule {
    name: "eks_tags",
    service: "eks",
    operations: &[
        "TagResource",
        "UntagResource",
        "ListTagsForResource",
        "CreateAccessEntry",
        "DescribeAccessEntry",
        "UpdateAccessEntry",
        "CreatePodIdentityAssociation",
        "DescribePodIdentityAssociation",
        "UpdatePodIdentityAssociation",
    ],
    reason: "the emulator's describing calls return the tags of the creation for ever, of several keys it removes the first \
             only, and it takes no tags for a Pod Identity association",
    apply,
};

/// What the keys of this rule's memory begin with.
const PREFIX: &str = "tags/";

/// Where each answer has its resource, and where that has its ARN.
const RESOURCES: [(&str, &str); 5] = [
    ("cluster", "arn"),
    ("nodegroup", "nodegroupArn"),
    ("addon", "addonArn"),
    ("accessEntry", "accessEntryArn"),
    ("association", "associationArn"),
];

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        match request.call.operation.as_str() {
            "TagResource" => tag(context, request).await,
            "UntagResource" => untag(context, request).await,
            "ListTagsForResource" => list(context, request).await,
            operation => {
                let created = operation.starts_with("Create");
                let answer = context.ask(request).await?;
                let Some(mut body) = answer.success() else {
                    return Ok(answer);
                };
                if created {
                    forget(context, &body);
                }
                lay_over(context, &mut body);
                Ok(answer.with_body(body.to_string()))
            }
        }
    })
}

/// Lays the changes since the creation over the tags of the resource in an answer.
pub(super) fn lay_over(context: &Context, body: &mut Value) {
    for (resource, arn) in RESOURCES {
        if let Some(found) = body.get_mut(resource).and_then(Value::as_object_mut)
            && let Some(change) = found
                .get(arn)
                .and_then(Value::as_str)
                .and_then(|arn| context.memory.get(&key(arn)))
        {
            let tags = changed(found.get("tags"), &change);
            found.insert("tags".to_owned(), tags);
        }
    }
}

/// Forgets the changes of the resource in an answer, since a new one can have the ARN of an old one.
pub(super) fn forget(context: &Context, body: &Value) {
    for (resource, arn) in RESOURCES {
        if let Some(arn) = body[resource][arn].as_str() {
            context.memory.forget(&key(arn));
        }
    }
}

/// Forgets the changes of everything that a cluster holds, and of itself.
pub(super) fn forget_all(context: &Context, region: &str, cluster: &str) {
    for suffix in context.memory.suffixes(PREFIX) {
        // `arn:aws:eks:<region>:<account>:<kind>/<cluster>/…`
        let mut fields = suffix.splitn(6, ':');
        let of_region = fields.nth(3) == Some(region);
        let of_cluster = fields.nth(1).and_then(|resource| resource.split('/').nth(1)) == Some(cluster);
        if of_region && of_cluster {
            context.memory.forget(&format!("{PREFIX}{suffix}"));
        }
    }
}

async fn tag(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (arn, asked) = (request.segment(1), request.json());
    if !is_unknown_to_the_emulator(&arn) {
        let answer = context.ask(request).await?;
        if !answer.status.is_success() {
            return Ok(answer);
        }
    }
    let (mut set, mut removed) = change(context, &arn);
    for (name, value) in asked["tags"].as_object().into_iter().flatten() {
        set.insert(name.clone(), value.clone());
        removed.retain(|other| other != name);
    }
    remember(context, &arn, set, removed);
    Ok(Answer::json(&json!({})))
}

async fn untag(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let arn = request.segment(1);
    let names: Vec<String> = request
        .query()
        .into_iter()
        .filter(|(name, _)| name == "tagKeys")
        .map(|(_, key)| key)
        .collect();
    for name in names.iter().filter(|_| !is_unknown_to_the_emulator(&arn)) {
        let mut one = request.clone();
        let target = format!("{}?tagKeys={}", one.parts.uri.path(), uri_encode(name));
        one.parts.uri = target.parse().unwrap_or(one.parts.uri);
        let answer = context.ask(one).await?;
        if !answer.status.is_success() {
            return Ok(answer);
        }
    }
    let (mut set, mut removed) = change(context, &arn);
    for name in names {
        set.remove(&name);
        removed.push(json!(name));
    }
    remember(context, &arn, set, removed);
    Ok(Answer::json(&json!({})))
}

async fn list(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let arn = request.segment(1);
    let change = context.memory.get(&key(&arn));
    if is_unknown_to_the_emulator(&arn) {
        // `…:podidentityassociation/<cluster>/<id>`
        let path: Vec<&str> = arn.split('/').skip(1).collect();
        let [cluster, id] = path.as_slice() else {
            return context.ask(request).await;
        };
        let answer = context
            .ask(request.get(&["clusters", cluster, "pod-identity-associations", id]))
            .await?;
        let Some(mut body) = answer.success() else {
            return Ok(answer);
        };
        lay_over(context, &mut body);
        return Ok(Answer::json(&json!({ "tags": body["association"]["tags"] })));
    }
    let answer = context.ask(request).await?;
    let (Some(mut body), Some(change)) = (answer.success(), change) else {
        return Ok(answer);
    };
    body["tags"] = changed(body.get("tags"), &change);
    Ok(answer.with_body(body.to_string()))
}

fn changed(tags: Option<&Value>, change: &Value) -> Value {
    let mut tags = tags.and_then(Value::as_object).cloned().unwrap_or_default();
    tags.extend(change["set"].as_object().cloned().unwrap_or_default());
    let removed = change["removed"].as_array().cloned().unwrap_or_default();
    tags.retain(|name, _| !removed.iter().any(|other| other == name));
    Value::Object(tags)
}

fn change(context: &Context, arn: &str) -> (Map<String, Value>, Vec<Value>) {
    let kept = context.memory.get(&key(arn)).unwrap_or_default();
    (
        kept["set"].as_object().cloned().unwrap_or_default(),
        kept["removed"].as_array().cloned().unwrap_or_default(),
    )
}

fn remember(context: &Context, arn: &str, set: Map<String, Value>, removed: Vec<Value>) {
    context.memory.put(key(arn), json!({ "set": set, "removed": removed }));
}

fn is_unknown_to_the_emulator(arn: &str) -> bool {
    arn.contains(":podidentityassociation/")
}

fn key(arn: &str) -> String {
    format!("{PREFIX}{arn}/")
}
