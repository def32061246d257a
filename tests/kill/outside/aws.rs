//! Secrets Manager and the Parameter Store with the rules that a rotation rests on; of the other services what mfsre asks.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::http::{Answer, Request};
use super::terraform::Infrastructure;
use crate::machine::ENVIRONMENT;

#[derive(Clone, Default)]
pub(crate) struct Aws {
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// Type and values, oldest first.
    pub(crate) parameters: BTreeMap<String, (String, Vec<String>)>,
    /// Volumes that a controller in the cluster has made.
    pub(crate) volumes: Vec<String>,
    /// Nothing was put for so many seconds.
    pub(crate) silent: i64,
    /// How long ago the password was made, in seconds.
    pub(crate) age: i64,
}

#[derive(Clone, Default)]
pub(crate) struct Secret {
    pub(crate) versions: Vec<Version>,
    pub(crate) deleted: bool,
}

#[derive(Clone, PartialEq)]
pub(crate) struct Version {
    pub(crate) id: String,
    pub(crate) value: String,
    pub(crate) labels: Vec<String>,
}

fn refuse(code: &str, message: &str) -> Answer {
    Answer::json(400, &json!({ "__type": code, "message": message }))
}

impl Secret {
    pub(crate) fn labelled(&self, label: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.labels.iter().any(|l| l == label))
    }

    fn move_label(&mut self, label: &str, to: Option<&str>) {
        for version in &mut self.versions {
            version.labels.retain(|l| l != label);
            if Some(version.id.as_str()) == to {
                version.labels.push(label.to_owned());
            }
        }
    }
}

impl Aws {
    /// What a call with credentials that have run out gets, as each protocol has it.
    pub(super) fn expired(request: &Request) -> Answer {
        let message = "The security token included in the request is expired";
        let signed_for = |service: &str| request.header("authorization").is_some_and(|a| a.contains(service));
        if request.header("x-amz-target").is_some() || signed_for("/eks/") {
            let body = json!({ "__type": "ExpiredTokenException", "message": message });
            let mut answer = Answer::json(400, &body);
            answer.error = Some("ExpiredTokenException");
            return answer;
        }
        let body = if signed_for("/ec2/") {
            "<Response><Errors><Error><Code>RequestExpired</Code><Message>Request has expired.</Message></Error></Errors></Response>".to_owned()
        } else {
            format!(
                "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>{message}</Message></Error></ErrorResponse>"
            )
        };
        Answer {
            status: 403,
            ..Answer::xml(body)
        }
    }

    pub(super) fn answer(&mut self, request: &Request, infrastructure: &Infrastructure, port: u16) -> Answer {
        let path = request.path();
        if let Some(target) = request.header("x-amz-target") {
            let (service, action) = target.split_once('.').unwrap_or((target, ""));
            return match service {
                "secretsmanager" => self.secrets_manager(action, &request.json()),
                "AmazonSSM" => self.parameter_store(action, &request.json()),
                _ => Answer::json(200, &json!({ "ResourceTagMappingList": [] })),
            };
        }
        if path == "/cluster-versions" {
            return Answer::json(200, &json!({ "clusterVersions": [] }));
        }
        if let Some(name) = path.strip_prefix("/clusters/") {
            return cluster(name, infrastructure, port);
        }
        let action = request.parameter("Action").unwrap_or_default();
        let volumes = || {
            let tag = format!(
                "<tagSet><item><key>kubernetes.io/cluster/{ENVIRONMENT}</key><value>owned</value></item></tagSet>"
            );
            let item = |id: &String| format!("<item><volumeId>{id}</volumeId><status>available</status>{tag}</item>");
            let items: String = self.volumes.iter().map(item).collect();
            format!("<volumeSet>{items}</volumeSet>")
        };
        let inner = match action.as_str() {
            "DescribeVolumes" => &volumes(),
            "DeleteVolume" => {
                let id = request.parameter("VolumeId");
                self.volumes.retain(|volume| Some(volume) != id.as_ref());
                "<return>true</return>"
            }
            "GetCallerIdentity" => {
                "<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/alice</Arn><Account>123456789012</Account></GetCallerIdentityResult>"
            }
            "DescribeVpcs" if !infrastructure.is_gone() => "<vpcSet><item><vpcId>vpc-1</vpcId></item></vpcSet>",
            _ => "",
        };
        Answer::xml(format!("<{action}Response>{inner}</{action}Response>"))
    }

    fn secrets_manager(&mut self, action: &str, body: &Value) -> Answer {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let name = if action == "CreateSecret" {
            text("Name")
        } else {
            text("SecretId")
        };
        if action == "CreateSecret" {
            return match self.secrets.get(&name) {
                Some(secret) if secret.deleted => {
                    refuse("InvalidRequestException", "the secret is scheduled for deletion")
                }
                Some(_) => refuse("ResourceExistsException", "the secret exists"),
                None => {
                    let version = Version {
                        id: text("ClientRequestToken"),
                        value: text("SecretString"),
                        labels: vec!["AWSCURRENT".into()],
                    };
                    self.secrets.insert(
                        name.clone(),
                        Secret {
                            versions: vec![version],
                            deleted: false,
                        },
                    );
                    Answer::json(200, &json!({ "Name": name }))
                }
            };
        }
        let Some(secret) = self.secrets.get_mut(&name) else {
            return refuse("ResourceNotFoundException", "there is no such secret");
        };
        if secret.deleted && matches!(action, "GetSecretValue" | "PutSecretValue" | "UpdateSecretVersionStage") {
            return refuse("InvalidRequestException", "the secret is scheduled for deletion");
        }
        match action {
            "GetSecretValue" => {
                let label = body["VersionStage"].as_str().unwrap_or("AWSCURRENT");
                let found = match body["VersionId"].as_str() {
                    Some(id) => secret.versions.iter().find(|v| v.id == id),
                    None => secret.labelled(label),
                };
                match found {
                    Some(v) => Answer::json(
                        200,
                        &json!({ "Name": name, "VersionId": v.id, "SecretString": v.value, "CreatedDate": Timestamp::now().as_second() - self.age }),
                    ),
                    None => refuse("ResourceNotFoundException", "there is no such version"),
                }
            }
            "PutSecretValue" => {
                let id = text("ClientRequestToken");
                match secret.versions.iter().find(|v| v.id == id) {
                    Some(version) if version.value != text("SecretString") => {
                        return refuse("ResourceExistsException", "the version exists");
                    }
                    Some(_) => {}
                    None => secret.versions.push(Version {
                        id: id.clone(),
                        value: text("SecretString"),
                        labels: Vec::new(),
                    }),
                }
                for label in body["VersionStages"].as_array().into_iter().flatten() {
                    secret.move_label(label.as_str().unwrap(), Some(&id));
                }
                Answer::json(200, &json!({ "VersionId": id }))
            }
            "UpdateSecretVersionStage" => {
                let label = text("VersionStage");
                let holder = secret.labelled(&label).map(|v| v.id.clone());
                if holder.as_deref() != body["RemoveFromVersionId"].as_str() {
                    return refuse("InvalidParameterException", "the label is at another version");
                }
                secret.move_label(&label, body["MoveToVersionId"].as_str());
                if label == "AWSCURRENT" {
                    secret.move_label("AWSPREVIOUS", holder.as_deref());
                }
                Answer::json(200, &json!({ "Name": name }))
            }
            "DescribeSecret" => {
                let mut described = json!({ "Name": name });
                if secret.deleted {
                    described["DeletedDate"] = json!(Timestamp::now().as_second());
                }
                Answer::json(200, &described)
            }
            "DeleteSecret" => {
                if body["ForceDeleteWithoutRecovery"] == true {
                    self.secrets.remove(&name);
                } else {
                    secret.deleted = true;
                }
                Answer::json(
                    200,
                    &json!({ "Name": name, "DeletionDate": Timestamp::now().as_second() }),
                )
            }
            "RestoreSecret" => {
                secret.deleted = false;
                Answer::json(200, &json!({ "Name": name }))
            }
            _ => refuse("UnknownOperationException", action),
        }
    }

    fn parameter_store(&mut self, action: &str, body: &Value) -> Answer {
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        let missing = || refuse("ParameterNotFound", "there is no such parameter");
        let put = Timestamp::now().as_second() - self.silent;
        let shown = |kind: &str, value: &str, version: usize| json!({ "Name": name, "Type": kind, "Value": value, "Version": version, "LastModifiedDate": put });
        match action {
            "GetParameter" => match self.parameters.get(&name) {
                Some((kind, values)) => {
                    let value = values.last().unwrap();
                    Answer::json(200, &json!({ "Parameter": shown(kind, value, values.len()) }))
                }
                None => missing(),
            },
            "GetParameterHistory" => match self.parameters.get(&name) {
                Some((kind, values)) => {
                    let all: Vec<Value> = values.iter().enumerate().map(|(n, v)| shown(kind, v, n + 1)).collect();
                    Answer::json(200, &json!({ "Parameters": all }))
                }
                None => missing(),
            },
            "PutParameter" => {
                if self.parameters.contains_key(&name) && body["Overwrite"] != true {
                    return refuse("ParameterAlreadyExists", "the parameter exists");
                }
                let kind = body["Type"].as_str().unwrap_or_default().to_owned();
                let (_, values) = self.parameters.entry(name).or_insert((kind, Vec::new()));
                values.push(body["Value"].as_str().unwrap_or_default().to_owned());
                Answer::json(200, &json!({ "Version": values.len() }))
            }
            "DeleteParameter" => match self.parameters.remove(&name) {
                Some(_) => Answer::json(200, &json!({})),
                None => missing(),
            },
            _ => refuse("UnknownOperationException", action),
        }
    }
}

fn cluster(name: &str, infrastructure: &Infrastructure, port: u16) -> Answer {
    if name != ENVIRONMENT || infrastructure.is_gone() {
        let mut answer = Answer::json(404, &json!({ "message": "No cluster found" }));
        answer.error = Some("ResourceNotFoundException");
        return answer;
    }
    let cluster = json!({
        "name": name,
        "status": "ACTIVE",
        "version": "1.35",
        "endpoint": format!("http://127.0.0.1:{port}"),
        "certificateAuthority": { "data": STANDARD.encode(certificate()) },
    });
    Answer::json(200, &json!({ "cluster": cluster }))
}

/// An authority's certificate; nothing is signed with it, because everything is on loopback without TLS.
fn certificate() -> &'static str {
    static PEM: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .unwrap()
            .cert
            .pem()
    });
    &PEM
}
