//! What runs, where, and how it fares.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::StartedBy;

/// How every part has ended that has lost its supervisor.
pub(crate) const SUPERVISOR_ENDED: &str = "the supervisor has ended";

/// A running sandbox: the addresses and files that other programs need, and each part's health.
///
/// Serialised it holds the sandbox's own credentials, which open nothing outside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The environment's name.
    pub name: String,
    /// The value for `AWS_ENDPOINT_URL`.
    pub aws_endpoint_url: Url,
    /// The region that the emulator plays.
    pub region: String,
    /// The AWS account, twelve digits.
    pub account: String,
    /// Who the credentials below are to STS.
    pub caller_arn: String,
    /// The value for `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// The value for `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Secret,
    /// A kubeconfig with a client certificate of `system:masters`, for the sandbox's own use and for looking around.
    pub kubeconfig: PathBuf,
    /// The API server.
    pub kubernetes_endpoint: Url,
    /// Argo CD's API and user interface; answers once Argo CD was applied to the cluster.
    pub argocd_url: Url,
    /// The repository as Argo CD and git know it.
    pub git_url: String,
    /// The stand-in of GitHub's API; takes deploy keys.
    pub git_api_url: Url,
    /// The bearer token for `git_api_url`.
    pub git_api_token: Secret,
    /// The git server's host key as a line for `known_hosts`.
    pub git_known_hosts: String,
    /// A private key in OpenSSH format that may push.
    pub operator_key: PathBuf,
    /// The git server's access log, one JSON object a line.
    pub git_access_log: PathBuf,
    /// The command that started the sandbox.
    pub started_by: StartedBy,
    /// An HTTP proxy that reaches pods by address and Services by name, such as `http://main-service.workloads.svc:8080`.
    pub pod_proxy_url: Url,
    /// The processes and servers, in the order in which they start.
    pub parts: Vec<Part>,
}

impl Status {
    /// The part of that name.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Whether the platform itself stands: no part but a pod's has crashed or is still starting. Pods are the cluster's
    /// affair, which makes and replaces them.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let platform = self.parts.iter().filter(|part| part.pod.is_none());
        platform
            .into_iter()
            .all(|part| matches!(part.health, Health::Healthy | Health::Stopped))
    }

    /// The parts that have ended and are not started again, without which the platform does not work.
    pub fn lost(&self) -> impl Iterator<Item = &Part> {
        let is_lost = |part: &&Part| matches!(part.health, Health::Crashed { restarting: false, .. });
        self.parts.iter().filter(is_lost)
    }

    /// Whether the supervisor has ended, and everything with it: the next start cleans up and begins anew.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(&part.health, Health::Crashed { exit, .. } if exit == SUPERVISOR_ENDED))
    }

    /// Whether no part has crashed and none is still starting. Parts that nobody asked for yet (Argo CD's) do not count.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.parts
            .iter()
            .all(|part| matches!(part.health, Health::Healthy | Health::Stopped))
    }
}

/// One process, or one server inside the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// For example `kube-apiserver`; a pod's own name for the process of a pod.
    pub name: String,
    /// The pod that the process stands for, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its version.
    pub version: String,
    /// Its process; the supervisor's for a server that runs inside it.
    pub pid: Option<u32>,
    /// Where it listens, as `host:port`.
    pub address: Option<String>,
    /// Resident memory in bytes, as measured when the status was asked for; absent for what runs inside the supervisor.
    pub memory_bytes: Option<u64>,
    /// How it fares.
    pub health: Health,
    /// Milliseconds from its start until it first answered.
    pub ready_after_ms: Option<u64>,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
    /// Its log.
    pub log: PathBuf,
}

/// How a part fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Health {
    /// Started, not answering yet.
    Starting,
    /// Answered when it started, and still running.
    Healthy,
    /// Ended without having been asked to.
    Crashed {
        /// How the process ended, for example `signal: 9 (SIGKILL)`.
        exit: String,
        /// The last lines of its log.
        log_tail: String,
        /// Whether it is started again after a pause.
        restarting: bool,
    },
    /// Not running, and not meant to.
    Stopped,
}

/// A generated credential of the sandbox. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub(crate) fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

/// What [`stop`](crate::stop) did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Whether a supervisor was running.
    pub was_running: bool,
    /// Processes that had to be killed because they outlived the supervisor.
    pub killed: Vec<u32>,
}
