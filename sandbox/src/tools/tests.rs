//! The ways to a tool, against a mirror on loopback.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::catalog::GoBuild;
use super::*;
use crate::{StartedBy, ToolSettings};

const PROGRAM: &[u8] = b"#!/bin/sh\necho fake 1.2.3\n";

/// What the mirror does with a request.
#[derive(Clone)]
enum Answer {
    Content(Vec<u8>),
    /// Announces more than it sends.
    Cut,
    NotFound,
}

/// A mirror that counts its requests.
struct Mirror {
    url: Url,
    requests: Arc<AtomicUsize>,
    paths: Arc<Mutex<Vec<String>>>,
}

async fn mirror(answer: Answer) -> Mirror {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (requests, paths) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (count, seen) = (Arc::clone(&requests), Arc::clone(&paths));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..read]).into_owned();
            seen.lock()
                .unwrap()
                .push(text.split_whitespace().nth(1).unwrap_or_default().to_owned());
            count.fetch_add(1, Ordering::SeqCst);
            // Long enough for a second process to come by.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let response = match answer.clone() {
                Answer::Content(content) => [
                    format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        content.len()
                    )
                    .into_bytes(),
                    content,
                ]
                .concat(),
                Answer::Cut => {
                    b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\nonly this".to_vec()
                }
                Answer::NotFound => {
                    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
                }
            };
            stream.write_all(&response).await.unwrap();
        }
    });
    Mirror {
        url: Url::parse(&format!("http://{address}/tools/")).unwrap(),
        requests,
        paths,
    }
}

/// A port on which nobody listens: the publisher that cannot be reached.
fn closed() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn fake_tool(sha256: &str, member: Option<&'static str>) -> Tool {
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    Tool {
        name: "fake-tool-of-the-test",
        version: "v1.2.3",
        version_arguments: &[],
        accepts: Accepts::SameMinor,
        prebuilt: Box::leak(Box::new([Prebuilt {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            url: leak(format!("http://{}/releases/v1.2.3/fake.bin", closed())),
            sha256: leak(sha256.to_owned()),
            member,
        }])),
        // No module provides this package, so a build fails at once and without a network.
        build: GoBuild {
            package: "module.invalid/nothing",
            variables: &[],
            tags: "",
            go_mod: "module test\n\ngo 1.26\n",
            go_sum: "",
        },
    }
}

fn spec(cache: &Path, mirror: Option<Url>) -> Spec {
    Spec {
        name: "test".to_owned(),
        cluster: "test".to_owned(),
        dir: cache.join("sandbox"),
        cache: Some(cache.to_path_buf()),
        region: "eu-west-1".to_owned(),
        cluster_version: KUBERNETES_MINOR.to_owned(),
        git_listen: SocketAddr::from(([127, 0, 0, 1], 1)),
        git_repository: "a/b".to_owned(),
        tools: ToolSettings {
            explicit: BTreeMap::new(),
            mirror,
            install_manifest: None,
        },
        nodes: 1,
        fast_hpa: false,
        started_by: StartedBy::Start,
    }
}

async fn get(spec: &Spec, tool: &Tool) -> Result<Resolved, Error> {
    let getter = Getter {
        cache: Cache::locate(spec.cache.as_deref()).unwrap(),
        downloads: Downloads::new().unwrap(),
        python: Python(PathBuf::from("python3")),
        spec,
        progress: &crate::Silent,
    };
    getter.program(tool).await
}

fn attempts(result: Result<Resolved, Error>) -> Vec<String> {
    match result {
        Err(Error::Tool { attempts, .. }) => attempts,
        other => panic!("expected a tool that cannot be had, got {other:?}"),
    }
}

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

fn executable(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_good_download_is_kept_and_the_second_time_it_comes_from_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = mirror(Answer::Content(PROGRAM.to_vec())).await;
    let (spec, tool) = (spec(dir.path(), Some(mirror.url)), fake_tool(&sha256(PROGRAM), None));
    let first = get(&spec, &tool).await.unwrap();
    assert_eq!(first.source, Source::Download);
    assert_eq!(
        first.path,
        dir.path()
            .join("tools/fake-tool-of-the-test/v1.2.3/fake-tool-of-the-test")
    );
    assert!(is_executable(&first.path));
    assert_eq!(get(&spec, &tool).await.unwrap().source, Source::Cache);
    assert_eq!(
        *mirror.paths.lock().unwrap(),
        ["/tools/fake-tool-of-the-test/v1.2.3/fake.bin"]
    );
}

#[tokio::test]
async fn a_program_is_taken_out_of_its_archive() {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(PROGRAM.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, "linux-amd64/fake", PROGRAM).unwrap();
    let mut encoder = archive.into_inner().unwrap();
    encoder.flush().unwrap();
    let archive = encoder.finish().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let tool = fake_tool(&sha256(&archive), Some("linux-amd64/fake"));
    let mirror = mirror(Answer::Content(archive)).await;
    let found = get(&spec(dir.path(), Some(mirror.url)), &tool).await.unwrap();
    assert_eq!(std::fs::read(found.path).unwrap(), PROGRAM);
}

#[tokio::test]
async fn another_checksum_is_refused_and_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = mirror(Answer::Content(b"something else".to_vec())).await;
    let (spec, tool) = (spec(dir.path(), Some(mirror.url)), fake_tool(&sha256(PROGRAM), None));
    let attempts = attempts(get(&spec, &tool).await);
    let expected = format!("sha256 is {}, pinned is {}", sha256(b"something else"), sha256(PROGRAM));
    assert!(
        attempts
            .iter()
            .any(|attempt| attempt.starts_with("mirror: ") && attempt.ends_with(&expected)),
        "{attempts:#?}"
    );
    assert!(attempts.last().unwrap().starts_with("build: "), "{attempts:#?}");
    let left: Vec<_> = std::fs::read_dir(dir.path().join("tools/fake-tool-of-the-test"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["v1.2.3.lock"]);
}

#[tokio::test]
async fn a_cut_transfer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = mirror(Answer::Cut).await;
    let attempts = attempts(get(&spec(dir.path(), Some(mirror.url)), &fake_tool(&sha256(PROGRAM), None)).await);
    assert!(
        attempts
            .iter()
            .any(|attempt| attempt.contains("the transfer was cut short")),
        "{attempts:#?}"
    );
}

#[tokio::test]
async fn a_file_that_is_on_no_server_falls_through_to_the_build() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = mirror(Answer::NotFound).await;
    let attempts = attempts(get(&spec(dir.path(), Some(mirror.url)), &fake_tool(&sha256(PROGRAM), None)).await);
    let begins: Vec<&str> = attempts
        .iter()
        .map(|attempt| attempt.split(':').next().unwrap())
        .collect();
    assert_eq!(begins, ["PATH", "KUBEBUILDER_ASSETS", "mirror", "download", "build"]);
    assert!(attempts[2].contains("404 Not Found"), "{attempts:#?}");
}

#[tokio::test]
async fn two_at_once_download_once() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = mirror(Answer::Content(PROGRAM.to_vec())).await;
    let (spec, tool) = (spec(dir.path(), Some(mirror.url)), fake_tool(&sha256(PROGRAM), None));
    let (one, other) = tokio::join!(get(&spec, &tool), get(&spec, &tool));
    let mut sources = [one.unwrap().source.to_string(), other.unwrap().source.to_string()];
    sources.sort();
    assert_eq!(sources, ["downloaded", "from the cache"]);
    assert_eq!(mirror.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_program_that_is_set_is_used_only_in_an_accepted_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine");
    let mut spec = spec(dir.path(), None);
    spec.tools
        .explicit
        .insert("fake-tool-of-the-test".to_owned(), path.clone());
    let mut tool = fake_tool(&sha256(PROGRAM), None);
    tool.version_arguments = &["--version"];

    executable(&path, PROGRAM);
    let found = get(&spec, &tool).await.unwrap();
    assert_eq!(
        (found.path, found.version.as_str(), found.source),
        (path.clone(), "v1.2.3", Source::Explicit)
    );

    let silent = fake_tool(&sha256(PROGRAM), None);
    let found = get(&spec, &silent).await.unwrap();
    assert_eq!(
        (found.path, found.version.as_str()),
        (path.clone(), ""),
        "whoever sets the path of one that tells no version answers for it"
    );

    executable(&path, b"#!/bin/sh\necho fake 1.3.0\n");
    let refused = attempts(get(&spec, &tool).await);
    assert_eq!(
        refused,
        [format!("settings: {} is 1.3.0, wanted 1.2.3", path.display())]
    );

    std::fs::remove_file(&path).unwrap();
    let missing = attempts(get(&spec, &tool).await);
    assert_eq!(missing, [format!("settings: {} is not a file", path.display())]);
}

#[tokio::test]
async fn a_cluster_version_that_is_not_pinned_needs_a_program_on_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = spec(dir.path(), None);
    spec.cluster_version = "1.29".to_owned();
    let error = get(&spec, catalog::tool("kube-apiserver").unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("set cluster_version to 1.35"), "{error}");
}

#[test]
fn a_program_on_path_is_the_first_file_that_can_be_executed() {
    let dir = tempfile::tempdir().unwrap();
    let folders: Vec<PathBuf> = ["none", "folder", "text", "first", "second"]
        .map(|name| dir.path().join(name))
        .into();
    for folder in &folders[1..] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::create_dir(folders[1].join("tool")).unwrap();
    std::fs::write(folders[2].join("tool"), "not executable").unwrap();
    executable(&folders[3].join("tool"), PROGRAM);
    executable(&folders[4].join("tool"), PROGRAM);
    let path = std::env::join_paths(&folders).unwrap();
    assert_eq!(find_in(&path, "tool"), Some(folders[3].join("tool")));
    assert_eq!(find_in(&path, "another"), None);
}
