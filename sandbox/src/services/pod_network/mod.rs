//! The pod network: how the processes that stand for pods reach each other, and how the API server reaches them.
//!
//! A pod has the address `10.A.B.n` in the cluster, and its process listens on `127.A.B.n`, so that every process has
//! the ports that its specification names. Linux routes all of 127.0.0.0/8 to loopback. Two servers translate:
//!
//! - [`dns`] answers the names of Services with the addresses of their ready pods.
//! - [`proxy`] is an HTTP proxy that knows pods, Services and their names. The API server uses it as its egress to the
//!   cluster, so that an aggregated API is reached through its Service as on a real cluster.

mod directory;
pub mod dns;
mod host;
pub mod proxy;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, UdpSocket};

pub use self::directory::{Directory, Endpoint, Fetch, Service, ServicePort, Services};

/// Where the DNS server listens on the network's first address. Whoever holds this port holds the network.
const DNS_PORT: u16 = 10_053;
/// How many networks are tried.
const CANDIDATES: u32 = 16;

/// A /24 of loopback addresses and the /24 of pod addresses that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodNetwork {
    second: u8,
    third: u8,
}

impl PodNetwork {
    /// A network chosen by a folder's path, so that a sandbox gets the same one each time; other attempts, others.
    ///
    /// The second byte is 128 to 253: apart from the addresses of Services (10.100.0.0/16), those that KWOK gives
    /// (10.0.0.0/24), and the loopback addresses that systems use themselves (127.0.0.0/16).
    #[must_use]
    pub fn candidate(folder: &Path, attempt: u32) -> Self {
        let mut digest = Sha256::new();
        digest.update(folder.as_os_str().as_encoded_bytes());
        digest.update(attempt.to_be_bytes());
        let digest = digest.finalize();
        Self {
            second: 128 + digest[0] % 126,
            third: digest[1],
        }
    }

    /// The address that the cluster knows the pod number `host` by.
    #[must_use]
    pub fn pod_address(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, self.third, host)
    }

    /// The address that the process of the pod number `host` listens on.
    #[must_use]
    pub fn loopback(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, host)
    }

    /// Where the process of the pod with this address listens; `None` for an address of another network.
    #[must_use]
    pub fn loopback_of(self, pod: Ipv4Addr) -> Option<Ipv4Addr> {
        let [first, second, third, host] = pod.octets();
        (first == 10 && (second, third) == (self.second, self.third)).then(|| self.loopback(host))
    }

    /// Where the network's own servers listen.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        self.loopback(1)
    }
}

impl std::fmt::Display for PodNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "127.{}.{}.0/24", self.second, self.third)
    }
}

/// A network that is this sandbox's alone, with the sockets of its servers.
#[derive(Debug)]
pub struct Claimed {
    /// The network.
    pub network: PodNetwork,
    /// For [`dns::serve`].
    pub dns: (UdpSocket, TcpListener),
    /// For [`proxy::serve`].
    pub proxy: TcpListener,
}

/// Why no network could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The machine has no such loopback addresses: macOS has 127.0.0.1 only, until others are added.
    #[error("this machine has no loopback address {address}")]
    NoSuchAddress {
        /// The network.
        network: PodNetwork,
        /// The address that was tried.
        address: Ipv4Addr,
    },
    /// Something listens on a port that pods use, on all addresses of the machine.
    #[error("cannot listen on {address}: {source}")]
    PodPort {
        /// The address that was tried.
        address: SocketAddr,
        /// What the system answered.
        source: io::Error,
    },
    /// None of the networks was free.
    #[error("none of {CANDIDATES} networks is free; the last one was {network}: {source}")]
    Taken {
        /// The last one.
        network: PodNetwork,
        /// What the system answered.
        source: io::Error,
    },
}

/// Finds a network that nobody else holds and on which `ports` can be listened on.
///
/// # Errors
/// There is none; the error says what is in the way.
pub async fn claim(folder: &Path, ports: &[u16]) -> Result<Claimed, ClaimError> {
    let mut attempt = 0;
    loop {
        let network = PodNetwork::candidate(folder, attempt);
        match bind(network).await {
            Ok(claimed) => {
                for port in ports {
                    let address = SocketAddr::from((network.loopback(2), *port));
                    TcpListener::bind(address)
                        .await
                        .map_err(|source| ClaimError::PodPort { address, source })?;
                }
                return Ok(claimed);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                let address = network.gateway();
                return Err(ClaimError::NoSuchAddress { network, address });
            }
            Err(source) if attempt + 1 == CANDIDATES => return Err(ClaimError::Taken { network, source }),
            Err(_) => attempt += 1,
        }
    }
}

async fn bind(network: PodNetwork) -> io::Result<Claimed> {
    let dns = SocketAddrV4::new(network.gateway(), DNS_PORT);
    Ok(Claimed {
        network,
        dns: (UdpSocket::bind(dns).await?, TcpListener::bind(dns).await?),
        proxy: TcpListener::bind((network.gateway(), 0)).await?,
    })
}
