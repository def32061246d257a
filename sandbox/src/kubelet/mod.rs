//! Plays the kubelet for Argo CD.
//!
//! KWOK reports Argo CD's pods as running without running anything. This agent runs the real processes beside it, for
//! as long as their workloads exist in the cluster: started, restarted with a growing pause, given their ConfigMaps as
//! files, and stopped, as a kubelet would. Argo CD's other workloads (Dex, notifications, ApplicationSets) stay KWOK's.

mod workloads;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use url::Url;

use self::workloads::{NAMESPACE, Workload, askpass_socket, config_maps, environment, overrides, wants_pod};
use crate::control_plane::client::KubeClient;
use crate::files::{create_private_dir, make_executable, write_private};
use crate::services::Shutdown;
use crate::supervisor::launcher::{Launcher, Program, Running};
use crate::supervisor::layout::Layout;
use crate::supervisor::ports::Reserved;
use crate::supervisor::probes::HttpProbe;
use crate::supervisor::secrets::Secrets;
use crate::{Error, Health, Secret, Toolset};

/// How often the cluster is looked at.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a process may take to end with its workload; a kubelet's default is 30 s, and nothing here needs it.
const GRACE: Duration = Duration::from_secs(5);
/// The first and the longest pause before a restart, as a kubelet's but shorter.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// ConfigMaps that pods of Argo CD mount, and the folder that stands for the mount.
const MOUNTS: [(&str, &str); 2] = [("argocd-ssh-known-hosts-cm", "ssh"), ("argocd-tls-certs-cm", "tls")];

/// Argo CD's image has a program of this name, which the repo-server calls even where signatures are not checked, as
/// here (`ARGOCD_GPG_ENABLED=false`). An empty answer means that the commit is not signed.
const GIT_VERIFY_WRAPPER: &str = "#!/bin/sh\nexit 0\n";

/// Addresses and credentials of Argo CD's processes.
#[derive(Debug)]
pub(crate) struct ArgoCd {
    server: Port,
    server_metrics: Port,
    repo_server: Port,
    repo_server_metrics: Port,
    controller_metrics: Port,
    redis: SocketAddr,
    redis_password: Secret,
}

/// A port that is kept until its program starts for the first time.
#[derive(Debug)]
struct Port {
    reserved: Option<Reserved>,
    address: SocketAddr,
}

impl Port {
    fn reserve() -> Result<Self, Error> {
        let reserved = Reserved::new()?;
        Ok(Self {
            address: reserved.address(),
            reserved: Some(reserved),
        })
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl ArgoCd {
    /// Keeps a port for each listener.
    pub(crate) fn reserve(secrets: &Secrets, redis: SocketAddr) -> Result<Self, Error> {
        Ok(Self {
            server: Port::reserve()?,
            server_metrics: Port::reserve()?,
            repo_server: Port::reserve()?,
            repo_server_metrics: Port::reserve()?,
            controller_metrics: Port::reserve()?,
            redis,
            redis_password: secrets.redis_password.clone(),
        })
    }

    /// Each part's main address.
    pub(crate) fn addresses(&self) -> [(&'static str, SocketAddr); 3] {
        [
            (Workload::Server.name(), self.server.address()),
            (Workload::RepoServer.name(), self.repo_server.address()),
            (Workload::Controller.name(), self.controller_metrics.address()),
        ]
    }

    /// Argo CD's API and user interface.
    pub(crate) fn server_address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Gives up the ports that a workload's process is about to listen on.
    fn release(&mut self, workload: Workload) {
        let ports = match workload {
            Workload::Server => vec![&mut self.server, &mut self.server_metrics],
            Workload::RepoServer => vec![&mut self.repo_server, &mut self.repo_server_metrics],
            Workload::Controller => vec![&mut self.controller_metrics],
        };
        for port in ports {
            let _ = port.reserved.take().map(Reserved::release);
        }
    }
}

/// The agent.
#[derive(Debug)]
pub(crate) struct Kubelet {
    pub client: KubeClient,
    pub launcher: Arc<Launcher>,
    pub layout: Layout,
    pub tools: Toolset,
    pub server: Url,
    pub ca_pem: String,
    pub probe: HttpProbe,
    pub argo_cd: ArgoCd,
}

/// One workload's process.
#[derive(Debug, Default)]
struct Pod {
    running: Option<Running>,
    /// The pod template that the process was started from.
    template: Value,
    answers: bool,
    restarts: u32,
    not_before: Option<Instant>,
}

impl Kubelet {
    /// Works until the shutdown. Its processes are the launcher's to end, like all others.
    pub(crate) async fn run(mut self, mut stopping: Shutdown) {
        let mut pods = Workload::ALL.map(|workload| (workload, Pod::default()));
        let mut mounts = BTreeMap::new();
        loop {
            // An API server that does not answer is no reason to stop or start anything.
            let _ = self.look(&mut pods, &mut mounts).await;
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
        if let Ok(home) = self.layout.folder("argocd") {
            // It may lie outside the sandbox's folder.
            let _ = std::fs::remove_file(askpass_socket(&home));
        }
    }

    async fn look(&mut self, pods: &mut [(Workload, Pod); 3], mounts: &mut BTreeMap<&str, Value>) -> Result<(), Error> {
        let mounted = self.project_mounts(mounts).await?;
        let mut server_answered = false;
        for (workload, pod) in pods {
            let found = self.client.get(&workload.path()).await?.filter(wants_pod);
            self.reconcile(
                *workload,
                pod,
                found,
                mounted && (*workload == Workload::Server || server_answered),
            )
            .await?;
            server_answered |= *workload == Workload::Server && pod.answers;
        }
        Ok(())
    }

    /// Makes one process what its workload asks for.
    async fn reconcile(
        &mut self,
        workload: Workload,
        pod: &mut Pod,
        found: Option<Value>,
        may_start: bool,
    ) -> Result<(), Error> {
        let template = found.as_ref().map(|found| &found["spec"]["template"]);
        if let Some(running) = pod.running.clone() {
            if template != Some(&pod.template) {
                running.end(GRACE).await;
                *pod = Pod::default();
            } else if running.ended().is_some() {
                pod.running = None;
                pod.answers = false;
                pod.restarts += 1;
                let pause = PAUSE.0.saturating_mul(1 << pod.restarts.min(6)).min(PAUSE.1);
                pod.not_before = Some(Instant::now() + pause);
                let restarts = pod.restarts;
                self.launcher.board().part(workload.name(), |part| {
                    if let Health::Crashed { restarts: count, .. } = &mut part.health {
                        *count = restarts;
                    }
                });
            } else if !pod.answers {
                pod.answers = self.probe.succeeds(&workload.health(&self.argo_cd)).await;
                if pod.answers {
                    running.answered(self.launcher.board());
                }
            }
        }
        if let Some(template) = template
            && pod.running.is_none()
            && may_start
            && pod.not_before.is_none_or(|time| time <= Instant::now())
        {
            match self.start(workload, template).await {
                Ok(running) => {
                    pod.running = Some(running);
                    pod.template = template.clone();
                }
                Err(error) => {
                    // As a kubelet would show an event; a Secret or ConfigMap may still be on its way.
                    pod.not_before = Some(Instant::now() + PAUSE.0);
                    let restarts = pod.restarts;
                    self.launcher.board().part(workload.name(), |part| {
                        part.health = Health::Crashed {
                            exit: format!("not started: {error}"),
                            log_tail: String::new(),
                            restarts,
                        };
                    });
                }
            }
        }
        Ok(())
    }

    async fn start(&mut self, workload: Workload, template: &Value) -> Result<Running, Error> {
        let home = self.layout.folder("argocd")?;
        for folder in ["ssh", "tls", "plugins"] {
            create_private_dir(&home.join(folder))?;
        }
        let kubeconfig = self.write_kubeconfig(workload).await?;
        let mut maps = BTreeMap::new();
        for name in config_maps(template) {
            if let Some(map) = self.client.get(&config_map(name)).await? {
                maps.insert(name, map);
            }
        }
        let mut environment = environment(template, &maps);
        environment.extend(overrides(workload, &self.argo_cd, &home, &kubeconfig));
        environment.push(("PATH".to_owned(), self.link_programs()?.into()));
        let program = Program {
            part: workload.name(),
            executable: self.tools.require("argocd")?.path.clone(),
            arguments: workload.arguments(&self.argo_cd),
            environment,
        };
        self.argo_cd.release(workload);
        self.launcher.launch(program).await
    }

    /// A kubeconfig with a token of the workload's own service account, so that its RBAC rules hold here too.
    async fn write_kubeconfig(&self, workload: Workload) -> Result<PathBuf, Error> {
        // A year: the sandbox does not live as long, so nobody has to renew it.
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 31_536_000}});
        let path = format!(
            "/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{}/token",
            workload.name()
        );
        let token = self.client.create_and_read(&path, &request).await?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "in-cluster",
            "clusters": [{"name": "in-cluster", "cluster": {
                "server": self.server.as_str().trim_end_matches('/'),
                "certificate-authority-data": STANDARD.encode(&self.ca_pem),
            }}],
            "users": [{"name": workload.name(), "user": {"token": token["status"]["token"]}}],
            "contexts": [{"name": "in-cluster", "context": {
                "cluster": "in-cluster", "user": workload.name(), "namespace": NAMESPACE,
            }}],
        });
        let path = self
            .layout
            .folder("argocd")?
            .join(format!("{}.kubeconfig", workload.name()));
        write_private(&path, format!("{config:#}\n"))?;
        Ok(path)
    }

    /// A PATH with exactly what Argo CD's image has: the programs that the repo-server calls, and the system's.
    fn link_programs(&self) -> Result<String, Error> {
        let folder = self.layout.folder("bin")?;
        for name in ["git", "ssh", "helm", "kustomize"] {
            let link = folder.join(name);
            match std::os::unix::fs::symlink(&self.tools.require(name)?.path, &link) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(Error::file("create", &link)(error));
                }
                _ => {}
            }
        }
        let verify = folder.join("git-verify-wrapper.sh");
        write_private(&verify, GIT_VERIFY_WRAPPER)?;
        make_executable(&verify)?;
        Ok(format!("{}:/usr/bin:/bin", folder.display()))
    }

    /// Writes the mounted ConfigMaps to their folders where they changed; whether all of them exist.
    async fn project_mounts(&self, written: &mut BTreeMap<&str, Value>) -> Result<bool, Error> {
        let mut complete = true;
        for (name, folder) in MOUNTS {
            let Some(map) = self.client.get(&config_map(name)).await? else {
                complete = false;
                continue;
            };
            let data = &map["data"];
            if written.get(name) == Some(data) {
                continue;
            }
            let folder = self.layout.folder("argocd")?.join(folder);
            create_private_dir(&folder)?;
            for (file, content) in data.as_object().into_iter().flatten() {
                // Keys of a ConfigMap are file names: the API allows letters, digits, `-`, `_` and `.` only.
                write_private(&folder.join(file), content.as_str().unwrap_or_default())?;
            }
            written.insert(name, data.clone());
        }
        Ok(complete)
    }
}

fn config_map(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{name}")
}
