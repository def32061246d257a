# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/root/main.tf, which then takes its place.

module "platform" {
  source = "../../modules/eks"

  name = var.name
  tags = local.tags

  vpc_cidr     = var.vpc_cidr
  nat_gateways = var.nat_gateways
  flow_logs    = var.flow_logs

  cluster_version               = var.cluster_version
  support_type                  = var.support_type
  administrators                = var.administrators
  endpoint_public_access        = var.endpoint_public_access
  endpoint_public_access_cidrs  = var.endpoint_public_access_cidrs
  endpoint_private_access_cidrs = var.endpoint_private_access_cidrs
  webhook_ports                 = var.webhook_ports
  control_plane_log_types       = var.control_plane_log_types
  log_retention_days            = var.log_retention_days
  kms_key_deletion_window_days  = var.kms_key_deletion_window_days
  addon_versions                = var.addon_versions

  instance_types    = var.instance_types
  capacity_type     = var.capacity_type
  node_min_size     = var.node_min_size
  node_max_size     = var.node_max_size
  node_desired_size = var.node_desired_size
  node_disk_size    = var.node_disk_size
}
