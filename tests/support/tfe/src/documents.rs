//! Objects of the API as JSON:API documents (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs>).

use serde_json::{Map, Value, json};

use crate::store::{
    Configuration, Holder, Organization, Phase, PolicyCheck, Project, Run, StateVersion, Store, User, Variable,
    Workspace,
};

fn one(kind: &str, id: &str) -> Value {
    json!({ "data": { "id": id, "type": kind } })
}

fn maybe(kind: &str, id: Option<&str>) -> Value {
    id.map_or_else(|| json!({ "data": null }), |id| one(kind, id))
}

fn many<'a>(kind: &str, ids: impl Iterator<Item = &'a str>) -> Value {
    let data: Vec<Value> = ids.map(|id| json!({ "id": id, "type": kind })).collect();
    json!({ "data": data })
}

pub(crate) fn organization(o: &Organization) -> Value {
    json!({
        "id": o.name,
        "type": "organizations",
        "attributes": {
            "name": o.name,
            "external-id": format!("org-{}", o.name),
            "email": "owner@example.com",
            "default-execution-mode": "remote",
            "permissions": { "can-create-workspace": true, "can-create-project": true, "can-update": true, "can-destroy": false },
        },
        "relationships": { "default-project": maybe("projects", o.projects.first().map(|p| p.id.as_str())) },
    })
}

pub(crate) fn entitlements(o: &Organization) -> Value {
    json!({
        "id": format!("org-{}", o.name),
        "type": "entitlement-sets",
        "attributes": {
            "operations": true, "state-storage": true, "vcs-integrations": true, "sentinel": true, "teams": true,
            "cost-estimation": false, "agents": false, "run-tasks": false, "private-module-registry": true,
        },
    })
}

pub(crate) fn project(organization: &str, p: &Project) -> Value {
    json!({
        "id": p.id,
        "type": "projects",
        "attributes": { "name": p.name, "description": null, "permissions": { "can-create-workspace": true } },
        "relationships": { "organization": one("organizations", organization) },
    })
}

pub(crate) fn user(u: &User) -> Value {
    json!({
        "id": u.id,
        "type": "users",
        "attributes": { "username": u.name, "is-service-account": false, "email": format!("{}@example.com", u.name) },
    })
}

pub(crate) fn workspace(store: &Store, w: &Workspace, caller: &User) -> Value {
    let state = store.current_state(&w.id).map(|s| s.id.as_str());
    let mut relationships = json!({
        "organization": one("organizations", &w.organization),
        "project": one("projects", &w.project),
        "current-run": maybe("runs", w.current_run.as_deref()),
        "current-state-version": maybe("state-versions", state),
        "vars": many("vars", w.variables.iter().map(|v| v.id.as_str())),
    });
    if let Some((holder, _)) = &w.lock {
        relationships["locked-by"] = match holder {
            Holder::User(id) => one("users", id),
            Holder::Run(id) => one("runs", id),
        };
    }
    json!({
        "id": w.id,
        "type": "workspaces",
        "attributes": {
            "name": w.name,
            "description": w.description,
            "created-at": w.created_at,
            "updated-at": w.updated_at,
            "allow-destroy-plan": w.allow_destroy_plan,
            "auto-apply": w.auto_apply,
            "execution-mode": w.execution_mode,
            "operations": w.execution_mode != "local",
            "global-remote-state": false,
            "locked": w.lock.is_some(),
            "locked-reason": w.lock.as_ref().map(|(_, reason)| reason.as_str()),
            "queue-all-runs": false,
            "speculative-enabled": true,
            "structured-run-output-enabled": w.structured,
            "terraform-version": w.terraform_version,
            "working-directory": w.working_directory,
            "vcs-repo": w.vcs_repo,
            "vcs-repo-identifier": w.vcs_repo.as_ref().map(|v| &v["identifier"]),
            "tag-names": [],
            "permissions": {
                "can-update": true, "can-destroy": true, "can-queue-run": true, "can-queue-apply": caller.approves,
                "can-queue-destroy": true, "can-lock": true, "can-unlock": true, "can-force-unlock": caller.approves,
                "can-read-settings": true, "can-read-variable": true, "can-update-variable": true,
                "can-read-state-versions": true, "can-create-state-versions": true, "can-force-delete": true,
            },
            "actions": { "is-destroyable": true },
        },
        "relationships": relationships,
        "links": {
            "self": format!("/api/v2/organizations/{}/workspaces/{}", w.organization, w.name),
            "self-html": format!("/app/{}/workspaces/{}", w.organization, w.name),
        },
    })
}

pub(crate) fn variable(workspace: &str, v: &Variable) -> Value {
    json!({
        "id": v.id,
        "type": "vars",
        "attributes": {
            "key": v.key,
            "value": if v.sensitive { Value::Null } else { json!(v.value) },
            "category": v.category,
            "hcl": v.hcl,
            "sensitive": v.sensitive,
            "description": v.description,
        },
        "relationships": { "configurable": one("workspaces", workspace) },
    })
}

pub(crate) fn configuration(c: &Configuration, upload_url: Option<String>) -> Value {
    let status = if c.error.is_some() {
        "errored"
    } else if c.archive.is_some() {
        "uploaded"
    } else {
        "pending"
    };
    let mut attributes = json!({
        "auto-queue-runs": c.auto_queue,
        "error": c.error.as_ref().map(|_| "unpack"),
        "error-message": c.error,
        "source": c.source,
        "speculative": c.speculative,
        "provisional": c.provisional,
        "status": status,
        "status-timestamps": {},
    });
    // As in the real API, the address is told to whoever made it, and no more once it has served.
    if let (Some(url), None) = (upload_url, &c.archive) {
        attributes["upload-url"] = json!(url);
    }
    let ingress = c.ingress.as_ref().map(|_| format!("ia-{}", c.id));
    json!({
        "id": c.id,
        "type": "configuration-versions",
        "attributes": attributes,
        "relationships": { "ingress-attributes": maybe("ingress-attributes", ingress.as_deref()) },
    })
}

pub(crate) fn ingress(c: &Configuration) -> Option<Value> {
    let attributes = c.ingress.as_ref()?;
    Some(json!({ "id": format!("ia-{}", c.id), "type": "ingress-attributes", "attributes": attributes }))
}

pub(crate) fn run(r: &Run, caller: &User) -> Value {
    let mut relationships = json!({
        "workspace": one("workspaces", &r.workspace),
        "configuration-version": one("configuration-versions", &r.configuration),
        "plan": one("plans", &r.plan.id),
        "policy-checks": many("policy-checks", r.policy_checks.iter().filter(|p| p.stage.is_none()).map(|p| p.id.as_str())),
        "run-events": many("run-events", std::iter::empty()),
        "comments": many("comments", std::iter::empty()),
        "task-stages": many("task-stages", r.policy_checks.iter().filter_map(|p| p.stage.as_ref()).map(|s| s.id.as_str())),
        "created-by": maybe("users", r.created_by.as_deref()),
    });
    if !r.plan_only {
        relationships["apply"] = one("applies", &r.apply.id);
    }
    if let Some(by) = &r.confirmed_by {
        relationships["confirmed-by"] = one("users", by);
    }
    json!({
        "id": r.id,
        "type": "runs",
        "attributes": {
            "actions": {
                "is-cancelable": r.is_cancelable(),
                "is-confirmable": r.is_confirmable(),
                "is-discardable": r.is_discardable(),
                "is-force-cancelable": false,
            },
            "auto-apply": r.auto_apply,
            "created-at": r.created_at,
            "has-changes": r.has_changes,
            "is-destroy": r.is_destroy,
            "message": r.message,
            "plan-only": r.plan_only,
            "save-plan": r.save_plan,
            "refresh": r.refresh,
            "refresh-only": r.refresh_only,
            "source": r.source,
            "status": r.status,
            "status-timestamps": r.timestamps,
            "trigger-reason": if r.source == "tfe-configuration-version" { "git_push" } else { "manual" },
            "target-addrs": r.targets,
            "replace-addrs": r.replace,
            "permissions": {
                "can-apply": caller.approves,
                "can-cancel": true,
                "can-comment": true,
                "can-discard": caller.approves,
                "can-force-execute": false,
                "can-force-cancel": false,
                "can-override-policy-check": caller.approves,
            },
            "variables": r.variables.iter().map(|(k, v)| json!({ "key": k, "value": v })).collect::<Vec<_>>(),
        },
        "relationships": relationships,
        "links": { "self": format!("/api/v2/runs/{}", r.id) },
    })
}

pub(crate) fn phase(kind: &str, p: &Phase, log_url: &str, has_changes: Option<bool>) -> Value {
    let mut attributes = json!({
        "status": p.status,
        "status-timestamps": p.timestamps,
        "log-read-url": log_url,
        "resource-additions": p.add,
        "resource-changes": p.change,
        "resource-destructions": p.destroy,
        "resource-imports": 0,
    });
    if let Some(has_changes) = has_changes {
        attributes["has-changes"] = json!(has_changes);
        attributes["generated-configuration"] = json!(false);
    }
    json!({ "id": p.id, "type": kind, "attributes": attributes })
}

pub(crate) fn policy_check(p: &PolicyCheck, caller: &User) -> Value {
    let policies: Vec<Value> = p
        .policies
        .iter()
        .map(|policy| {
            json!({
                "allowed-failure": policy.enforcement == crate::Enforcement::Advisory,
                "error": null,
                "policy": { "name": policy.name, "enforcement-level": policy.enforcement.word() },
                "result": policy.passes,
            })
        })
        .collect();
    json!({
        "id": p.id,
        "type": "policy-checks",
        "attributes": {
            "actions": { "is-overridable": p.status == "soft_failed" },
            "permissions": { "can-override": caller.approves },
            "result": {
                "advisory-failed": p.advisory,
                "duration": 0,
                "hard-failed": p.hard,
                "passed": p.passed,
                "result": p.soft + p.hard == 0,
                "soft-failed": p.soft,
                "total-failed": p.advisory + p.soft + p.hard,
                "sentinel": { "schema-version": 1, "data": { "mfsre": { "policies": policies } } },
            },
            "scope": "organization",
            "status": p.status,
            "status-timestamps": {},
        },
        "relationships": { "run": one("runs", &p.run) },
        "links": { "output": format!("/api/v2/policy-checks/{}/output", p.id) },
    })
}

/// The stage of a run in which policies are evaluated.
pub(crate) fn task_stage(p: &PolicyCheck, caller: &User) -> Option<Value> {
    let stage = p.stage.as_ref()?;
    let status = match p.status {
        "hard_failed" => "failed",
        "soft_failed" => "awaiting_override",
        _ => "passed",
    };
    Some(json!({
        "id": stage.id,
        "type": "task-stages",
        "attributes": {
            "status": status,
            "stage": "post_plan",
            "status-timestamps": {},
            "permissions": {
                "can-override-policy": caller.approves, "can-override-tasks": false, "can-override": caller.approves,
            },
            "actions": { "is-overridable": p.status == "soft_failed" },
        },
        "relationships": {
            "run": one("runs", &p.run),
            "task-results": many("task-results", std::iter::empty()),
            "policy-evaluations": many("policy-evaluations", std::iter::once(stage.evaluation.as_str())),
        },
        "links": { "self": format!("/api/v2/task-stages/{}", stage.id) },
    }))
}

fn result_count(p: &PolicyCheck) -> Value {
    json!({ "advisory-failed": p.advisory, "errored": 0, "mandatory-failed": p.soft + p.hard, "passed": p.passed })
}

pub(crate) fn policy_evaluation(p: &PolicyCheck) -> Option<Value> {
    let stage = p.stage.as_ref()?;
    Some(json!({
        "id": stage.evaluation,
        "type": "policy-evaluations",
        "attributes": {
            "status": match p.status {
                "hard_failed" | "soft_failed" => "failed",
                status => status,
            },
            "policy-kind": "sentinel",
            "policy-tool-version": "0.40.0",
            "result-count": result_count(p),
            "status-timestamps": {},
        },
        "relationships": {
            "policy-attachable": one("task-stages", &stage.id),
            "policy-set-outcomes": {
                "links": { "related": format!("/api/v2/policy-evaluations/{}/policy-set-outcomes", stage.evaluation) },
            },
        },
        "links": { "self": format!("/api/v2/policy-evaluations/{}", stage.evaluation) },
    }))
}

pub(crate) fn policy_set_outcome(p: &PolicyCheck) -> Option<Value> {
    let stage = p.stage.as_ref()?;
    // In these, unlike everywhere else, words are joined by underscores.
    let outcome = |policy: &crate::Policy| {
        json!({
            "enforcement_level": policy.enforcement.word(),
            "query": "",
            "status": if policy.passes { "passed" } else { "failed" },
            "policy_name": policy.name,
            "description": "",
        })
    };
    Some(json!({
        "id": stage.outcome,
        "type": "policy-set-outcomes",
        "attributes": {
            "outcomes": p.policies.iter().map(outcome).collect::<Vec<_>>(),
            "error": "",
            "overridable": p.hard == 0,
            "policy-set-name": "mfsre",
            "policy-set-description": null,
            "result-count": result_count(p),
            "policy-tool-version": "0.40.0",
        },
        "relationships": { "policy-evaluation": one("policy-evaluations", &stage.evaluation) },
    }))
}

pub(crate) fn run_events(r: &Run) -> Vec<Value> {
    r.events
        .iter()
        .enumerate()
        .map(|(i, (action, at, actor))| {
            json!({
                "id": format!("re-{}{i}", &r.id[4..]),
                "type": "run-events",
                "attributes": { "action": action, "description": "", "created-at": at },
                "relationships": { "actor": maybe("users", actor.as_deref()) },
            })
        })
        .collect()
}

pub(crate) fn comments(r: &Run) -> Vec<Value> {
    r.comments
        .iter()
        .map(|(id, body)| json!({ "id": id, "type": "comments", "attributes": { "body": body } }))
        .collect()
}

/// `upload` and `download` are the addresses of the state itself.
pub(crate) fn state_version(s: &StateVersion, address: impl Fn(&str) -> String) -> Value {
    let mut attributes = json!({
        "created-at": s.created_at,
        "serial": s.serial,
        "size": s.state.as_ref().map_or(0, Vec::len),
        "state-version": 4,
        "status": if s.state.is_some() { "finalized" } else { "pending" },
        "resources-processed": s.state.is_some(),
        "terraform-version": s.state.as_ref().and_then(|s| serde_json::from_slice::<Value>(s).ok()).map(|s| s["terraform_version"].clone()),
        "resources": [],
    });
    if s.state.is_some() {
        attributes["hosted-state-download-url"] = json!(address("state"));
        attributes["hosted-json-state-download-url"] = json!(address("json"));
    } else {
        attributes["hosted-state-upload-url"] = json!(address("state"));
        attributes["hosted-json-state-upload-url"] = json!(address("json"));
    }
    json!({
        "id": s.id,
        "type": "state-versions",
        "attributes": attributes,
        "relationships": {
            "run": maybe("runs", s.run.as_deref()),
            "created-by": maybe("users", s.created_by.as_deref()),
            "outputs": many("state-version-outputs", output_ids(s).iter().map(String::as_str)),
        },
    })
}

fn output_ids(s: &StateVersion) -> Vec<String> {
    s.outputs
        .iter()
        .map(|(name, _)| format!("wsout-{}-{name}", &s.id[3..]))
        .collect()
}

/// The outputs of a state; a sensitive value is told only where it is asked for by itself.
pub(crate) fn outputs(s: &StateVersion, reveal: bool) -> Vec<Value> {
    s.outputs
        .iter()
        .zip(output_ids(s))
        .map(|((name, output), id)| {
            let sensitive = output["sensitive"] == true;
            let kind = match &output["type"] {
                Value::String(kind) => kind.clone(),
                Value::Array(parts)
                    if parts.first() == Some(&json!("object")) || parts.first() == Some(&json!("map")) =>
                {
                    "map".into()
                }
                _ => "array".to_owned(),
            };
            json!({
                "id": id,
                "type": "state-version-outputs",
                "attributes": {
                    "name": name,
                    "sensitive": sensitive,
                    "type": kind,
                    "detailed-type": output["type"],
                    "value": if sensitive && !reveal { Value::Null } else { output["value"].clone() },
                },
            })
        })
        .collect()
}

/// A page of a list, by `page[number]` and `page[size]`.
pub(crate) fn page(items: Vec<Value>, query: &[(String, String)], path: &str) -> Value {
    let number = |key: &str, default: usize| {
        query
            .iter()
            .find(|(k, _)| k == key)
            .and_then(|(_, v)| v.parse().ok())
            .unwrap_or(default)
            .max(1)
    };
    // The default and the limit of the API (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs#pagination>).
    let (size, current) = (number("page[size]", 20).min(100), number("page[number]", 1));
    let count = items.len();
    let pages = count.div_ceil(size).max(1);
    let next = (current < pages).then_some(current + 1);
    let link = |n: usize| format!("{path}?page%5Bnumber%5D={n}&page%5Bsize%5D={size}");
    let data: Vec<Value> = items.into_iter().skip((current - 1) * size).take(size).collect();
    let mut links = Map::new();
    links.insert("self".into(), json!(link(current)));
    links.insert("next".into(), json!(next.map(link)));
    json!({
        "data": data,
        "links": links,
        "meta": { "pagination": {
            "current-page": current, "page-size": size, "prev-page": (current > 1).then(|| current - 1),
            "next-page": next, "total-pages": pages, "total-count": count,
        } },
    })
}
