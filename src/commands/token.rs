use secrecy::ExposeSecret as _;
use serde_json::json;

use super::Session;
use crate::error::Result;

/// Prints an ExecCredential (<https://kubernetes.io/docs/reference/config-api/client-authentication.v1/>).
pub(super) async fn run(session: &Session, name: &str) -> Result<u8> {
    let mut context = session.context(name, |_| {})?;
    let token = context.token().await?;
    session.printer.mask(token.token.expose_secret());
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": { "token": token.token.expose_secret(), "expirationTimestamp": token.expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() },
    });
    session.printer.line(&credential.to_string())?;
    Ok(0)
}
