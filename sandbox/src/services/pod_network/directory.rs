//! What the cluster says of its Services and the pods behind them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::Mutex;

use super::PodNetwork;

/// How old an answer may be. kube-proxy and CoreDNS are behind by about as much.
const FRESH: Duration = Duration::from_millis(500);

/// Reads the Services from the cluster, or says why it cannot.
pub type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<Services, String>> + Send + Sync>;

/// The Services of the cluster, asked for when somebody wants to know.
pub struct Directory {
    network: PodNetwork,
    fetch: Fetch,
    latest: Mutex<Option<(Instant, Arc<Services>)>>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory")
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

impl Directory {
    /// A directory of the pods in `network`.
    #[must_use]
    pub fn new(network: PodNetwork, fetch: Fetch) -> Self {
        Self {
            network,
            fetch,
            latest: Mutex::default(),
        }
    }

    pub(super) fn network(&self) -> PodNetwork {
        self.network
    }

    /// The Services as they are, or were half a second ago.
    pub(super) async fn services(&self) -> Result<Arc<Services>, String> {
        // Held while asking, so that many who want to know at once ask once.
        let mut latest = self.latest.lock().await;
        if let Some((at, services)) = &*latest
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(services));
        }
        let services = Arc::new((self.fetch)().await?);
        *latest = Some((Instant::now(), Arc::clone(&services)));
        Ok(services)
    }
}

/// Every Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services(pub Vec<Service>);

/// One Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address; `None` for a headless one.
    pub address: Option<Ipv4Addr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// The ready pods behind it.
    pub endpoints: Vec<Endpoint>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where the only port has none.
    pub name: String,
    /// Its number on the Service's address.
    pub port: u16,
}

/// A ready pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's address in the cluster.
    pub address: Ipv4Addr,
    /// The pod's ports, by the names of the Service's.
    pub ports: Vec<ServicePort>,
}

impl Services {
    /// Reads the API's lists of Services and EndpointSlices. What it does not understand it leaves out.
    #[must_use]
    pub fn read(services: &Value, slices: &Value) -> Self {
        let endpoints: Vec<(String, String, Vec<Endpoint>)> = items(slices)
            .filter(|slice| slice["addressType"] == "IPv4")
            .map(|slice| {
                let service = &slice["metadata"]["labels"]["kubernetes.io/service-name"];
                (text(&slice["metadata"]["namespace"]), text(service), ready(slice))
            })
            .collect();
        Self(
            items(services)
                .map(|service| {
                    let metadata = &service["metadata"];
                    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
                    let endpoints = endpoints
                        .iter()
                        .filter(|(of, service, _)| *of == namespace && *service == name)
                        .flat_map(|(_, _, endpoints)| endpoints.clone())
                        .collect();
                    Service {
                        address: service["spec"]["clusterIP"].as_str().and_then(|text| text.parse().ok()),
                        ports: ports(&service["spec"]["ports"]),
                        endpoints,
                        namespace,
                        name,
                    }
                })
                .collect(),
        )
    }

    pub(super) fn named(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.0
            .iter()
            .find(|service| service.namespace == namespace && service.name == name)
    }

    pub(super) fn at(&self, address: Ipv4Addr) -> Option<&Service> {
        self.0.iter().find(|service| service.address == Some(address))
    }
}

impl Service {
    /// Where the ready pods behind the port `port` are.
    pub(super) fn targets(&self, port: u16) -> Vec<SocketAddrV4> {
        let Some(wanted) = self.ports.iter().find(|candidate| candidate.port == port) else {
            return Vec::new();
        };
        self.endpoints
            .iter()
            .filter_map(|endpoint| {
                let target = endpoint.ports.iter().find(|target| target.name == wanted.name)?;
                Some(SocketAddrV4::new(endpoint.address, target.port))
            })
            .collect()
    }
}

fn ready(slice: &Value) -> Vec<Endpoint> {
    let ports = ports(&slice["ports"]);
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    endpoints
        // Absent means unknown, which is to be taken for ready.
        .filter(|endpoint| endpoint["conditions"]["ready"] != false)
        .flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten())
        .filter_map(|address| {
            Some(Endpoint {
                address: address.as_str()?.parse().ok()?,
                ports: ports.clone(),
            })
        })
        .collect()
}

fn ports(list: &Value) -> Vec<ServicePort> {
    let ports = list.as_array().into_iter().flatten();
    ports
        .filter_map(|port| {
            Some(ServicePort {
                name: text(&port["name"]),
                port: u16::try_from(port["port"].as_u64()?).ok()?,
            })
        })
        .collect()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
