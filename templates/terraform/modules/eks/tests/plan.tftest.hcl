# Made by mfsre. Keep your own version of this file in your project as templates/terraform/modules/eks/tests/plan.tftest.hcl to change it.

# Plans with the real provider, so that its own checks take part, and without AWS: whatever it would ask is answered below, and
# a plan of new resources asks nothing more.

provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "111122223333" }
}

override_data {
  target = data.aws_availability_zones.this
  values = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c", "eu-west-1d"] }
}

override_data {
  target = data.aws_ec2_instance_type.node
  values = { supported_architectures = ["x86_64"] }
}

override_data {
  target = data.aws_eks_addon_version.default
  values = { version = "v1.0.0-eksbuild.1" }
}

variables {
  name            = "demo"
  cluster_version = "1.34"
  administrators  = ["arn:aws:iam::111122223333:role/platform", "arn:aws:iam::444455556666:user/path/ada"]
}

run "administrators_come_from_the_setting_alone" {
  command = plan

  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    error_message = "Only access entries may let anybody in, and not whoever creates the cluster."
  }

  assert {
    condition     = toset([for entry in aws_eks_access_entry.administrator : entry.principal_arn]) == toset(var.administrators)
    error_message = "Every administrator has an access entry, and nobody else."
  }

  assert {
    condition = alltrue([
      for association in aws_eks_access_policy_association.administrator :
      association.policy_arn == "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy" && association.access_scope[0].type == "cluster"
    ]) && length(aws_eks_access_policy_association.administrator) == length(var.administrators)
    error_message = "Administrators administer the whole cluster."
  }
}

run "api_endpoint_is_private_by_default" {
  command = plan

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "Without a setting the Kubernetes API is reachable from the VPC alone."
  }
}

run "private_endpoint_is_open_to_the_named_networks" {
  command = plan

  variables {
    endpoint_private_access_cidrs = ["10.8.0.0/24"]
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.cluster_api_from_networks : "${rule.cidr_ipv4} ${rule.from_port}"] == ["10.8.0.0/24 443"]
    error_message = "A named network reaches the API, and nothing else."
  }
}

run "public_endpoint_is_open_to_the_named_networks" {
  command = plan

  variables {
    endpoint_public_access       = true
    endpoint_public_access_cidrs = ["203.0.113.0/24"]
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && toset(aws_eks_cluster.this.vpc_config[0].public_access_cidrs) == toset(["203.0.113.0/24"])
    error_message = "The public endpoint is for the named networks, beside the private one."
  }
}

run "public_endpoint_without_networks_is_refused" {
  command = plan

  variables {
    endpoint_public_access = true
  }

  expect_failures = [aws_eks_cluster.this]
}

run "names_are_functions_of_the_name" {
  command = plan

  assert {
    condition = (
      aws_eks_cluster.this.name == "demo"
      && aws_iam_role.cluster.name == "demo-cluster"
      && aws_iam_role.node.name == "demo-node"
      && aws_iam_role.karpenter_node.name == "demo-karpenter-node"
      && aws_iam_role.pod["karpenter-controller"].name == "demo-karpenter-controller"
      && aws_iam_role.pod["ebs-csi"].name == "demo-ebs-csi"
      && aws_iam_role.pod["vpc-cni"].name == "demo-vpc-cni"
      && aws_sqs_queue.karpenter.name == "demo-karpenter"
      && aws_cloudwatch_log_group.cluster.name == "/aws/eks/demo/cluster"
    )
    error_message = "What Git refers to must be computable from the name alone."
  }
}

run "longest_name_fits" {
  command = plan

  variables {
    name = "abcdefghijklmnopqrstuvwxyz-01234"
  }

  assert {
    condition = (
      alltrue([for rule in aws_cloudwatch_event_rule.karpenter : length(rule.name) <= 64])
      && alltrue([for role in aws_iam_role.pod : length(role.name) <= 64])
      && length(aws_eks_node_group.this.node_group_name) <= 63
    )
    error_message = "EventBridge and IAM allow 64 characters, a node group 63."
  }
}

run "subnets_fit_the_smallest_vpc" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.0/20"
  }

  assert {
    condition     = [for subnet in aws_subnet.private : subnet.cidr_block] == ["10.0.0.0/22", "10.0.4.0/22", "10.0.8.0/22"]
    error_message = "Private subnets take three quarters."
  }

  assert {
    condition     = [for subnet in aws_subnet.public : subnet.cidr_block] == ["10.0.12.0/25", "10.0.12.128/25", "10.0.13.0/25"]
    error_message = "Public subnets take three eighths of the last quarter."
  }

  assert {
    condition     = [for subnet in aws_subnet.intra : subnet.cidr_block] == ["10.0.13.128/28", "10.0.13.144/28", "10.0.13.160/28"]
    error_message = "Intra subnets have 16 addresses each, the fewest that AWS allows and EKS recommends."
  }
}

run "subnets_of_the_largest_vpc" {
  command = plan

  assert {
    condition = (
      [for subnet in aws_subnet.private : subnet.cidr_block] == ["10.0.0.0/18", "10.0.64.0/18", "10.0.128.0/18"]
      && [for subnet in aws_subnet.public : subnet.cidr_block] == ["10.0.192.0/21", "10.0.200.0/21", "10.0.208.0/21"]
      && [for subnet in aws_subnet.intra : subnet.cidr_block] == ["10.0.216.0/24", "10.0.217.0/24", "10.0.218.0/24"]
    )
    error_message = "The split of a /16 is that of the README."
  }

  assert {
    condition     = keys(aws_subnet.private) == ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
    error_message = "Three Availability Zones, the first by name."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.private : subnet.tags["karpenter.sh/discovery"] == "demo" && subnet.tags["kubernetes.io/role/internal-elb"] == "1" && subnet.tags["kubernetes.io/cluster/demo"] == "shared"])
    error_message = "Karpenter and internal load balancers find the private subnets."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.public : subnet.tags["kubernetes.io/role/elb"] == "1" && !subnet.map_public_ip_on_launch && !contains(keys(subnet.tags), "karpenter.sh/discovery")])
    error_message = "Public subnets are for load balancers, not for nodes."
  }
}

run "region_with_two_zones_is_refused" {
  command = plan

  override_data {
    target = data.aws_availability_zones.this
    values = { names = ["us-west-1a", "us-west-1c"] }
  }

  expect_failures = [data.aws_availability_zones.this]
}

run "nat_gateways_single" {
  command = plan

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route.private_nat) == 3
    error_message = "One NAT gateway serves the private subnets of all zones."
  }
}

run "nat_gateways_per_az" {
  command = plan

  variables {
    nat_gateways = "per_az"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 3 && length(aws_route.private_nat) == 3
    error_message = "Every zone has a NAT gateway of its own."
  }
}

run "addons_before_and_after_nodes" {
  command = plan

  # That nodes depend on the first and the second on nodes cannot be asserted here; the plan's configuration shows it.
  assert {
    condition     = keys(aws_eks_addon.before_nodes) == ["eks-pod-identity-agent", "kube-proxy", "vpc-cni"]
    error_message = "A node becomes ready only with these."
  }

  assert {
    condition     = keys(aws_eks_addon.after_nodes) == ["aws-ebs-csi-driver", "coredns", "metrics-server"]
    error_message = "These run on nodes."
  }

  assert {
    condition     = !aws_eks_cluster.this.bootstrap_self_managed_addons
    error_message = "EKS must not install unmanaged copies of the add-ons."
  }
}

run "addon_version_can_be_set" {
  command = plan

  variables {
    addon_versions = { coredns = "v9.9.9-eksbuild.1" }
  }

  assert {
    condition     = aws_eks_addon.after_nodes["coredns"].addon_version == "v9.9.9-eksbuild.1" && aws_eks_addon.before_nodes["vpc-cni"].addon_version == "v1.0.0-eksbuild.1"
    error_message = "A set version wins, the others follow EKS's default."
  }
}

run "tags_reach_what_the_provider_does_not_tag" {
  command = plan

  variables {
    tags = { "mfsre:environment" = "demo" }
  }

  assert {
    condition     = alltrue([for specification in aws_launch_template.node.tag_specifications : specification.tags["mfsre:environment"] == "demo"]) && toset(aws_launch_template.node.tag_specifications[*].resource_type) == toset(["instance", "network-interface", "volume"])
    error_message = "Nodes, their volumes and network interfaces are tagged."
  }

  assert {
    condition     = jsondecode(aws_eks_addon.after_nodes["aws-ebs-csi-driver"].configuration_values).controller.extraVolumeTags["mfsre:environment"] == "demo"
    error_message = "Volumes that pods claim are tagged."
  }
}

run "nodes_are_private_and_hardened" {
  command = plan

  assert {
    condition     = aws_launch_template.node.metadata_options[0].http_tokens == "required" && aws_launch_template.node.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "IMDSv2 only, and out of reach of pods."
  }

  assert {
    condition     = tobool(aws_launch_template.node.block_device_mappings[0].ebs[0].encrypted)
    error_message = "Root volumes are encrypted."
  }

  assert {
    condition     = toset([for attachment in aws_iam_role_policy_attachment.node : attachment.policy_arn]) == toset(["arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy", "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly"])
    error_message = "A node's role joins, pulls images, and no more."
  }
}

run "node_group_is_replaced_beside_the_old_one" {
  command = plan

  variables {
    instance_types = ["m7g.large"]
    capacity_type  = "ON_DEMAND"
  }

  override_data {
    target = data.aws_ec2_instance_type.node
    values = { supported_architectures = ["arm64"] }
  }

  assert {
    condition     = aws_eks_node_group.this.ami_type == "AL2023_ARM_64_STANDARD"
    error_message = "The machine image follows the architecture of the instance types."
  }

  assert {
    condition     = aws_eks_node_group.this.node_group_name != "demo-eb47d5fc"
    error_message = "Another name lets the new group stand before the old one goes."
  }
}

run "desired_size_out_of_bounds_is_refused" {
  command = plan

  variables {
    node_desired_size = 9
  }

  expect_failures = [aws_eks_node_group.this]
}

run "control_plane_reaches_only_kubelets_and_webhooks" {
  command = plan

  assert {
    condition     = toset([for rule in aws_vpc_security_group_egress_rule.cluster_to_nodes : rule.from_port]) == toset([443, 6443, 8443, 9443, 10250, 10251])
    error_message = "The control plane reaches kubelets and webhooks."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.cluster_api_from_nodes.from_port == 443 && aws_vpc_security_group_ingress_rule.cluster_api_from_nodes.cidr_ipv4 == null
    error_message = "Nodes reach the API, and no address range does."
  }
}

run "karpenter_nodes_may_join" {
  command = plan

  assert {
    condition     = aws_eks_access_entry.karpenter_node.type == "EC2_LINUX"
    error_message = "Without an EC2_LINUX access entry Karpenter's nodes are turned away."
  }
}

run "karpenter_controller_has_scoped_permissions" {
  command = plan

  # IAM's limit for all inline policies of a role.
  assert {
    condition     = sum([for policy in aws_iam_role_policy.karpenter_controller : length(policy.policy)]) <= 10240
    error_message = "The controller's policies are too long for its role."
  }

  assert {
    condition = alltrue(flatten([
      for policy in aws_iam_role_policy.karpenter_controller : [
        for statement in jsondecode(policy.policy).Statement : can(statement.Condition.StringEquals["aws:ResourceTag/kubernetes.io/cluster/demo"])
        if anytrue([for action in flatten([statement.Action]) : can(regex("^(ec2:(Terminate|Delete)|iam:(Add|Delete|Remove|Tag))", action))])
      ]
    ]))
    error_message = "Karpenter may change and delete only what carries this cluster's tag."
  }

  assert {
    condition = alltrue(flatten([
      for policy in aws_iam_role_policy.karpenter_controller : [
        for statement in jsondecode(policy.policy).Statement : alltrue([
          for action in flatten([statement.Action]) : can(regex("^(ec2:Describe|pricing:GetProducts|iam:ListInstanceProfiles|arc-zonal-shift:GetManagedResource)", action))
        ])
        if contains(flatten([statement.Resource]), "*")
      ]
    ]))
    error_message = "Only reading actions that know no resources may be allowed on all resources."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.karpenter_controller["instance-profiles"].policy).Statement : statement.Resource if statement.Action == "iam:PassRole"] == ["arn:aws:iam::111122223333:role/demo-karpenter-node"]
    error_message = "Karpenter passes the role of its nodes and no other."
  }
}

run "pod_roles_belong_to_one_service_account" {
  command = plan

  assert {
    condition = alltrue([
      for key, role in aws_iam_role.pod : jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals == {
        "aws:RequestTag/eks-cluster-name"           = "demo"
        "aws:RequestTag/kubernetes-namespace"       = aws_eks_pod_identity_association.this[key].namespace
        "aws:RequestTag/kubernetes-service-account" = aws_eks_pod_identity_association.this[key].service_account
      }
    ])
    error_message = "No other service account or cluster may take a pod's role."
  }
}

run "interruption_queue" {
  command = plan

  assert {
    condition     = aws_sqs_queue.karpenter.sqs_managed_sse_enabled && aws_sqs_queue.karpenter.message_retention_seconds == 300
    error_message = "The queue is encrypted and forgets after five minutes."
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_sqs_queue.karpenter.policy).Statement :
      statement.Effect == "Deny" && try(statement.Condition.Bool["aws:SecureTransport"] == "false", false)
    ])
    error_message = "The queue refuses plain HTTP."
  }

  assert {
    condition = toset(flatten([for rule in aws_cloudwatch_event_rule.karpenter : jsondecode(rule.event_pattern)["detail-type"]])) == toset([
      "AWS Health Event",
      "EC2 Capacity Reservation Instance Interruption Warning",
      "EC2 Instance Rebalance Recommendation",
      "EC2 Instance State-change Notification",
      "EC2 Spot Instance Interruption Warning",
    ])
    error_message = "Karpenter hears of everything that can take a node away."
  }

  assert {
    condition = toset(jsondecode(aws_sqs_queue.karpenter.policy).Statement[0].Condition.ArnEquals["aws:SourceArn"]) == toset([
      for rule in aws_cloudwatch_event_rule.karpenter : "arn:aws:events:eu-west-1:111122223333:rule/${rule.name}"
    ])
    error_message = "Exactly these rules may send to the queue."
  }
}

run "secrets_and_logs_are_encrypted" {
  command = plan

  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 7
    error_message = "The key rotates, and goes seven days after a destroy."
  }

  assert {
    condition     = toset(aws_eks_cluster.this.encryption_config[0].resources) == toset(["secrets"])
    error_message = "Kubernetes Secrets are encrypted with the key."
  }

  assert {
    condition     = length(aws_eks_cluster.this.enabled_cluster_log_types) == 5 && aws_cloudwatch_log_group.cluster.retention_in_days == 90
    error_message = "All logs of the control plane are kept, for 90 days."
  }
}

run "flow_logs_are_off_by_default" {
  command = plan

  assert {
    condition     = length(aws_flow_log.this) == 0 && length(aws_cloudwatch_log_group.flow_logs) == 0
    error_message = "Flow logs cost money and are made on request."
  }
}

run "flow_logs_on_request" {
  command = plan

  variables {
    flow_logs = true
  }

  assert {
    condition     = length(aws_flow_log.this) == 1 && aws_cloudwatch_log_group.flow_logs[0].name == "/aws/vpc/demo/flow-logs"
    error_message = "Flow logs go to a log group of their own."
  }
}

run "support_type" {
  command = plan

  assert {
    condition     = aws_eks_cluster.this.upgrade_policy[0].support_type == "STANDARD"
    error_message = "Extended support is paid for only when it was asked for."
  }
}
