//! The command lines of the control plane.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use super::pki::{Pair, Pki};

/// What KWOK does to nodes and pods; without stages it refuses to start.
pub(crate) const KWOK_STAGES: &str = include_str!("kwok.yaml");

/// The network of service addresses; EKS uses the same one where the VPC does not overlap it.
const SERVICE_NETWORK: &str = "10.100.0.0/16";

/// etcd on loopback, its clients authenticated by the cluster's CA. Nothing is synced to disk: the data is thrown away.
pub(crate) fn etcd(pki: &Pki, data: &Path, client: SocketAddr, peer: SocketAddr) -> Vec<String> {
    vec![
        "--name=sandbox".to_owned(),
        flag("data-dir", data.display()),
        flag("listen-client-urls", format_args!("https://{client}")),
        flag("advertise-client-urls", format_args!("https://{client}")),
        flag("listen-peer-urls", format_args!("http://{peer}")),
        flag("initial-advertise-peer-urls", format_args!("http://{peer}")),
        flag("initial-cluster", format_args!("sandbox=http://{peer}")),
        flag("cert-file", pki.serving.certificate.display()),
        flag("key-file", pki.serving.key.display()),
        flag("trusted-ca-file", pki.ca.display()),
        "--client-cert-auth=true".to_owned(),
        "--unsafe-no-fsync=true".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

/// kube-apiserver as EKS sets it up where that can be seen: RBAC, aggregation, and tokens checked by a webhook.
pub(crate) fn api_server(
    pki: &Pki,
    etcd: SocketAddr,
    address: SocketAddr,
    webhook: &Path,
    egress: &Path,
) -> Vec<String> {
    let mut flags = vec![
        flag("etcd-servers", format_args!("https://{etcd}")),
        flag("etcd-cafile", pki.ca.display()),
        flag("etcd-certfile", pki.admin.certificate.display()),
        flag("etcd-keyfile", pki.admin.key.display()),
        flag("bind-address", address.ip()),
        flag("advertise-address", address.ip()),
        flag("secure-port", address.port()),
        flag("client-ca-file", pki.ca.display()),
        "--authorization-mode=RBAC".to_owned(),
        "--anonymous-auth=true".to_owned(),
        flag("authentication-token-webhook-config-file", webhook.display()),
        // The default is v1beta1.
        "--authentication-token-webhook-version=v1".to_owned(),
        // Access entries and credentials may change at any time; a test that revokes one must see it.
        "--authentication-token-webhook-cache-ttl=5s".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        flag("service-account-key-file", pki.service_account_public_key.display()),
        flag("service-account-signing-key-file", pki.service_account_key.display()),
        flag("service-cluster-ip-range", SERVICE_NETWORK),
        // An endpoint on loopback is refused by the API, so nobody is to write it.
        "--endpoint-reconciler-type=none".to_owned(),
        flag("requestheader-client-ca-file", pki.front_proxy_ca.display()),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        flag("proxy-client-cert-file", pki.front_proxy.certificate.display()),
        flag("proxy-client-key-file", pki.front_proxy.key.display()),
        flag("egress-selector-config-file", egress.display()),
        "--profiling=false".to_owned(),
    ];
    flags.extend(serving(&pki.serving));
    flags
}

/// Sends what the API server sends into the cluster, such as requests for an aggregated API, through the proxy of the
/// pod network at `socket`. On a cloud this is how a control plane reaches nodes in a network that is not its own.
pub(crate) fn egress(socket: &Path) -> String {
    let config = json!({
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": {
            "proxyProtocol": "HTTPConnect",
            "transport": {"uds": {"udsName": socket}},
        }}],
    });
    format!("{config:#}\n")
}

/// kube-controller-manager. `fast_hpa` makes the autoscaler look every 2 s instead of 15 s.
///
/// The stabilisation of scaling down keeps its default in either case: a manifest that sets one is to be tested as it is.
pub(crate) fn controller_manager(pki: &Pki, kubeconfig: &Path, address: SocketAddr, fast_hpa: bool) -> Vec<String> {
    let mut flags = component(kubeconfig, address);
    flags.extend(serving(&pki.serving));
    flags.extend([
        flag("root-ca-file", pki.ca.display()),
        flag("service-account-private-key-file", pki.service_account_key.display()),
        "--use-service-account-credentials=true".to_owned(),
        flag("service-cluster-ip-range", SERVICE_NETWORK),
    ]);
    if fast_hpa {
        flags.push("--horizontal-pod-autoscaler-sync-period=2s".to_owned());
    }
    flags
}

/// kube-scheduler.
pub(crate) fn scheduler(pki: &Pki, kubeconfig: &Path, address: SocketAddr) -> Vec<String> {
    let mut flags = component(kubeconfig, address);
    flags.extend(serving(&pki.serving));
    flags
}

/// KWOK: plays the kubelet of every node, so that pods become Ready without anything running.
pub(crate) fn kwok(kubeconfig: &Path, stages: &Path, address: SocketAddr) -> Vec<String> {
    vec![
        flag("config", stages.display()),
        flag("kubeconfig", kubeconfig.display()),
        "--manage-all-nodes=true".to_owned(),
        "--node-lease-duration-seconds=40".to_owned(),
        flag("server-address", address),
    ]
}

fn component(kubeconfig: &Path, address: SocketAddr) -> Vec<String> {
    vec![
        flag("kubeconfig", kubeconfig.display()),
        flag("authentication-kubeconfig", kubeconfig.display()),
        flag("authorization-kubeconfig", kubeconfig.display()),
        flag("bind-address", address.ip()),
        flag("secure-port", address.port()),
        // One of each: there is nobody to elect, and an election costs 15 s after a crash.
        "--leader-elect=false".to_owned(),
    ]
}

fn serving(pair: &Pair) -> [String; 2] {
    [
        flag("tls-cert-file", pair.certificate.display()),
        flag("tls-private-key-file", pair.key.display()),
    ]
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}
