//! Argo CD's own API, logged in as its admin.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::tools::RUNTIME;

pub(crate) struct ArgoCd {
    url: String,
    token: String,
    http: reqwest::Client,
}

impl ArgoCd {
    /// Logs in; the HTTP status where that is refused.
    pub(crate) fn log_in(url: &str, password: &str) -> Result<Self, u16> {
        RUNTIME.block_on(async {
            let http = reqwest::Client::builder().no_proxy().build().unwrap();
            let body = json!({ "username": "admin", "password": password });
            let url = url.trim_end_matches('/').to_owned();
            let request = http.post(format!("{url}/api/v1/session")).json(&body);
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            if status != 200 {
                return Err(status);
            }
            let answer: Value = response.json().await.unwrap();
            let token = answer["token"].as_str().expect("a session token").to_owned();
            Ok(Self { url, token, http })
        })
    }

    fn get(&self, path: &str) -> Value {
        RUNTIME.block_on(async {
            let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
            let response = request.send().await.unwrap().error_for_status().unwrap();
            response.json().await.unwrap()
        })
    }

    /// The HTTP status with which the session is met.
    pub(crate) fn session_status(&self) -> u16 {
        RUNTIME.block_on(async {
            let request = self
                .http
                .get(format!("{}/api/v1/account", self.url))
                .bearer_auth(&self.token);
            request.send().await.unwrap().status().as_u16()
        })
    }

    /// Compares an Application with Git anew, past every cache; what is wrong with it, where something is.
    pub(crate) fn refresh_errors(&self, name: &str) -> Vec<String> {
        let application = self.get(&format!("/api/v1/applications/{name}?refresh=hard"));
        let conditions = application["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let errors = conditions
            .iter()
            .filter(|c| c["type"].as_str().is_some_and(|t| t.ends_with("Error")));
        errors.map(|c| c["message"].to_string()).collect()
    }

    /// Sync status and health of every Application.
    pub(crate) fn applications(&self) -> BTreeMap<String, (String, String)> {
        let answer = self.get("/api/v1/applications");
        let text = |value: &Value| value.as_str().unwrap_or("absent").to_owned();
        answer["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|a| {
                let status = &a["status"];
                let state = (text(&status["sync"]["status"]), text(&status["health"]["status"]));
                (text(&a["metadata"]["name"]), state)
            })
            .collect()
    }
}
