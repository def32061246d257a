# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/modules/eks/security_groups.tf, which then takes its place.

# Worn by the control plane's network interfaces, beside the group that EKS makes for itself.
resource "aws_security_group" "cluster" {
  name        = "${var.name}-cluster"
  description = "Control plane of ${var.name}"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-cluster" }
}

# Worn by every node, managed or made by Karpenter, which finds it by its tag.
resource "aws_security_group" "node" {
  name        = "${var.name}-node"
  description = "Nodes and pods of ${var.name}"
  vpc_id      = aws_vpc.this.id

  tags = {
    Name                                = "${var.name}-node"
    "karpenter.sh/discovery"            = var.name
    "kubernetes.io/cluster/${var.name}" = "owned"
  }
}

resource "aws_vpc_security_group_ingress_rule" "cluster_api_from_nodes" {
  security_group_id            = aws_security_group.cluster.id
  description                  = "Kubernetes API for nodes and pods"
  referenced_security_group_id = aws_security_group.node.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443

  tags = { Name = "${var.name}-cluster-api-from-nodes" }
}

resource "aws_vpc_security_group_ingress_rule" "cluster_api_from_networks" {
  for_each = toset(var.endpoint_private_access_cidrs)

  security_group_id = aws_security_group.cluster.id
  description       = "Kubernetes API for a named network"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443

  tags = { Name = "${var.name}-cluster-api-from-${each.key}" }
}

locals {
  kubelet_port = 10250
  # for_each wants strings.
  control_plane_to_node_ports = toset([for port in concat([local.kubelet_port], var.webhook_ports) : tostring(port)])
}

resource "aws_vpc_security_group_egress_rule" "cluster_to_nodes" {
  for_each = local.control_plane_to_node_ports

  security_group_id            = aws_security_group.cluster.id
  description                  = each.key == tostring(local.kubelet_port) ? "Kubelet" : "Webhooks and aggregated APIs on ${each.key}"
  referenced_security_group_id = aws_security_group.node.id
  ip_protocol                  = "tcp"
  from_port                    = tonumber(each.key)
  to_port                      = tonumber(each.key)

  tags = { Name = "${var.name}-cluster-to-nodes-${each.key}" }
}

resource "aws_vpc_security_group_ingress_rule" "node_from_cluster" {
  for_each = local.control_plane_to_node_ports

  security_group_id            = aws_security_group.node.id
  description                  = each.key == tostring(local.kubelet_port) ? "Kubelet, from the control plane" : "Webhooks and aggregated APIs on ${each.key}, from the control plane"
  referenced_security_group_id = aws_security_group.cluster.id
  ip_protocol                  = "tcp"
  from_port                    = tonumber(each.key)
  to_port                      = tonumber(each.key)

  tags = { Name = "${var.name}-node-from-cluster-${each.key}" }
}

# Kubernetes expects that any pod can reach any other; what may talk to what is for network policies, which the vpc-cni add-on enforces.
resource "aws_vpc_security_group_ingress_rule" "node_from_nodes" {
  security_group_id            = aws_security_group.node.id
  description                  = "Nodes and pods among themselves"
  referenced_security_group_id = aws_security_group.node.id
  ip_protocol                  = "-1"

  tags = { Name = "${var.name}-node-from-nodes" }
}

# Images, AWS APIs, Git over SSH or HTTPS, and whatever the workloads call. Network policies narrow it for each workload.
resource "aws_vpc_security_group_egress_rule" "node_to_anywhere" {
  #checkov:skip=CKV_AWS_382:workloads call services outside the VPC on ports of their own; network policies restrict them
  security_group_id = aws_security_group.node.id
  description       = "Out of the VPC"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"

  tags = { Name = "${var.name}-node-to-anywhere" }
}
