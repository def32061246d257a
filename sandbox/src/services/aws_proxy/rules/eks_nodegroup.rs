use serde_json::{Map, Value, json};

use super::catalog::cluster_version;
use super::eks_tags;
use super::eks_updates::{self, UpdateKind};
use super::{Outcome, Rule};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;
use crate::services::http::UpstreamError;
use crate::services::xml;

pub(super) const RULE: Rule = Rule {
    name: "eks_nodegroup",
    service: "eks",
    operations: &[
        "CreateNodegroup",
        "DescribeNodegroup",
        "DeleteNodegroup",
        "UpdateNodegroupConfig",
        "UpdateNodegroupVersion",
    ],
    reason: "the emulator forgets update configuration, launch template, node repair and remote access, so that every plan \
             shows drift, and has no route to change a node group",
    apply,
};

/// Fields of CreateNodegroup that the emulator drops and DescribeNodegroup returns.
const DROPPED: [&str; 4] = ["updateConfig", "nodeRepairConfig", "remoteAccess", "warmPoolConfig"];

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        match request.call.operation.as_str() {
            "CreateNodegroup" => create(context, request).await,
            "DeleteNodegroup" => delete(context, request).await,
            "UpdateNodegroupConfig" => update_config(context, request).await,
            "UpdateNodegroupVersion" => update_version(context, request).await,
            _ => Ok(complete(
                context,
                &request.call.region.clone(),
                context.ask(request).await?,
            )),
        }
    })
}

/// Forgets the node groups of a cluster.
pub(super) fn forget_all(context: &Context, region: &str, cluster: &str) {
    context.memory.forget(&key(region, cluster, ""));
}

async fn create(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (region, cluster, asked) = (request.call.region.clone(), request.segment(1), request.json());
    let answer = context.ask(request.clone()).await?;
    let Some(body) = answer.success() else {
        return Ok(answer);
    };
    eks_tags::forget(context, &body);
    let mut kept: Map<String, Value> = DROPPED
        .iter()
        .filter(|field| !asked[**field].is_null())
        .map(|field| ((*field).to_owned(), asked[*field].clone()))
        .collect();
    kept.entry("updateConfig")
        .or_insert_with(|| json!({ "maxUnavailable": 1 }));
    if asked["launchTemplate"].is_object() {
        kept.insert(
            "launchTemplate".to_owned(),
            with_name_and_id(context, &request, &asked["launchTemplate"]).await,
        );
    }
    if asked["releaseVersion"].as_str().is_none_or(str::is_empty)
        && let Some(release) = release(&body["nodegroup"]["version"])
    {
        kept.insert("releaseVersion".to_owned(), json!(release));
    }
    let name = asked["nodegroupName"].as_str().unwrap_or_default();
    context.memory.put(key(&region, &cluster, name), Value::Object(kept));
    Ok(complete(context, &region, answer))
}

async fn delete(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (region, cluster, name) = (request.call.region.clone(), request.segment(1), request.segment(3));
    let answer = complete(context, &region, context.ask(request).await?);
    if answer.status.is_success() {
        context.memory.forget(&key(&region, &cluster, &name));
    }
    Ok(answer)
}

async fn update_config(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let asked = request.json();
    let change = |group: &Value| {
        let mut changed = Map::new();
        for field in ["scalingConfig", "updateConfig", "nodeRepairConfig", "warmPoolConfig"] {
            if let Value::Object(change) = &asked[field] {
                let mut value = group[field].as_object().cloned().unwrap_or_default();
                // The two ways to give the number of nodes exclude each other.
                if field == "updateConfig" {
                    value.retain(|name, _| !name.starts_with("maxUnavailable"));
                }
                value.extend(change.clone());
                changed.insert(field.to_owned(), Value::Object(value));
            }
        }
        if let Value::Object(change) = &asked["labels"] {
            changed.insert("labels".to_owned(), changed_labels(&group["labels"], change));
        }
        if let Value::Object(change) = &asked["taints"] {
            changed.insert("taints".to_owned(), changed_taints(&group["taints"], change));
        }
        changed
    };
    update(context, &request, "ConfigUpdate", change).await
}

async fn update_version(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let asked = request.json();
    let template = match &asked["launchTemplate"] {
        Value::Object(_) => Some(with_name_and_id(context, &request, &asked["launchTemplate"]).await),
        _ => None,
    };
    let change = |group: &Value| {
        let mut changed = Map::new();
        let version = if asked["version"].is_string() {
            &asked["version"]
        } else {
            &group["version"]
        };
        changed.insert("version".to_owned(), version.clone());
        let release = asked["releaseVersion"]
            .as_str()
            .map(str::to_owned)
            .or_else(|| release(version));
        changed.extend(release.map(|release| ("releaseVersion".to_owned(), json!(release))));
        changed.extend(template.map(|template| ("launchTemplate".to_owned(), template)));
        changed
    };
    update(context, &request, "VersionUpdate", change).await
}

/// Changes fields of a node group that exists.
async fn update(
    context: &Context,
    request: &Request,
    kind: &'static str,
    change: impl FnOnce(&Value) -> Map<String, Value>,
) -> Result<Answer, UpstreamError> {
    let (region, cluster, name) = (request.call.region.clone(), request.segment(1), request.segment(3));
    let asked = request.get(&["clusters", &cluster, "node-groups", &name]);
    let answer = complete(context, &region, context.ask(asked).await?);
    let Some(body) = answer.success() else {
        return Ok(answer);
    };
    let key = key(&region, &cluster, &name);
    let mut kept = context
        .memory
        .get(&key)
        .and_then(|kept| kept.as_object().cloned())
        .unwrap_or_default();
    kept.extend(change(&body["nodegroup"]));
    context.memory.put(key, Value::Object(kept));
    Ok(eks_updates::begin(
        context,
        &region,
        &cluster,
        UpdateKind(kind),
        json!([]),
    ))
}

/// Lays over an answer with a node group in it what the emulator did not keep.
fn complete(context: &Context, region: &str, answer: Answer) -> Answer {
    let Some(mut body) = answer.success() else {
        return answer;
    };
    let Some(group) = body["nodegroup"].as_object_mut() else {
        return answer;
    };
    let text = |name: &str| group.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let key = key(region, &text("clusterName"), &text("nodegroupName"));
    if let Some(Value::Object(kept)) = context.memory.get(&key) {
        group.extend(kept);
    }
    if group.contains_key("launchTemplate") {
        // The size of the disk is the template's then.
        group.remove("diskSize");
    }
    if !group.contains_key("remoteAccess")
        && let Some(Value::Object(resources)) = group.get_mut("resources")
    {
        // EKS makes this group only for access by SSH; the emulator names one that is not there.
        resources.remove("remoteAccessSecurityGroup");
    }
    eks_tags::lay_over(context, &mut body);
    answer.with_body(body.to_string())
}

fn changed_labels(current: &Value, change: &Map<String, Value>) -> Value {
    let mut labels = current.as_object().cloned().unwrap_or_default();
    if let Some(Value::Object(added)) = change.get("addOrUpdateLabels") {
        labels.extend(added.clone());
    }
    for removed in change
        .get("removeLabels")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        labels.retain(|name, _| removed != name);
    }
    Value::Object(labels)
}

fn changed_taints(current: &Value, change: &Map<String, Value>) -> Value {
    let list = |name: &str| change.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let (added, removed) = (list("addOrUpdateTaints"), list("removeTaints"));
    // A taint is the same one if key and effect are.
    let same = |a: &Value, b: &Value| a["key"] == b["key"] && a["effect"] == b["effect"];
    let mut taints = current.as_array().cloned().unwrap_or_default();
    taints.retain(|taint| !added.iter().chain(&removed).any(|other| same(taint, other)));
    taints.extend(added);
    Value::Array(taints)
}

/// The newest release of the node images for a version.
fn release(version: &Value) -> Option<String> {
    version
        .as_str()
        .and_then(cluster_version)
        .map(super::catalog::ClusterVersion::image_release)
}

/// AWS returns name and id of a launch template, whichever was given.
async fn with_name_and_id(context: &Context, request: &Request, template: &Value) -> Value {
    let (known, value) = match (template["id"].as_str(), template["name"].as_str()) {
        (Some(id), None) => ("LaunchTemplateId.1", id),
        (None, Some(name)) => ("LaunchTemplateName.1", name),
        _ => return template.clone(),
    };
    let lookup = request.ec2("DescribeLaunchTemplates", &[(known.to_owned(), value.to_owned())]);
    let mut completed = template.clone();
    if let Ok(answer) = context.ask(lookup).await {
        let text = String::from_utf8_lossy(&answer.body);
        for (element, field) in [("launchTemplateId", "id"), ("launchTemplateName", "name")] {
            if let Some(value) = xml::text(&text, element) {
                completed[field] = json!(value);
            }
        }
    }
    completed
}

fn key(region: &str, cluster: &str, name: &str) -> String {
    // The slash at the end keeps one name apart from a longer one when keys are forgotten by their beginning.
    if name.is_empty() {
        format!("nodegroup/{region}/{cluster}/")
    } else {
        format!("nodegroup/{region}/{cluster}/{name}/")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{changed_labels, changed_taints};

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn labels_are_added_changed_and_removed() {
        let change = object(json!({ "addOrUpdateLabels": { "a": "2", "c": "3" }, "removeLabels": ["b"] }));
        assert_eq!(
            changed_labels(&json!({ "a": "1", "b": "1" }), &change),
            json!({ "a": "2", "c": "3" })
        );
        assert_eq!(changed_labels(&Value::Null, &object(json!({}))), json!({}));
    }

    #[test]
    fn taints_are_the_same_by_key_and_effect() {
        let taint = |key: &str, value: &str, effect: &str| json!({ "key": key, "value": value, "effect": effect });
        let current = json!([
            taint("a", "1", "NO_SCHEDULE"),
            taint("a", "1", "NO_EXECUTE"),
            taint("b", "1", "NO_SCHEDULE")
        ]);
        let change = object(json!({
            "addOrUpdateTaints": [taint("a", "2", "NO_SCHEDULE")], "removeTaints": [taint("b", "1", "NO_SCHEDULE")],
        }));
        let expected = json!([taint("a", "1", "NO_EXECUTE"), taint("a", "2", "NO_SCHEDULE")]);
        assert_eq!(changed_taints(&current, &change), expected);
    }
}
