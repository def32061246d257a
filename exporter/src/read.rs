//! From a target to its samples: the one way that polls, probes and `check` share.

use std::net::SocketAddr;

use crate::config::Module;
use crate::fetch::{Client, Endpoint, FetchError, Reason};
use crate::mapping::{Batch, ExtractError};

/// Why a target gave no samples.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Extract(#[from] ExtractError),
}

impl ReadError {
    /// The reason in one word.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Fetch(error) => error.reason(),
            Self::Extract(error) => match error {
                ExtractError::Malformed(_) => Reason::Malformed,
                ExtractError::NotFinite(_) => Reason::NotFinite,
                ExtractError::TooDeep => Reason::TooDeep,
                ExtractError::TooMany(_) => Reason::TooMany,
                ExtractError::LabelsTooLong(_) => Reason::TooLarge,
                ExtractError::Missing { .. } => Reason::Missing,
                ExtractError::Invalid { .. } => Reason::Invalid,
                ExtractError::Duplicate { .. } => Reason::Duplicate,
            },
        }
    }
}

/// Asks one address and applies the module's mapping to the answer. `labels` goes before each sample's own.
pub(crate) async fn read(
    client: &Client,
    endpoint: &Endpoint,
    address: SocketAddr,
    module: &Module,
    labels: &str,
) -> Result<Batch, ReadError> {
    let document = client.fetch(endpoint, address, &module.request).await?;
    Ok(module.mapping.apply(document.bytes(), labels, client.limits.bounds)?)
}
