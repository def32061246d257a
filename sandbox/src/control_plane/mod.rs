//! A real Kubernetes control plane: etcd, the API server, the controller manager, the scheduler, and KWOK for nodes.

pub(crate) mod client;
pub(crate) mod flags;
pub(crate) mod kubeconfig;
pub(crate) mod nodes;
pub(crate) mod pki;
