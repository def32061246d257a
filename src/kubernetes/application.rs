use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{Kubernetes, KubernetesError, ObjectId};

/// An Argo CD Application as a person wants to see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApplicationStatus {
    /// Name.
    pub name: String,
    /// `Synced`, `OutOfSync` or `Unknown`.
    pub sync: String,
    /// `Healthy`, `Progressing`, `Degraded`, `Missing`, `Suspended` or `Unknown`.
    pub health: String,
    /// Commit it was compared with.
    pub revision: String,
    /// The repository it is deployed from.
    pub repository: String,
    /// Whether it was compared since its own definition changed last; until then the status is about what it was before.
    #[serde(skip)]
    pub compared: bool,
    /// The Application whose resource it is.
    pub parent: Option<String>,
    /// Why it is not in order, most telling first.
    pub reasons: Vec<String>,
}

/// A condition of an Application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Its type, such as `ComparisonError`.
    pub kind: String,
    /// Its message.
    pub message: String,
}

impl ApplicationStatus {
    /// Reads the status of an Application.
    #[must_use]
    pub fn of(application: &Value) -> Self {
        let text = |pointer: &str| {
            application
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let or_unknown = |text: String| if text.is_empty() { "Unknown".to_owned() } else { text };
        let sync = or_unknown(text("/status/sync/status"));
        let health = or_unknown(text("/status/health/status"));
        let mut reasons = Vec::new();
        let mut add = |reason: String| {
            if !reason.is_empty() && !reasons.contains(&reason) {
                reasons.push(reason);
            }
        };
        for condition in application
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let kind = condition["type"].as_str().unwrap_or_default();
            if kind.ends_with("Error") || kind.ends_with("Warning") {
                add(format!("{kind}: {}", condition["message"].as_str().unwrap_or_default()));
            }
        }
        let phase = text("/status/operationState/phase");
        if matches!(phase.as_str(), "Failed" | "Error") || (phase == "Running" && sync != "Synced") {
            add(text("/status/operationState/message"));
        }
        for resource in application
            .pointer("/status/resources")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let health = resource
                .pointer("/health/status")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if matches!(health, "Degraded" | "Missing") {
                let message = resource
                    .pointer("/health/message")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let kind = resource["kind"].as_str().unwrap_or_default();
                let name = resource["name"].as_str().unwrap_or_default();
                add(format!(
                    "{kind} {name} is {health}{}{message}",
                    if message.is_empty() { "" } else { ": " }
                ));
            }
        }
        if sync != "Synced" || health != "Healthy" {
            add(text("/status/health/message"));
        }
        let tracking = application
            .pointer("/metadata/annotations/argocd.argoproj.io~1tracking-id")
            .and_then(Value::as_str);
        let label = application
            .pointer("/metadata/labels/app.kubernetes.io~1instance")
            .and_then(Value::as_str);
        let parent = tracking
            .and_then(|t| t.split_once(':'))
            .map(|(parent, _)| parent)
            .or(label);
        Self {
            name: text("/metadata/name"),
            sync,
            health,
            revision: text("/status/sync/revision"),
            repository: text("/spec/source/repoURL"),
            compared: application.pointer("/spec/source") == application.pointer("/status/sync/comparedTo/source"),
            parent: parent.map(str::to_owned),
            reasons,
        }
    }

    /// Whether it is Synced and Healthy.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.sync == "Synced" && self.health == "Healthy"
    }

    /// Whether its status is about `commit` of `repository`. What is deployed from elsewhere does not depend on it.
    #[must_use]
    pub fn has_seen(&self, repository: &str, commit: Option<&str>) -> bool {
        self.compared && (self.repository != repository || commit.is_none_or(|c| self.revision == c))
    }
}

/// An Application of one repository, as a hard refresh leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshedApplication {
    /// Name.
    pub name: String,
    /// When Argo CD compared it last.
    pub reconciled: Option<Timestamp>,
    /// Whether a refresh was asked for and is not done yet.
    pub refreshing: bool,
    /// What Argo CD says where it cannot read the repository.
    pub access_error: Option<String>,
}

/// How git, SSH libraries and git hosts say that a repository cannot be read, in lower case. Any other failed comparison
/// comes after the reading.
const NO_ACCESS: [&str; 12] = [
    "authentication required",
    "authentication failed",
    "unable to authenticate",
    "handshake failed",
    "permission denied",
    "repository not found",
    "could not read from remote repository",
    "failed to list refs",
    "knownhosts",
    "error fetching",
    "error testing repository connectivity",
    "repository not accessible",
];

impl RefreshedApplication {
    /// Reads the status of an Application, if it is deployed from `repository`.
    #[must_use]
    pub fn of(application: &Value, repository: &str) -> Option<Self> {
        let spec = &application["spec"];
        let sources = spec["sources"].as_array().map_or(&[] as &[Value], Vec::as_slice);
        let mut sources = std::iter::once(&spec["source"]).chain(sources);
        if !sources.any(|source| source["repoURL"] == repository) {
            return None;
        }
        let conditions = application.pointer("/status/conditions").and_then(Value::as_array);
        Some(Self {
            name: application.pointer("/metadata/name")?.as_str()?.to_owned(),
            reconciled: application
                .pointer("/status/reconciledAt")
                .and_then(Value::as_str)
                .and_then(|t| t.parse().ok()),
            refreshing: application
                .pointer("/metadata/annotations/argocd.argoproj.io~1refresh")
                .is_some(),
            access_error: conditions.into_iter().flatten().find_map(|condition| {
                let message = condition["message"].as_str()?;
                let error = condition["type"].as_str()?.ends_with("Error");
                let lower = message.to_lowercase();
                (error && NO_ACCESS.iter().any(|sign| lower.contains(sign))).then(|| message.to_owned())
            }),
        })
    }

    /// Whether a refresh that was asked for at `since`, by the cluster's clock, is done.
    #[must_use]
    pub fn is_refreshed(&self, since: Timestamp) -> bool {
        // The status has whole seconds.
        !self.refreshing && self.reconciled.is_some_and(|at| at.as_second() >= since.as_second())
    }
}

impl Kubernetes {
    /// The Applications in Argo CD's namespace that are deployed from `repository`.
    ///
    /// # Errors
    /// The API cannot be asked.
    pub async fn applications_of(&self, repository: &str) -> Result<Vec<RefreshedApplication>, KubernetesError> {
        let list = self.list("argoproj.io/v1alpha1", "Application", Some("argocd")).await?;
        Ok(list
            .iter()
            .filter_map(|application| RefreshedApplication::of(application, repository))
            .collect())
    }

    /// Asks Argo CD to compare the Application `name` with Git anew, past its caches
    /// (<https://argo-cd.readthedocs.io/en/stable/user-guide/annotations-and-labels/>). One that is gone is no error.
    ///
    /// # Errors
    /// The API refuses it.
    pub async fn refresh_hard(&self, name: &str) -> Result<(), KubernetesError> {
        let patch = serde_json::json!({ "metadata": { "annotations": { "argocd.argoproj.io/refresh": "hard" } } });
        match self.merge(&Self::application_id(name), &patch).await {
            Err(error) if error.status() == Some(404) => Ok(()),
            result => result,
        }
    }

    /// The Applications in Argo CD's namespace, by name.
    ///
    /// # Errors
    /// The API cannot be asked.
    pub async fn applications(&self) -> Result<Vec<ApplicationStatus>, KubernetesError> {
        let list = self.list("argoproj.io/v1alpha1", "Application", Some("argocd")).await?;
        let mut applications: Vec<_> = list.iter().map(ApplicationStatus::of).collect();
        applications.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(applications)
    }

    /// Names the Application `name`.
    #[must_use]
    pub fn application_id(name: &str) -> ObjectId {
        ObjectId::namespaced("argoproj.io/v1alpha1", "Application", "argocd", name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_reasons_are_conditions_then_the_operation_then_resources() {
        let application = json!({
            "metadata": {"name": "apps", "annotations": {"argocd.argoproj.io/tracking-id": "root:argoproj.io/Application:argocd/apps"}},
            "status": {
                "sync": {"status": "OutOfSync", "revision": "abc"},
                "health": {"status": "Degraded"},
                "conditions": [{"type": "ComparisonError", "message": "chart not found"}],
                "operationState": {"phase": "Failed", "message": "one or more objects failed to apply"},
                "resources": [{"kind": "Deployment", "name": "web", "health": {"status": "Degraded", "message": "crash loop"}}],
            },
        });
        let status = ApplicationStatus::of(&application);
        assert_eq!(status.parent.as_deref(), Some("root"));
        assert_eq!(
            status.reasons,
            [
                "ComparisonError: chart not found",
                "one or more objects failed to apply",
                "Deployment web is Degraded: crash loop"
            ]
        );
        assert!(!status.is_ready());
    }

    #[test]
    fn a_refresh_is_done_when_the_annotation_is_gone_and_the_time_is_new() {
        let repository = "git@example.org:platform.git";
        let mut application = json!({
            "metadata": {"name": "apps", "annotations": {"argocd.argoproj.io/refresh": "hard"}},
            "spec": {"sources": [{"repoURL": "https://charts.example.org"}, {"repoURL": repository}]},
            "status": {"reconciledAt": "2026-01-01T00:00:10Z"},
        });
        let since: Timestamp = "2026-01-01T00:00:10.9Z".parse().unwrap();
        let of = |a: &Value| RefreshedApplication::of(a, repository).unwrap();
        assert!(!of(&application).is_refreshed(since), "it is asked for");
        application["metadata"]["annotations"] = json!({});
        assert!(of(&application).is_refreshed(since));
        application["status"]["reconciledAt"] = json!("2026-01-01T00:00:09Z");
        assert!(!of(&application).is_refreshed(since), "that was an earlier one");
        assert_eq!(
            RefreshedApplication::of(&application, "git@example.org:other.git"),
            None
        );
    }

    #[test]
    fn only_a_repository_that_cannot_be_read_is_an_access_error() {
        let with = |kind: &str, message: &str| {
            let application = json!({
                "metadata": {"name": "apps"},
                "spec": {"source": {"repoURL": "r"}},
                "status": {"conditions": [{"type": kind, "message": message}]},
            });
            RefreshedApplication::of(&application, "r").unwrap().access_error
        };
        let denied = "Failed to load target state: failed to generate manifest for source 1 of 1: rpc error: code = Unknown desc = failed to list refs: error creating SSH agent: \"SSH agent requested but SSH_AUTH_SOCK not-specified\"";
        assert_eq!(with("ComparisonError", denied).as_deref(), Some(denied));
        let denied = "rpc error: code = Unknown desc = ssh: handshake failed: ssh: unable to authenticate, attempted methods [none publickey]";
        assert_eq!(with("ComparisonError", denied).as_deref(), Some(denied));
        assert_eq!(
            with("ComparisonError", "failed to generate manifest: chart not found"),
            None
        );
        assert_eq!(with("OrphanedResourceWarning", "permission denied"), None);
    }

    #[test]
    fn a_status_is_about_a_commit_once_it_was_compared_with_it() {
        let source = json!({"repoURL": "git@example.org:platform.git", "path": "cd/apps"});
        let mut application = json!({
            "metadata": {"name": "apps"},
            "spec": {"source": source},
            "status": {"sync": {"status": "Synced", "revision": "new", "comparedTo": {"source": source}}},
        });
        let seen = |a: &Value| ApplicationStatus::of(a).has_seen("git@example.org:platform.git", Some("new"));
        assert!(seen(&application));
        application["status"]["sync"]["revision"] = json!("old");
        assert!(!seen(&application));
        application["status"]["sync"]["revision"] = json!("new");
        application["spec"]["source"]["path"] = json!("cd/other");
        assert!(!seen(&application), "the definition changed after the comparison");
        let chart = json!({"repoURL": "https://charts.example.org", "chart": "c"});
        application["spec"]["source"] = chart.clone();
        application["status"]["sync"] = json!({"revision": "1.2.3", "comparedTo": {"source": chart}});
        assert!(seen(&application), "a chart from elsewhere has versions of its own");
    }
}
