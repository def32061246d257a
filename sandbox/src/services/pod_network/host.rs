//! Which Service a host name means.

/// The namespace of a name that has none. A pod's resolver would add its own; of the pods that run for real, those of
/// this namespace look Services up by name alone.
const NAMESPACE: &str = "workloads";

/// Namespace and name of the Service that `host` means: `NAME`, `NAME.NAMESPACE`, `NAME.NAMESPACE.svc` or
/// `NAME.NAMESPACE.svc.cluster.local`, as a pod may write it.
pub(super) fn service(host: &str) -> Option<(String, String)> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    let (name, namespace) = match labels[..] {
        [name] => (name, NAMESPACE),
        [name, namespace] | [name, namespace, "svc"] | [name, namespace, "svc", "cluster", "local"] => {
            (name, namespace)
        }
        _ => return None,
    };
    (!name.is_empty() && !namespace.is_empty()).then(|| (namespace.to_owned(), name.to_owned()))
}
