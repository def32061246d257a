//! The image pull secret of the workloads: a registry's credential that somebody keeps in Secrets Manager, brought into the
//! cluster, since a token cannot stand in Git.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Context;
use crate::aws::RegistryCredential;
use crate::config::Images;
use crate::error::{Error, ErrorKind, Result};
use crate::workflow::{Probe, Progress, Step, StepFuture};

/// Where the workloads run, as `cd/apps` says.
pub(super) const NAMESPACE: &str = "workloads";

/// Reads the registry's credential, before anything is created: who has to store it first shall not wait for a cluster to
/// learn it.
pub(super) struct ReadPullToken;

impl Step<Context> for ReadPullToken {
    fn id(&self) -> &'static str {
        "pull-token"
    }

    fn describe(&self) -> String {
        "registry credential in Secrets Manager".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            let Some(name) = context.environment.images.pull_secret.clone() else {
                return Ok(Probe::Impossible("images.pull_secret is not set".into()));
            };
            let text = context.aws()?.secret_text(&name).await?;
            context.registry = Some(credential(&name, text.as_ref().map(|t| t.expose_secret()))?);
            Ok(Probe::Stands(name))
        })
    }
}

fn credential(name: &str, text: Option<&str>) -> Result<RegistryCredential> {
    let shape = r#"{"username": "USER", "token": "TOKEN"}"#;
    let Some(text) = text else {
        return Err(Error::new(
            ErrorKind::Configuration,
            format!("there is no secret {name} in Secrets Manager, and images.pull_secret names it"),
        )
        .hint(format!(
            "write {shape} to a file and run: aws secretsmanager create-secret --name {name} --secret-string file://FILE"
        )));
    };
    RegistryCredential::parse(text).ok_or_else(|| {
        Error::new(
            ErrorKind::Configuration,
            format!("the secret {name}, which images.pull_secret names, holds no registry credential"),
        )
        .hint(format!(
            "write {shape} to a file and run: aws secretsmanager put-secret-value --secret-id {name} --secret-string file://FILE"
        ))
    })
}

/// The Secret that the kubelet reads
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets>).
pub(super) fn object(images: &Images, credential: &RegistryCredential) -> Value {
    let token = credential.token.expose_secret();
    let both = Zeroizing::new(format!("{}:{token}", credential.username));
    let config = json!({ "auths": { images.registry_host(): {
        "username": credential.username,
        "password": token,
        "auth": STANDARD.encode(both.as_bytes()),
    } } });
    let config = Zeroizing::new(config.to_string());
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": Images::PULL_SECRET, "namespace": NAMESPACE },
        "type": "kubernetes.io/dockerconfigjson",
        "data": { ".dockerconfigjson": STANDARD.encode(config.as_bytes()) },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn images(registry: &str) -> Images {
        Images {
            registry: registry.into(),
            versions: std::collections::BTreeMap::new(),
            pull_secret: Some("acme/registry".into()),
        }
    }

    #[test]
    fn the_kubelet_finds_the_credential_under_the_registry_s_host() {
        for (registry, host) in [
            ("ghcr.io/acme", "ghcr.io"),
            ("ghcr.io", "ghcr.io"),
            ("registry.example.com:5000/a/b", "registry.example.com:5000"),
            ("localhost/a", "localhost"),
            ("docker.io/acme", "https://index.docker.io/v1/"),
            ("acme", "https://index.docker.io/v1/"),
        ] {
            let credential = credential("x", Some(r#"{"username": "bot", "token": "p:w\""}"#)).unwrap();
            let secret = object(&images(registry), &credential);
            assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
            let data = STANDARD
                .decode(secret["data"][".dockerconfigjson"].as_str().unwrap())
                .unwrap();
            let config: Value = serde_json::from_slice(&data).unwrap();
            let auth = STANDARD.encode("bot:p:w\"");
            assert_eq!(
                config,
                json!({ "auths": { host: { "username": "bot", "password": "p:w\"", "auth": auth } } }),
                "{registry}"
            );
        }
    }

    #[test]
    fn a_missing_or_wrong_secret_is_named_with_what_to_do_and_without_what_it_holds() {
        for (text, says, does) in [
            (
                None,
                "there is no secret acme/registry",
                "create-secret --name acme/registry",
            ),
            (
                Some("ghp_canary"),
                "holds no registry credential",
                "put-secret-value --secret-id acme/registry",
            ),
        ] {
            let error = credential("acme/registry", text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Configuration);
            let shown = format!("{error:?}");
            assert!(shown.contains(says) && shown.contains(does), "{shown}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
}
