//! Names, addresses and connections, over real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hickory_server::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::{Name, RData, RecordType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use tokio::sync::watch;

use super::{ClaimError, Claimed, Directory, PodNetwork, Services, claim, dns, host, proxy};

/// A network with both servers, and a cluster whose Services the test states.
struct Network {
    network: PodNetwork,
    dns: SocketAddr,
    proxy: SocketAddr,
    socket: PathBuf,
    folder: tempfile::TempDir,
    _shutdown: watch::Sender<bool>,
}

impl Network {
    /// `services` gets the network, because the pods' addresses are in it.
    async fn new(services: impl Fn(PodNetwork) -> Result<Services, String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let Claimed { network, dns, proxy } = claim(folder.path(), &[]).await.unwrap();
        let answer = services(network);
        let directory = Arc::new(Directory::new(
            network,
            Box::new(move || {
                let answer = answer.clone();
                Box::pin(async move { answer })
            }),
        ));
        let (shutdown, stopping) = watch::channel(false);
        let addresses = (dns.0.local_addr().unwrap(), proxy.local_addr().unwrap());
        let socket = folder.path().join("proxy.sock");
        let unix = UnixListener::bind(&socket).unwrap();
        let log = folder.path().join("proxy.log");
        let (names, stop, dns_log) = (Arc::clone(&directory), stopping.clone(), folder.path().join("dns.log"));
        tokio::spawn(async move { dns::serve(dns, names, &dns_log, stop).await });
        tokio::spawn(async move { proxy::serve(proxy, unix, directory, &log, stopping).await });
        Self {
            network,
            dns: addresses.0,
            proxy: addresses.1,
            socket,
            folder,
            _shutdown: shutdown,
        }
    }

    async fn lookup(&self, name: &str, kind: RecordType) -> (ResponseCode, Vec<Ipv4Addr>) {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&message.to_vec().unwrap(), self.dns).await.unwrap();
        let mut answer = [0; 4096];
        let length = socket.recv(&mut answer).await.unwrap();
        let answer = Message::from_vec(&answer[..length]).unwrap();
        assert_eq!(answer.metadata.id, 7);
        let addresses = answer.answers.iter().map(|record| match &record.data {
            RData::A(address) => address.0,
            other => panic!("{other:?}"),
        });
        (answer.metadata.response_code, addresses.collect())
    }

    /// What the proxy answers to a GET.
    async fn get(&self, url: &str) -> (u16, String) {
        self.get_as("", url).await
    }

    async fn get_as(&self, user: &str, url: &str) -> (u16, String) {
        let mut proxy = reqwest::Proxy::http(format!("http://{}", self.proxy)).unwrap();
        if !user.is_empty() {
            proxy = proxy.basic_auth(user, "");
        }
        crate::crypto::install_provider();
        let client = reqwest::Client::builder().proxy(proxy).build().unwrap();
        let response = client.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

/// A process of the pod number `host` that answers every request with a word and the request's first line.
async fn process(network: PodNetwork, host: u8, port: u16, word: &'static str) {
    let listener = TcpListener::bind((network.loopback(host), port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    let body = format!("{word}: {}", request.replace("\r\n", "|"));
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
}

/// Services as the API lists them: `web` with pods 10 (ready) and 11 (not), `web-headless`, `idle` without pods.
fn cluster(network: PodNetwork) -> Services {
    let service = |name: &str, address: &str, port: u16| {
        json!({"metadata": {"namespace": "workloads", "name": name},
            "spec": {"clusterIP": address, "ports": [{"name": "http", "port": port, "targetPort": "http"}]}})
    };
    let slice = |name: &str, endpoints: Value| {
        json!({"metadata": {"namespace": "workloads", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints})
    };
    let endpoint =
        |host: u8, conditions: Value| json!({"addresses": [network.pod_address(host)], "conditions": conditions});
    let web = json!([
        endpoint(10, json!({"ready": true})),
        endpoint(11, json!({"ready": false}))
    ]);
    Services::read(
        &json!({"items": [
            service("web", "10.100.7.7", 80),
            service("web-headless", "None", 8080),
            service("idle", "10.100.7.8", 80),
        ]}),
        &json!({"items": [slice("web", web.clone()), slice("web-headless", web)]}),
    )
}

#[test]
fn a_pod_address_and_its_loopback_address_tell_each_other() {
    let network = PodNetwork::candidate(Path::new("/somewhere"), 0);
    assert_eq!(
        network,
        PodNetwork::candidate(Path::new("/somewhere"), 0),
        "the same each time"
    );
    assert_ne!(network, PodNetwork::candidate(Path::new("/somewhere"), 1));
    assert_eq!(network.loopback_of(network.pod_address(9)), Some(network.loopback(9)));
    assert_eq!(network.loopback_of(Ipv4Addr::new(10, 0, 0, 9)), None, "a pod of KWOK's");
    assert!(network.loopback(9).is_loopback());
}

#[test]
fn a_host_name_means_a_service_as_it_does_in_a_pod() {
    let meant = |name| host::service(name);
    let expected = Some(("monitoring".to_owned(), "prometheus".to_owned()));
    for name in [
        "prometheus.monitoring",
        "prometheus.monitoring.svc",
        "Prometheus.Monitoring.SVC.cluster.local.",
    ] {
        assert_eq!(meant(name), expected, "{name}");
    }
    assert_eq!(meant("web"), Some(("workloads".to_owned(), "web".to_owned())));
    for name in [
        "",
        ".",
        "a.b.c",
        "a.b.svc.example.org",
        "pod.web.workloads.svc.cluster.local",
    ] {
        assert_eq!(meant(name), None, "{name}");
    }
}

#[tokio::test]
async fn two_sandboxes_do_not_share_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let first = claim(folder.path(), &[]).await.unwrap();
    let second = claim(folder.path(), &[]).await.unwrap();
    assert_ne!(first.network, second.network);
    let third = {
        drop(first);
        claim(folder.path(), &[]).await.unwrap()
    };
    assert_eq!(third.network, PodNetwork::candidate(folder.path(), 0), "free again");
}

#[tokio::test]
async fn a_port_that_somebody_has_on_all_addresses_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = everywhere.local_addr().unwrap().port();
    let error = claim(folder.path(), &[port]).await.unwrap_err();
    assert!(
        matches!(error, ClaimError::PodPort { address, .. } if address.port() == port),
        "{error}"
    );
}

#[tokio::test]
async fn a_name_gives_the_ready_pods() {
    let network = Network::new(|network| Ok(cluster(network))).await;
    let ready = vec![network.network.loopback(10)];
    for name in [
        "web-headless.workloads.svc.",
        "web-headless.",
        "web-headless.workloads.svc.cluster.local.",
    ] {
        assert_eq!(
            network.lookup(name, RecordType::A).await,
            (ResponseCode::NoError, ready.clone()),
            "{name}"
        );
    }
    assert_eq!(
        network.lookup("web-headless.workloads.svc.", RecordType::AAAA).await,
        (ResponseCode::NoError, vec![]),
        "there is the name, but not with such an address"
    );
    for name in ["idle.workloads.svc.", "none.workloads.svc.", "example.org.invalid."] {
        assert_eq!(
            network.lookup(name, RecordType::A).await,
            (ResponseCode::NXDomain, vec![]),
            "{name}"
        );
    }
}

#[tokio::test]
async fn many_pods_do_not_fit_into_a_datagram_and_come_over_tcp() {
    let network = Network::new(|network| {
        let mut services = cluster(network);
        let one = services.0[1].endpoints[0].clone();
        services.0[1].endpoints = (10..=200)
            .map(|host| super::Endpoint {
                address: network.pod_address(host),
                ..one.clone()
            })
            .collect();
        Ok(services)
    })
    .await;
    let mut message = Message::new(8, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii("web-headless.").unwrap(), RecordType::A));
    let bytes = message.to_vec().unwrap();
    let mut stream = TcpStream::connect(network.dns).await.unwrap();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 191);
}

#[tokio::test]
async fn a_cluster_that_cannot_be_asked_is_no_empty_cluster() {
    let network = Network::new(|_| Err("it is starting".to_owned())).await;
    assert_eq!(
        network.lookup("web.", RecordType::A).await,
        (ResponseCode::ServFail, vec![])
    );
    let log = std::fs::read_to_string(network.folder.path().join("dns.log")).unwrap();
    assert!(log.contains("it is starting"), "{log}");
    let (status, text) = network.get("http://web.workloads.svc/").await;
    assert_eq!(status, 502);
    assert!(text.contains("it is starting"), "{text}");
}

#[tokio::test]
async fn a_request_reaches_pods_and_services() {
    let network = Network::new(|network| Ok(cluster(network))).await;
    process(network.network, 10, 8080, "ten").await;
    let pod = network.network.pod_address(10);
    for url in [
        format!("http://{pod}:8080/x?y=z"),
        "http://web.workloads.svc/x?y=z".to_owned(),
        "http://10.100.7.7/x?y=z".to_owned(),
        "http://web-headless.workloads.svc.cluster.local:8080/x?y=z".to_owned(),
    ] {
        let (status, text) = network.get(&url).await;
        assert_eq!(status, 200, "{url}: {text}");
        assert!(text.starts_with("ten: GET /x?y=z HTTP/1.1|"), "{url}: {text}");
        let host = url.split('/').nth(2).unwrap();
        assert!(
            text.contains(&format!("host: {host}|")),
            "the host is the one that was asked for: {text}"
        );
    }
    let (status, text) = network.get_as(&pod.to_string(), "http://localhost:8080/self").await;
    assert_eq!(status, 200, "{text}");
    assert!(
        text.starts_with("ten: GET /self") && !text.contains("proxy-authorization"),
        "{text}"
    );
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_and_logged() {
    let network = Network::new(|network| Ok(cluster(network))).await;
    for (url, status, wanted) in [
        ("http://10.0.0.9:8080/", 502, "KWOK plays"),
        ("http://10.100.7.8/", 502, "workloads/idle has no ready pod for port 80"),
        ("http://web.workloads.svc:81/", 502, "no ready pod for port 81"),
        ("http://none.workloads.svc/", 502, "no Service none.workloads.svc"),
        ("http://www.example.org.invalid/", 502, "no Service"),
        ("http://localhost:8080/", 400, "does not say"),
        (
            &format!("http://{}:8080/", network.network.pod_address(77)),
            502,
            "does not answer",
        ),
    ] {
        let (found, text) = network.get(url).await;
        assert_eq!(found, status, "{url}: {text}");
        assert!(text.contains(wanted), "{url}: {text}");
    }
    let log = std::fs::read_to_string(network.folder.path().join("proxy.log")).unwrap();
    assert_eq!(log.lines().count(), 7, "{log}");
    let first: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(first["wanted"], "http://10.0.0.9:8080/");

    let mut stream = TcpStream::connect(network.proxy).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("this is a proxy"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_tunnel_over_the_socket_reaches_a_service_by_its_address() {
    let network = Network::new(|network| Ok(cluster(network))).await;
    process(network.network, 10, 8080, "ten").await;
    // Byte for byte what the API server sends.
    let mut stream = UnixStream::connect(&network.socket).await.unwrap();
    stream
        .write_all(b"CONNECT 10.100.7.7:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    stream.write_all(b"GET /tunnelled HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = [0; 512];
    let length = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.ends_with("ten: GET /tunnelled HTTP/1.1||"), "{answer}");

    let mut stream = UnixStream::connect(&network.socket).await.unwrap();
    stream
        .write_all(b"CONNECT 10.100.7.8:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        .await
        .unwrap();
    let length = stream.read(&mut [0; 512]).await.unwrap();
    assert!(length > 0, "refused with an answer");
}
