//! What Argo CD would deploy, rendered by the same programs that it calls, and judged by the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Kubectl;
use crate::project::Project;
use crate::tools::tool;

/// Kinds of addons that an offline sandbox lacks; a chart that brings its own kinds comes from the internet.
const WITHOUT_DEFINITION: [&str; 2] = ["EC2NodeClass", "NodePool"];

/// Renders everything of both shipped environments as Argo CD would, and has the API server check each object strictly.
pub(crate) fn every_rendered_object_is_accepted_by_the_api_server(project: &Project, kubectl: &Kubectl<'_>) {
    let kinds = kinds(kubectl);
    let mut undefined = BTreeSet::new();
    let mut remote = BTreeSet::new();
    // Argo CD's manifest is fetched from the internet otherwise.
    let demo = std::fs::read_to_string(project.root().join("environments/demo.yaml")).unwrap();
    project.write(
        "environments/demo.yaml",
        &format!("{demo}\nargocd:\n  manifest: vendored\n"),
    );
    for environment in ["demo", "sandbox"] {
        // `up` has rendered the sandbox with the host key of its own git server.
        if environment == "demo" {
            project.run(&["render", environment]).exit(0);
        }
        let rendered = Rendered::of(project, environment);
        assert!(
            rendered.objects.len() > 60,
            "{} objects of {environment}",
            rendered.objects.len()
        );
        remote.extend(rendered.remote);
        let mut items = Vec::new();
        for mut object in rendered.objects {
            let kind = (text(&object["apiVersion"]), text(&object["kind"]));
            let Some(namespaced) = kinds.get(&kind) else {
                undefined.insert(kind.1);
                continue;
            };
            if !namespaced && let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("namespace");
            }
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
        let answer = answer.unwrap_or_else(|e| panic!("the API server refuses what {environment} renders: {e}"));
        assert_eq!(answer.lines().count(), count, "one answer an object: {answer}");
        println!("    {environment}: {count} objects accepted");
    }
    assert_eq!(
        undefined,
        WITHOUT_DEFINITION.map(str::to_owned).into(),
        "these kinds were not judged, for their definitions come from the internet"
    );
    println!("    not judged: {undefined:?}, and the charts {remote:?}, which come from the internet");
    std::fs::write(project.root().join("environments/demo.yaml"), demo).unwrap();
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
    fn of(project: &Project, environment: &str) -> Self {
        let mut rendered = Self {
            root: project.root(),
            scratch: project.folder().join("values.json"),
            objects: Vec::new(),
            remote: BTreeSet::new(),
        };
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
