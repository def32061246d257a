use std::path::PathBuf;

use serde_json::json;

use super::Session;
use crate::error::{Error, Result};
use crate::kubernetes::{merge_kubeconfig, render_kubeconfig};

pub(super) async fn run(session: &Session, name: &str, file: Option<PathBuf>, print: bool) -> Result<u8> {
    let mut context = session.context(name, |_| {})?;
    let entry = context.kubeconfig().await?;
    if print {
        session.printer.line(render_kubeconfig(&entry)?.trim_end())?;
        return Ok(0);
    }
    let path = match file.or_else(default_file) {
        Some(path) => path,
        None => return Err(Error::usage("neither KUBECONFIG nor HOME is set").hint("name a file with --file")),
    };
    merge_kubeconfig(&path, &entry)?;
    let text = format!(
        "{} has the context {} now, and it is the current one",
        path.display(),
        entry.name
    );
    session.printer.result(
        "kubeconfig",
        Some(name),
        &text,
        &json!({ "path": path, "context": entry.name }),
    )?;
    Ok(0)
}

/// Where kubectl would write.
fn default_file() -> Option<PathBuf> {
    let list = std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty());
    let first = list.and_then(|l| std::env::split_paths(&l).find(|p| !p.as_os_str().is_empty()));
    first.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config")))
}
