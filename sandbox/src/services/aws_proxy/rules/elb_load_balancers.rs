use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Outcome, Rule, ec2_network_interfaces};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;
use crate::services::http::UpstreamError;
use crate::services::xml;

pub(super) const RULE: Rule = Rule {
    name: "elb_load_balancers",
    service: "elasticloadbalancing",
    operations: &[
        "CreateLoadBalancer",
        "DescribeLoadBalancers",
        "DeleteLoadBalancer",
        "DescribeTags",
    ],
    reason: "the emulator has no classic load balancers, does not take a load balancer's VPC from its subnets, and makes no \
             network interfaces for it, by which it keeps its network from being removed",
    apply,
};

/// The API version of classic load balancers.
const CLASSIC: &str = "2012-06-01";

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        let form = request.form();
        let classic = form.iter().any(|(name, value)| name == "Version" && value == CLASSIC);
        match (request.call.operation.as_str(), classic) {
            ("CreateLoadBalancer", false) => create(context, request).await,
            ("DeleteLoadBalancer", false) => delete(context, request).await,
            ("CreateLoadBalancer", true) => create_classic(context, request).await,
            ("DescribeLoadBalancers", true) => Ok(describe_classic(context, &request)),
            ("DeleteLoadBalancer", true) => Ok(delete_classic(context, &request)),
            ("DescribeTags", true) => Ok(describe_classic_tags(context, &request)),
            _ => context.ask(request).await,
        }
    })
}

/// The members of a list.
fn members(form: &[(String, String)], list: &str) -> Vec<String> {
    let prefix = format!("{list}.member.");
    let members = form.iter().filter(|(name, _)| name.starts_with(&prefix));
    members.map(|(_, value)| value.clone()).collect()
}

fn value(form: &[(String, String)], name: &str) -> String {
    let found = form.iter().find(|(other, _)| other == name);
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

/// The VPC of the first of these subnets.
async fn vpc(context: &Context, request: &Request, subnets: &[String]) -> Result<String, UpstreamError> {
    let Some(subnet) = subnets.first() else {
        return Ok(String::new());
    };
    let parameters = [("SubnetId.1".to_owned(), subnet.clone())];
    let described = context.ask(request.ec2("DescribeSubnets", &parameters)).await?;
    Ok(xml::text(&String::from_utf8_lossy(&described.body), "vpcId").unwrap_or_default())
}

async fn create(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let mut form = request.form();
    let subnets = members(&form, "Subnets");
    form.push(("VpcId".to_owned(), vpc(context, &request, &subnets).await?));
    let answer = context.ask(request.clone().with_form(&form)).await?;
    let arn = xml::text(&String::from_utf8_lossy(&answer.body), "LoadBalancerArn");
    if let (Some(arn), true) = (arn, answer.status.is_success()) {
        // `arn:…:loadbalancer/app/<name>/<id>`
        let path = arn.split_once(":loadbalancer/").map_or("", |(_, path)| path);
        let (description, groups) = (format!("ELB {path}"), members(&form, "SecurityGroups"));
        ec2_network_interfaces::make_for(context, &request, &arn, &description, &subnets, &groups).await?;
    }
    Ok(answer)
}

async fn delete(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let (region, arn) = (request.call.region.clone(), value(&request.form(), "LoadBalancerArn"));
    let answer = context.ask(request).await?;
    if answer.status.is_success() {
        ec2_network_interfaces::release(context, &region, &arn);
    }
    Ok(answer)
}

fn key(request: &Request, name: &str) -> String {
    format!("elb-classic/{}/{name}/", request.call.region)
}

/// The classic load balancers, by name.
fn classic(context: &Context, request: &Request) -> Vec<(String, Value)> {
    let prefix = format!("elb-classic/{}/", request.call.region);
    let names = context.memory.suffixes(&prefix).into_iter();
    names
        .filter_map(|name| {
            let name = name.trim_end_matches('/').to_owned();
            let kept = context.memory.get(&key(request, &name))?;
            Some((name, kept))
        })
        .collect()
}

async fn create_classic(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let form = request.form();
    let (name, subnets) = (value(&form, "LoadBalancerName"), members(&form, "Subnets"));
    let tags: Vec<Value> = form
        .iter()
        .filter_map(|(key, tag)| {
            let number = key.strip_prefix("Tags.member.")?.strip_suffix(".Key")?;
            Some(json!([tag, value(&form, &format!("Tags.member.{number}.Value"))]))
        })
        .collect();
    let vpc = vpc(context, &request, &subnets).await?;
    let groups = members(&form, "SecurityGroups");
    ec2_network_interfaces::make_for(context, &request, &name, &format!("ELB {name}"), &subnets, &groups).await?;
    context
        .memory
        .put(key(&request, &name), json!({ "vpc": vpc, "tags": tags }));
    let name = xml::escape(&name);
    Ok(result(
        "CreateLoadBalancer",
        &format!("<DNSName>{name}.elb.amazonaws.com</DNSName>"),
    ))
}

fn describe_classic(context: &Context, request: &Request) -> Answer {
    let wanted = members(&request.form(), "LoadBalancerNames");
    let found: Vec<(String, Value)> = classic(context, request)
        .into_iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.contains(name))
        .collect();
    if found.len() < wanted.len() {
        return missing(request);
    }
    let described: String = found
        .iter()
        .map(|(name, kept)| {
            format!(
                "<member><LoadBalancerName>{0}</LoadBalancerName><DNSName>{0}.elb.amazonaws.com</DNSName><VPCId>{1}</VPCId></member>",
                xml::escape(name),
                kept["vpc"].as_str().unwrap_or_default()
            )
        })
        .collect();
    let list = format!("<LoadBalancerDescriptions>{described}</LoadBalancerDescriptions>");
    result("DescribeLoadBalancers", &list)
}

/// Deleting what is not there succeeds ("DeleteLoadBalancer", Elastic Load Balancing API Reference, version 2012-06-01).
fn delete_classic(context: &Context, request: &Request) -> Answer {
    let name = value(&request.form(), "LoadBalancerName");
    context.memory.forget(&key(request, &name));
    ec2_network_interfaces::release(context, &request.call.region, &name);
    result("DeleteLoadBalancer", "")
}

fn describe_classic_tags(context: &Context, request: &Request) -> Answer {
    let mut described = String::new();
    for name in members(&request.form(), "LoadBalancerNames") {
        let Some(kept) = context.memory.get(&key(request, &name)) else {
            return missing(request);
        };
        let tags: String = kept["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|tag| {
                let text = |i: usize| xml::escape(tag[i].as_str().unwrap_or_default());
                format!("<member><Key>{}</Key><Value>{}</Value></member>", text(0), text(1))
            })
            .collect();
        described.push_str(&format!(
            "<member><LoadBalancerName>{}</LoadBalancerName><Tags>{tags}</Tags></member>",
            xml::escape(&name)
        ));
    }
    result(
        "DescribeTags",
        &format!("<TagDescriptions>{described}</TagDescriptions>"),
    )
}

fn missing(request: &Request) -> Answer {
    let text = "There is no ACTIVE Load Balancer of this name";
    Answer::error(&request.call, StatusCode::BAD_REQUEST, "LoadBalancerNotFound", text)
}

fn result(operation: &str, inside: &str) -> Answer {
    Answer::xml(format!(
        "<{operation}Response><{operation}Result>{inside}</{operation}Result></{operation}Response>"
    ))
}
