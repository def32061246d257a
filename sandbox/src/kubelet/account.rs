//! Service accounts.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Agent;
use crate::Error;
use crate::files::write_private;

impl Agent {
    /// Writes a kubeconfig with a token of a service account, so that its RBAC rules hold for the process too.
    pub(super) async fn write_kubeconfig(
        &self,
        folder: &Path,
        namespace: &str,
        service_account: &str,
    ) -> Result<PathBuf, Error> {
        // A year: the sandbox does not live as long, so nobody has to renew it.
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 31_536_000},
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token");
        let token = self.client.create_and_read(&path, &request).await?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "in-cluster",
            "clusters": [{"name": "in-cluster", "cluster": {
                "server": self.server.as_str().trim_end_matches('/'),
                "certificate-authority-data": STANDARD.encode(&self.ca_pem),
            }}],
            "users": [{"name": service_account, "user": {"token": token["status"]["token"]}}],
            "contexts": [{"name": "in-cluster", "context": {
                "cluster": "in-cluster", "user": service_account, "namespace": namespace,
            }}],
        });
        let path = folder.join(format!("{service_account}.kubeconfig"));
        write_private(&path, format!("{config:#}\n"))?;
        Ok(path)
    }
}
