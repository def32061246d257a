//! Argo CD: real processes of its server, repo-server and application controller, beside KWOK's pods.
//!
//! They are one process for each workload and not for each pod, at fixed addresses, because the sandbox's user and Argo
//! CD's own parts reach them there. Argo CD's other workloads (Dex, notifications, ApplicationSets) stay KWOK's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::process::Process;
use super::references::References;
use super::{Agent, PERIOD};
use crate::files::{create_private_dir, make_executable, write_private};
use crate::services::Shutdown;
use crate::supervisor::launcher::{Program, Running};
use crate::supervisor::layout::Layout;
use crate::supervisor::ports::Reserved;
use crate::supervisor::secrets::Secrets;
use crate::{Error, Secret};

/// The namespace of Argo CD.
const NAMESPACE: &str = "argocd";
/// How long a process may take to end with its workload; a kubelet's default is 30 s, and nothing here needs it.
const GRACE: Duration = Duration::from_secs(5);
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

/// A workload whose pods do real work here. The order is the order of the first start: the server makes the `default`
/// project and `server.secretkey`, without which the others fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Workload {
    Server,
    RepoServer,
    Controller,
}

impl Workload {
    const ALL: [Self; 3] = [Self::Server, Self::RepoServer, Self::Controller];

    /// The part's name, which is the workload's, the service account's and the program's too.
    fn name(self) -> &'static str {
        match self {
            Self::Server => "argocd-server",
            Self::RepoServer => "argocd-repo-server",
            Self::Controller => "argocd-application-controller",
        }
    }

    /// The workload's path in the Kubernetes API.
    fn path(self) -> String {
        let kind = if self == Self::Controller {
            "statefulsets"
        } else {
            "deployments"
        };
        format!("/apis/apps/v1/namespaces/{NAMESPACE}/{kind}/{}", self.name())
    }

    /// Where the process shows that it answers.
    fn health(self, argo_cd: &ArgoCd) -> String {
        let address = match self {
            Self::Server => argo_cd.server_address(),
            Self::RepoServer => argo_cd.repo_server_metrics.address(),
            Self::Controller => argo_cd.controller_metrics.address(),
        };
        format!("http://{address}/healthz")
    }

    /// The command line. Everything listens on loopback, except the controller's metrics, for which there is no flag.
    fn arguments(self, argo_cd: &ArgoCd) -> Vec<String> {
        let port = |name: &str, address: SocketAddr| format!("--{name}={}", address.port());
        let mut arguments = vec![format!("--redis={}", argo_cd.redis), "--loglevel=info".to_owned()];
        if self != Self::RepoServer {
            arguments.push(format!("--repo-server={}", argo_cd.repo_server.address()));
            arguments.push("--repo-server-plaintext".to_owned());
        }
        arguments.extend(match self {
            Self::Server => vec![
                "--address=127.0.0.1".to_owned(),
                port("port", argo_cd.server_address()),
                "--metrics-address=127.0.0.1".to_owned(),
                port("metrics-port", argo_cd.server_metrics.address()),
                // Plain HTTP: the address is on loopback, and a certificate of ours would only be clicked away.
                "--insecure".to_owned(),
            ],
            Self::RepoServer => vec![
                "--address=127.0.0.1".to_owned(),
                port("port", argo_cd.repo_server.address()),
                "--metrics-address=127.0.0.1".to_owned(),
                port("metrics-port", argo_cd.repo_server_metrics.address()),
                "--disable-tls".to_owned(),
                // Its default is a path, and that alone makes it refuse to go without TLS.
                "--client-ca-path=".to_owned(),
            ],
            Self::Controller => vec![port("metrics-port", argo_cd.controller_metrics.address())],
        });
        arguments
    }
}

/// Works until the shutdown.
pub(super) async fn run(agent: Arc<Agent>, argo_cd: ArgoCd, mut stopping: Shutdown) {
    let mut beside = Beside {
        agent,
        argo_cd,
        mounted: BTreeMap::new(),
    };
    let mut workloads = Workload::ALL.map(|workload| (workload, Process::new(workload.name()), Value::Null));
    loop {
        // An API server that does not answer is no reason to stop or start anything.
        let _ = beside.look(&mut workloads).await;
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
    // It may lie outside the sandbox's folder.
    let _ = std::fs::remove_file(askpass_socket(&beside.agent.layout));
}

/// What runs beside Argo CD's pods.
#[derive(Debug)]
struct Beside {
    agent: Arc<Agent>,
    argo_cd: ArgoCd,
    /// The data of each mounted ConfigMap as it was written.
    mounted: BTreeMap<&'static str, Value>,
}

impl Beside {
    /// Looks at every workload with its process and the pod template that the process was started from.
    async fn look(&mut self, workloads: &mut [(Workload, Process, Value); 3]) -> Result<(), Error> {
        let mounted = self.project_mounts().await?;
        let mut server_answers = false;
        for (workload, process, template) in workloads {
            let found = self.agent.client.get(&workload.path()).await?.filter(wants_pod);
            let may_start = mounted && (*workload == Workload::Server || server_answers);
            self.reconcile(*workload, process, template, found, may_start).await;
            server_answers |= *workload == Workload::Server && process.answers();
        }
        Ok(())
    }

    /// Makes one process what its workload asks for.
    async fn reconcile(
        &mut self,
        workload: Workload,
        process: &mut Process,
        running: &mut Value,
        found: Option<Value>,
        may_start: bool,
    ) {
        let agent = Arc::clone(&self.agent);
        let board = agent.launcher.board();
        let template = found.as_ref().map(|found| &found["spec"]["template"]);
        if process.is_running() && template != Some(running) {
            process.stop(GRACE).await;
        }
        process.notice_end(board);
        if process.is_running() && !process.answers() && agent.probe.succeeds(&workload.health(&self.argo_cd)).await {
            process.answered(board);
        }
        if let Some(template) = template
            && may_start
            && process.is_due()
        {
            process.started(self.start(workload, template).await, board);
            running.clone_from(template);
        }
    }

    async fn start(&mut self, workload: Workload, template: &Value) -> Result<Running, Error> {
        let home = self.agent.layout.folder("argocd")?;
        for folder in ["ssh", "tls", "plugins"] {
            create_private_dir(&home.join(folder))?;
        }
        let kubeconfig = self.agent.write_kubeconfig(&home, NAMESPACE, workload.name()).await?;
        let own = overrides(workload, &self.argo_cd, &self.agent.layout, &home, &kubeconfig);
        let names: Vec<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
        let mut environment = References::new(&self.agent, NAMESPACE)
            .environment(template, &template["spec"]["containers"][0], &names)
            .await?;
        environment.extend(own);
        environment.push(("PATH".to_owned(), self.link_programs()?.into()));
        let program = Program {
            part: workload.name().to_owned(),
            executable: self.agent.tools.require("argocd")?.path.clone(),
            arguments: workload.arguments(&self.argo_cd),
            environment,
            restarts: true,
        };
        self.argo_cd.release(workload);
        self.agent.launcher.launch(program).await
    }

    /// A PATH with exactly what Argo CD's image has: the programs that the repo-server calls, and the system's.
    fn link_programs(&self) -> Result<String, Error> {
        let folder = self.agent.layout.folder("bin")?;
        for name in ["git", "ssh", "helm", "kustomize"] {
            let link = folder.join(name);
            match std::os::unix::fs::symlink(&self.agent.tools.require(name)?.path, &link) {
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
    async fn project_mounts(&mut self) -> Result<bool, Error> {
        let mut complete = true;
        for (name, folder) in MOUNTS {
            let Some(map) = self.agent.client.get(&config_map(name)).await? else {
                complete = false;
                continue;
            };
            let data = &map["data"];
            if self.mounted.get(name) == Some(data) {
                continue;
            }
            let folder = self.agent.layout.folder("argocd")?.join(folder);
            create_private_dir(&folder)?;
            for (file, content) in data.as_object().into_iter().flatten() {
                // Keys of a ConfigMap are file names: the API allows letters, digits, `-`, `_` and `.` only.
                write_private(&folder.join(file), content.as_str().unwrap_or_default())?;
            }
            self.mounted.insert(name, data.clone());
        }
        Ok(complete)
    }
}

fn config_map(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{name}")
}

/// Whether a workload wants a pod: it exists, is not being deleted and has replicas.
fn wants_pod(workload: &Value) -> bool {
    workload["metadata"]["deletionTimestamp"].is_null() && workload["spec"]["replicas"].as_u64() != Some(0)
}

/// The variables that stand for mounts and addresses inside a pod; they win over the workload's own.
fn overrides(
    workload: Workload,
    argo_cd: &ArgoCd,
    layout: &Layout,
    home: &Path,
    kubeconfig: &Path,
) -> Vec<(String, OsString)> {
    [
        ("ARGOCD_BINARY_NAME", OsString::from(workload.name())),
        ("ARGOCD_FAKE_IN_CLUSTER", "true".into()),
        ("KUBECONFIG", kubeconfig.into()),
        ("REDIS_PASSWORD", argo_cd.redis_password.expose().into()),
        ("ARGOCD_SSH_DATA_PATH", home.join("ssh").into()),
        ("ARGOCD_TLS_DATA_PATH", home.join("tls").into()),
        ("ARGOCD_GPG_ENABLED", "false".into()),
        ("ARGOCD_ASK_PASS_SOCK", askpass_socket(layout).into()),
        ("ARGOCD_PLUGINSOCKFILEPATH", home.join("plugins").into()),
        ("HELM_CACHE_HOME", home.join("helm/cache").into()),
        ("HELM_CONFIG_HOME", home.join("helm/config").into()),
        ("HELM_DATA_HOME", home.join("helm/data").into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Where the repo-server hands passwords to git. The default is the same path for every Argo CD of a machine.
fn askpass_socket(layout: &Layout) -> PathBuf {
    layout.socket("askpass")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_workload_being_deleted_or_scaled_to_zero_wants_no_pod() {
        assert!(wants_pod(&json!({"metadata": {}, "spec": {"replicas": 1}})));
        assert!(wants_pod(&json!({"metadata": {}, "spec": {}})));
        assert!(!wants_pod(&json!({"metadata": {}, "spec": {"replicas": 0}})));
        assert!(!wants_pod(
            &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 1}})
        ));
    }
}
