//! Kubeconfigs for programs of the sandbox. JSON is YAML, so the files are written as JSON.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use url::Url;

use super::pki::Pki;
use crate::Error;
use crate::files::write_private;

/// Writes a kubeconfig that authenticates with the admin certificate; everything is inside the file.
pub(crate) fn write_admin(path: &Path, name: &str, server: &Url, pki: &Pki) -> Result<(), Error> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map(|bytes| STANDARD.encode(bytes))
            .map_err(Error::file("read", path))
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": server.as_str().trim_end_matches('/'),
            "certificate-authority-data": STANDARD.encode(&pki.ca_pem),
        }}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": read(&pki.admin.certificate)?,
            "client-key-data": read(&pki.admin.key)?,
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "admin"}}],
    });
    write_private(path, format!("{config:#}\n"))
}

/// Writes the kubeconfig by which the API server reaches a webhook: with the webhook's CA, without credentials.
pub(crate) fn write_webhook(path: &Path, server: &Url, ca: &Path) -> Result<(), Error> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "webhook",
        "clusters": [{"name": "webhook", "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": "webhook", "user": {}}],
        "contexts": [{"name": "webhook", "context": {"cluster": "webhook", "user": "webhook"}}],
    });
    write_private(path, format!("{config:#}\n"))
}
