# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/modules/eks/versions.tf, which then takes its place.

terraform {
  required_version = ">= 1.10"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100.0, < 7.0.0"
    }
  }
}
