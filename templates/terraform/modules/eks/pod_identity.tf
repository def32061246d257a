# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/modules/eks/pod_identity.tf, which then takes its place.

locals {
  # What receives AWS credentials through EKS Pod Identity, by the suffix of its role's name.
  pod_identities = {
    karpenter-controller = { namespace = "kube-system", service_account = "karpenter" }
    ebs-csi              = { namespace = "kube-system", service_account = "ebs-csi-controller-sa" }
    vpc-cni              = { namespace = "kube-system", service_account = "aws-node" }
  }
}

resource "aws_iam_role" "pod" {
  for_each = local.pod_identities

  name        = "${var.name}-${each.key}"
  description = "Pods of ${each.value.namespace}/${each.value.service_account} in ${var.name}"

  # The session tags tie the role to one service account of one cluster: an association made elsewhere in the account cannot take it.
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        StringEquals = {
          "aws:RequestTag/eks-cluster-name"           = var.name
          "aws:RequestTag/kubernetes-namespace"       = each.value.namespace
          "aws:RequestTag/kubernetes-service-account" = each.value.service_account
        }
      }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "ebs_csi" {
  role       = aws_iam_role.pod["ebs-csi"].name
  policy_arn = "${local.aws_managed_policy_path}/service-role/AmazonEBSCSIDriverPolicy"
}

resource "aws_iam_role_policy_attachment" "vpc_cni" {
  role       = aws_iam_role.pod["vpc-cni"].name
  policy_arn = "${local.aws_managed_policy_path}/AmazonEKS_CNI_Policy"
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = local.pod_identities

  cluster_name    = aws_eks_cluster.this.name
  namespace       = each.value.namespace
  service_account = each.value.service_account
  role_arn        = aws_iam_role.pod[each.key].arn

  # An association does not reach pods that run already, and pods without permissions fail until they are restarted.
  depends_on = [
    aws_iam_role_policy.karpenter_controller,
    aws_iam_role_policy_attachment.ebs_csi,
    aws_iam_role_policy_attachment.vpc_cni,
  ]
}
