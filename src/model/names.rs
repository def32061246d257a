use serde::Serialize;

use super::EnvironmentName;

/// Every physical name of an environment, each a function of its name alone, so that what is committed to Git can be
/// rendered before anything exists on AWS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Names {
    /// The EKS cluster.
    pub cluster: String,
    /// The IAM role that Karpenter's controller runs as.
    pub karpenter_controller_role: String,
    /// The IAM role of the nodes that Karpenter starts.
    pub karpenter_node_role: String,
    /// The SQS queue of interruption notices.
    pub karpenter_queue: String,
    /// The Secrets Manager secret that holds the Argo CD admin password.
    pub argocd_secret: String,
    /// The SSM parameter that holds the deploy key's private part.
    pub deploy_key: String,
    /// The SSM parameter that holds the deploy key's public part.
    pub deploy_key_public: String,
    /// The SSM parameter that holds the private part of the next deploy key while a rotation is under way.
    pub deploy_key_pending: String,
    /// The SSM parameter that names the command which is at work on the environment.
    pub lock: String,
}

impl Names {
    /// The names of the environment `name`.
    #[must_use]
    pub fn of(name: &EnvironmentName) -> Self {
        Self {
            cluster: name.to_string(),
            karpenter_controller_role: format!("{name}-karpenter-controller"),
            karpenter_node_role: format!("{name}-karpenter-node"),
            karpenter_queue: format!("{name}-karpenter"),
            argocd_secret: format!("{name}/argocd"),
            deploy_key: format!("/{name}/argocd/deploy-key"),
            deploy_key_public: format!("/{name}/argocd/deploy-key.pub"),
            deploy_key_pending: format!("/{name}/argocd/deploy-key/pending"),
            lock: format!("/{name}/mfsre/lock"),
        }
    }
}
