# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/modules/eks/outputs.tf, which then takes its place.

output "cluster_name" {
  description = "Name of the EKS cluster."
  value       = aws_eks_cluster.this.name
}

output "cluster_arn" {
  description = "ARN of the EKS cluster."
  value       = aws_eks_cluster.this.arn
}

output "cluster_endpoint" {
  description = "URL of the Kubernetes API."
  value       = aws_eks_cluster.this.endpoint
}

output "cluster_certificate_authority_data" {
  description = "Certificate of the authority that signs the Kubernetes API's certificate, base64-encoded PEM. It is public."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "cluster_version" {
  description = "Kubernetes version of the control plane."
  value       = aws_eks_cluster.this.version
}

output "region" {
  description = "AWS region of the cluster."
  value       = local.region
}

output "vpc_id" {
  description = "Id of the VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "Ids of the subnets of nodes and pods, one per Availability Zone in the order of the zones' names."
  value       = [for subnet in aws_subnet.private : subnet.id]
}

output "node_security_group_id" {
  description = "Id of the security group that nodes wear. Karpenter finds it by the tag karpenter.sh/discovery."
  value       = aws_security_group.node.id
}

output "node_role_name" {
  description = "Name of the IAM role of the managed nodes."
  value       = aws_iam_role.node.name
}

output "karpenter_node_role_name" {
  description = "Name of the IAM role for nodes that Karpenter makes: `role` of an EC2NodeClass."
  value       = aws_iam_role.karpenter_node.name
}

output "karpenter_controller_role_name" {
  description = "Name of the IAM role that kube-system/karpenter holds through EKS Pod Identity."
  value       = aws_iam_role.pod["karpenter-controller"].name
}

output "karpenter_queue_name" {
  description = "Name of the SQS queue with interruption warnings: `settings.interruptionQueue` of Karpenter's chart."
  value       = aws_sqs_queue.karpenter.name
}

output "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the cluster's Secrets and logs."
  value       = aws_kms_key.this.arn
}
