//! Argo CD's own API, as far as a password can be tried there.

use std::net::SocketAddr;
use std::time::Duration;

use backon::BackoffBuilder as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

use crate::patience::Patience;

/// The name by which the certificate that Argo CD makes for itself can be checked.
const CERTIFICATE_NAME: &str = "argocd-server.argocd.svc";
/// Less than is usual: who asks polls, and has a limit of its own.
const PATIENCE: Patience = Patience {
    attempts: 4,
    first_pause: Duration::from_millis(500),
    longest_pause: Duration::from_secs(3),
    answer: Duration::from_secs(20),
};

/// Argo CD's API server.
#[derive(Debug, Clone)]
pub struct ArgoCd {
    base: String,
    http: reqwest::Client,
}

/// A session of Argo CD's user `admin`.
#[derive(Debug, Clone)]
pub struct Session(SecretString);

impl From<SecretString> for Session {
    fn from(token: SecretString) -> Self {
        Self(token)
    }
}

impl Session {
    /// Its bearer token.
    #[must_use]
    pub fn token(&self) -> &SecretString {
        &self.0
    }
}

/// A call of Argo CD's API that failed.
#[derive(Debug, thiserror::Error)]
pub enum ArgoCdError {
    /// No client can be made, such as for a certificate that is none.
    #[error("cannot set up a client for Argo CD's API: {0}")]
    Client(String),
    /// It did not answer.
    #[error("cannot {attempted} at Argo CD ({address}): {message}")]
    Unreachable {
        /// What was attempted.
        attempted: &'static str,
        /// Where.
        address: String,
        /// What came back.
        message: String,
    },
    /// It answered with something else than was asked for.
    #[error("cannot {attempted} at Argo CD ({address}): it answered {status}")]
    Refused {
        /// What was attempted.
        attempted: &'static str,
        /// Where.
        address: String,
        /// HTTP status.
        status: u16,
    },
}

impl ArgoCd {
    /// The API at an address that anybody on this machine can reach.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn at(url: &Url) -> Result<Self, ArgoCdError> {
        Self::with(
            url.as_str().trim_end_matches('/').to_owned(),
            reqwest::Client::builder(),
        )
    }

    /// The API at `address`, which leads to Argo CD's server. Its certificate must be `certificate` (PEM), the one that
    /// the cluster holds; without one it speaks plain HTTP there.
    ///
    /// # Errors
    /// The certificate is none.
    pub fn forwarded(address: SocketAddr, certificate: Option<&[u8]>) -> Result<Self, ArgoCdError> {
        let Some(pem) = certificate else {
            return Self::with(format!("http://{address}"), reqwest::Client::builder());
        };
        let parsed = CertificateDer::from_pem_slice(pem).map_err(|e| ArgoCdError::Client(e.to_string()))?;
        let trusted = reqwest::Certificate::from_der(&parsed).map_err(|e| ArgoCdError::Client(e.to_string()))?;
        let client = reqwest::Client::builder()
            .tls_certs_only([trusted])
            .resolve(CERTIFICATE_NAME, address);
        Self::with(format!("https://{CERTIFICATE_NAME}:{}", address.port()), client)
    }

    fn with(base: String, client: reqwest::ClientBuilder) -> Result<Self, ArgoCdError> {
        let client = client
            .no_proxy()
            .timeout(PATIENCE.answer)
            .redirect(reqwest::redirect::Policy::none());
        let http = client.build().map_err(|e| ArgoCdError::Client(e.to_string()))?;
        Ok(Self { base, http })
    }

    fn unreachable(&self, attempted: &'static str, error: reqwest::Error) -> ArgoCdError {
        let error = error.without_url();
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            message.push_str(": ");
            message.push_str(&error.to_string());
            source = error.source();
        }
        ArgoCdError::Unreachable {
            attempted,
            address: self.base.clone(),
            message,
        }
    }

    /// Sends a request: again after a disturbance, as when argocd-server is replaced. None of them changes anything; a login
    /// that is repeated gives one session more.
    async fn ask(
        &self,
        attempted: &'static str,
        request: impl Fn() -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ArgoCdError> {
        let mut pauses = PATIENCE.pauses().build();
        loop {
            let answer = request().send().await;
            let disturbed = match &answer {
                Ok(response) => matches!(response.status().as_u16(), 429 | 502..=504),
                Err(error) => !error.is_timeout(),
            };
            match pauses.next().filter(|_| disturbed) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return answer.map_err(|e| self.unreachable(attempted, e)),
            }
        }
    }

    /// Logs in as `admin`; `None` where Argo CD refuses the password.
    ///
    /// It refuses every password for 300 seconds after 5 wrong ones, with the same answer
    /// (<https://argo-cd.readthedocs.io/en/stable/operator-manual/user-management/#failed-logins-rate-limiting>).
    ///
    /// # Errors
    /// It does not answer, or with something else.
    pub async fn log_in(&self, password: &SecretString) -> Result<Option<Session>, ArgoCdError> {
        const ATTEMPTED: &str = "log in as admin";
        let body = json!({ "username": "admin", "password": password.expose_secret() });
        let url = format!("{}/api/v1/session", self.base);
        let response = self.ask(ATTEMPTED, || self.http.post(&url).json(&body)).await?;
        let status = response.status().as_u16();
        if status == 401 {
            return Ok(None);
        }
        let refused = || ArgoCdError::Refused {
            attempted: ATTEMPTED,
            address: self.base.clone(),
            status,
        };
        if status != 200 {
            return Err(refused());
        }
        let answer: Value = response.json().await.map_err(|e| self.unreachable(ATTEMPTED, e))?;
        match answer["token"].as_str() {
            Some(token) if !token.is_empty() => Ok(Some(Session(token.into()))),
            _ => Err(refused()),
        }
    }

    /// Whether it serves web pages: one that was built without their assets lists a folder at that address.
    ///
    /// # Errors
    /// Argo CD does not answer.
    pub async fn has_pages(&self) -> Result<bool, ArgoCdError> {
        const ATTEMPTED: &str = "look at the web pages";
        let response = self.ask(ATTEMPTED, || self.http.get(format!("{}/", self.base))).await?;
        let page = response.text().await.map_err(|e| self.unreachable(ATTEMPTED, e))?;
        Ok(page.contains("<title>Argo CD</title>"))
    }

    /// Whether a session still holds. This is no login, and so no attempt that counts.
    ///
    /// # Errors
    /// Argo CD does not answer, or with something else.
    pub async fn holds(&self, session: &Session) -> Result<bool, ArgoCdError> {
        const ATTEMPTED: &str = "look at a session";
        let url = format!("{}/api/v1/account", self.base);
        let request = || self.http.get(&url).bearer_auth(session.token().expose_secret());
        let status = self.ask(ATTEMPTED, request).await?.status().as_u16();
        match status {
            // 403: it knows who asks, and does not allow the list.
            200 | 403 => Ok(true),
            401 => Ok(false),
            _ => Err(ArgoCdError::Refused {
                attempted: ATTEMPTED,
                address: self.base.clone(),
                status,
            }),
        }
    }
}
