//! AWS on loopback, which answers as it is told: it knows every protocol that mfsre speaks.

use crate::http::{Answer, Request, Server};

/// A call as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// As IAM names it, such as `secretsmanager`.
    pub(crate) service: String,
    /// As the API names it.
    pub(crate) operation: String,
    /// The region that it is signed for.
    pub(crate) region: String,
    pub(crate) request: Request,
}

impl Seen {
    /// As IAM names the action.
    pub(crate) fn action(&self) -> String {
        format!("{}:{}", self.service, self.operation)
    }

    fn of(request: &Request) -> Self {
        // Credential=KEY/DATE/REGION/SERVICE/aws4_request
        let scope = request
            .header("authorization")
            .split("Credential=")
            .nth(1)
            .unwrap_or_default();
        let mut scope = scope.split('/').skip(2);
        let region = scope.next().unwrap_or("-").to_owned();
        let signed_for = scope.next().unwrap_or("-");
        let path = request.path.as_str();
        let operation = match (request.header("x-amz-target"), signed_for) {
            ("", "eks") if path.starts_with("/cluster-versions") => "DescribeClusterVersions".into(),
            ("", "eks") if request.method == "GET" && path.starts_with("/clusters/") => "DescribeCluster".into(),
            ("", "eks") => format!("{} {path}", request.method),
            ("", "s3") => s3_action(&request.method, path),
            ("", _) => {
                let action = request.body.split('&').find_map(|pair| pair.strip_prefix("Action="));
                action.unwrap_or("-").to_owned()
            }
            (target, _) => target.rsplit('.').next().unwrap_or(target).to_owned(),
        };
        Self {
            // The tagging API is signed for under another name than IAM has for it.
            service: if signed_for == "tagging" { "tag" } else { signed_for }.to_owned(),
            operation,
            region,
            request: request.clone(),
        }
    }
}

/// The IAM action of a call of S3, which names its operations by method and query.
fn s3_action(method: &str, path: &str) -> String {
    let part = path.split_once('?').map_or("", |(_, query)| query);
    let subject = match part {
        "" if method == "HEAD" => return "ListBucket".into(),
        "" if method == "PUT" => return "CreateBucket".into(),
        "versioning" => "BucketVersioning",
        "encryption" => "EncryptionConfiguration",
        "publicAccessBlock" => "BucketPublicAccessBlock",
        "ownershipControls" => "BucketOwnershipControls",
        "policy" => "BucketPolicy",
        "lifecycle" => "LifecycleConfiguration",
        "tagging" => "BucketTagging",
        _ => return format!("{method} {path}"),
    };
    format!("{}{subject}", if method == "GET" { "Get" } else { "Put" })
}

/// AWS's error `code` as the service of `seen` says it.
pub(crate) fn error(seen: &Seen, status: u16, code: &str, message: &str) -> Answer {
    let body = match seen.service.as_str() {
        "ec2" => format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>r</RequestID></Response>"
        ),
        "s3" => format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"),
        "iam" | "sts" | "elasticloadbalancing" => format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
        ),
        _ => serde_json::json!({ "__type": code, "message": message }).to_string(),
    };
    let mut headers = Vec::new();
    if seen.service == "eks" {
        headers.push(("x-amzn-errortype", code.to_owned()));
    }
    Answer::Reply(status, headers, body)
}

/// The server.
pub(crate) struct FakeAws {
    pub(crate) url: url::Url,
    server: Server,
}

impl FakeAws {
    /// Answers every call as `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let server = Server::start(move |request| answer(&Seen::of(request))).await;
        Self {
            url: server.url.clone(),
            server,
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.server.seen().iter().map(Seen::of).collect()
    }
}
