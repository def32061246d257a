//! Organizations, their projects and queues (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs/organizations>).

use axum::http::Method;
use serde_json::{Value, json};

use super::{Call, Reply, workspaces};
use crate::documents;
use crate::store::Project;

pub(super) fn answer(call: &mut Call<'_>, method: &Method, rest: &[&str]) -> Reply {
    if rest.is_empty() {
        let all = call.store.organizations.iter().map(documents::organization).collect();
        return call.list(all);
    }
    let Some(organization) = call.store.organization(rest[0]).cloned() else {
        return Reply::missing();
    };
    match (method.as_str(), &rest[1..]) {
        ("GET", []) => Reply::data(documents::organization(&organization)),
        ("GET", ["entitlement-set"]) => Reply::data(documents::entitlements(&organization)),
        ("GET", ["capacity"]) => Reply::data(json!({
            "id": organization.name, "type": "organization-capacity", "attributes": { "pending": 0, "running": 0 },
        })),
        ("GET", ["runs", "queue"]) => {
            let waiting = |status: &str| matches!(status, "plan_queued" | "apply_queued");
            let items = call
                .store
                .runs
                .iter()
                .filter(|r| waiting(r.status))
                .map(|r| documents::run(r, &call.user))
                .collect();
            call.list(items)
        }
        ("GET", ["projects"]) => {
            let wanted = call.query("filter[names]").map(str::to_owned);
            let items: Vec<Value> = organization
                .projects
                .iter()
                .filter(|p| {
                    wanted
                        .as_ref()
                        .is_none_or(|names| names.split(',').any(|n| n == p.name))
                })
                .map(|p| documents::project(&organization.name, p))
                .collect();
            call.list(items)
        }
        ("POST", ["projects"]) => {
            let Some(name) = call.text("name") else {
                return Reply::invalid("name can't be blank");
            };
            if organization.projects.iter().any(|p| p.name == name) {
                return Reply::invalid("Name has already been taken");
            }
            let project = Project {
                id: call.store.id("prj"),
                name,
            };
            let document = documents::project(&organization.name, &project);
            if let Some(o) = call
                .store
                .organizations
                .iter_mut()
                .find(|o| o.name == organization.name)
            {
                o.projects.push(project);
            }
            Reply::Document(201, json!({ "data": document }))
        }
        ("GET", ["workspaces"]) => {
            let search = call.query("search[name]").unwrap_or_default().to_owned();
            let project = call.query("filter[project][id]").map(str::to_owned);
            let store = &*call.store;
            let items = store
                .workspaces
                .iter()
                .filter(|w| w.organization == organization.name && w.name.contains(&search))
                .filter(|w| project.as_ref().is_none_or(|p| *p == w.project))
                .map(|w| documents::workspace(store, w, &call.user))
                .collect();
            call.list(items)
        }
        ("POST", ["workspaces"]) => workspaces::create(call, &organization),
        (_, ["workspaces", name, rest @ ..]) => {
            match call.store.named(&organization.name, name).map(|w| w.id.clone()) {
                Some(id) => workspaces::answer(call, method, &id, rest),
                None => Reply::missing(),
            }
        }
        _ => Reply::missing(),
    }
}

pub(super) fn project(call: &mut Call<'_>, id: &str) -> Reply {
    for organization in &call.store.organizations {
        if let Some(project) = organization.projects.iter().find(|p| p.id == id) {
            return Reply::data(documents::project(&organization.name, project));
        }
    }
    Reply::missing()
}
