//! How each part shows that it answers.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Certificate, Client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::control_plane::client::KubeClient;
use crate::{Error, Secret};

/// How a program shows that it answers.
#[derive(Debug, Clone)]
pub(crate) enum Readiness {
    /// It accepts connections.
    Connection(SocketAddr),
    /// It answers a GET of this URL with a status of success.
    Success(HttpProbe, String),
    /// It is a redis server that takes this password.
    Redis(SocketAddr, Secret),
    /// It is the API server, and calls itself ready.
    ApiServer(KubeClient),
}

impl Readiness {
    /// Whether it answers now.
    pub(crate) async fn is_given(&self) -> bool {
        match self {
            Self::Connection(address) => TcpStream::connect(address).await.is_ok(),
            Self::Success(probe, url) => probe.succeeds(url).await,
            Self::Redis(address, password) => redis(*address, password.expose()).await,
            Self::ApiServer(client) => client.is_ready().await,
        }
    }
}

/// Asks parts over HTTP and HTTPS.
#[derive(Debug, Clone)]
pub(crate) struct HttpProbe(Client);

impl HttpProbe {
    /// A probe that trusts the sandbox's CA.
    pub(crate) fn new(ca_pem: &str) -> Result<Self, Error> {
        let build = || -> reqwest::Result<Client> {
            Client::builder()
                .no_proxy()
                .tls_certs_only([Certificate::from_pem(ca_pem.as_bytes())?])
                .timeout(Duration::from_secs(2))
                .build()
        };
        build().map(Self).map_err(|error| Error::Crypto {
            what: "probe client",
            message: error.to_string(),
        })
    }

    /// A probe that trusts any certificate, as a kubelet does: it asks whether something answers, not who.
    pub(crate) fn of_kubelet() -> Result<Self, Error> {
        Client::builder()
            .no_proxy()
            .tls_danger_accept_invalid_certs(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(2))
            .build()
            .map(Self)
            .map_err(|error| Error::Crypto {
                what: "probe client",
                message: error.to_string(),
            })
    }

    /// Whether a GET is answered with a status of success.
    pub(crate) async fn succeeds(&self, url: &str) -> bool {
        self.0
            .get(url)
            .send()
            .await
            .is_ok_and(|response| response.status().is_success())
    }
}

/// Whether a redis server takes the password and answers PING.
async fn redis(address: SocketAddr, password: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("AUTH {password}\r\nPING\r\n").as_bytes())
            .await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(&answer == b"+OK\r\n+PONG\r\n")
    };
    tokio::time::timeout(Duration::from_secs(1), ask)
        .await
        .is_ok_and(|answer| answer.is_ok_and(|pong| pong))
}
