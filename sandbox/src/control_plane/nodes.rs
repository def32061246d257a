//! The nodes that KWOK plays. On AWS they come with the node group; here they stand from the start.

use serde_json::{Value, json};

use super::client::KubeClient;
use crate::Error;

/// Creates `count` nodes spread over three zones of `region`.
pub(crate) async fn create(client: &KubeClient, count: u32, region: &str) -> Result<(), Error> {
    for index in 0..count {
        client.create("/api/v1/nodes", &node(index, region)).await?;
    }
    Ok(())
}

fn node(index: u32, region: &str) -> Value {
    let name = format!("sandbox-node-{index}");
    let zone = ["a", "b", "c"][index as usize % 3];
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                // Argo CD's pods select these two; without them they stay Pending.
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "node.kubernetes.io/instance-type": "t3.medium",
                "topology.kubernetes.io/region": region,
                "topology.kubernetes.io/zone": format!("{region}{zone}"),
            },
        },
    })
}
