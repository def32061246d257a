use super::Session;
use crate::config::schema;
use crate::error::{Error, Result};

pub(super) fn run(session: &Session) -> Result<u8> {
    let text = serde_json::to_string_pretty(&schema())
        .map_err(|e| Error::failed("cannot print the JSON Schema").cause(e.to_string()))?;
    session.printer.line(&text)?;
    Ok(0)
}
