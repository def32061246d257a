//! TLS to targets.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Which targets are the right ones.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// Those with a certificate by one of Mozilla's authorities.
    Public,
    /// Those with a certificate by one of the authorities in this PEM file, and no others.
    Authorities(&'a Path),
    /// Those that show one of the certificates in this PEM file, and no others. An appliance often has one that it signed
    /// itself, for no name that can be asked.
    Certificates(&'a Path),
}

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
    /// TLS with these targets, to which `client` is shown if they ask for a certificate.
    pub(crate) fn new(
        trust: Trust<'_>,
        client: Option<&ClientCertificate>,
        server_name: Option<ServerName<'static>>,
    ) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let builder = match trust {
            Trust::Public => builder.with_root_certificates(RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            }),
            Trust::Authorities(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots
                        .add(certificate)
                        .map_err(|error| format!("{}: not a certificate to trust: {error}", path.display()))?;
                }
                builder.with_root_certificates(roots)
            }
            Trust::Certificates(path) => {
                let pinned = Pinned {
                    certificates: certificates(path)?,
                    algorithms: provider.signature_verification_algorithms,
                };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned))
            }
        };
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

/// Accepts a server that has the key of one of these certificates, whatever they say of name, issuer and dates.
#[derive(Debug)]
struct Pinned {
    certificates: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificates.contains(end_entity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General(
                "the server shows another certificate than the pinned one".to_owned(),
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
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
