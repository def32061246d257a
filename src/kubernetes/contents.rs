use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::discovery::ApiResource;
use serde_json::{Value, json};

use super::{Kubernetes, KubernetesError};

impl Kubernetes {
    /// Every object in a namespace, of whatever kind. A kind that its API does not list at the moment is left out: an
    /// aggregated API without a server behind it must not hide the rest.
    ///
    /// # Errors
    /// The API cannot say which kinds there are.
    pub async fn contents(&self, namespace: &str) -> Result<Vec<Value>, KubernetesError> {
        let failed = |source| KubernetesError::Call {
            verb: "list the kinds of",
            object: self.endpoint().to_owned(),
            source: Box::new(source),
        };
        let mut kinds = Vec::new();
        let core = self
            .retry(|| async { self.client().await?.list_core_api_resources("v1").await.map_err(failed) })
            .await?;
        kinds.extend(core.resources.into_iter().map(|kind| ("v1".to_owned(), kind)));
        let groups = self
            .retry(|| async { self.client().await?.list_api_groups().await.map_err(failed) })
            .await?;
        let client = self.client().await?;
        for group in groups.groups {
            let Some(version) = group.preferred_version.or_else(|| group.versions.into_iter().next()) else {
                continue;
            };
            if let Ok(found) = client.list_api_group_resources(&version.group_version).await {
                kinds.extend(
                    found
                        .resources
                        .into_iter()
                        .map(|kind| (version.group_version.clone(), kind)),
                );
            }
        }
        let mut objects = Vec::new();
        for (api_version, kind) in kinds.iter().filter(|(_, kind)| is_kept(kind)) {
            let resource = resource(api_version, kind);
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
            let listed = self.retry(|| async {
                api.list(&ListParams::default())
                    .await
                    .map_err(|source| KubernetesError::Call {
                        verb: "list",
                        object: format!("{} of {namespace}", kind.name),
                        source: Box::new(source),
                    })
            });
            let Ok(list) = listed.await else {
                continue;
            };
            for object in list.items {
                let mut object = serde_json::to_value(&object).unwrap_or_default();
                // Items of a list need not say what they are.
                object["apiVersion"] = json!(api_version);
                object["kind"] = json!(kind.kind);
                objects.push(object);
            }
        }
        Ok(objects)
    }

    /// Takes the finalizer off a namespace that is being deleted, after which the API server forgets it.
    ///
    /// # Errors
    /// The API refuses it. A namespace that is gone is no error.
    pub async fn finalize_namespace(&self, name: &str) -> Result<(), KubernetesError> {
        let failed = |source| KubernetesError::Call {
            verb: "finalize",
            object: format!("Namespace {name}"),
            source: Box::new(source),
        };
        let body = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name }, "spec": { "finalizers": [] },
        });
        self.retry(|| async {
            let request = kube::core::Request::new("/api/v1/namespaces")
                .replace_subresource("finalize", name, &PostParams::default(), body.to_string().into_bytes())
                .map_err(|error| failed(kube::Error::BuildRequest(error)))?;
            match self.client().await?.request::<Value>(request).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(failed(error)),
                Ok(_) => Ok(()),
            }
        })
        .await
    }
}

/// Whether objects of this kind are kept in a namespace, as tokens and reviews are not.
fn is_kept(kind: &APIResource) -> bool {
    kind.namespaced && !kind.name.contains('/') && kind.verbs.iter().any(|v| v == "list") && kind.kind != "Event"
}

fn resource(api_version: &str, kind: &APIResource) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.kind.clone(),
        plural: kind.name.clone(),
    }
}
