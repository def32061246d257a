# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/modules/eks/cluster.tf, which then takes its place.

locals {
  cluster_log_group_name = "/aws/eks/${var.name}/cluster"
  cluster_log_group_arn  = "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:${local.cluster_log_group_name}"
}

# EKS would make this group on its own, without encryption and without an end to its retention.
resource "aws_cloudwatch_log_group" "cluster" {
  #checkov:skip=CKV_AWS_338:the retention is the setting log_retention_days
  name              = local.cluster_log_group_name
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.this.arn
}

resource "aws_iam_role" "cluster" {
  name        = "${var.name}-cluster"
  description = "Control plane of ${var.name}"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "eks.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "${local.aws_managed_policy_path}/AmazonEKSClusterPolicy"
}

resource "aws_eks_cluster" "this" {
  #checkov:skip=CKV_AWS_37:the log types are the setting control_plane_log_types, by default all of them
  #checkov:skip=CKV_AWS_39:the public endpoint is the setting endpoint_public_access, off by default
  #checkov:skip=CKV_AWS_38:the public endpoint is open to the networks in endpoint_public_access_cidrs only
  name                      = var.name
  version                   = var.cluster_version
  role_arn                  = aws_iam_role.cluster.arn
  enabled_cluster_log_types = var.control_plane_log_types

  # The add-ons are declared in addons.tf, each once and with a version.
  bootstrap_self_managed_addons = false

  access_config {
    authentication_mode = "API"
    # Administrators come from a setting. Were it whoever happens to call, a laptop and CI would fight over the plan.
    bootstrap_cluster_creator_admin_permissions = false
  }

  encryption_config {
    resources = ["secrets"]

    provider {
      key_arn = aws_kms_key.this.arn
    }
  }

  upgrade_policy {
    support_type = var.support_type
  }

  vpc_config {
    subnet_ids              = [for subnet in aws_subnet.intra : subnet.id]
    security_group_ids      = [aws_security_group.cluster.id]
    endpoint_private_access = true
    endpoint_public_access  = var.endpoint_public_access
    public_access_cidrs     = var.endpoint_public_access ? var.endpoint_public_access_cidrs : null
  }

  lifecycle {
    precondition {
      condition     = !var.endpoint_public_access || length(var.endpoint_public_access_cidrs) > 0
      error_message = "endpoint_public_access needs endpoint_public_access_cidrs: the networks that may reach the Kubernetes API."
    }
  }

  depends_on = [
    aws_cloudwatch_log_group.cluster,
    # The control plane works by this policy until its very end, also while it is being deleted.
    aws_iam_role_policy_attachment.cluster,
    aws_route_table_association.intra,
    aws_vpc_security_group_egress_rule.cluster_to_nodes,
    aws_vpc_security_group_ingress_rule.cluster_api_from_nodes,
  ]
}
