//! Argo CD's workloads and the processes that stand for their pods.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ArgoCd;

/// The namespace of Argo CD.
pub(crate) const NAMESPACE: &str = "argocd";

/// A workload whose pods do real work here. The order is the order of the first start: the server makes the `default`
/// project and `server.secretkey`, without which the others fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Server,
    RepoServer,
    Controller,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::Server, Self::RepoServer, Self::Controller];

    /// The part's name, which is the workload's, the service account's and the program's too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "argocd-server",
            Self::RepoServer => "argocd-repo-server",
            Self::Controller => "argocd-application-controller",
        }
    }

    /// The workload's path in the Kubernetes API.
    pub(crate) fn path(self) -> String {
        let kind = if self == Self::Controller {
            "statefulsets"
        } else {
            "deployments"
        };
        format!("/apis/apps/v1/namespaces/{NAMESPACE}/{kind}/{}", self.name())
    }

    /// Where the process shows that it answers.
    pub(crate) fn health(self, argo_cd: &ArgoCd) -> String {
        let address = match self {
            Self::Server => argo_cd.server_address(),
            Self::RepoServer => argo_cd.repo_server_metrics.address(),
            Self::Controller => argo_cd.controller_metrics.address(),
        };
        format!("http://{address}/healthz")
    }

    /// The command line. Everything listens on loopback, except the controller's metrics, for which there is no flag.
    pub(crate) fn arguments(self, argo_cd: &ArgoCd) -> Vec<String> {
        let port = |name: &str, address: SocketAddr| format!("--{name}={}", address.port());
        let mut arguments = vec![format!("--redis={}", argo_cd.redis), "--loglevel=info".to_owned()];
        if self != Self::RepoServer {
            arguments.push(format!("--repo-server={}", argo_cd.repo_server.address()));
            arguments.push("--repo-server-plaintext".to_owned());
        }
        arguments.extend(match self {
            Self::Server => vec![
                "--address=127.0.0.1".to_owned(),
                port("port", argo_cd.server_address()),
                "--metrics-address=127.0.0.1".to_owned(),
                port("metrics-port", argo_cd.server_metrics.address()),
                // Plain HTTP: the address is on loopback, and a certificate of ours would only be clicked away.
                "--insecure".to_owned(),
            ],
            Self::RepoServer => vec![
                "--address=127.0.0.1".to_owned(),
                port("port", argo_cd.repo_server.address()),
                "--metrics-address=127.0.0.1".to_owned(),
                port("metrics-port", argo_cd.repo_server_metrics.address()),
                "--disable-tls".to_owned(),
                // Its default is a path, and that alone makes it refuse to go without TLS.
                "--client-ca-path=".to_owned(),
            ],
            Self::Controller => vec![port("metrics-port", argo_cd.controller_metrics.address())],
        });
        arguments
    }
}

/// Whether a workload wants a pod: it exists, is not being deleted and has replicas.
pub(crate) fn wants_pod(workload: &Value) -> bool {
    workload["metadata"]["deletionTimestamp"].is_null() && workload["spec"]["replicas"].as_u64() != Some(0)
}

/// The ConfigMaps that the first container's environment refers to.
pub(crate) fn config_maps(template: &Value) -> BTreeSet<&str> {
    variables(template)
        .filter_map(|variable| variable["valueFrom"]["configMapKeyRef"]["name"].as_str())
        .collect()
}

/// The environment that a kubelet would give the first container: literal values and keys of ConfigMaps.
///
/// References to Secrets and to fields are left out: the only ones in Argo CD's manifest are redis' password and the
/// pod's name, and the process gets its own of both.
pub(crate) fn environment(template: &Value, config_maps: &BTreeMap<&str, Value>) -> Vec<(String, OsString)> {
    let value = |variable: &Value| {
        let reference = &variable["valueFrom"]["configMapKeyRef"];
        let from_map = || config_maps.get(reference["name"].as_str()?)?["data"][reference["key"].as_str()?].as_str();
        variable["value"].as_str().or_else(from_map).map(OsString::from)
    };
    variables(template)
        .filter_map(|variable| Some((variable["name"].as_str()?.to_owned(), value(variable)?)))
        .collect()
}

fn variables(template: &Value) -> impl Iterator<Item = &Value> {
    template["spec"]["containers"][0]["env"]
        .as_array()
        .into_iter()
        .flatten()
}

/// The variables that stand for mounts and addresses inside a pod; they win over the workload's own.
pub(crate) fn overrides(
    workload: Workload,
    argo_cd: &ArgoCd,
    home: &Path,
    kubeconfig: &Path,
) -> Vec<(String, OsString)> {
    [
        ("ARGOCD_BINARY_NAME", OsString::from(workload.name())),
        ("ARGOCD_FAKE_IN_CLUSTER", "true".into()),
        ("KUBECONFIG", kubeconfig.into()),
        ("REDIS_PASSWORD", argo_cd.redis_password.expose().into()),
        ("ARGOCD_SSH_DATA_PATH", home.join("ssh").into()),
        ("ARGOCD_TLS_DATA_PATH", home.join("tls").into()),
        ("ARGOCD_GPG_ENABLED", "false".into()),
        ("ARGOCD_ASK_PASS_SOCK", askpass_socket(home).into()),
        ("ARGOCD_PLUGINSOCKFILEPATH", home.join("plugins").into()),
        ("HELM_CACHE_HOME", home.join("helm/cache").into()),
        ("HELM_CONFIG_HOME", home.join("helm/config").into()),
        ("HELM_DATA_HOME", home.join("helm/data").into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Where the repo-server hands passwords to git. The default is the same path for every Argo CD of a machine, and the
/// path of a UNIX socket is limited to 107 bytes.
pub(crate) fn askpass_socket(home: &Path) -> PathBuf {
    let socket = home.join("askpass.sock");
    if socket.as_os_str().len() <= 107 {
        socket
    } else {
        std::env::temp_dir().join(format!("mfsre-askpass-{}.sock", std::process::id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_workload_being_deleted_or_scaled_to_zero_wants_no_pod() {
        assert!(wants_pod(&json!({"metadata": {}, "spec": {"replicas": 1}})));
        assert!(wants_pod(&json!({"metadata": {}, "spec": {}})));
        assert!(!wants_pod(&json!({"metadata": {}, "spec": {"replicas": 0}})));
        assert!(!wants_pod(
            &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 1}})
        ));
    }

    #[test]
    fn the_environment_comes_from_the_pod_template() {
        let template = json!({"spec": {"containers": [{"env": [
            {"name": "LITERAL", "value": "1"},
            {"name": "SET", "valueFrom": {"configMapKeyRef": {"name": "argocd-cmd-params-cm", "key": "set", "optional": true}}},
            {"name": "UNSET", "valueFrom": {"configMapKeyRef": {"name": "argocd-cmd-params-cm", "key": "unset", "optional": true}}},
            {"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "argocd-redis", "key": "auth"}}},
        ]}]}});
        assert_eq!(config_maps(&template), BTreeSet::from(["argocd-cmd-params-cm"]));
        let maps = BTreeMap::from([("argocd-cmd-params-cm", json!({"data": {"set": "value"}}))]);
        let expected = [("LITERAL".to_owned(), "1".into()), ("SET".to_owned(), "value".into())];
        assert_eq!(environment(&template, &maps), expected);
    }
}
