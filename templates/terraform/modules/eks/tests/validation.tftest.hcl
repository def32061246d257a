# Made by mfsre. Keep your own version of this file in your project as templates/terraform/modules/eks/tests/validation.tftest.hcl to change it.

# Every variable refuses a bad value.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }

  mock_data "aws_region" {
    defaults = { id = "eu-west-1" }
  }

  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
  }

  mock_data "aws_ec2_instance_type" {
    defaults = { supported_architectures = ["x86_64"] }
  }

  mock_data "aws_eks_addon_version" {
    defaults = { version = "v1.0.0-eksbuild.1" }
  }
}

variables {
  name            = "demo"
  cluster_version = "1.34"
  administrators  = ["arn:aws:iam::111122223333:role/platform"]
}

run "name_with_capitals" {
  command = plan

  variables {
    name = "Demo"
  }

  expect_failures = [var.name]
}

run "name_with_injection" {
  command = plan

  variables {
    name = "a\"$${x}"
  }

  expect_failures = [var.name]
}

run "name_too_long" {
  command = plan

  variables {
    name = "abcdefghijklmnopqrstuvwxyz-012345"
  }

  expect_failures = [var.name]
}

run "name_like_a_security_group" {
  command = plan

  variables {
    name = "sg-demo"
  }

  expect_failures = [var.name]
}

run "vpc_cidr_too_small" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.0/21"
  }

  expect_failures = [var.vpc_cidr]
}

run "vpc_cidr_too_large" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.0/15"
  }

  expect_failures = [var.vpc_cidr]
}

run "vpc_cidr_off_its_boundary" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.1/16"
  }

  expect_failures = [var.vpc_cidr]
}

run "vpc_cidr_ipv6" {
  command = plan

  variables {
    vpc_cidr = "fd00::/16"
  }

  expect_failures = [var.vpc_cidr]
}

run "nat_gateways" {
  command = plan

  variables {
    nat_gateways = "two"
  }

  expect_failures = [var.nat_gateways]
}

run "cluster_version" {
  command = plan

  variables {
    cluster_version = "v1.34.1"
  }

  expect_failures = [var.cluster_version]
}

run "support_type" {
  command = plan

  variables {
    support_type = "NONE"
  }

  expect_failures = [var.support_type]
}

run "administrators_empty" {
  command = plan

  variables {
    administrators = []
  }

  expect_failures = [var.administrators]
}

run "administrators_session" {
  command = plan

  variables {
    administrators = ["arn:aws:sts::111122223333:assumed-role/platform/ada"]
  }

  expect_failures = [var.administrators]
}

run "endpoint_public_access_cidrs" {
  command = plan

  variables {
    endpoint_public_access_cidrs = ["anywhere"]
  }

  expect_failures = [var.endpoint_public_access_cidrs]
}

run "webhook_ports" {
  command = plan

  variables {
    webhook_ports = [70000]
  }

  expect_failures = [var.webhook_ports]
}

run "control_plane_log_types" {
  command = plan

  variables {
    control_plane_log_types = ["everything"]
  }

  expect_failures = [var.control_plane_log_types]
}

run "log_retention_days" {
  command = plan

  variables {
    log_retention_days = 42
  }

  expect_failures = [var.log_retention_days]
}

run "kms_key_deletion_window_days" {
  command = plan

  variables {
    kms_key_deletion_window_days = 6
  }

  expect_failures = [var.kms_key_deletion_window_days]
}

run "instance_types_empty" {
  command = plan

  variables {
    instance_types = []
  }

  expect_failures = [var.instance_types]
}

run "instance_types_malformed" {
  command = plan

  variables {
    instance_types = ["t3"]
  }

  expect_failures = [var.instance_types]
}

run "capacity_type" {
  command = plan

  variables {
    capacity_type = "spot"
  }

  expect_failures = [var.capacity_type]
}

run "node_min_size" {
  command = plan

  variables {
    node_min_size = -1
  }

  expect_failures = [var.node_min_size]
}

run "node_max_size" {
  command = plan

  variables {
    node_max_size = 0
  }

  expect_failures = [var.node_max_size]
}

run "node_desired_size" {
  command = plan

  variables {
    node_desired_size = 1.5
  }

  expect_failures = [var.node_desired_size]
}

run "node_disk_size" {
  command = plan

  variables {
    node_disk_size = 8
  }

  expect_failures = [var.node_disk_size]
}

run "addon_versions" {
  command = plan

  variables {
    addon_versions = { cordns = "v1" }
  }

  expect_failures = [var.addon_versions]
}

run "endpoint_private_access_cidrs" {
  command = plan

  variables {
    endpoint_private_access_cidrs = ["10.0.0.0/40"]
  }

  expect_failures = [var.endpoint_private_access_cidrs]
}

run "tags_of_kubernetes" {
  command = plan

  variables {
    tags = { "kubernetes.io/cluster/demo" = "owned" }
  }

  expect_failures = [var.tags]
}

run "tags_with_a_comma" {
  command = plan

  variables {
    tags = { team = "a,b=c" }
  }

  expect_failures = [var.tags]
}
