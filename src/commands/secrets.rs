use std::io::IsTerminal as _;

use secrecy::ExposeSecret as _;
use serde_json::json;

use super::Session;
use crate::cli::ShowSecret;
use crate::error::{Error, ErrorKind, Result};

/// Prints a secret to a terminal, or where that was asked for.
pub(super) async fn run(session: &Session, secret: ShowSecret) -> Result<u8> {
    let ShowSecret::ArgocdPassword { environment, reveal } = secret;
    if !reveal && !std::io::stdout().is_terminal() {
        return Err(Error::new(
            ErrorKind::Usage,
            "standard output is no terminal, and the password would stay in whatever reads it",
        )
        .hint(format!(
            "if that is what you want, add --reveal, for example: mfsre secrets show argocd-password {environment} --reveal | wl-copy"
        )));
    }
    let mut context = session.context(&environment, |_| {})?;
    let password = context.admin_password().await?;
    let text = password.password.expose_secret();
    session.printer.mask(text);
    let body = json!({ "password": text, "mtime": password.mtime });
    session
        .printer
        .result("secrets show", Some(&environment), text, &body)?;
    Ok(0)
}
