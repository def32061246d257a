//! Whose a resource is, by what it carries. Nothing is asked here: the same resource always gets the same answer.

use std::collections::{BTreeMap, BTreeSet};

use super::resource::{Resource, ResourceKind};

/// A volume that outlives its cluster because the user said so carries this, with the reason.
pub(super) const KEEP_TAG: &str = "mfsre:keep";

/// On what Terraform makes.
pub(super) const ENVIRONMENT_TAG: &str = "mfsre:environment";

/// What the names of network interfaces of the VPC CNI begin with
/// (<https://github.com/aws/amazon-vpc-cni-k8s/blob/master/pkg/awsutils/awsutils.go>).
const CNI_INTERFACE: &str = "aws-K8S-i-";

/// An environment, as far as it takes to tell what is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its name, which is the cluster's too.
    pub name: String,
    /// Its region.
    pub region: String,
    /// VPCs that were made for it, and hold nothing else.
    pub networks: BTreeSet<String>,
    /// The VPC that EKS says its cluster is in; others may be in it as well.
    pub cluster_network: Option<String>,
}

/// Who made a resource of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// A controller in the cluster, which no state knows of.
    Controller,
    /// EKS, which removes it with the cluster or node group.
    Eks,
    /// Terraform.
    Terraform,
}

/// Whose a resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The environment's.
    Ours(Maker),
    /// The environment's, and kept for this reason.
    Kept(String),
    /// Perhaps the environment's, or in its way; this keeps it from being proved.
    Doubtful(String),
    /// Another's.
    Foreign,
}

/// A tag that names a cluster or environment.
struct Mark<'a> {
    name: &'a str,
    /// Who sets such a tag, on what belongs to this cluster alone; none where it does not prove that.
    maker: Option<Maker>,
}

/// The tags that name clusters: those of the cloud provider and the EBS CSI driver
/// (<https://docs.aws.amazon.com/eks/latest/userguide/network-reqs.html>), the AWS Load Balancer Controller
/// (<https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/deploy/subnet_discovery/>), the VPC CNI, Karpenter
/// (<https://karpenter.sh/docs/concepts/nodeclasses/#spectags>) and EKS itself.
fn marks(tags: &BTreeMap<String, String>) -> Vec<Mark<'_>> {
    let by_terraform = tags.get("mfsre:managed-by").is_some_and(|by| by == "terraform");
    tags.iter()
        .filter_map(|(key, value)| {
            if let Some(cluster) = key.strip_prefix("kubernetes.io/cluster/") {
                return Some(Mark {
                    name: cluster,
                    maker: (value == "owned").then_some(Maker::Controller),
                });
            }
            let maker = match key.as_str() {
                "elbv2.k8s.aws/cluster"
                | "cluster.k8s.amazonaws.com/name"
                | "karpenter.k8s.aws/cluster"
                | "eks:eks-cluster-name" => Some(Maker::Controller),
                "eks:cluster-name" | "aws:eks:cluster-name" => Some(Maker::Eks),
                ENVIRONMENT_TAG if by_terraform => Some(Maker::Terraform),
                ENVIRONMENT_TAG => Some(Maker::Controller),
                // Installations of Kubernetes of any kind set it.
                "KubernetesCluster" => None,
                _ => return None,
            };
            Some(Mark { name: value, maker })
        })
        .collect()
}

/// The keys by which resources are looked for, of this cluster and of others.
pub(super) fn keys(cluster: &str) -> Vec<String> {
    let mut keys = vec![format!("kubernetes.io/cluster/{cluster}")];
    keys.extend(
        [
            "elbv2.k8s.aws/cluster",
            "cluster.k8s.amazonaws.com/name",
            "karpenter.k8s.aws/cluster",
            "eks:eks-cluster-name",
            "eks:cluster-name",
            "aws:eks:cluster-name",
            ENVIRONMENT_TAG,
        ]
        .map(str::to_owned),
    );
    keys
}

impl Owner {
    /// Whose `resource` is. A proof is a tag that only what belongs to this cluster carries, or a name that only it has,
    /// and nothing that speaks against it: no tag of another cluster, no other network, no other region.
    #[must_use]
    pub fn judge(&self, resource: &Resource) -> Verdict {
        // The default group of a VPC goes with it, and cannot be removed before.
        if resource.kind == ResourceKind::SecurityGroup && resource.detail == "default" {
            return Verdict::Foreign;
        }
        let marks = marks(&resource.tags);
        let others: BTreeSet<&str> = marks.iter().map(|m| m.name).filter(|n| *n != self.name).collect();
        let makers: Vec<Maker> = marks
            .iter()
            .filter(|m| m.name == self.name)
            .filter_map(|m| m.maker)
            .collect();
        let in_network = resource.vpc.as_ref().is_some_and(|vpc| self.networks.contains(vpc));
        if makers.is_empty() && !self.is_named(resource) {
            return if in_network {
                self.judge_unmarked(resource, &others)
            } else {
                Verdict::Foreign
            };
        }
        if !others.is_empty() {
            let others: Vec<&str> = others.into_iter().collect();
            return Verdict::Doubtful(format!("its tags name {} as well", others.join(", ")));
        }
        if let Some(vpc) = &resource.vpc
            && !in_network
            && self.cluster_network.as_ref() != Some(vpc)
        {
            return Verdict::Doubtful(format!("it is in {vpc}, which is not the environment's network"));
        }
        // IAM is the same in every region, and clusters of this name may be in others.
        if resource.kind == ResourceKind::InstanceProfile {
            match resource.tags.get("topology.kubernetes.io/region") {
                Some(region) if *region == self.region => {}
                Some(_) => return Verdict::Foreign,
                None => return Verdict::Doubtful("nothing tells of which region it is".into()),
            }
        }
        if let Some(reason) = resource.tags.get(KEEP_TAG) {
            return Verdict::Kept(reason.clone());
        }
        Verdict::Ours(maker(resource, &makers))
    }

    /// In the environment's own network, without a tag that proves anything.
    fn judge_unmarked(&self, resource: &Resource, others: &BTreeSet<&str>) -> Verdict {
        if !others.is_empty() {
            let others: Vec<&str> = others.iter().copied().collect();
            return Verdict::Doubtful(format!(
                "it is in the environment's network, and its tags name {}",
                others.join(", ")
            ));
        }
        if resource.kind == ResourceKind::NetworkInterface && resource.detail.starts_with(CNI_INTERFACE) {
            return Verdict::Ours(Maker::Controller);
        }
        // It goes with what it was made for, which is looked for itself.
        if resource.managed_by_service {
            return Verdict::Foreign;
        }
        Verdict::Doubtful("it is in the environment's network, and nothing tells whose it is".into())
    }

    /// Whether its name alone is the environment's.
    fn is_named(&self, resource: &Resource) -> bool {
        match resource.kind {
            ResourceKind::LogGroup => log_groups(&self.name).contains(&resource.id),
            ResourceKind::Role => roles(&self.name).contains(&resource.id),
            ResourceKind::Cluster => resource.id == self.name,
            _ => false,
        }
    }
}

fn maker(resource: &Resource, makers: &[Maker]) -> Maker {
    let by_karpenter = ["karpenter.sh/nodepool", "karpenter.k8s.aws/ec2nodeclass"];
    if by_karpenter.iter().any(|key| resource.tags.contains_key(*key)) {
        return Maker::Controller;
    }
    [Maker::Terraform, Maker::Eks]
        .into_iter()
        .find(|maker| makers.contains(maker))
        .unwrap_or(Maker::Controller)
}

/// Log groups that EKS, the blueprint and CloudWatch's agent name after the cluster
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Container-Insights-reference-performance-logs-EKS.html>).
pub(super) fn log_groups(cluster: &str) -> Vec<String> {
    let insights = ["application", "dataplane", "host", "performance", "prometheus"];
    [
        format!("/aws/eks/{cluster}/cluster"),
        format!("/aws/vpc/{cluster}/flow-logs"),
    ]
    .into_iter()
    .chain(insights.map(|kind| format!("/aws/containerinsights/{cluster}/{kind}")))
    .collect()
}

/// Roles that the blueprints name after the cluster.
pub(super) fn roles(cluster: &str) -> Vec<String> {
    [
        "cluster",
        "node",
        "karpenter-controller",
        "karpenter-node",
        "ebs-csi",
        "vpc-cni",
        "flow-logs",
    ]
    .map(|role| format!("{cluster}-{role}"))
    .to_vec()
}
