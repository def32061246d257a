//! The Kubernetes API, and the controllers that work behind it: Argo CD's, and the one of load balancers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::http::{Answer, Request};
use super::{GitHost, merge};

/// API, plural, kind, and whether it is namespaced.
const KINDS: [(&str, &str, &str, bool); 17] = [
    ("v1", "namespaces", "Namespace", false),
    ("v1", "secrets", "Secret", true),
    ("v1", "configmaps", "ConfigMap", true),
    ("v1", "services", "Service", true),
    ("v1", "serviceaccounts", "ServiceAccount", true),
    ("v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    ("v1", "pods", "Pod", true),
    ("apps/v1", "deployments", "Deployment", true),
    ("apps/v1", "statefulsets", "StatefulSet", true),
    ("networking.k8s.io/v1", "ingresses", "Ingress", true),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", true),
    ("rbac.authorization.k8s.io/v1", "roles", "Role", true),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", false),
    (
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        false,
    ),
    ("apiregistration.k8s.io/v1", "apiservices", "APIService", false),
    ("argoproj.io/v1alpha1", "applications", "Application", true),
    ("argoproj.io/v1alpha1", "appprojects", "AppProject", true),
];

/// Which Applications a root makes.
const CHILDREN: [(&str, &str); 3] = [
    ("addons", "argo-cd"),
    ("workloads", "main-service"),
    ("infra-workloads", "prometheus-adapter"),
];

const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";
const PRUNES: &str = "resources-finalizer.argocd.argoproj.io";
const CLEANS_UP: &str = "service.kubernetes.io/load-balancer-cleanup";

/// Plural, namespace (empty for an object of the cluster) and name.
type Id = (String, String, String);

/// For how long the API cannot be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Away {
    #[default]
    Not,
    /// For so many calls, as while it is started again.
    For(u64),
    ForEver,
}

#[derive(Clone, Default)]
pub(crate) struct Cluster {
    pub(crate) objects: BTreeMap<Id, Value>,
    version: u64,
    pub(crate) away: Away,
    /// What must never be.
    pub(crate) violations: Vec<String>,
}

fn id(plural: &str, namespace: &str, name: &str) -> Id {
    (plural.into(), namespace.into(), name.into())
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    let outcome = if code < 300 { "Success" } else { "Failure" };
    let body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": outcome, "reason": reason, "message": message, "code": code });
    Answer::json(code, &body)
}

fn missing() -> Answer {
    status(404, "NotFound", "there is no such thing")
}

/// Where a request leads.
struct Route<'a> {
    api: String,
    namespace: &'a str,
    plural: &'a str,
    name: &'a str,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Self {
        let mut parts = path.trim_start_matches('/').split('/').peekable();
        let api = match parts.next() {
            Some("api") => parts.next().unwrap_or_default().to_owned(),
            _ => format!(
                "{}/{}",
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default()
            ),
        };
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        Self {
            api,
            namespace,
            plural: rest.first().copied().unwrap_or_default(),
            name: rest.get(1).copied().unwrap_or_default(),
        }
    }
}

impl Cluster {
    fn has(&self, plural: &str, namespace: &str, name: &str) -> bool {
        self.objects.contains_key(&id(plural, namespace, name))
    }

    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&id(plural, namespace, name))
    }

    /// Whether a call that comes now finds nobody.
    pub(super) fn is_away(&mut self) -> bool {
        match self.away {
            Away::Not | Away::For(0) => false,
            Away::For(calls) => {
                self.away = Away::For(calls - 1);
                true
            }
            Away::ForEver => true,
        }
    }

    /// What a token of credentials that have run out gets.
    pub(super) fn unknown_caller() -> Answer {
        status(401, "Unauthorized", "Unauthorized")
    }

    pub(super) fn argocd_secret(&self) -> Value {
        self.get("secrets", "argocd", "argocd-secret")
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn has_load_balancers(&self) -> bool {
        self.objects.values().any(|o| o["spec"]["type"] == "LoadBalancer")
    }

    /// Argo CD is at work once all of it is there.
    pub(crate) fn runs_argo_cd(&self) -> bool {
        self.has("deployments", "argocd", "argocd-server")
            && self.has("deployments", "argocd", "argocd-repo-server")
            && self.has("statefulsets", "argocd", "argocd-application-controller")
    }

    fn serves(&self, api: &str, plural: &str) -> bool {
        let built_in = !api.starts_with("argoproj.io/");
        built_in || self.has("customresourcedefinitions", "", &format!("{plural}.argoproj.io"))
    }

    pub(super) fn answer(&mut self, request: &Request) -> Answer {
        if request.path() == "/version" {
            let version = json!({ "major": "1", "minor": "35", "gitVersion": "v1.35.4", "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "" });
            return Answer::json(200, &version);
        }
        let route = Route::of(request.path());
        if route.plural == "selfsubjectreviews" {
            let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": { "creationTimestamp": now() }, "status": {} });
            return Answer::json(201, &review);
        }
        let kinds: Vec<_> = KINDS
            .iter()
            .filter(|k| k.0 == route.api && self.serves(k.0, k.1))
            .collect();
        if kinds.is_empty() {
            return missing();
        }
        if route.plural.is_empty() {
            let verbs = ["get", "list", "patch", "delete"];
            let resources: Vec<Value> = kinds
                .iter()
                .map(|(_, plural, kind, namespaced)| json!({ "name": plural, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": verbs }))
                .collect();
            let list = json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": route.api, "resources": resources });
            return Answer::json(200, &list);
        }
        let Some((_, _, kind, _)) = kinds.iter().find(|k| k.1 == route.plural) else {
            return missing();
        };
        let id = id(route.plural, route.namespace, route.name);
        match request.method.as_str() {
            "GET" if route.name.is_empty() => {
                let found = |(at, _): &(&Id, &Value)| {
                    at.0 == route.plural && (route.namespace.is_empty() || at.1 == route.namespace)
                };
                let items: Vec<Value> = if route.plural == "pods" {
                    self.pods()
                } else {
                    self.objects.iter().filter(found).map(|(_, o)| o.clone()).collect()
                };
                let list =
                    json!({ "apiVersion": route.api, "kind": format!("{kind}List"), "metadata": {}, "items": items });
                Answer::json(200, &list)
            }
            "GET" => self
                .objects
                .get(&id)
                .map_or_else(missing, |object| Answer::json(200, object)),
            "PATCH" => {
                let apply = request.header("content-type").is_some_and(|t| t.contains("apply"));
                self.patch(id, kind, &request.json(), apply)
            }
            "DELETE" => self.delete(&id),
            _ => status(405, "MethodNotAllowed", &request.method),
        }
    }

    fn patch(&mut self, id: Id, kind: &str, patch: &Value, apply: bool) -> Answer {
        let there = self.objects.get(&id).cloned();
        if there.is_none() && !apply {
            return missing();
        }
        if !id.1.is_empty() && !self.has("namespaces", "", &id.1) {
            return status(404, "NotFound", &format!("namespaces {:?} not found", id.1));
        }
        if there
            .as_ref()
            .is_some_and(|o| o["metadata"]["deletionTimestamp"].is_string())
            && id.0 == "namespaces"
        {
            return status(409, "Conflict", "it is being deleted");
        }
        let mut object = there
            .clone()
            .unwrap_or_else(|| json!({ "metadata": { "uid": "u", "creationTimestamp": now() } }));
        let at = &patch["metadata"]["resourceVersion"];
        if at.is_string() && object["metadata"]["resourceVersion"] != *at {
            return status(409, "Conflict", "it has another version");
        }
        merge(&mut object, patch);
        if kind == "CustomResourceDefinition" {
            object["status"]["conditions"] = json!([{ "type": "Established", "status": "True" }]);
        }
        if id.2 == "argocd-server" && self.argocd_secret()["data"]["admin.password"].is_null() {
            self.violations
                .push("Argo CD started without a password and made one of its own".into());
        }
        let new = there.is_none();
        if there.as_ref() != Some(&object) {
            self.put(id.clone(), object);
        }
        Answer::json(if new { 201 } else { 200 }, &self.objects[&id])
    }

    fn put(&mut self, id: Id, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(id, object);
    }

    fn delete(&mut self, id: &Id) -> Answer {
        let Some(object) = self.objects.get(id).cloned() else {
            return missing();
        };
        self.mark(id.clone(), object);
        status(200, "", "")
    }

    /// Marks an object as being deleted, and removes it if nobody has to do anything before.
    fn mark(&mut self, id: Id, mut object: Value) {
        let waits = object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|f| !f.is_empty());
        if waits || id.0 == "namespaces" {
            if !object["metadata"]["deletionTimestamp"].is_string() {
                object["metadata"]["deletionTimestamp"] = json!(now());
                self.put(id, object);
            }
        } else {
            self.objects.remove(&id);
        }
    }

    fn ids(&self, chosen: impl Fn(&Id, &Value) -> bool) -> Vec<Id> {
        self.objects
            .iter()
            .filter(|(id, object)| chosen(id, object))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Lets the controllers do what is due.
    pub(super) fn settle(&mut self, git_host: &GitHost, head: &str) {
        if self.runs_argo_cd() {
            self.sync(git_host, head);
        }
        // The controller of load balancers, which removes what is behind a Service before the Service goes.
        let doomed = self
            .ids(|_, o| o["metadata"]["deletionTimestamp"].is_string() && o["metadata"]["finalizers"][0] == CLEANS_UP);
        for id in doomed {
            self.objects.remove(&id);
        }
        // A kind takes its objects along.
        for (api, plural, ..) in KINDS {
            if !self.serves(api, plural) {
                self.objects.retain(|id, _| id.0 != plural);
            }
        }
        // A namespace goes with the last object in it.
        for namespace in self.ids(|id, o| id.0 == "namespaces" && o["metadata"]["deletionTimestamp"].is_string()) {
            for id in self.ids(|id, _| id.1 == namespace.2) {
                let object = self.objects[&id].clone();
                self.mark(id, object);
            }
            if self.ids(|id, _| id.1 == namespace.2).is_empty() {
                self.objects.remove(&namespace);
            }
        }
    }

    /// Argo CD's application controller.
    fn sync(&mut self, git_host: &GitHost, head: &str) {
        for (root, child) in CHILDREN {
            let Some(parent) = self.get("applications", "argocd", root).cloned() else {
                continue;
            };
            let heals = parent["spec"]["syncPolicy"]["automated"].is_object();
            if parent["metadata"]["deletionTimestamp"].is_string() {
                for id in self.ids(|id, _| id.0 == "applications" && id.2 == child) {
                    let object = self.objects[&id].clone();
                    self.mark(id, object);
                }
            } else if heals && !self.has("applications", "argocd", child) {
                self.deploy(root, child, &parent);
            }
        }
        let opens = self.repository_key().is_some_and(|key| git_host.knows(&key));
        for id in self.ids(|id, _| id.0 == "applications") {
            let before = self.objects[&id].clone();
            if before["metadata"]["deletionTimestamp"].is_string() {
                if before["metadata"]["finalizers"][0]
                    .as_str()
                    .is_some_and(|f| f.starts_with(PRUNES))
                {
                    self.objects.remove(&id);
                }
                continue;
            }
            let mut application = before.clone();
            let asked = application["metadata"]["annotations"]
                .as_object_mut()
                .and_then(|a| a.remove("argocd.argoproj.io/refresh"));
            if asked.is_some()
                || application["status"].is_null()
                || application["status"]["sync"]["comparedTo"]["source"] != application["spec"]["source"]
            {
                let error = json!([{ "type": "ComparisonError", "message": "rpc error: authentication required" }]);
                application["status"] = json!({
                    "reconciledAt": now(),
                    "conditions": if opens { json!([]) } else { error },
                    "sync": { "status": if opens { "Synced" } else { "Unknown" }, "revision": head, "comparedTo": { "source": application["spec"]["source"] } },
                    "health": { "status": "Healthy" },
                });
                if !opens {
                    self.violations
                        .push(format!("Argo CD could not read the repository for {}", id.2));
                }
            }
            if application != before {
                self.put(id, application);
            }
        }
    }

    fn deploy(&mut self, root: &str, child: &str, parent: &Value) {
        let finalizers = if child == "argo-cd" { json!([]) } else { json!([PRUNES]) };
        let application = json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {
                "name": child,
                "namespace": "argocd",
                "finalizers": finalizers,
                "annotations": { "argocd.argoproj.io/tracking-id": format!("{root}:argoproj.io/Application:argocd/{child}") },
            },
            "spec": { "source": { "repoURL": parent["spec"]["source"]["repoURL"], "path": child }, "syncPolicy": { "automated": {} } },
        });
        self.put(id("applications", "argocd", child), application);
        match child {
            "main-service" => {
                let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "workloads" } });
                self.put(id("namespaces", "", "workloads"), namespace);
                // Somebody's own, which no Application takes away.
                let service = json!({
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": { "name": "front", "namespace": "workloads", "finalizers": [CLEANS_UP] },
                    "spec": { "type": "LoadBalancer" },
                });
                self.put(id("services", "workloads", "front"), service);
            }
            "prometheus-adapter" => {
                let service = json!({ "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": API_SERVICE }, "spec": {} });
                self.put(id("apiservices", "", API_SERVICE), service);
            }
            _ => {}
        }
    }

    /// The public part of the key that Argo CD reads the repository with.
    pub(crate) fn repository_key(&self) -> Option<String> {
        let held = self.get("secrets", "argocd", "mfsre-repository")?;
        let private = STANDARD.decode(held["data"]["sshPrivateKey"].as_str()?).ok()?;
        let key = ssh_key::PrivateKey::from_openssh(private).ok()?;
        key.public_key().to_openssh().ok()
    }

    fn pods(&self) -> Vec<Value> {
        if !self.runs_argo_cd() {
            return Vec::new();
        }
        vec![json!({
            "metadata": { "name": "argocd-server-1", "namespace": "argocd" },
            "spec": { "containers": [] },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        })]
    }
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
