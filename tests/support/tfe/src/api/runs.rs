//! Runs with their plans, applies and policy checks (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs/run>).

use axum::http::Method;
use serde_json::{Value, json};

use super::{Call, Reply};
use crate::store::{Phase, Run, now};
use crate::{documents, runner};

pub(super) fn list(call: &mut Call<'_>, workspace: &str) -> Reply {
    if call.store.workspace(workspace).is_none() {
        return Reply::missing();
    }
    let store = &*call.store;
    let commit = call.query("search[commit]").map(str::to_owned);
    let status = call.query("filter[status]").map(str::to_owned);
    let of_commit = |r: &&Run| {
        let sha = store
            .configuration(&r.configuration)
            .and_then(|c| c.ingress.as_ref())
            .map(|i| i["commit-sha"].clone());
        commit.as_ref().is_none_or(|c| {
            sha.as_ref()
                .and_then(Value::as_str)
                .is_some_and(|s| s.starts_with(c.as_str()))
        })
    };
    let of_status = |r: &&Run| status.as_ref().is_none_or(|s| s.split(',').any(|one| one == r.status));
    let runs: Vec<&Run> = store
        .runs
        .iter()
        .rev()
        .filter(|r| r.workspace == workspace)
        .filter(of_commit)
        .filter(of_status)
        .collect();
    let items: Vec<Value> = runs.iter().map(|r| documents::run(r, &call.user)).collect();
    let mut document = documents::page(items, &call.query, &format!("/api/v2/{}", call.path));
    if call.includes("configuration_version.ingress_attributes") {
        let configurations = runs.iter().filter_map(|r| store.configuration(&r.configuration));
        let included: Vec<Value> = configurations
            .flat_map(|c| std::iter::once(documents::configuration(c, None)).chain(documents::ingress(c)))
            .collect();
        document["included"] = json!(included);
    }
    Reply::Document(200, document)
}

pub(super) fn answer(call: &mut Call<'_>, method: &Method, rest: &[&str]) -> Reply {
    let Some((id, rest)) = rest.split_first() else {
        return if method == Method::POST {
            create(call)
        } else {
            Reply::missing()
        };
    };
    if call.store.run(id).is_none() {
        return Reply::missing();
    }
    match (method.as_str(), rest) {
        ("GET", []) => show(call, id),
        ("GET", ["run-events"]) => with(call, id, documents::run_events),
        ("GET", ["comments"]) => with(call, id, documents::comments),
        ("GET", ["task-stages"]) => call.list(Vec::new()),
        ("GET", ["policy-checks"]) => {
            let user = call.user.clone();
            with(call, id, |r| {
                r.policy_checks
                    .iter()
                    .map(|p| documents::policy_check(p, &user))
                    .collect()
            })
        }
        ("GET", ["plan"]) => match call.store.run(id).map(|r| r.plan.id.clone()) {
            Some(plan) => self::plan(call, &plan, &[]),
            None => Reply::missing(),
        },
        ("POST", ["comments"]) => {
            let body = call.text("body").unwrap_or_default();
            let comment = call.store.id("wsc");
            if let Some(run) = call.store.run_mut(id) {
                run.comments.push((comment.clone(), body.clone()));
            }
            Reply::Document(
                201,
                json!({ "data": { "id": comment, "type": "comments", "attributes": { "body": body } } }),
            )
        }
        ("POST", ["actions", action]) => act(call, id, action),
        _ => Reply::missing(),
    }
}

fn with(call: &mut Call<'_>, id: &str, items: impl Fn(&Run) -> Vec<Value>) -> Reply {
    let items = call.store.run(id).map(items).unwrap_or_default();
    call.list(items)
}

fn show(call: &mut Call<'_>, id: &str) -> Reply {
    let store = &*call.store;
    let Some(run) = store.run(id) else {
        return Reply::missing();
    };
    let mut document = json!({ "data": documents::run(run, &call.user) });
    let mut included = Vec::new();
    if call.includes("workspace") {
        included.extend(
            store
                .workspace(&run.workspace)
                .map(|w| documents::workspace(store, w, &call.user)),
        );
    }
    if call.includes("plan") {
        included.push(plan_document(call, run));
    }
    if call.includes("apply") {
        included.push(apply_document(call, run));
    }
    if call.includes("created_by") {
        included.extend(
            store
                .tokens
                .values()
                .find(|u| Some(&u.id) == run.created_by.as_ref())
                .map(documents::user),
        );
    }
    if !included.is_empty() {
        document["included"] = json!(included);
    }
    Reply::Document(200, document)
}

fn plan_document(call: &Call<'_>, run: &Run) -> Value {
    documents::phase(
        "plans",
        &run.plan,
        &call.shared.object(&format!("plan-log/{}", run.id)),
        Some(run.has_changes),
    )
}

fn apply_document(call: &Call<'_>, run: &Run) -> Value {
    documents::phase(
        "applies",
        &run.apply,
        &call.shared.object(&format!("apply-log/{}", run.id)),
        None,
    )
}

fn phase(id: String) -> Phase {
    Phase {
        id,
        status: "pending",
        log: String::new(),
        add: 0,
        change: 0,
        destroy: 0,
        json: None,
        redacted: None,
        timestamps: std::collections::BTreeMap::new(),
    }
}

fn create(call: &mut Call<'_>) -> Reply {
    let Some(workspace) = call.relation("workspace") else {
        return Reply::invalid("workspace can't be blank");
    };
    let Some(w) = call.store.workspace(&workspace).cloned() else {
        return Reply::missing();
    };
    if w.execution_mode == "local" {
        return Reply::invalid("Workspace has its execution mode set to local: runs cannot be made in it");
    }
    let configuration = match call.relation("configuration-version") {
        Some(id) => id,
        None => {
            let usable = |c: &&crate::store::Configuration| {
                c.workspace == workspace && !c.speculative && !c.provisional && c.archive.is_some()
            };
            match call.store.configurations.iter().rev().find(usable) {
                Some(latest) => latest.id.clone(),
                None => return Reply::invalid("Configuration version can't be blank: the workspace has none yet"),
            }
        }
    };
    let Some(c) = call.store.configuration(&configuration).cloned() else {
        return Reply::missing();
    };
    if call.flag("is-destroy", false) && !w.allow_destroy_plan {
        return Reply::invalid("Destroy plans are not allowed in this workspace");
    }
    let strings = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let variables = call.attribute("variables").as_array().cloned().unwrap_or_default();
    let text = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
    let run = Run {
        id: call.store.id("run"),
        workspace,
        configuration,
        status: "pending",
        message: call.text("message").unwrap_or_else(|| "Queued manually".into()),
        source: "tfe-api",
        is_destroy: call.flag("is-destroy", false),
        plan_only: call.flag("plan-only", false) || c.speculative,
        save_plan: call.flag("save-plan", false),
        auto_apply: call.flag("auto-apply", w.auto_apply),
        refresh: call.flag("refresh", true),
        refresh_only: call.flag("refresh-only", false),
        targets: strings(call.attribute("target-addrs")),
        replace: strings(call.attribute("replace-addrs")),
        variables: variables.iter().map(|v| (text(v, "key"), text(v, "value"))).collect(),
        has_changes: false,
        created_at: now(),
        created_by: Some(call.user.id.clone()),
        confirmed_by: None,
        timestamps: std::collections::BTreeMap::new(),
        plan: phase(call.store.id("plan")),
        apply: phase(call.store.id("apply")),
        policy_checks: Vec::new(),
        events: vec![("queued".into(), now(), Some(call.user.id.clone()))],
        comments: Vec::new(),
        cancel: false,
        folder: std::path::PathBuf::new(),
    };
    let document = documents::run(&run, &call.user);
    runner::queue(call.shared, call.store, run);
    Reply::Document(201, json!({ "data": document }))
}

/// A run that a push made.
pub(crate) fn pushed(
    store: &mut crate::store::Store,
    configuration: &crate::store::Configuration,
    auto_apply: bool,
    message: &str,
) -> Run {
    Run {
        id: store.id("run"),
        workspace: configuration.workspace.clone(),
        configuration: configuration.id.clone(),
        status: "pending",
        message: message.to_owned(),
        source: "tfe-configuration-version",
        is_destroy: false,
        plan_only: false,
        save_plan: false,
        auto_apply,
        refresh: true,
        refresh_only: false,
        targets: Vec::new(),
        replace: Vec::new(),
        variables: Vec::new(),
        has_changes: false,
        created_at: now(),
        created_by: None,
        confirmed_by: None,
        timestamps: std::collections::BTreeMap::new(),
        plan: phase(store.id("plan")),
        apply: phase(store.id("apply")),
        policy_checks: Vec::new(),
        events: Vec::new(),
        comments: Vec::new(),
        cancel: false,
        folder: std::path::PathBuf::new(),
    }
}

fn act(call: &mut Call<'_>, id: &str, action: &str) -> Reply {
    let user = call.user.clone();
    let comment = call.body["comment"].as_str().map(str::to_owned);
    let comment_id = call.store.id("wsc");
    let Some(run) = call.store.run_mut(id) else {
        return Reply::missing();
    };
    let refused = Reply::conflict("transition not allowed");
    match action {
        "apply" | "discard" if !user.approves => return Reply::missing(),
        "apply" => {
            if !run.is_confirmable() {
                return refused;
            }
            run.confirmed_by = Some(user.id.clone());
            runner::status(run, "confirmed", Some(&user.id));
        }
        "discard" => {
            if !run.is_discardable() {
                return refused;
            }
            runner::status(run, "discarded", Some(&user.id));
        }
        "cancel" => {
            if !run.is_cancelable() {
                return refused;
            }
            run.cancel = true;
        }
        _ => return Reply::missing(),
    }
    if let Some(comment) = comment {
        run.comments.push((comment_id, comment));
    }
    Reply::Empty(202)
}

pub(super) fn plan(call: &mut Call<'_>, id: &str, rest: &[&str]) -> Reply {
    let Some(run) = call.store.runs.iter().find(|r| r.plan.id == id) else {
        return Reply::missing();
    };
    match rest {
        [] => Reply::data(plan_document(call, run)),
        ["json-output"] if run.plan.json.is_some() => {
            Reply::Redirect(call.shared.object(&format!("plan-json/{}", run.id)))
        }
        ["json-output-redacted"] if run.plan.redacted.is_some() => {
            Reply::Redirect(call.shared.object(&format!("plan-redacted/{}", run.id)))
        }
        // What the API answers while the plan is being made.
        ["json-output" | "json-output-redacted"] => Reply::Empty(204),
        _ => Reply::missing(),
    }
}

pub(super) fn apply(call: &mut Call<'_>, id: &str) -> Reply {
    match call.store.runs.iter().find(|r| r.apply.id == id) {
        Some(run) => Reply::data(apply_document(call, run)),
        None => Reply::missing(),
    }
}

pub(super) fn policy_check(call: &mut Call<'_>, method: &Method, id: &str, rest: &[&str]) -> Reply {
    let user = call.user.clone();
    let run = call
        .store
        .runs
        .iter_mut()
        .find(|r| r.policy_checks.iter().any(|p| p.id == id));
    let Some(run) = run else { return Reply::missing() };
    let Some(at) = run.policy_checks.iter().position(|p| p.id == id) else {
        return Reply::missing();
    };
    match (method.as_str(), rest) {
        ("GET", []) => Reply::data(documents::policy_check(&run.policy_checks[at], &user)),
        ("GET", ["output"]) => Reply::Bytes(run.policy_checks[at].output.clone().into_bytes()),
        ("POST", ["actions", "override"]) => {
            if !user.approves {
                return Reply::missing();
            }
            if run.policy_checks[at].status != "soft_failed" || run.status != "policy_override" {
                return Reply::conflict("the policy check cannot be overridden");
            }
            run.policy_checks[at].status = "overridden";
            Reply::data(documents::policy_check(&run.policy_checks[at], &user))
        }
        _ => Reply::missing(),
    }
}
