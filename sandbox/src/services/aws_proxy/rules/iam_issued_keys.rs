use super::{Outcome, Rule};
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;
use crate::services::xml;

pub(super) const RULE_IAM: Rule = Rule {
    name: "iam_issued_keys",
    service: "iam",
    operations: &["CreateAccessKey", "DeleteAccessKey"],
    reason: "the emulator accepts every access key; those that it issues must stay valid where only known ones are",
    apply,
};

pub(super) const RULE_STS: Rule = Rule {
    name: "sts_issued_keys",
    service: "sts",
    operations: &["AssumeRole", "GetFederationToken", "GetSessionToken"],
    reason: "the emulator accepts every access key; those that it issues must stay valid where only known ones are",
    apply,
};

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        let deleted = request.call.operation == "DeleteAccessKey";
        let named = request
            .form()
            .into_iter()
            .chain(request.query())
            .find(|(name, _)| name == "AccessKeyId");
        let answer = context.ask(request).await?;
        if answer.status.is_success() {
            let text = String::from_utf8_lossy(&answer.body);
            match (xml::text(&text, "AccessKeyId"), xml::text(&text, "SecretAccessKey")) {
                (Some(id), Some(secret)) => context.credentials.learn(id, secret),
                _ if deleted => named.iter().for_each(|(_, id)| context.credentials.forget(id)),
                _ => {}
            }
        }
        Ok(answer)
    })
}
