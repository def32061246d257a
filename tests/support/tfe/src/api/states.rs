//! State versions (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs/state-versions>).

use axum::http::Method;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{Call, Reply};
use crate::documents;
use crate::store::{Holder, StateVersion, now};

pub(super) fn of_workspace(call: &mut Call<'_>, method: &Method, id: &str, what: &str, depth: usize) -> Reply {
    if call.store.workspace(id).is_none() {
        return Reply::missing();
    }
    match (method.as_str(), what) {
        ("GET", "current-state-version") if depth == 3 => match call.store.current_state(id) {
            Some(state) => Reply::data(document(call, state)),
            None => Reply::missing(),
        },
        ("GET", "current-state-version" | "current-state-version-outputs") => {
            let outputs = call
                .store
                .current_state(id)
                .map(|s| documents::outputs(s, false))
                .unwrap_or_default();
            call.list(outputs)
        }
        ("POST", "state-versions") => create(call, id),
        _ => Reply::missing(),
    }
}

fn document(call: &Call<'_>, state: &StateVersion) -> Value {
    documents::state_version(state, |what| call.shared.object(&format!("{what}/{}", state.id)))
}

fn create(call: &mut Call<'_>, id: &str) -> Reply {
    let held_by_caller = call.store.workspace(id).and_then(|w| w.lock.as_ref());
    if held_by_caller.is_none_or(|(holder, _)| *holder != Holder::User(call.user.id.clone())) {
        return Reply::conflict("The workspace has to be locked by the user who makes a state version");
    }
    let (Some(serial), Some(md5)) = (call.attribute("serial").as_i64(), call.text("md5")) else {
        return Reply::invalid("serial and md5 can't be blank");
    };
    let lineage = call.text("lineage").unwrap_or_default();
    let force = call.flag("force", false);
    if let Some(current) = call.store.current_state(id)
        && !force
    {
        if !lineage.is_empty() && lineage != current.lineage {
            return Reply::conflict(format!(
                "The lineage {lineage} is not that of the current state version, {}",
                current.lineage
            ));
        }
        if serial <= current.serial && md5 != current.md5 {
            return Reply::conflict(format!(
                "The serial {serial} is not greater than that of the current state version, {}",
                current.serial
            ));
        }
    }
    let outputs = call
        .text("json-state-outputs")
        .and_then(|text| BASE64_STANDARD.decode(text).ok())
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        .and_then(|v| v.as_object().cloned())
        .unwrap_or_default();
    let state = StateVersion {
        id: call.store.id("sv"),
        workspace: id.to_owned(),
        serial,
        lineage,
        md5,
        created_at: now(),
        created_by: Some(call.user.id.clone()),
        run: call.relation("run"),
        state: None,
        json: None,
        outputs: outputs.into_iter().collect(),
    };
    let sv = state.id.clone();
    call.store.states.push(state);
    if let Some(inline) = call.text("state") {
        let Ok(bytes) = BASE64_STANDARD.decode(inline) else {
            return Reply::invalid("state is not base64");
        };
        if let Err(reason) = receive(call.store, &sv, &bytes) {
            return Reply::invalid(reason);
        }
    }
    let Some(state) = call.store.states.iter().find(|s| s.id == sv) else {
        return Reply::missing();
    };
    Reply::Document(201, json!({ "data": document(call, state) }))
}

/// Takes the bytes of a state: they have to be what was announced.
pub(crate) fn receive(store: &mut crate::store::Store, id: &str, bytes: &[u8]) -> Result<(), String> {
    let Some(at) = store.states.iter().position(|s| s.id == id) else {
        return Err("no such state version".into());
    };
    let announced = &mut store.states[at];
    let md5 = format!("{:x}", md5::compute(bytes));
    let parsed: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let reason = if md5 != announced.md5 {
        format!("the MD5 of the state is {md5}, announced was {}", announced.md5)
    } else if parsed["serial"].as_i64() != Some(announced.serial) {
        format!(
            "the serial in the state is {}, announced was {}",
            parsed["serial"], announced.serial
        )
    } else if !announced.lineage.is_empty() && parsed["lineage"] != announced.lineage.as_str() {
        format!(
            "the lineage in the state is {}, announced was {}",
            parsed["lineage"], announced.lineage
        )
    } else {
        announced.lineage = parsed["lineage"].as_str().unwrap_or_default().to_owned();
        if announced.outputs.is_empty() {
            // As the service does a moment later, where the outputs were not given along.
            let outputs = parsed["outputs"].as_object().cloned().unwrap_or_default();
            announced.outputs = outputs.into_iter().collect();
        }
        announced.state = Some(bytes.to_owned());
        return Ok(());
    };
    store.states.remove(at);
    Err(reason)
}

pub(super) fn answer(call: &mut Call<'_>, rest: &[&str]) -> Reply {
    match rest {
        [] => {
            let organization = call.query("filter[organization][name]").unwrap_or_default();
            let name = call.query("filter[workspace][name]").unwrap_or_default();
            let Some(workspace) = call.store.named(organization, name).map(|w| w.id.clone()) else {
                return Reply::missing();
            };
            let states = call
                .store
                .states
                .iter()
                .rev()
                .filter(|s| s.workspace == workspace && s.state.is_some());
            let items = states.map(|s| document(call, s)).collect();
            call.list(items)
        }
        [id, rest @ ..] => {
            let Some(state) = call.store.states.iter().find(|s| s.id == *id) else {
                return Reply::missing();
            };
            match rest {
                [] => Reply::data(document(call, state)),
                ["outputs"] => call.list(documents::outputs(state, false)),
                ["download"] => Reply::Redirect(call.shared.object(&format!("state/{}", state.id))),
                _ => Reply::missing(),
            }
        }
    }
}

pub(super) fn output(call: &mut Call<'_>, id: &str) -> Reply {
    let all = call.store.states.iter().flat_map(|s| documents::outputs(s, true));
    let mut all = all;
    all.find(|o| o["id"] == id).map_or_else(Reply::missing, Reply::data)
}
