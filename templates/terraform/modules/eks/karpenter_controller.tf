# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/modules/eks/karpenter_controller.tf, which then takes its place.

# Permissions of Karpenter's controller, after the policies that Karpenter v1 publishes in its getting-started template. What it
# makes it must tag with this cluster, and only what carries these tags can it change or delete.

locals {
  ec2_arn_prefix       = "arn:${local.partition}:ec2:${local.region}"
  instance_profile_arn = "${local.iam_arn_prefix}:instance-profile/*"

  karpenter_owned_request = {
    "aws:RequestTag/kubernetes.io/cluster/${var.name}" = "owned"
    "aws:RequestTag/eks:eks-cluster-name"              = var.name
  }
  karpenter_owned_resource = { "aws:ResourceTag/kubernetes.io/cluster/${var.name}" = "owned" }

  karpenter_created_arns = [
    for kind in ["fleet", "instance", "launch-template", "network-interface", "spot-instances-request", "volume"] :
    "${local.ec2_arn_prefix}:*:${kind}/*"
  ]

  karpenter_controller_policies = {
    nodes = [
      {
        Sid    = "UseImagesNetworksAndReservations"
        Effect = "Allow"
        Action = ["ec2:CreateFleet", "ec2:RunInstances"]
        Resource = [
          "${local.ec2_arn_prefix}::image/*",
          "${local.ec2_arn_prefix}::snapshot/*",
          "${local.ec2_arn_prefix}:*:capacity-reservation/*",
          "${local.ec2_arn_prefix}:*:placement-group/*",
          "${local.ec2_arn_prefix}:*:security-group/*",
          "${local.ec2_arn_prefix}:*:subnet/*",
        ]
      },
      {
        Sid      = "UseOwnLaunchTemplates"
        Effect   = "Allow"
        Action   = ["ec2:CreateFleet", "ec2:RunInstances"]
        Resource = "${local.ec2_arn_prefix}:*:launch-template/*"
        Condition = {
          StringEquals = local.karpenter_owned_resource
          StringLike   = { "aws:ResourceTag/karpenter.sh/nodepool" = "*" }
        }
      },
      {
        Sid      = "CreateWithTags"
        Effect   = "Allow"
        Action   = ["ec2:CreateFleet", "ec2:CreateLaunchTemplate", "ec2:RunInstances"]
        Resource = local.karpenter_created_arns
        Condition = {
          StringEquals = local.karpenter_owned_request
          StringLike   = { "aws:RequestTag/karpenter.sh/nodepool" = "*" }
        }
      },
      {
        Sid      = "TagWhatIsBeingCreated"
        Effect   = "Allow"
        Action   = "ec2:CreateTags"
        Resource = local.karpenter_created_arns
        Condition = {
          StringEquals = merge(local.karpenter_owned_request, {
            "ec2:CreateAction" = ["CreateFleet", "CreateLaunchTemplate", "RunInstances"]
          })
          StringLike = { "aws:RequestTag/karpenter.sh/nodepool" = "*" }
        }
      },
      {
        Sid      = "TagOwnInstances"
        Effect   = "Allow"
        Action   = "ec2:CreateTags"
        Resource = "${local.ec2_arn_prefix}:*:instance/*"
        Condition = {
          StringEquals                = local.karpenter_owned_resource
          StringLike                  = { "aws:ResourceTag/karpenter.sh/nodepool" = "*" }
          StringEqualsIfExists        = { "aws:RequestTag/eks:eks-cluster-name" = var.name }
          "ForAllValues:StringEquals" = { "aws:TagKeys" = ["eks:eks-cluster-name", "karpenter.sh/nodeclaim", "Name"] }
        }
      },
      {
        Sid      = "DeleteOwn"
        Effect   = "Allow"
        Action   = ["ec2:DeleteLaunchTemplate", "ec2:TerminateInstances"]
        Resource = ["${local.ec2_arn_prefix}:*:instance/*", "${local.ec2_arn_prefix}:*:launch-template/*"]
        Condition = {
          StringEquals = local.karpenter_owned_resource
          StringLike   = { "aws:ResourceTag/karpenter.sh/nodepool" = "*" }
        }
      },
    ]

    instance-profiles = [
      {
        Sid       = "PassNodeRoleToEC2"
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = "${local.iam_arn_prefix}:role/${var.name}-karpenter-node"
        Condition = { StringEquals = { "iam:PassedToService" = "ec2.${local.dns_suffix}" } }
      },
      {
        Sid      = "CreateWithTags"
        Effect   = "Allow"
        Action   = "iam:CreateInstanceProfile"
        Resource = local.instance_profile_arn
        Condition = {
          StringEquals = merge(local.karpenter_owned_request, { "aws:RequestTag/topology.kubernetes.io/region" = local.region })
          StringLike   = { "aws:RequestTag/karpenter.k8s.aws/ec2nodeclass" = "*" }
        }
      },
      {
        Sid      = "TagOwn"
        Effect   = "Allow"
        Action   = "iam:TagInstanceProfile"
        Resource = local.instance_profile_arn
        Condition = {
          StringEquals = merge(local.karpenter_owned_request, local.karpenter_owned_resource, {
            "aws:RequestTag/topology.kubernetes.io/region"  = local.region
            "aws:ResourceTag/topology.kubernetes.io/region" = local.region
          })
          StringLike = {
            "aws:RequestTag/karpenter.k8s.aws/ec2nodeclass"  = "*"
            "aws:ResourceTag/karpenter.k8s.aws/ec2nodeclass" = "*"
          }
        }
      },
      {
        Sid      = "ChangeOwn"
        Effect   = "Allow"
        Action   = ["iam:AddRoleToInstanceProfile", "iam:DeleteInstanceProfile", "iam:RemoveRoleFromInstanceProfile"]
        Resource = local.instance_profile_arn
        Condition = {
          StringEquals = merge(local.karpenter_owned_resource, { "aws:ResourceTag/topology.kubernetes.io/region" = local.region })
          StringLike   = { "aws:ResourceTag/karpenter.k8s.aws/ec2nodeclass" = "*" }
        }
      },
      {
        Sid      = "Read"
        Effect   = "Allow"
        Action   = "iam:GetInstanceProfile"
        Resource = local.instance_profile_arn
      },
      {
        # IAM lists them all or not at all.
        Sid      = "List"
        Effect   = "Allow"
        Action   = "iam:ListInstanceProfiles"
        Resource = "*"
      },
    ]

    discovery = [
      {
        # EC2's Describe actions know no resources; the region is as narrow as they get.
        Sid    = "ReadRegion"
        Effect = "Allow"
        Action = [
          "ec2:DescribeCapacityReservations",
          "ec2:DescribeImages",
          "ec2:DescribeInstances",
          "ec2:DescribeInstanceStatus",
          "ec2:DescribeInstanceTypeOfferings",
          "ec2:DescribeInstanceTypes",
          "ec2:DescribeLaunchTemplates",
          "ec2:DescribePlacementGroups",
          "ec2:DescribeSecurityGroups",
          "ec2:DescribeSpotPriceHistory",
          "ec2:DescribeSubnets",
        ]
        Resource  = "*"
        Condition = { StringEquals = { "aws:RequestedRegion" = local.region } }
      },
      {
        # AWS's public parameters, which name the current machine images. No account id: the account's own are out of reach.
        Sid      = "ReadImageParameters"
        Effect   = "Allow"
        Action   = "ssm:GetParameter"
        Resource = "arn:${local.partition}:ssm:${local.region}::parameter/aws/service/*"
      },
      {
        Sid      = "ReadPrices"
        Effect   = "Allow"
        Action   = "pricing:GetProducts"
        Resource = "*"
      },
      {
        Sid      = "ReadCluster"
        Effect   = "Allow"
        Action   = "eks:DescribeCluster"
        Resource = local.cluster_arn
      },
      {
        Sid       = "ReadZonalShift"
        Effect    = "Allow"
        Action    = "arc-zonal-shift:GetManagedResource"
        Resource  = "*"
        Condition = { StringEquals = { "arc-zonal-shift:ResourceIdentifier" = local.cluster_arn } }
      },
    ]

    interruption = [
      {
        Sid      = "ReceiveWarnings"
        Effect   = "Allow"
        Action   = ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"]
        Resource = local.karpenter_queue_arn
      },
    ]
  }
}

resource "aws_iam_role_policy" "karpenter_controller" {
  for_each = local.karpenter_controller_policies

  name   = each.key
  role   = aws_iam_role.pod["karpenter-controller"].name
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value })
}
