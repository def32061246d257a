//! A server for tests with the API of HCP Terraform and Terraform Enterprise, as it is documented
//! (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs>): what the `cloud` block of Terraform needs, and what
//! mfsre asks besides. It is no part of mfsre, and mfsre knows nothing of it.
//!
//! Runs execute Terraform for real, each in a folder of its own. What on the real service comes from elsewhere (people with
//! their rights, policies, pushes to a repository, a network that fails) is given by the test through [`Server`].
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api;
mod documents;
mod objects;
mod person;
mod runner;
mod store;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

pub use person::Person;
pub use store::{Enforcement, Policy};

use store::{Configuration, Organization, Project, Store, User};

/// What the server's parts share.
pub(crate) struct Shared {
    store: Mutex<Store>,
    requests: Mutex<Vec<String>>,
    folder: tempfile::TempDir,
    host: String,
    secret: String,
    runner_environment: Vec<(String, String)>,
    down: AtomicBool,
    /// How many more answers there are before one is held back; negative where none is.
    answers: AtomicI64,
}

impl Shared {
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        act(&mut self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The address of an object, `KIND/ID`, which opens to whoever knows it.
    pub(crate) fn object(&self, name: &str) -> String {
        format!(
            "https://{}/_archivist/v1/object/{}.{}",
            self.host,
            self.permission(name),
            name.replace('/', ".")
        )
    }

    pub(crate) fn permission(&self, name: &str) -> String {
        format!("{:x}", md5::compute(format!("{}{name}", self.secret)))
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::SeqCst)
    }
}

/// The MD5 of a state, as the API writes it.
#[must_use]
pub fn md5(bytes: &[u8]) -> String {
    format!("{:x}", md5::compute(bytes))
}

/// The server, until it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    ca: String,
    cut: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Server {
    /// Starts on a free port of the loopback interface, with an organization `acme`. `runner_environment` is what the
    /// processes of runs have besides the workspace's variables, as a runner's machine would.
    #[must_use]
    pub fn start(runner_environment: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let identity = tls::Identity::new();
        let ca = identity.ca.clone();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut store = Store::default();
        let id = store.id("prj");
        store.organizations.push(Organization {
            name: "acme".into(),
            projects: vec![Project {
                id,
                name: "Default Project".into(),
            }],
            policies: Vec::new(),
            evaluates: false,
        });
        let shared = Arc::new(Shared {
            store: Mutex::new(store),
            requests: Mutex::default(),
            folder: tempfile::Builder::new().prefix("tfe-test-server-").tempdir().unwrap(),
            host: format!("localhost:{port}"),
            secret: format!("{:?}", std::time::Instant::now()),
            runner_environment: runner_environment
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            down: AtomicBool::new(false),
            answers: AtomicI64::new(-1),
        });
        std::fs::write(shared.folder.path().join("ca.pem"), &ca).unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = {
            let (shared, cut) = (shared.clone(), cut.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async move {
                    let tcp = tokio::net::TcpListener::from_std(listener).unwrap();
                    let listener = tls::TlsListener::new(tcp, &identity, cut);
                    let serve = axum::serve(listener, api::router(shared)).into_future();
                    tokio::select! {
                        _ = serve => {}
                        _ = stopped => {}
                    }
                });
                runtime.shutdown_background();
            })
        };
        Self {
            shared,
            ca,
            cut,
            thread: Some(thread),
            stop: Some(stop),
        }
    }

    /// `localhost:PORT`, as it stands in a `cloud` block.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.shared.host
    }

    /// The certificate of the CA that signed the server's own.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.shared.folder.path().join("ca.pem")
    }

    /// The variable in which Terraform looks for this host's token.
    #[must_use]
    pub fn token_variable(&self) -> String {
        format!("TF_TOKEN_{}", self.host())
    }

    /// Somebody with a token. Who does not approve may plan, and neither apply, discard nor override.
    #[must_use]
    pub fn person(&self, name: &str, approves: bool) -> Person {
        let token = format!("{name}.atlasv1.{}", self.shared.permission(name));
        self.shared.with(|store| {
            let id = store.id("user");
            let name = name.to_owned();
            store.tokens.entry(token.clone()).or_insert(User { id, name, approves });
        });
        Person::new(self.host(), &self.ca, token)
    }

    /// A policy for every run of the organization from now on.
    pub fn add_policy(&self, policy: Policy) {
        self.shared.with(|store| store.organizations[0].policies.push(policy));
    }

    /// Evaluates policies in a stage of each run from now on; checks, which this takes the place of, are the older way.
    pub fn evaluate_policies(&self) {
        self.shared.with(|store| store.organizations[0].evaluates = true);
    }

    /// The next answers to API calls are 429, each with this Retry-After in seconds.
    pub fn limit(&self, seconds: &[u64]) {
        self.shared.with(|store| store.limited.extend(seconds));
    }

    /// Does what is asked, and holds back the answer, after this many more answers.
    pub fn stall_after(&self, answers: u16) {
        self.shared.answers.store(answers.into(), Ordering::SeqCst);
    }

    /// Whether an answer is held back.
    #[must_use]
    pub fn stalls(&self) -> bool {
        self.shared.answers.load(Ordering::SeqCst) == 0
    }

    /// Answers everything again.
    pub fn resume(&self) {
        self.shared.answers.store(-1, Ordering::SeqCst);
    }

    /// Breaks every connection and takes no new one. Runs go on.
    pub fn cut_network(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Takes connections again.
    pub fn mend_network(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }

    /// Connects a workspace to a repository, which is done in the web UI otherwise.
    pub fn connect_vcs(&self, workspace: &str, identifier: &str, branch: &str) {
        self.shared.with(|store| {
            let found = store.workspaces.iter_mut().find(|w| w.name == workspace).unwrap();
            found.vcs_repo = Some(json!({
                "identifier": identifier, "display-identifier": identifier, "branch": branch, "ingress-submodules": false,
                "service-provider": "github", "oauth-token-id": "ot-test",
            }));
        });
    }

    /// A push of `commit` to the repository of a workspace, with the files below `folder`: makes a configuration version and
    /// a run. Returns the run's id.
    pub fn push(&self, workspace: &str, commit: &str, message: &str, folder: &Path) -> String {
        let archive = objects::pack(folder);
        self.shared.with(|store| {
            let found = store.workspaces.iter().find(|w| w.name == workspace).unwrap().clone();
            let repository = found.vcs_repo.clone().unwrap_or(Value::Null);
            let configuration = Configuration {
                id: store.id("cv"),
                workspace: found.id,
                source: "github",
                speculative: false,
                provisional: false,
                auto_queue: true,
                archive: Some(archive),
                error: None,
                ingress: Some(json!({
                    "branch": repository["branch"], "commit-sha": commit, "commit-message": message,
                    "identifier": repository["identifier"], "is-pull-request": false, "on-default-branch": true,
                })),
            };
            let run = api::pushed_run(store, &configuration, found.auto_apply, message);
            store.configurations.push(configuration);
            let id = run.id.clone();
            runner::queue(&self.shared, store, run);
            id
        })
    }

    /// Method and path of every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.down.store(true, Ordering::SeqCst);
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Threads of runs that are at work see it within 20 ms, and end their Terraform.
        for _ in 0..100 {
            if Arc::strong_count(&self.shared) == 1 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
