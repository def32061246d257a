//! `check`: applies a mapping to a document and prints the metrics.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use url::Host;

use crate::cli::CheckArgs;
use crate::config::{Config, ConfigError, Module, ParameterError};
use crate::exposition::{Encoder, Format};
use crate::fetch::{Addresses, Client, Endpoint, FetchError, Resolver};
use crate::mapping::{Batch, Bounds, ExtractError};
use crate::read::{ReadError, read};

/// Why nothing could be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot read the document {}: {source}\n  next: name a file, or a URL that begins with http:// or https://", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{0} is no URL to ask: {1}")]
    Url(String, String),
    #[error("--parameter: {0}")]
    Parameter(#[from] ParameterError),
    #[error("{0}")]
    Resolver(String),
    #[error("cannot find the address of {0}: {1}")]
    Dns(String, String),
    #[error("{document}: {source}")]
    Extract { document: String, source: ExtractError },
    #[error("{document} ({address}): {source}")]
    Read {
        document: String,
        address: SocketAddr,
        source: ReadError,
    },
}

/// The metrics as text.
pub(crate) async fn check(args: &CheckArgs) -> Result<String, CheckError> {
    let config = Config::load(args.mapping.as_deref(), &[])?;
    let module = config.module(&args.module)?;
    let batch = if args.document.starts_with("http://") || args.document.starts_with("https://") {
        ask(args, module).await?
    } else {
        let document = tokio::fs::read(&args.document)
            .await
            .map_err(|source| CheckError::Unreadable {
                path: args.document.clone().into(),
                source,
            })?;
        module
            .mapping
            .apply(&document, "", Bounds::from(&args.requests))
            .map_err(|source| CheckError::Extract {
                document: args.document.clone(),
                source,
            })?
    };
    let mut encoder = Encoder::new(Format::Text, 0);
    for (index, family) in module.mapping.families().iter().enumerate() {
        encoder.family(&family.name, &family.help, family.kind.into(), family.unit.as_deref());
        encoder.batch(family, index, &batch);
    }
    Ok(encoder.finish())
}

async fn ask(args: &CheckArgs, module: &Module) -> Result<Batch, CheckError> {
    let document = args.document.clone();
    let bad = |problem| CheckError::Url(args.document.clone(), problem);
    let url = crate::config::url(&document).map_err(bad)?;
    let values = module.parameters.values(args.parameters.iter().cloned().collect())?;
    let endpoint = Endpoint::new(&url, &module.request, &values).map_err(bad)?;
    let addresses = match endpoint.host() {
        Host::Ipv4(address) => vec![IpAddr::V4(*address)],
        Host::Ipv6(address) => vec![IpAddr::V6(*address)],
        Host::Domain(name) => {
            let resolver = Resolver::new(args.requests.dns_server).map_err(CheckError::Resolver)?;
            match resolver.resolve(name).await {
                Addresses::Found(addresses) => addresses,
                Addresses::None => return Err(CheckError::Dns(name.clone(), "it has none".to_owned())),
                Addresses::Unknown(problem) => return Err(CheckError::Dns(name.clone(), problem)),
            }
        }
    };
    let client = Client::new(&args.requests);
    let mut result = Err(CheckError::Dns(document.clone(), "it has none".to_owned()));
    for address in addresses {
        let address = SocketAddr::new(address, endpoint.port());
        let read = read(&client, &endpoint, address, module, "").await;
        let unreachable = matches!(
            read,
            Err(ReadError::Fetch(FetchError::Connect(_) | FetchError::ConnectTimeout(_)))
        );
        result = read.map_err(|source| CheckError::Read {
            document: document.clone(),
            address,
            source,
        });
        if !unreachable {
            break;
        }
    }
    result
}
