use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::{Kubernetes, KubernetesError};

/// A port of this machine's loopback interface that leads to a port of a pod, through the Kubernetes API. It is closed
/// when this is dropped.
#[derive(Debug)]
pub struct ForwardedPort {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl ForwardedPort {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for ForwardedPort {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kubernetes {
    /// Leads to `port` of a ready pod that `selector` (a label selector) picks in `namespace`, as `kubectl port-forward`
    /// does. Every connection picks a pod anew, so that one that goes away is no obstacle.
    ///
    /// # Errors
    /// No such pod is ready, or no port can be listened on.
    pub async fn forward(&self, namespace: &str, selector: &str, port: u16) -> Result<ForwardedPort, KubernetesError> {
        // Told now, where it can be told well, and not by a connection that is closed.
        self.ready_pod(namespace, selector).await?;
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .map_err(KubernetesError::Listen)?;
        let address = listener.local_addr().map_err(KubernetesError::Listen)?;
        let (kubernetes, namespace, selector) = (self.clone(), namespace.to_owned(), selector.to_owned());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (kubernetes, namespace, selector) = (kubernetes.clone(), namespace.clone(), selector.clone());
                connections.spawn(async move {
                    // A connection that cannot be passed on is closed, and its client tells so.
                    if let Ok((client, pod)) = kubernetes.ready_pod(&namespace, &selector).await {
                        pass_on(client, &namespace, &pod, port, connection).await;
                    }
                });
            }
        });
        Ok(ForwardedPort { address, task })
    }

    async fn ready_pod(&self, namespace: &str, selector: &str) -> Result<(Client, String), KubernetesError> {
        let listed = self.retry(|| async {
            let client = self.client().await?;
            let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
            let pods = api.list(&ListParams::default().labels(selector)).await;
            let pods = pods.map_err(|e| KubernetesError::Call {
                verb: "list",
                object: format!("pods {selector} of {namespace}"),
                source: Box::new(e),
            })?;
            Ok((client, pods))
        });
        let (client, pods) = listed.await?;
        let ready = pods.items.into_iter().find(|pod| {
            let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
            pod.metadata.deletion_timestamp.is_none()
                && conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
        });
        match ready.and_then(|pod| pod.metadata.name) {
            Some(name) => Ok((client, name)),
            None => Err(KubernetesError::NoPod {
                selector: selector.to_owned(),
                namespace: namespace.to_owned(),
            }),
        }
    }
}

/// Passes what comes on one side on to the other, until either ends.
async fn pass_on(client: Client, namespace: &str, pod: &str, port: u16, mut connection: TcpStream) {
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let Ok(mut forwarder) = api.portforward(pod, &[port]).await else {
        return;
    };
    if let Some(mut stream) = forwarder.take_stream(port) {
        // Either side may end as it likes.
        let _ = tokio::io::copy_bidirectional(&mut connection, &mut stream).await;
    }
}
