use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::json;

use super::{Outcome, Rule, creation_tags};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;
use crate::services::http::UpstreamError;
use crate::services::xml;

pub(super) const RULE: Rule = Rule {
    name: "ec2_network_interfaces",
    service: "ec2",
    operations: &[
        "CreateNetworkInterface",
        "DescribeNetworkInterfaces",
        "DeleteNetworkInterface",
        "DeleteSecurityGroup",
        "DeleteSubnet",
    ],
    reason: "the emulator takes no tags for a network interface, ignores the filters of DescribeNetworkInterfaces, and lets a \
             security group or subnet go while an interface is in it or a rule of another group names it",
    apply,
};

/// How long the interfaces of a load balancer outlive it, in seconds; on AWS it is up to some minutes.
const LINGERING: i64 = 3;
/// What the keys of this rule's memory begin with: interfaces that belong to a load balancer.
const PREFIX: &str = "elb-interface/";

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        expire(context, &request).await?;
        match request.call.operation.as_str() {
            "CreateNetworkInterface" => {
                let answer = context.ask(request.clone()).await?;
                creation_tags::lay_on(context, &request, answer, "network-interface", "networkInterfaceId").await
            }
            "DescribeNetworkInterfaces" => describe(context, request).await,
            "DeleteNetworkInterface" => delete(context, request).await,
            "DeleteSubnet" => delete_unless_used(context, request, "SubnetId", "subnetId").await,
            _ => delete_unless_used(context, request, "GroupId", "groupId").await,
        }
    })
}

/// Makes the interfaces of a load balancer, one in each subnet; says whether it could.
pub(super) async fn make_for(
    context: &Context,
    request: &Request,
    balancer: &str,
    description: &str,
    subnets: &[String],
    groups: &[String],
) -> Result<(), UpstreamError> {
    for subnet in subnets {
        let mut parameters = vec![
            ("SubnetId".to_owned(), subnet.clone()),
            ("Description".to_owned(), description.to_owned()),
        ];
        for (i, group) in groups.iter().enumerate() {
            parameters.push((format!("SecurityGroupId.{}", i + 1), group.clone()));
        }
        let made = context.ask(request.ec2("CreateNetworkInterface", &parameters)).await?;
        if let Some(id) = xml::text(&String::from_utf8_lossy(&made.body), "networkInterfaceId") {
            let entry = json!({ "balancer": balancer, "until": null });
            context
                .memory
                .put(format!("{PREFIX}{}/{id}", request.call.region), entry);
        }
    }
    Ok(())
}

/// The load balancer is gone; its interfaces follow.
pub(super) fn release(context: &Context, region: &str, balancer: &str) {
    let until = Timestamp::now().as_second() + LINGERING;
    for id in context.memory.suffixes(&format!("{PREFIX}{region}/")) {
        let key = format!("{PREFIX}{region}/{id}");
        if let Some(entry) = context.memory.get(&key)
            && entry["balancer"] == balancer
            && entry["until"].is_null()
        {
            context.memory.put(key, json!({ "balancer": balancer, "until": until }));
        }
    }
}

/// Removes the interfaces whose time is over.
async fn expire(context: &Context, request: &Request) -> Result<(), UpstreamError> {
    let now = Timestamp::now().as_second();
    let prefix = format!("{PREFIX}{}/", request.call.region);
    for id in context.memory.suffixes(&prefix) {
        let key = format!("{prefix}{id}");
        let until = context.memory.get(&key).and_then(|entry| entry["until"].as_i64());
        if until.is_some_and(|until| until <= now) {
            let parameters = [("NetworkInterfaceId".to_owned(), id)];
            context.ask(request.ec2("DeleteNetworkInterface", &parameters)).await?;
            context.memory.forget(&key);
        }
    }
    Ok(())
}

fn is_balancer_s(context: &Context, request: &Request, id: &str) -> bool {
    let key = format!("{PREFIX}{}/{id}", request.call.region);
    context.memory.get(&key).is_some()
}

async fn describe(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let filters = filters(&request.form());
    let answer = context.ask(request.clone()).await?;
    if !answer.status.is_success() {
        return Ok(answer);
    }
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let mut found = String::new();
    for item in xml::items(&text, "networkInterfaceSet") {
        let id = xml::text(item, "networkInterfaceId").unwrap_or_default();
        let item = if is_balancer_s(context, &request, &id) {
            let attachment =
                "<attachment><instanceOwnerId>amazon-elb</instanceOwnerId><status>attached</status></attachment>";
            format!(
                "{}<requesterManaged>true</requesterManaged>{attachment}",
                item.replace("<status>available</status>", "<status>in-use</status>")
            )
        } else {
            format!("{item}<requesterManaged>false</requesterManaged>")
        };
        if filters.iter().all(|(name, values)| matches(&item, name, values)) {
            found.push_str(&format!("<item>{item}</item>"));
        }
    }
    let set = format!("<networkInterfaceSet>{found}</networkInterfaceSet>");
    let body = format!("<DescribeNetworkInterfacesResponse>{set}</DescribeNetworkInterfacesResponse>");
    Ok(answer.with_body(body))
}

async fn delete(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let form = request.form();
    let id = form.iter().find(|(name, _)| name == "NetworkInterfaceId");
    if let Some((_, id)) = id
        && is_balancer_s(context, &request, id)
    {
        let text = "You are not allowed to manage 'ela-attach' attachments.";
        return Ok(Answer::error(
            &request.call,
            StatusCode::BAD_REQUEST,
            "OperationNotPermitted",
            text,
        ));
    }
    context.ask(request).await
}

/// Deletes a subnet or a group, unless something is in it ("DeleteSubnet" and "DeleteSecurityGroup", Amazon EC2 API
/// Reference).
async fn delete_unless_used(
    context: &Context,
    request: Request,
    parameter: &str,
    element: &str,
) -> Result<Answer, UpstreamError> {
    let form = request.form();
    let Some((_, id)) = form.iter().find(|(name, _)| name == parameter) else {
        return context.ask(request).await;
    };
    let wanted = format!("<{element}>{id}</{element}>");
    let interfaces = context.ask(request.ec2("DescribeNetworkInterfaces", &[])).await?;
    let interfaces = String::from_utf8_lossy(&interfaces.body).into_owned();
    let mut used = xml::items(&interfaces, "networkInterfaceSet")
        .iter()
        .any(|item| item.contains(&wanted));
    if element == "groupId" {
        let groups = context.ask(request.ec2("DescribeSecurityGroups", &[])).await?;
        let groups = String::from_utf8_lossy(&groups.body).into_owned();
        used |= xml::items(&groups, "securityGroupInfo")
            .iter()
            .filter(|item| xml::text(item, "groupId").as_deref() != Some(id))
            .any(|item| item.contains(&wanted));
    }
    if used {
        let text = format!("resource {id} has a dependent object");
        return Ok(Answer::error(
            &request.call,
            StatusCode::BAD_REQUEST,
            "DependencyViolation",
            &text,
        ));
    }
    context.ask(request).await
}

/// Names of filters with their values.
fn filters(form: &[(String, String)]) -> Vec<(String, Vec<String>)> {
    let names = form.iter().filter_map(|(key, name)| {
        let number = key.strip_prefix("Filter.")?.strip_suffix(".Name")?;
        let prefix = format!("Filter.{number}.Value.");
        let values = form.iter().filter(|(key, _)| key.starts_with(&prefix));
        Some((name.clone(), values.map(|(_, value)| value.clone()).collect()))
    });
    names.collect()
}

/// Whether an interface passes a filter ("DescribeNetworkInterfaces", Amazon EC2 API Reference).
fn matches(item: &str, name: &str, values: &[String]) -> bool {
    let tags = || {
        xml::items(item, "tagSet").into_iter().map(|tag| {
            let text = |name| xml::text(tag, name).unwrap_or_default();
            (text("key"), text("value"))
        })
    };
    let any = |text: &str| values.iter().any(|pattern| like(pattern, text));
    let element = |name| any(&xml::text(item, name).unwrap_or_default());
    match name {
        "vpc-id" => element("vpcId"),
        "subnet-id" => element("subnetId"),
        "network-interface-id" => element("networkInterfaceId"),
        "description" => element("description"),
        "requester-managed" => element("requesterManaged"),
        "attachment.instance-owner-id" => element("instanceOwnerId"),
        "attachment.instance-id" => element("instanceId"),
        "attachment.attachment-id" => element("attachmentId"),
        // That of the attachment stands behind it.
        "status" => element("status"),
        "group-id" => xml::items(item, "groupSet")
            .iter()
            .any(|group| any(&xml::text(group, "groupId").unwrap_or_default())),
        "tag-key" => tags().any(|(key, _)| any(&key)),
        _ => match name.strip_prefix("tag:") {
            Some(wanted) => tags().any(|(key, value)| key == wanted && any(&value)),
            None => true,
        },
    }
}

/// Whether a text is as a filter's value says, in which `*` stands for any characters.
fn like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::{filters, like, matches};

    #[test]
    fn an_interface_passes_the_filters_that_aws_has() {
        let item = "<networkInterfaceId>eni-1</networkInterfaceId><vpcId>vpc-1</vpcId><description>ELB app/a/1</description>\
                    <status>in-use</status><groupSet><item><groupId>sg-1</groupId></item><item><groupId>sg-2</groupId></item></groupSet>\
                    <tagSet><item><key>a</key><value>1</value></item></tagSet>";
        let passes = |name: &str, value: &str| matches(item, name, &["x".to_owned(), value.to_owned()]);
        for (name, value) in [
            ("vpc-id", "vpc-1"),
            ("group-id", "sg-2"),
            ("description", "ELB *"),
            ("tag:a", "1"),
            ("tag-key", "a"),
            ("status", "in-use"),
        ] {
            assert!(passes(name, value), "{name}");
            assert!(!passes(name, "other"), "{name}");
        }
        assert!(passes("interface-type", "x"), "what is not known passes");
    }

    #[test]
    fn a_star_stands_for_anything() {
        assert!(like("a*c", "abc") && like("*", "") && like("a", "a") && like("*b*", "abc") && like("a**", "a"));
        assert!(!like("a", "ab") && !like("a*b", "ac") && !like("*d", "abc") && !like("b*", "ab"));
    }

    #[test]
    fn filters_are_read_with_all_their_values() {
        let form = [
            ("Filter.1.Name", "a"),
            ("Filter.1.Value.1", "x"),
            ("Filter.1.Value.2", "y"),
            ("Filter.2.Name", "b"),
        ];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let expected = [
            ("a".to_owned(), vec!["x".to_owned(), "y".to_owned()]),
            ("b".to_owned(), Vec::new()),
        ];
        assert_eq!(filters(&form), expected);
    }
}
