use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Uri};
use serde_json::Value;

use super::call::Call;
use crate::services::sigv4::uri_encode;

/// A request with what it calls; the body is empty until it was read.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) call: Call,
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

/// Whether the body is a form.
pub(super) fn is_form(parts: &Parts) -> bool {
    let kind = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    kind.trim_start()
        .to_ascii_lowercase()
        .starts_with("application/x-www-form-urlencoded")
}

/// The decoded pairs of a query string or a form, in order.
pub(super) fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(encoded).into_owned().collect()
}

impl Request {
    pub(super) fn new(parts: Parts, call: Call) -> Self {
        Self {
            call,
            parts,
            body: Bytes::new(),
        }
    }

    pub(super) fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The body, or null where it is not JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as a form.
    pub(super) fn form(&self) -> Vec<(String, String)> {
        pairs(&self.body)
    }

    /// With another form as its body.
    pub(super) fn with_form(self, form: &[(String, String)]) -> Self {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(form);
        let text = text.finish();
        self.with_body(text)
    }

    /// The decoded parameters of the query string.
    pub(super) fn query(&self) -> Vec<(String, String)> {
        pairs(self.parts.uri.query().unwrap_or_default().as_bytes())
    }

    /// The first parameter of this name in the query string.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        self.query()
            .into_iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value)
    }

    /// A decoded segment of the path, counted from 0.
    pub(super) fn segment(&self, index: usize) -> String {
        let segment = self.parts.uri.path().split('/').nth(index + 1).unwrap_or_default();
        // What has a meaning in a form has none in a path.
        let pairs = pairs(
            segment
                .replace('+', "%2B")
                .replace('=', "%3D")
                .replace('&', "%26")
                .as_bytes(),
        );
        pairs.into_iter().next().map(|(name, _)| name).unwrap_or_default()
    }

    /// A GET of another path by the same caller.
    pub(super) fn get(&self, segments: &[&str]) -> Self {
        self.to(Method::GET, segments, Bytes::new())
    }

    /// A request about another path by the same caller.
    pub(super) fn to(&self, method: Method, segments: &[&str], body: impl Into<Bytes>) -> Self {
        let mut request = self.clone().with_body(body);
        let path: String = segments
            .iter()
            .map(|segment| format!("/{}", uri_encode(segment)))
            .collect();
        request.parts.method = method;
        // Percent-encoded segments always make a path.
        request.parts.uri = path.parse().unwrap_or_default();
        request
    }

    /// A call of EC2 by the same caller.
    pub(super) fn ec2(&self, action: &str, parameters: &[(String, String)]) -> Self {
        let fixed =
            [("Action", action), ("Version", "2016-11-15")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut request = self.clone().with_form(&[&fixed[..], parameters].concat());
        request.parts.method = Method::POST;
        request.parts.uri = Uri::from_static("/");
        request.parts.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        // The emulator finds the service by the credential scope and does not check the signature.
        let authorization = request
            .parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|header| header.to_str().ok());
        let scope = format!("/{}/aws4_request", self.call.service);
        let authorization = authorization.unwrap_or_default().replace(&scope, "/ec2/aws4_request");
        if let Ok(header) = HeaderValue::from_str(&authorization) {
            request.parts.headers.insert(AUTHORIZATION, header);
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request as HttpRequest;

    use super::super::call::Call;
    use super::Request;

    #[test]
    fn segments_are_decoded() {
        let (parts, ()) = HttpRequest::get("/clusters/a+b=c&d/access-entries/arn%3Aaws%2Fx")
            .body(())
            .unwrap()
            .into_parts();
        let request = Request::new(parts.clone(), Call::read(&parts, None));
        assert_eq!(
            [0, 1, 3, 4].map(|index| request.segment(index)),
            ["clusters", "a+b=c&d", "arn:aws/x", ""]
        );
        assert_eq!(request.get(&["clusters", "a b"]).parts.uri, "/clusters/a%20b");
    }

    #[test]
    fn a_form_keeps_its_order() {
        let (parts, ()) = HttpRequest::post("/").body(()).unwrap().into_parts();
        let request = Request::new(parts.clone(), Call::read(&parts, None)).with_body("b=1%262&a=&b=x+y");
        let form = request.form();
        assert_eq!(form.len(), 3);
        assert_eq!(request.with_form(&form).body, "b=1%262&a=&b=x+y");
    }
}
