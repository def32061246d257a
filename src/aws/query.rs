//! The protocols of the services that mfsre has no SDK client for: EC2 alone takes longer to build than everything else
//! here together, for a handful of calls.

use std::collections::BTreeMap;

use quick_xml::events::Event;
use serde_json::Value;

use super::signed::{Failure, Refused, Request};
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
            headers: vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
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
            headers: vec![("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)],
            body: body.to_string(),
        };
        self.signed(request, read_json).await
    }
}

fn read_xml(text: &str, success: bool) -> Result<Element, Failure> {
    let document = parse(text).map_err(|e| e.to_string());
    if success {
        return document.map_err(|e| Failure::Unreadable(format!("the answer is not XML: {e}")));
    }
    // What stands between does not answer in XML, as with 502.
    let document = document.unwrap_or_default();
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
    let message = at("Message").unwrap_or_else(|| text.to_owned());
    Err(Failure::Refused(Refused::new(at("Code"), message)))
}

fn read_json(text: &str, success: bool) -> Result<Value, Failure> {
    let answer = serde_json::from_str::<Value>(text).map_err(|e| e.to_string());
    if success {
        return answer.map_err(|e| Failure::Unreadable(format!("the answer is not JSON: {e}")));
    }
    let answer = answer.unwrap_or_default();
    let code = answer["__type"]
        .as_str()
        .map(|t| t.rsplit('#').next().unwrap_or(t).to_owned());
    let message = answer["message"]
        .as_str()
        .or(answer["Message"].as_str())
        .unwrap_or(text);
    Err(Failure::Refused(Refused::new(code, message.to_owned())))
}

fn parse(text: &str) -> Result<Element, quick_xml::Error> {
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
                    element.text.push_str(content.trim());
                }
            }
            Event::End(_) => {
                if let Some((name, element)) = stack.pop()
                    && let Some((_, parent)) = stack.last_mut()
                {
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
    }
}
