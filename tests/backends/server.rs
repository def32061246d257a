//! The part of S3 that a backend and its bucket need, with what goes with it of STS, KMS and the tagging API. It stands in
//! where the sandbox's emulator cannot: it refuses single calls, and has buckets of other accounts and regions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::common::{Finished, Project};

pub(crate) const ACCOUNT: &str = "111122223333";

/// The server lives on threads of its own while a test waits for a process.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// A bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) owner: String,
    pub(crate) region: String,
    /// Parts of its configuration by the name in the query string, as they were put.
    pub(crate) parts: BTreeMap<String, String>,
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) buckets: BTreeMap<String, Bucket>,
    /// Keys by ARN, with the bucket in their tag.
    pub(crate) keys: BTreeMap<String, String>,
    /// Calls of S3 and KMS that change something.
    pub(crate) writes: Vec<String>,
    /// Calls that are refused, as `METHOD part`, `METHOD object` or the name of a KMS action.
    pub(crate) denied: BTreeSet<String>,
}

pub(crate) struct Server {
    pub(crate) base: String,
    world: Arc<Mutex<World>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let app = axum::Router::new().fallback(handle).with_state(world.clone());
        let listener = RUNTIME.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        RUNTIME.spawn(async move { axum::serve(listener, app).await });
        Self { base, world }
    }

    pub(crate) fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// A bucket as somebody else made it.
    pub(crate) fn bucket(&self, name: &str, owner: &str, region: &str) {
        let bucket = Bucket {
            owner: owner.into(),
            region: region.into(),
            ..Bucket::default()
        };
        self.world().buckets.insert(name.into(), bucket);
    }

    /// Refuses a call from now on.
    pub(crate) fn deny(&self, call: &str) {
        self.world().denied.insert(call.into());
    }

    /// Runs the program against this server.
    pub(crate) fn run(&self, project: &Project, arguments: &[&str]) -> Finished {
        self.run_with(project, arguments, &[])
    }

    pub(crate) fn run_with(&self, project: &Project, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let mut command = project.mfsre(arguments);
        command
            .env("AWS_ENDPOINT_URL", &self.base)
            .env("AWS_ACCESS_KEY_ID", "AKIATEST")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_MAX_ATTEMPTS", "1")
            .envs(variables.iter().copied());
        let mut finished = project.finish(command);
        for text in [&mut finished.stdout, &mut finished.stderr] {
            *text = text.replace(&self.base, "[AWS]");
        }
        finished
    }
}

/// An answer: status, headers, body.
type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn xml_error(status: u16, code: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code} it is</Message></Error>");
    (status, Vec::new(), body.into_bytes())
}

fn ok(body: impl Into<Vec<u8>>) -> Answer {
    (200, Vec::new(), body.into())
}

async fn handle(State(world): State<Arc<Mutex<World>>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap().to_vec();
    let mut world = world.lock().unwrap();
    let header = |name: &str| head.headers.get(name).map_or("", |v| v.to_str().unwrap());
    let scope = header("authorization").split("Credential=").nth(1).unwrap_or_default();
    let mut scope = scope.split('/').skip(2);
    let (region, service) = (scope.next().unwrap_or_default(), scope.next().unwrap_or_default());
    let (status, headers, body) = match service {
        "sts" => ok(format!(
            "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::{ACCOUNT}:user/alice</Arn><UserId>A</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
        )),
        "kms" | "tagging" => {
            let action = header("x-amz-target").rsplit('.').next().unwrap_or_default().to_owned();
            kms(&mut world, &action, &serde_json::from_slice(&body).unwrap())
        }
        "s3" => {
            let query = head.uri.query().unwrap_or_default().to_owned();
            s3(
                &mut world,
                &head.method,
                head.uri.path(),
                &query,
                &head.headers,
                region,
                body,
            )
        }
        other => panic!("a call of {other:?}: {} {}", head.method, head.uri),
    };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let body = if head.method == Method::HEAD { Vec::new() } else { body };
    response.body(Body::from(body)).unwrap()
}

fn kms(world: &mut World, action: &str, body: &Value) -> Answer {
    let json = |value: Value| ok(value.to_string());
    let refuse = |code: &str| {
        (
            400,
            Vec::new(),
            json!({ "__type": code, "message": code }).to_string().into_bytes(),
        )
    };
    if world.denied.contains(action) {
        return refuse("AccessDeniedException");
    }
    let metadata = |arn: &str| json!({ "KeyMetadata": { "Arn": arn, "KeyState": "Enabled" } });
    match action {
        "CreateKey" => {
            world.writes.push(action.into());
            let arn = format!("arn:aws:kms:eu-west-1:{ACCOUNT}:key/made-{}", world.keys.len());
            let tag = body["Tags"][0]["TagValue"].as_str().unwrap();
            world.keys.insert(arn.clone(), tag.to_owned());
            json(metadata(&arn))
        }
        "EnableKeyRotation" => json(json!({})),
        "DescribeKey" => {
            let id = body["KeyId"].as_str().unwrap();
            match world.keys.keys().find(|arn| *arn == id || arn.ends_with(id)) {
                Some(arn) => json(metadata(arn)),
                None => refuse("NotFoundException"),
            }
        }
        "GetResources" => {
            let bucket = body["TagFilters"][0]["Values"][0].as_str().unwrap();
            let found = world.keys.iter().filter(|(_, tag)| *tag == bucket);
            let found: Vec<Value> = found.map(|(arn, _)| json!({ "ResourceARN": arn })).collect();
            json(json!({ "ResourceTagMappingList": found, "PaginationToken": "" }))
        }
        other => panic!("a call of {other}"),
    }
}

fn s3(
    world: &mut World,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    region: &str,
    body: Vec<u8>,
) -> Answer {
    let header = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
    let (name, key) = path.trim_start_matches('/').split_once('/').unwrap_or((&path[1..], ""));
    let part = query.split(['=', '&']).next().unwrap_or_default();
    let listing = query.contains("list-type=2");
    let what = match (key, part) {
        _ if listing => "list",
        ("", "") => "bucket",
        ("", part) => part,
        _ => "object",
    };
    let call = format!("{method} {what}");
    if world.denied.contains(&call) {
        return xml_error(403, "AccessDenied");
    }
    let creates = *method == Method::PUT && what == "bucket";
    if (*method == Method::PUT || *method == Method::DELETE) && what != "object" {
        world.writes.push(call.clone());
    }
    if creates {
        if let Some(there) = world.buckets.get(name) {
            let ours = there.owner == ACCOUNT;
            return xml_error(
                409,
                if ours {
                    "BucketAlreadyOwnedByYou"
                } else {
                    "BucketAlreadyExists"
                },
            );
        }
        let text = String::from_utf8(body).unwrap();
        assert!(
            text.contains(&format!("<LocationConstraint>{region}</LocationConstraint>")),
            "{text}"
        );
        let ownership = header("x-amz-object-ownership").unwrap();
        let rule = format!(
            "<OwnershipControls><Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule></OwnershipControls>"
        );
        let bucket = Bucket {
            owner: ACCOUNT.into(),
            region: region.into(),
            parts: BTreeMap::from([("ownershipControls".into(), rule)]),
            objects: BTreeMap::new(),
        };
        world.buckets.insert(name.into(), bucket);
        return ok("");
    }
    let Some(bucket) = world.buckets.get_mut(name) else {
        return xml_error(404, "NoSuchBucket");
    };
    if bucket.region != region {
        let mut answer = xml_error(301, "PermanentRedirect");
        answer.1.push(("x-amz-bucket-region", bucket.region.clone()));
        return answer;
    }
    let expected = header("x-amz-expected-bucket-owner");
    if bucket.owner != ACCOUNT || expected.is_some_and(|expected| expected != bucket.owner) {
        return xml_error(403, "AccessDenied");
    }
    if what != "object" {
        return configuration(bucket, method, what, header("x-amz-checksum-sha256"), body);
    }
    object(bucket, method, key, header("if-none-match"), &body)
}

fn configuration(bucket: &mut Bucket, method: &Method, part: &str, checksum: Option<String>, body: Vec<u8>) -> Answer {
    match (method.as_str(), part) {
        ("HEAD", "bucket") => (200, vec![("x-amz-bucket-region", bucket.region.clone())], Vec::new()),
        ("GET", "list") => {
            let keys = bucket.objects.keys();
            let keys: String = keys.map(|k| format!("<Contents><Key>{k}</Key></Contents>")).collect();
            ok(format!(
                "<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>"
            ))
        }
        ("PUT", part) => {
            let sum = STANDARD.encode(Sha256::digest(&body));
            assert_eq!(checksum.as_ref(), Some(&sum), "a checksum goes with {part}");
            bucket.parts.insert(part.into(), String::from_utf8(body).unwrap());
            ok("")
        }
        ("GET", part) => match (bucket.parts.get(part), part) {
            (Some(document), _) => ok(document.as_str()),
            (None, "versioning") => ok("<VersioningConfiguration/>"),
            // What every bucket has since 2023.
            (None, "encryption") => ok(
                "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>",
            ),
            (None, "publicAccessBlock") => xml_error(404, "NoSuchPublicAccessBlockConfiguration"),
            (None, "ownershipControls") => xml_error(404, "OwnershipControlsNotFoundError"),
            (None, "policy") => xml_error(404, "NoSuchBucketPolicy"),
            (None, "lifecycle") => xml_error(404, "NoSuchLifecycleConfiguration"),
            (None, "tagging") => xml_error(404, "NoSuchTagSet"),
            (None, other) => panic!("GET {other}"),
        },
        (method, part) => panic!("{method} {part}"),
    }
}

fn object(bucket: &mut Bucket, method: &Method, key: &str, if_none_match: Option<String>, body: &[u8]) -> Answer {
    let etag = |content: &[u8]| vec![("etag", format!("\"{}\"", hex::encode(&Sha256::digest(content)[..16])))];
    match *method {
        Method::PUT => {
            if if_none_match.is_some() && bucket.objects.contains_key(key) {
                return xml_error(412, "PreconditionFailed");
            }
            let headers = etag(body);
            bucket.objects.insert(key.into(), body.to_vec());
            (200, headers, Vec::new())
        }
        Method::DELETE => {
            bucket.objects.remove(key);
            (204, Vec::new(), Vec::new())
        }
        Method::GET | Method::HEAD => match bucket.objects.get(key) {
            Some(content) => {
                let mut headers = etag(content);
                if *method == Method::HEAD {
                    headers.push(("content-length", content.len().to_string()));
                }
                (200, headers, content.clone())
            }
            None => xml_error(404, "NoSuchKey"),
        },
        ref other => panic!("{other} of an object"),
    }
}
