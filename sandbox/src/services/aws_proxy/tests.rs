//! The proxy in front of recorded answers of the emulator.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request as AxumRequest;
use axum::http::{HeaderMap, Request as HttpRequest, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::call::Call;
use super::request::Request;
use super::{ClusterEndpoint, Config, serve};
use crate::services::Credentials;
use crate::services::http::Upstream;

/// A signed request as a rule gets it.
pub(super) fn request(service: &str, method: &str, target: &str, body: &str) -> Request {
    let request = HttpRequest::builder()
        .method(method)
        .uri(target)
        .header("authorization", authorization("test", service));
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let body = Bytes::copy_from_slice(body.as_bytes());
    let call = Call::read(&parts, Some(&body));
    Request::new(parts, call).with_body(body)
}

fn authorization(key: &str, service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={key}/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}

/// What the emulator was sent.
#[derive(Debug, Clone)]
struct Received {
    method: String,
    target: String,
    headers: HeaderMap,
    body: String,
}

/// A proxy with an emulator behind it.
pub(super) struct Fixture {
    folder: TempDir,
    stop: watch::Sender<bool>,
    emulator: SocketAddr,
    pub(super) credentials: Credentials,
    client: Upstream,
    received: Arc<Mutex<Vec<Received>>>,
}

/// An answer as a client gets it.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answered {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Fixture {
    /// In front of an emulator that answers like this.
    async fn start(answer: impl Fn(&Received) -> Response + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let emulator = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&received);
        let router = Router::new().fallback(move |request: AxumRequest| async move {
            let (parts, body) = request.into_parts();
            let body = String::from_utf8_lossy(&to_bytes(body, 64 << 20).await.unwrap()).into_owned();
            let received = Received {
                method: parts.method.to_string(),
                target: parts.uri.to_string(),
                headers: parts.headers,
                body,
            };
            let response = answer(&received);
            record.lock().unwrap().push(received);
            response
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().unwrap();
        Self::in_front_of(emulator, folder, received).await
    }

    async fn in_front_of(emulator: SocketAddr, folder: TempDir, received: Arc<Mutex<Vec<Received>>>) -> Self {
        let credentials = Credentials::new("test", "secret");
        let config = Config {
            emulator,
            credentials: credentials.clone(),
            cluster: ClusterEndpoint {
                name: "demo".to_owned(),
                url: "https://127.0.0.1:6443".to_owned(),
                certificate_authority_pem: "-----BEGIN CERTIFICATE-----\nx\n".to_owned(),
            },
            memory: folder.path().join("memory.json"),
            request_log: folder.path().join("requests.jsonl"),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, shutdown) = watch::channel(false);
        tokio::spawn(serve(listener, config, shutdown));
        Self {
            folder,
            stop,
            emulator,
            credentials,
            client: Upstream::new(address),
            received,
        }
    }

    /// In front of an emulator that somebody else runs.
    pub(super) async fn of(emulator: SocketAddr) -> Self {
        Self::in_front_of(emulator, tempfile::tempdir().unwrap(), Arc::default()).await
    }

    /// The same with a proxy that was started anew.
    pub(super) async fn restarted(self) -> Self {
        let _ = self.stop.send(true);
        Self::in_front_of(self.emulator, self.folder, self.received).await
    }

    pub(super) async fn call(
        &self,
        service: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answered {
        let mut request = HttpRequest::builder().method(method).uri(target);
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", authorization("test", service));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .client
            .send(request.body(Body::from(body.to_owned())).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 64 << 20).await.unwrap();
        Answered {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    pub(super) async fn eks(&self, method: &str, target: &str, body: &Value) -> Answered {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.call("eks", method, target, &[("content-type", "application/json")], &body)
            .await
    }

    pub(super) async fn ssm(&self, operation: &str, body: &Value) -> Answered {
        let headers = [
            ("x-amz-target", &*format!("AmazonSSM.{operation}")),
            ("content-type", "application/x-amz-json-1.1"),
        ];
        self.call("ssm", "POST", "/", &headers, &body.to_string()).await
    }

    pub(super) async fn secret(&self, operation: &str, body: &Value) -> Answered {
        let headers = [
            ("x-amz-target", &*format!("secretsmanager.{operation}")),
            ("content-type", "application/x-amz-json-1.1"),
        ];
        self.call("secretsmanager", "POST", "/", &headers, &body.to_string())
            .await
    }

    pub(super) async fn query(&self, service: &str, form: &str) -> Answered {
        self.call(
            service,
            "POST",
            "/",
            &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
            form,
        )
        .await
    }

    /// What the proxy keeps.
    pub(super) fn memory(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder.path().join("memory.json")).unwrap()).unwrap()
    }

    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("requests.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn last(&self) -> Received {
        self.received
            .lock()
            .unwrap()
            .last()
            .cloned()
            .expect("the emulator was asked nothing")
    }

    fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }
}

fn ok(body: impl Into<String>) -> Response {
    body.into().into_response()
}

#[tokio::test]
async fn what_no_rule_concerns_passes_as_it_came() {
    let proxy = Fixture::start(|_| {
        (
            StatusCode::CREATED,
            [("x-amz-request-id", "7"), ("etag", "\"x\"")],
            "body",
        )
            .into_response()
    })
    .await;
    let target = "/bucket//a%2Fb/../c%20d+e?list-type=2&prefix=%C3%BC&empty=&flag";
    let headers = [
        ("host", "bucket.s3.amazonaws.com"),
        ("x-amz-meta-a", "1"),
        ("content-type", "text/plain"),
        ("accept-encoding", "gzip"),
    ];
    let answer = proxy.call("s3", "PUT", target, &headers, "content").await;
    assert_eq!((answer.status, answer.body.as_str()), (201, "body"));
    assert_eq!(
        (&answer.headers["x-amz-request-id"], &answer.headers["etag"]),
        (&"7".parse().unwrap(), &"\"x\"".parse().unwrap())
    );

    let received = proxy.last();
    assert_eq!(
        (
            received.method.as_str(),
            received.target.as_str(),
            received.body.as_str()
        ),
        ("PUT", target, "content")
    );
    for (name, value) in headers {
        assert_eq!(received.headers[name], value);
    }
    assert_eq!(received.headers["authorization"], authorization("test", "s3"));
}

#[tokio::test]
async fn a_large_body_passes_and_is_not_held_back() {
    let proxy = Fixture::start(|received| ok(received.body.len().to_string())).await;
    let large = "x".repeat(16 << 20);
    assert_eq!(
        proxy.call("s3", "PUT", "/bucket/key", &[], &large).await.body,
        large.len().to_string()
    );

    let endless = Fixture::start(|_| {
        let first = futures_util::stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"first")) });
        Body::from_stream(first.chain(futures_util::stream::pending())).into_response()
    })
    .await;
    let request = HttpRequest::get("/bucket/key").header("authorization", authorization("test", "s3"));
    let response = endless.client.send(request.body(Body::empty()).unwrap()).await.unwrap();
    let mut stream = response.into_body().into_data_stream();
    let first = tokio::time::timeout(Duration::from_secs(5), stream.next())
        .await
        .expect("held back");
    assert_eq!(first.unwrap().unwrap(), "first");
}

#[tokio::test]
async fn a_form_or_a_rule_s_body_that_is_too_long_is_refused() {
    let proxy = Fixture::start(|_| ok("{}")).await;
    let large = "x".repeat(5 << 20);
    assert_eq!(
        proxy.query("iam", &format!("Action=CreateUser&x={large}")).await.status,
        413
    );
    assert_eq!(
        proxy
            .eks("POST", "/clusters/demo/node-groups", &json!(large))
            .await
            .status,
        413
    );
    assert_eq!(proxy.count(), 0);
}

#[tokio::test]
async fn an_unknown_access_key_is_refused_as_each_protocol_does() {
    let proxy = Fixture::start(|_| ok("{}")).await;
    let form = "application/x-www-form-urlencoded";
    for (service, headers, body, status, code) in [
        (
            "iam",
            vec![("content-type", form)],
            "Action=ListRoles",
            403,
            "<Code>InvalidClientTokenId</Code>",
        ),
        (
            "sts",
            vec![("content-type", form)],
            "Action=GetCallerIdentity",
            403,
            "<Code>InvalidClientTokenId</Code>",
        ),
        (
            "ec2",
            vec![("content-type", form)],
            "Action=DescribeVpcs",
            401,
            "<Code>AuthFailure</Code>",
        ),
        (
            "ssm",
            vec![("x-amz-target", "AmazonSSM.GetParameter")],
            "{}",
            400,
            "\"__type\":\"UnrecognizedClientException\"",
        ),
        ("s3", vec![], "", 403, "<Code>InvalidAccessKeyId</Code>"),
    ] {
        let signature = authorization("AKIAOTHER", service);
        let answer = proxy
            .call(
                service,
                "POST",
                "/",
                &[&headers[..], &[("authorization", &signature)]].concat(),
                body,
            )
            .await;
        assert_eq!(answer.status, status, "{service}");
        assert!(answer.body.contains(code), "{service}: {}", answer.body);
    }
    let signature = authorization("AKIAOTHER", "eks");
    let answer = proxy
        .call("eks", "GET", "/clusters/demo", &[("authorization", &signature)], "")
        .await;
    assert_eq!(
        (answer.status, &answer.headers["x-amzn-errortype"]),
        (403, &"UnrecognizedClientException".parse().unwrap())
    );
    let presigned = "/?Action=GetCallerIdentity&X-Amz-Credential=AKIAOTHER%2F20260101%2Feu-west-1%2Fsts%2Faws4_request";
    assert_eq!(
        proxy
            .call("-", "GET", presigned, &[("authorization", "")], "")
            .await
            .status,
        403
    );
    assert_eq!(proxy.count(), 0);
    assert_eq!(
        proxy
            .call("-", "GET", "/_ministack/health", &[("authorization", "")], "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_key_that_the_emulator_issued_is_valid_until_it_is_deleted() {
    let proxy = Fixture::start(|received| {
        let keys =
            "<Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s&amp;t</SecretAccessKey></Credentials>";
        ok(if received.body.contains("AssumeRole") {
            keys
        } else {
            "<x/>"
        })
    })
    .await;
    assert_eq!(proxy.query("sts", "Action=AssumeRole&RoleArn=x").await.status, 200);
    assert_eq!(proxy.credentials.secret("ASIAROLE").as_deref(), Some("s&t"));
    proxy.query("iam", "Action=DeleteAccessKey&AccessKeyId=ASIAROLE").await;
    proxy.query("iam", "Action=DeleteAccessKey&AccessKeyId=test").await;
    assert_eq!(
        (proxy.credentials.knows("ASIAROLE"), proxy.credentials.knows("test")),
        (false, true)
    );
}

#[tokio::test]
async fn an_emulator_that_is_gone_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Fixture::in_front_of(closed, tempfile::tempdir().unwrap(), Arc::default()).await;
    let answer = proxy.query("iam", "Action=ListRoles").await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.contains("no answer from the AWS emulator"),
        "{}",
        answer.body
    );
    assert_eq!(proxy.eks("GET", "/clusters/demo", &Value::Null).await.status, 503);
}

#[tokio::test]
async fn the_log_names_calls_without_their_bodies() {
    let proxy = Fixture::start(|_| ok("{\"Parameter\":{\"Value\":\"answered-secret\"}}")).await;
    proxy.ssm("PutParameter", &json!({ "Value": "sent-secret" })).await;
    proxy.query("iam", "Action=CreateRole&x=sent-secret").await;
    proxy.eks("GET", "/cluster-versions", &Value::Null).await;
    let log = proxy.log();
    let fields =
        |entry: &Value| ["service", "operation", "rule"].map(|name| entry[name].as_str().unwrap_or("-").to_owned());
    assert_eq!(fields(&log[0]), ["ssm", "PutParameter", "-"]);
    assert_eq!(fields(&log[1]), ["iam", "CreateRole", "-"]);
    assert_eq!(
        fields(&log[2]),
        ["eks", "DescribeClusterVersions", "eks_cluster_versions"]
    );
    assert_eq!(log[0]["status"], 200);
    assert!(log[0]["duration_ms"].is_u64());
    assert!(!format!("{log:?}").contains("secret"));
}

/// A recorded cluster and node group.
fn recorded_eks(received: &Received) -> Response {
    let path = received.target.split('?').next().unwrap();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let asked: Value = serde_json::from_str(&received.body).unwrap_or_default();
    match (received.method.as_str(), segments.as_slice()) {
        ("POST", [""]) => ok(
            "<r><launchTemplates><item><launchTemplateId>lt-1</launchTemplateId><launchTemplateName>nodes</launchTemplateName></item></launchTemplates></r>",
        ),
        (_, ["clusters"]) => ok(json!({ "cluster": cluster(asked["name"].as_str().unwrap()) }).to_string()),
        (_, ["clusters", "none", ..]) => (StatusCode::NOT_FOUND, "{\"message\":\"none\"}").into_response(),
        (_, ["clusters", name]) => ok(json!({ "cluster": cluster(name) }).to_string()),
        (_, ["clusters", _, "node-groups", ..]) => {
            let group = json!({
                "nodegroupName": "a", "clusterName": "demo", "version": "1.34", "releaseVersion": "", "diskSize": 20,
                "labels": { "x": "1" }, "taints": [], "scalingConfig": { "minSize": 1, "maxSize": 2, "desiredSize": 1 },
                "resources": { "autoScalingGroups": [], "remoteAccessSecurityGroup": "sg-0" },
            });
            ok(json!({ "nodegroup": group }).to_string())
        }
        (_, ["clusters", _, "addons", _, "update"]) => {
            ok(json!({ "update": { "id": "1-2", "status": "Successful" } }).to_string())
        }
        _ => (StatusCode::BAD_REQUEST, "{}").into_response(),
    }
}

fn cluster(name: &str) -> Value {
    json!({
        "name": name, "endpoint": "https://localhost:16443", "certificateAuthority": { "data": "TU9DSy1DQS1DRVJUSUZJQ0FURQ==" },
        "version": "1.34", "status": "ACTIVE", "accessConfig": { "authenticationMode": "API" },
        "resourcesVpcConfig": { "endpointPublicAccess": true, "publicAccessCidrs": ["0.0.0.0/0"] },
    })
}

#[tokio::test]
async fn a_cluster_has_the_sandbox_s_endpoint_and_authority() {
    let proxy = Fixture::start(recorded_eks).await;
    for (method, target) in [
        ("POST", "/clusters"),
        ("GET", "/clusters/demo"),
        ("DELETE", "/clusters/demo"),
    ] {
        let body = proxy.eks(method, target, &json!({ "name": "demo" })).await.json();
        assert_eq!(body["cluster"]["endpoint"], "https://127.0.0.1:6443", "{method}");
        assert_eq!(
            body["cluster"]["certificateAuthority"]["data"], "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCngK",
            "{method}"
        );
    }
    let other = proxy.eks("GET", "/clusters/demo-2", &Value::Null).await.json();
    assert_eq!(
        other["cluster"]["endpoint"], "https://localhost:16443",
        "no control plane of ours stands behind that one"
    );
    assert_eq!(proxy.eks("GET", "/clusters/none", &Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_cluster_keeps_its_upgrade_policy_and_its_changes() {
    let proxy = Fixture::start(recorded_eks).await;
    proxy
        .eks(
            "POST",
            "/clusters",
            &json!({ "name": "demo", "deletionProtection": true }),
        )
        .await;
    let described =
        async |proxy: &Fixture| proxy.eks("GET", "/clusters/demo", &Value::Null).await.json()["cluster"].take();
    let cluster = described(&proxy).await;
    assert_eq!(
        cluster["upgradePolicy"],
        json!({ "supportType": "EXTENDED" }),
        "AWS's default"
    );
    assert_eq!(cluster["deletionProtection"], true);

    let change = json!({ "resourcesVpcConfig": { "publicAccessCidrs": ["10.0.0.0/8"] } });
    let update = proxy.eks("POST", "/clusters/demo/update-config", &change).await.json()["update"].take();
    assert_eq!(
        (&update["status"], &update["type"]),
        (&json!("Successful"), &json!("EndpointAccessUpdate"))
    );
    let target = format!("/clusters/demo/updates/{}", update["id"].as_str().unwrap());
    assert_eq!(proxy.eks("GET", &target, &Value::Null).await.json()["update"], update);
    assert_eq!(
        proxy.eks("GET", "/clusters/demo/updates", &Value::Null).await.json()["updateIds"],
        json!([update["id"]])
    );
    proxy
        .eks("POST", "/clusters/demo/updates", &json!({ "version": "1.35" }))
        .await;

    let proxy = proxy.restarted().await;
    let cluster = described(&proxy).await;
    let expected = json!({ "endpointPublicAccess": true, "publicAccessCidrs": ["10.0.0.0/8"] });
    assert_eq!(
        (&cluster["resourcesVpcConfig"], &cluster["version"]),
        (&expected, &json!("1.35"))
    );

    let two = json!({ "logging": {}, "accessConfig": {} });
    assert_eq!(
        proxy.eks("POST", "/clusters/demo/update-config", &two).await.status,
        400
    );
    assert_eq!(
        proxy.eks("POST", "/clusters/none/update-config", &change).await.status,
        404
    );
    proxy.eks("DELETE", "/clusters/demo", &Value::Null).await;
    assert_eq!(
        described(&proxy).await["version"],
        "1.34",
        "a new cluster of this name inherits nothing"
    );
    assert_eq!(proxy.eks("GET", &target, &Value::Null).await.status, 404);
    assert_eq!(proxy.memory(), json!({}));
}

#[tokio::test]
async fn a_node_group_returns_what_it_was_made_with() {
    let proxy = Fixture::start(recorded_eks).await;
    let asked = json!({ "nodegroupName": "a", "launchTemplate": { "id": "lt-1", "version": "3" }, "nodeRepairConfig": { "enabled": true } });
    let created = proxy.eks("POST", "/clusters/demo/node-groups", &asked).await.json();
    let described = proxy
        .eks("GET", "/clusters/demo/node-groups/a", &Value::Null)
        .await
        .json();
    assert_eq!(created, described);
    let group = &described["nodegroup"];
    assert_eq!(
        group["launchTemplate"],
        json!({ "id": "lt-1", "name": "nodes", "version": "3" })
    );
    assert_eq!(group["updateConfig"], json!({ "maxUnavailable": 1 }), "AWS's default");
    assert_eq!(group["nodeRepairConfig"], json!({ "enabled": true }));
    assert_eq!(group["releaseVersion"], "1.34.2-20260415");
    assert_eq!(group["diskSize"], Value::Null, "the template's");
    assert_eq!(group["resources"]["remoteAccessSecurityGroup"], Value::Null);
}

#[tokio::test]
async fn a_node_group_can_be_changed() {
    let proxy = Fixture::start(recorded_eks).await;
    let asked = json!({ "nodegroupName": "a", "updateConfig": { "maxUnavailablePercentage": 33 } });
    proxy.eks("POST", "/clusters/demo/node-groups", &asked).await;
    let change = json!({
        "scalingConfig": { "maxSize": 5 }, "updateConfig": { "maxUnavailable": 2 },
        "labels": { "addOrUpdateLabels": { "y": "2" }, "removeLabels": ["x"] },
    });
    let update = proxy
        .eks("POST", "/clusters/demo/node-groups/a/update-config", &change)
        .await
        .json();
    assert_eq!(update["update"]["type"], "ConfigUpdate");
    let template = json!({ "version": "1.35", "launchTemplate": { "name": "nodes", "version": "4" } });
    let update = proxy
        .eks("POST", "/clusters/demo/node-groups/a/update-version", &template)
        .await
        .json();
    let target = format!(
        "/clusters/demo/updates/{}?nodegroupName=a",
        update["update"]["id"].as_str().unwrap()
    );
    assert_eq!(
        proxy.eks("GET", &target, &Value::Null).await.json()["update"]["type"],
        "VersionUpdate"
    );

    let group = proxy
        .eks("GET", "/clusters/demo/node-groups/a", &Value::Null)
        .await
        .json()["nodegroup"]
        .take();
    assert_eq!(
        group["scalingConfig"],
        json!({ "minSize": 1, "maxSize": 5, "desiredSize": 1 })
    );
    assert_eq!(group["updateConfig"], json!({ "maxUnavailable": 2 }));
    assert_eq!(group["labels"], json!({ "y": "2" }));
    assert_eq!(
        (&group["version"], &group["releaseVersion"]),
        (&json!("1.35"), &json!("1.35.0-20260415"))
    );
    assert_eq!(
        group["launchTemplate"],
        json!({ "id": "lt-1", "name": "nodes", "version": "4" })
    );

    proxy.eks("DELETE", "/clusters/demo/node-groups/a", &Value::Null).await;
    let group = proxy
        .eks("GET", "/clusters/demo/node-groups/a", &Value::Null)
        .await
        .json()["nodegroup"]
        .take();
    assert_eq!(group["labels"], json!({ "x": "1" }));
}

#[tokio::test]
async fn an_update_of_an_add_on_can_be_waited_for() {
    let proxy = Fixture::start(recorded_eks).await;
    proxy
        .eks("POST", "/clusters/demo/addons/vpc-cni/update", &json!({}))
        .await;
    let update = proxy
        .eks("GET", "/clusters/demo/updates/1-2?addonName=vpc-cni", &Value::Null)
        .await
        .json();
    assert_eq!(update["update"]["status"], "Successful");
    let unknown = proxy.eks("GET", "/clusters/demo/updates/9-9", &Value::Null).await;
    assert_eq!(
        (unknown.status, &unknown.headers["x-amzn-errortype"]),
        (404, &"ResourceNotFoundException".parse().unwrap())
    );
}

#[tokio::test]
async fn a_flow_log_returns_what_it_was_made_with() {
    let proxy = Fixture::start(|received| {
        ok(if received.body.contains("CreateFlowLogs") {
            "<r><flowLogIdSet><item>fl-1</item></flowLogIdSet><unsuccessful/></r>"
        } else {
            "<r><flowLogSet><item>\n<flowLogId>fl-1</flowLogId><a/></item><item><flowLogId>fl-2</flowLogId></item></flowLogSet></r>"
        })
    })
    .await;
    let form = "Action=CreateFlowLogs&TagSpecification.1.ResourceType=vpc-flow-log&TagSpecification.1.Tag.1.Key=k\
                &DeliverLogsPermissionArn=arn%3Arole&MaxAggregationInterval=60\
                &LogDestination=arn%3Aaws%3Alogs%3Aeu-west-1%3A1%3Alog-group%3A%2Fvpc%2Fdemo%3A%2A";
    proxy.query("ec2", form).await;
    assert!(
        proxy.last().body.contains("TagSpecification.1.ResourceType=flow-log&"),
        "{:?}",
        proxy.last()
    );
    let described = proxy.query("ec2", "Action=DescribeFlowLogs").await.body;
    let (first, second) = described.split_once("<flowLogId>fl-2</flowLogId>").unwrap();
    for element in [
        "<deliverLogsPermissionArn>arn:role</deliverLogsPermissionArn>",
        "<maxAggregationInterval>60</maxAggregationInterval>",
        "<logFormat>${version} ${account-id}",
        "<logGroupName>/vpc/demo</logGroupName>",
        "<flowLogId>fl-1</flowLogId>",
    ] {
        assert!(first.contains(element), "{element}: {first}");
    }
    assert_eq!(
        second, "</item></flowLogSet></r>",
        "one that was made elsewhere stays as it is"
    );
    proxy.query("ec2", "Action=DeleteFlowLogs&FlowLogId.1=fl-1").await;
    assert!(
        !proxy
            .query("ec2", "Action=DescribeFlowLogs")
            .await
            .body
            .contains("logFormat")
    );
}

#[tokio::test]
async fn labels_that_aws_refuses_do_not_reach_the_emulator() {
    let proxy = Fixture::start(|_| ok("{\"InvalidLabels\":[],\"ParameterVersion\":2}")).await;
    let answer = proxy
        .ssm(
            "LabelParameterVersion",
            &json!({ "Name": "/a", "Labels": ["AWSCURRENT", "current"] }),
        )
        .await
        .json();
    assert_eq!(
        answer,
        json!({ "InvalidLabels": ["AWSCURRENT"], "ParameterVersion": 2 })
    );
    assert_eq!(
        serde_json::from_str::<Value>(&proxy.last().body).unwrap(),
        json!({ "Name": "/a", "Labels": ["current"] })
    );
}

#[tokio::test]
async fn a_version_of_a_secret_that_is_there_does_not_reach_the_emulator() {
    let proxy = Fixture::start(|received| {
        let target = received.headers["x-amz-target"].to_str().unwrap();
        if target == "secretsmanager.PutSecretValue" {
            return ok("{\"VersionId\":\"new\"}");
        }
        assert_eq!(target, "secretsmanager.GetSecretValue");
        let asked: Value = serde_json::from_str(&received.body).unwrap();
        if asked["VersionId"] == "known" {
            return ok("{\"VersionId\":\"known\",\"SecretString\":\"a\",\"VersionStages\":[\"AWSPENDING\"]}");
        }
        (
            axum::http::StatusCode::BAD_REQUEST,
            "{\"__type\":\"ResourceNotFoundException\"}",
        )
            .into_response()
    })
    .await;
    let put = |id: &str, text: &str| json!({ "SecretId": "s", "ClientRequestToken": id, "SecretString": text });
    let answer = proxy.secret("PutSecretValue", &put("new", "b")).await.json();
    assert_eq!(answer["VersionId"], "new", "one that is not there is put");
    let count = proxy.count();
    let answer = proxy.secret("PutSecretValue", &put("known", "a")).await.json();
    assert_eq!(
        answer["VersionStages"],
        json!(["AWSPENDING"]),
        "the same once more does nothing"
    );
    let refused = proxy.secret("PutSecretValue", &put("known", "b")).await;
    assert_eq!(
        (refused.status, refused.json()["__type"].clone()),
        (400, json!("ResourceExistsException"))
    );
    assert_eq!(proxy.count(), count + 2, "only its look at the version");
    let plain = json!({ "SecretId": "s", "SecretString": "c" });
    proxy.secret("PutSecretValue", &plain).await;
    assert_eq!(proxy.count(), count + 3, "without an id there is nothing to look at");
}

#[tokio::test]
async fn public_parameters_come_with_others() {
    let proxy = Fixture::start(|_| ok("{\"Parameters\":[{\"Name\":\"/own\"}],\"InvalidParameters\":[\"/x\"]}")).await;
    let image = "/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/arm64/standard/recommended/release_version";
    let answer = proxy
        .ssm(
            "GetParameters",
            &json!({ "Names": ["/own", image, "/x"], "WithDecryption": true }),
        )
        .await
        .json();
    assert_eq!(answer["InvalidParameters"], json!(["/x"]));
    assert_eq!(
        (&answer["Parameters"][0]["Name"], &answer["Parameters"][1]["Name"]),
        (&json!("/own"), &json!(image))
    );
    let asked: Value = serde_json::from_str(&proxy.last().body).unwrap();
    assert_eq!(asked, json!({ "Names": ["/own", "/x"], "WithDecryption": true }));

    let count = proxy.count();
    let answer = proxy.ssm("GetParameter", &json!({ "Name": image })).await.json();
    assert_eq!(answer["Parameter"]["Value"], "1.35.0-20260415");
    assert_eq!(
        answer["Parameter"]["ARN"],
        format!("arn:aws:ssm:eu-west-1::parameter{image}")
    );
    proxy.ssm("GetParameters", &json!({ "Names": [image] })).await;
    assert_eq!(proxy.count(), count);
    proxy.ssm("GetParameter", &json!({ "Name": "/own" })).await;
    assert_eq!(proxy.count(), count + 1);
}

#[tokio::test]
async fn ports_of_all_protocols_do_not_reach_the_emulator() {
    let proxy = Fixture::start(|_| ok("<r/>")).await;
    proxy
        .query(
            "ec2",
            "Action=RevokeSecurityGroupEgress&IpPermissions.1.IpProtocol=-1&IpPermissions.1.FromPort=0",
        )
        .await;
    assert_eq!(
        proxy.last().body,
        "Action=RevokeSecurityGroupEgress&IpPermissions.1.IpProtocol=-1"
    );
}
