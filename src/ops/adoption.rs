//! What stands on AWS in the way of an apply. A call that was cut off may have made a resource of which no state knows: it is
//! taken in. A resource that was not created well cannot be replaced by one of the same name while it stands: it is removed
//! first. Either only where it is provably this environment's.

use std::time::Duration;

use serde_json::Value;

use super::Context;
use crate::error::{Error, Result};
use crate::terraform::{DiagnosticEvent, Import, Plan, TerraformEvent};
use crate::workflow::Progress;

/// How often it is looked whether the cluster is made.
const POLL: Duration = Duration::from_secs(5);

/// Why Terraform replaces what was not created well (<https://developer.hashicorp.com/terraform/internals/json-format>).
const TAINTED: &str = "replace_because_tainted";

/// What `terraform import` takes for a resource that has its name from the settings, by its values. These are the kinds of which
/// AWS refuses a second one of the same name (the section "Import" of each resource's page,
/// <https://registry.terraform.io/providers/hashicorp/aws/latest/docs>).
fn import_id(kind: &str, values: &Value) -> Option<String> {
    let parts: &[&str] = match kind {
        "aws_iam_role" | "aws_cloudwatch_log_group" | "aws_eks_cluster" | "aws_kms_alias" => &["name"],
        "aws_eks_node_group" => &["cluster_name", "node_group_name"],
        "aws_eks_addon" => &["cluster_name", "addon_name"],
        "aws_eks_access_entry" => &["cluster_name", "principal_arn"],
        _ => return None,
    };
    let values: Option<Vec<&str>> = parts
        .iter()
        .map(|part| values[part].as_str().filter(|v| !v.is_empty()))
        .collect();
    Some(values?.join(":"))
}

/// Whether the values of a resource, as AWS has them, show that it belongs to the environment: its tags say so. An alias has no
/// tags; it is ours if it leads to the key that our state holds.
fn is_ours(kind: &str, change: &Value, environment: &str) -> bool {
    let (before, after) = (&change["before"], &change["after"]);
    if kind == "aws_kms_alias" {
        let key = &before["target_key_id"];
        return key.is_string() && *key == after["target_key_id"];
    }
    ["tags_all", "tags"]
        .iter()
        .any(|tags| before[tags]["mfsre:environment"] == environment)
}

fn is_in_the_way(diagnostic: &DiagnosticEvent) -> bool {
    let text = format!("{} {}", diagnostic.summary, diagnostic.detail);
    ["AlreadyExists", "already exists", "ResourceInUseException"]
        .iter()
        .any(|sign| text.contains(sign))
}

fn change_of<'a>(plan: &'a Value, address: &str) -> Option<&'a Value> {
    let mut changes = plan["resource_changes"].as_array()?.iter();
    changes.find(|change| change["address"] == address)
}

/// Plans anew with the resources taken in that were in the way of `failed`; `None` where these are not the cause, or cannot be
/// named.
///
/// # Errors
/// One of them is not provably this environment's; nothing was changed then.
pub(super) async fn adopt(
    context: &Context,
    failed: &Plan,
    diagnostics: &[DiagnosticEvent],
    progress: Progress<'_>,
) -> Result<Option<Plan>> {
    let in_the_way: Vec<&DiagnosticEvent> = diagnostics.iter().filter(|d| is_in_the_way(d)).collect();
    if in_the_way.is_empty() || !failed.path.exists() {
        return Ok(None);
    }
    let (workspace, cancellation) = (context.workspace()?, &context.cancellation);
    let planned = workspace.show(&failed.path, cancellation).await?;
    let mut imports = Vec::new();
    for diagnostic in in_the_way {
        let change = diagnostic
            .address
            .as_deref()
            .and_then(|address| change_of(&planned, address));
        let id = change.and_then(|c| import_id(c["type"].as_str()?, &c["change"]["after"]));
        let (Some(address), Some(id)) = (diagnostic.address.clone(), id) else {
            return Ok(None);
        };
        imports.push(Import { address, id });
    }
    progress.say("looking at what stands on AWS already");
    let plan = workspace
        .plan_importing("apply", &imports, cancellation, |_| {})
        .await?;
    let shown = workspace.show(&plan.path, cancellation).await?;
    for Import { address, id } in &imports {
        let change = change_of(&shown, address).cloned().unwrap_or_default();
        let kind = change["type"].as_str().unwrap_or_default();
        let actions = change["change"]["actions"].as_array().cloned().unwrap_or_default();
        if change["action_reason"] == TAINTED {
            crate::error::remove_file(&plan.path)?;
            return Err(Error::failed(format!("{address} ({id}) was not created well, and cannot be replaced while it stands"))
                .cause("other resources of the state stand on it, so that it is not removed by itself")
                .hint(format!(
                    "look at it on AWS; if it is well by now, say so with `terraform untaint '{address}'` in infra/{}, and run the same command again; else remove it there with what stands on it, as `terraform plan -destroy -target='{address}'` shows",
                    context.environment.name
                )));
        }
        let refusal = if !is_ours(kind, &change["change"], context.environment.name.as_str()) {
            "nothing on it shows that it is this environment's (the tag mfsre:environment)"
        } else if actions.iter().any(|action| action == "delete") {
            "it differs so much from what is wanted that it would be replaced"
        } else {
            progress.note(format!(
                "{address} ({id}) stands on AWS with this environment's tags, and no state knew it; it is taken in"
            ));
            continue;
        };
        crate::error::remove_file(&plan.path)?;
        return Err(Error::failed(format!("{address} cannot be created: {id} is on AWS already"))
            .cause(refusal)
            .hint(format!(
                "if it is yours, take it into the state with `terraform import '{address}' '{id}'` in infra/{}; else remove it or choose another name",
                context.environment.name
            )));
    }
    if imports.iter().any(|import| import.address.contains("aws_eks_cluster.")) {
        wait_for_cluster(context, progress).await?;
    }
    Ok(Some(plan))
}

/// Waits until a cluster that is being made is made: nothing can be put into it before.
///
/// # Errors
/// AWS cannot be asked.
pub(super) async fn wait_for_cluster(context: &Context, progress: Progress<'_>) -> Result<()> {
    let name = &context.environment.names.cluster;
    let end = std::time::Instant::now() + context.options.timeout;
    while context
        .aws()?
        .cluster(name)
        .await?
        .is_some_and(|c| c.status == "CREATING")
    {
        if context.cancellation.is_cancelled() || std::time::Instant::now() >= end {
            break;
        }
        progress.say(format!("waiting until the cluster {name} is made"));
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Removes what was not created well and would be replaced by one of the same name before it is removed, which AWS refuses; then
/// plans anew. Without any, the plan stays as it is.
///
/// # Errors
/// Terraform failed.
pub(super) async fn clear_the_way(context: &Context, plan: Plan, progress: Progress<'_>) -> Result<Plan> {
    let (workspace, cancellation) = (context.workspace()?, &context.cancellation);
    if plan.counts.destroy == 0 {
        return Ok(plan);
    }
    let shown = workspace.show(&plan.path, cancellation).await?;
    let changes = shown["resource_changes"].as_array().cloned().unwrap_or_default();
    let doomed: Vec<String> = changes
        .iter()
        .filter(|change| {
            let kind = change["type"].as_str().unwrap_or_default();
            let (before, after) = (&change["change"]["before"], &change["change"]["after"]);
            change["action_reason"] == TAINTED
                && change["change"]["actions"][0] == "create"
                && import_id(kind, before).is_some_and(|id| Some(id) == import_id(kind, after))
        })
        .filter_map(|change| change["address"].as_str().map(str::to_owned))
        .collect();
    if doomed.is_empty() {
        return Ok(plan);
    }
    let removal = workspace.plan_removal("removal", &doomed, cancellation, |_| {}).await?;
    let others = workspace.show(&removal.path, cancellation).await?;
    let others = others["resource_changes"].as_array().cloned().unwrap_or_default();
    let only_these = others
        .iter()
        .filter(|c| c["change"]["actions"][0] == "delete")
        .all(|c| doomed.iter().any(|d| c["address"] == d.as_str()));
    if !only_these {
        // Others stand on it, so it has been of use: that is for a person to judge.
        crate::error::remove_file(&removal.path)?;
        return Ok(plan);
    }
    for address in &doomed {
        progress.note(format!("{address} was not created well; it is removed, and made again"));
    }
    workspace
        .apply(&removal, cancellation, |event| say(event, progress))
        .await?;
    Ok(workspace.plan("apply", false, cancellation, |_| {}).await?)
}

fn say(event: &TerraformEvent, progress: Progress<'_>) {
    if let TerraformEvent::ApplyStart { hook } = event {
        progress.say(format!("removing {}", hook.resource.addr));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_import_takes_is_made_of_the_names() {
        let role = json!({ "name": "demo-cluster" });
        assert_eq!(import_id("aws_iam_role", &role).as_deref(), Some("demo-cluster"));
        let group = json!({ "cluster_name": "demo", "node_group_name": "system" });
        assert_eq!(import_id("aws_eks_node_group", &group).as_deref(), Some("demo:system"));
        let entry = json!({ "cluster_name": "demo", "principal_arn": "arn:aws:iam::1:role/a" });
        assert_eq!(
            import_id("aws_eks_access_entry", &entry).as_deref(),
            Some("demo:arn:aws:iam::1:role/a")
        );
        assert_eq!(
            import_id("aws_eks_addon", &json!({ "cluster_name": "demo" })),
            None,
            "a name is not known yet"
        );
        assert_eq!(import_id("aws_vpc", &role), None, "it has no name of its own");
    }

    #[test]
    fn only_tags_of_this_environment_prove_anything() {
        let tagged = |name: &str| json!({ "before": { "tags_all": { "mfsre:environment": name } } });
        assert!(is_ours("aws_iam_role", &tagged("demo"), "demo"));
        assert!(!is_ours("aws_iam_role", &tagged("other"), "demo"));
        assert!(!is_ours(
            "aws_iam_role",
            &json!({ "before": { "name": "demo-cluster" } }),
            "demo"
        ));
        let alias = |key: &str| json!({ "before": { "target_key_id": key }, "after": { "target_key_id": "k" } });
        assert!(is_ours("aws_kms_alias", &alias("k"), "demo"));
        assert!(!is_ours("aws_kms_alias", &alias("another"), "demo"));
    }

    #[test]
    fn a_refusal_of_aws_is_known_by_its_code() {
        let told = |summary: &str| DiagnosticEvent {
            severity: "error".into(),
            summary: summary.into(),
            detail: String::new(),
            address: None,
            range: None,
        };
        for summary in [
            "creating IAM Role (demo-cluster): operation error IAM: CreateRole, https response error StatusCode: 409, RequestID: 1, EntityAlreadyExists: Role with name demo-cluster already exists.",
            "creating EKS Cluster (demo): operation error EKS: CreateCluster, https response error StatusCode: 409, RequestID: 1, ResourceInUseException: Cluster already exists with name: demo",
            "creating CloudWatch Logs Log Group (/aws/eks/demo/cluster): operation error CloudWatch Logs: CreateLogGroup, https response error StatusCode: 400, RequestID: 1, ResourceAlreadyExistsException: The specified log group already exists",
        ] {
            assert!(is_in_the_way(&told(summary)), "{summary}");
        }
        assert!(!is_in_the_way(&told(
            "creating EKS Cluster (demo): AccessDeniedException"
        )));
    }
}
