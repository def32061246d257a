use axum::body::Bytes;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::{eks_operations, request};
use crate::services::sigv4;

/// The region of a call that names none.
const DEFAULT_REGION: &str = "us-east-1";

/// How a service speaks, which decides the form of its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Form in, XML out: IAM, STS, SQS of old, ELB.
    Query,
    /// The same with another form of errors.
    Ec2,
    /// JSON both ways, the operation in `X-Amz-Target`.
    Json,
    /// JSON both ways, the operation in method and path.
    RestJson,
    /// S3.
    S3,
}

/// What a request calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// As in the credential scope, such as `eks`; `-` where nothing is signed.
    pub(super) service: String,
    /// Such as `DescribeCluster`; method and path where the service is one whose routes are not known here.
    pub(super) operation: String,
    pub(super) region: String,
    pub(super) access_key: Option<String>,
    pub(super) protocol: Protocol,
}

impl Call {
    /// Reads it from the head of a request, and from the body where that is a form.
    pub(super) fn read(parts: &Parts, form: Option<&Bytes>) -> Self {
        let query = request::pairs(parts.uri.query().unwrap_or_default().as_bytes());
        let from_query = |name: &str| {
            query
                .iter()
                .find(|(other, _)| other == name)
                .map(|(_, value)| value.clone())
        };

        let header = parts.headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
        let credential = header
            .and_then(credential_of_header)
            .map(str::to_owned)
            .or_else(|| from_query("X-Amz-Credential"));
        let scoped = credential.as_deref().and_then(sigv4::parse_credential);
        let (access_key, service, region) = match scoped {
            Some((key, scope)) => (Some(key.to_owned()), scope.service.to_owned(), scope.region.to_owned()),
            None => (None, "-".to_owned(), DEFAULT_REGION.to_owned()),
        };

        let target = parts
            .headers
            .get("x-amz-target")
            .and_then(|target| target.to_str().ok());
        let from_form = || form.and_then(|form| request::pairs(form).into_iter().find(|(name, _)| name == "Action"));
        let action = from_query("Action").or_else(|| from_form().map(|(_, action)| action));
        let (operation, protocol) = if let Some(target) = target {
            (target.rsplit('.').next().unwrap_or(target).to_owned(), Protocol::Json)
        } else if let Some(action) = action {
            (
                action,
                if service == "ec2" {
                    Protocol::Ec2
                } else {
                    Protocol::Query
                },
            )
        } else {
            let path = parts.uri.path();
            let known = (service == "eks")
                .then(|| eks_operations::find(&parts.method, path))
                .flatten();
            let operation = known.map_or_else(|| format!("{} {path}", parts.method), str::to_owned);
            (
                operation,
                if service == "s3" {
                    Protocol::S3
                } else {
                    Protocol::RestJson
                },
            )
        };
        Self {
            service,
            operation,
            region,
            access_key,
            protocol,
        }
    }
}

fn credential_of_header(header: &str) -> Option<&str> {
    let (_, rest) = header.strip_prefix(sigv4::ALGORITHM)?.split_once("Credential=")?;
    rest.split([',', ' ']).next()
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use axum::http::Request;

    use super::{Call, Protocol};

    fn read(method: &str, target: &str, service: &str, headers: &[(&str, &str)], form: Option<&'static str>) -> Call {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("authorization", authorization);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Call::read(&parts, form.map(|form| Bytes::from_static(form.as_bytes())).as_ref())
    }

    #[test]
    fn every_protocol_names_its_operation() {
        let call = read("POST", "/", "ssm", &[("x-amz-target", "AmazonSSM.GetParameter")], None);
        assert_eq!(
            (call.operation.as_str(), call.protocol),
            ("GetParameter", Protocol::Json)
        );
        let call = read("POST", "/", "iam", &[], Some("Version=2010-05-08&Action=CreatePolicy"));
        assert_eq!(
            (call.operation.as_str(), call.protocol),
            ("CreatePolicy", Protocol::Query)
        );
        let call = read("POST", "/", "ec2", &[], Some("Action=DescribeVpcs"));
        assert_eq!(
            (call.operation.as_str(), call.protocol),
            ("DescribeVpcs", Protocol::Ec2)
        );
        let call = read("GET", "/clusters/demo?x=y", "eks", &[], None);
        assert_eq!(
            (call.operation.as_str(), call.protocol),
            ("DescribeCluster", Protocol::RestJson)
        );
        let call = read("PUT", "/bucket/key", "s3", &[], None);
        assert_eq!(
            (call.operation.as_str(), call.protocol),
            ("PUT /bucket/key", Protocol::S3)
        );
        assert_eq!(
            (call.region.as_str(), call.access_key.as_deref()),
            ("eu-west-1", Some("AKIATEST"))
        );
    }

    #[test]
    fn a_presigned_url_names_its_key_too() {
        let target = "/?Action=GetCallerIdentity&X-Amz-Credential=AKIATEST%2F20260101%2Feu-west-1%2Fsts%2Faws4_request";
        let (parts, ()) = Request::get(target).body(()).unwrap().into_parts();
        let call = Call::read(&parts, None);
        assert_eq!(
            (call.service.as_str(), call.operation.as_str()),
            ("sts", "GetCallerIdentity")
        );
        assert_eq!(call.access_key.as_deref(), Some("AKIATEST"));
    }

    #[test]
    fn what_is_not_signed_has_no_service() {
        for header in ["", "Bearer x", "AWS4-HMAC-SHA256 Credential=x", "AWS4-HMAC-SHA256"] {
            let (parts, ()) = Request::get("/health")
                .header("authorization", header)
                .body(())
                .unwrap()
                .into_parts();
            let call = Call::read(&parts, None);
            assert_eq!((call.service.as_str(), call.access_key), ("-", None), "{header:?}");
        }
    }
}
