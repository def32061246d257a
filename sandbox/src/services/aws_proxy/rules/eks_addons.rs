use axum::http::Method;
use serde_json::{Value, json};

use super::{Outcome, Rule, eks_tags, eks_updates};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;
use crate::services::http::UpstreamError;

pub(super) const RULE: Rule = Rule {
    name: "eks_addons",
    service: "eks",
    operations: &["CreateAddon", "DescribeAddon", "UpdateAddon", "DeleteAddon"],
    reason: "the emulator makes no Pod Identity associations for an add-on, and gives back what it was asked for instead of \
             their ARNs, which clients cannot read",
    apply,
};

/// Where the add-ons that take a role run. Source: "AWS add-ons", Amazon EKS User Guide.
const NAMESPACE: &str = "kube-system";
/// The associations, in requests and answers.
const FIELD: &str = "podIdentityAssociations";

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        match request.call.operation.as_str() {
            "CreateAddon" => {
                let name = request.json()["addonName"].as_str().unwrap_or_default().to_owned();
                let (request, wanted) = without_associations(request);
                let answer = context.ask(request.clone()).await?;
                if let Some(body) = answer.success() {
                    eks_tags::forget(context, &body);
                    associate(context, &request, &name, wanted.unwrap_or_default()).await?;
                }
                Ok(completed(context, &request, &name, answer))
            }
            "UpdateAddon" => {
                let name = request.segment(3);
                let (request, wanted) = without_associations(request);
                if let Some(wanted) = wanted {
                    dissociate(context, &request, &name).await?;
                    associate(context, &request, &name, wanted).await?;
                }
                eks_updates::remember(context, request).await
            }
            "DeleteAddon" => {
                let name = request.segment(3);
                let answer = context.ask(request.clone()).await?;
                let answer = completed(context, &request, &name, answer);
                if answer.success().is_some() && request.parameter("preserve").as_deref() != Some("true") {
                    dissociate(context, &request, &name).await?;
                }
                Ok(answer)
            }
            _ => {
                let name = request.segment(3);
                let answer = context.ask(request.clone()).await?;
                Ok(completed(context, &request, &name, answer))
            }
        }
    })
}

/// Forgets the associations of a cluster's add-ons.
pub(super) fn forget_all(context: &Context, region: &str, cluster: &str) {
    context.memory.forget(&key(region, cluster, ""));
}

/// The request without the associations that it asks for, if it names any.
fn without_associations(request: Request) -> (Request, Option<Vec<Value>>) {
    let mut body = request.json();
    let Some(wanted) = body.as_object_mut().and_then(|body| body.remove(FIELD)) else {
        return (request, None);
    };
    let wanted = wanted.as_array().cloned().unwrap_or_default();
    (request.with_body(body.to_string()), Some(wanted))
}

/// Makes the associations of an add-on.
async fn associate(context: &Context, request: &Request, addon: &str, wanted: Vec<Value>) -> Result<(), UpstreamError> {
    let cluster = request.segment(1);
    let mut made = Vec::new();
    for association in wanted {
        let body = json!({
            "namespace": NAMESPACE,
            "serviceAccount": association["serviceAccount"],
            "roleArn": association["roleArn"],
        });
        let path = ["clusters", &cluster, "pod-identity-associations"];
        let answer = context.ask(request.to(Method::POST, &path, body.to_string())).await?;
        if let Some(body) = answer.success() {
            made.push(body["association"]["associationArn"].clone());
        }
    }
    if !made.is_empty() {
        context
            .memory
            .put(key(&request.call.region, &cluster, addon), Value::Array(made));
    }
    Ok(())
}

/// Removes the associations of an add-on.
async fn dissociate(context: &Context, request: &Request, addon: &str) -> Result<(), UpstreamError> {
    let cluster = request.segment(1);
    let key = key(&request.call.region, &cluster, addon);
    for arn in context.memory.get(&key).iter().filter_map(Value::as_array).flatten() {
        let id = arn.as_str().and_then(|arn| arn.rsplit('/').next()).unwrap_or_default();
        let path = ["clusters", &cluster, "pod-identity-associations", id];
        context.ask(request.to(Method::DELETE, &path, "")).await?;
    }
    context.memory.forget(&key);
    Ok(())
}

/// The answer with the ARNs of the add-on's associations, and its tags as they are now.
fn completed(context: &Context, request: &Request, addon: &str, answer: Answer) -> Answer {
    let Some(mut body) = answer.success() else {
        return answer;
    };
    let key = key(&request.call.region, &request.segment(1), addon);
    body["addon"][FIELD] = context.memory.get(&key).unwrap_or_else(|| json!([]));
    eks_tags::lay_over(context, &mut body);
    answer.with_body(body.to_string())
}

fn key(region: &str, cluster: &str, addon: &str) -> String {
    format!("addon/{region}/{cluster}/{addon}")
}
