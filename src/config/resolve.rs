//! From what was written to what holds.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde_saphyr::Spanned;

use super::file::{EnvironmentFile, ObservabilityFile};
use super::reader::Reader;
use super::settings::PrometheusSource;
use super::{
    Access, ArgoCd, Autoscaling, AutoscalingProvider, Cluster, Diagnostics, Environment, Git, GitHost, Images,
    MainService, ManifestSource, Mirrors, NatGateways, Network, NodeGroup, Observability, SandboxSettings, Severity,
    Source, SupportType, Terraform,
};
use crate::model::{
    CapacityType, ClusterVersion, EnvironmentName, InstanceType, Invalid, Names, PrincipalArn, Region, RepositoryUrl,
    Scalar as _, Support, Transport, VersionCalendar, VpcCidr,
};

/// CloudWatch's retention periods in days
/// (<https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html>).
const RETENTION_DAYS: [u16; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
];

/// An environment and what its author should know about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub environment: Environment,
    /// Warnings.
    pub warnings: Diagnostics,
}

/// Reads an environment file. `stem` is the file's name without its ending, `today` decides which cluster versions are
/// past their end.
///
/// # Errors
/// Every mistake in the file, in the order of their place.
pub fn parse(source: Source, stem: &str, today: Date) -> Result<Loaded, Diagnostics> {
    parse_in(None, source, stem, today)
}

/// [`parse`], with the folders that the file names looked for in `project`.
pub(super) fn parse_in(project: Option<&Path>, source: Source, stem: &str, today: Date) -> Result<Loaded, Diagnostics> {
    let mut reader = Reader::new(source);
    let Some(file) = reader.file() else {
        return Err(reader.finish());
    };
    let environment = reader.environment(file, stem, today, project);
    let diagnostics = reader.finish();
    match environment {
        Some(environment) if !diagnostics.has_errors() => Ok(Loaded {
            environment,
            warnings: diagnostics,
        }),
        _ => Err(diagnostics),
    }
}

impl Reader {
    fn environment(
        &mut self,
        file: EnvironmentFile,
        stem: &str,
        today: Date,
        project: Option<&Path>,
    ) -> Option<Environment> {
        let name = self.name(file.name.as_ref(), stem);
        let region = self.default_text(file.region.as_ref(), "eu-west-1");
        let vpc_cidr = self.default_text(file.vpc_cidr.as_ref(), VpcCidr::DEFAULT);
        let cluster_version = self.cluster_version(file.cluster_version.as_ref(), today);
        let instance_types = self.instance_types(file.instance_types.as_ref());
        let capacity_type = self.or_default(file.capacity_type.as_ref(), CapacityType::Spot);
        let repository = self.repository(file.argocd_repository_url.as_ref());
        let access = file.access.unwrap_or_default();
        let access = Access {
            administrators: self.administrators(
                access.administrators.as_ref(),
                region.as_ref(),
                file.sandbox.is_some(),
            ),
        };
        let network = file.network.unwrap_or_default();
        let network = Network {
            nat_gateways: self.or_default(network.nat_gateways.as_ref(), NatGateways::Single),
            availability_zones: self.zones(network.availability_zones.as_ref(), region.as_ref()),
            flow_logs: network.flow_logs.is_some_and(|f| f.value),
        };
        let cluster = file.cluster.unwrap_or_default();
        let cluster = Cluster {
            public_access_cidrs: self.list(cluster.public_access_cidrs.as_ref()),
            private_access_cidrs: self.list(cluster.private_access_cidrs.as_ref()),
            support_type: self.or_default(cluster.support_type.as_ref(), SupportType::Standard),
            log_retention_days: self.retention(cluster.log_retention_days.as_ref()),
        };
        let node_group = self.node_group(&file.node_group.unwrap_or_default());
        let tags = self.tags(file.tags.unwrap_or_default());
        let backend = self.backend(file.backend.as_ref(), name.as_ref(), region.as_ref());
        let blueprint = self.blueprint(file.blueprint.as_ref(), project);
        let argocd_file = file.argocd.unwrap_or_default();
        let argocd = ArgoCd {
            manifest: self.or_default(
                argocd_file.manifest.as_ref(),
                if file.sandbox.is_some() {
                    ManifestSource::Vendored
                } else {
                    ManifestSource::Remote
                },
            ),
            known_hosts: self.known_hosts(argocd_file.known_hosts.as_ref()),
        };
        let secret_name = self.secret_name(argocd_file.secret_name.as_ref());
        let autoscaling = Autoscaling {
            provider: self.or_default(
                file.autoscaling.unwrap_or_default().provider.as_ref(),
                AutoscalingProvider::PrometheusAdapter,
            ),
        };
        let observability = file.observability.unwrap_or_default();
        let observability = self.observability(&observability);
        let owner = repository
            .as_ref()
            .and_then(RepositoryUrl::owner_and_name)
            .map_or("owner", |(owner, _)| owner);
        let images = file.images.unwrap_or_default();
        let versions = images.versions.unwrap_or_default();
        let versions = [
            ("main-service", self.scalar(versions.main_service.as_ref())),
            ("exporter", self.scalar(versions.exporter.as_ref())),
        ];
        let registry = self.text(
            images.registry.as_ref(),
            "a registry and path",
            |s| {
                !s.is_empty()
                    && !s.ends_with('/')
                    && s.chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_./:".contains(c))
            },
            "write for example ghcr.io/acme, in lower case and without a tag",
        );
        let images = Images {
            registry: registry.unwrap_or_else(|| format!("ghcr.io/{}", owner.to_ascii_lowercase())),
            versions: versions
                .into_iter()
                .filter_map(|(name, version)| Some((name, version?)))
                .collect(),
            pull_secret: self.secret_name(images.pull_secret.as_ref()),
        };
        let main_service = MainService {
            canary: self.canary(
                file.main_service.unwrap_or_default().canary.as_ref(),
                file.sandbox.is_some(),
            ),
        };
        let git_file = file.git.unwrap_or_default();
        let revision = self
            .text(
                git_file.revision.as_ref(),
                "a branch name",
                |s| {
                    !s.is_empty()
                        && !s.starts_with(['-', '/', '.'])
                        && !s.contains("..")
                        && !s.ends_with(['/', '.'])
                        && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
                },
                "write the branch that Argo CD follows, for example main",
            )
            .unwrap_or_else(|| "main".into());
        let default_host = match &repository {
            _ if file.sandbox.is_some() => GitHost::Github,
            Some(r) => match r.host() {
                "github.com" | "ssh.github.com" => GitHost::Github,
                "gitlab.com" | "altssh.gitlab.com" => GitHost::Gitlab,
                "gitea.com" => GitHost::Gitea,
                "codeberg.org" => GitHost::Forgejo,
                _ => GitHost::Manual,
            },
            None => GitHost::Manual,
        };
        let git = Git {
            revision,
            host: self.or_default(git_file.host.as_ref(), default_host),
            api_url: self.url(git_file.api_url.as_ref()),
            token_file: self.path(git_file.token_file.as_ref()),
        };
        let mirrors = file.mirrors.unwrap_or_default();
        let mirrors = Mirrors {
            tools: self.url(mirrors.tools.as_ref()),
            terraform_providers: self.path(mirrors.terraform_providers.as_ref()),
            argocd_manifest: self.url(mirrors.argocd_manifest.as_ref()),
            modules: self.module_mirror(mirrors.modules.as_ref(), project),
        };
        let terraform = Terraform {
            program: self.path(file.terraform.unwrap_or_default().program.as_ref()),
        };
        let sandbox = file.sandbox.map(|s| SandboxSettings {
            tools: self.tools(s.tools.unwrap_or_default()),
            nodes: self.nodes(s.nodes.as_ref()),
        });
        if let (Some(_), Some(r), Some(field)) = (&sandbox, &repository, &file.argocd_repository_url) {
            let local = matches!(r.host(), "127.0.0.1" | "localhost");
            if r.transport() != Transport::Ssh || !local || r.port().is_none() {
                self.error(
                    field.referenced,
                    Invalid::new(
                        "the sandbox serves its own repository over SSH on this machine",
                        "not on this machine",
                    )
                    .hint("write ssh://git@127.0.0.1:30922/mfsre/platform.git with a free port"),
                );
            }
        }
        let name = name?;
        let mut names = Names::of(&name);
        if let Some(secret_name) = secret_name {
            names.argocd_secret = secret_name;
        }
        Some(Environment {
            region: region?,
            vpc_cidr: vpc_cidr?,
            cluster_version,
            instance_types,
            capacity_type,
            argocd_repository_url: repository?,
            access,
            network,
            cluster,
            node_group,
            tags,
            backend,
            blueprint,
            argocd,
            autoscaling,
            observability,
            images,
            main_service,
            git,
            mirrors,
            terraform,
            sandbox,
            names,
            checked_on: today,
            name,
        })
    }

    /// Commands and kubeconfigs name the file; the state, the folders and everything on AWS go by the name. Were the two
    /// different, a copied file would work on the environment that it was copied from.
    fn name(&mut self, field: Option<&Spanned<String>>, stem: &str) -> Option<EnvironmentName> {
        let name: EnvironmentName = match field {
            Some(_) => self.scalar(field)?,
            None => EnvironmentName::parse("demo").ok()?,
        };
        if name.as_str() == stem {
            return Some(name);
        }
        let hint = if EnvironmentName::parse(stem).is_ok() {
            format!("write `name: {stem}`, or rename the file to {name}.yaml")
        } else {
            format!("rename the file to {name}.yaml")
        };
        match field {
            Some(field) => self.error(
                field.referenced,
                Invalid::new(
                    format!("an environment has the name of its file, and {stem}.yaml says {name}"),
                    format!("not {stem}"),
                )
                .hint(hint),
            ),
            None if self.incomplete => {}
            None => self.missing(
                "name",
                Invalid::new(
                    format!(
                        "an environment has the name of its file, and {stem}.yaml sets no name, which stands for {name}"
                    ),
                    "no name",
                )
                .hint(hint),
            ),
        }
        Some(name)
    }

    fn cluster_version(&mut self, field: Option<&Spanned<String>>, today: Date) -> ClusterVersion {
        let Some(field) = field else {
            return ClusterVersion::DEFAULT;
        };
        let Some(version) = self.scalar::<ClusterVersion>(Some(field)) else {
            return ClusterVersion::DEFAULT;
        };
        let calendar = VersionCalendar::built_in();
        if let Err(invalid) = calendar.check(version, today) {
            self.error(field.referenced, invalid);
            return version;
        }
        let remark = match calendar.support(version, today) {
            Support::Extended(until) => Some(
                Invalid::new(
                    format!("the cluster version {version} is in extended support, which costs extra, until {until}"),
                    "in extended support",
                )
                .hint(format!(
                    "set cluster_version to \"{}\", or cluster.support_type to EXTENDED to keep it",
                    ClusterVersion::DEFAULT
                )),
            ),
            Support::Unknown => Some(
                Invalid::new(
                    format!(
                        "the cluster version {version} is newer than this program's calendar of {}",
                        calendar.as_of
                    ),
                    "not in the built-in calendar",
                )
                .hint("EKS is asked before anything is created"),
            ),
            Support::Standard(_) | Support::Ended(_) => None,
        };
        if let Some(remark) = remark {
            self.add(Severity::Warning, Some(field.referenced), remark);
        }
        version
    }

    fn instance_types(&mut self, field: Option<&Spanned<Vec<Spanned<String>>>>) -> Vec<InstanceType> {
        match field {
            None => self.default_text(None, "t3.medium").into_iter().collect(),
            Some(list) if list.value.is_empty() => {
                self.error(
                    list.referenced,
                    Invalid::new("instance_types is empty", "at least one is needed").hint("write [t3.medium]"),
                );
                Vec::new()
            }
            Some(list) if list.value.len() > 20 => {
                self.error(
                    list.referenced,
                    Invalid::new("a managed node group takes 20 instance types at most", "too many")
                        .hint("keep those you prefer"),
                );
                Vec::new()
            }
            Some(list) => self.one_architecture(&list.value),
        }
    }

    /// All nodes of a managed node group start from one image, which is of one architecture.
    fn one_architecture(&mut self, list: &[Spanned<String>]) -> Vec<InstanceType> {
        let mut types: Vec<InstanceType> = Vec::new();
        for item in list {
            let Some(kind) = self.scalar::<InstanceType>(Some(item)) else {
                continue;
            };
            if let Some(first) = types.first()
                && first.architecture() != kind.architecture()
            {
                self.error(
                    item.referenced,
                    Invalid::new(
                        format!(
                            "{kind} has processors of {}, and {first} of {}: a node group is of one architecture",
                            kind.architecture(),
                            first.architecture()
                        ),
                        "another architecture",
                    )
                    .hint("keep the types of one of the two"),
                );
            }
            types.push(kind);
        }
        types
    }

    fn administrators(
        &mut self,
        field: Option<&Spanned<Vec<Spanned<String>>>>,
        region: Option<&Region>,
        sandbox: bool,
    ) -> Vec<PrincipalArn> {
        let Some(list) = field else { return Vec::new() };
        // A sandbox adds its own AWS user.
        if list.value.is_empty() && !sandbox {
            self.error(
                list.referenced,
                Invalid::new(
                    "access.administrators is empty, and nobody could reach the cluster",
                    "at least one is needed",
                )
                .hint("write the ARNs of IAM users or roles, yours among them (aws sts get-caller-identity), for example [arn:aws:iam::123456789012:role/platform-admin]"),
            );
        }
        let mut administrators = Vec::new();
        for item in &list.value {
            let Some(arn) = self.scalar::<PrincipalArn>(Some(item)) else {
                continue;
            };
            if let Some(region) = region
                && arn.partition() != region.partition()
            {
                self.error(
                    item.referenced,
                    Invalid::new(
                        format!(
                            "{region} is in the partition {}, and this principal in {}",
                            region.partition(),
                            arn.partition()
                        ),
                        "another partition",
                    )
                    .hint("name users and roles of an account in the region's partition"),
                );
            }
            administrators.push(arn);
        }
        administrators
    }

    fn repository(&mut self, field: Option<&Spanned<String>>) -> Option<RepositoryUrl> {
        if field.is_none() && !self.incomplete {
            self.missing(
                "argocd_repository_url",
                Invalid::new("argocd_repository_url is missing", "no argocd_repository_url")
                    .hint("add the repository that Argo CD reads, for example argocd_repository_url: git@github.com:acme/platform.git"),
            );
        }
        let url: RepositoryUrl = self.scalar(field)?;
        if let (Some(field), true) = (field, url.is_placeholder()) {
            self.error(
                field.referenced,
                Invalid::new("this stands for a repository that is not named yet", "to be filled in")
                    .hint("write the repository that Argo CD reads, for example git@github.com:acme/platform.git"),
            );
        }
        Some(url)
    }

    fn zones(&mut self, field: Option<&Spanned<Vec<Spanned<String>>>>, region: Option<&Region>) -> Vec<String> {
        let Some(list) = field else { return Vec::new() };
        let zones: Vec<String> = list.value.iter().map(|z| z.value.clone()).collect();
        let distinct: std::collections::BTreeSet<&String> = zones.iter().collect();
        let is_zone = |z: &str| {
            region.is_none_or(|region| z.starts_with(region.as_str()))
                && z.len() > 3
                && z.ends_with(|c: char| c.is_ascii_lowercase())
                && z.contains('-')
                && z.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        let wrong = |label: &str| {
            Invalid::new("availability_zones takes three different zones of the region", label)
                .hint("write for example [eu-west-1a, eu-west-1b, eu-west-1c], or leave it out for the first three")
        };
        if zones.len() != 3 || distinct.len() != 3 {
            self.error(list.referenced, wrong("not three zones"));
        } else if let Some(zone) = list.value.iter().find(|zone| !is_zone(&zone.value)) {
            self.error(zone.referenced, wrong("no zone of the region"));
        }
        zones
    }

    fn retention(&mut self, field: Option<&Spanned<u16>>) -> u16 {
        let Some(field) = field else { return 90 };
        if !RETENTION_DAYS.contains(&field.value) {
            self.error(
                field.referenced,
                Invalid::new(
                    format!("CloudWatch has no retention of {} days", field.value),
                    "not a retention period",
                )
                .hint("take one of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731 ..."),
            );
        }
        field.value
    }

    fn node_group(&mut self, file: &super::file::NodeGroupFile) -> NodeGroup {
        let value = |field: &Option<Spanned<u32>>, default| field.as_ref().map_or(default, |f| f.value);
        let min_size = value(&file.min_size, 2);
        let max_size = value(&file.max_size, min_size.max(2) * 2);
        let desired_size = value(&file.desired_size, min_size.max(1).min(max_size));
        let at = |fields: [&Option<Spanned<u32>>; 3]| fields.into_iter().find_map(|f| f.as_ref().map(|f| f.referenced));
        if (min_size > max_size || max_size == 0 || max_size > 450)
            && let Some(at) = at([&file.max_size, &file.min_size, &file.desired_size])
        {
            self.error(
                at,
                Invalid::new(
                    format!("a node group of {min_size} to {max_size} nodes is not possible"),
                    "out of bounds",
                )
                .hint("max_size is 1 to 450 and at least min_size"),
            );
        } else if !(min_size..=max_size).contains(&desired_size)
            && let Some(at) = at([&file.desired_size, &file.min_size, &file.max_size])
        {
            self.error(
                at,
                Invalid::new(
                    format!("desired_size {desired_size} lies outside {min_size} to {max_size}"),
                    "out of bounds",
                )
                .hint("choose it between min_size and max_size"),
            );
        }
        NodeGroup {
            min_size,
            max_size,
            desired_size,
        }
    }

    fn nodes(&mut self, field: Option<&Spanned<u32>>) -> u32 {
        let Some(field) = field else { return 3 };
        if !(1..=100).contains(&field.value) {
            self.error(
                field.referenced,
                Invalid::new(
                    format!("the sandbox simulates 1 to 100 nodes, not {}", field.value),
                    "out of bounds",
                )
                .hint("3 is enough"),
            );
        }
        field.value
    }

    fn tools(
        &mut self,
        tools: std::collections::BTreeMap<String, Spanned<String>>,
    ) -> std::collections::BTreeMap<String, PathBuf> {
        let mut paths = std::collections::BTreeMap::new();
        for (name, path) in tools {
            if mfsre_sandbox::tool_names().any(|known| known == name) {
                paths.extend(self.path(Some(&path)).map(|path| (name, path)));
            } else {
                let known: Vec<&str> = mfsre_sandbox::tool_names().collect();
                self.error_at_key(
                    path.referenced,
                    &name,
                    Invalid::new(format!("the sandbox has no program {name:?}"), "unknown")
                        .hint(format!("known here: {}", known.join(", "))),
                );
            }
        }
        paths
    }

    fn tags(
        &mut self,
        tags: std::collections::BTreeMap<String, Spanned<String>>,
    ) -> std::collections::BTreeMap<String, String> {
        let allowed = |s: &str| s.chars().all(|c| c.is_alphanumeric() || " _.:/+-@".contains(c));
        for (key, value) in &tags {
            let reserved = key.to_ascii_lowercase().starts_with("aws:")
                || key.starts_with("kubernetes.io/")
                || key.starts_with("karpenter.sh/")
                || key.starts_with("mfsre:");
            let bad_key = key.is_empty() || key.chars().count() > 128 || !allowed(key);
            if reserved {
                self.error_at_key(
                    value.referenced,
                    key,
                    Invalid::new(
                        format!("the tag {key:?} is set by AWS, Kubernetes or mfsre itself"),
                        "reserved",
                    )
                    .hint("choose another key"),
                );
            } else if bad_key || value.value.chars().count() > 256 || !allowed(&value.value) {
                let invalid = Invalid::new(
                    format!("AWS does not take the tag {key:?}: {:?}", value.value),
                    "not a tag",
                )
                .hint("letters, digits, spaces and _.:/+-@; 128 characters for the key, 256 for the value");
                if bad_key {
                    self.error_at_key(value.referenced, key, invalid);
                } else {
                    self.error(value.referenced, invalid);
                }
            }
        }
        if tags.len() > 40
            && let Some(value) = tags.values().last()
        {
            self.error(
                value.referenced,
                Invalid::new("AWS takes 50 tags on a resource, and some are ours", "too many").hint("keep 40 at most"),
            );
        }
        tags.into_iter().map(|(k, v)| (k, v.value)).collect()
    }

    fn known_hosts(&mut self, field: Option<&Vec<Spanned<String>>>) -> Vec<String> {
        let mut lines = Vec::new();
        for line in field.into_iter().flatten() {
            let parts: Vec<&str> = line.value.split_whitespace().collect();
            let key_ok = parts.len() >= 3
                && !line.value.contains(['\n', '\r'])
                && ssh_key::PublicKey::from_openssh(&format!("{} {}", parts[1], parts[2])).is_ok();
            if key_ok {
                lines.push(line.value.trim().to_owned());
            } else {
                self.error(
                    line.referenced,
                    Invalid::new("this is not a line of a known_hosts file", "expected: host type key").hint("take a line that `ssh-keyscan HOST` prints, and check it against the host's published fingerprint"),
                );
            }
        }
        lines
    }

    fn secret_name(&mut self, field: Option<&Spanned<String>>) -> Option<String> {
        self.text(
            field,
            "the name of a secret",
            |s| {
                !s.is_empty() && s.len() <= 512 && s.chars().all(|c| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c))
            },
            "Secrets Manager takes letters, digits and /_+=.@- for a name",
        )
    }

    fn canary(&mut self, field: Option<&Spanned<bool>>, sandbox: bool) -> bool {
        let Some(field) = field.filter(|f| f.value) else {
            return false;
        };
        if sandbox {
            self.error(
                field.referenced,
                Invalid::new(
                    "a canary needs Argo Rollouts, whose chart lies on the internet, and a sandbox goes without it",
                    "not in a sandbox",
                )
                .hint("leave it out here, and set it in an environment on AWS"),
            );
        }
        true
    }

    fn observability(&mut self, file: &ObservabilityFile) -> Observability {
        let (source, url) = (file.prometheus.as_ref(), file.prometheus_url.as_ref());
        let kind = self.or_default(source, PrometheusSource::Install);
        let parsed = self.url(url);
        match (kind, source, url) {
            (PrometheusSource::Existing, Some(at), None) if !self.incomplete => self.error(
                at.referenced,
                Invalid::new("an existing Prometheus needs its address", "which one?")
                    .hint("add prometheus_url: http://prometheus.monitoring.svc:9090"),
            ),
            (PrometheusSource::Install, _, Some(at)) => self.error(
                at.referenced,
                Invalid::new("prometheus_url is for a Prometheus that exists", "not used")
                    .hint("add prometheus: existing, or remove prometheus_url"),
            ),
            _ => {}
        }
        Observability {
            existing_prometheus: parsed,
            service_monitor: self.service_monitor(kind, file),
        }
    }

    fn service_monitor(
        &mut self,
        kind: PrometheusSource,
        file: &ObservabilityFile,
    ) -> Option<std::collections::BTreeMap<String, String>> {
        let wanted = file.service_monitor.as_ref().filter(|f| f.value);
        if let (Some(at), PrometheusSource::Install) = (wanted, kind) {
            self.error(
                at.referenced,
                Invalid::new(
                    "a ServiceMonitor is for the Prometheus Operator, and the Prometheus that is installed here has none",
                    "nothing would read it",
                )
                .hint("add prometheus: existing with its prometheus_url, or remove service_monitor"),
            );
        }
        let labels = file.service_monitor_labels.as_ref();
        if let (None, Some(at)) = (wanted, labels) {
            self.error(
                at.referenced,
                Invalid::new("service_monitor_labels are for a ServiceMonitor", "not used")
                    .hint("add service_monitor: true, or remove them"),
            );
        }
        let mut checked = std::collections::BTreeMap::new();
        for (key, value) in labels.into_iter().flat_map(|l| &l.value) {
            if is_label_key(key) && is_label_value(&value.value) {
                checked.insert(key.clone(), value.value.clone());
            } else {
                let invalid = Invalid::new(
                    format!("Kubernetes does not take the label {key:?}: {:?}", value.value),
                    "not a label",
                )
                .hint("63 letters, digits and -_. at most, with a letter or digit at both ends; a key may have a DNS name and / before it");
                if is_label_key(key) {
                    self.error(value.referenced, invalid);
                } else {
                    self.error_at_key(value.referenced, key, invalid);
                }
            }
        }
        wanted.map(|_| checked)
    }
}

/// Whether Kubernetes takes this as a label's key
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty() && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    !name.is_empty()
        && is_label_value(name)
        && prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_part))
}

/// Whether Kubernetes takes this as a label's value.
fn is_label_value(value: &str) -> bool {
    value.len() <= 63
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && [value.chars().next(), value.chars().next_back()]
            .into_iter()
            .flatten()
            .all(|c| c.is_ascii_alphanumeric())
}
