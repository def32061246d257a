# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/root/provider.tf, which then takes its place.

locals {
  tags = merge(var.tags, {
    "mfsre:environment" = var.name
    "mfsre:managed-by"  = "terraform"
  })
}

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}
