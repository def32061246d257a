# Made by mfsre. Keep your own version of this file in your project as templates/terraform/modules/eks/tests/contract.tftest.hcl to change it.

# Applies against a mock, to see that every output of the contract has a value of the right form.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }

  mock_data "aws_region" {
    defaults = { id = "cn-north-1" }
  }

  mock_data "aws_availability_zones" {
    defaults = { names = ["cn-north-1a", "cn-north-1b", "cn-north-1d"] }
  }

  mock_data "aws_ec2_instance_type" {
    defaults = { supported_architectures = ["x86_64"] }
  }

  mock_data "aws_eks_addon_version" {
    defaults = { version = "v1.0.0-eksbuild.1" }
  }

  mock_resource "aws_eks_cluster" {
    defaults = { certificate_authority = [{ data = "bW9jaw==" }] }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws-cn:iam::111122223333:role/mock" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws-cn:kms:cn-north-1:111122223333:key/mock", key_id = "mock" }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws-cn:sqs:cn-north-1:111122223333:mock" }
  }

  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
}

variables {
  name            = "demo"
  cluster_version = "1.34"
  administrators  = ["arn:aws-cn:iam::111122223333:role/platform"]
}

run "outputs" {
  assert {
    condition = (
      output.cluster_name == "demo"
      && output.cluster_version == "1.34"
      && output.region == "cn-north-1"
      && output.node_role_name == "demo-node"
      && output.karpenter_node_role_name == "demo-karpenter-node"
      && output.karpenter_controller_role_name == "demo-karpenter-controller"
      && output.karpenter_queue_name == "demo-karpenter"
      && output.kms_key_arn == "arn:aws-cn:kms:cn-north-1:111122223333:key/mock"
    )
    error_message = "The outputs must hold the names that Git already refers to."
  }

  assert {
    condition     = alltrue([for value in [output.cluster_arn, output.cluster_endpoint, output.cluster_certificate_authority_data, output.vpc_id, output.node_security_group_id] : length(value) > 0]) && length(output.private_subnet_ids) == 3
    error_message = "Every output of the contract has a value."
  }
}

run "other_partitions" {
  assert {
    condition     = alltrue([for association in aws_eks_access_policy_association.administrator : startswith(association.policy_arn, "arn:aws-cn:eks::aws:")])
    error_message = "ARNs follow the partition."
  }

  assert {
    condition     = jsondecode(aws_iam_role.node.assume_role_policy).Statement[0].Principal.Service == "ec2.amazonaws.com.cn"
    error_message = "EC2's service principal follows the partition."
  }
}
