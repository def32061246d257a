//! The values that travel beside the templates: Terraform's variables and Helm's values, both serialised.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::RenderError;
use super::tree::MARK;
use crate::config::{AutoscalingProvider, Environment, Images, NatGateways};
use crate::model::CapacityType;

/// `terraform.tfvars.json` of the environment's root module.
///
/// # Errors
/// The values cannot be serialised.
pub fn terraform_variables(environment: &Environment) -> Result<String, RenderError> {
    serialise(variables(environment), environment)
}

/// The same, with the variables that a root module declares alone: Terraform warns of any other.
pub(super) fn declared_variables(environment: &Environment, declared: &[String]) -> Result<String, RenderError> {
    let mut all = variables(environment);
    if let Some(all) = all.as_object_mut() {
        all.retain(|name, _| declared.contains(name));
    }
    serialise(all, environment)
}

/// The variables of a root module, with the values of the environment.
pub(super) fn variables(environment: &Environment) -> Value {
    let e = environment;
    json!({
        "name": e.name,
        "region": e.region,
        "vpc_cidr": e.vpc_cidr,
        "cluster_version": e.cluster_version,
        "instance_types": e.instance_types,
        "capacity_type": e.capacity_type,
        "administrators": e.access.administrators,
        "nat_gateways": match e.network.nat_gateways { NatGateways::Single => "single", NatGateways::PerAz => "per_az" },
        "availability_zones": e.network.availability_zones,
        "flow_logs": e.network.flow_logs,
        "support_type": e.cluster.support_type,
        "endpoint_private_access_cidrs": e.cluster.private_access_cidrs,
        "endpoint_public_access": !e.cluster.public_access_cidrs.is_empty(),
        "endpoint_public_access_cidrs": e.cluster.public_access_cidrs,
        "log_retention_days": e.cluster.log_retention_days,
        "node_min_size": e.node_group.min_size,
        "node_max_size": e.node_group.max_size,
        "node_desired_size": e.node_group.desired_size,
        "tags": e.tags,
    })
}

/// What made a file of values, and what to edit instead.
fn comment(environment: &Environment) -> String {
    let stem = environment.name.as_str();
    format!("{MARK}. Edit environments/{stem}.yaml and run `mfsre render {stem}` instead.")
}

/// As JSON. Terraform takes the key `//` for a comment
/// (<https://developer.hashicorp.com/terraform/language/syntax/json#comment-properties>).
fn serialise(variables: Value, environment: &Environment) -> Result<String, RenderError> {
    let mut all = serde_json::Map::from_iter([("//".to_owned(), Value::String(comment(environment)))]);
    if let Value::Object(variables) = variables {
        all.extend(variables);
    }
    let mut text = serde_json::to_string_pretty(&all).map_err(|error| RenderError::Values {
        file: "terraform.tfvars.json",
        message: error.to_string(),
    })?;
    text.push('\n');
    Ok(text)
}

/// `cd/environments/NAME/values.yaml`, the only file that differs between environments.
///
/// # Errors
/// The values cannot be serialised.
pub fn helm_values(environment: &Environment) -> Result<String, RenderError> {
    let options = serde_saphyr::ser_options! { quote_all: true };
    let body =
        serde_saphyr::to_string_with_options(&values(environment), options).map_err(|error| RenderError::Values {
            file: "values.yaml",
            message: error.to_string(),
        })?;
    Ok(format!("# {}\n{body}", comment(environment)))
}

fn values(environment: &Environment) -> Value {
    let e = environment;
    json!({
        "environment": e.name,
        "name": e.name,
        "region": e.region,
        "repository": { "url": e.argocd_repository_url, "revision": e.git.revision },
        "images": { "registry": e.images.registry, "pullSecret": e.images.pull_secret.as_ref().map_or("", |_| Images::PULL_SECRET) },
        "addons": addons(e),
        "karpenter": {
            "clusterName": e.names.cluster,
            "queue": e.names.karpenter_queue,
            "nodeRole": e.names.karpenter_node_role,
            "capacityTypes": [match e.capacity_type { CapacityType::Spot => "spot", CapacityType::OnDemand => "on-demand" }],
            "nodes": if e.tags.is_empty() { json!({}) } else { json!({ "tags": e.tags }) },
        },
        "autoscaling": { "provider": e.autoscaling.provider },
        "observability": observability(e),
        "mainService": main_service(e),
        "exporter": exporter(e),
        "prometheus": {},
        "prometheusAdapter": {},
    })
}

/// What the environment sets of the main service's chart.
fn main_service(environment: &Environment) -> Value {
    let mut values = version(environment, "main-service");
    if environment.main_service.canary {
        values["canary"] = json!({ "enabled": true });
    }
    values
}

/// What the environment sets of the exporter's chart.
fn exporter(environment: &Environment) -> Value {
    let mut values = version(environment, "exporter");
    if let Some(labels) = &environment.observability.service_monitor
        && !labels.is_empty()
    {
        values["serviceMonitor"] = json!({ "labels": labels });
    }
    values
}

/// The environment's own version of an image, if it has one. It replaces both of the chart's pins: a digest there would go
/// over the tag here.
fn version(environment: &Environment, image: &str) -> Value {
    match environment.images.versions.get(image) {
        None => json!({}),
        Some(version) => {
            let mut pins = serde_json::Map::new();
            if let Some(tag) = version.tag() {
                pins.insert("tag".into(), tag.into());
            }
            pins.insert("digest".into(), version.digest().unwrap_or_default().into());
            json!({ "image": pins })
        }
    }
}

/// Which addons the environment gets. A sandbox reaches no chart on the internet.
fn addons(environment: &Environment) -> Value {
    let reaches_charts = !environment.is_sandbox();
    json!({
        "argoRollouts": { "enabled": reaches_charts },
        "karpenter": { "enabled": reaches_charts },
        "keda": { "enabled": reaches_charts && environment.autoscaling.provider == AutoscalingProvider::Keda },
    })
}

fn observability(environment: &Environment) -> Value {
    let existing = environment.observability.existing_prometheus.as_ref();
    json!({
        "prometheus": if existing.is_some() { "existing" } else { "managed" },
        "url": existing.map_or("", |url| url.as_str()),
        "serviceMonitor": environment.observability.service_monitor.is_some(),
    })
}

/// The addons that the environment does not get because their charts lie on the internet, which a sandbox does without.
#[must_use]
pub fn left_out(environment: &Environment) -> Vec<String> {
    if !environment.is_sandbox() {
        return Vec::new();
    }
    let keda = environment.autoscaling.provider == AutoscalingProvider::Keda;
    ["argo-rollouts", "karpenter"]
        .into_iter()
        .chain(keda.then_some("keda"))
        .map(str::to_owned)
        .collect()
}

/// What templates see besides the settings themselves; where the names clash, this wins.
pub(super) fn derived(environment: &Environment) -> Vec<(&'static str, Value)> {
    vec![
        ("environment", json!(environment.name)),
        (
            "repository",
            json!({ "url": environment.argocd_repository_url, "revision": environment.git.revision }),
        ),
        (
            "argocd",
            json!({
                "version": mfsre_sandbox::ARGO_CD_VERSION,
                "manifest": environment.argocd.manifest,
                "known_hosts": environment.argocd.known_hosts,
            }),
        ),
        ("addons", addons(environment)),
        ("opentofu", json!(environment.terraform.is_opentofu())),
        ("observability", observability(environment)),
    ]
}

/// Where a vendored Argo CD manifest goes.
pub(super) fn vendored_manifest_path(environment: &Environment) -> PathBuf {
    PathBuf::from("cd/environments")
        .join(environment.name.as_str())
        .join("argo-cd/install.yaml")
}
