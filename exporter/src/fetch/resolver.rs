//! From a host name to addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

/// A name server that has not answered in this time is asked again.
const ATTEMPT: Duration = Duration::from_secs(1);
/// All attempts together may take this long.
const LIMIT: Duration = Duration::from_secs(3);

/// What the name servers say about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// These, sorted, and at least one.
    Found(Vec<IpAddr>),
    /// There is no such name, or it has no address.
    None,
    /// Nobody could say.
    Unknown(String),
}

/// Asks name servers.
pub(crate) struct Resolver {
    resolver: TokioResolver,
    /// What may be put behind a name, in this order.
    search: Vec<Name>,
    /// A name with so many dots is first tried as it is.
    dots: usize,
}

impl Resolver {
    /// Asks `server`, or those of the system (`/etc/resolv.conf`).
    ///
    /// # Errors
    ///
    /// If the system's configuration cannot be read.
    pub(crate) fn new(server: Option<SocketAddr>) -> Result<Self, String> {
        let (config, mut options) = match server {
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                let server = NameServerConfig::new(server.ip(), true, connections.into());
                (ResolverConfig::from_name_servers(vec![server]), ResolverOpts::default())
            }
            None => hickory_resolver::system_conf::read_system_conf()
                .map_err(|error| format!("cannot read the system's name servers: {error}\n  next: check /etc/resolv.conf, or name one with --dns-server"))?,
        };
        options.timeout = ATTEMPT;
        options.attempts = 1;
        // An answer is asked for once in a period, and a stale one hides a new target.
        options.cache_size = 0;
        // 512 bytes hold 25 addresses.
        options.edns0 = true;
        let dots = options.ndots;
        let mut search: Vec<Name> = Vec::new();
        for name in config.domain().into_iter().chain(config.search()) {
            if !search.contains(name) {
                search.push(name.clone());
            }
        }
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| format!("cannot set up the look-up of names: {error}"))?;
        Ok(Self { resolver, search, dots })
    }

    /// The addresses of a name: IPv4, or IPv6 where there are none. A target with both would otherwise be counted twice.
    pub(crate) async fn resolve(&self, host: &str) -> Addresses {
        match tokio::time::timeout(LIMIT, self.try_candidates(host)).await {
            Ok(addresses) => addresses,
            Err(_) => Addresses::Unknown(format!("no name server answered within {LIMIT:?}")),
        }
    }

    async fn try_candidates(&self, host: &str) -> Addresses {
        let candidates = match self.candidates(host) {
            Ok(candidates) => candidates,
            Err(message) => return Addresses::Unknown(message),
        };
        for name in candidates {
            for record_type in [RecordType::A, RecordType::AAAA] {
                match self.resolver.lookup(name.clone(), record_type).await {
                    Ok(lookup) => {
                        let mut addresses: Vec<IpAddr> = lookup
                            .answers()
                            .iter()
                            .filter_map(|record| match &record.data {
                                RData::A(address) => Some(IpAddr::V4(address.0)),
                                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                                _ => None,
                            })
                            .collect();
                        addresses.sort_unstable();
                        addresses.dedup();
                        if !addresses.is_empty() {
                            return Addresses::Found(addresses);
                        }
                    }
                    Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords {
                        response_code: ResponseCode::NXDomain,
                        ..
                    }))) => break,
                    Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords {
                        response_code: ResponseCode::NoError,
                        ..
                    }))) => {}
                    // To go on to the next name would turn a failure into "no such name".
                    Err(error) => return Addresses::Unknown(format!("the look-up of {name} failed: {error}")),
                }
            }
        }
        Addresses::None
    }

    /// The complete names that a name may stand for, in the order of resolv.conf(5).
    fn candidates(&self, host: &str) -> Result<Vec<Name>, String> {
        let mut name = Name::from_utf8(host).map_err(|error| format!("{host:?} is no name: {error}"))?;
        if name.is_fqdn() {
            return Ok(vec![name]);
        }
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let mut candidates: Vec<Name> = self
            .search
            .iter()
            .filter_map(|domain| name.clone().append_domain(domain).ok())
            .collect();
        name.set_fqdn(true);
        candidates.iter_mut().for_each(|candidate| candidate.set_fqdn(true));
        let at = if dots >= self.dots { 0 } else { candidates.len() };
        candidates.insert(at, name);
        Ok(candidates)
    }
}
