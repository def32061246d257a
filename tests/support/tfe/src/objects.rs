//! The store of archives, logs, plans and states, which is reached by addresses that hold their own permission.

use std::io::Read as _;

use axum::body::Bytes;
use axum::http::Method;

use crate::Shared;
use crate::api::Reply;
use crate::runner;
use crate::store::Store;

pub(crate) fn answer(
    shared: &std::sync::Arc<Shared>,
    store: &mut Store,
    method: &Method,
    object: &str,
    query: &[(String, String)],
    body: &Bytes,
) -> Reply {
    let mut parts = object.splitn(3, '.');
    let (Some(permission), Some(kind), Some(id)) = (parts.next(), parts.next(), parts.next()) else {
        return Reply::missing();
    };
    if permission != shared.permission(&format!("{kind}/{id}")) {
        return Reply::missing();
    }
    match (method.as_str(), kind) {
        ("PUT", "configuration") => upload(shared, store, id, body),
        ("PUT", "state") => match crate::api::receive_state(store, id, body) {
            Ok(()) => Reply::Empty(200),
            Err(reason) => Reply::Refused(400, "bad request", reason),
        },
        ("PUT", "json") => {
            if let Some(state) = store.states.iter_mut().find(|s| s.id == id) {
                state.json = Some(body.to_vec());
            }
            Reply::Empty(200)
        }
        ("GET", "state" | "json") => {
            let state = store.states.iter().find(|s| s.id == id);
            let bytes = state.and_then(|s| {
                if kind == "state" {
                    s.state.clone()
                } else {
                    s.json.clone()
                }
            });
            bytes.map_or_else(Reply::missing, Reply::Bytes)
        }
        ("GET", "plan-json" | "plan-redacted") => {
            let plan = store.run(id).map(|r| &r.plan);
            let json = plan.and_then(|p| {
                if kind == "plan-json" {
                    p.json.clone()
                } else {
                    p.redacted.clone()
                }
            });
            json.map_or_else(Reply::missing, Reply::Bytes)
        }
        ("GET", "plan-log" | "apply-log") => {
            let Some(run) = store.run(id) else {
                return Reply::missing();
            };
            let phase = if kind == "plan-log" { &run.plan } else { &run.apply };
            Reply::Bytes(log(phase.status, &phase.log, query))
        }
        _ => Reply::missing(),
    }
}

/// A part of a log: STX at its beginning once it has begun, ETX at its end once it has ended.
fn log(status: &str, text: &str, query: &[(String, String)]) -> Vec<u8> {
    let number = |key: &str| {
        query
            .iter()
            .find(|(k, _)| k == key)
            .and_then(|(_, v)| v.parse::<usize>().ok())
    };
    let mut whole = Vec::new();
    if !["pending", "queued"].contains(&status) {
        whole.push(2);
        whole.extend_from_slice(text.as_bytes());
        if status != "running" {
            whole.push(3);
        }
    }
    let from = number("offset").unwrap_or(0).min(whole.len());
    let to = number("limit").map_or(whole.len(), |limit| whole.len().min(from + limit));
    whole[from..to].to_vec()
}

fn upload(shared: &std::sync::Arc<Shared>, store: &mut Store, id: &str, body: &Bytes) -> Reply {
    let mut files = Vec::new();
    let readable = tar::Archive::new(flate2::read::GzDecoder::new(body.as_ref()))
        .entries()
        .and_then(|entries| {
            for entry in entries {
                let mut entry = entry?;
                std::io::copy(&mut entry, &mut std::io::sink())?;
                files.push(entry.path()?.into_owned());
            }
            Ok(())
        });
    let outside = files
        .iter()
        .any(|f| f.is_absolute() || f.components().any(|c| c == std::path::Component::ParentDir));
    let (speculative, auto_queue, workspace) = {
        let Some(configuration) = store.configurations.iter_mut().find(|c| c.id == id) else {
            return Reply::missing();
        };
        if configuration.archive.is_some() {
            return Reply::Refused(404, "not found", "it was uploaded already".into());
        }
        match readable {
            Ok(()) if !outside => configuration.archive = Some(body.to_vec()),
            Ok(()) => configuration.error = Some("the archive has files outside of it".into()),
            Err(error) => configuration.error = Some(format!("the archive cannot be read: {error}")),
        }
        (
            configuration.speculative,
            configuration.auto_queue,
            configuration.workspace.clone(),
        )
    };
    if auto_queue && !speculative {
        let auto_apply = store.workspace(&workspace).is_some_and(|w| w.auto_apply);
        if let Some(configuration) = store.configuration(id).cloned() {
            let run = crate::api::pushed_run(
                store,
                &configuration,
                auto_apply,
                "Queued by the upload of a configuration",
            );
            runner::queue(shared, store, run);
        }
    }
    Reply::Empty(200)
}

/// Lays an archive out in a folder.
pub(crate) fn unpack(archive: &[u8], folder: &std::path::Path) {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(archive).read_to_end(&mut bytes).unwrap();
    tar::Archive::new(bytes.as_slice()).unpack(folder).unwrap();
}

/// The files below a folder as an archive, as the service makes one of a commit.
pub(crate) fn pack(folder: &std::path::Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    builder.append_dir_all(".", folder).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}
