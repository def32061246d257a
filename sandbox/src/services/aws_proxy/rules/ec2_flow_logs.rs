use serde_json::{Value, json};

use super::{Outcome, Rule};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;
use crate::services::http::UpstreamError;
use crate::services::xml;

pub(super) const RULE: Rule = Rule {
    name: "ec2_flow_logs",
    service: "ec2",
    operations: &["CreateFlowLogs", "DescribeFlowLogs", "DeleteFlowLogs"],
    reason: "the emulator takes tags for flow-log only, which AWS calls vpc-flow-log, and does not return role, interval, \
             format and log group, so that every plan wants a new flow log",
    apply,
};

/// The default of `LogFormat` ("Flow log records", Amazon VPC User Guide).
const DEFAULT_FORMAT: &str = "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} \
                              ${protocol} ${packets} ${bytes} ${start} ${end} ${action} ${log-status}";

/// The default of `MaxAggregationInterval`, in seconds.
const DEFAULT_INTERVAL: &str = "600";

/// What begins an item of DescribeFlowLogs.
const ID: (&str, &str) = ("<flowLogId>", "</flowLogId>");

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        match request.call.operation.as_str() {
            "CreateFlowLogs" => create(context, request).await,
            "DeleteFlowLogs" => delete(context, request).await,
            _ => describe(context, request).await,
        }
    })
}

async fn create(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (region, mut form) = (request.call.region.clone(), request.form());
    for (name, value) in &mut form {
        if name.starts_with("TagSpecification.") && name.ends_with(".ResourceType") && value == "vpc-flow-log" {
            *value = "flow-log".to_owned();
        }
    }
    let kept = [
        "DeliverLogsPermissionArn",
        "LogDestination",
        "LogGroupName",
        "LogFormat",
        "MaxAggregationInterval",
    ];
    let kept: serde_json::Map<String, Value> = form
        .iter()
        .filter(|(name, _)| kept.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let answer = context.ask(request.with_form(&form)).await?;
    if answer.status.is_success() {
        let text = String::from_utf8_lossy(&answer.body);
        let ids = text
            .split("<item>")
            .skip(1)
            .filter_map(|item| item.split_once("</item>"))
            .map(|(id, _)| id.trim());
        for id in ids.filter(|id| id.starts_with("fl-")) {
            context.memory.put(key(&region, id), Value::Object(kept.clone()));
        }
    }
    Ok(answer)
}

async fn delete(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (region, form) = (request.call.region.clone(), request.form());
    let answer = context.ask(request).await?;
    if answer.status.is_success() {
        for (_, id) in form.iter().filter(|(name, _)| name.starts_with("FlowLogId.")) {
            context.memory.forget(&key(&region, id));
        }
    }
    Ok(answer)
}

async fn describe(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let region = request.call.region.clone();
    let answer = context.ask(request).await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let mut items = text.split(ID.0);
    let mut completed = items.next().unwrap_or_default().to_owned();
    for item in items {
        let (id, rest) = item.split_once(ID.1).unwrap_or((item, ""));
        let kept = context.memory.get(&key(&region, id.trim()));
        let more = kept.map(|kept| elements(&kept)).unwrap_or_default();
        completed.push_str(&format!("{}{id}{}{more}{rest}", ID.0, ID.1));
    }
    Ok(answer.with_body(completed))
}

/// The elements of a flow log that the emulator leaves out.
fn elements(kept: &Value) -> String {
    let value = |name: &str| kept[name].as_str().filter(|value| !value.is_empty());
    let element = |name: &str, text: &str| format!("<{name}>{}</{name}>", xml::escape(text));
    let mut more = element("logFormat", value("LogFormat").unwrap_or(DEFAULT_FORMAT));
    more.push_str(&element(
        "maxAggregationInterval",
        value("MaxAggregationInterval").unwrap_or(DEFAULT_INTERVAL),
    ));
    if let Some(role) = value("DeliverLogsPermissionArn") {
        more.push_str(&element("deliverLogsPermissionArn", role));
        more.push_str(&element("deliverLogsStatus", "SUCCESS"));
    }
    let of_destination = value("LogDestination")
        .and_then(|arn| arn.split_once(":log-group:"))
        .map(|(_, group)| group);
    if let Some(group) = value("LogGroupName").or(of_destination) {
        more.push_str(&element("logGroupName", group.strip_suffix(":*").unwrap_or(group)));
    }
    more
}

fn key(region: &str, id: &str) -> String {
    format!("flow-log/{region}/{id}/")
}
