//! Reading a repository with one deploy key: real git and real ssh, against an SSH git server in this process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use mfsre::git::{KeyError, KeyReader};
use mfsre_sandbox::services::git_server::{Config, HostKey, Operator, serve};
use mfsre_sandbox::services::{DeployKeys, NewDeployKey, RepositoryName};
use secrecy::SecretString;
use serde_json::Value;
use ssh_key::{LineEnding, PrivateKey};

struct Server {
    folder: tempfile::TempDir,
    address: std::net::SocketAddr,
    keys: DeployKeys,
    host_key: HostKey,
    repository: RepositoryName,
    _stop: tokio::sync::watch::Sender<bool>,
}

fn git() -> std::path::PathBuf {
    let output = Command::new("sh").args(["-c", "command -v git"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}

fn key() -> (SecretString, String) {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let key = PrivateKey::from(ssh_key::private::Ed25519Keypair::from_seed(&seed));
    let private = key.to_openssh(LineEnding::LF).unwrap();
    (private.as_str().into(), key.public_key().to_openssh().unwrap())
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let keys = DeployKeys::open(&folder.path().join("keys.json")).unwrap();
        let host_key = HostKey::load_or_create(&folder.path().join("host_key")).unwrap();
        let repository: RepositoryName = "acme/platform".parse().unwrap();
        let config = Config {
            git: git(),
            repositories_dir: folder.path().join("repositories"),
            repositories: vec![repository.clone()],
            host_key: host_key.clone(),
            operators: Vec::<Operator>::new(),
            deploy_keys: keys.clone(),
            access_log: folder.path().join("access.log"),
        };
        let (stop, shutdown) = tokio::sync::watch::channel(false);
        tokio::spawn(serve(listener, config, shutdown));
        Self {
            folder,
            address,
            keys,
            host_key,
            repository,
            _stop: stop,
        }
    }

    fn url(&self) -> String {
        format!("ssh://git@{}/{}.git", self.address, self.repository)
    }

    fn reader(&self) -> KeyReader {
        KeyReader::new(
            &self.url(),
            Some(format!("{}\n", self.host_key.known_hosts_line(self.address))),
        )
    }

    fn register(&self, public: &str) -> u64 {
        let new = NewDeployKey {
            key: public.to_owned(),
            title: "test".into(),
            repository: self.repository.clone(),
            read_only: true,
            added_by: "test".into(),
        };
        self.keys.add(new).unwrap().id
    }

    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }
}

#[tokio::test]
async fn a_registered_key_reads_and_the_server_has_seen_it() {
    let server = Server::start().await;
    let (private, public) = key();
    server.register(&public);
    server.reader().read(&private).await.unwrap();
    let fingerprint = ssh_key::PublicKey::from_openssh(&public).unwrap();
    let fingerprint = fingerprint.fingerprint(ssh_key::HashAlg::Sha256).to_string();
    let mut seen = Vec::new();
    for _ in 0..50 {
        seen = server.log();
        if !seen.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0]["fingerprint"], fingerprint.as_str());
}

#[tokio::test]
async fn a_key_that_is_not_registered_is_told_and_may_be_waited_for() {
    let server = Server::start().await;
    let (private, public) = key();
    let (_, other) = key();
    server.register(&other);
    let error = server.reader().read(&private).await.unwrap_err();
    assert!(
        matches!(&error, KeyError::Refused { output, .. } if output.contains("Permission denied")),
        "{error}"
    );
    assert!(error.is_unknown_key());
    let id = server.register(&public);
    server.reader().read(&private).await.unwrap();
    server.keys.remove(&server.repository, id).unwrap();
    assert!(
        server.reader().read(&private).await.is_err(),
        "a revoked key reads no more"
    );
}

#[tokio::test]
async fn a_host_that_is_not_the_known_one_is_never_shown_the_key() {
    let server = Server::start().await;
    let (private, public) = key();
    server.register(&public);
    let another = HostKey::load_or_create(&server.folder.path().join("another")).unwrap();
    for known in [another.known_hosts_line(server.address), String::new()] {
        let reader = KeyReader::new(&server.url(), Some(format!("{known}\n")));
        let error = reader.read(&private).await.unwrap_err();
        assert!(!error.is_unknown_key(), "waiting does not help: {error}");
        assert!(error.hint().contains("argocd.known_hosts"), "{}", error.hint());
    }
}

#[tokio::test]
async fn a_repository_that_is_read_without_the_key_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(git())
        .args(["init", "--quiet", "--bare"])
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(made.success());
    let url = format!("file://{}", folder.path().display());
    let error = KeyReader::new(&url, None).read(&key().0).await.unwrap_err();
    assert!(matches!(error, KeyError::NotUsed { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_key_is_told_without_its_text() {
    let reader = KeyReader::new("ssh://git@127.0.0.1:9/a/b.git", None);
    let error = reader.read(&"canary, not a key".to_owned().into()).await.unwrap_err();
    let text = mfsre::error::Error::from(error).render(false);
    assert!(
        text.contains("the deploy key cannot be read") && !text.contains("canary"),
        "{text}"
    );
}

#[tokio::test]
async fn the_private_key_is_never_written_down() {
    let server = Server::start().await;
    let (private, public) = key();
    server.register(&public);
    let watched = std::env::temp_dir();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let watcher = tokio::task::spawn_blocking(move || {
        let mut seen = Vec::new();
        while stopped.try_recv().is_err() {
            seen.extend(private_keys_in(&watched));
        }
        seen
    });
    for _ in 0..3 {
        server.reader().read(&private).await.unwrap();
    }
    let _ = stop.send(());
    assert_eq!(watcher.await.unwrap(), Vec::<String>::new());
}

/// Files below the folders that the reader makes which hold a private key.
fn private_keys_in(dir: &Path) -> Vec<String> {
    let ours = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().starts_with("mfsre-");
    let folders = std::fs::read_dir(dir).into_iter().flatten().flatten().filter(ours);
    folders
        .flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten())
        .filter(|file| std::fs::read(file.path()).is_ok_and(|text| text.starts_with(b"-----BEGIN OPENSSH")))
        .map(|file| file.path().display().to_string())
        .collect()
}
