//! Configuration versions (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs/configuration-versions>).

use axum::http::Method;
use serde_json::json;

use super::{Call, Reply};
use crate::documents;
use crate::store::Configuration;

pub(super) fn of_workspace(call: &mut Call<'_>, method: &Method, id: &str) -> Reply {
    let Some(workspace) = call.store.workspace(id) else {
        return Reply::missing();
    };
    if method == Method::GET {
        let items = call.store.configurations.iter().rev().filter(|c| c.workspace == id);
        let items = items.map(|c| documents::configuration(c, None)).collect();
        return call.list(items);
    }
    let speculative = call.flag("speculative", false);
    if workspace.vcs_repo.is_some() && !speculative {
        return Reply::invalid(
            "Only speculative configuration versions can be made for a workspace that is connected to a VCS repository",
        );
    }
    let configuration = Configuration {
        id: call.store.id("cv"),
        workspace: id.to_owned(),
        source: "tfe-api",
        speculative,
        provisional: call.flag("provisional", false),
        auto_queue: call.flag("auto-queue-runs", true),
        archive: None,
        error: None,
        ingress: None,
    };
    let url = call.shared.object(&format!("configuration/{}", configuration.id));
    let document = documents::configuration(&configuration, Some(url));
    call.store.configurations.push(configuration);
    Reply::Document(201, json!({ "data": document }))
}

pub(super) fn answer(call: &mut Call<'_>, method: &Method, id: &str, rest: &[&str]) -> Reply {
    let Some(configuration) = call.store.configuration(id) else {
        return Reply::missing();
    };
    match (method.as_str(), rest) {
        ("GET", []) => {
            let mut document = json!({ "data": documents::configuration(configuration, None) });
            if call.includes("ingress_attributes")
                && let Some(ingress) = documents::ingress(configuration)
            {
                document["included"] = json!([ingress]);
            }
            Reply::Document(200, document)
        }
        ("GET", ["ingress-attributes"]) => documents::ingress(configuration).map_or_else(Reply::missing, Reply::data),
        ("GET", ["download"]) => configuration.archive.clone().map_or_else(Reply::missing, Reply::Bytes),
        _ => Reply::missing(),
    }
}
