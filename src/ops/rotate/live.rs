//! The outside as it is: AWS, the cluster, Argo CD and the git host.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;

use super::deploy_key::{ClusterKey, KeyWorld};
use super::pace::{Pace, RealTime};
use super::password::{ClusterPassword, PasswordWorld};
use crate::argocd::{ArgoCd, Session};
use crate::aws::{Aws, DeployKey, PasswordVersion, StoredKey};
use crate::error::{Error, Result};
use crate::git::{DeployKeyHost, KeyError, KeyReader, RegisteredKey, Registration};
use crate::kubernetes::{ForwardedPort, Kubernetes, ObjectId, RefreshedApplication};
use crate::model::Names;
use crate::ops::Context;
use crate::ops::bootstrap::{CREDENTIALS_MANAGER, NAMESPACE, argocd_secret, decoded, repository_secret};

/// The port on which argocd-server listens in its pod.
const SERVER_PORT: u16 = 8080;

/// The outside of a rotation of the password.
pub(super) struct LivePassword {
    aws: Aws,
    secret: String,
    kubernetes: Kubernetes,
    argocd: ArgoCd,
    time: RealTime,
    /// Closed with this.
    _forwarded: Option<ForwardedPort>,
}

impl LivePassword {
    /// Reaches Argo CD: at its own address in a sandbox, else through the Kubernetes API, since it need not have any.
    pub(super) async fn reach(context: &Context) -> Result<Self> {
        let kubernetes = context.kubernetes()?.clone();
        let (argocd, forwarded) = match &context.sandbox {
            Some(sandbox) => (ArgoCd::at(&sandbox.argocd_url)?, None),
            None => forwarded(&kubernetes).await?,
        };
        Ok(Self {
            aws: context.aws()?.clone(),
            secret: context.environment.names.argocd_secret.clone(),
            kubernetes,
            argocd,
            time: RealTime::new(),
            _forwarded: forwarded,
        })
    }
}

async fn forwarded(kubernetes: &Kubernetes) -> Result<(ArgoCd, Option<ForwardedPort>)> {
    let port = kubernetes
        .forward(NAMESPACE, "app.kubernetes.io/name=argocd-server", SERVER_PORT)
        .await?;
    // argocd-server serves the certificate of argocd-server-tls, and where there is none its own from argocd-secret
    // (https://argo-cd.readthedocs.io/en/stable/operator-manual/tls/).
    let mut certificate = None;
    for name in ["argocd-server-tls", "argocd-secret"] {
        let secret = kubernetes.get(&secret_id(name)).await?;
        certificate = secret.and_then(|s| decoded(&s["data"]["tls.crt"]));
        if certificate.is_some() {
            break;
        }
    }
    let parameters = ObjectId::namespaced("v1", "ConfigMap", NAMESPACE, "argocd-cmd-params-cm");
    let parameters = kubernetes.get(&parameters).await?.unwrap_or_default();
    let insecure = parameters["data"]["server.insecure"] == "true";
    if certificate.is_none() && !insecure {
        return Err(Error::failed("argocd-server has no certificate yet")
            .cause("neither argocd-server-tls nor argocd-secret holds tls.crt")
            .hint("argocd-server makes it at its first start: look at its pod, and run the same command again"));
    }
    let certificate = certificate.filter(|_| !insecure);
    let argocd = ArgoCd::forwarded(port.address(), certificate.as_deref())?;
    Ok((argocd, Some(port)))
}

fn secret_id(name: &str) -> ObjectId {
    ObjectId::namespaced("v1", "Secret", NAMESPACE, name)
}

impl Pace for LivePassword {
    fn elapsed(&self) -> Duration {
        self.time.elapsed()
    }

    fn pause(&self, duration: Duration) -> BoxFuture<'_, ()> {
        self.time.pause(duration)
    }
}

impl PasswordWorld for LivePassword {
    fn current(&self) -> BoxFuture<'_, Result<Option<PasswordVersion>>> {
        Box::pin(async { Ok(self.aws.current_password(&self.secret).await?) })
    }

    fn pending(&self) -> BoxFuture<'_, Result<Option<PasswordVersion>>> {
        Box::pin(async { Ok(self.aws.pending_password(&self.secret).await?) })
    }

    fn stage<'a>(&'a self, current: &'a str) -> BoxFuture<'a, Result<PasswordVersion>> {
        Box::pin(async { Ok(self.aws.stage_password(&self.secret, current).await?) })
    }

    fn in_cluster(&self) -> BoxFuture<'_, Result<Option<ClusterPassword>>> {
        Box::pin(async {
            let found = self.kubernetes.get(&secret_id("argocd-secret")).await?;
            Ok(found.map(|secret| ClusterPassword {
                bcrypt: text(&secret["data"]["admin.password"]).unwrap_or_default().into(),
                version: version(&secret),
            }))
        })
    }

    fn clock(&self) -> BoxFuture<'_, Result<Timestamp>> {
        Box::pin(async { Ok(self.kubernetes.clock().await?) })
    }

    fn patch<'a>(&'a self, bcrypt: &'a SecretString, mtime: &'a str, version: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let object = argocd_secret(bcrypt, mtime);
            Ok(self.kubernetes.apply_at(&object, CREDENTIALS_MANAGER, version).await?)
        })
    }

    fn admin_enabled(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async {
            let id = ObjectId::namespaced("v1", "ConfigMap", NAMESPACE, "argocd-cm");
            let settings = self.kubernetes.get(&id).await?.unwrap_or_default();
            Ok(settings["data"]["admin.enabled"] != "false")
        })
    }

    fn log_in<'a>(&'a self, password: &'a SecretString) -> BoxFuture<'a, Result<Option<Session>>> {
        Box::pin(async { Ok(self.argocd.log_in(password).await?) })
    }

    fn holds<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async { Ok(self.argocd.holds(session).await?) })
    }

    fn promote<'a>(&'a self, current: &'a str, pending: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(self.aws.promote_password(&self.secret, current, pending).await?) })
    }

    fn unstage<'a>(&'a self, pending: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(self.aws.unstage_password(&self.secret, pending).await?) })
    }
}

/// The outside of a rotation of the deploy key.
pub(super) struct LiveKey {
    aws: Aws,
    environment: String,
    names: Names,
    repository: String,
    host: Box<dyn DeployKeyHost>,
    kubernetes: Kubernetes,
    reader: KeyReader,
    time: RealTime,
}

impl LiveKey {
    /// Sets everything up, with the host keys that Argo CD trusts.
    pub(super) async fn reach(context: &Context) -> Result<Self> {
        let kubernetes = context.kubernetes()?.clone();
        let id = ObjectId::namespaced("v1", "ConfigMap", NAMESPACE, "argocd-ssh-known-hosts-cm");
        let trusted = kubernetes.get(&id).await?;
        let trusted = trusted.and_then(|map| map["data"]["ssh_known_hosts"].as_str().map(str::to_owned));
        let repository = context.environment.argocd_repository_url.to_string();
        Ok(Self {
            aws: context.aws()?.clone(),
            environment: context.environment.name.to_string(),
            names: context.environment.names.clone(),
            host: context.platform()?.git_host(&context.environment).await?,
            kubernetes,
            reader: KeyReader::new(&repository, trusted),
            time: RealTime::new(),
            repository,
        })
    }
}

impl Pace for LiveKey {
    fn elapsed(&self) -> Duration {
        self.time.elapsed()
    }

    fn pause(&self, duration: Duration) -> BoxFuture<'_, ()> {
        self.time.pause(duration)
    }
}

impl KeyWorld for LiveKey {
    fn current(&self) -> BoxFuture<'_, Result<Option<StoredKey>>> {
        Box::pin(async { Ok(self.aws.stored_key(&self.names.deploy_key, &self.environment).await?) })
    }

    fn pending(&self) -> BoxFuture<'_, Result<Option<StoredKey>>> {
        Box::pin(async {
            let name = &self.names.deploy_key_pending;
            Ok(self.aws.stored_key(name, &self.environment).await?)
        })
    }

    fn former(&self) -> BoxFuture<'_, Result<Vec<DeployKey>>> {
        Box::pin(async { Ok(self.aws.former_keys(&self.names.deploy_key, &self.environment).await?) })
    }

    fn stage(&self) -> BoxFuture<'_, Result<StoredKey>> {
        Box::pin(async {
            let name = &self.names.deploy_key_pending;
            Ok(self.aws.stage_key(name, &self.environment).await?)
        })
    }

    fn is_manual(&self) -> bool {
        self.host.is_manual()
    }

    fn registered(&self) -> BoxFuture<'_, Result<Vec<RegisteredKey>>> {
        Box::pin(async { Ok(self.host.list().await?) })
    }

    fn register<'a>(&'a self, title: &'a str, public: &'a str) -> BoxFuture<'a, Result<Registration>> {
        Box::pin(async { Ok(self.host.register(title, public).await?) })
    }

    fn unregister<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async { Ok(self.host.delete(id).await?) })
    }

    fn read<'a>(&'a self, key: &'a DeployKey) -> BoxFuture<'a, Result<(), KeyError>> {
        Box::pin(self.reader.read(&key.private))
    }

    fn in_cluster(&self) -> BoxFuture<'_, Result<Option<ClusterKey>>> {
        Box::pin(async {
            let id = ObjectId::of(&repository_secret(&self.repository, None))?;
            let found = self.kubernetes.get(&id).await?;
            Ok(found.map(|secret| ClusterKey {
                private: text(&secret["data"]["sshPrivateKey"]).map(Into::into),
                version: version(&secret),
            }))
        })
    }

    fn patch<'a>(&'a self, key: &'a DeployKey, version: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let object = repository_secret(&self.repository, Some(&key.private));
            Ok(self.kubernetes.apply_at(&object, CREDENTIALS_MANAGER, version).await?)
        })
    }

    fn clock(&self) -> BoxFuture<'_, Result<Timestamp>> {
        Box::pin(async { Ok(self.kubernetes.clock().await?) })
    }

    fn applications(&self) -> BoxFuture<'_, Result<Vec<RefreshedApplication>>> {
        Box::pin(async { Ok(self.kubernetes.applications_of(&self.repository).await?) })
    }

    fn refresh<'a>(&'a self, application: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(self.kubernetes.refresh_hard(application).await?) })
    }

    fn promote<'a>(&'a self, key: &'a DeployKey) -> BoxFuture<'a, Result<i64>> {
        Box::pin(async {
            let names = &self.names;
            let environment = &self.environment;
            let promoted = self
                .aws
                .promote_key(&names.deploy_key, &names.deploy_key_public, key, environment)
                .await?;
            Ok(promoted)
        })
    }

    fn unstage(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.aws.remove_parameter(&self.names.deploy_key_pending).await?;
            Ok(())
        })
    }
}

/// A value of a Secret, as text.
fn text(value: &serde_json::Value) -> Option<String> {
    decoded(value).and_then(|bytes| String::from_utf8(bytes).ok())
}

fn version(object: &serde_json::Value) -> String {
    let version = object.pointer("/metadata/resourceVersion");
    version
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
