//! The settings of an environment once every value was checked and every default filled in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Blueprint;
use crate::model::{
    CapacityType, Cidr, ClusterVersion, EnvironmentName, ImageVersion, InstanceType, Invalid, Names, PrincipalArn,
    Region, RepositoryUrl, Scalar, VpcCidr,
};

/// An environment, complete.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// Name.
    pub name: EnvironmentName,
    /// AWS region.
    pub region: Region,
    /// Address range of the VPC.
    pub vpc_cidr: VpcCidr,
    /// Kubernetes version.
    pub cluster_version: ClusterVersion,
    /// Instance types of the managed node group.
    pub instance_types: Vec<InstanceType>,
    /// How capacity is bought.
    pub capacity_type: CapacityType,
    /// Repository that Argo CD reads.
    pub argocd_repository_url: RepositoryUrl,
    /// Administrators.
    pub access: Access,
    /// Network layout.
    pub network: Network,
    /// EKS cluster.
    pub cluster: Cluster,
    /// Managed node group.
    pub node_group: NodeGroup,
    /// Tags on every resource.
    pub tags: BTreeMap<String, String>,
    /// Terraform's backend.
    pub backend: Backend,
    /// Terraform code.
    pub blueprint: Blueprint,
    /// Argo CD.
    pub argocd: ArgoCd,
    /// Autoscaling.
    pub autoscaling: Autoscaling,
    /// Prometheus.
    pub observability: Observability,
    /// Container images.
    pub images: Images,
    /// Main service.
    pub main_service: MainService,
    /// Git host.
    pub git: Git,
    /// Mirrors.
    pub mirrors: Mirrors,
    /// Terraform program.
    pub terraform: Terraform,
    /// Present when the environment is the local sandbox.
    pub sandbox: Option<SandboxSettings>,
    /// Physical names.
    pub names: Names,
    /// The day the cluster version was checked against the built-in calendar.
    #[serde(skip)]
    pub checked_on: Date,
}

impl Environment {
    /// Whether the environment is the local sandbox.
    #[must_use]
    pub fn is_sandbox(&self) -> bool {
        self.sandbox.is_some()
    }

    /// Where the environment is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        if self.is_sandbox() {
            "this machine (AWS and the nodes are simulated)".into()
        } else {
            self.region.to_string()
        }
    }
}

/// Administrators.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Access {
    /// IAM principals with cluster-admin.
    pub administrators: Vec<PrincipalArn>,
}

/// Network layout.
#[derive(Debug, Clone, Serialize)]
pub struct Network {
    /// NAT gateways.
    pub nat_gateways: NatGateways,
    /// Three availability zones, or none for the region's first three.
    pub availability_zones: Vec<String>,
    /// Whether the VPC's flow logs are kept.
    pub flow_logs: bool,
}

/// EKS cluster.
#[derive(Debug, Clone, Serialize)]
pub struct Cluster {
    /// Networks that may reach the API over the internet.
    pub public_access_cidrs: Vec<Cidr>,
    /// Networks outside the VPC that may reach the private API.
    pub private_access_cidrs: Vec<Cidr>,
    /// What EKS does at the end of standard support.
    pub support_type: SupportType,
    /// Days for which control-plane logs are kept.
    pub log_retention_days: u16,
}

/// Managed node group.
#[derive(Debug, Clone, Serialize)]
pub struct NodeGroup {
    /// Fewest nodes.
    pub min_size: u32,
    /// Most nodes.
    pub max_size: u32,
    /// Nodes at creation.
    pub desired_size: u32,
}

/// Terraform's backend. As JSON it is also what mfsre remembers of where a state was found last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Backend {
    /// A file beside the root module.
    Local {
        /// How OpenTofu encrypts the state.
        encryption: Option<StateEncryption>,
    },
    /// An S3 object with S3's own lock file.
    S3 {
        /// Bucket.
        bucket: String,
        /// Object key.
        key: String,
        /// Region of the bucket.
        region: String,
        /// KMS key.
        kms_key_id: Option<String>,
        /// How OpenTofu encrypts the state before it is put there.
        encryption: Option<StateEncryption>,
    },
    /// An HCP Terraform or Terraform Enterprise workspace.
    Cloud {
        /// Organization.
        organization: String,
        /// Workspace.
        workspace: String,
        /// Project.
        project: Option<String>,
        /// Host.
        hostname: String,
        /// Where runs take place.
        execution: Execution,
        /// The IAM role that runs at the host take on by a token of the host's.
        aws_run_role: Option<String>,
    },
}

impl Backend {
    /// Whether the state is at HCP Terraform or a Terraform Enterprise.
    #[must_use]
    pub fn is_cloud(&self) -> bool {
        matches!(self, Self::Cloud { .. })
    }

    /// How OpenTofu encrypts the state, where it does.
    #[must_use]
    pub fn encryption(&self) -> Option<&StateEncryption> {
        match self {
            Self::Local { encryption } | Self::S3 { encryption, .. } => encryption.as_ref(),
            Self::Cloud { .. } => None,
        }
    }

    /// Whether a state that is in one is in the other as it should be. Where the runs of a workspace take place does not matter.
    #[must_use]
    pub fn holds_the_same(&self, other: &Self) -> bool {
        self == other || (self.is_cloud() && self.is_same_place(other))
    }

    /// Whether both are one place, however the state is encrypted there.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Local { .. }, Self::Local { .. }) => true,
            (Self::S3 { bucket, key, .. }, Self::S3 { bucket: b, key: k, .. }) => (bucket, key) == (b, k),
            (
                Self::Cloud {
                    organization,
                    workspace,
                    hostname,
                    ..
                },
                Self::Cloud {
                    organization: o,
                    workspace: w,
                    hostname: h,
                    ..
                },
            ) => (organization, workspace, hostname) == (o, w, h),
            _ => false,
        }
    }
}

/// For people.
impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { .. } => write!(f, "the local file terraform.tfstate")?,
            Self::S3 { bucket, key, .. } => write!(f, "s3://{bucket}/{key}")?,
            Self::Cloud {
                organization,
                workspace,
                hostname,
                ..
            } => {
                write!(f, "the workspace {organization}/{workspace} on {hostname}")?;
            }
        }
        if self.encryption().is_some() {
            write!(f, ", encrypted by OpenTofu")?;
        }
        Ok(())
    }
}

/// Where OpenTofu takes the key from with which it encrypts states and plans
/// (<https://opentofu.org/docs/language/state/encryption/>).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "key_provider", rename_all = "snake_case")]
pub enum StateEncryption {
    /// Derived from a passphrase.
    Pbkdf2 {
        /// The environment variable with the passphrase.
        passphrase_variable: String,
    },
    /// A data key of a KMS key.
    AwsKms {
        /// The KMS key.
        kms_key_id: String,
        /// Its region.
        region: String,
    },
}

/// Argo CD.
#[derive(Debug, Clone, Serialize)]
pub struct ArgoCd {
    /// Where its manifest is read from.
    pub manifest: ManifestSource,
    /// `known_hosts` lines; none keeps Argo CD's own list.
    pub known_hosts: Vec<String>,
}

/// Autoscaling.
#[derive(Debug, Clone, Serialize)]
pub struct Autoscaling {
    /// Who serves the external metric.
    pub provider: AutoscalingProvider,
}

/// Prometheus.
#[derive(Debug, Clone, Serialize)]
pub struct Observability {
    /// The URL of the Prometheus that is there already; `None` installs one.
    pub existing_prometheus: Option<Url>,
    /// Labels of the exporter's ServiceMonitor; `None` has pod annotations instead.
    pub service_monitor: Option<BTreeMap<String, String>>,
}

/// Container images.
#[derive(Debug, Clone, Serialize)]
pub struct Images {
    /// Registry and path before the images' names.
    pub registry: String,
    /// Versions that go over those of the charts, by the image's name.
    pub versions: BTreeMap<&'static str, ImageVersion>,
    /// The Secrets Manager secret with the registry's credential.
    pub pull_secret: Option<String>,
}

impl Images {
    /// The Kubernetes Secret of the registry's credential, which mfsre keeps in the workloads' namespace.
    pub const PULL_SECRET: &str = "mfsre-registry";

    /// What container runtimes call the registry. As in an image's name, the first part is a host if it looks like one; otherwise
    /// the registry is Docker Hub, which is known by an address of its own
    /// (<https://kubernetes.io/docs/concepts/containers/images/#config-json>).
    #[must_use]
    pub fn registry_host(&self) -> &str {
        let first = self.registry.split('/').next().unwrap_or_default();
        if (first.contains(['.', ':']) || first == "localhost") && first != "docker.io" {
            first
        } else {
            "https://index.docker.io/v1/"
        }
    }
}

/// The main service.
#[derive(Debug, Clone, Serialize)]
pub struct MainService {
    /// Whether a new version gets a share of the pods first.
    pub canary: bool,
}

/// Git host.
#[derive(Debug, Clone, Serialize)]
pub struct Git {
    /// Branch.
    pub revision: String,
    /// Who registers deploy keys.
    pub host: GitHost,
    /// API of the host.
    pub api_url: Option<Url>,
    /// File with a token for it.
    pub token_file: Option<PathBuf>,
}

/// Mirrors.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Mirrors {
    /// Programs of the sandbox.
    pub tools: Option<Url>,
    /// Terraform providers.
    pub terraform_providers: Option<PathBuf>,
    /// Argo CD's install manifest.
    pub argocd_manifest: Option<Url>,
    /// Copies of Terraform modules, relative to the project.
    pub modules: Option<PathBuf>,
}

/// Terraform program.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Terraform {
    /// Program name or path.
    pub program: Option<PathBuf>,
}

impl Terraform {
    /// Whether the files are for OpenTofu, whose providers have addresses of their own. Only the setting decides, since the
    /// same environment file shall give the same files on every machine.
    #[must_use]
    pub fn is_opentofu(&self) -> bool {
        let name = self.program.as_ref().and_then(|program| program.file_name());
        name.is_some_and(|name| name.to_string_lossy().contains("tofu"))
    }
}

/// Local sandbox.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SandboxSettings {
    /// Programs by name.
    pub tools: BTreeMap<String, PathBuf>,
    /// Simulated nodes.
    pub nodes: u32,
}

/// Defines an enum of fixed words with its [`Scalar`] and JSON Schema.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[allow(unreachable_pub, reason = "some are used only while resolving")]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl Scalar for $name {
            fn parse(text: &str) -> Result<Self, Invalid> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Invalid::new(format!("{text:?} is not {}", $what), "not known")
                        .hint(format!("write one of: {}", [$($word),+].join(", ")))),
                }
            }
        }
    };
}

words! {
    /// How many NAT gateways.
    NatGateways: "a NAT gateway layout" {
        /// One for all zones.
        Single = "single",
        /// One in each zone.
        PerAz = "per_az",
    }
}
words! {
    /// What EKS does at the end of a version's standard support.
    SupportType: "a support type" {
        /// Upgrade the cluster.
        Standard = "STANDARD",
        /// Keep the version, at extra cost.
        Extended = "EXTENDED",
    }
}
words! {
    /// Kind of backend.
    BackendKind: "a backend" {
        /// A file.
        Local = "local",
        /// An S3 object.
        S3 = "s3",
        /// HCP Terraform.
        Cloud = "cloud",
    }
}
words! {
    /// Where HCP Terraform makes runs.
    Execution: "a place for runs" {
        /// At the host.
        Remote = "remote",
        /// On the machine that mfsre is on; the host keeps the state.
        Local = "local",
    }
}
words! {
    /// Where the key of OpenTofu's state encryption comes from.
    KeyProvider: "a key provider" {
        /// A passphrase.
        Pbkdf2 = "pbkdf2",
        /// KMS.
        AwsKms = "aws_kms",
    }
}
words! {
    /// Where Argo CD's install manifest is read from.
    ManifestSource: "a manifest source" {
        /// Argo CD's repository on the internet.
        Remote = "remote",
        /// A copy in Git.
        Vendored = "vendored",
    }
}
words! {
    /// Who serves the external metric.
    AutoscalingProvider: "an autoscaling provider" {
        /// prometheus-adapter with an HPA.
        PrometheusAdapter = "prometheus-adapter",
        /// KEDA with a ScaledObject.
        Keda = "keda",
    }
}
words! {
    /// Where Prometheus comes from.
    PrometheusSource: "a Prometheus source" {
        /// Installed by mfsre.
        Install = "install",
        /// There already.
        Existing = "existing",
    }
}
words! {
    /// Who registers deploy keys.
    GitHost: "a git host" {
        /// GitHub or GitHub Enterprise Server, by its API.
        Github = "github",
        /// GitLab, by its API.
        Gitlab = "gitlab",
        /// Gitea, by its API.
        Gitea = "gitea",
        /// Forgejo, by the API that it shares with Gitea.
        Forgejo = "forgejo",
        /// A person.
        Manual = "manual",
    }
}
