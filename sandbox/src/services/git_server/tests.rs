//! The server as the real `git` and `ssh` see it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Config, HostKey, Operator, serve};
use crate::services::{DeployKeys, Error, NewDeployKey, RepositoryName};

const REPOSITORY: &str = "acme/platform";

/// A running server, with clients that have folders and keys of their own.
struct Fixture {
    folder: TempDir,
    address: SocketAddr,
    deploy_keys: DeployKeys,
    stop: watch::Sender<bool>,
    server: JoinHandle<Result<(), Error>>,
}

impl Fixture {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let deploy_keys = DeployKeys::open(&folder.path().join("deploy-keys.json")).unwrap();
        let operator = generate_key(folder.path(), "operator").await;
        let host_key = HostKey::load_or_create(&folder.path().join("host_key")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        std::fs::write(
            folder.path().join("known_hosts"),
            host_key.known_hosts_line(address) + "\n",
        )
        .unwrap();
        let config = Config {
            git: PathBuf::from("git"),
            repositories_dir: folder.path().join("repositories"),
            repositories: vec![repository(REPOSITORY), repository("acme/other")],
            host_key,
            operators: vec![Operator {
                title: "operator".to_owned(),
                key: operator,
            }],
            deploy_keys: deploy_keys.clone(),
            access_log: folder.path().join("access.jsonl"),
        };
        let (stop, shutdown) = watch::channel(false);
        let server = tokio::spawn(serve(listener, config, shutdown));
        let fixture = Self {
            folder,
            address,
            deploy_keys,
            stop,
            server,
        };
        fixture.seed().await;
        fixture
    }

    /// Pushes a first commit.
    async fn seed(&self) {
        let work = self.path("seed");
        std::fs::create_dir(&work).unwrap();
        self.local(&work, &["init", "--quiet", "--initial-branch", "main", "."])
            .await;
        std::fs::write(work.join("README.md"), "platform\n").unwrap();
        self.commit(&work).await;
        let pushed = self
            .git(&work, "operator", &["push", "--quiet", &self.url(REPOSITORY), "main"])
            .await;
        assert!(pushed.status.success(), "{pushed:?}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self, repository: &str) -> String {
        format!("ssh://git@{}/{repository}.git", self.address)
    }

    /// Registers a new key pair and returns its id.
    async fn deploy_key(&self, name: &str, repository_name: &str, read_only: bool) -> u64 {
        let key = generate_key(self.folder.path(), name).await;
        let new = NewDeployKey {
            key,
            title: name.to_owned(),
            repository: repository(repository_name),
            read_only,
            added_by: "test".to_owned(),
        };
        self.deploy_keys.add(new).unwrap().id
    }

    fn ssh(&self, key: &str) -> String {
        format!(
            "ssh -F none -i {} -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes \
             -o StrictHostKeyChecking=yes -o UserKnownHostsFile={} -o GlobalKnownHostsFile=/dev/null",
            self.path(key).display(),
            self.path("known_hosts").display()
        )
    }

    fn git_command(&self, folder: &Path, key: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .current_dir(folder)
            .env("GIT_SSH_COMMAND", self.ssh(key))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn git(&self, folder: &Path, key: &str, arguments: &[&str]) -> Output {
        let running = self.git_command(folder, key, arguments).output();
        tokio::time::timeout(Duration::from_secs(60), running)
            .await
            .expect("git hangs")
            .unwrap()
    }

    async fn local(&self, folder: &Path, arguments: &[&str]) {
        let output = self.git(folder, "none", arguments).await;
        assert!(output.status.success(), "{output:?}");
    }

    async fn commit(&self, work: &Path) {
        self.local(work, &["add", "."]).await;
        let author = ["-c", "user.name=test", "-c", "user.email=test@example.com"];
        self.local(
            work,
            &[&author[..], &["commit", "--quiet", "--message", "change"]].concat(),
        )
        .await;
    }

    /// Runs ssh itself with this remote command.
    async fn exec(&self, key: &str, remote: &str) -> Output {
        let line = format!(
            "{} -p {} git@{} {remote}",
            self.ssh(key),
            self.address.port(),
            self.address.ip()
        );
        let running = Command::new("sh").arg("-c").arg(line).stdin(Stdio::null()).output();
        tokio::time::timeout(Duration::from_secs(20), running)
            .await
            .expect("ssh hangs")
            .unwrap()
    }

    /// The access log, after it has this many lines.
    async fn log(&self, lines: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.path("access.jsonl")).unwrap();
            let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if entries.len() >= lines {
                return entries;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "only {entries:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

/// Makes a key pair and returns the public part.
async fn generate_key(folder: &Path, name: &str) -> String {
    let file = folder.join(name);
    let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"];
    let status = Command::new("ssh-keygen")
        .args(arguments)
        .arg(&file)
        .status()
        .await
        .unwrap();
    assert!(status.success());
    std::fs::read_to_string(file.with_extension("pub")).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_deploy_key_fetches_and_does_not_push() {
    let server = Fixture::start().await;
    let id = server.deploy_key("deploy", REPOSITORY, true).await;
    let fingerprint = server
        .deploy_keys
        .get(&repository(REPOSITORY), id)
        .unwrap()
        .fingerprint()
        .unwrap();

    let cloned = server
        .git(
            server.folder.path(),
            "deploy",
            &["clone", "--quiet", &server.url(REPOSITORY), "clone"],
        )
        .await;
    assert!(cloned.status.success(), "{cloned:?}");
    let work = server.path("clone");
    assert_eq!(std::fs::read_to_string(work.join("README.md")).unwrap(), "platform\n");
    assert!(
        server
            .deploy_keys
            .get(&repository(REPOSITORY), id)
            .unwrap()
            .last_used
            .is_some()
    );

    std::fs::write(work.join("new"), "x").unwrap();
    server.commit(&work).await;
    let pushed = server.git(&work, "deploy", &["push", "origin", "main"]).await;
    assert!(!pushed.status.success());
    assert!(stderr(&pushed).contains("marked as read only"), "{}", stderr(&pushed));

    let log = server.log(3).await;
    let fields = |entry: &Value| ["key", "command", "result"].map(|name| entry[name].as_str().unwrap_or("").to_owned());
    assert_eq!(fields(&log[0]), ["operator", "git-receive-pack", "ok"]);
    assert_eq!(fields(&log[1]), ["deploy", "git-upload-pack", "ok"]);
    assert_eq!(log[1]["fingerprint"], fingerprint);
    assert_eq!(log[1]["repository"], REPOSITORY);
    assert_eq!(log[2]["fingerprint"], fingerprint);
    assert!(log[2]["result"].as_str().unwrap().starts_with("refused: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_key_that_may_write_pushes() {
    let server = Fixture::start().await;
    server.deploy_key("writer", REPOSITORY, false).await;
    server
        .git(
            server.folder.path(),
            "writer",
            &["clone", "--quiet", &server.url(REPOSITORY), "clone"],
        )
        .await;
    let work = server.path("clone");
    std::fs::write(work.join("new"), "x").unwrap();
    server.commit(&work).await;
    let pushed = server.git(&work, "writer", &["push", "origin", "main"]).await;
    assert!(pushed.status.success(), "{pushed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_key_opens_no_other_repository() {
    let server = Fixture::start().await;
    server.deploy_key("deploy", REPOSITORY, true).await;
    for path in ["acme/other", "acme/none", "../acme/platform", "acme/platform/hooks"] {
        let fetched = server
            .git(server.folder.path(), "deploy", &["ls-remote", &server.url(path)])
            .await;
        assert!(!fetched.status.success(), "{path}");
        assert!(
            stderr(&fetched).contains("Repository not found"),
            "{path}: {}",
            stderr(&fetched)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slash_and_suffix_are_optional() {
    let server = Fixture::start().await;
    for path in ["'/acme/platform'", "'acme/platform.git'", "Acme/Platform"] {
        let answer = server.exec("operator", &format!("git-upload-pack \"{path}\"")).await;
        assert!(
            String::from_utf8_lossy(&answer.stdout).contains("refs/heads/main"),
            "{path}: {answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_refused() {
    let server = Fixture::start().await;
    generate_key(server.folder.path(), "stranger").await;
    let fetched = server
        .git(
            server.folder.path(),
            "stranger",
            &["ls-remote", &server.url(REPOSITORY)],
        )
        .await;
    assert!(
        stderr(&fetched).contains("Permission denied (publickey)"),
        "{}",
        stderr(&fetched)
    );
    let log = server.log(2).await;
    assert_eq!(log[1]["command"], "authenticate");
    assert_eq!(log[1]["key"], Value::Null);
    assert_eq!(log[1]["result"], "refused: unknown key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_at_the_next_connection() {
    let server = Fixture::start().await;
    let id = server.deploy_key("deploy", REPOSITORY, true).await;
    let before = server
        .git(server.folder.path(), "deploy", &["ls-remote", &server.url(REPOSITORY)])
        .await;
    assert!(before.status.success(), "{before:?}");
    assert!(server.deploy_keys.remove(&repository(REPOSITORY), id).unwrap());
    let after = server
        .git(server.folder.path(), "deploy", &["ls-remote", &server.url(REPOSITORY)])
        .await;
    assert!(
        stderr(&after).contains("Permission denied (publickey)"),
        "{}",
        stderr(&after)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_on_an_open_connection_runs_nothing_more() {
    let server = Fixture::start().await;
    let id = server.deploy_key("deploy", REPOSITORY, true).await;
    let control = format!(
        "-o ControlPath={} -o ControlMaster=auto -o ControlPersist=20",
        server.path("control").display()
    );
    let line = |remote: &str| {
        let ssh = server.ssh("deploy");
        format!(
            "{ssh} {control} -p {} git@127.0.0.1 \"{remote}\" </dev/null",
            server.address.port()
        )
    };
    let run = async |line: String| {
        Command::new("sh")
            .arg("-c")
            .arg(line)
            .stderr(Stdio::piped())
            .output()
            .await
            .unwrap()
    };
    // A master that stays would hold the pipe of its standard error open.
    let quiet = format!("{} 2>/dev/null", line("git-upload-pack '/acme/platform'"));
    let first = tokio::time::timeout(Duration::from_secs(20), run(quiet)).await.unwrap();
    assert!(
        String::from_utf8_lossy(&first.stdout).contains("refs/heads/main"),
        "{first:?}"
    );
    server.deploy_keys.remove(&repository(REPOSITORY), id).unwrap();
    let second = tokio::time::timeout(Duration::from_secs(20), run(line("git-upload-pack '/acme/platform'")))
        .await
        .unwrap();
    assert!(stderr(&second).contains("revoked"), "{second:?}");
    assert_eq!(second.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_but_git_is_refused_with_a_message_and_a_status() {
    let server = Fixture::start().await;
    for remote in [
        "id",
        "git-shell",
        "'git-upload-pack /acme/platform; id'",
        "git-upload-archive /acme/platform",
        "'sh -c id'",
    ] {
        let output = server.exec("operator", remote).await;
        assert_eq!(output.status.code(), Some(1), "{remote}: {output:?}");
        assert!(output.stdout.is_empty(), "{remote}: {output:?}");
        assert!(
            stderr(&output).contains("ERROR: only git-upload-pack"),
            "{remote}: {output:?}"
        );
    }
    let shell = server.exec("operator", "").await;
    assert_eq!(shell.status.code(), Some(1));
    assert!(stderr(&shell).contains("shell access is not provided"), "{shell:?}");
    let subsystem = server.exec("operator", "-s sftp").await;
    assert!(!subsystem.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_is_refused() {
    let server = Fixture::start().await;
    let line = format!(
        "{} -W 127.0.0.1:{} -p {} git@127.0.0.1",
        server.ssh("operator"),
        server.address.port(),
        server.address.port()
    );
    let running = Command::new("sh").arg("-c").arg(line).stdin(Stdio::null()).output();
    let output = tokio::time::timeout(Duration::from_secs(20), running)
        .await
        .expect("ssh hangs")
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_another_host_key_leaves() {
    let server = Fixture::start().await;
    let other = HostKey::load_or_create(&server.path("other_host_key")).unwrap();
    std::fs::write(
        server.path("known_hosts"),
        other.known_hosts_line(server.address) + "\n",
    )
    .unwrap();
    let fetched = server
        .git(
            server.folder.path(),
            "operator",
            &["ls-remote", &server.url(REPOSITORY)],
        )
        .await;
    assert!(
        stderr(&fetched).contains("Host key verification failed"),
        "{}",
        stderr(&fetched)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_must_be_git() {
    let server = Fixture::start().await;
    let url = format!("ssh://root@{}/{REPOSITORY}.git", server.address);
    let fetched = server.git(server.folder.path(), "operator", &["ls-remote", &url]).await;
    assert!(stderr(&fetched).contains("Permission denied"), "{}", stderr(&fetched));
}

#[tokio::test(flavor = "multi_thread")]
async fn speaks_version_2_of_the_protocol() {
    let server = Fixture::start().await;
    let mut command = server.git_command(
        server.folder.path(),
        "operator",
        &["ls-remote", &server.url(REPOSITORY)],
    );
    let output = command.env("GIT_TRACE_PACKET", "1").output().await.unwrap();
    assert!(stderr(&output).contains("< version 2"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_larger_than_every_buffer_arrives_whole_both_ways() {
    let server = Fixture::start().await;
    let work = server.path("seed");
    let mut random = vec![0; 24 << 20];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random).unwrap();
    std::fs::write(work.join("large"), &random).unwrap();
    server.commit(&work).await;
    let pushed = server
        .git(
            &work,
            "operator",
            &["push", "--progress", &server.url(REPOSITORY), "main"],
        )
        .await;
    assert!(pushed.status.success(), "{pushed:?}");

    server.deploy_key("deploy", REPOSITORY, true).await;
    let cloned = server
        .git(
            server.folder.path(),
            "deploy",
            &["clone", "--progress", &server.url(REPOSITORY), "clone"],
        )
        .await;
    assert!(cloned.status.success(), "{cloned:?}");
    assert!(std::fs::read(server.path("clone").join("large")).unwrap() == random);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_are_served() {
    let server = Fixture::start().await;
    server.deploy_key("deploy", REPOSITORY, true).await;
    let url = server.url(REPOSITORY);
    let arguments = ["ls-remote", url.as_str(), "main"];
    let fetches = (0..24).map(|_| server.git(server.folder.path(), "deploy", &arguments));
    for fetched in futures_util::future::join_all(fetches).await {
        assert!(fetched.status.success(), "{fetched:?}");
    }
    assert_eq!(
        server
            .log(25)
            .await
            .iter()
            .filter(|entry| entry["result"] == "ok")
            .count(),
        25
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_git_reaches_the_client() {
    let server = Fixture::start().await;
    // A client that says something else than Git's protocol.
    let line = "printf '0010nonsense000' | ".to_owned()
        + &format!(
            "{} -p {} git@127.0.0.1 \"git-upload-pack '/acme/platform'\"",
            server.ssh("operator"),
            server.address.port()
        );
    let output = Command::new("sh").arg("-c").arg(line).output().await.unwrap();
    assert_eq!(output.status.code(), Some(128), "{output:?}");
    assert_eq!(server.log(2).await[1]["result"], "exit 128");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_takes_its_git_process_with_it() {
    let server = Fixture::start().await;
    let line = format!(
        "{} -p {} git@127.0.0.1 \"git-upload-pack '/acme/platform'\"",
        server.ssh("operator"),
        server.address.port()
    );
    // With standard input open, upload-pack waits for a request that never comes.
    let mut client = Command::new("sh")
        .arg("-c")
        .arg(format!("exec {line}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 4];
    tokio::io::AsyncReadExt::read_exact(client.stdout.as_mut().unwrap(), &mut first)
        .await
        .unwrap();
    client.kill().await.unwrap();
    assert_eq!(server.log(2).await[1]["result"], "client gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shutdown_ends_what_is_under_way() {
    let server = Fixture::start().await;
    let line = format!(
        "{} -p {} git@127.0.0.1 \"git-upload-pack '/acme/platform'\"",
        server.ssh("operator"),
        server.address.port()
    );
    let mut client = Command::new("sh")
        .arg("-c")
        .arg(format!("exec {line}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = [0; 4];
    tokio::io::AsyncReadExt::read_exact(client.stdout.as_mut().unwrap(), &mut first)
        .await
        .unwrap();

    let start = Instant::now();
    server.stop.send(true).unwrap();
    server.server.await.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let status = tokio::time::timeout(Duration::from_secs(5), client.wait())
        .await
        .expect("the client hangs")
        .unwrap();
    assert!(!status.success());
    // Another test's server may have got the port meanwhile, for a while.
    while tokio::net::TcpStream::connect(server.address).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20), "somebody still listens");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        git: PathBuf::from("git"),
        repositories_dir: folder.path().join("repositories"),
        repositories: Vec::new(),
        host_key: HostKey::load_or_create(&folder.path().join("host_key")).unwrap(),
        operators: Vec::new(),
        deploy_keys: DeployKeys::open(&folder.path().join("keys.json")).unwrap(),
        access_log: folder.path().join("access.jsonl"),
    };
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let (_stop, shutdown) = watch::channel(false);
    assert!(matches!(
        serve(listener, config, shutdown).await,
        Err(Error::NotLoopback(_))
    ));
}

#[test]
fn the_host_key_stays_the_same_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host_key");
    let address = "127.0.0.1:2222".parse().unwrap();
    let line = HostKey::load_or_create(&path).unwrap().known_hosts_line(address);
    assert!(line.starts_with("[127.0.0.1]:2222 ssh-ed25519 AAAA"), "{line}");
    assert_eq!(line.split(' ').count(), 3, "{line}");
    assert_eq!(HostKey::load_or_create(&path).unwrap().known_hosts_line(address), line);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, "something else").unwrap();
    assert!(matches!(HostKey::load_or_create(&path), Err(Error::Content { .. })));
}
