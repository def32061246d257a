//! One pod: its process, from the moment it is scheduled until it is gone, and what the cluster is told of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Agent;
use super::addresses::Lease;
use super::mounts::Mounts;
use super::process::Process;
use super::programs::{App, Place, port};
use super::references::References;
use crate::files::remove_dir;
use crate::services::Shutdown;
use crate::supervisor::launcher::Running;
use crate::{Error, Health, Part};

/// How often a process is looked at.
const PERIOD: Duration = Duration::from_millis(250);
/// How often mounted ConfigMaps and Secrets are read again; a kubelet takes up to a minute.
const REFRESH: Duration = Duration::from_secs(15);
/// How long a process may take to end where the pod does not say.
const GRACE: u64 = 30;

/// The task of one pod.
#[derive(Debug)]
pub(super) struct Pod {
    agent: Arc<Agent>,
    app: App,
    namespace: String,
    name: String,
    uid: String,
    folder: PathBuf,
    lease: Lease,
    process: Process,
    readiness: Readiness,
    created: Timestamp,
    began: Option<Timestamp>,
    ready_since: Timestamp,
    reported: Option<Value>,
    projected: Instant,
}

impl Pod {
    /// A pod that was just seen for the first time.
    pub(super) fn new(agent: Arc<Agent>, app: App, pod: &Value, lease: Lease) -> Result<Self, Error> {
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name, uid) = (text("namespace"), text("name"), text("uid"));
        let folder = agent.layout.folder("pods")?.join(&name);
        let container = &pod["spec"]["containers"][0];
        let address = (agent.network.loopback(lease.host()), port(container));
        let log = agent.layout.log(&name);
        agent.launcher.board().add_part(Part {
            name: name.clone(),
            pod: Some(format!("{namespace}/{name}")),
            version: app.version(&agent.tools),
            pid: None,
            address: Some(std::net::SocketAddr::from(address).to_string()),
            memory_bytes: None,
            health: Health::Starting,
            ready_after_ms: None,
            restarts: 0,
            log,
        });
        let now = Timestamp::now();
        Ok(Self {
            process: Process::new(&name),
            readiness: Readiness::of(container, address.into()),
            agent,
            app,
            namespace,
            name,
            uid,
            folder,
            lease,
            created: now,
            began: None,
            ready_since: now,
            reported: None,
            projected: Instant::now(),
        })
    }

    /// Works until the pod is gone or the sandbox ends. `pod` is the object as it is in the API, `None` once it is gone.
    pub(super) async fn run(mut self, mut pod: watch::Receiver<Option<Value>>, mut stopping: Shutdown) {
        loop {
            let object = pod.borrow_and_update().clone();
            match object {
                None => {
                    // Removed by force: nobody waits for it.
                    self.process.stop(Duration::ZERO).await;
                    break;
                }
                Some(object) if !object["metadata"]["deletionTimestamp"].is_null() => {
                    self.terminate(&object, &mut pod, &mut stopping).await;
                    break;
                }
                Some(object) => self.tend(&object).await,
            }
            tokio::select! {
                // The process is the launcher's to end, like all others.
                _ = stopping.wait_for(|stop| *stop) => return,
                _ = pod.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
        self.agent.launcher.board().remove_part(&self.name);
        // What cannot be removed goes with the sandbox's folder.
        let _ = remove_dir(&self.folder);
    }

    /// Makes the process what the pod asks for, and tells the cluster how it fares.
    async fn tend(&mut self, pod: &Value) {
        let container = &pod["spec"]["containers"][0];
        let agent = Arc::clone(&self.agent);
        let board = agent.launcher.board();
        self.process.notice_end(board);
        if self.process.is_due() {
            let attempt = self.start(pod, container).await;
            if attempt.is_ok() {
                self.began = Some(Timestamp::now());
                self.readiness.forget();
            }
            self.process.started(attempt, board);
        } else if self.process.is_running() && self.projected.elapsed() > REFRESH {
            self.projected = Instant::now();
            if let Err(error) = self.project(pod, container).await {
                // A Secret that is gone meanwhile leaves the mounted one as it was.
                agent.note(&self.name, &error.to_string());
            }
        }
        let ready = self.process.is_running() && self.readiness.look(&agent).await;
        if ready && !self.process.answers() {
            self.process.answered(board);
        }
        self.report(pod, container, ready).await;
    }

    async fn start(&mut self, pod: &Value, container: &Value) -> Result<Running, Error> {
        let mounts = self.project(pod, container).await?;
        let mut references = References::new(&self.agent, &self.namespace);
        let environment = references.environment(pod, container, &[]).await?;
        let kubeconfig = self.kubeconfig(pod);
        if self.app.needs_account() {
            let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
            self.agent
                .write_kubeconfig(&self.folder, &self.namespace, account)
                .await?;
        }
        let place = self.place(&kubeconfig);
        let program = self
            .app
            .program(&self.agent, &self.name, &place, &mounts, container, environment)?;
        self.agent.launcher.launch(program).await
    }

    /// Writes the pod's volumes.
    async fn project(&self, pod: &Value, container: &Value) -> Result<Mounts, Error> {
        crate::files::create_private_dir(&self.folder)?;
        let mounts = Mounts::new(self.folder.clone(), container);
        let mut references = References::new(&self.agent, &self.namespace);
        let kubeconfig = self.kubeconfig(pod);
        let place = self.place(&kubeconfig);
        let adapt = |file: &str, text: &str| self.app.adapt(file, text, &place, container);
        mounts
            .project(&self.agent, &mut references, pod, container, &adapt)
            .await?;
        Ok(mounts)
    }

    fn kubeconfig(&self, pod: &Value) -> PathBuf {
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        self.folder.join(format!("{account}.kubeconfig"))
    }

    fn place<'a>(&self, kubeconfig: &'a std::path::Path) -> Place<'a> {
        let network = self.agent.network;
        Place {
            pod: network.pod_address(self.lease.host()),
            address: network.loopback(self.lease.host()),
            dns: self.agent.dns,
            proxy: self.agent.proxy,
            kubeconfig: self.app.needs_account().then_some(kubeconfig),
        }
    }

    /// Ends the process as the pod asks for, and then removes the pod.
    async fn terminate(&mut self, pod: &Value, changes: &mut watch::Receiver<Option<Value>>, stopping: &mut Shutdown) {
        let container = &pod["spec"]["containers"][0];
        let seconds = |value: &Value| value.as_u64().map(Duration::from_secs);
        let grace = seconds(&pod["metadata"]["deletionGracePeriodSeconds"])
            .or_else(|| seconds(&pod["spec"]["terminationGracePeriodSeconds"]))
            .unwrap_or(Duration::from_secs(GRACE));
        let pause = seconds(&container["lifecycle"]["preStop"]["sleep"]["seconds"])
            .unwrap_or_default()
            .min(grace);
        if self.process.is_running() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changes.wait_for(Option::is_none) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            tokio::select! {
                () = self.process.stop(grace.saturating_sub(pause)) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
        if let Err(error) = self.agent.client.remove(&self.path(), &self.uid).await {
            // It is seen again, and comes here again.
            self.agent.note(&self.name, &error.to_string());
        }
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }

    /// Tells the cluster, where there is something new to tell.
    async fn report(&mut self, pod: &Value, container: &Value, ready: bool) {
        let was = self
            .reported
            .as_ref()
            .is_some_and(|status| status["containerStatuses"][0]["ready"] == true);
        if ready != was {
            self.ready_since = Timestamp::now();
        }
        let status = self.status(pod, container, ready);
        if self.reported.as_ref() == Some(&status) {
            return;
        }
        match self.agent.client.patch_status(&self.path(), &status).await {
            Ok(()) => self.reported = Some(status),
            // What could not be told is told next time.
            Err(error) => self.agent.note(&self.name, &error.to_string()),
        }
    }

    /// The pod's status as a kubelet writes it.
    fn status(&self, pod: &Value, container: &Value, ready: bool) -> Value {
        let address = self.agent.network.pod_address(self.lease.host());
        let condition = |kind: &str, status: bool, since: Timestamp| {
            let status = if status { "True" } else { "False" };
            json!({"type": kind, "status": status, "lastTransitionTime": second(since)})
        };
        // Exactly one of the states may be there, and a merge takes away only what is null.
        let state = match (self.process.is_running(), self.began) {
            (true, Some(began)) => json!({"running": {"startedAt": second(began)}, "waiting": null}),
            (_, began) => {
                let reason = if began.is_some() {
                    "CrashLoopBackOff"
                } else {
                    "ContainerCreating"
                };
                json!({"running": null, "waiting": {"reason": reason, "message": self.process.problem()}})
            }
        };
        json!({
            "phase": if self.began.is_some() { "Running" } else { "Pending" },
            "startTime": second(self.created),
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [
                condition("Initialized", true, self.created),
                condition("Ready", ready, self.ready_since),
                condition("ContainersReady", ready, self.ready_since),
            ],
            "containerStatuses": [{
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": ready,
                "started": self.process.is_running() && self.process.answers(),
                "restartCount": self.process.restarts(),
                "state": state,
            }],
            "observedGeneration": pod["metadata"]["generation"],
        })
    }
}

/// Times of the Kubernetes API are whole seconds.
fn second(time: Timestamp) -> String {
    let whole = Timestamp::from_second(time.as_second()).unwrap_or(time);
    whole.to_string()
}

/// How a container shows that it is ready: by its readiness probe over HTTP, or else by running.
#[derive(Debug)]
struct Readiness {
    url: Option<String>,
    period: Duration,
    threshold: u64,
    ready: bool,
    failures: u64,
    asked: Option<Instant>,
}

impl Readiness {
    fn of(container: &Value, address: std::net::SocketAddr) -> Self {
        let probe = &container["readinessProbe"];
        let get = &probe["httpGet"];
        let number = |value: &Value, default| value.as_u64().unwrap_or(default);
        let url = get.is_object().then(|| {
            let named = |name: &str| {
                let ports = container["ports"].as_array().into_iter().flatten();
                ports
                    .into_iter()
                    .find(|port| port["name"] == name)
                    .and_then(|port| port["containerPort"].as_u64())
            };
            let port = get["port"].as_u64().or_else(|| named(get["port"].as_str()?));
            format!(
                "{}://{}:{}{}",
                get["scheme"].as_str().unwrap_or("HTTP").to_ascii_lowercase(),
                address.ip(),
                port.unwrap_or_else(|| address.port().into()),
                get["path"].as_str().unwrap_or("/"),
            )
        });
        Self {
            url,
            period: Duration::from_secs(number(&probe["periodSeconds"], 10)),
            threshold: number(&probe["failureThreshold"], 3),
            ready: false,
            failures: 0,
            asked: None,
        }
    }

    /// A new process has to show it anew.
    fn forget(&mut self) {
        self.ready = false;
        self.failures = 0;
        self.asked = None;
    }

    /// Whether the container is ready. Until it is, it is asked more often than it says, so that nobody waits.
    async fn look(&mut self, agent: &Agent) -> bool {
        let Some(url) = &self.url else {
            return true;
        };
        let period = if self.ready { self.period } else { PERIOD };
        if self.asked.is_some_and(|asked| asked.elapsed() < period) {
            return self.ready;
        }
        self.asked = Some(Instant::now());
        let succeeds = agent.probe.succeeds(url).await;
        self.note(succeeds)
    }

    fn note(&mut self, succeeds: bool) -> bool {
        self.failures = if succeeds { 0 } else { self.failures + 1 };
        self.ready = succeeds || (self.ready && self.failures < self.threshold);
        self.ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_asked_where_the_probe_says() {
        let container = json!({
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "https", "containerPort": 6443}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "https", "scheme": "HTTPS"}, "periodSeconds": 5},
        });
        let readiness = Readiness::of(&container, ([127, 1, 2, 3], 8080).into());
        assert_eq!(readiness.url.as_deref(), Some("https://127.1.2.3:6443/readyz"));
        assert_eq!((readiness.period, readiness.threshold), (Duration::from_secs(5), 3));
        let none = Readiness::of(&json!({}), ([127, 1, 2, 3], 8080).into());
        assert_eq!(none.url, None);
    }

    #[test]
    fn a_ready_container_may_miss_two_probes() {
        let container = json!({"readinessProbe": {"httpGet": {"path": "/", "port": 1}}});
        let mut readiness = Readiness::of(&container, ([127, 1, 2, 3], 1).into());
        let noted: Vec<bool> = [false, true, false, false, true, false, false, false, true]
            .map(|succeeds| readiness.note(succeeds))
            .into();
        assert_eq!(noted, [false, true, true, true, true, true, true, false, true]);
        readiness.forget();
        assert!(!readiness.note(false), "a new process is not ready before it says so");
    }

    #[test]
    fn a_time_is_whole_seconds() {
        let time: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        assert_eq!(second(time), "2026-01-02T03:04:05Z");
    }
}
