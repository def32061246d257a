//! The shape of an environment file as it is written. Values are checked in [`super::resolve`], so that one run can
//! report every mistake.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::model::{
    CapacityType, Cidr, ClusterVersion, EnvironmentName, ImageVersion, InstanceType, PrincipalArn, Region,
    RepositoryUrl, VpcCidr,
};

type Text = Option<Spanned<String>>;
type Texts = Option<Vec<Spanned<String>>>;

/// An environment of the platform: everything mfsre creates is computed from this file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentFile {
    /// Name of the environment, which is that of its file; every physical name on AWS begins with it.
    #[schemars(with = "Option<EnvironmentName>", extend("default" = "demo"))]
    pub name: Text,
    /// AWS region.
    #[schemars(with = "Option<Region>", extend("default" = "eu-west-1"))]
    pub region: Text,
    /// Private address range of the VPC, a /16 to /20.
    #[schemars(with = "Option<VpcCidr>", extend("default" = "10.0.0.0/16"))]
    pub vpc_cidr: Text,
    /// Kubernetes version of the cluster, one that EKS supports today.
    #[schemars(with = "Option<ClusterVersion>", extend("default" = "1.35"))]
    pub cluster_version: Text,
    /// EC2 instance types of the managed node group, in order of preference.
    #[schemars(with = "Option<Vec<InstanceType>>", extend("default" = ["t3.medium"], "minItems" = 1))]
    pub instance_types: Option<Spanned<Vec<Spanned<String>>>>,
    /// How the nodes' capacity is bought.
    #[schemars(with = "Option<CapacityType>", extend("default" = "SPOT"))]
    pub capacity_type: Text,
    /// Git repository that Argo CD reads.
    #[schemars(with = "RepositoryUrl", required)]
    pub argocd_repository_url: Text,
    /// Who may administer the cluster.
    pub access: Option<AccessFile>,
    /// Network layout.
    pub network: Option<NetworkFile>,
    /// The EKS cluster.
    pub cluster: Option<ClusterFile>,
    /// The managed node group that carries the platform's own pods; Karpenter adds nodes for the workloads.
    pub node_group: Option<NodeGroupFile>,
    /// Tags added to every AWS resource.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub tags: Option<BTreeMap<String, Spanned<String>>>,
    /// Where Terraform keeps its state.
    pub backend: Option<BackendFile>,
    /// Terraform code: `built-in`, `eks-blueprints` (the community's modules), or a folder of the project with its own.
    #[schemars(with = "Option<super::Blueprint>", extend("default" = "built-in"))]
    pub blueprint: Text,
    /// Argo CD.
    pub argocd: Option<ArgoCdFile>,
    /// What scales the workloads.
    pub autoscaling: Option<AutoscalingFile>,
    /// Prometheus.
    pub observability: Option<ObservabilityFile>,
    /// Container images of the workloads.
    pub images: Option<ImagesFile>,
    /// The main service.
    pub main_service: Option<MainServiceFile>,
    /// The git host.
    pub git: Option<GitFile>,
    /// Where to fetch things instead of the internet.
    pub mirrors: Option<MirrorsFile>,
    /// The Terraform program.
    pub terraform: Option<TerraformFile>,
    /// Present: the environment is the local sandbox instead of an AWS account.
    pub sandbox: Option<SandboxFile>,
}

/// Who may administer the cluster.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessFile {
    /// IAM users and roles that get cluster-admin by an access entry; whoever runs `up` must be among them.
    #[schemars(with = "Option<Vec<PrincipalArn>>")]
    pub administrators: Option<Spanned<Vec<Spanned<String>>>>,
}

/// Network layout.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    /// One NAT gateway for all zones (`single`) or one in each (`per_az`).
    #[schemars(with = "Option<super::settings::NatGateways>", extend("default" = "single"))]
    pub nat_gateways: Text,
    /// Three availability zones; by default the region's first three.
    #[schemars(with = "Option<Vec<String>>", extend("minItems" = 3, "maxItems" = 3))]
    pub availability_zones: Option<Spanned<Vec<Spanned<String>>>>,
    /// Whether the VPC's flow logs are written to CloudWatch Logs; they are billed by volume.
    #[schemars(with = "Option<bool>", extend("default" = false))]
    pub flow_logs: Option<Spanned<bool>>,
}

/// The EKS cluster.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// Networks that may reach the Kubernetes API over the internet; none by default, which leaves it private.
    #[schemars(with = "Option<Vec<Cidr>>")]
    pub public_access_cidrs: Texts,
    /// Networks outside the VPC, such as a VPN, that may reach the private Kubernetes API.
    #[schemars(with = "Option<Vec<Cidr>>")]
    pub private_access_cidrs: Texts,
    /// What EKS does at the end of standard support: upgrade the cluster (`STANDARD`) or keep it at extra cost (`EXTENDED`).
    #[schemars(with = "Option<super::settings::SupportType>", extend("default" = "STANDARD"))]
    pub support_type: Text,
    /// Days for which control-plane logs are kept.
    #[schemars(with = "Option<u16>", extend("default" = 90))]
    pub log_retention_days: Option<Spanned<u16>>,
}

/// The managed node group.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeGroupFile {
    /// Fewest nodes.
    #[schemars(with = "Option<u32>", extend("default" = 2))]
    pub min_size: Option<Spanned<u32>>,
    /// Most nodes.
    #[schemars(with = "Option<u32>", extend("default" = 4))]
    pub max_size: Option<Spanned<u32>>,
    /// Nodes at creation.
    #[schemars(with = "Option<u32>", extend("default" = 2))]
    pub desired_size: Option<Spanned<u32>>,
}

/// Where Terraform keeps its state.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendFile {
    /// `local`, `s3` or `cloud` (HCP Terraform).
    #[schemars(with = "super::settings::BackendKind")]
    #[serde(rename = "type")]
    pub kind: Spanned<String>,
    /// S3: the bucket.
    #[schemars(with = "Option<String>")]
    pub bucket: Text,
    /// S3: the object's key; by default `<name>/terraform.tfstate`.
    #[schemars(with = "Option<String>")]
    pub key: Text,
    /// S3: the bucket's region; by default the environment's.
    #[schemars(with = "Option<Region>")]
    pub region: Text,
    /// S3: the KMS key that encrypts the state.
    #[schemars(with = "Option<String>")]
    pub kms_key_id: Text,
    /// HCP Terraform: the organization.
    #[schemars(with = "Option<String>")]
    pub organization: Text,
    /// HCP Terraform: the workspace; by default the environment's name.
    #[schemars(with = "Option<String>")]
    pub workspace: Text,
    /// HCP Terraform: the project.
    #[schemars(with = "Option<String>")]
    pub project: Text,
    /// HCP Terraform: the host, for Terraform Enterprise.
    #[schemars(with = "Option<String>", extend("default" = "app.terraform.io"))]
    pub hostname: Text,
    /// HCP Terraform: whether plans and applies run at the host (`remote`) or where mfsre runs (`local`).
    #[schemars(with = "Option<super::settings::Execution>", extend("default" = "remote"))]
    pub execution: Text,
    /// HCP Terraform: the IAM role that runs at the host take on by workload identity.
    #[schemars(with = "Option<PrincipalArn>")]
    pub aws_run_role: Text,
    /// Local and S3, with OpenTofu alone: encrypt states and plans before they are written.
    pub encryption: Option<EncryptionFile>,
}

/// Encryption of states and plans by OpenTofu.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncryptionFile {
    /// Where the key comes from: a passphrase (`pbkdf2`) or KMS (`aws_kms`).
    #[schemars(with = "super::settings::KeyProvider")]
    pub key_provider: Spanned<String>,
    /// pbkdf2: the environment variable with the passphrase, which has 16 characters at least.
    #[schemars(with = "Option<String>", extend("default" = "MFSRE_STATE_PASSPHRASE"))]
    pub passphrase_variable: Text,
    /// aws_kms: the key.
    #[schemars(with = "Option<String>")]
    pub kms_key_id: Text,
    /// aws_kms: the key's region; by default the environment's.
    #[schemars(with = "Option<Region>")]
    pub region: Text,
}

/// Argo CD.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArgoCdFile {
    /// Whether Git refers to Argo CD's install manifest on the internet (`remote`) or carries it (`vendored`).
    #[schemars(with = "Option<super::settings::ManifestSource>", extend("default" = "remote"))]
    pub manifest: Text,
    /// Host keys that Argo CD trusts, one `known_hosts` line each, in place of its own list of public git hosts.
    #[schemars(with = "Option<Vec<String>>")]
    pub known_hosts: Texts,
    /// Name of the Secrets Manager secret with the admin password; by default `<name>/argocd`.
    #[schemars(with = "Option<String>")]
    pub secret_name: Text,
}

/// What scales the workloads.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoscalingFile {
    /// Who serves the external metric.
    #[schemars(with = "Option<super::settings::AutoscalingProvider>", extend("default" = "prometheus-adapter"))]
    pub provider: Text,
}

/// Prometheus.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservabilityFile {
    /// `install` one, or use one that is there (`existing`).
    #[schemars(with = "Option<super::settings::PrometheusSource>", extend("default" = "install"))]
    pub prometheus: Text,
    /// URL of the existing Prometheus, as seen from inside the cluster.
    #[schemars(with = "Option<url::Url>")]
    pub prometheus_url: Text,
    /// Whether the existing Prometheus finds the exporter by a ServiceMonitor, not by annotations of the pod.
    #[schemars(with = "Option<bool>", extend("default" = false))]
    pub service_monitor: Option<Spanned<bool>>,
    /// Labels of that ServiceMonitor, which the operator's `serviceMonitorSelector` may ask for.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub service_monitor_labels: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
}

/// Container images of the workloads.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesFile {
    /// Registry and path before the images' names; by default ghcr.io/ and the repository's owner.
    #[schemars(with = "Option<String>")]
    pub registry: Text,
    /// Versions that go over those of the charts, in this environment only; `mfsre bump CHART --environment` sets them.
    pub versions: Option<ImageVersionsFile>,
    /// Secrets Manager secret with the registry's credential, JSON of `username` and `token`; none for public images.
    #[schemars(with = "Option<String>")]
    pub pull_secret: Text,
}

/// Versions of the workloads' images.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImageVersionsFile {
    /// A tag, a digest (`sha256:...`), or `TAG@sha256:...`.
    #[schemars(with = "Option<ImageVersion>")]
    pub main_service: Text,
    /// A tag, a digest (`sha256:...`), or `TAG@sha256:...`.
    #[schemars(with = "Option<ImageVersion>")]
    pub exporter: Text,
}

/// The main service.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MainServiceFile {
    /// Give a new version a share of the pods first (Argo Rollouts), instead of replacing all of them in turn.
    #[schemars(with = "Option<bool>", extend("default" = false))]
    pub canary: Option<Spanned<bool>>,
}

/// The git host.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitFile {
    /// Branch that Argo CD follows.
    #[schemars(with = "Option<String>", extend("default" = "main"))]
    pub revision: Text,
    /// Who registers the deploy key: `github`, `gitlab`, `gitea` or `forgejo` by its API, or a person (`manual`).
    #[schemars(with = "Option<super::settings::GitHost>")]
    pub host: Text,
    /// Address of the host's API; by default where such a host has it.
    #[schemars(with = "Option<url::Url>")]
    pub api_url: Text,
    /// File with a token for the host's API, relative to the project; by default the host's usual variables and programs
    /// are asked.
    #[schemars(with = "Option<String>")]
    pub token_file: Text,
}

/// Where to fetch things instead of the internet.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorsFile {
    /// Base URL of a mirror of the sandbox's programs.
    #[schemars(with = "Option<url::Url>")]
    pub tools: Text,
    /// Folder laid out as Terraform's filesystem mirror.
    #[schemars(with = "Option<String>")]
    pub terraform_providers: Text,
    /// URL of Argo CD's install manifest.
    #[schemars(with = "Option<url::Url>")]
    pub argocd_manifest: Text,
    /// Folder, relative to the project, with copies of Terraform modules as `NAMESPACE/NAME/PROVIDER/VERSION`.
    #[schemars(with = "Option<String>")]
    pub modules: Text,
}

/// The Terraform program.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TerraformFile {
    /// `terraform`, `tofu` or a path; by default the first found on PATH.
    #[schemars(with = "Option<String>")]
    pub program: Text,
}

/// The local sandbox.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxFile {
    /// Programs to use instead of those found or built, by name.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub tools: Option<BTreeMap<String, Spanned<String>>>,
    /// Simulated nodes.
    #[schemars(with = "Option<u32>", extend("default" = 3))]
    pub nodes: Option<Spanned<u32>>,
}
