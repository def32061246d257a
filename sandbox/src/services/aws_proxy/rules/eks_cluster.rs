use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::eks_addons;
use super::eks_nodegroup;
use super::eks_tags;
use super::eks_updates::{self, UpdateKind};
use super::{Outcome, Rule};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;
use crate::services::http::UpstreamError;

pub(super) const RULE: Rule = Rule {
    name: "eks_cluster",
    service: "eks",
    operations: &[
        "CreateCluster",
        "DescribeCluster",
        "DeleteCluster",
        "UpdateClusterConfig",
        "UpdateClusterVersion",
    ],
    reason: "the emulator names an endpoint where nothing listens and a constant for a CA, keeps no upgrade policy, and \
             has no route to change a cluster",
    apply,
};

/// Fields of CreateCluster that the emulator drops and DescribeCluster returns.
const DROPPED: [&str; 6] = [
    "upgradePolicy",
    "zonalShiftConfig",
    "computeConfig",
    "storageConfig",
    "remoteNetworkConfig",
    "deletionProtection",
];

/// The fields that UpdateClusterConfig changes, each with the type of its update.
const CHANGEABLE: [(&str, &str); 6] = [
    ("resourcesVpcConfig", "EndpointAccessUpdate"),
    ("logging", "LoggingUpdate"),
    ("accessConfig", "AccessConfigUpdate"),
    ("upgradePolicy", "UpgradePolicyUpdate"),
    ("zonalShiftConfig", "ZonalShiftConfigUpdate"),
    ("deletionProtection", "DeletionProtectionUpdate"),
];

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        match request.call.operation.as_str() {
            "CreateCluster" => create(context, request).await,
            "DeleteCluster" => delete(context, request).await,
            "UpdateClusterConfig" => update_config(context, request).await,
            "UpdateClusterVersion" => update_version(context, request).await,
            _ => Ok(complete(
                context,
                &request.call.region.clone(),
                context.ask(request).await?,
            )),
        }
    })
}

async fn create(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (region, asked) = (request.call.region.clone(), request.json());
    let answer = context.ask(request).await?;
    if let (Some(body), Some(name)) = (answer.success(), asked["name"].as_str()) {
        eks_tags::forget(context, &body);
        let mut kept: Map<String, Value> = DROPPED
            .iter()
            .filter(|field| !asked[**field].is_null())
            .map(|field| ((*field).to_owned(), asked[*field].clone()))
            .collect();
        kept.entry("upgradePolicy")
            .or_insert_with(|| json!({ "supportType": "EXTENDED" }));
        context.memory.put(key(&region, name), Value::Object(kept));
    }
    Ok(complete(context, &region, answer))
}

async fn delete(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (region, name) = (request.call.region.clone(), request.segment(1));
    let answer = complete(context, &region, context.ask(request).await?);
    if answer.status.is_success() {
        context.memory.forget(&key(&region, &name));
        eks_nodegroup::forget_all(context, &region, &name);
        eks_addons::forget_all(context, &region, &name);
        eks_updates::forget_all(context, &region, &name);
        eks_tags::forget_all(context, &region, &name);
    }
    Ok(answer)
}

async fn update_config(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (region, name, asked) = (request.call.region.clone(), request.segment(1), request.json());
    let answer = complete(context, &region, context.ask(request.get(&["clusters", &name])).await?);
    let Some(described) = answer.success() else {
        return Ok(answer);
    };
    let changes: Vec<&(&str, &'static str)> = CHANGEABLE
        .iter()
        .filter(|(field, _)| !asked[*field].is_null())
        .collect();
    // AWS takes one kind of change at a time.
    let [(field, kind)] = changes.as_slice() else {
        let text = "exactly one configuration can be changed at a time";
        return Ok(Answer::error(
            &request.call,
            axum::http::StatusCode::BAD_REQUEST,
            "InvalidParameterException",
            text,
        ));
    };
    let changed = merged(&described["cluster"][*field], &asked[*field]);
    keep(context, &region, &name, field, changed);
    Ok(eks_updates::begin(context, &region, &name, UpdateKind(kind), json!([])))
}

async fn update_version(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (region, name, asked) = (request.call.region.clone(), request.segment(1), request.json());
    let answer = context.ask(request.get(&["clusters", &name])).await?;
    if answer.success().is_none() {
        return Ok(answer);
    }
    let version = asked["version"].clone();
    keep(context, &region, &name, "version", version.clone());
    let parameters = json!([{ "type": "Version", "value": version }]);
    Ok(eks_updates::begin(
        context,
        &region,
        &name,
        UpdateKind("VersionUpdate"),
        parameters,
    ))
}

/// Lays over an answer with a cluster in it what the emulator did not keep or cannot know.
fn complete(context: &Context, region: &str, answer: Answer) -> Answer {
    let Some(mut body) = answer.success() else {
        return answer;
    };
    let Some(cluster) = body["cluster"].as_object_mut() else {
        return answer;
    };
    let name = cluster
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if let Some(Value::Object(kept)) = context.memory.get(&key(region, &name)) {
        cluster.extend(kept);
    }
    if name == context.cluster.name {
        let authority = STANDARD.encode(&context.cluster.certificate_authority_pem);
        cluster.insert("endpoint".to_owned(), json!(context.cluster.url));
        cluster.insert("certificateAuthority".to_owned(), json!({ "data": authority }));
    }
    eks_tags::lay_over(context, &mut body);
    answer.with_body(body.to_string())
}

/// An object with the fields of another on top; anything else is replaced.
fn merged(current: &Value, change: &Value) -> Value {
    match (current, change) {
        (Value::Object(current), Value::Object(change)) => {
            let mut merged = current.clone();
            merged.extend(change.clone());
            Value::Object(merged)
        }
        _ => change.clone(),
    }
}

fn keep(context: &Context, region: &str, name: &str, field: &str, value: Value) {
    let key = key(region, name);
    let mut kept = context.memory.get(&key).unwrap_or_else(|| json!({}));
    kept[field] = value;
    context.memory.put(key, kept);
}

fn key(region: &str, name: &str) -> String {
    // The slash at the end keeps `demo` apart from `demo-2` when keys are forgotten by their beginning.
    format!("cluster/{region}/{name}/")
}
