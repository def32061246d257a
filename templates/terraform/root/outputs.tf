# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/root/outputs.tf, which then takes its place.

output "cluster_name" {
  description = "Name of the EKS cluster."
  value       = module.platform.cluster_name
}

output "cluster_arn" {
  description = "ARN of the EKS cluster."
  value       = module.platform.cluster_arn
}

output "cluster_endpoint" {
  description = "URL of the Kubernetes API."
  value       = module.platform.cluster_endpoint
}

output "cluster_certificate_authority_data" {
  description = "Certificate of the authority that signs the Kubernetes API's certificate, base64-encoded PEM. It is public."
  value       = module.platform.cluster_certificate_authority_data
}

output "cluster_version" {
  description = "Kubernetes version of the control plane."
  value       = module.platform.cluster_version
}

output "region" {
  description = "AWS region of the cluster."
  value       = module.platform.region
}

output "vpc_id" {
  description = "Id of the VPC."
  value       = module.platform.vpc_id
}

output "private_subnet_ids" {
  description = "Ids of the subnets of nodes and pods, one per Availability Zone in the order of the zones' names."
  value       = module.platform.private_subnet_ids
}

output "node_security_group_id" {
  description = "Id of the security group that nodes wear. Karpenter finds it by the tag karpenter.sh/discovery."
  value       = module.platform.node_security_group_id
}

output "node_role_name" {
  description = "Name of the IAM role of the managed nodes."
  value       = module.platform.node_role_name
}

output "karpenter_node_role_name" {
  description = "Name of the IAM role for nodes that Karpenter makes: `role` of an EC2NodeClass."
  value       = module.platform.karpenter_node_role_name
}

output "karpenter_controller_role_name" {
  description = "Name of the IAM role that kube-system/karpenter holds through EKS Pod Identity."
  value       = module.platform.karpenter_controller_role_name
}

output "karpenter_queue_name" {
  description = "Name of the SQS queue with interruption warnings: `settings.interruptionQueue` of Karpenter's chart."
  value       = module.platform.karpenter_queue_name
}

output "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the cluster's Secrets and logs."
  value       = module.platform.kms_key_arn
}
