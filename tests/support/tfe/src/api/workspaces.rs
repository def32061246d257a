//! Workspaces, their locks and variables (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs/workspaces>).

use axum::http::Method;
use serde_json::{Value, json};

use super::{Call, Reply};
use crate::documents;
use crate::store::{Holder, Organization, Variable, Workspace, now};

pub(super) fn create(call: &mut Call<'_>, organization: &Organization) -> Reply {
    let Some(name) = call.text("name") else {
        return Reply::invalid("name can't be blank");
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 90 || !name.chars().all(plain) {
        return Reply::invalid("Name has to consist of letters, numbers, - and _, 90 at most");
    }
    if call.store.named(&organization.name, &name).is_some() {
        return Reply::invalid("Name has already been taken");
    }
    let project = match call.relation("project") {
        Some(id) if organization.projects.iter().any(|p| p.id == id) => id,
        Some(_) => return Reply::missing(),
        None => organization.projects[0].id.clone(),
    };
    let mode = call.text("execution-mode").unwrap_or_else(|| "remote".into());
    if !["remote", "local", "agent"].contains(&mode.as_str()) {
        return Reply::invalid("Execution mode has to be remote, local or agent");
    }
    let workspace = Workspace {
        id: call.store.id("ws"),
        organization: organization.name.clone(),
        project,
        name,
        description: call.text("description").unwrap_or_default(),
        execution_mode: mode,
        terraform_version: call.text("terraform-version").unwrap_or_else(|| "1.10.5".into()),
        working_directory: call.text("working-directory").unwrap_or_default(),
        auto_apply: call.flag("auto-apply", false),
        allow_destroy_plan: call.flag("allow-destroy-plan", true),
        structured: call.flag("structured-run-output-enabled", true),
        vcs_repo: Some(call.attribute("vcs-repo").clone()).filter(|v| !v.is_null()),
        lock: None,
        current_run: None,
        variables: Vec::new(),
        created_at: now(),
        updated_at: now(),
    };
    let document = documents::workspace(call.store, &workspace, &call.user);
    call.store.workspaces.push(workspace);
    Reply::Document(201, json!({ "data": document }))
}

pub(super) fn answer(call: &mut Call<'_>, method: &Method, id: &str, rest: &[&str]) -> Reply {
    if call.store.workspace(id).is_none() {
        return Reply::missing();
    }
    match (method.as_str(), rest) {
        ("GET", []) => show(call, id),
        ("PATCH", []) => update(call, id),
        ("DELETE", []) | ("POST", ["actions", "safe-delete"]) => delete(call, id, rest),
        ("POST", ["actions", "lock"]) => lock(call, id),
        ("POST", ["actions", "unlock"]) => unlock(call, id, false),
        ("POST", ["actions", "force-unlock"]) => unlock(call, id, true),
        ("GET", ["vars" | "all-vars"]) => {
            let workspace = call.store.workspace(id);
            let items = workspace
                .into_iter()
                .flat_map(|w| &w.variables)
                .map(|v| documents::variable(id, v))
                .collect();
            call.list(items)
        }
        ("POST", ["vars"]) => add_variable(call, id),
        ("PATCH" | "DELETE", ["vars", variable]) => change_variable(call, method, id, variable),
        ("GET", ["varsets"]) => call.list(Vec::new()),
        ("GET", ["tag-bindings" | "effective-tag-bindings"]) => call.list(Vec::new()),
        _ => Reply::missing(),
    }
}

fn show(call: &mut Call<'_>, id: &str) -> Reply {
    let store = &*call.store;
    let Some(workspace) = store.workspace(id) else {
        return Reply::missing();
    };
    let mut document = json!({ "data": documents::workspace(store, workspace, &call.user) });
    let mut included: Vec<Value> = Vec::new();
    if call.includes("locked_by")
        && let Some((holder, _)) = &workspace.lock
    {
        match holder {
            Holder::User(id) => included.extend(store.tokens.values().find(|u| u.id == *id).map(documents::user)),
            Holder::Run(id) => included.extend(store.run(id).map(|r| documents::run(r, &call.user))),
        }
    }
    if call.includes("current_run") {
        let run = workspace.current_run.as_ref().and_then(|id| store.run(id));
        included.extend(run.map(|r| documents::run(r, &call.user)));
    }
    if !included.is_empty() {
        document["included"] = json!(included);
    }
    Reply::Document(200, document)
}

fn update(call: &mut Call<'_>, id: &str) -> Reply {
    let version = call.text("terraform-version");
    if let Some(version) = &version
        && !call.store.versions.is_empty()
        && !call.store.versions.contains(version)
    {
        return Reply::invalid("Terraform version is not available");
    }
    let mode = call.text("execution-mode");
    if let Some(mode) = &mode
        && !["remote", "local", "agent"].contains(&mode.as_str())
    {
        return Reply::invalid("Execution mode has to be remote, local or agent");
    }
    let attributes = call.body["data"]["attributes"].clone();
    let project = call.relation("project");
    if let Some(workspace) = call.store.workspace_mut(id) {
        let text = |key: &str, field: &mut String| {
            if let Some(value) = attributes[key].as_str() {
                *field = value.to_owned();
            }
        };
        text("terraform-version", &mut workspace.terraform_version);
        text("execution-mode", &mut workspace.execution_mode);
        text("working-directory", &mut workspace.working_directory);
        text("description", &mut workspace.description);
        text("name", &mut workspace.name);
        workspace.auto_apply = attributes["auto-apply"].as_bool().unwrap_or(workspace.auto_apply);
        workspace.allow_destroy_plan = attributes["allow-destroy-plan"]
            .as_bool()
            .unwrap_or(workspace.allow_destroy_plan);
        if let Some(repository) = attributes.get("vcs-repo") {
            workspace.vcs_repo = Some(repository.clone()).filter(|v| !v.is_null());
        }
        if let Some(project) = project {
            workspace.project = project;
        }
        workspace.updated_at = now();
    }
    show(call, id)
}

fn delete(call: &mut Call<'_>, id: &str, rest: &[&str]) -> Reply {
    let holds = call.store.current_state(id).is_some_and(|s| {
        let state = s.state.as_deref().unwrap_or_default();
        serde_json::from_slice::<Value>(state).is_ok_and(|s| s["resources"].as_array().is_some_and(|r| !r.is_empty()))
    });
    if !rest.is_empty() && holds {
        return Reply::conflict("Workspace cannot be safely deleted: it is still managing resources");
    }
    if call.store.workspace(id).is_some_and(|w| w.lock.is_some()) {
        return Reply::conflict("Workspace is currently locked");
    }
    call.store.workspaces.retain(|w| w.id != id);
    call.store.states.retain(|s| s.workspace != id);
    Reply::Empty(204)
}

fn lock(call: &mut Call<'_>, id: &str) -> Reply {
    // This one takes plain JSON, no JSON:API document.
    let reason = call.body["reason"].as_str().unwrap_or_default().to_owned();
    let holder = Holder::User(call.user.id.clone());
    let Some(workspace) = call.store.workspace_mut(id) else {
        return Reply::missing();
    };
    if workspace.lock.is_some() {
        return Reply::conflict("Unable to lock workspace. The workspace is already locked.");
    }
    workspace.lock = Some((holder, reason));
    workspace.updated_at = now();
    show(call, id)
}

fn unlock(call: &mut Call<'_>, id: &str, force: bool) -> Reply {
    let pending = call.store.states.iter().any(|s| s.workspace == id && s.state.is_none());
    let Some(workspace) = call.store.workspace(id) else {
        return Reply::missing();
    };
    match &workspace.lock {
        None => return Reply::conflict("Unable to unlock workspace. The workspace is not locked."),
        Some((Holder::Run(run), _)) => {
            return Reply::conflict(format!(
                "Unable to unlock workspace. The workspace is locked by Run {run}"
            ));
        }
        Some((Holder::User(user), _)) if *user != call.user.id && !force => {
            let name = call.store.user_name(user);
            return Reply::conflict(format!(
                "Unable to unlock workspace. The workspace is locked by User {name}"
            ));
        }
        Some(_) => {}
    }
    if pending && !force {
        return Reply::conflict("Unable to unlock workspace. The latest state version is still pending");
    }
    if force && !call.user.approves {
        return Reply::missing();
    }
    if force {
        call.store.states.retain(|s| s.workspace != id || s.state.is_some());
    }
    if let Some(workspace) = call.store.workspace_mut(id) {
        workspace.lock = None;
        workspace.updated_at = now();
    }
    show(call, id)
}

fn add_variable(call: &mut Call<'_>, id: &str) -> Reply {
    let (Some(key), Some(category)) = (call.text("key"), call.text("category")) else {
        return Reply::invalid("key and category can't be blank");
    };
    if category != "env" && category != "terraform" {
        return Reply::invalid("Category has to be env or terraform");
    }
    let taken = |v: &Variable| v.key == key && v.category == category;
    if call.store.workspace(id).is_some_and(|w| w.variables.iter().any(taken)) {
        return Reply::invalid("Key has already been taken");
    }
    let variable = Variable {
        id: call.store.id("var"),
        value: call.text("value").unwrap_or_default(),
        hcl: call.flag("hcl", false),
        sensitive: call.flag("sensitive", false),
        description: call.text("description").unwrap_or_default(),
        key,
        category,
    };
    let document = documents::variable(id, &variable);
    if let Some(workspace) = call.store.workspace_mut(id) {
        workspace.variables.push(variable);
    }
    Reply::Document(201, json!({ "data": document }))
}

fn change_variable(call: &mut Call<'_>, method: &Method, id: &str, variable: &str) -> Reply {
    let attributes = call.body["data"]["attributes"].clone();
    let Some(workspace) = call.store.workspace_mut(id) else {
        return Reply::missing();
    };
    let Some(at) = workspace.variables.iter().position(|v| v.id == variable) else {
        return Reply::missing();
    };
    if method == Method::DELETE {
        workspace.variables.remove(at);
        return Reply::Empty(204);
    }
    let variable = &mut workspace.variables[at];
    if let Some(value) = attributes["value"].as_str() {
        variable.value = value.to_owned();
    }
    if let Some(description) = attributes["description"].as_str() {
        variable.description = description.to_owned();
    }
    variable.hcl = attributes["hcl"].as_bool().unwrap_or(variable.hcl);
    // A sensitive variable stays one.
    variable.sensitive |= attributes["sensitive"].as_bool().unwrap_or(false);
    Reply::data(documents::variable(id, variable))
}
