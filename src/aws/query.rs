//! Signed calls of services for which the SDK's client is not worth its minutes of compile time: EC2 alone takes longer
//! to build than everything else here together, for a handful of calls.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use quick_xml::events::Event;

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
        let (status, text) = self
            .signed(
                service.name,
                service.global,
                call,
                body,
                &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
            )
            .await?;
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
        let (status, text) = self.signed(service, false, call, body.to_string(), &headers).await?;
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

    async fn signed(
        &self,
        service: &str,
        global: bool,
        call: &'static str,
        body: String,
        headers: &[(&'static str, &str)],
    ) -> Result<(reqwest::StatusCode, String), AwsError> {
        let failed = |e: &dyn std::fmt::Display| AwsError::new(call, None, e.to_string());
        let identity = self.credentials(call).await?.into();
        let region = if global {
            "us-east-1".to_owned()
        } else {
            self.region.to_string()
        };
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&region)
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| failed(&e))?
            .into();
        let url = format!("{}/", self.endpoint(service, global).trim_end_matches('/'));
        let signable = SignableRequest::new(
            "POST",
            &url,
            headers.iter().map(|(k, v)| (*k, *v)),
            SignableBody::Bytes(body.as_bytes()),
        )
        .map_err(|e| failed(&e))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|e| failed(&e))?.into_parts();
        let mut attempt = 0_u32;
        loop {
            let mut request = self.http.post(&url);
            for (key, value) in headers {
                request = request.header(*key, *value);
            }
            for (key, value) in instructions.headers() {
                request = request.header(key, value);
            }
            let response = request.body(body.clone()).send().await.map_err(|e| failed(&e))?;
            let status = response.status();
            let text = response.text().await.map_err(|e| failed(&e))?;
            // Reads, and removals by id: repeating them is safe. The signature holds for five minutes.
            attempt += 1;
            let transient = status.is_server_error()
                || status.as_u16() == 429
                || text.contains("Throttling")
                || text.contains("RequestLimitExceeded");
            if !transient || attempt >= 5 {
                return Ok((status, text));
            }
            tokio::time::sleep(std::time::Duration::from_millis(200 << attempt)).await;
        }
    }
}

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
