//! TLS to targets.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// Where a certificate of our own stands, for targets that ask for one.
#[derive(Debug, Clone)]
pub(crate) struct ClientCertificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// How to speak TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    /// The name that the target's certificate must have, where it is not the URL's.
    pub(super) server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Trusts the authorities in the PEM file `ca`, or else those of Mozilla, and no others.
    pub(crate) fn new(
        ca: Option<&Path>,
        client: Option<&ClientCertificate>,
        server_name: Option<ServerName<'static>>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                for certificate in certificates(path)? {
                    roots
                        .add(certificate)
                        .map_err(|error| format!("{}: not a certificate to trust: {error}", path.display()))?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(ClientCertificate { cert, key }) => {
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| format!("{}: cannot read the private key: {error}", key.display()))?;
                builder
                    .with_client_auth_cert(certificates(cert)?, private)
                    .map_err(|error| format!("{}: does not fit its key: {error}", cert.display()))?
            }
        };
        Ok(Self {
            config: Arc::new(config),
            server_name,
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{}: cannot read the certificates: {error}", path.display()))?;
    let read: Vec<_> = read;
    if read.is_empty() {
        return Err(format!("{}: has no certificate in PEM form", path.display()));
    }
    Ok(read)
}
