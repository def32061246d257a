use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, DeleteParams, DynamicObject, GetParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, ApiResource, Scope};
use kube::{Client, Config};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::sync::Mutex;
use tower::util::MapResponseLayer;

use super::KubernetesError;
use super::retry::Pushback;
use crate::patience::Patience;

/// Longest wait for a connection.
const LONGEST_CONNECT: Duration = Duration::from_secs(10);

/// Makes bearer tokens, and says until when each is good.
pub trait TokenSource: Send + Sync {
    /// A fresh token.
    fn token(&self) -> BoxFuture<'_, Result<(SecretString, Timestamp), String>>;
}

/// What server-side apply did to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was not there, or it differed.
    Changed,
    /// It was as it should be.
    Unchanged,
}

/// Names an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// `v1`, `apps/v1`, ...
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace of a namespaced object.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl ObjectId {
    /// Names an object in a namespace.
    #[must_use]
    pub fn namespaced(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// Names an object of the cluster.
    #[must_use]
    pub fn cluster(api_version: &str, kind: &str, name: &str) -> Self {
        Self {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: None,
            name: name.into(),
        }
    }

    /// The name of `object`.
    ///
    /// # Errors
    /// It has no apiVersion, kind or name.
    pub fn of(object: &Value) -> Result<Self, KubernetesError> {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .filter(|s| !s.is_empty())
                .map(str::to_owned)
        };
        match (text("/apiVersion"), text("/kind"), text("/metadata/name")) {
            (Some(api_version), Some(kind), Some(name)) => Ok(Self {
                api_version,
                kind,
                namespace: text("/metadata/namespace"),
                name,
            }),
            _ => Err(KubernetesError::NotAnObject(
                "apiVersion, kind or metadata.name is missing".into(),
            )),
        }
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A cluster, reached with tokens that are renewed before they expire.
#[derive(Clone)]
pub struct Kubernetes {
    endpoint: String,
    certificate_authority: Vec<u8>,
    tokens: Arc<dyn TokenSource>,
    pub(super) patience: Patience,
    pub(super) pushback: Pushback,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    client: Option<(Client, Timestamp)>,
    resources: HashMap<(String, String), (ApiResource, ApiCapabilities)>,
}

impl Kubernetes {
    /// The cluster at `endpoint` whose certificate is signed by `certificate_authority` (PEM).
    pub fn new(endpoint: &str, certificate_authority: &[u8], tokens: Arc<dyn TokenSource>, patience: Patience) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            certificate_authority: certificate_authority.to_vec(),
            tokens,
            patience,
            pushback: Pushback::default(),
            state: Arc::default(),
        }
    }

    /// Address of the API.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) async fn client(&self) -> Result<Client, KubernetesError> {
        let mut state = self.state.lock().await;
        if let Some((client, expires)) = &state.client
            && Timestamp::now() < *expires
        {
            return Ok(client.clone());
        }
        let failed = |message: String| KubernetesError::Client {
            endpoint: self.endpoint.clone(),
            message,
        };
        let (token, expires) = self.tokens.token().await.map_err(KubernetesError::Token)?;
        let mut config = Config::new(self.endpoint.parse().map_err(|e| failed(format!("{e}")))?);
        let certificates = pem_blocks(&self.certificate_authority);
        if certificates.is_empty() {
            return Err(failed(
                "the cluster's certificate authority holds no certificate".into(),
            ));
        }
        config.root_cert = Some(certificates);
        config.connect_timeout = Some(LONGEST_CONNECT.min(self.patience.answer));
        // An admission webhook may take half a minute of its own.
        config.read_timeout = Some(self.patience.answer * 2);
        // What is tried again is decided in one place, for every kind of failure.
        config.default_retry = false;
        config.auth_info.token = Some(token.expose_secret().to_owned().into());
        let pushback = self.pushback.clone();
        let client = ClientBuilder::try_from(config)
            .map_err(|e| failed(e.to_string()))?
            .with_layer(&MapResponseLayer::new(move |response| pushback.notice(response)))
            .build();
        state.client = Some((client.clone(), expires));
        Ok(client)
    }

    /// The resource behind an apiVersion and kind; asked of the API once.
    async fn resource(
        &self,
        client: &Client,
        api_version: &str,
        kind: &str,
    ) -> Result<(ApiResource, ApiCapabilities), KubernetesError> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(found) = self.state.lock().await.resources.get(&key) {
            return Ok(found.clone());
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let found = kube::discovery::pinned_kind(client, &gvk)
            .await
            .map_err(|e| KubernetesError::Call {
                verb: "find the resource",
                object: format!("{kind} of {api_version}"),
                source: Box::new(e),
            })?;
        self.state.lock().await.resources.insert(key, found.clone());
        Ok(found)
    }

    async fn api(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Result<Api<DynamicObject>, KubernetesError> {
        let client = self.client().await?;
        let (resource, capabilities) = self.resource(&client, api_version, kind).await?;
        Ok(match (capabilities.scope, namespace) {
            (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client, namespace, &resource),
            _ => Api::all_with(client, &resource),
        })
    }

    /// Applies `object` as `manager`, taking over fields that others hold.
    ///
    /// # Errors
    /// The API refuses it, also after some tries.
    pub async fn apply(&self, object: &Value, manager: &str) -> Result<Applied, KubernetesError> {
        let id = ObjectId::of(object)?;
        self.retry(|| async {
            let api = self.api(&id.api_version, &id.kind, id.namespace.as_deref()).await?;
            let failed = |verb| {
                let object = id.to_string();
                move |e| KubernetesError::Call {
                    verb,
                    object,
                    source: Box::new(e),
                }
            };
            let before = api
                .get_opt(&id.name)
                .await
                .map_err(failed("read"))?
                .and_then(|o| o.metadata.resource_version);
            let params = PatchParams::apply(manager).force();
            let after = api
                .patch(&id.name, &params, &Patch::Apply(object))
                .await
                .map_err(failed("apply"))?;
            Ok(if before.is_some() && before == after.metadata.resource_version {
                Applied::Unchanged
            } else {
                Applied::Changed
            })
        })
        .await
    }

    /// Applies `object` as `manager` if it is still at `version`, the resource version that was read before; says whether
    /// it was.
    ///
    /// # Errors
    /// The API refuses it for another reason.
    pub async fn apply_at(&self, object: &Value, manager: &str, version: &str) -> Result<bool, KubernetesError> {
        let id = ObjectId::of(object)?;
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = version.into();
        self.retry(|| async {
            let api = self.api(&id.api_version, &id.kind, id.namespace.as_deref()).await?;
            let params = PatchParams::apply(manager).force();
            match api.patch(&id.name, &params, &Patch::Apply(&object)).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                Err(e) => Err(KubernetesError::Call {
                    verb: "apply",
                    object: id.to_string(),
                    source: Box::new(e),
                }),
            }
        })
        .await
    }

    /// The API server's time, in whole seconds: the clock that what runs in the cluster goes by.
    ///
    /// # Errors
    /// The API cannot be asked.
    pub async fn clock(&self) -> Result<Timestamp, KubernetesError> {
        self.retry(|| async {
            let api: Api<SelfSubjectReview> = Api::all(self.client().await?);
            let answer = api
                .create(&PostParams::default(), &SelfSubjectReview::default())
                .await
                .map_err(|e| KubernetesError::Call {
                    verb: "ask for the time of",
                    object: self.endpoint.clone(),
                    source: Box::new(e),
                })?;
            // The answer was made at the moment of the call. A server that does not say so has no clock to go by.
            Ok(answer
                .metadata
                .creation_timestamp
                .map_or_else(Timestamp::now, |time| time.0))
        })
        .await
    }

    /// The object, where it and its kind are there.
    ///
    /// # Errors
    /// The API cannot be asked.
    pub async fn get(&self, id: &ObjectId) -> Result<Option<Value>, KubernetesError> {
        self.retry(|| async {
            let api = match self.api(&id.api_version, &id.kind, id.namespace.as_deref()).await {
                Err(error) if error.status() == Some(404) || missing_kind(&error) => return Ok(None),
                api => api?,
            };
            let found = api.get_opt(&id.name).await.map_err(|e| KubernetesError::Call {
                verb: "read",
                object: id.to_string(),
                source: Box::new(e),
            })?;
            Ok(found.map(|o| to_value(&o)))
        })
        .await
    }

    /// The objects of a kind; none where the kind is not there.
    ///
    /// # Errors
    /// The API cannot be asked.
    pub async fn list(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Result<Vec<Value>, KubernetesError> {
        self.retry(|| async {
            let api = match self.api(api_version, kind, namespace).await {
                Err(error) if error.status() == Some(404) || missing_kind(&error) => return Ok(Vec::new()),
                api => api?,
            };
            let list = api
                .list(&ListParams::default())
                .await
                .map_err(|e| KubernetesError::Call {
                    verb: "list",
                    object: kind.to_owned(),
                    source: Box::new(e),
                })?;
            Ok(list.items.iter().map(to_value).collect())
        })
        .await
    }

    /// What the API answers to a GET of `parent/name`, which need not be an object. Asked once: whoever observes wants
    /// to know how it is, and not how it is after some tries.
    ///
    /// # Errors
    /// The API has no such thing, or cannot be asked.
    pub async fn once(&self, parent: &str, name: &str) -> Result<Value, KubernetesError> {
        let failed = |source| KubernetesError::Call {
            verb: "read",
            object: format!("{parent}/{name}"),
            source: Box::new(source),
        };
        let request = kube::core::Request::new(parent)
            .get(name, &GetParams::default())
            .map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        self.client().await?.request(request).await.map_err(failed)
    }

    /// Patches an object by a JSON merge patch.
    ///
    /// # Errors
    /// The API refuses it.
    pub async fn merge(&self, id: &ObjectId, patch: &Value) -> Result<(), KubernetesError> {
        self.retry(|| async {
            let api = self.api(&id.api_version, &id.kind, id.namespace.as_deref()).await?;
            api.patch(&id.name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map_err(|e| KubernetesError::Call {
                    verb: "patch",
                    object: id.to_string(),
                    source: Box::new(e),
                })?;
            Ok(())
        })
        .await
    }

    /// Deletes an object, its dependents in the background; says whether it was there.
    ///
    /// # Errors
    /// The API refuses it.
    pub async fn delete(&self, id: &ObjectId) -> Result<bool, KubernetesError> {
        self.retry(|| async {
            let api = match self.api(&id.api_version, &id.kind, id.namespace.as_deref()).await {
                Err(error) if error.status() == Some(404) || missing_kind(&error) => return Ok(false),
                api => api?,
            };
            match api.delete(&id.name, &DeleteParams::background()).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
                Err(e) => Err(KubernetesError::Call {
                    verb: "delete",
                    object: id.to_string(),
                    source: Box::new(e),
                }),
            }
        })
        .await
    }

    /// The server's version, which also shows that it can be reached and knows us.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn version(&self) -> Result<String, KubernetesError> {
        self.retry(|| async {
            let client = self.client().await?;
            let version = client.apiserver_version().await.map_err(|e| KubernetesError::Call {
                verb: "reach",
                object: self.endpoint.clone(),
                source: Box::new(e),
            })?;
            Ok(version.git_version)
        })
        .await
    }

    /// Forgets the client with its token; the next call makes another.
    pub(super) async fn forget_client(&self) {
        self.state.lock().await.client = None;
    }

    /// Forgets which kinds there are, after new ones were defined.
    pub async fn forget_kinds(&self) {
        self.state.lock().await.resources.clear();
    }
}

/// A discovery that does not know the kind is an answer, not a fault.
fn missing_kind(error: &KubernetesError) -> bool {
    matches!(error, KubernetesError::Call { source, .. } if matches!(source.as_ref(), kube::Error::Discovery(_)))
}

fn to_value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn pem_blocks(pem: &[u8]) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let text = String::from_utf8_lossy(pem);
    text.split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .filter_map(|block| block.split("-----END CERTIFICATE-----").next())
        .filter_map(|body| {
            let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
            base64::engine::general_purpose::STANDARD.decode(body).ok()
        })
        .collect()
}
