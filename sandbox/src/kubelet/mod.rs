//! Plays the kubelet for the pods whose work matters here.
//!
//! KWOK reports pods as running without running anything. This agent runs real processes instead: for the pods of
//! main-service, exporter, Prometheus and prometheus-adapter one each, whose status it reports in KWOK's place, and for
//! Argo CD one beside KWOK's pods for each of three workloads. They are started, restarted with a growing pause, given
//! their ConfigMaps and Secrets as files and their service account's token, and stopped, as a kubelet would.

mod account;
mod addresses;
mod argocd;
mod mounts;
mod pod;
mod process;
mod programs;
mod references;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use self::addresses::Addresses;
pub(crate) use self::argocd::ArgoCd;
use self::pod::Pod;
use self::programs::App;
use crate::control_plane::client::KubeClient;
use crate::services::Shutdown;
use crate::services::json_lines::JsonLines;
use crate::services::pod_network::PodNetwork;
use crate::supervisor::launcher::Launcher;
use crate::supervisor::layout::Layout;
use crate::supervisor::probes::HttpProbe;
use crate::{Error, Health, Toolset};

/// How often the cluster is looked at.
const PERIOD: Duration = Duration::from_millis(500);
/// The ports that the pods listen on.
pub(crate) const POD_PORTS: [u16; 4] = [8080, 2112, 9090, 6443];

/// What it takes to run a process in a pod's stead.
#[derive(Debug)]
pub(crate) struct Agent {
    pub client: KubeClient,
    pub launcher: Arc<Launcher>,
    pub layout: Layout,
    pub tools: Toolset,
    /// The API server.
    pub server: Url,
    pub ca_pem: String,
    pub probe: HttpProbe,
    pub network: PodNetwork,
    /// The cluster's DNS.
    pub dns: SocketAddr,
    /// The proxy of the pod network.
    pub proxy: SocketAddr,
    /// What it could not do.
    pub log: JsonLines,
}

impl Agent {
    /// Writes to the log what could not be done, and about which pod.
    fn note(&self, about: &str, problem: &str) {
        self.log
            .append(&json!({"time": Timestamp::now(), "about": about, "problem": problem}));
    }
}

/// Opens the agent's log.
pub(crate) fn log(path: &Path) -> Result<JsonLines, Error> {
    JsonLines::open(path).map_err(|error| Error::Internal {
        action: "open the log of the kubelet".to_owned(),
        message: error.to_string(),
        next: format!("check that {} can be written", path.display()),
    })
}

/// Starts the work, which goes on until the shutdown. The processes are the launcher's to end, like all others.
pub(crate) fn start(agent: Agent, argo_cd: ArgoCd, stopping: Shutdown) -> JoinHandle<()> {
    let agent = Arc::new(agent);
    agent.launcher.board().part("kubelet", |part| {
        part.pid = Some(std::process::id());
        part.health = Health::Healthy;
        part.ready_after_ms = Some(0);
    });
    tokio::spawn(async move {
        tokio::join!(
            argocd::run(Arc::clone(&agent), argo_cd, stopping.clone()),
            pods(agent, stopping)
        );
    })
}

/// Gives each pod a task of its own, and tells it how the pod changes.
async fn pods(agent: Arc<Agent>, mut stopping: Shutdown) {
    let addresses = Addresses::default();
    let mut known: BTreeMap<String, watch::Sender<Option<Value>>> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        // An API server that does not answer is no reason to stop or start anything.
        let pods = scheduled(&agent).await;
        if let Err(error) = &pods {
            agent.note("every pod", &error.to_string());
        }
        if let Ok(pods) = pods {
            known.retain(|uid, pod| {
                let is_there = pods.contains_key(uid);
                if !is_there {
                    pod.send_replace(None);
                }
                // A task that has ended with its pod still there, because it could not remove it, is started anew.
                is_there && !pod.is_closed()
            });
            for (uid, (app, object)) in pods {
                if let Some(pod) = known.get(&uid) {
                    pod.send_if_modified(|known| {
                        let changed = known.as_ref() != Some(&object);
                        *known = Some(object);
                        changed
                    });
                    continue;
                }
                let Some(lease) = addresses.lease() else {
                    agent.note(app.name(), "every address of the pod network is in use");
                    continue;
                };
                match Pod::new(Arc::clone(&agent), app, &object, lease) {
                    Ok(pod) => {
                        let (sender, receiver) = watch::channel(Some(object));
                        tasks.spawn(pod.run(receiver, stopping.clone()));
                        known.insert(uid, sender);
                    }
                    Err(error) => agent.note(app.name(), &error.to_string()),
                }
            }
        }
        while tasks.try_join_next().is_some() {}
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
    // Each ends by itself, so that none is cut off while it starts a process.
    tasks.join_all().await;
}

/// The pods that are to be played, by their ids.
async fn scheduled(agent: &Agent) -> Result<BTreeMap<String, (App, Value)>, Error> {
    let names = App::ALL.map(App::name).join(",");
    let path = format!("/api/v1/pods?labelSelector=app.kubernetes.io%2Fname%20in%20({names})");
    let list = agent.client.get(&path).await?.unwrap_or_default();
    let Value::Array(pods) = list["items"].clone() else {
        return Ok(BTreeMap::new());
    };
    Ok(pods
        .into_iter()
        .filter(|pod| pod["spec"]["nodeName"].is_string())
        // An evicted pod has no process any more.
        .filter(|pod| !matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")))
        .filter_map(|pod| Some((pod["metadata"]["uid"].as_str()?.to_owned(), (App::of(&pod)?, pod))))
        .collect())
}
