//! The certificate of prometheus-adapter. The API server reaches the adapter over TLS and must be told whom to trust; a
//! private key cannot stand in Git, so mfsre makes the pair and keeps it in the cluster.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Context;
use crate::config::AutoscalingProvider;
use crate::error::{Error, Result};
use crate::kubernetes::{Kubernetes, ObjectId};
use crate::workflow::{Probe, Progress, Ran, Step, StepFuture};

const NAMESPACE: &str = "monitoring";
const SECRET: &str = "prometheus-adapter-tls";
const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";
/// Years for which the certificate is good; a new one is made by removing the Secret and running `up`.
const YEARS: i64 = 10;

fn secret_id() -> ObjectId {
    ObjectId::namespaced("v1", "Secret", NAMESPACE, SECRET)
}

fn api_service_id() -> ObjectId {
    ObjectId::cluster("apiregistration.k8s.io/v1", "APIService", API_SERVICE)
}

/// Makes the adapter's certificate where there is none.
pub(super) struct AdapterCertificate;

impl Step<Context> for AdapterCertificate {
    fn id(&self) -> &'static str {
        "adapter-certificate"
    }

    fn describe(&self) -> String {
        "certificate of prometheus-adapter".into()
    }

    fn probe<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move {
            if context.environment.autoscaling.provider != AutoscalingProvider::PrometheusAdapter {
                return Ok(Probe::Impossible("the metric comes from KEDA".into()));
            }
            let found = context.kubernetes()?.get(&secret_id()).await?;
            Ok(match found {
                Some(_) => Probe::Stands(format!("{NAMESPACE}/{SECRET}")),
                None => Probe::Needed,
            })
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let kubernetes = context.kubernetes()?;
            kubernetes
                .apply(&super::bootstrap::namespace(NAMESPACE), "mfsre-credentials")
                .await?;
            kubernetes.apply(&secret()?, "mfsre-credentials").await?;
            Ok(Ran::Changed(format!("{NAMESPACE}/{SECRET} created")))
        })
    }
}

fn secret() -> Result<Value> {
    let failed =
        |e: rcgen::Error| Error::failed("cannot make the certificate of prometheus-adapter").cause(e.to_string());
    let host = format!("prometheus-adapter.{NAMESPACE}.svc");
    let mut parameters =
        rcgen::CertificateParams::new(vec![host.clone(), format!("{host}.cluster.local")]).map_err(failed)?;
    let mut subject = rcgen::DistinguishedName::new();
    subject.push(rcgen::DnType::CommonName, host);
    parameters.distinguished_name = subject;
    let now = jiff::Timestamp::now().as_second();
    let at = |seconds: i64| std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    // A clock that is a little behind must not refuse it.
    parameters.not_before = at(now - 3600).into();
    parameters.not_after = at(now + YEARS * 365 * 24 * 3600).into();
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    let private = zeroize::Zeroizing::new(key.serialize_pem());
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": SECRET, "namespace": NAMESPACE },
        "type": "kubernetes.io/tls",
        "data": { "tls.crt": STANDARD.encode(certificate.pem()), "tls.key": STANDARD.encode(private.as_bytes()) },
    }))
}

/// Tells the API server to trust the adapter's certificate, once Argo CD has made the APIService. A merge patch, not an
/// apply: the field is absent in Git, so that Argo CD neither reports nor removes it.
pub(super) async fn trust(kubernetes: &Kubernetes) -> Result<bool> {
    let (Some(service), Some(secret)) = (
        kubernetes.get(&api_service_id()).await?,
        kubernetes.get(&secret_id()).await?,
    ) else {
        return Ok(false);
    };
    let certificate = &secret["data"]["tls.crt"];
    if service["spec"]["caBundle"] == *certificate || service["spec"]["insecureSkipTLSVerify"] == true {
        return Ok(false);
    }
    kubernetes
        .merge(&api_service_id(), &json!({ "spec": { "caBundle": certificate } }))
        .await?;
    Ok(true)
}
