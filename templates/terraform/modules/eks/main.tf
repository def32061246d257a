# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/modules/eks/main.tf, which then takes its place.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  dns_suffix = data.aws_partition.current.dns_suffix
  # `id` is the one attribute with the region's name that no 5.x or 6.x provider lacks or deprecates.
  region = data.aws_region.current.id

  # ARNs are put together from names rather than read from resources, so that a plan shows every policy in full.
  cluster_arn             = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/${var.name}"
  iam_arn_prefix          = "arn:${local.partition}:iam::${local.account_id}"
  aws_managed_policy_path = "arn:${local.partition}:iam::aws:policy"
}
