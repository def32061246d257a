# Made by mfsre. Edit environments/<name>.yaml instead, or keep your own version of this file in your project
# as templates/terraform/root/variables.tf, which then takes its place.

variable "region" {
  description = "AWS region of the environment, such as eu-west-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2,}(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be the code of an AWS region, such as eu-west-1."
  }
}

variable "name" {
  description = "Name of the environment and of the EKS cluster. Every other name in the account is derived from it."
  type        = string

  validation {
    # 32 keeps the longest derived name, that of an EventBridge rule, within its limit of 64.
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}[a-z0-9]$", var.name))
    error_message = "name must have 2 to 32 characters: lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen."
  }

  validation {
    condition     = !startswith(var.name, "sg-")
    error_message = "name must not begin with \"sg-\": AWS keeps that prefix for the ids of security groups."
  }
}

variable "vpc_cidr" {
  description = "IPv4 range of the VPC, /16 to /20. The module's README shows how it is split."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && can(regex("/(1[6-9]|20)$", var.vpc_cidr))
    error_message = "vpc_cidr must be an IPv4 range from /16 to /20, such as 10.0.0.0/16."
  }

  validation {
    condition     = try(cidrhost(var.vpc_cidr, 0) == split("/", var.vpc_cidr)[0], true)
    error_message = "vpc_cidr must begin at the first address of its range, as in 10.0.0.0/16 rather than 10.0.0.1/16."
  }
}

variable "nat_gateways" {
  description = "`single` shares one NAT gateway; `per_az` has one in each Availability Zone, so that losing a zone cuts off no other."
  type        = string
  default     = "single"

  validation {
    condition     = contains(["single", "per_az"], var.nat_gateways)
    error_message = "nat_gateways must be single or per_az."
  }
}

variable "flow_logs" {
  description = "Whether the VPC's flow logs are written to CloudWatch Logs. They are billed by volume."
  type        = bool
  default     = false
}

variable "cluster_version" {
  description = "Kubernetes version of the control plane and of the managed nodes, such as 1.34."
  type        = string

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.cluster_version))
    error_message = "cluster_version must name a minor version, such as 1.34."
  }
}

variable "support_type" {
  description = "`STANDARD` lets EKS upgrade the cluster when its version leaves standard support; `EXTENDED` keeps the version and pays for extended support."
  type        = string
  default     = "STANDARD"

  validation {
    condition     = contains(["STANDARD", "EXTENDED"], var.support_type)
    error_message = "support_type must be STANDARD or EXTENDED."
  }
}

variable "administrators" {
  description = "ARNs of the IAM roles and users that administer the cluster. Nobody else is let in, not even who creates it."
  type        = list(string)

  validation {
    condition     = length(var.administrators) > 0
    error_message = "administrators must name at least one IAM role or user; without one nobody could reach the cluster."
  }

  validation {
    condition     = alltrue([for arn in var.administrators : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role/.+|user/.+|root)$", arn))])
    error_message = "administrators must be IAM ARNs such as arn:aws:iam::111122223333:role/platform. The ARN of an assumed role (arn:aws:sts::...) is a session; give the role behind it."
  }
}

variable "endpoint_public_access" {
  description = "Whether the Kubernetes API has a public address too, for the networks in endpoint_public_access_cidrs. Inside the VPC it always has one."
  type        = bool
  default     = false
}

variable "endpoint_public_access_cidrs" {
  description = "IPv4 ranges that may reach the Kubernetes API when endpoint_public_access is true."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.endpoint_public_access_cidrs : can(cidrnetmask(cidr))])
    error_message = "endpoint_public_access_cidrs must be IPv4 ranges, such as 203.0.113.0/24."
  }
}

variable "endpoint_private_access_cidrs" {
  description = "IPv4 ranges that may reach the Kubernetes API inside the VPC, beside nodes and pods: those of a VPN, a bastion or a CI runner."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.endpoint_private_access_cidrs : can(cidrnetmask(cidr))])
    error_message = "endpoint_private_access_cidrs must be IPv4 ranges, such as 10.8.0.0/24."
  }
}

variable "webhook_ports" {
  description = "TCP ports on which the control plane may reach admission webhooks and aggregated APIs in pods. The kubelet's port is always open to it."
  type        = list(number)
  # 443 and 8443 are common for webhooks, 9443 is controller-runtime's, 6443 prometheus-adapter's and 10251 that of the metrics-server add-on.
  default = [443, 6443, 8443, 9443, 10251]

  validation {
    condition     = alltrue([for port in var.webhook_ports : port >= 1 && port <= 65535 && floor(port) == port])
    error_message = "webhook_ports must be whole numbers from 1 to 65535."
  }
}

variable "control_plane_log_types" {
  description = "Logs that the control plane writes to CloudWatch Logs."
  type        = list(string)
  default     = ["api", "audit", "authenticator", "controllerManager", "scheduler"]

  validation {
    condition     = alltrue([for kind in var.control_plane_log_types : contains(["api", "audit", "authenticator", "controllerManager", "scheduler"], kind)])
    error_message = "control_plane_log_types may hold api, audit, authenticator, controllerManager and scheduler."
  }
}

variable "log_retention_days" {
  description = "Days for which CloudWatch Logs keeps the control plane's logs and the flow logs."
  type        = number
  default     = 90

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be a retention that CloudWatch Logs offers, such as 30, 90 or 365."
  }
}

variable "kms_key_deletion_window_days" {
  description = "Days that AWS waits before it deletes the cluster's KMS key after a destroy."
  type        = number
  default     = 7

  validation {
    condition     = var.kms_key_deletion_window_days >= 7 && var.kms_key_deletion_window_days <= 30
    error_message = "kms_key_deletion_window_days must be from 7 to 30."
  }
}

variable "instance_types" {
  description = "EC2 instance types of the managed node group, all of one processor architecture. With Spot, several types find capacity more often."
  type        = list(string)
  default     = ["t3.medium"]

  validation {
    condition     = length(var.instance_types) >= 1 && length(var.instance_types) <= 20
    error_message = "instance_types must name 1 to 20 types."
  }

  validation {
    condition     = alltrue([for kind in var.instance_types : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", kind))])
    error_message = "instance_types must be names of EC2 instance types, such as t3.medium."
  }
}

variable "capacity_type" {
  description = "How the managed nodes are bought: `SPOT` or `ON_DEMAND`."
  type        = string
  default     = "SPOT"

  validation {
    condition     = contains(["SPOT", "ON_DEMAND"], var.capacity_type)
    error_message = "capacity_type must be SPOT or ON_DEMAND."
  }
}

variable "node_min_size" {
  description = "Smallest number of managed nodes."
  type        = number
  default     = 2

  validation {
    condition     = var.node_min_size >= 0 && floor(var.node_min_size) == var.node_min_size
    error_message = "node_min_size must be a whole number, 0 or more."
  }
}

variable "node_max_size" {
  description = "Largest number of managed nodes."
  type        = number
  default     = 4

  validation {
    condition     = var.node_max_size >= 1 && floor(var.node_max_size) == var.node_max_size
    error_message = "node_max_size must be a whole number, 1 or more."
  }
}

variable "node_desired_size" {
  description = "Number of managed nodes to begin with. Later changes, also those made outside Terraform, are left alone."
  type        = number
  default     = 2

  validation {
    condition     = var.node_desired_size >= 0 && floor(var.node_desired_size) == var.node_desired_size
    error_message = "node_desired_size must be a whole number, 0 or more."
  }
}

variable "node_disk_size" {
  description = "Size in GiB of a managed node's encrypted root volume."
  type        = number
  default     = 50

  validation {
    condition     = var.node_disk_size >= 20 && var.node_disk_size <= 16384 && floor(var.node_disk_size) == var.node_disk_size
    error_message = "node_disk_size must be a whole number from 20 to 16384."
  }
}

variable "addon_versions" {
  description = "Versions of EKS add-ons by name, for those that should not follow EKS's default for cluster_version."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([for name in keys(var.addon_versions) : contains(
      ["aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "metrics-server", "vpc-cni"], name
    )])
    error_message = "addon_versions may name aws-ebs-csi-driver, coredns, eks-pod-identity-agent, kube-proxy, metrics-server and vpc-cni."
  }
}

variable "tags" {
  description = "Tags for everything in the environment, beside mfsre:environment and mfsre:managed-by."
  type        = map(string)
  default     = {}

  validation {
    # The EBS CSI driver, which also gets them, takes tags as a list of key=value and refuses these prefixes.
    condition = alltrue([
      for key, value in var.tags : can(regex("^[^,=]+$", key)) && can(regex("^[^,=]*$", value)) && !startswith(key, "aws:") && !startswith(key, "kubernetes.io")
    ])
    error_message = "tags must not contain commas or equals signs, nor begin with aws: or kubernetes.io."
  }

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(key, "mfsre:")])
    error_message = "tags must not begin with mfsre:, which is for the tags that are set anyway."
  }
}
