use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::access_entries::User;

/// The part of a TokenReview that kube-apiserver sends (Kubernetes API, `authentication.k8s.io/v1`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    #[serde(rename = "apiVersion")]
    _api_version: Version,
    pub(super) spec: Spec,
}

/// The only version, since a v1beta1 answer has another shape in details.
#[derive(Deserialize)]
enum Version {
    #[serde(rename = "authentication.k8s.io/v1")]
    V1,
}

#[derive(Deserialize)]
pub(super) struct Spec {
    pub(super) token: String,
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review {
    api_version: &'static str,
    kind: &'static str,
    status: Status,
}

#[derive(Serialize)]
struct Status {
    authenticated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct UserInfo {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<&'static str, Vec<String>>,
}

impl Review {
    pub(super) fn new(decision: Result<User, String>) -> Self {
        let status = match decision {
            Ok(user) => {
                let extra = BTreeMap::from([
                    ("accessKeyId", vec![user.access_key_id]),
                    ("arn", vec![user.arn]),
                    ("canonicalArn", vec![user.canonical_arn]),
                    ("principalId", vec![user.user_id]),
                    ("sessionName", vec![user.session_name]),
                ]);
                let user = UserInfo {
                    username: user.username,
                    uid: user.uid,
                    groups: user.groups,
                    extra,
                };
                Status {
                    authenticated: true,
                    user: Some(user),
                    error: None,
                }
            }
            Err(error) => Status {
                authenticated: false,
                user: None,
                error: Some(error),
            },
        };
        Self {
            api_version: "authentication.k8s.io/v1",
            kind: "TokenReview",
            status,
        }
    }
}
