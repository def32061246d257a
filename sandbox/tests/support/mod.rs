//! What the end-to-end tests look at the platform with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mfsre_sandbox::{Error, Event, Progress, Spec, StartedBy, Status, Stopped, ToolSettings, Toolset};
use serde_json::{Value, json};

/// A sandbox in a folder of its own, stopped when the test ends, however it ends.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
    spec: Spec,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let git_listen = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let spec = Spec {
            name: "test".to_owned(),
            cluster: "test".to_owned(),
            dir: folder.path().join("sandbox"),
            cache: None,
            region: "eu-west-1".to_owned(),
            cluster_version: "1.35".to_owned(),
            git_listen,
            git_repository: "mfsre/platform.git".to_owned(),
            tools: ToolSettings {
                explicit: BTreeMap::new(),
                mirror: None,
                install_manifest: None,
            },
            nodes: 3,
            fast_hpa: true,
            started_by: StartedBy::Start,
        };
        Self { folder, spec }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.spec.dir
    }

    pub(crate) fn git_address(&self) -> SocketAddr {
        self.spec.git_listen
    }

    pub(crate) async fn start(&self, progress: &dyn Progress) -> Result<Status, Error> {
        let tools: Toolset = mfsre_sandbox::prepare(&self.spec, progress).await?;
        mfsre_sandbox::start(
            &self.spec,
            &tools,
            Path::new(env!("CARGO_BIN_EXE_mfsre-sandbox")),
            progress,
        )
        .await
    }

    pub(crate) async fn stop(&self) -> Result<Stopped, Error> {
        mfsre_sandbox::stop(self.dir()).await
    }

    pub(crate) async fn status(&self) -> Result<Option<Status>, Error> {
        mfsre_sandbox::status(self.dir()).await
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The logs are what a failed test is understood by.
            let kept = std::env::temp_dir().join(format!("mfsre-sandbox-failed-{}", std::process::id()));
            let _ = Command::new("cp").arg("-r").arg(self.folder.path()).arg(&kept).status();
            eprintln!("the sandbox's folder was copied to {}", kept.display());
        }
        let _ = Command::new(env!("CARGO_BIN_EXE_mfsre-sandbox"))
            .arg("stop")
            .arg(self.dir())
            .output();
    }
}

/// Keeps every event.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Progress for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// The cluster, through the kubeconfig that the status names.
pub(crate) struct Cluster {
    http: reqwest::Client,
    server: String,
}

impl Cluster {
    pub(crate) fn new(status: &Status) -> Self {
        let config: Value = serde_json::from_slice(&std::fs::read(&status.kubeconfig).unwrap()).unwrap();
        let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let identity = [
            decode(&user["client-certificate-data"]),
            decode(&user["client-key-data"]),
        ]
        .concat();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(&decode(&cluster["certificate-authority-data"])).unwrap()])
            .identity(reqwest::Identity::from_pem(&identity).unwrap())
            .build()
            .unwrap();
        Self {
            http,
            server: cluster["server"].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        self.try_text(path).await.unwrap()
    }

    /// The same, or nothing where the API server does not answer.
    pub(crate) async fn try_text(&self, path: &str) -> Option<String> {
        let response = self.http.get(format!("{}{path}", self.server)).send().await;
        response.ok()?.text().await.ok()
    }

    /// Sets a Deployment's number of pods.
    pub(crate) async fn scale(&self, namespace: &str, name: &str, replicas: u32) {
        let url = format!("{}/apis/apps/v1/namespaces/{namespace}/deployments/{name}", self.server);
        let request = self
            .http
            .patch(&url)
            .header("Content-Type", "application/merge-patch+json")
            .body(json!({"spec": {"replicas": replicas}}).to_string());
        let status = request.send().await.unwrap().status();
        assert!(status.is_success(), "{url}: {status}");
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) {
        let response = self.http.delete(format!("{}{path}", self.server)).send().await.unwrap();
        assert!(response.status().is_success(), "delete {path}: {}", response.status());
    }

    /// Server-side apply.
    pub(crate) async fn apply(&self, object: &Value) {
        let url = format!("{}{}?fieldManager=test&force=true", self.server, path_of(object));
        let request = self
            .http
            .patch(&url)
            .header("Content-Type", "application/apply-patch+yaml")
            .body(object.to_string());
        let response = request.send().await.unwrap();
        let status = response.status();
        assert!(
            status.is_success(),
            "{url}: {status} {}",
            response.text().await.unwrap()
        );
    }

    /// The official install manifest of Argo CD.
    pub(crate) async fn apply_argo_cd(&self) {
        let spec = Sandbox::new();
        let tools = mfsre_sandbox::prepare(&spec.spec, &mfsre_sandbox::Silent)
            .await
            .unwrap();
        let manifest = std::fs::read_to_string(tools.argocd_install_manifest().unwrap()).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&manifest).unwrap();
        assert!(objects.len() > 40);
        for mut object in objects {
            if object["metadata"]["namespace"].is_null() {
                object["metadata"]["namespace"] = json!("argocd");
            }
            self.apply(&object).await;
        }
    }
}

/// The path of an object in the Kubernetes API.
fn path_of(object: &Value) -> String {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let group = if version == "v1" {
        "/api/v1".to_owned()
    } else {
        format!("/apis/{version}")
    };
    let plural = match kind {
        "NetworkPolicy" => "networkpolicies".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    match kind {
        "Namespace" | "CustomResourceDefinition" | "ClusterRole" | "ClusterRoleBinding" => {
            format!("{group}/{plural}/{name}")
        }
        _ => format!(
            "{group}/namespaces/{}/{plural}/{name}",
            object["metadata"]["namespace"].as_str().unwrap()
        ),
    }
}

/// Runs git with the operator's key.
pub(crate) fn git(dir: &Path, status: &Status, arguments: &[&str]) {
    let known_hosts = dir.join(".git-known-hosts");
    std::fs::write(&known_hosts, &status.git_known_hosts).unwrap();
    let ssh = format!(
        "ssh -F none -i {} -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={}",
        status.operator_key.display(),
        known_hosts.display()
    );
    let output = Command::new("git")
        .args(arguments)
        .current_dir(dir)
        .env("GIT_SSH_COMMAND", ssh)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Makes a key, registers it read-only through the API, and returns the private part.
pub(crate) async fn deploy_key(status: &Status, dir: &Path) -> String {
    let key = dir.join("deploy-key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let response = reqwest::Client::new()
        .post(status.git_api_url.join("/repos/mfsre/platform/keys").unwrap())
        .bearer_auth(status.git_api_token.expose())
        .header("User-Agent", "test")
        .json(&json!({"title": "argocd", "key": public.trim(), "read_only": true}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 201);
    std::fs::read_to_string(key).unwrap()
}

/// Waits up to a minute for something to become true.
pub(crate) async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !check().await {
        assert!(began.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Every process that carries the mark of the sandbox in `dir`.
pub(crate) fn processes_of(dir: &Path) -> Vec<u32> {
    let mark = format!("MFSRE_SANDBOX={}", dir.display()).into_bytes();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == mark))
        })
        .collect()
}

/// SIGKILL.
pub(crate) fn kill(pid: u32) {
    assert!(
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}
