//! The servers inside the supervisor: the AWS proxy, the token webhook, the git server, the stand-in of GitHub's API, and
//! the DNS and the proxy of the pod network.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{LineEnding, PrivateKey};

use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::task::JoinHandle;
use url::Url;

use super::layout::Layout;
use super::platform::url;
use super::secrets::Secrets;
use super::state::Board;
use crate::control_plane::client::KubeClient;
use crate::control_plane::kubeconfig;
use crate::control_plane::pki::Pki;
use crate::crypto::random_seed;
use crate::files::write_private;
use crate::kubelet::POD_PORTS;
use crate::services::pod_network::{ClaimError, Claimed, Directory, PodNetwork, Services};
use crate::services::{
    self, Credentials, DeployKeys, RepositoryName, aws_proxy, git_server, github_api, pod_network, token_webhook,
};
use crate::{Error, Health, Spec, Toolset};

/// Listeners of the servers; bound before anything starts, so that every address is known.
#[derive(Debug)]
pub(crate) struct Listeners {
    git: TcpListener,
    github_api: TcpListener,
    webhook: TcpListener,
    aws: TcpListener,
    dns: (UdpSocket, TcpListener),
    pod_proxy: TcpListener,
    pod_socket: UnixListener,
    bound: Bound,
}

#[derive(Debug, Clone, Copy)]
struct Bound {
    git: SocketAddr,
    github_api: SocketAddr,
    webhook: SocketAddr,
    aws: SocketAddr,
    network: PodNetwork,
    dns: SocketAddr,
    pod_proxy: SocketAddr,
}

impl Listeners {
    /// Binds the git server's fixed port, a network for the pods, and a free port for each of the others.
    pub(crate) async fn bind(spec: &Spec, layout: &Layout) -> Result<Self, Error> {
        let address = spec.git_listen;
        let git = TcpListener::bind(address)
            .await
            .map_err(|source| git_port_busy(address, source))?;
        let (github_api, webhook, aws) = (free().await?, free().await?, free().await?);
        let Claimed {
            network,
            dns,
            proxy: pod_proxy,
        } = pod_network::claim(layout.dir(), &POD_PORTS).await.map_err(no_network)?;
        let socket = layout.socket("pod-network");
        // A start that is repeated with other ports finds the one of before.
        let _ = std::fs::remove_file(&socket);
        let pod_socket = UnixListener::bind(&socket).map_err(Error::file("create", &socket))?;
        let bound = Bound {
            network,
            dns: local_address(&dns.1)?,
            pod_proxy: local_address(&pod_proxy)?,
            git: local_address(&git)?,
            github_api: local_address(&github_api)?,
            webhook: local_address(&webhook)?,
            aws: local_address(&aws)?,
        };
        Ok(Self {
            git,
            github_api,
            webhook,
            aws,
            dns,
            pod_proxy,
            pod_socket,
            bound,
        })
    }

    /// Each server's address by part.
    pub(crate) fn addresses(&self) -> [(&'static str, SocketAddr); 6] {
        let Bound {
            git,
            github_api,
            webhook,
            aws,
            dns,
            pod_proxy,
            network: _,
        } = self.bound;
        [
            ("git-server", git),
            ("github-api", github_api),
            ("token-webhook", webhook),
            ("aws-proxy", aws),
            ("cluster-dns", dns),
            ("pod-network", pod_proxy),
        ]
    }

    pub(crate) fn aws_endpoint(&self) -> Result<Url, Error> {
        url("http", self.bound.aws)
    }

    /// The network of the pods, its DNS and its proxy.
    pub(crate) fn pod_network(&self) -> (PodNetwork, SocketAddr, SocketAddr) {
        (self.bound.network, self.bound.dns, self.bound.pod_proxy)
    }

    pub(crate) fn pod_proxy(&self) -> Result<Url, Error> {
        url("http", self.bound.pod_proxy)
    }

    pub(crate) fn git_api(&self) -> Result<Url, Error> {
        url("http", self.bound.github_api)
    }
}

/// The git server's port is fixed by the repository's URL, so only the user can choose another one.
pub(crate) fn git_port_busy(address: SocketAddr, source: std::io::Error) -> Error {
    Error::PortBusy {
        part: "git server".to_owned(),
        address,
        source,
        next: format!(
            "end what listens there (another sandbox, perhaps), or give argocd_repository_url in the environment file \
             another port than {}",
            address.port()
        ),
    }
}

/// Why there is no network for the pods, and what the user can do.
fn no_network(error: ClaimError) -> Error {
    let internal = |error: ClaimError, next: String| Error::Internal {
        action: "give the pods a network of loopback addresses".to_owned(),
        message: error.to_string(),
        next,
    };
    match error {
        ClaimError::PodPort { address, source } => Error::PortBusy {
            part: "pods".to_owned(),
            address,
            source,
            next: format!(
                "end what listens on port {} on all addresses of this machine, or let it listen on 127.0.0.1 alone",
                address.port()
            ),
        },
        ClaimError::NoSuchAddress { network, .. } => internal(
            error,
            format!(
                "macOS has only 127.0.0.1 at first; add the others, until the next restart, with: for i in 1 2 $(seq 10 60); do sudo ifconfig lo0 \
                 alias {}.$i; done",
                network.to_string().trim_end_matches(".0/24")
            ),
        ),
        error => internal(
            error,
            "end other sandboxes, or what listens on port 10053 on all addresses of this machine".to_owned(),
        ),
    }
}

async fn free() -> Result<TcpListener, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(|error| listener_failed(&error))
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|error| listener_failed(&error))
}

fn listener_failed(error: &std::io::Error) -> Error {
    Error::Internal {
        action: "listen on a free port of 127.0.0.1".to_owned(),
        message: error.to_string(),
        next: "check the limits on open files and ports".to_owned(),
    }
}

/// The servers' settings, and later the running servers.
#[derive(Debug)]
pub(crate) struct Servers {
    files: Files,
    known_hosts_line: String,
    settings: Option<Settings>,
    running: Vec<(&'static str, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Settings {
    git: git_server::Config,
    github_api: github_api::Config,
    webhook: token_webhook::Config,
    aws: aws_proxy::Config,
    directory: Arc<Directory>,
    dns_log: PathBuf,
    pod_network_log: PathBuf,
}

/// Files that others read.
#[derive(Debug)]
struct Files {
    operator_key: PathBuf,
    git_access_log: PathBuf,
    webhook_kubeconfig: PathBuf,
}

/// What the servers' settings are made of.
pub(crate) struct Inputs<'a> {
    pub layout: &'a Layout,
    pub spec: &'a Spec,
    pub tools: &'a Toolset,
    pub secrets: &'a Secrets,
    pub pki: &'a Pki,
    pub emulator: SocketAddr,
    pub api_server: &'a Url,
    pub client: &'a KubeClient,
}

impl Servers {
    /// Makes keys, folders and settings.
    pub(crate) fn prepare(inputs: &Inputs<'_>, listeners: &Listeners) -> Result<Self, Error> {
        let Inputs {
            layout,
            spec,
            tools,
            secrets,
            pki,
            emulator,
            api_server,
            client,
        } = inputs;
        let git = layout.folder("git")?;
        let files = Files {
            operator_key: git.join("operator_key"),
            git_access_log: layout.log("git-server"),
            webhook_kubeconfig: layout.dir().join("token-webhook.kubeconfig"),
        };
        let webhook = url("https", listeners.bound.webhook)?;
        let webhook = webhook
            .join(token_webhook::PATH)
            .map_err(|error| setting_failed("token-webhook", &error))?;
        kubeconfig::write_webhook(&files.webhook_kubeconfig, &webhook, &pki.ca)?;

        let host_key = git_server::HostKey::load_or_create(&git.join("host_key"))
            .map_err(|error| setting_failed("git-server", &error))?;
        let known_hosts_line = host_key.known_hosts_line(listeners.bound.git);
        let repository: RepositoryName = spec
            .git_repository
            .trim_start_matches('/')
            .trim_end_matches(".git")
            .parse()
            .map_err(|error| setting_failed("git-server", &error))?;
        let deploy_keys =
            DeployKeys::open(&git.join("deploy_keys.json")).map_err(|error| setting_failed("git-server", &error))?;
        let credentials = Credentials::new(secrets.access_key_id.clone(), secrets.secret_access_key.expose());
        let settings = Settings {
            git: git_server::Config {
                git: tools.require("git")?.path.clone(),
                repositories_dir: git.join("repositories"),
                repositories: vec![repository.clone()],
                host_key,
                operators: vec![git_server::Operator {
                    title: "operator".to_owned(),
                    key: make_operator_key(&files.operator_key)?,
                }],
                deploy_keys: deploy_keys.clone(),
                access_log: files.git_access_log.clone(),
            },
            github_api: github_api::Config {
                repositories: vec![github_api::Repository {
                    name: repository,
                    ssh_url: git_url(spec),
                }],
                tokens: vec![github_api::Token::administrator(secrets.git_api_token.expose())],
                deploy_keys,
                access_log: layout.log("github-api"),
            },
            webhook: token_webhook::Config {
                tls: tls_identity(pki)?,
                cluster: spec.cluster.clone(),
                region: spec.region.clone(),
                sts_endpoint: listeners.aws_endpoint()?,
                credentials: credentials.clone(),
                aws: listeners.bound.aws,
                access_log: layout.log("token-webhook"),
            },
            aws: aws_proxy::Config {
                emulator: *emulator,
                credentials,
                cluster: aws_proxy::ClusterEndpoint {
                    name: spec.cluster.clone(),
                    url: api_server.as_str().trim_end_matches('/').to_owned(),
                    certificate_authority_pem: pki.ca_pem.clone(),
                },
                memory: layout.folder("ministack")?.join("proxy.json"),
                request_log: layout.log("aws-proxy"),
            },
            directory: Arc::new(directory(listeners.bound.network, client)),
            dns_log: layout.log("cluster-dns"),
            pod_network_log: layout.log("pod-network"),
        };
        Ok(Self {
            files,
            known_hosts_line,
            settings: Some(settings),
            running: Vec::new(),
        })
    }

    /// Starts serving.
    pub(crate) fn start(mut self, listeners: Listeners, board: &Arc<Board>, stopping: &services::Shutdown) -> Self {
        let Some(settings) = self.settings.take() else {
            return self;
        };
        let Listeners {
            git,
            github_api,
            webhook,
            aws,
            dns,
            pod_proxy,
            pod_socket,
            bound: _,
        } = listeners;
        let mut run = |part: &'static str, server: Serving| self.running.push((part, spawn(part, server, board)));
        run(
            "git-server",
            Box::pin(git_server::serve(git, settings.git, stopping.clone())),
        );
        run(
            "github-api",
            Box::pin(github_api::serve(github_api, settings.github_api, stopping.clone())),
        );
        run(
            "token-webhook",
            Box::pin(token_webhook::serve(webhook, settings.webhook, stopping.clone())),
        );
        run(
            "aws-proxy",
            Box::pin(aws_proxy::serve(aws, settings.aws, stopping.clone())),
        );
        let directory = settings.directory;
        let (names, log, stop) = (Arc::clone(&directory), settings.dns_log, stopping.clone());
        run(
            "cluster-dns",
            Box::pin(async move { pod_network::dns::serve(dns, names, &log, stop).await }),
        );
        let (log, stopping) = (settings.pod_network_log, stopping.clone());
        run(
            "pod-network",
            Box::pin(async move { pod_network::proxy::serve(pod_proxy, pod_socket, directory, &log, stopping).await }),
        );
        self
    }

    /// Waits until every server has ended.
    pub(crate) async fn ended(self) {
        for (_, server) in self.running {
            let _ = server.await;
        }
    }

    pub(crate) fn known_hosts_line(&self) -> String {
        self.known_hosts_line.clone()
    }

    pub(crate) fn operator_key(&self) -> PathBuf {
        self.files.operator_key.clone()
    }

    pub(crate) fn git_access_log(&self) -> PathBuf {
        self.files.git_access_log.clone()
    }

    pub(crate) fn webhook_kubeconfig(&self) -> &Path {
        &self.files.webhook_kubeconfig
    }
}

/// The Services of the cluster, as its API server lists them.
fn directory(network: PodNetwork, client: &KubeClient) -> Directory {
    let client = client.clone();
    Directory::new(
        network,
        Box::new(move || {
            let client = client.clone();
            Box::pin(async move {
                let (services, slices) = tokio::try_join!(
                    client.get("/api/v1/services"),
                    client.get("/apis/discovery.k8s.io/v1/endpointslices"),
                )
                .map_err(|error| error.to_string())?;
                Ok(Services::read(
                    &services.unwrap_or_default(),
                    &slices.unwrap_or_default(),
                ))
            })
        }),
    )
}

/// The repository's URL.
pub(crate) fn git_url(spec: &Spec) -> String {
    format!(
        "ssh://git@{}/{}",
        spec.git_listen,
        spec.git_repository.trim_start_matches('/')
    )
}

type Serving = Pin<Box<dyn Future<Output = Result<(), services::Error>> + Send>>;

/// Runs a server; one that ends by itself is a crashed part.
fn spawn(part: &'static str, server: Serving, board: &Arc<Board>) -> JoinHandle<()> {
    let board = Arc::clone(board);
    // It is bound already, so clients wait in the queue rather than being refused.
    board.part(part, |part| {
        part.pid = Some(std::process::id());
        part.health = Health::Healthy;
        part.ready_after_ms = Some(0);
    });
    tokio::spawn(async move {
        let ended = server.await;
        board.part(part, |part| {
            part.health = match ended {
                Ok(()) => Health::Stopped,
                Err(error) => Health::Crashed {
                    exit: chain(&error),
                    log_tail: String::new(),
                    restarting: false,
                },
            };
        });
    })
}

/// Makes an ed25519 key in OpenSSH format and returns its public part.
fn make_operator_key(path: &Path) -> Result<String, Error> {
    let failed = |error: russh::keys::ssh_key::Error| Error::Crypto {
        what: "operator's SSH key",
        message: error.to_string(),
    };
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&random_seed()?));
    write_private(path, key.to_openssh(LineEnding::LF).map_err(failed)?)?;
    key.public_key().to_openssh().map_err(failed)
}

fn tls_identity(pki: &Pki) -> Result<token_webhook::TlsIdentity, Error> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(Error::file("read", path));
    token_webhook::TlsIdentity::from_pem(&read(&pki.serving.certificate)?, &read(&pki.serving.key)?)
        .map_err(|error| setting_failed("token-webhook", &error))
}

fn setting_failed(part: &str, error: &dyn std::error::Error) -> Error {
    Error::Internal {
        action: format!("set up the {part}"),
        message: chain(error),
        next: "check the settings of the environment file that concern it".to_owned(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
