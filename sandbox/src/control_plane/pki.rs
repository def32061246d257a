//! The control plane's own certificates, made anew for every sandbox.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::Error;
use crate::files::{create_private_dir, write_private};

/// The first address of the service network, by which pods reach the API server.
pub(crate) const KUBERNETES_SERVICE_IP: &str = "10.100.0.1";

/// A certificate with its private key, both as files in PEM.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Every key and certificate of one control plane.
#[derive(Debug, Clone)]
pub(crate) struct Pki {
    /// The cluster's CA; the certificate is what EKS calls `certificateAuthority`.
    pub ca: PathBuf,
    pub ca_pem: String,
    /// Serves the API on loopback, and the controller manager's, the scheduler's and etcd's ports.
    pub serving: Pair,
    /// Authenticates as a member of `system:masters`.
    pub admin: Pair,
    /// The CA that requests passed on to aggregated APIs are authenticated with.
    pub front_proxy_ca: PathBuf,
    pub front_proxy: Pair,
    /// Signs tokens of service accounts.
    pub service_account_key: PathBuf,
    /// The public part, by which they are checked.
    pub service_account_public_key: PathBuf,
}

impl Pki {
    /// Makes everything and writes it to `dir`, readable by its owner only.
    pub(crate) fn generate(dir: &Path) -> Result<Self, Error> {
        create_private_dir(dir)?;
        let cluster = Authority::new("mfsre-sandbox")?;
        let front_proxy = Authority::new("mfsre-sandbox-front-proxy")?;
        let hosts = [
            "localhost",
            "127.0.0.1",
            KUBERNETES_SERVICE_IP,
            "kubernetes",
            "kubernetes.default.svc",
        ];
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let client = [ExtendedKeyUsagePurpose::ClientAuth];
        let service_account_key = dir.join("service-account.key");
        let service_account_public_key = dir.join("service-account.pub");
        let signing = key("service account key")?;
        write_private(&service_account_key, signing.serialize_pem())?;
        write_private(&service_account_public_key, signing.public_key_pem())?;
        let (ca, front_proxy_ca) = (dir.join("ca.crt"), dir.join("front-proxy-ca.crt"));
        write_private(&ca, &cluster.certificate)?;
        write_private(&front_proxy_ca, &front_proxy.certificate)?;
        Ok(Self {
            serving: cluster.issue("localhost", None, &hosts, &both)?.write(dir, "serving")?,
            admin: cluster
                .issue("mfsre-sandbox-admin", Some("system:masters"), &[], &client)?
                .write(dir, "admin")?,
            front_proxy: front_proxy
                .issue("front-proxy-client", None, &[], &client)?
                .write(dir, "front-proxy")?,
            ca,
            ca_pem: cluster.certificate,
            front_proxy_ca,
            service_account_key,
            service_account_public_key,
        })
    }
}

/// A CA that lives as long as [`Pki::generate`]; its private key is written nowhere.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Result<Self, Error> {
        let mut params = parameters(name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = key("CA key")?;
        let certificate = params.self_signed(&key).map_err(crypto("CA certificate"))?.pem();
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    fn issue(
        &self,
        name: &str,
        organization: Option<&str>,
        hosts: &[&str],
        usages: &[ExtendedKeyUsagePurpose],
    ) -> Result<Issued, Error> {
        let mut params = parameters(name, hosts)?;
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        let key = key("certificate key")?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(crypto("certificate"))?
            .pem();
        Ok(Issued {
            certificate,
            key: key.serialize_pem(),
        })
    }
}

struct Issued {
    certificate: String,
    key: String,
}

impl Issued {
    fn write(self, dir: &Path, name: &str) -> Result<Pair, Error> {
        let pair = Pair {
            certificate: dir.join(format!("{name}.crt")),
            key: dir.join(format!("{name}.key")),
        };
        write_private(&pair.certificate, self.certificate)?;
        write_private(&pair.key, self.key)?;
        Ok(pair)
    }
}

fn parameters(name: &str, hosts: &[&str]) -> Result<CertificateParams, Error> {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).map_err(crypto("certificate"))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // The keys live and die with the sandbox, so the dates only have to span any clock it may run under.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    Ok(params)
}

fn key(what: &'static str) -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(crypto(what))
}

fn crypto(what: &'static str) -> impl FnOnce(rcgen::Error) -> Error {
    move |error| Error::Crypto {
        what,
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_private_and_no_ca_key_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::generate(dir.path()).unwrap();
        assert!(pki.ca_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        let mut keys = 0;
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            keys += usize::from(entry.path().extension().is_some_and(|extension| extension == "key"));
        }
        assert_eq!(keys, 4, "service account, serving, admin, front proxy");
    }
}
