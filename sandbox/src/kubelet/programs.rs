//! Which programs stand for which pods, and what each is told besides its specification.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};

use super::Agent;
use super::mounts::Mounts;
use crate::supervisor::launcher::Program;
use crate::{Error, Toolset};

/// A program whose pods do real work here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum App {
    MainService,
    Exporter,
    Prometheus,
    PrometheusAdapter,
}

impl App {
    pub(super) const ALL: [Self; 4] = [
        Self::MainService,
        Self::Exporter,
        Self::Prometheus,
        Self::PrometheusAdapter,
    ];

    /// The program that stands for a pod; `None` for a pod of KWOK's. `control_plane/kwok.yaml` leaves out the same.
    pub(super) fn of(pod: &Value) -> Option<Self> {
        let metadata = &pod["metadata"];
        Self::ALL.into_iter().find(|app| {
            metadata["namespace"] == app.namespace() && metadata["labels"]["app.kubernetes.io/name"] == app.name()
        })
    }

    /// The name that its pods carry as `app.kubernetes.io/name`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MainService => "main-service",
            Self::Exporter => "exporter",
            Self::Prometheus => "prometheus",
            Self::PrometheusAdapter => "prometheus-adapter",
        }
    }

    pub(super) fn namespace(self) -> &'static str {
        match self {
            Self::MainService | Self::Exporter => "workloads",
            Self::Prometheus | Self::PrometheusAdapter => "monitoring",
        }
    }

    /// Its version, where it is a tool; the exporter is a part of this program.
    pub(super) fn version(self, tools: &Toolset) -> String {
        match tools.get(self.name()) {
            Some(tool) => tool.version.clone(),
            None => concat!("v", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// Whether it calls the API server.
    pub(super) fn needs_account(self) -> bool {
        matches!(self, Self::Prometheus | Self::PrometheusAdapter)
    }

    /// A mounted file as the program must have it here; `None` where it stays as it is.
    pub(super) fn adapt(
        self,
        file: &str,
        text: &str,
        place: &Place<'_>,
        container: &Value,
    ) -> Result<Option<String>, Error> {
        let arguments = container["args"].as_array().into_iter().flatten();
        let is_config = arguments
            .filter_map(Value::as_str)
            .any(|argument| argument.strip_prefix("--config.file=") == Some(file));
        if self == Self::Prometheus && is_config {
            prometheus_config(text, place).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The process that stands for a pod. `environment` is what the pod's specification gives it.
    pub(super) fn program(
        self,
        agent: &Agent,
        part: &str,
        place: &Place<'_>,
        mounts: &Mounts,
        container: &Value,
        mut environment: Vec<(String, OsString)>,
    ) -> Result<Program, Error> {
        for (_, value) in &mut environment {
            if let Some(text) = value.to_str() {
                *value = mounts.rebase(text).into();
            }
        }
        if let Some(folder) = mounts.folder("/tmp") {
            environment.push(("TMPDIR".to_owned(), folder.into()));
        }
        let specified = container["args"].as_array().into_iter().flatten();
        let specified = specified
            .filter_map(Value::as_str)
            .map(|argument| mounts.rebase(argument));
        let mut arguments: Vec<String> = Vec::new();
        let mut set = |name: &str, value: String| environment.push((name.to_owned(), value.into()));
        let listen = SocketAddr::from((place.address, port(container)));
        let tool = || agent.tools.require(self.name()).map(|tool| tool.path.clone());
        let executable = match self {
            Self::MainService => {
                set("BIND", listen.to_string());
                arguments.extend(["-m", "main_service"].map(str::to_owned));
                arguments.extend(specified);
                tool()?
            }
            Self::Exporter => {
                set("EXPORTER_LISTEN", listen.to_string());
                set("EXPORTER_DNS_SERVER", place.dns.to_string());
                arguments.extend(["sandbox", "exporter", "--"].map(str::to_owned));
                arguments.extend(specified);
                agent.launcher.executable().to_path_buf()
            }
            Self::Prometheus => {
                arguments.extend(specified);
                arguments.push(format!("--web.listen-address={listen}"));
                tool()?
            }
            Self::PrometheusAdapter => {
                // Only what is asked of the Prometheus goes by plain HTTP, and so through the proxy.
                set("HTTP_PROXY", place.proxy());
                arguments.extend(specified);
                arguments.push(format!("--bind-address={}", place.address));
                if let Some(kubeconfig) = place.kubeconfig {
                    for purpose in ["lister", "authentication", "authorization"] {
                        arguments.push(format!("--{purpose}-kubeconfig={}", kubeconfig.display()));
                    }
                }
                tool()?
            }
        };
        Ok(Program {
            part: part.to_owned(),
            executable,
            arguments,
            environment,
            restarts: true,
        })
    }
}

/// Where a pod's process is, and what it reaches the others by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The pod's address in the cluster.
    pub pod: Ipv4Addr,
    /// The address to listen on.
    pub address: Ipv4Addr,
    /// The cluster's DNS.
    pub dns: SocketAddr,
    /// The proxy of the pod network.
    pub proxy: SocketAddr,
    /// For what calls the API server.
    pub kubeconfig: Option<&'a Path>,
}

impl Place<'_> {
    /// The proxy's URL for this pod, which says as its user which pod that is.
    fn proxy(&self) -> String {
        format!("http://{}@{}", self.pod, self.proxy)
    }
}

/// The first port of a container.
pub(super) fn port(container: &Value) -> u16 {
    let port = container["ports"][0]["containerPort"].as_u64();
    port.and_then(|port| u16::try_from(port).ok()).unwrap_or_default()
}

/// Prometheus' configuration with two settings more for each scrape job: the proxy of the pod network, because pods
/// are not at their addresses, and a kubeconfig for finding them, because the process is not in a pod. Everything else
/// stays. It is written as JSON, which is YAML.
fn prometheus_config(text: &str, place: &Place<'_>) -> Result<String, Error> {
    let failed = |message: String| Error::Internal {
        action: "read the configuration of Prometheus".to_owned(),
        message,
        next: "correct its ConfigMap in the namespace monitoring".to_owned(),
    };
    let mut config: Value = serde_saphyr::from_str(text).map_err(|error| failed(error.to_string()))?;
    for job in config["scrape_configs"].as_array_mut().into_iter().flatten() {
        let Some(job) = job.as_object_mut() else {
            return Err(failed("a scrape job is no mapping".to_owned()));
        };
        job.insert("proxy_url".to_owned(), json!(place.proxy()));
        for discovery in job
            .get_mut("kubernetes_sd_configs")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            discovery["kubeconfig_file"] = json!(place.kubeconfig);
        }
    }
    Ok(format!("{config:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::flags::KWOK_STAGES;

    fn place() -> Place<'static> {
        Place {
            pod: Ipv4Addr::new(10, 200, 3, 12),
            address: Ipv4Addr::new(127, 200, 3, 12),
            dns: ([127, 200, 3, 1], 10_053).into(),
            proxy: ([127, 200, 3, 1], 4711).into(),
            kubeconfig: Some(Path::new("/pod/prometheus.kubeconfig")),
        }
    }

    #[test]
    fn a_pod_is_played_by_its_namespace_and_name() {
        let pod = |namespace: &str, name: &str| json!({"metadata": {"namespace": namespace, "labels": {"app.kubernetes.io/name": name}}});
        assert_eq!(App::of(&pod("workloads", "main-service")), Some(App::MainService));
        assert_eq!(App::of(&pod("monitoring", "main-service")), None);
        assert_eq!(App::of(&pod("workloads", "other")), None);
        assert_eq!(App::of(&json!({"metadata": {"namespace": "workloads"}})), None);
    }

    #[test]
    fn kwok_leaves_exactly_these_pods_alone() {
        let names: Vec<String> = App::ALL.map(|app| format!("{}/{}", app.namespace(), app.name())).into();
        let expected = format!("values: [{}]", names.join(", "));
        let stages: Vec<&str> = KWOK_STAGES
            .split("\n---\n")
            .filter(|stage| stage.contains("kind: Pod}"))
            .collect();
        assert_eq!(stages.len(), 3);
        for stage in stages {
            assert!(stage.contains(&expected), "{expected} is missing in {stage}");
        }
    }

    #[test]
    fn prometheus_gets_a_proxy_and_a_kubeconfig_and_keeps_the_rest() {
        let text = r#"
global: {scrape_interval: 15s}
rule_files: [/etc/prometheus/alerts.yaml]
scrape_configs:
  - job_name: prometheus
    static_configs: [{targets: ["localhost:9090"]}]
  - job_name: annotated-pods
    kubernetes_sd_configs: [{role: pod}]
    relabel_configs:
      - {source_labels: [x], action: keep, regex: "true"}
"#;
        let before: Value = serde_saphyr::from_str(text).unwrap();
        let after = prometheus_config(text, &place()).unwrap();
        let mut after: Value = serde_json::from_str(&after).unwrap();
        for job in after["scrape_configs"].as_array_mut().unwrap() {
            let proxy = job.as_object_mut().unwrap().remove("proxy_url").unwrap();
            assert_eq!(proxy, "http://10.200.3.12@127.200.3.1:4711");
        }
        let discovery = after["scrape_configs"][1]["kubernetes_sd_configs"][0]
            .as_object_mut()
            .unwrap();
        assert_eq!(
            discovery.remove("kubeconfig_file").unwrap(),
            "/pod/prometheus.kubeconfig"
        );
        assert_eq!(after, before);
        assert_eq!(
            after["scrape_configs"][1]["relabel_configs"][0]["regex"], "true",
            "a text stays one"
        );
    }

    #[test]
    fn a_configuration_that_is_none_is_refused_with_the_reason() {
        for text in ["scrape_configs: [", "scrape_configs: [a]"] {
            let error = prometheus_config(text, &place()).unwrap_err().to_string();
            assert!(
                error.contains("configuration of Prometheus") && error.contains("ConfigMap"),
                "{error}"
            );
        }
    }

    #[test]
    fn only_the_configuration_file_is_adapted() {
        let container = json!({"args": ["--config.file=/etc/prometheus/prometheus.yaml"]});
        let adapt = |app: App, file| app.adapt(file, "scrape_configs: []", &place(), &container).unwrap();
        assert!(adapt(App::Prometheus, "/etc/prometheus/prometheus.yaml").is_some());
        assert_eq!(adapt(App::Prometheus, "/etc/prometheus/alerts.yaml"), None);
        assert_eq!(adapt(App::PrometheusAdapter, "/etc/prometheus/prometheus.yaml"), None);
    }
}
