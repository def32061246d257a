use secrecy::ExposeSecret as _;
use serde_json::json;

use super::Session;
use crate::cli::ShowSecret;
use crate::error::Result;

pub(super) async fn run(session: &Session, secret: ShowSecret) -> Result<u8> {
    let ShowSecret::ArgocdPassword { environment } = secret;
    let mut context = session.context(&environment, |_| {})?;
    let password = context.admin_password().await?;
    let body = json!({ "password": password.password.expose_secret(), "mtime": password.mtime });
    session.printer.result(
        "secrets show",
        Some(&environment),
        password.password.expose_secret(),
        &body,
    )?;
    Ok(0)
}
