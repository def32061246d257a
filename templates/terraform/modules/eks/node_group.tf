# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/modules/eks/node_group.tf, which then takes its place.

data "aws_ec2_instance_type" "node" {
  for_each = toset(var.instance_types)

  instance_type = each.key
}

locals {
  node_architectures = distinct([
    for kind in data.aws_ec2_instance_type.node : contains(kind.supported_architectures, "arm64") ? "arm64" : "x86_64"
  ])
  node_ami_type = local.node_architectures[0] == "arm64" ? "AL2023_ARM_64_STANDARD" : "AL2023_x86_64_STANDARD"

  # EKS replaces a node group when one of these changes. With them in its name the new group stands before the old one goes.
  node_group_digest = substr(sha256(jsonencode([var.instance_types, var.capacity_type, local.node_ami_type])), 0, 8)
}

resource "aws_iam_role" "node" {
  name        = "${var.name}-node"
  description = "Managed nodes of ${var.name}"

  assume_role_policy = local.node_trust_policy
}

locals {
  node_trust_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.${local.dns_suffix}" }
      Action    = "sts:AssumeRole"
    }]
  })

  # What a node needs to join, to give its pods their roles and to pull images. The CNI's permissions are the CNI's own.
  # AmazonSSMManagedInstanceCore is left out on purpose: it lets a node read every SSM parameter of the account.
  node_policies = toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"])
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = local.node_policies

  role       = aws_iam_role.node.name
  policy_arn = "${local.aws_managed_policy_path}/${each.key}"
}

resource "aws_launch_template" "node" {
  name                   = "${var.name}-node"
  description            = "Managed nodes of ${var.name}"
  update_default_version = true
  vpc_security_group_ids = [aws_security_group.node.id]

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = var.node_disk_size
      encrypted             = true
      delete_on_termination = true
    }
  }

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
    # One hop ends at the node: a pod cannot take the node's role.
    http_put_response_hop_limit = 1
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "network-interface", "volume"]

    content {
      resource_type = tag_specifications.value
      tags          = merge(var.tags, { Name = "${var.name}-node" })
    }
  }

  tags = { Name = "${var.name}-node" }
}

resource "aws_eks_node_group" "this" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "${var.name}-${local.node_group_digest}"
  version         = aws_eks_cluster.this.version
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = [for subnet in aws_subnet.private : subnet.id]
  ami_type        = local.node_ami_type
  capacity_type   = var.capacity_type
  instance_types  = var.instance_types

  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }

  scaling_config {
    min_size     = var.node_min_size
    max_size     = var.node_max_size
    desired_size = var.node_desired_size
  }

  update_config {
    max_unavailable = 1
  }

  lifecycle {
    create_before_destroy = true
    # People and autoscalers set it too.
    ignore_changes = [scaling_config[0].desired_size]

    precondition {
      condition     = length(local.node_architectures) == 1
      error_message = "instance_types mixes arm64 and x86_64 types; a node group has one machine image, so all must be of one architecture."
    }

    precondition {
      condition     = var.node_min_size <= var.node_desired_size && var.node_desired_size <= var.node_max_size
      error_message = "node_desired_size must lie between node_min_size and node_max_size."
    }
  }

  depends_on = [
    aws_eks_addon.before_nodes,
    aws_iam_role_policy_attachment.node,
    # A node joins through the NAT gateway, and leaves before it does.
    aws_route.private_nat,
    aws_route_table_association.private,
    aws_vpc_security_group_egress_rule.node_to_anywhere,
    aws_vpc_security_group_ingress_rule.node_from_cluster,
    aws_vpc_security_group_ingress_rule.node_from_nodes,
  ]
}
