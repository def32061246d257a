//! From what was written to what holds.

use std::ops::Range;
use std::path::PathBuf;

use jiff::civil::Date;
use serde_saphyr::{Error as YamlError, Location, Spanned};
use url::Url;

use super::file::{BackendFile, EnvironmentFile};
use super::settings::{BackendKind, PrometheusSource};
use super::{
    Access, ArgoCd, Autoscaling, AutoscalingProvider, Backend, Cluster, Diagnostic, Diagnostics, Environment, Git,
    GitHost, Images, ManifestSource, Mirrors, NatGateways, Network, NodeGroup, Observability, SandboxSettings,
    Severity, Source, SupportType, Terraform,
};
use crate::model::{
    CapacityType, ClusterVersion, EnvironmentName, Invalid, Names, RepositoryUrl, Scalar, Support, Transport,
    VersionCalendar, VpcCidr,
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
    let mut reader = Reader {
        source,
        items: Vec::new(),
        incomplete: false,
    };
    let Some(file) = reader.file() else {
        return Err(reader.finish());
    };
    let environment = reader.environment(file, stem, today);
    let diagnostics = reader.finish();
    match environment {
        Some(environment) if !diagnostics.has_errors() => Ok(Loaded {
            environment,
            warnings: diagnostics,
        }),
        _ => Err(diagnostics),
    }
}

/// So many mistakes of form are told at once; a file that has more is none of ours.
const MOST_MISTAKES_OF_FORM: usize = 20;

/// How much of `line` its first bracket encloses; all of it where the closing one stands on another line.
fn bracketed(line: &str) -> usize {
    let mut depth = 0_usize;
    let mut quote = None;
    for (i, c) in line.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if c == q => quote = None,
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    line.len()
}

/// `text` with spaces in place of the line of `start` and of the lines that belong to it by their indentation, so that
/// everything else keeps its place. `None` where there is nothing left to take out.
fn without_entry(text: &str, start: usize) -> Option<String> {
    let begin = text.get(..start)?.rfind('\n').map_or(0, |i| i + 1);
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut lines = text[begin..].split_inclusive('\n');
    let first = lines.next()?;
    let depth = indent(first);
    let entry = first.len()
        + lines
            .take_while(|line| line.trim().is_empty() || indent(line) > depth)
            .map(str::len)
            .sum::<usize>();
    let taken = &text[begin..begin + entry];
    if taken.trim().is_empty() {
        return None;
    }
    let blank: String = taken.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
    Some(format!("{}{blank}{}", &text[..begin], &text[begin + entry..]))
}

struct Reader {
    source: Source,
    items: Vec<Diagnostic>,
    /// Something that stands in the file could not be read, so that nothing can be said about what is missing.
    incomplete: bool,
}

impl Reader {
    fn finish(mut self) -> Diagnostics {
        self.items.sort_by_key(|d| d.span.as_ref().map_or(0, |s| s.start));
        Diagnostics {
            source: self.source,
            items: self.items,
        }
    }

    /// Reads the file's form. What cannot be read is told and left out, and the rest is read again, so that one run finds
    /// every mistake.
    fn file(&mut self) -> Option<EnvironmentFile> {
        let mut text = self.source.text.clone();
        loop {
            let nothing_written =
                |line: &str| matches!(line.trim(), "" | "---" | "...") || line.trim().starts_with('#');
            if text.lines().all(nothing_written) {
                return Some(EnvironmentFile::default());
            }
            let options = serde_saphyr::options! { with_snippet: false };
            let error = match serde_saphyr::from_str_with_options(&text, options) {
                Ok(file) => return Some(file),
                Err(error) => error,
            };
            let entry = match &error {
                YamlError::SerdeUnknownField { .. }
                | YamlError::DuplicateMappingKey { .. }
                | YamlError::Unexpected { .. }
                | YamlError::InvalidScalar { .. } => {
                    // A file that begins with something else than a setting has none.
                    let whole = matches!(&error, YamlError::Unexpected { location, .. } if location.column() == 1);
                    error.location().filter(|_| !whole).and_then(|l| self.start(l))
                }
                // What was left out may be the cause of any other error.
                _ if self.incomplete => return None,
                _ => None,
            };
            self.yaml_error(&error);
            self.incomplete = true;
            let left_out = entry.and_then(|start| without_entry(&text, start));
            text = left_out.filter(|_| self.items.len() < MOST_MISTAKES_OF_FORM)?;
        }
    }

    /// Where something begins, in bytes. The parser knows no byte for a mistake in the YAML itself, only line and column.
    fn start(&self, location: Location) -> Option<usize> {
        if let Some(offset) = location.span().byte_offset() {
            return usize::try_from(offset).ok();
        }
        let line = usize::try_from(location.line()).ok()?.checked_sub(1)?;
        let column = usize::try_from(location.column()).ok()?.checked_sub(1)?;
        let begin: usize = self.source.text.split_inclusive('\n').take(line).map(str::len).sum();
        let text = self.source.text.get(begin..)?.lines().next().unwrap_or("");
        let before: usize = text.chars().take(column).map(char::len_utf8).sum();
        Some(begin + before)
    }

    /// The bytes of a value as it is written, at most to the end of its line: the parser's span, or what stands between
    /// brackets, or the rest of the line.
    fn range(&self, location: Location) -> Option<Range<usize>> {
        let start = self.start(location)?;
        let length = usize::try_from(location.span().byte_len().unwrap_or(0)).ok()?;
        let rest = self.source.text.get(start..)?;
        let line = rest.lines().next().unwrap_or("").trim_end();
        let length = if line.starts_with(['[', '{']) {
            bracketed(line)
        } else if length == 0 || length > line.len() {
            line.len()
        } else {
            length
        };
        // At the end of a line there is nothing to point at but the end itself.
        Some(start..(start + length))
    }

    fn add(&mut self, severity: Severity, location: Option<Location>, invalid: Invalid) {
        let span = location.and_then(|l| self.range(l));
        self.items.push(Diagnostic {
            severity,
            message: invalid.message,
            span,
            label: invalid.label,
            hint: invalid.hint,
        });
    }

    fn error(&mut self, at: Location, invalid: Invalid) {
        self.add(Severity::Error, Some(at), invalid);
    }

    fn yaml_error(&mut self, error: &YamlError) {
        let location = error.location();
        let invalid = match error {
            YamlError::SerdeUnknownField { field, expected, .. } => {
                let known: Vec<&str> = expected.to_vec();
                let nearest = known
                    .iter()
                    .map(|k| (strsim::damerau_levenshtein(k, field), *k))
                    .min()
                    .filter(|(distance, k)| *distance <= 3.max(k.len() / 3));
                let hint = match nearest {
                    Some((_, key)) => format!("did you mean {key:?}?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                Invalid::new(format!("unknown key {field:?}"), "unknown key").hint(hint)
            }
            YamlError::DuplicateMappingKey { key, .. } => {
                let key = key.as_deref().unwrap_or("this key");
                Invalid::new(format!("{key} is set twice"), "second time").hint("keep one of the two")
            }
            YamlError::Unexpected { expected, .. } if expected.contains("scalar") => {
                Invalid::new("this setting takes one value", "not one value").hint("write it as `key: value`")
            }
            YamlError::Unexpected { expected, .. } if expected.contains("sequence") => {
                Invalid::new("this setting takes a list", "not a list").hint("write it in brackets, for example [a, b]")
            }
            YamlError::Unexpected { expected, .. } if expected.contains("mapping") => {
                Invalid::new("settings are expected here", "not `key: value`")
                    .hint("compare with environments/demo.yaml or the JSON Schema (mfsre schema)")
            }
            YamlError::InvalidScalar { ty, .. } => {
                let (kind, example) = match *ty {
                    ty if ty.contains("bool") => ("true or false", "false"),
                    "u16" => ("a whole number from 0 to 65535", "3"),
                    _ => ("a whole number from 0 to 4294967295", "3"),
                };
                Invalid::new(format!("this setting takes {kind}"), format!("not {kind}"))
                    .hint(format!("write it without quotes, for example {example}"))
            }
            YamlError::SerdeMissingField { field, .. } => {
                Invalid::new(format!("{field} is missing here"), "incomplete").hint(format!("add `{field}:`"))
            }
            YamlError::MultipleDocuments { .. } => {
                Invalid::new("an environment file holds one document", "a second document")
                    .hint("remove the line `---` and what follows, or make it a file of its own")
            }
            other => {
                let text = other.without_snippet().to_string();
                let text = text.split(" at line ").next().unwrap_or(&text);
                let text = text.lines().next().unwrap_or("");
                let hint = if text.contains("tab") {
                    "YAML takes spaces for indentation, no tabs"
                } else {
                    "compare with environments/demo.yaml or the JSON Schema (mfsre schema)"
                };
                Invalid::new(format!("this is not YAML that can be read: {text}"), "here").hint(hint)
            }
        };
        self.add(Severity::Error, location, invalid);
    }

    fn scalar<T: Scalar>(&mut self, field: Option<&Spanned<String>>) -> Option<T> {
        let field = field?;
        match T::parse(&field.value) {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.error(field.referenced, invalid);
                None
            }
        }
    }

    /// The field's value, or the default where the field is absent; a bad value is reported and stood in for by the
    /// default, so that reading can go on.
    fn or_default<T: Scalar>(&mut self, field: Option<&Spanned<String>>, default: T) -> T {
        self.scalar(field).unwrap_or(default)
    }

    fn default_text<T: Scalar>(&mut self, field: Option<&Spanned<String>>, default: &str) -> Option<T> {
        self.scalar(field).or_else(|| T::parse(default).ok())
    }

    fn list<T: Scalar>(&mut self, field: Option<&Vec<Spanned<String>>>) -> Vec<T> {
        field
            .into_iter()
            .flatten()
            .filter_map(|item| self.scalar(Some(item)))
            .collect()
    }

    fn url(&mut self, field: Option<&Spanned<String>>) -> Option<Url> {
        let field = field?;
        match Url::parse(&field.value) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => {
                if url.password().is_some() || !url.username().is_empty() {
                    self.error(
                        field.referenced,
                        Invalid::new("the URL carries credentials", "credentials in a URL")
                            .hint("remove them: the file is committed"),
                    );
                    return None;
                }
                Some(url)
            }
            _ => {
                self.error(
                    field.referenced,
                    Invalid::new(format!("{:?} is not an HTTP URL", field.value), "not a URL")
                        .hint("write https://host/path"),
                );
                None
            }
        }
    }

    fn text(
        &mut self,
        field: Option<&Spanned<String>>,
        what: &str,
        ok: impl Fn(&str) -> bool,
        hint: &str,
    ) -> Option<String> {
        let field = field?;
        if ok(&field.value) {
            return Some(field.value.clone());
        }
        self.error(
            field.referenced,
            Invalid::new(format!("{:?} is not {what}", field.value), format!("not {what}")).hint(hint),
        );
        None
    }

    fn path(&mut self, field: Option<&Spanned<String>>) -> Option<PathBuf> {
        let ok = |path: &str| !path.is_empty() && !path.contains(char::is_control);
        self.text(field, "a path", ok, "write a path, or remove the setting")
            .map(PathBuf::from)
    }

    fn environment(&mut self, file: EnvironmentFile, stem: &str, today: Date) -> Option<Environment> {
        let name: Option<EnvironmentName> = self.default_text(file.name.as_ref(), "demo");
        if file.name.is_none() && stem != "demo" {
            self.add(
                Severity::Warning,
                None,
                Invalid::new(
                    format!("no name is set, so this environment is called demo, not {stem}"),
                    "",
                )
                .hint(format!("write `name: {stem}` to keep the two apart")),
            );
        }
        let region = self.default_text(file.region.as_ref(), "eu-west-1");
        let vpc_cidr = self.default_text(file.vpc_cidr.as_ref(), VpcCidr::DEFAULT);
        let cluster_version = self.cluster_version(file.cluster_version.as_ref(), today);
        let instance_types = self.instance_types(file.instance_types.as_ref());
        let capacity_type = self.or_default(file.capacity_type.as_ref(), CapacityType::Spot);
        let repository = self.repository(file.argocd_repository_url.as_ref());
        let access = file.access.unwrap_or_default();
        let access = Access {
            administrators: self.list(access.administrators.as_ref()),
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
        let secret_name = self.text(
            argocd_file.secret_name.as_ref(),
            "the name of a secret",
            |s| {
                !s.is_empty() && s.len() <= 512 && s.chars().all(|c| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c))
            },
            "Secrets Manager takes letters, digits and /_+=.@- for a name",
        );
        let autoscaling = Autoscaling {
            provider: self.or_default(
                file.autoscaling.unwrap_or_default().provider.as_ref(),
                AutoscalingProvider::PrometheusAdapter,
            ),
        };
        let observability = file.observability.unwrap_or_default();
        let observability =
            self.observability(observability.prometheus.as_ref(), observability.prometheus_url.as_ref());
        let owner = repository
            .as_ref()
            .and_then(RepositoryUrl::owner_and_name)
            .map_or("owner", |(owner, _)| owner);
        let registry = self.text(
            file.images.unwrap_or_default().registry.as_ref(),
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
            Some(r) if r.host() == "github.com" || file.sandbox.is_some() => GitHost::Github,
            _ => GitHost::Manual,
        };
        let git = Git {
            revision,
            host: self.or_default(git_file.host.as_ref(), default_host),
            api_url: self.url(git_file.api_url.as_ref()),
        };
        let mirrors = file.mirrors.unwrap_or_default();
        let mirrors = Mirrors {
            tools: self.url(mirrors.tools.as_ref()),
            terraform_providers: self.path(mirrors.terraform_providers.as_ref()),
            argocd_manifest: self.url(mirrors.argocd_manifest.as_ref()),
        };
        let terraform = Terraform {
            program: self.path(file.terraform.unwrap_or_default().program.as_ref()),
        };
        let sandbox = file.sandbox.map(|s| SandboxSettings {
            tools: s
                .tools
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(k, v)| Some((k, self.path(Some(&v))?)))
                .collect(),
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
            argocd,
            autoscaling,
            observability,
            images,
            git,
            mirrors,
            terraform,
            sandbox,
            names,
            checked_on: today,
            name,
        })
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

    fn instance_types(&mut self, field: Option<&Spanned<Vec<Spanned<String>>>>) -> Vec<crate::model::InstanceType> {
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
            Some(list) => self.list(Some(&list.value)),
        }
    }

    fn repository(&mut self, field: Option<&Spanned<String>>) -> Option<RepositoryUrl> {
        if field.is_none() && !self.incomplete {
            self.add(
                Severity::Error,
                None,
                Invalid::new("argocd_repository_url is missing", "")
                    .hint("add the repository that Argo CD reads, for example argocd_repository_url: git@github.com:acme/platform.git"),
            );
        }
        self.scalar(field)
    }

    fn zones(
        &mut self,
        field: Option<&Spanned<Vec<Spanned<String>>>>,
        region: Option<&crate::model::Region>,
    ) -> Vec<String> {
        let Some(list) = field else { return Vec::new() };
        let zones: Vec<String> = list.value.iter().map(|z| z.value.clone()).collect();
        let distinct: std::collections::BTreeSet<&String> = zones.iter().collect();
        let well_formed = zones.iter().all(|z| {
            region.is_none_or(|region| z.starts_with(region.as_str()))
                && z.len() > 3
                && z.ends_with(|c: char| c.is_ascii_lowercase())
                && z.contains('-')
                && z.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        });
        if zones.len() != 3 || distinct.len() != 3 || !well_formed {
            self.error(
                list.referenced,
                Invalid::new(
                    "availability_zones takes three different zones of the region",
                    "not three zones",
                )
                .hint("write for example [eu-west-1a, eu-west-1b, eu-west-1c], or leave it out for the first three"),
            );
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
            if reserved {
                self.error(
                    value.referenced,
                    Invalid::new(
                        format!("the tag {key:?} is set by AWS, Kubernetes or mfsre itself"),
                        "reserved",
                    )
                    .hint("choose another key"),
                );
            } else if key.is_empty()
                || key.chars().count() > 128
                || value.value.chars().count() > 256
                || !allowed(key)
                || !allowed(&value.value)
            {
                self.error(
                    value.referenced,
                    Invalid::new(
                        format!("AWS does not take the tag {key:?}: {:?}", value.value),
                        "not a tag",
                    )
                    .hint("letters, digits, spaces and _.:/+-@; 128 characters for the key, 256 for the value"),
                );
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

    fn observability(&mut self, source: Option<&Spanned<String>>, url: Option<&Spanned<String>>) -> Observability {
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
        }
    }

    fn backend(
        &mut self,
        file: Option<&BackendFile>,
        name: Option<&EnvironmentName>,
        region: Option<&crate::model::Region>,
    ) -> Backend {
        let Some(file) = file else { return Backend::Local };
        let kind = self.or_default(Some(&file.kind), BackendKind::Local);
        let s3 = [
            ("bucket", &file.bucket),
            ("key", &file.key),
            ("region", &file.region),
            ("kms_key_id", &file.kms_key_id),
        ];
        let cloud = [
            ("organization", &file.organization),
            ("workspace", &file.workspace),
            ("project", &file.project),
            ("hostname", &file.hostname),
        ];
        let foreign: Vec<_> = match kind {
            BackendKind::Local => s3.iter().chain(&cloud).collect(),
            BackendKind::S3 => cloud.iter().collect(),
            BackendKind::Cloud => s3.iter().collect(),
        };
        for (key, field) in foreign {
            if let Some(field) = field {
                self.error(
                    field.referenced,
                    Invalid::new(format!("{key} does not belong to this backend"), "not used")
                        .hint("remove it, or change type"),
                );
            }
        }
        let named = |s: &str| {
            !s.is_empty() && s.len() <= 90 && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_ ".contains(c))
        };
        let default_name = name.map(ToString::to_string).unwrap_or_default();
        match kind {
            BackendKind::Local => Backend::Local,
            BackendKind::S3 => {
                let bucket_ok = |s: &str| {
                    (3..=63).contains(&s.len())
                        && s.chars()
                            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
                        && s.starts_with(|c: char| c.is_ascii_alphanumeric())
                        && s.ends_with(|c: char| c.is_ascii_alphanumeric())
                };
                if file.bucket.is_none() && !self.incomplete {
                    self.error(
                        file.kind.referenced,
                        Invalid::new("the s3 backend needs a bucket", "which bucket?")
                            .hint("add bucket: NAME under backend"),
                    );
                }
                let bucket = self.text(
                    file.bucket.as_ref(),
                    "a bucket name",
                    bucket_ok,
                    "3 to 63 lower-case letters, digits, dots and dashes",
                );
                let key = self.text(
                    file.key.as_ref(),
                    "an object key",
                    |s| !s.is_empty() && s.len() <= 1024 && !s.starts_with('/') && !s.ends_with('/'),
                    "write for example demo/terraform.tfstate",
                );
                let bucket_region: Option<crate::model::Region> = self.scalar(file.region.as_ref());
                Backend::S3 {
                    bucket: bucket.unwrap_or_default(),
                    key: key.unwrap_or_else(|| format!("{default_name}/terraform.tfstate")),
                    region: bucket_region
                        .as_ref()
                        .or(region)
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    kms_key_id: self.text(
                        file.kms_key_id.as_ref(),
                        "a KMS key",
                        |s| !s.is_empty() && !s.contains(char::is_whitespace),
                        "write a key ARN or alias/NAME",
                    ),
                }
            }
            BackendKind::Cloud => {
                if file.organization.is_none() && !self.incomplete {
                    self.error(
                        file.kind.referenced,
                        Invalid::new("the cloud backend needs an organization", "which organization?")
                            .hint("add organization: NAME under backend"),
                    );
                }
                let hint = "letters, digits, dashes and underscores, 90 at most";
                Backend::Cloud {
                    organization: self
                        .text(file.organization.as_ref(), "an organization's name", named, hint)
                        .unwrap_or_default(),
                    workspace: self
                        .text(
                            file.workspace.as_ref(),
                            "a workspace's name",
                            |s| named(s) && !s.contains(' '),
                            hint,
                        )
                        .unwrap_or(default_name),
                    project: self.text(file.project.as_ref(), "a project's name", named, hint),
                    hostname: self.text(
                        file.hostname.as_ref(),
                        "a host name",
                        |s| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "-.:".contains(c)),
                        "write for example terraform.example.com",
                    ),
                }
            }
        }
    }
}
