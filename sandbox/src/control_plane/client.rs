//! The few requests that the sandbox itself makes to its API server.

use std::time::Duration;

use reqwest::{Certificate, Client, Identity, Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::pki::Pki;
use crate::Error;

/// A client with the admin certificate.
#[derive(Debug, Clone)]
pub(crate) struct KubeClient {
    http: Client,
    server: Url,
}

impl KubeClient {
    /// A client for the API server at `server`.
    pub(crate) fn new(server: &Url, pki: &Pki) -> Result<Self, Error> {
        let read = |path: &std::path::Path| std::fs::read(path).map_err(Error::file("read", path));
        let identity = [read(&pki.admin.certificate)?, read(&pki.admin.key)?].concat();
        let build = || -> reqwest::Result<Client> {
            Client::builder()
                .no_proxy()
                .tls_certs_only([Certificate::from_pem(pki.ca_pem.as_bytes())?])
                .identity(Identity::from_pem(&identity)?)
                .connect_timeout(Duration::from_secs(2))
                .timeout(Duration::from_secs(10))
                .build()
        };
        let http = build().map_err(|error| Error::Crypto {
            what: "client for the API server",
            message: error.to_string(),
        })?;
        Ok(Self {
            http,
            server: server.clone(),
        })
    }

    /// Whether the API server calls itself ready.
    pub(crate) async fn is_ready(&self) -> bool {
        let Ok(url) = self.server.join("/readyz") else {
            return false;
        };
        self.http
            .get(url)
            .send()
            .await
            .is_ok_and(|response| response.status().is_success())
    }

    /// The object at `path`; `None` where there is none.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>, Error> {
        match self.request(Method::GET, path, None).await? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, body) if status.is_success() => Ok(Some(body)),
            (status, body) => Err(refused(&format!("get {path}"), status, &body)),
        }
    }

    /// Creates an object under `path`; one that exists already is left as it is.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<(), Error> {
        match self.request(Method::POST, path, Some(object)).await? {
            (StatusCode::CONFLICT, _) => Ok(()),
            (status, _) if status.is_success() => Ok(()),
            (status, body) => Err(refused(
                &format!(
                    "create {} in {path}",
                    object["metadata"]["name"].as_str().unwrap_or("?")
                ),
                status,
                &body,
            )),
        }
    }

    /// Creates a subresource such as a token and returns what the API server made of it.
    pub(crate) async fn create_and_read(&self, path: &str, object: &Value) -> Result<Value, Error> {
        match self.request(Method::POST, path, Some(object)).await? {
            (status, body) if status.is_success() => Ok(body),
            (status, body) => Err(refused(&format!("create {path}"), status, &body)),
        }
    }

    /// Merges `status` into the object's; an object that is gone is fine.
    pub(crate) async fn patch_status(&self, path: &str, status: &Value) -> Result<(), Error> {
        let path = format!("{path}/status");
        let patch = json!({ "status": status });
        match self.request(Method::PATCH, &path, Some(&patch)).await? {
            (StatusCode::NOT_FOUND, _) => Ok(()),
            (status, _) if status.is_success() => Ok(()),
            (status, body) => Err(refused(&format!("patch {path}"), status, &body)),
        }
    }

    /// Removes an object for good, as a kubelet does with a pod that has ended; not another one of the same name.
    pub(crate) async fn remove(&self, path: &str, uid: &str) -> Result<(), Error> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": uid},
        });
        match self.request(Method::DELETE, path, Some(&options)).await? {
            (StatusCode::NOT_FOUND | StatusCode::CONFLICT, _) => Ok(()),
            (status, _) if status.is_success() => Ok(()),
            (status, body) => Err(refused(&format!("delete {path}"), status, &body)),
        }
    }

    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), Error> {
        let attempted = || format!("{method} {path}");
        let failed = |answer: String| Error::Kubernetes {
            attempted: attempted(),
            answer,
        };
        let url = self.server.join(path).map_err(|error| failed(error.to_string()))?;
        let mut request = self.http.request(method.clone(), url);
        if method == Method::PATCH {
            // Lists of conditions and containers are merged by their keys. The body below leaves a type that is there.
            request = request.header("Content-Type", "application/strategic-merge-patch+json");
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| failed(format!("{error:?}")))?;
        let status = response.status();
        let body = response.json().await.unwrap_or(Value::Null);
        Ok((status, body))
    }
}

fn refused(attempted: &str, status: StatusCode, body: &Value) -> Error {
    let message = body["message"].as_str().unwrap_or_default();
    Error::Kubernetes {
        attempted: attempted.to_owned(),
        answer: format!("{status} {message}"),
    }
}
