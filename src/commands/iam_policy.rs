use super::Session;
use crate::error::{Error, Result};
use crate::ops::iam_policies;
use crate::ui::OutputFormat;

pub(super) fn run(session: &Session, name: &str, terraform: bool) -> Result<u8> {
    let project = session.project()?;
    let environment = session.environment(&project, name)?;
    let policies = iam_policies(&project, &environment)?;
    if terraform && !policies.unknown.is_empty() && session.printer.format == OutputFormat::Text {
        let unknown: Vec<&str> = policies.unknown.iter().map(String::as_str).collect();
        session.printer.diagnostic(&format!(
            "warning: what Terraform calls for {} is not known here: add what they need\n",
            unknown.join(", ")
        ));
    }
    let shown = if terraform {
        &policies.terraform
    } else {
        &policies.mfsre
    };
    let text = serde_json::to_string_pretty(shown)
        .map_err(|e| Error::failed("cannot serialise the policy").cause(e.to_string()))?;
    session.printer.result("iam-policy", Some(name), &text, &policies)?;
    Ok(0)
}
