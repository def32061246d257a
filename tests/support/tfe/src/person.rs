//! Somebody who uses the API as the web UI does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Somebody with a token.
#[derive(Clone)]
pub struct Person {
    client: reqwest::Client,
    base: String,
    /// Their token.
    pub token: String,
}

impl Person {
    pub(crate) fn new(host: &str, ca: &str, token: String) -> Self {
        let ca = reqwest::Certificate::from_pem(ca.as_bytes()).unwrap();
        Self {
            client: reqwest::Client::builder().tls_certs_only([ca]).build().unwrap(),
            base: format!("https://{host}/api/v2"),
            token,
        }
    }

    /// Calls the API; returns the status and the document.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request
                .header("content-type", crate::api::JSON_API)
                .body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Reads; expects it to be there.
    pub async fn get(&self, path: &str) -> Value {
        let (status, document) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "GET {path}: {document}");
        document["data"].clone()
    }

    /// A workspace of the organization `acme`.
    pub async fn workspace(&self, name: &str) -> Value {
        self.get(&format!("/organizations/acme/workspaces/{name}")).await
    }

    /// Makes a workspace in the organization `acme`; returns its id.
    pub async fn create_workspace(&self, name: &str, attributes: Value) -> String {
        let mut all = json!({ "name": name });
        for (key, value) in attributes.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        let body = json!({ "data": { "type": "workspaces", "attributes": all } });
        let (status, document) = self.call("POST", "/organizations/acme/workspaces", Some(body)).await;
        assert_eq!(status, 201, "{document}");
        document["data"]["id"].as_str().unwrap().to_owned()
    }

    /// Sets a variable of a workspace, by its id.
    pub async fn set_variable(&self, workspace: &str, category: &str, key: &str, value: &str, sensitive: bool) {
        let attributes = json!({ "key": key, "value": value, "category": category, "sensitive": sensitive });
        let body = json!({ "data": { "type": "vars", "attributes": attributes } });
        let (status, document) = self
            .call("POST", &format!("/workspaces/{workspace}/vars"), Some(body))
            .await;
        assert_eq!(status, 201, "{document}");
    }

    /// The state of a workspace of `acme`; `null` where it has none.
    pub async fn state(&self, workspace: &str) -> Value {
        let id = self.workspace(workspace).await["id"].as_str().unwrap().to_owned();
        let (status, document) = self
            .call("GET", &format!("/workspaces/{id}/current-state-version"), None)
            .await;
        if status == 404 {
            return Value::Null;
        }
        let url = document["data"]["attributes"]["hosted-state-download-url"]
            .as_str()
            .unwrap();
        let text = self.client.get(url).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The runs of a workspace of `acme`, newest first.
    pub async fn runs(&self, workspace: &str) -> Vec<Value> {
        let id = self.workspace(workspace).await["id"].as_str().unwrap().to_owned();
        self.get(&format!("/workspaces/{id}/runs"))
            .await
            .as_array()
            .unwrap()
            .clone()
    }

    /// Waits until the newest run of a workspace is in this state; returns it.
    pub async fn wait_for_run(&self, workspace: &str, status: &str) -> Value {
        let began = Instant::now();
        loop {
            let mut last = Value::Null;
            // The workspace may not be there yet.
            let path = format!("/organizations/acme/workspaces/{workspace}");
            if self.call("GET", &path, None).await.0 == 200
                && let Some(run) = self.runs(workspace).await.into_iter().next()
            {
                if run["attributes"]["status"] == status {
                    return run;
                }
                last = run;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "no run became {status}: {last}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `apply`, `discard` or `cancel`.
    pub async fn act(&self, run: &Value, action: &str) {
        let path = format!("/runs/{}/actions/{action}", run["id"].as_str().unwrap());
        let (status, document) = self.call("POST", &path, Some(json!({ "comment": "by hand" }))).await;
        assert_eq!(status, 202, "{action}: {document}");
    }

    /// Overrides the policies that soft-failed, whether they were checked or evaluated.
    pub async fn override_policies(&self, run: &Value) {
        for kind in ["policy-checks", "task-stages"] {
            let path = format!("/runs/{}/{kind}", run["id"].as_str().unwrap());
            for one in self.get(&path).await.as_array().unwrap() {
                let path = format!("/{kind}/{}/actions/override", one["id"].as_str().unwrap());
                let (status, document) = self.call("POST", &path, None).await;
                assert_eq!(status, 200, "{document}");
            }
        }
    }
}
