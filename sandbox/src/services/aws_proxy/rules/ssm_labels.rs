use serde_json::{Value, json};

use super::{Outcome, Rule};
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;

pub(super) const RULE: Rule = Rule {
    name: "ssm_labels",
    service: "ssm",
    operations: &["LabelParameterVersion"],
    reason: "the emulator accepts labels that AWS refuses inside a successful answer",
    apply,
};

/// The longest label.
const LONGEST: usize = 100;

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        let mut asked = request.json();
        let Some(labels) = asked["Labels"].as_array().cloned() else {
            return context.ask(request).await;
        };
        let (valid, invalid): (Vec<Value>, Vec<Value>) = labels
            .into_iter()
            .partition(|label| label.as_str().is_none_or(is_valid));
        if invalid.is_empty() {
            return context.ask(request).await;
        }
        asked["Labels"] = Value::Array(valid);
        let answer = context.ask(request.with_body(asked.to_string())).await?;
        let Some(mut body) = answer.success() else {
            return Ok(answer);
        };
        let mut refused = body["InvalidLabels"].as_array().cloned().unwrap_or_default();
        refused.extend(invalid);
        body["InvalidLabels"] = json!(refused);
        Ok(answer.with_body(body.to_string()))
    })
}

/// "Working with parameter labels", AWS Systems Manager User Guide: letters, digits, `.`, `-` and `_`, not beginning with
/// a digit, nor in any case with `aws` or `ssm`.
fn is_valid(label: &str) -> bool {
    let lower = label.to_ascii_lowercase();
    !label.is_empty()
        && label.len() <= LONGEST
        && !label.starts_with(|c: char| c.is_ascii_digit())
        && !lower.starts_with("aws")
        && !lower.starts_with("ssm")
        && label
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn labels_follow_the_user_guide() {
        for label in ["current", "Pending-1", "a.b_c", "xaws"] {
            assert!(is_valid(label), "{label}");
        }
        for label in [
            "AWSCURRENT",
            "awsPENDING",
            "ssm-x",
            "SSM",
            "1st",
            "",
            "a b",
            "a:b",
            &"x".repeat(101),
        ] {
            assert!(!is_valid(label), "{label}");
        }
    }
}
