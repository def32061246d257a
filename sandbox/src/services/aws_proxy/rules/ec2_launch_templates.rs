use super::{Outcome, Rule, creation_tags};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;
use crate::services::http::UpstreamError;
use crate::services::xml;

pub(super) const RULE: Rule = Rule {
    name: "ec2_launch_templates",
    service: "ec2",
    operations: &[
        "CreateLaunchTemplate",
        "DescribeLaunchTemplates",
        "DeleteLaunchTemplate",
    ],
    reason: "the emulator keeps the tags of a launch template where neither CreateTags and DeleteTags nor tag filters reach \
             them, and returns those of the creation for ever; of a template that is gone it says so with another code than \
             EC2, which a client that asks again takes for a failure",
    apply,
};

/// What begins an item of DescribeLaunchTemplates.
const ID: (&str, &str) = ("<launchTemplateId>", "</launchTemplateId>");

fn apply(context: &Context, request: Request) -> Outcome<'_> {
    Box::pin(async move {
        match request.call.operation.as_str() {
            "CreateLaunchTemplate" => create(context, request).await,
            "DeleteLaunchTemplate" => delete(context, request).await,
            _ => describe(context, request).await,
        }
    })
}

/// Tags the new template as CreateTags does, too.
async fn create(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let answer = context.ask(request.clone()).await?;
    creation_tags::lay_on(context, &request, answer, "launch-template", "launchTemplateId").await
}

/// Says with EC2's code that the template is gone.
async fn delete(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let answer = context.ask(request).await?;
    let text = String::from_utf8_lossy(&answer.body);
    let told = text.replace(
        "InvalidLaunchTemplateId.NotFoundException",
        "InvalidLaunchTemplateId.NotFound",
    );
    Ok(answer.with_body(told))
}

/// Replaces the tags of every template by those that DescribeTags knows.
async fn describe(context: &Context, request: Request) -> Result<Answer, UpstreamError> {
    let answer = context.ask(request.clone()).await?;
    if !answer.status.is_success() {
        return Ok(answer);
    }
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let mut items = text.split(ID.0);
    let mut completed = items.next().unwrap_or_default().to_owned();
    for item in items {
        let (id, rest) = item.split_once(ID.1).unwrap_or((item, ""));
        let filter = [("Filter.1.Name", "resource-id"), ("Filter.1.Value.1", id.trim())];
        let filter: Vec<(String, String)> = filter.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let found = context.ask(request.ec2("DescribeTags", &filter)).await?;
        let rest = with_tags(rest, &tag_set(&String::from_utf8_lossy(&found.body)));
        completed.push_str(&format!("{}{id}{}{rest}", ID.0, ID.1));
    }
    Ok(answer.with_body(completed))
}

/// An item's `tagSet` of an answer of DescribeTags.
fn tag_set(described: &str) -> String {
    let tags = described.split("<item>").skip(1).filter_map(|item| {
        let (key, value) = (xml::text(item, "key")?, xml::text(item, "value").unwrap_or_default());
        Some(format!(
            "<item><key>{}</key><value>{}</value></item>",
            xml::escape(&key),
            xml::escape(&value)
        ))
    });
    format!("<tagSet>{}</tagSet>", tags.collect::<String>())
}

/// The rest of an item with another `tagSet`.
fn with_tags(rest: &str, tags: &str) -> String {
    if let Some((before, found)) = rest.split_once("<tagSet>")
        && let Some((_, after)) = found.split_once("</tagSet>")
    {
        return format!("{before}{tags}{after}");
    }
    if rest.contains("<tagSet/>") {
        return rest.replacen("<tagSet/>", tags, 1);
    }
    format!("{tags}{rest}")
}

#[cfg(test)]
mod tests {
    use super::{tag_set, with_tags};

    #[test]
    fn tags_take_the_place_of_those_that_are_there() {
        let described = "<tagSet><item><resourceId>lt-1</resourceId><key>a</key><value>1&amp;2</value></item>\
                         <item><key>b</key><value></value></item></tagSet>";
        let tags = tag_set(described);
        assert_eq!(
            tags,
            "<tagSet><item><key>a</key><value>1&amp;2</value></item><item><key>b</key><value></value></item></tagSet>"
        );
        assert_eq!(
            with_tags("<x/><tagSet><item/></tagSet></item>", "<T/>"),
            "<x/><T/></item>"
        );
        assert_eq!(with_tags("<x/><tagSet/></item>", "<T/>"), "<x/><T/></item>");
        assert_eq!(with_tags("<x/></item>", "<T/>"), "<T/><x/></item>");
        assert_eq!(tag_set("<tagSet/>"), "<tagSet></tagSet>");
    }
}
