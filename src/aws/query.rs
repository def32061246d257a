//! The protocols in which a call is a form or a JSON document, for the services that mfsre has no SDK client for: EC2 alone
//! takes longer to build than everything else here together, for a handful of calls.

use std::collections::BTreeMap;

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use serde_json::Value;

use super::signed::{Answer, Failure, Refused, Request};
use super::{Aws, AwsError, Call};

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
    /// One endpoint for all regions of a partition.
    pub(super) global: bool,
}

impl Service {
    /// A call of its API by this protocol.
    fn request(&self, call: Call, parameters: &[(String, String)]) -> Request {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", call.operation())
            .append_pair("Version", self.version);
        for (key, value) in parameters {
            form.append_pair(key, value);
        }
        Request {
            service: self.name,
            global: self.global,
            call,
            method: "POST",
            path: "/".to_owned(),
            headers: vec![(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8".to_owned(),
            )],
            body: form.finish(),
        }
    }
}

impl Aws {
    /// Calls an action of a service that speaks the Query protocol.
    pub(super) async fn query(
        &self,
        service: &Service,
        call: Call,
        parameters: &[(String, String)],
    ) -> Result<Element, AwsError> {
        self.signed(service.request(call, parameters), read_xml).await
    }

    /// Calls an action of a service that speaks JSON 1.1.
    pub(super) async fn json_call(
        &self,
        service: &'static str,
        target: &'static str,
        call: Call,
        body: &Value,
    ) -> Result<Value, AwsError> {
        let request = Request {
            service,
            global: false,
            call,
            method: "POST",
            path: "/".to_owned(),
            headers: vec![
                ("content-type", "application/x-amz-json-1.1".to_owned()),
                ("x-amz-target", target.to_owned()),
            ],
            body: body.to_string(),
        };
        self.signed(request, read_json).await
    }
}

/// An XML answer; its root is the only child of what is returned.
pub(super) fn read_xml(answer: &Answer<'_>) -> Result<Element, Failure> {
    let document = parse(answer.text).map_err(|e| e.to_string());
    if answer.is_success() {
        return document.map_err(|e| Failure::Unreadable(format!("the answer is not XML: {e}")));
    }
    // What stands between does not answer in XML, as with 502.
    let document = document.unwrap_or_default();
    let at = |leaf: &str| {
        [
            &["ErrorResponse", "Error", leaf][..],
            &["Response", "Errors", "Error", leaf][..],
            // S3
            &["Error", leaf][..],
        ]
        .iter()
        .map(|p| document.text_at(p).to_owned())
        .find(|t| !t.is_empty())
    };
    let message = at("Message").unwrap_or_else(|| answer.text.to_owned());
    Err(Failure::Refused(Refused::new(at("Code"), message)))
}

fn read_json(answer: &Answer<'_>) -> Result<Value, Failure> {
    let document = serde_json::from_str::<Value>(answer.text).map_err(|e| e.to_string());
    if answer.is_success() {
        return document.map_err(|e| Failure::Unreadable(format!("the answer is not JSON: {e}")));
    }
    let document = document.unwrap_or_default();
    let code = document["__type"]
        .as_str()
        .map(|t| t.rsplit('#').next().unwrap_or(t).to_owned());
    let message = document["message"]
        .as_str()
        .or(document["Message"].as_str())
        .unwrap_or(answer.text);
    Err(Failure::Refused(Refused::new(code, message.to_owned())))
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
