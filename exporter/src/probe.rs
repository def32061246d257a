//! `/probe`: reads one target for one scrape.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::time::Instant;
use url::{Host, Url, form_urlencoded};

use crate::config::{Config, DEFAULT_MODULE, Module, Origin, ParameterError};
use crate::exposition::{Encoder, Format};
use crate::fetch::{Addresses, Client, Endpoint, FetchError, Reason, Resolver};
use crate::read::{ReadError, read};
use crate::telemetry::Telemetry;

/// Why a probe gave no samples.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("the parameter `target` is missing: /probe?target=URL")]
    NoTarget,
    #[error("besides `target` and `module`: {0}")]
    Parameter(#[from] ParameterError),
    #[error("no module {0:?} in the configuration")]
    NoModule(String),
    #[error("{url:?} is no URL to probe: {problem}")]
    Url { url: String, problem: String },
    #[error("{url} is not among the targets that `probe.allow` of the module {module:?} names")]
    Forbidden { url: String, module: String },
    #[error(
        "the name leads to {0}, which is special to this machine, link or cloud; name the address itself in `probe.allow` if it is meant"
    )]
    ForbiddenAddress(IpAddr),
    #[error("cannot find the address: {0}")]
    Dns(String),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl ProbeError {
    /// What went wrong at the target; `None` where the request was wrong.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Self::NoTarget | Self::Parameter(_) | Self::NoModule(_) | Self::Url { .. } => None,
            Self::Forbidden { .. } | Self::ForbiddenAddress(_) => Some(Reason::Forbidden),
            Self::Dns(_) => Some(Reason::Dns),
            Self::Read(error) => Some(error.reason()),
        }
    }
}

/// What probing needs.
pub(crate) struct Prober {
    pub(crate) config: Arc<Config>,
    pub(crate) client: Arc<Client>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) telemetry: Arc<Telemetry>,
}

impl Prober {
    /// The exposition of one target, named by the query of a request to `/probe`.
    pub(crate) async fn probe(&self, query: &str, format: Format) -> Result<String, ProbeError> {
        let began = Instant::now();
        let result = self.try_probe(query, format).await;
        let failure = result.as_ref().err().and_then(ProbeError::reason);
        if result.is_ok() || failure.is_some() {
            self.telemetry.probed(began.elapsed(), failure);
        }
        result
    }

    async fn try_probe(&self, query: &str, format: Format) -> Result<String, ProbeError> {
        let mut target = None;
        let mut name = None;
        let mut given = BTreeMap::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "target" => target = Some(value),
                "module" => name = Some(value),
                _ => {
                    given.insert(key.into_owned(), value.into_owned());
                }
            }
        }
        let target = target.filter(|target| !target.is_empty()).ok_or(ProbeError::NoTarget)?;
        let name = name.as_deref().unwrap_or(DEFAULT_MODULE);
        let module = self
            .config
            .module(name)
            .map_err(|_| ProbeError::NoModule(name.to_owned()))?;
        let values = module.parameters.values(given)?;
        let bad = |problem| ProbeError::Url {
            url: target.clone().into_owned(),
            problem,
        };
        let url = crate::config::url(&target).map_err(bad)?;
        let origin = module
            .allow
            .iter()
            .find(|origin| origin.covers(&url))
            .ok_or_else(|| ProbeError::Forbidden {
                url: origin_of(&url),
                module: module.name.clone(),
            })?;
        let endpoint = Endpoint::new(&url, &module.request, &values).map_err(bad)?;
        let batch = self.ask(&endpoint, origin, module).await?;
        let families = module.mapping.families();
        let mut encoder = Encoder::new(format, 128 * families.len());
        for (index, family) in families.iter().enumerate() {
            if !batch.family(index).is_empty() {
                encoder.family(&family.name, &family.help, family.kind.into(), family.unit.as_deref());
                encoder.batch(family, index, &batch);
            }
        }
        Ok(encoder.finish())
    }

    /// Asks the addresses one after the other until one can be connected to. What is checked is what is connected to, so a
    /// name server cannot give one answer to the check and another one to the connection.
    async fn ask(
        &self,
        endpoint: &Endpoint,
        origin: &Origin,
        module: &Module,
    ) -> Result<crate::mapping::Batch, ProbeError> {
        let addresses = match endpoint.host() {
            Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            Host::Ipv6(address) => vec![IpAddr::V6(*address)],
            Host::Domain(name) => match self.resolver.resolve(name).await {
                Addresses::Found(addresses) => addresses,
                Addresses::None => return Err(ProbeError::Dns("the name has none".to_owned())),
                Addresses::Unknown(problem) => return Err(ProbeError::Dns(problem)),
            },
        };
        let mut failure = ProbeError::Dns("the name has none".to_owned());
        for address in addresses {
            if !origin.admits(address) {
                failure = ProbeError::ForbiddenAddress(address);
                continue;
            }
            let address = SocketAddr::new(address, endpoint.port());
            match read(&self.client, endpoint, address, module, "").await {
                Err(error @ ReadError::Fetch(FetchError::Connect(_) | FetchError::ConnectTimeout(_))) => {
                    failure = error.into();
                }
                result => return Ok(result?),
            }
        }
        Err(failure)
    }
}

/// A URL without what may be secret in it.
fn origin_of(url: &Url) -> String {
    url.origin().ascii_serialization()
}
