//! Bringing the parts up in their order, and down again.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

use super::keeper::Keeper;
use super::launcher::{Launcher, Program};
use super::layout::Layout;
use super::plan::Plan;
use super::ports::Reserved;
use super::probes::{HttpProbe, Readiness};
use super::secrets::Secrets;
use super::servers::{Inputs, Listeners, Servers, git_url};
use super::state::Board;
use crate::control_plane::client::KubeClient;
use crate::control_plane::pki::Pki;
use crate::control_plane::{flags, kubeconfig, nodes};
use crate::files::{create_private_dir, write_private};
use crate::kubelet::{self, Agent, ArgoCd};
use crate::{Error, Health, Part, Status};

/// The account that the emulator plays.
const ACCOUNT: &str = "000000000000";

/// Every process and every server inside the supervisor, by name, in the order in which they start.
const PARTS: &[&str] = &[
    "ministack",
    "aws-proxy",
    "redis",
    "etcd",
    "token-webhook",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok",
    "git-server",
    "github-api",
    "cluster-dns",
    "pod-network",
    "kubelet",
    "argocd-server",
    "argocd-repo-server",
    "argocd-application-controller",
];

/// A running platform.
#[derive(Debug)]
pub(crate) struct Platform {
    launcher: Arc<Launcher>,
    keeper: Keeper,
    shutdown: watch::Sender<bool>,
    kubelet: JoinHandle<()>,
    servers: Servers,
}

impl Platform {
    /// Starts everything and returns when it answers. After an error nothing is left running.
    pub(crate) async fn start(plan: &Plan, layout: &Layout, board: &Arc<Board>) -> Result<Self, Error> {
        let launcher = Arc::new(Launcher::new(layout.clone(), Arc::clone(board))?);
        let (shutdown, stopping) = watch::channel(false);
        let keeper = Keeper::new(Arc::clone(&launcher), stopping.clone());
        let result = Start {
            plan,
            layout,
            board,
            launcher: &launcher,
            keeper: &keeper,
            stopping,
        }
        .run()
        .await;
        match result {
            Ok((servers, kubelet)) => Ok(Self {
                launcher,
                keeper,
                shutdown,
                kubelet,
                servers,
            }),
            Err(error) => {
                let _ = shutdown.send(true);
                keeper.ended().await;
                launcher.end_all().await;
                Err(error)
            }
        }
    }

    /// Ends everything.
    pub(crate) async fn end(self) {
        let _ = self.shutdown.send(true);
        let _ = self.kubelet.await;
        self.keeper.ended().await;
        self.launcher.end_all().await;
        self.servers.ended().await;
    }
}

/// One attempt to start.
struct Start<'a> {
    plan: &'a Plan,
    layout: &'a Layout,
    board: &'a Arc<Board>,
    launcher: &'a Arc<Launcher>,
    keeper: &'a Keeper,
    stopping: watch::Receiver<bool>,
}

impl Start<'_> {
    async fn run(self) -> Result<(Servers, JoinHandle<()>), Error> {
        let spec = &self.plan.spec;
        let secrets = Secrets::generate()?;
        let listeners = Listeners::bind(spec, self.layout).await?;
        let (ministack, redis, ports) = (Reserved::new()?, Reserved::new()?, ControlPlanePorts::reserve()?);
        let argo_cd = ArgoCd::reserve(&secrets, redis.address())?;
        let pki = Pki::generate(&self.layout.pki())?;
        let kubernetes_endpoint = url("https", ports.api_server.address())?;
        kubeconfig::write_admin(
            &self.layout.kubeconfig(),
            &format!("mfsre-sandbox-{}", spec.name),
            &kubernetes_endpoint,
            &pki,
        )?;

        let addresses = [
            ("ministack", ministack.address()),
            ("redis", redis.address()),
            ("etcd", ports.etcd.address()),
            ("kube-apiserver", ports.api_server.address()),
            ("kube-controller-manager", ports.controller_manager.address()),
            ("kube-scheduler", ports.scheduler.address()),
            ("kwok", ports.kwok.address()),
        ];
        let client = KubeClient::new(&kubernetes_endpoint, &pki)?;
        let inputs = Inputs {
            layout: self.layout,
            spec,
            tools: &self.plan.tools,
            secrets: &secrets,
            pki: &pki,
            emulator: ministack.address(),
            api_server: &kubernetes_endpoint,
            client: &client,
        };
        let servers = Servers::prepare(&inputs, &listeners)?;
        let addresses: Vec<(&str, SocketAddr)> = addresses
            .into_iter()
            .chain(listeners.addresses())
            .chain(argo_cd.addresses())
            .collect();
        let status = Status {
            name: spec.name.clone(),
            aws_endpoint_url: listeners.aws_endpoint()?,
            region: spec.region.clone(),
            account: ACCOUNT.to_owned(),
            caller_arn: format!("arn:aws:iam::{ACCOUNT}:root"),
            access_key_id: secrets.access_key_id.clone(),
            secret_access_key: secrets.secret_access_key.clone(),
            kubeconfig: self.layout.kubeconfig(),
            kubernetes_endpoint: kubernetes_endpoint.clone(),
            argocd_url: url("http", argo_cd.server_address())?,
            git_url: git_url(spec),
            git_api_url: listeners.git_api()?,
            git_api_token: secrets.git_api_token.clone(),
            git_known_hosts: servers.known_hosts_line(),
            operator_key: servers.operator_key(),
            git_access_log: servers.git_access_log(),
            pod_proxy_url: listeners.pod_proxy()?,
            started_by: spec.started_by,
            parts: self.parts(&addresses),
        };
        self.board.update(|state| state.status = Some(status))?;

        let (network, dns, proxy) = listeners.pod_network();
        let servers = servers.start(listeners, self.board, &self.stopping);
        let probe = HttpProbe::new(&pki.ca_pem)?;
        tokio::try_join!(
            self.ministack(&probe, ministack, &secrets),
            self.redis(redis, &secrets),
            self.control_plane(&probe, &client, &pki, &servers, ports),
        )?;
        let agent = Agent {
            client,
            launcher: Arc::clone(self.launcher),
            layout: self.layout.clone(),
            tools: self.plan.tools.clone(),
            server: kubernetes_endpoint,
            ca_pem: pki.ca_pem.clone(),
            probe: HttpProbe::of_kubelet()?,
            network,
            dns,
            proxy,
            log: kubelet::log(&self.layout.log("kubelet"))?,
        };
        Ok((servers, kubelet::start(agent, argo_cd, self.stopping)))
    }

    /// The one program that is not started again: everything that it knows is in its memory, and an AWS in which all is
    /// gone at once would be worse than one that does not answer.
    async fn ministack(&self, probe: &HttpProbe, port: Reserved, secrets: &Secrets) -> Result<(), Error> {
        let health = Readiness::Success(probe.clone(), format!("http://{}/_ministack/health", port.address()));
        let data = self.layout.folder("ministack")?;
        let program = Program {
            part: "ministack".to_owned(),
            executable: self.plan.tools.require("ministack")?.path.clone(),
            arguments: vec!["-m".to_owned(), "ministack".to_owned()],
            environment: environment([
                ("BIND_HOST", "127.0.0.1".into()),
                // Its MQTT broker would listen on a fixed port.
                ("IOT_MTLS_ENABLED", "0".into()),
                ("GATEWAY_PORT", port.address().port().to_string().into()),
                ("MINISTACK_REGION", self.plan.spec.region.clone().into()),
                ("MINISTACK_ACCOUNT_ID", ACCOUNT.into()),
                ("AWS_ACCESS_KEY_ID", secrets.access_key_id.clone().into()),
                ("AWS_SECRET_ACCESS_KEY", secrets.secret_access_key.expose().into()),
                ("S3_DATA_DIR", data.join("s3").into()),
                // It would run clusters in containers where it finds Docker; the platform must be the same everywhere.
                (
                    "DOCKER_HOST",
                    format!("unix://{}", data.join("no-docker.sock").display()).into(),
                ),
            ]),
            restarts: false,
        };
        port.release();
        self.launcher.launch_ready(program, &health).await.map(drop)
    }

    async fn redis(&self, port: Reserved, secrets: &Secrets) -> Result<(), Error> {
        let address = port.address();
        let config = self.layout.folder("redis")?.join("redis.conf");
        let password = secrets.redis_password.expose();
        // In a file, because a command line can be read by everybody. A title of its own would overwrite the mark by
        // which the sandbox finds its processes.
        write_private(
            &config,
            format!(
                "bind 127.0.0.1\nport {}\nrequirepass {password}\nset-proc-title no\nsave \"\"\nappendonly no\n",
                address.port()
            ),
        )?;
        let program = Program {
            part: "redis".to_owned(),
            executable: self.plan.tools.require("redis-server")?.path.clone(),
            arguments: vec![config.display().to_string()],
            environment: Vec::new(),
            restarts: true,
        };
        port.release();
        self.keeper
            .launch_ready(program, Readiness::Redis(address, secrets.redis_password.clone()))
            .await
    }

    async fn control_plane(
        &self,
        probe: &HttpProbe,
        client: &KubeClient,
        pki: &Pki,
        servers: &Servers,
        ports: ControlPlanePorts,
    ) -> Result<(), Error> {
        let spec = &self.plan.spec;
        let etcd = ports.etcd.address();
        let arguments = flags::etcd(
            pki,
            &self.layout.folder("etcd")?,
            ports.etcd.release(),
            ports.etcd_peer.release(),
        );
        // A connection is not enough: etcd listens before it has a leader. Its own health needs a client certificate,
        // so what counts is that the API server, which waits for it, becomes ready.
        self.keeper
            .launch_ready(self.program("etcd", arguments)?, Readiness::Connection(etcd))
            .await?;

        let egress = self.layout.dir().join("egress.json");
        write_private(&egress, flags::egress(&self.layout.socket("pod-network")))?;
        let arguments = flags::api_server(
            pki,
            etcd,
            ports.api_server.release(),
            servers.webhook_kubeconfig(),
            &egress,
        );
        self.keeper
            .launch_ready(
                self.program("kube-apiserver", arguments)?,
                Readiness::ApiServer(client.clone()),
            )
            .await?;

        let kubeconfig = self.layout.kubeconfig();
        let stages = self.layout.folder("kwok")?.join("stages.yaml");
        write_private(&stages, flags::KWOK_STAGES)?;
        let (manager, scheduler, kwok) = (
            ports.controller_manager.address(),
            ports.scheduler.address(),
            ports.kwok.address(),
        );
        let programs = [
            (
                flags::controller_manager(pki, &kubeconfig, ports.controller_manager.release(), spec.fast_hpa),
                "kube-controller-manager",
            ),
            (
                flags::scheduler(pki, &kubeconfig, ports.scheduler.release()),
                "kube-scheduler",
            ),
            (flags::kwok(&kubeconfig, &stages, ports.kwok.release()), "kwok"),
        ];
        let answers = |url| Readiness::Success(probe.clone(), url);
        let [manager_program, scheduler_program, kwok_program] =
            programs.map(|(arguments, part)| self.program(part, arguments));
        let (manager, scheduler, kwok) = (
            format!("https://{manager}/healthz"),
            format!("https://{scheduler}/healthz"),
            format!("http://{kwok}/healthz"),
        );
        tokio::try_join!(
            self.keeper.launch_ready(manager_program?, answers(manager)),
            self.keeper.launch_ready(scheduler_program?, answers(scheduler)),
            self.keeper.launch_ready(kwok_program?, answers(kwok)),
            nodes::create(client, spec.nodes, &spec.region),
        )?;
        Ok(())
    }

    fn program(&self, part: &str, arguments: Vec<String>) -> Result<Program, Error> {
        let executable = self.plan.tools.require(part)?.path.clone();
        Ok(Program {
            part: part.to_owned(),
            executable,
            arguments,
            environment: Vec::new(),
            restarts: true,
        })
    }

    fn parts(&self, addresses: &[(&str, SocketAddr)]) -> Vec<Part> {
        PARTS
            .iter()
            .map(|name| {
                let tool = match *name {
                    "redis" => "redis-server",
                    name if name.starts_with("argocd") => "argocd",
                    name => name,
                };
                let version = self.plan.tools.get(tool).map(|tool| tool.version.clone());
                Part {
                    name: (*name).to_owned(),
                    pod: None,
                    version: version.unwrap_or_else(|| concat!("v", env!("CARGO_PKG_VERSION")).to_owned()),
                    pid: None,
                    address: addresses
                        .iter()
                        .find(|(part, _)| part == name)
                        .map(|(_, address)| address.to_string()),
                    memory_bytes: None,
                    health: Health::Stopped,
                    ready_after_ms: None,
                    restarts: 0,
                    log: self.layout.log(name),
                }
            })
            .collect()
    }
}

/// Ports of the control plane's programs.
#[derive(Debug)]
struct ControlPlanePorts {
    etcd: Reserved,
    etcd_peer: Reserved,
    api_server: Reserved,
    controller_manager: Reserved,
    scheduler: Reserved,
    kwok: Reserved,
}

impl ControlPlanePorts {
    fn reserve() -> Result<Self, Error> {
        Ok(Self {
            etcd: Reserved::new()?,
            etcd_peer: Reserved::new()?,
            api_server: Reserved::new()?,
            controller_manager: Reserved::new()?,
            scheduler: Reserved::new()?,
            kwok: Reserved::new()?,
        })
    }
}

/// Creates the folders that every sandbox has.
pub(crate) fn create_folders(layout: &Layout) -> Result<(), Error> {
    create_private_dir(layout.dir())?;
    for folder in ["logs", "home", "tmp"] {
        layout.folder(folder)?;
    }
    Ok(())
}

fn environment<const N: usize>(variables: [(&str, OsString); N]) -> Vec<(String, OsString)> {
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The URL of a server at an address of ours.
pub(crate) fn url(scheme: &str, address: SocketAddr) -> Result<Url, Error> {
    Url::parse(&format!("{scheme}://{address}")).map_err(|error| Error::Internal {
        action: format!("make a URL of {address}"),
        message: error.to_string(),
        next: "this is a fault of the sandbox; please report it".to_owned(),
    })
}
