//! AWS as any program sees it: signed calls over HTTP, with the credentials that `sandbox status` gives.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::tools::RUNTIME;

/// An AWS account with one user.
pub(crate) struct Aws {
    endpoint: String,
    credentials: Credentials,
    http: reqwest::Client,
}

impl Aws {
    /// The emulator of a sandbox, by what `sandbox status` says.
    pub(crate) fn of(status: &Value) -> Self {
        let text = |key: &str| status[key].as_str().unwrap_or_else(|| panic!("{key} in {status}"));
        let _entered = RUNTIME.enter();
        Self {
            endpoint: text("aws_endpoint_url").trim_end_matches('/').to_owned(),
            credentials: Credentials::new(text("access_key_id"), text("secret_access_key"), None, None, "test"),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    /// The variables with which any AWS tool uses this account.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", self.credentials.access_key_id().to_owned()),
            ("AWS_SECRET_ACCESS_KEY", self.credentials.secret_access_key().to_owned()),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
        ]
    }

    fn send(&self, service: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let identity = self.credentials.clone().into();
        let mut settings = SigningSettings::default();
        if service == "s3" {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name(service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let url = format!("{}{path}", self.endpoint);
        let signable = SignableRequest::new(
            method,
            &url,
            headers.iter().copied(),
            SignableBody::Bytes(body.as_bytes()),
        )
        .unwrap();
        let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
        let mut request = self.http.request(method.parse().unwrap(), &url).body(body.to_owned());
        for (key, value) in headers.iter().copied().chain(instructions.headers()) {
            request = request.header(key, value);
        }
        RUNTIME.block_on(async {
            let response = request.send().await.unwrap_or_else(|e| panic!("{service} {path}: {e}"));
            (response.status().as_u16(), response.text().await.unwrap())
        })
    }

    /// A call of a service that speaks JSON; the error's code where it is refused.
    pub(crate) fn try_json(&self, service: &str, target: &str, body: &Value) -> Result<Value, String> {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        let (status, text) = self.send(service, "POST", "/", &headers, &body.to_string());
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{target}: {e}: {text}"));
        if status == 200 {
            return Ok(answer);
        }
        let code = answer["__type"].as_str().unwrap_or(&text);
        Err(code.rsplit('#').next().unwrap().to_owned())
    }

    pub(crate) fn json(&self, service: &str, target: &str, body: &Value) -> Value {
        self.try_json(service, target, body)
            .unwrap_or_else(|code| panic!("{target} {body}: {code}"))
    }

    /// A call of EKS; none where there is no such thing.
    pub(crate) fn eks(&self, path: &str) -> Option<Value> {
        let (status, text) = self.send("eks", "GET", path, &[], "");
        match status {
            200 => Some(serde_json::from_str(&text).unwrap()),
            404 => None,
            _ => panic!("{path}: {status} {text}"),
        }
    }

    /// A call of a service that speaks the Query protocol: status and answer.
    pub(crate) fn try_query(&self, service: &str, form: &[(&str, &str)]) -> (u16, String) {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        self.send(service, "POST", "/", &headers, &body)
    }

    /// Removes a cluster, as somebody does it by hand.
    pub(crate) fn delete_cluster(&self, name: &str) {
        let (status, text) = self.send("eks", "DELETE", &format!("/clusters/{name}"), &[], "");
        assert_eq!(status, 200, "{text}");
    }

    /// The text of every element `element` in the answer to a call of the Query protocol.
    pub(crate) fn query(&self, service: &str, form: &[(&str, &str)], element: &str) -> Vec<String> {
        let (status, text) = self.try_query(service, form);
        assert_eq!(status, 200, "{form:?}: {text}");
        let opening = format!("<{element}>");
        text.split(&opening)
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('<')?.0.trim().to_owned()))
            .collect()
    }

    pub(crate) fn iam(&self, action: &str, parameters: &[(&str, &str)], element: &str) -> Vec<String> {
        let head = [("Action", action), ("Version", "2010-05-08")];
        let mut found = self.query("iam", &[&head, parameters].concat(), element);
        found.sort();
        found
    }

    /// Ids of what carries the tag of the environment `name`.
    pub(crate) fn ec2(&self, action: &str, name: &str, element: &str) -> Vec<String> {
        let form = [
            ("Action", action),
            ("Version", "2016-11-15"),
            ("Filter.1.Name", "tag:mfsre:environment"),
            ("Filter.1.Value.1", name),
        ];
        let mut found = self.query("ec2", &form, element);
        found.sort();
        found.dedup();
        found
    }

    /// An object, or a part of a bucket's configuration; none where there is no such thing.
    pub(crate) fn s3(&self, path: &str) -> Option<String> {
        let (status, text) = self.send("s3", "GET", path, &[], "");
        match status {
            200 => Some(text),
            404 => None,
            _ => panic!("{path}: {status} {text}"),
        }
    }

    pub(crate) fn secret(&self, name: &str) -> Result<Value, String> {
        self.try_json(
            "secretsmanager",
            "secretsmanager.GetSecretValue",
            &json!({ "SecretId": name }),
        )
    }

    /// The versions of a secret.
    pub(crate) fn secret_versions(&self, name: &str) -> Vec<Value> {
        let body = json!({ "SecretId": name, "IncludeDeprecated": true });
        let answer = self.json("secretsmanager", "secretsmanager.ListSecretVersionIds", &body);
        answer["Versions"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn secrets(&self) -> Vec<String> {
        let answer = self.json("secretsmanager", "secretsmanager.ListSecrets", &json!({}));
        names(&answer["SecretList"], "Name")
    }

    pub(crate) fn parameter(&self, name: &str) -> Result<Value, String> {
        let body = json!({ "Name": name, "WithDecryption": true });
        let answer = self.try_json("ssm", "AmazonSSM.GetParameter", &body)?;
        Ok(answer["Parameter"].clone())
    }

    pub(crate) fn parameters(&self) -> Vec<String> {
        names(
            &self.json("ssm", "AmazonSSM.DescribeParameters", &json!({}))["Parameters"],
            "Name",
        )
    }

    pub(crate) fn queues(&self) -> Vec<String> {
        let answer = self.json("sqs", "AmazonSQS.ListQueues", &json!({}));
        let urls = answer["QueueUrls"].as_array().cloned().unwrap_or_default();
        urls.iter()
            .map(|u| u.as_str().unwrap().rsplit('/').next().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn rules(&self) -> Vec<String> {
        names(&self.json("events", "AWSEvents.ListRules", &json!({}))["Rules"], "Name")
    }

    /// The state of every KMS key, by id.
    pub(crate) fn keys(&self) -> Vec<(String, String)> {
        let list = self.json("kms", "TrentService.ListKeys", &json!({}));
        names(&list["Keys"], "KeyId")
            .into_iter()
            .map(|id| {
                let key = self.json("kms", "TrentService.DescribeKey", &json!({ "KeyId": id }));
                (id, key["KeyMetadata"]["KeyState"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    /// A token for `cluster`, as aws-iam-authenticator defines it, signed at `time`.
    pub(crate) fn cluster_token(&self, cluster: &str, time: SystemTime) -> String {
        let identity = self.credentials.clone().into();
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(60));
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name("sts")
            .time(time)
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let url = format!("{}/?Action=GetCallerIdentity&Version=2011-06-15", self.endpoint);
        let headers = [("x-k8s-aws-id", cluster)];
        let request = SignableRequest::new("GET", &url, headers.into_iter(), SignableBody::Bytes(b"")).unwrap();
        let (instructions, _) = sign(request, &parameters).unwrap().into_parts();
        let mut url: url::Url = url.parse().unwrap();
        for (key, value) in instructions.params() {
            url.query_pairs_mut().append_pair(key, value);
        }
        format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url.as_str()))
    }
}

fn names(list: &Value, key: &str) -> Vec<String> {
    let mut names: Vec<String> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| item[key].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}
