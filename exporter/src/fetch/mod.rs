//! Asks targets for documents.

mod client;
mod credentials;
mod error;
mod http;
mod resolver;
mod tls;

pub(crate) use client::{Client, Endpoint};
pub(crate) use error::{FetchError, Reason};
pub(crate) use resolver::{Addresses, Resolver};
pub(crate) use tls::{ClientCertificate, Tls, Trust};
