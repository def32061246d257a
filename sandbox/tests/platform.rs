//! The whole platform on this machine: real processes, from start to stop. The first run fetches or builds the
//! programs, and each run takes some seconds and 1.5 GB of memory.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::time::{Duration, Instant};

use mfsre_sandbox::{Error, Event, Health, Part, Status};
use serde_json::{Value, json};

use support::{Cluster, Recorder, Sandbox, eventually, git, processes_of};

const ARGO_CD: [&str; 3] = ["argocd-server", "argocd-repo-server", "argocd-application-controller"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
async fn a_platform_starts_runs_argo_cd_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let progress = Recorder::default();
    let status = sandbox.start(&progress).await.unwrap();
    assert!(status.is_healthy(), "{:#?}", status.parts);
    let events = progress.take();
    for part in status
        .parts
        .iter()
        .filter(|part| !ARGO_CD.contains(&part.name.as_str()))
    {
        let ready = events
            .iter()
            .any(|event| matches!(event, Event::PartReady { name, .. } if *name == part.name));
        assert!(ready, "{} was not reported ready: {events:#?}", part.name);
        assert!(part.log.exists(), "{}", part.log.display());
    }
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::ToolResolved { name, .. } if name == "etcd"))
    );

    let again = Instant::now();
    assert_eq!(
        sandbox.start(&Recorder::default()).await.unwrap().kubernetes_endpoint,
        status.kubernetes_endpoint
    );
    assert!(
        again.elapsed() < Duration::from_secs(5),
        "a second start took {:?}",
        again.elapsed()
    );

    let cluster = Cluster::new(&status);
    assert_eq!(cluster.text("/readyz").await, "ok");
    deployments_become_ready(&cluster).await;
    argo_cd_syncs_from_the_git_server(&status, &cluster).await;
    argo_cd_follows_its_workloads(&sandbox, &cluster).await;
    what_dies_comes_back(&sandbox, &cluster).await;
    let before = processes_of(sandbox.dir());
    assert!(before.len() > 8, "{before:?}");
    what_keeps_dying_is_given_up(&sandbox).await;
    a_crash_is_reported_by_name(&sandbox).await;

    let stopped = sandbox.stop().await.unwrap();
    assert!(stopped.was_running);
    assert!(stopped.killed.is_empty(), "{stopped:?}");
    assert_eq!(processes_of(sandbox.dir()), Vec::<u32>::new());
    assert!(!sandbox.dir().exists());
    assert!(
        !sandbox.stop().await.unwrap().was_running,
        "a second stop finds nothing"
    );
    assert!(sandbox.status().await.unwrap().is_none());
}

async fn deployments_become_ready(cluster: &Cluster) {
    eventually("three nodes are ready", async || {
        let nodes = cluster.get("/api/v1/nodes").await;
        let ready = nodes["items"].as_array().into_iter().flatten().filter(|node| {
            let conditions = node["status"]["conditions"].as_array();
            conditions
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        });
        ready.count() == 3
    })
    .await;
    cluster
        .apply(&json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "image": "registry.invalid/web:1"}]},
                },
            },
        }))
        .await;
    eventually("the Deployment has two ready replicas", async || {
        cluster.get("/apis/apps/v1/namespaces/default/deployments/web").await["status"]["readyReplicas"] == 2
    })
    .await;
}

/// Argo CD fetches over SSH with a deploy key that was registered through the API, renders, and applies.
async fn argo_cd_syncs_from_the_git_server(status: &Status, cluster: &Cluster) {
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}}))
        .await;
    cluster.apply_argo_cd().await;
    cluster
        .apply(&json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "argocd-ssh-known-hosts-cm", "namespace": "argocd"},
            "data": {"ssh_known_hosts": format!("{}\n", status.git_known_hosts)},
        }))
        .await;

    let work = tempfile::tempdir().unwrap();
    std::fs::write(
        work.path().join("config.yaml"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-git}\ndata: {answer: \"42\"}\n",
    )
    .unwrap();
    git(work.path(), status, &["init", "--quiet", "--initial-branch=main"]);
    git(work.path(), status, &["add", "."]);
    git(
        work.path(),
        status,
        &[
            "-c",
            "user.name=test",
            "-c",
            "user.email=test@example.invalid",
            "commit",
            "--quiet",
            "-m",
            "first",
        ],
    );
    git(work.path(), status, &["push", "--quiet", &status.git_url, "main"]);

    let key = support::deploy_key(status, work.path()).await;
    cluster
        .apply(&json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "platform",
                "namespace": "argocd",
                "labels": {"argocd.argoproj.io/secret-type": "repository"},
            },
            "stringData": {"type": "git", "url": status.git_url, "sshPrivateKey": key},
        }))
        .await;
    cluster
        .apply(&json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": "from-git", "namespace": "argocd"},
            "spec": {
                "project": "default",
                "source": {"repoURL": status.git_url, "path": ".", "targetRevision": "main"},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": "default"},
                "syncPolicy": {"automated": {}},
            },
        }))
        .await;
    const APPLICATION: &str = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/from-git";
    eventually("the Application is synced and healthy", async || {
        let status = cluster.get(APPLICATION).await["status"].clone();
        status["sync"]["status"] == "Synced" && status["health"]["status"] == "Healthy"
    })
    .await;
    assert_eq!(
        cluster.get("/api/v1/namespaces/default/configmaps/from-git").await["data"]["answer"],
        "42"
    );
    let version = reqwest::get(status.argocd_url.join("/api/version").unwrap())
        .await
        .unwrap();
    let version = version.json::<Value>().await.unwrap()["Version"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(version.starts_with("v3.5."), "{version}");
}

async fn argo_cd_follows_its_workloads(sandbox: &Sandbox, cluster: &Cluster) {
    let health = async |name: &str| sandbox.status().await.unwrap().unwrap().part(name).unwrap().clone();
    let before = health("argocd-repo-server").await;
    assert_eq!(before.health, Health::Healthy);
    support::kill(before.pid.unwrap());
    eventually("the repo-server was restarted", async || {
        let now = health("argocd-repo-server").await;
        now.health == Health::Healthy && now.pid != before.pid
    })
    .await;
    cluster
        .delete("/apis/apps/v1/namespaces/argocd/deployments/argocd-repo-server")
        .await;
    eventually("the repo-server has ended with its Deployment", async || {
        health("argocd-repo-server").await.health == Health::Stopped
    })
    .await;
}

async fn part(sandbox: &Sandbox, name: &str) -> Part {
    let status = sandbox.status().await.unwrap().unwrap();
    status.part(name).unwrap().clone()
}

/// Every program outside AWS comes back by itself, at the same address and with what it knew.
async fn what_dies_comes_back(sandbox: &Sandbox, cluster: &Cluster) {
    for name in [
        "redis",
        "kwok",
        "kube-scheduler",
        "kube-controller-manager",
        "etcd",
        "kube-apiserver",
    ] {
        let before = part(sandbox, name).await;
        support::kill(before.pid.unwrap());
        eventually(&format!("{name} was started again"), async || {
            let now = part(sandbox, name).await;
            now.health == Health::Healthy && now.pid != before.pid
        })
        .await;
        let now = part(sandbox, name).await;
        assert_eq!((now.restarts, &now.address), (1, &before.address), "{name}");
        let log = std::fs::read_to_string(&now.log).unwrap();
        assert!(
            log.contains("it ended with signal: 9 (SIGKILL) and was started again"),
            "{name}"
        );
    }
    eventually("the cluster calls itself ready", async || {
        cluster.try_text("/readyz").await.as_deref() == Some("ok")
    })
    .await;
    assert_eq!(
        cluster.get("/api/v1/namespaces/default/configmaps/from-git").await["data"]["answer"],
        "42",
        "nothing was lost"
    );
    cluster.scale("default", "web", 3).await;
    eventually("the Deployment grows", async || {
        cluster.get("/apis/apps/v1/namespaces/default/deployments/web").await["status"]["readyReplicas"] == 3
    })
    .await;
    assert!(sandbox.start(&Recorder::default()).await.unwrap().is_up());
}

async fn what_keeps_dying_is_given_up(sandbox: &Sandbox) {
    let mut last = None;
    loop {
        let mut now = part(sandbox, "kwok").await;
        let began = Instant::now();
        while now.pid.is_none() || now.pid == last {
            if matches!(now.health, Health::Crashed { restarting: false, .. }) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{now:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            now = part(sandbox, "kwok").await;
        }
        if let Health::Crashed { exit, restarting, .. } = now.health {
            assert!(!restarting);
            assert_eq!(
                exit,
                "signal: 9 (SIGKILL), after 5 restarts within 60 s; it is not started again"
            );
            break;
        }
        last = now.pid;
        support::kill(now.pid.unwrap());
    }
    let again = sandbox.start(&Recorder::default()).await.unwrap();
    let lost: Vec<&str> = again.lost().map(|part| part.name.as_str()).collect();
    assert_eq!(lost, ["kwok"], "a start does not wait for it");
}

/// AWS is not started again, because everything on it would be gone.
async fn a_crash_is_reported_by_name(sandbox: &Sandbox) {
    let ministack = part(sandbox, "ministack").await;
    assert!(ministack.memory_bytes.unwrap() > 10 << 20);
    support::kill(ministack.pid.unwrap());
    eventually("the crash of the emulator is reported", async || {
        let now = part(sandbox, "ministack").await;
        matches!(&now.health, Health::Crashed { exit, restarting: false, .. } if exit.contains("SIGKILL"))
    })
    .await;
    assert!(!sandbox.status().await.unwrap().unwrap().is_healthy());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
async fn two_sandboxes_live_side_by_side_and_nothing_survives_a_killed_supervisor() {
    let (one, other) = (Sandbox::new(), Sandbox::new());
    let (progress, silent) = (Recorder::default(), Recorder::default());
    let (first, second) = tokio::join!(one.start(&progress), other.start(&silent));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.kubernetes_endpoint, second.kubernetes_endpoint);

    let supervisor = first.part("git-server").unwrap().pid.unwrap();
    assert!(processes_of(one.dir()).len() > 5);
    support::kill(supervisor);
    eventually("every process of the first sandbox is gone", async || {
        processes_of(one.dir()).is_empty()
    })
    .await;
    // A process that ends gives up its memory, by which it was found, before the lock that says it is there.
    eventually("its parts are reported as ended with the supervisor", async || {
        let left = one.status().await.unwrap().unwrap();
        let etcd = left.part("etcd").unwrap();
        matches!(&etcd.health, Health::Crashed { exit, .. } if exit == "the supervisor has ended")
    })
    .await;

    assert!(
        other.status().await.unwrap().unwrap().is_healthy(),
        "the second sandbox is untouched"
    );
    assert_eq!(Cluster::new(&second).text("/readyz").await, "ok");

    let again = one.start(&progress).await.unwrap();
    assert!(again.is_healthy());
    assert_ne!(
        again.access_key_id, first.access_key_id,
        "a new sandbox has new credentials"
    );
    for sandbox in [&one, &other] {
        sandbox.stop().await.unwrap();
        assert_eq!(processes_of(sandbox.dir()), Vec::<u32>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
async fn a_taken_git_port_is_named_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let _taken = std::net::TcpListener::bind(sandbox.git_address()).unwrap();
    let error = sandbox.start(&Recorder::default()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::PortBusy { .. }), "{error:?}");
    assert!(text.contains(&sandbox.git_address().to_string()), "{text}");
    assert!(text.contains("argocd_repository_url"), "{text}");
    assert_eq!(processes_of(sandbox.dir()), Vec::<u32>::new());
    sandbox.stop().await.unwrap();
}
