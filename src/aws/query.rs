//! The protocols in which a call is a form or a JSON document.

use std::collections::BTreeMap;

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use reqwest::Method;

use super::signed::{Request, Response};
use super::{Aws, AwsError};

/// An element of an XML answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// Text directly inside.
    pub(super) text: String,
    /// Child elements by name, in order.
    pub(super) children: BTreeMap<String, Vec<Element>>,
}

impl Element {
    /// The element around everything, of a document.
    pub(super) fn root(&self) -> &Self {
        self.children.values().flatten().next().unwrap_or(self)
    }

    /// The text at a path of element names; empty where there is none.
    pub(super) fn text_at(&self, path: &[&str]) -> &str {
        match path {
            [] => &self.text,
            [first, rest @ ..] => self
                .children
                .get(*first)
                .and_then(|c| c.first())
                .map_or("", |c| c.text_at(rest)),
        }
    }

    /// The elements at a path of element names.
    pub(super) fn all(&self, path: &[&str]) -> Vec<&Element> {
        match path {
            [] => vec![self],
            [first, rest @ ..] => self
                .children
                .get(*first)
                .into_iter()
                .flatten()
                .flat_map(|c| c.all(rest))
                .collect(),
        }
    }
}

pub(super) struct Service {
    /// As in the endpoint's host name and the signature.
    pub(super) name: &'static str,
    /// API version.
    pub(super) version: &'static str,
    /// One endpoint for all regions, signed for us-east-1.
    pub(super) global: bool,
}

impl Aws {
    /// Calls an action of a service that speaks the Query protocol.
    pub(super) async fn query(
        &self,
        service: &Service,
        call: &'static str,
        parameters: &[(String, String)],
    ) -> Result<Element, AwsError> {
        let action = call.split_once(':').map_or(call, |(_, action)| action);
        let fixed = [("Action", action), ("Version", service.version)];
        let given = parameters.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fixed.into_iter().chain(given))
            .finish();
        let request = Request {
            service: service.name,
            global: service.global,
            call,
            method: Method::POST,
            path: "/",
            headers: &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
            body: &body,
        };
        let Response { status, text, .. } = self.signed(&request).await?;
        let document = parse(&text).map_err(|e| AwsError::new(call, None, format!("the answer is not XML: {e}")))?;
        if status.is_success() {
            return Ok(document);
        }
        let error = ["ErrorResponse", "Response"]
            .iter()
            .find_map(|root| document.children.get(*root)?.first())
            .cloned()
            .unwrap_or_default();
        let at = |leaf: &str| {
            [&["Error", leaf][..], &["Errors", "Error", leaf][..]]
                .iter()
                .map(|p| error.text_at(p).to_owned())
                .find(|t| !t.is_empty())
        };
        Err(AwsError::new(
            call,
            at("Code").or_else(|| Some(status.as_u16().to_string())),
            at("Message").unwrap_or(text),
        ))
    }

    /// Calls an action of a service that speaks JSON 1.1.
    pub(super) async fn json_call(
        &self,
        service: &str,
        target: &str,
        call: &'static str,
        body: &serde_json::Value,
    ) -> Result<serde_json::Value, AwsError> {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        let request = Request {
            service,
            global: false,
            call,
            method: Method::POST,
            path: "/",
            headers: &headers,
            body: &body.to_string(),
        };
        let Response { status, text, .. } = self.signed(&request).await?;
        let answer: serde_json::Value = serde_json::from_str(&text).map_err(|e| {
            AwsError::new(
                call,
                Some(status.as_u16().to_string()),
                format!("the answer is not JSON: {e}"),
            )
        })?;
        if status.is_success() {
            return Ok(answer);
        }
        let code = answer["__type"]
            .as_str()
            .map(|t| t.rsplit('#').next().unwrap_or(t).to_owned());
        let message = answer["message"]
            .as_str()
            .or(answer["Message"].as_str())
            .unwrap_or(&text)
            .to_owned();
        Err(AwsError::new(
            call,
            code.or_else(|| Some(status.as_u16().to_string())),
            message,
        ))
    }
}

/// Reads an XML document; its root is the only child of what is returned.
pub(super) fn parse(text: &str) -> Result<Element, quick_xml::Error> {
    let mut reader = quick_xml::Reader::from_str(text);
    let mut stack = vec![(String::new(), Element::default())];
    loop {
        match reader.read_event()? {
            Event::Start(start) => stack.push((start.local_name().as_ref().to_owned(), Element::default())),
            Event::Empty(empty) => {
                let name = empty.local_name().as_ref().to_owned();
                if let Some((_, parent)) = stack.last_mut() {
                    parent.children.entry(name).or_default().push(Element::default());
                }
            }
            Event::Text(content) => {
                if let Some((_, element)) = stack.last_mut() {
                    element.text.push_str(&content);
                }
            }
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref()?;
                if let Some((_, element)) = stack.last_mut() {
                    match character {
                        Some(character) => element.text.push(character),
                        None => element
                            .text
                            .push_str(resolve_predefined_entity(&reference).unwrap_or_default()),
                    }
                }
            }
            Event::End(_) => {
                if let Some((name, mut element)) = stack.pop()
                    && let Some((_, parent)) = stack.last_mut()
                {
                    // Between elements there is only what makes the document legible.
                    if !element.children.is_empty() {
                        element.text.clear();
                    }
                    parent.children.entry(name).or_default().push(element);
                }
            }
            Event::Eof => return Ok(stack.into_iter().next().map(|(_, e)| e).unwrap_or_default()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_by_paths() {
        let xml = r#"<?xml version="1.0"?><R xmlns="urn:x"><set><item><id>a</id></item><item><id>b</id><n/></item></set></R>"#;
        let document = parse(xml).unwrap();
        let ids: Vec<&str> = document
            .all(&["R", "set", "item"])
            .iter()
            .map(|i| i.text_at(&["id"]))
            .collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(document.text_at(&["R", "missing"]), "");
        let document = parse("<T>\n  <V>a &amp; b &#60;</V>\n</T>").unwrap();
        assert_eq!(document.text_at(&["T", "V"]), "a & b <");
    }
}
