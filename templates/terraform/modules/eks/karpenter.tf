# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/modules/eks/karpenter.tf, which then takes its place.

# The AWS side of Karpenter v1. Karpenter itself, its NodePools and its EC2NodeClass come from Git.

# --- Nodes that Karpenter makes

resource "aws_iam_role" "karpenter_node" {
  name        = "${var.name}-karpenter-node"
  description = "Nodes that Karpenter makes in ${var.name}"

  assume_role_policy = local.node_trust_policy
}

resource "aws_iam_role_policy_attachment" "karpenter_node" {
  for_each = local.node_policies

  role       = aws_iam_role.karpenter_node.name
  policy_arn = "${local.aws_managed_policy_path}/${each.key}"
}

# --- Warnings that a node is about to go

locals {
  karpenter_queue_name = "${var.name}-karpenter"
  karpenter_queue_arn  = "arn:${local.partition}:sqs:${local.region}:${local.account_id}:${local.karpenter_queue_name}"

  karpenter_events = {
    capacity-reservation = { source = "aws.ec2", detail_type = "EC2 Capacity Reservation Instance Interruption Warning" }
    rebalance            = { source = "aws.ec2", detail_type = "EC2 Instance Rebalance Recommendation" }
    scheduled-change     = { source = "aws.health", detail_type = "AWS Health Event" }
    spot-interruption    = { source = "aws.ec2", detail_type = "EC2 Spot Instance Interruption Warning" }
    state-change         = { source = "aws.ec2", detail_type = "EC2 Instance State-change Notification" }
  }
}

resource "aws_sqs_queue" "karpenter" {
  name = local.karpenter_queue_name
  # A warning older than five minutes is about a node that is gone.
  message_retention_seconds = 300
  sqs_managed_sse_enabled   = true

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "EventBridgeSends"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = local.karpenter_queue_arn
        Condition = {
          ArnEquals = {
            "aws:SourceArn" = [
              for event in keys(local.karpenter_events) :
              "arn:${local.partition}:events:${local.region}:${local.account_id}:rule/${var.name}-karpenter-${event}"
            ]
          }
        }
      },
      {
        Sid       = "OnlyOverTLS"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = local.karpenter_queue_arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

resource "aws_cloudwatch_event_rule" "karpenter" {
  for_each = local.karpenter_events

  name        = "${var.name}-karpenter-${each.key}"
  description = "${each.value.detail_type}, for Karpenter in ${var.name}"

  event_pattern = jsonencode({
    source      = [each.value.source]
    detail-type = [each.value.detail_type]
  })
}

resource "aws_cloudwatch_event_target" "karpenter" {
  for_each = aws_cloudwatch_event_rule.karpenter

  rule      = each.value.name
  target_id = "karpenter"
  arn       = aws_sqs_queue.karpenter.arn
}
