//! What Argo CD would deploy, rendered by the same programs that it calls, and judged by the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Kubectl;
use crate::project::Project;
use crate::tools::tool;

/// An environment with every optional setting.
const EVERYTHING: &str = "
autoscaling:
  provider: keda
observability:
  prometheus: existing
  prometheus_url: http://prometheus.observability.svc:9090
  service_monitor: true
  service_monitor_labels: {release: kube-prometheus-stack}
images:
  pull_secret: acme/registry
main_service:
  canary: true
network:
  flow_logs: true
argocd:
  manifest: vendored
";

/// What charts offer beyond the settings of an environment: the chart, its namespace, and values.
const OPTIONS: [(&str, &str, &str); 5] = [
    (
        "charts/main-service",
        "workloads",
        r#"{"autoscaling": {"provider": "none"}, "podAnnotations": {"a": "b"}, "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "a", "operator": "Exists"}], "imagePullSecrets": [{"name": "a"}],
            "image": {"digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000"},
            "networkPolicy": {"callers": [{"podSelector": {"matchLabels": {"a": "b"}}}]}}"#,
    ),
    (
        "charts/main-service",
        "workloads",
        r#"{"canary": {"enabled": true}, "networkPolicy": {"enabled": false}}"#,
    ),
    (
        "charts/exporter",
        "workloads",
        r#"{"mainAppUrl": "https://a.example.com/metrics", "nodeSelector": {"a": "b"}, "imagePullSecrets": [{"name": "a"}],
            "tolerations": [{"key": "a", "operator": "Exists"}]}"#,
    ),
    (
        "infra-charts/prometheus",
        "monitoring",
        r#"{"persistence": {"enabled": true, "storageClassName": "a", "createStorageClass": true},
            "dashboard": {"enabled": true}, "alertmanagers": ["alertmanager:9093"], "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "a", "operator": "Exists"}], "imagePullSecrets": [{"name": "a"}]}"#,
    ),
    (
        "infra-charts/prometheus-adapter",
        "monitoring",
        r#"{"tls": {"insecureSkipVerify": true}, "nodeSelector": {"a": "b"}, "imagePullSecrets": [{"name": "a"}],
            "tolerations": [{"key": "a", "operator": "Exists"}]}"#,
    ),
];

/// Renders everything as Argo CD would, of both shipped environments and of one with every optional setting, and has the API
/// server check each object strictly.
pub(crate) fn every_rendered_object_is_accepted_by_the_api_server(project: &Project, kubectl: &Kubectl<'_>) {
    // Of the kinds that come from the internet with their addons.
    let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/definitions");
    let definitions = format!("--filename={}", definitions.display());
    kubectl.run(&["apply", "--server-side", "--field-manager=test", &definitions]);
    kubectl.run(&["wait", "--for=condition=Established", "--timeout=30s", &definitions]);
    let kinds = kinds(kubectl);
    // Argo CD's manifest is fetched from the internet otherwise.
    let demo = std::fs::read_to_string(project.root().join("environments/demo.yaml")).unwrap();
    project.write(
        "environments/demo.yaml",
        &format!("{demo}\nargocd:\n  manifest: vendored\n"),
    );
    let everything = demo.replace("name: demo", "name: everything");
    project.write("environments/everything.yaml", &format!("{everything}{EVERYTHING}"));
    let mut remote = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for environment in ["demo", "sandbox", "everything"] {
        // `up` has rendered the sandbox with the host key of its own git server.
        if environment != "sandbox" {
            project.run(&["render", environment]).exit(0);
        }
        let rendered = Rendered::of(project, environment);
        assert!(
            rendered.objects.len() > 60,
            "{} objects of {environment}",
            rendered.objects.len()
        );
        remote.extend(rendered.remote);
        judge(kubectl, &kinds, environment, rendered.objects, &mut seen);
    }
    for (chart, namespace, values) in OPTIONS {
        let mut rendered = Rendered::nothing(project);
        let values = json!({ "valuesObject": serde_json::from_str::<Value>(values).unwrap() });
        let output = rendered.chart("a-name", &project.root().join("cd").join(chart), namespace, &values);
        rendered.add(documents(&output), namespace);
        // The cluster's own has mfsre's CA, and the two exclude each other.
        rendered.objects.retain(|o| o["spec"]["insecureSkipTLSVerify"] != true);
        judge(kubectl, &kinds, chart, rendered.objects, &mut seen);
    }
    for kind in [
        "EC2NodeClass",
        "NodePool",
        "Rollout",
        "ScaledObject",
        "ServiceMonitor",
        "StorageClass",
    ] {
        assert!(seen.contains(kind), "no {kind} was rendered");
    }
    println!("    not judged: the charts {remote:?}, which come from the internet");
    kubectl.run(&["delete", "--wait", &definitions]);
    std::fs::write(project.root().join("environments/demo.yaml"), demo).unwrap();
    for path in ["environments/everything.yaml", "cd/root/everything.yaml"] {
        std::fs::remove_file(project.root().join(path)).unwrap();
    }
    for path in ["infra/everything", "cd/environments/everything"] {
        std::fs::remove_dir_all(project.root().join(path)).unwrap();
    }
}

/// Has the API server check objects without keeping them; notes their kinds.
fn judge(
    kubectl: &Kubectl<'_>,
    kinds: &BTreeMap<(String, String), bool>,
    of: &str,
    objects: Vec<Value>,
    seen: &mut BTreeSet<String>,
) {
    let mut items = Vec::new();
    for mut object in objects {
        let kind = (text(&object["apiVersion"]), text(&object["kind"]));
        let namespaced = kinds
            .get(&kind)
            .unwrap_or_else(|| panic!("{of} has the unknown kind {kind:?}"));
        if !namespaced && let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        seen.insert(kind.1);
        items.push(object);
    }
    let count = items.len();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    let arguments = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=test",
        "--dry-run=server",
        "--validate=strict",
        "--filename=-",
    ];
    let answer = kubectl.try_run(&arguments, &list.to_string());
    let answer = answer.unwrap_or_else(|e| panic!("the API server refuses what {of} renders: {e}"));
    assert_eq!(answer.lines().count(), count, "one answer an object: {answer}");
    println!("    {of}: {count} objects accepted");
}

/// API version and kind of everything that the API server knows, and whether it lies in a namespace.
fn kinds(kubectl: &Kubectl<'_>) -> BTreeMap<(String, String), bool> {
    let table = kubectl.run(&["api-resources", "--no-headers"]);
    table
        .lines()
        .map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let [.., version, namespaced, kind] = columns.as_slice() else {
                panic!("a line of kubectl api-resources: {line}");
            };
            (((*version).to_owned(), (*kind).to_owned()), *namespaced == "true")
        })
        .collect()
}

/// What the Applications of an environment deploy.
struct Rendered {
    root: std::path::PathBuf,
    scratch: std::path::PathBuf,
    objects: Vec<Value>,
    remote: BTreeSet<String>,
}

impl Rendered {
    fn nothing(project: &Project) -> Self {
        Self {
            root: project.root(),
            scratch: project.folder().join("values.json"),
            objects: Vec::new(),
            remote: BTreeSet::new(),
        }
    }

    fn of(project: &Project, environment: &str) -> Self {
        let mut rendered = Self::nothing(project);
        let roots = std::fs::read_to_string(rendered.root.join(format!("cd/root/{environment}.yaml"))).unwrap();
        rendered.add(documents(&roots), "argocd");
        rendered
    }

    /// Takes objects in, and what the Applications among them deploy.
    fn add(&mut self, objects: Vec<Value>, namespace: &str) {
        for mut object in objects {
            if object["kind"] == "Application" {
                self.application(&object);
            }
            if object["metadata"]["namespace"].is_null() {
                object["metadata"]["namespace"] = json!(namespace);
            }
            self.objects.push(object);
        }
    }

    fn application(&mut self, application: &Value) {
        let (name, spec) = (text(&application["metadata"]["name"]), &application["spec"]);
        let sources = match spec["sources"].as_array() {
            Some(sources) => sources.clone(),
            None => vec![spec["source"].clone()],
        };
        let namespace = text(&spec["destination"]["namespace"]);
        for source in sources {
            if let Some(chart) = source["chart"].as_str() {
                self.remote.insert(chart.to_owned());
                continue;
            }
            let path = self.root.join(text(&source["path"]));
            let output = if path.join("Chart.yaml").exists() {
                self.chart(&name, &path, &namespace, &source["helm"])
            } else {
                run(Command::new(tool("kustomize")).arg("build").arg(&path))
            };
            self.add(documents(&output), &namespace);
        }
    }

    fn chart(&self, name: &str, path: &Path, namespace: &str, settings: &Value) -> String {
        let mut values = Vec::new();
        for file in settings["valueFiles"].as_array().into_iter().flatten() {
            values.push(path.join(text(file)));
        }
        if settings["valuesObject"].is_object() {
            std::fs::write(&self.scratch, settings["valuesObject"].to_string()).unwrap();
            values.push(self.scratch.clone());
        }
        let values = values.iter().flat_map(|v| [Path::new("--values"), v.as_path()]);
        let values: Vec<_> = values.collect();
        run(Command::new(tool("helm"))
            .args(["lint", "--strict", "--quiet"])
            .arg(path)
            .args(&values));
        run(Command::new(tool("helm"))
            .args(["template", name])
            .arg(path)
            .args(["--namespace", namespace])
            .args(&values))
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents.into_iter().filter(|d| !d.is_null()).collect()
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is a string"))
        .to_owned()
}
