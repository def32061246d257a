//! Deploy keys as GitHub manages them.

use serde_json::{Value, json};

use super::http::{Answer, Request};

#[derive(Clone, Default)]
pub(crate) struct GitHost {
    pub(crate) keys: Vec<Value>,
    /// The repository is gone, or who asks may not see it.
    pub(crate) gone: bool,
    last: u64,
}

/// A public key without its comment.
pub(crate) fn key_data(public: &str) -> String {
    public.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

impl GitHost {
    /// Whether a public key opens the repository.
    pub(crate) fn knows(&self, public: &str) -> bool {
        self.keys.iter().any(|key| key["key"] == key_data(public).as_str())
    }

    pub(super) fn answer(&mut self, request: &Request) -> Answer {
        if self.gone {
            return Answer::json(404, &json!({ "message": "Not Found" }));
        }
        match request.method.as_str() {
            "GET" => Answer::json(200, &json!(self.keys)),
            "POST" => {
                let body = request.json();
                if self.knows(body["key"].as_str().unwrap_or_default()) {
                    let errors = json!([{ "message": "key is already in use" }]);
                    return Answer::json(422, &json!({ "message": "Validation Failed", "errors": errors }));
                }
                self.last += 1;
                let key = json!({
                    "id": self.last,
                    "title": body["title"],
                    "key": key_data(body["key"].as_str().unwrap_or_default()),
                    "read_only": body["read_only"],
                });
                self.keys.push(key.clone());
                Answer::json(201, &key)
            }
            _ => {
                let id = request.path().rsplit('/').next().unwrap_or_default();
                let before = self.keys.len();
                let id: Option<u64> = id.parse().ok();
                self.keys.retain(|key| id.is_none() || key["id"].as_u64() != id);
                Answer {
                    status: if self.keys.len() < before { 204 } else { 404 },
                    error: None,
                    body: String::new(),
                }
            }
        }
    }
}
