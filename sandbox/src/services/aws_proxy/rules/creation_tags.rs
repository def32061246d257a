use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::context::Context;
use crate::services::aws_proxy::request::Request;
use crate::services::http::UpstreamError;
use crate::services::xml;

/// Tags what a call of EC2 has made as its TagSpecification for `kind` says, by CreateTags. `answer` is what the call was
/// answered, and has the id in the element `id`.
pub(super) async fn lay_on(
    context: &Context,
    request: &Request,
    answer: Answer,
    kind: &str,
    id: &str,
) -> Result<Answer, UpstreamError> {
    let form = request.form();
    let id = xml::text(&String::from_utf8_lossy(&answer.body), id);
    let specification = form.iter().filter(|(_, value)| value == kind).find_map(|(name, _)| {
        name.strip_suffix(".ResourceType")
            .filter(|name| name.starts_with("TagSpecification."))
    });
    let (Some(id), Some(specification), true) = (id, specification, answer.status.is_success()) else {
        return Ok(answer);
    };
    let tags = form.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(specification)?.strip_prefix('.')?;
        name.starts_with("Tag.").then(|| (name.to_owned(), value.clone()))
    });
    let parameters: Vec<(String, String)> = std::iter::once(("ResourceId.1".to_owned(), id)).chain(tags).collect();
    if parameters.len() > 1 {
        let tagged = context.ask(request.ec2("CreateTags", &parameters)).await?;
        if !tagged.status.is_success() {
            return Ok(tagged);
        }
    }
    Ok(answer)
}
