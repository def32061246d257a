# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/modules/eks/addons.tf, which then takes its place.

locals {
  # Needed for a node to become ready. All of them run in the host's network, so they start without one another.
  addons_before_nodes = {
    eks-pod-identity-agent = null
    kube-proxy             = null
    vpc-cni                = jsonencode({ enableNetworkPolicy = "true" })
  }

  # These need a node to run on; EKS reports them degraded for as long as there is none.
  addons_after_nodes = {
    # Volumes that pods claim carry the environment's tags, and so are found when the environment is taken down.
    aws-ebs-csi-driver = jsonencode({ controller = { extraVolumeTags = var.tags } })
    coredns            = null
    metrics-server     = null
  }

  addon_names = toset(concat(keys(local.addons_before_nodes), keys(local.addons_after_nodes)))

  addon_versions = merge(
    { for name, addon in data.aws_eks_addon_version.default : name => addon.version },
    var.addon_versions,
  )
}

# EKS's default for the cluster's version. So an upgrade of the cluster brings its add-ons along, and the plan shows it.
data "aws_eks_addon_version" "default" {
  for_each = setsubtract(local.addon_names, keys(var.addon_versions))

  addon_name         = each.key
  kubernetes_version = var.cluster_version
}

resource "aws_eks_addon" "before_nodes" {
  for_each = local.addons_before_nodes

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = local.addon_versions[each.key]
  configuration_values        = each.value
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  # vpc-cni's pods take their role when they start.
  depends_on = [aws_eks_pod_identity_association.this]
}

resource "aws_eks_addon" "after_nodes" {
  for_each = local.addons_after_nodes

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = local.addon_versions[each.key]
  configuration_values        = each.value
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  depends_on = [
    aws_eks_node_group.this,
    aws_eks_pod_identity_association.this,
  ]
}
