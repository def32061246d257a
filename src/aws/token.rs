use std::time::Duration;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::SecretString;

use super::{Aws, AwsError, Call};

/// A bearer token that an EKS cluster accepts: a presigned `GetCallerIdentity` request that names the cluster, as
/// aws-iam-authenticator defines it
/// (<https://github.com/kubernetes-sigs/aws-iam-authenticator#api-authorization-from-outside-a-cluster>).
#[derive(Debug, Clone)]
pub struct ClusterToken {
    /// The token.
    pub token: SecretString,
    /// When a client should ask for another: EKS accepts a token for 15 minutes.
    pub expires: Timestamp,
}

/// The request's own validity in seconds; the authenticator takes no longer ones than 900 and the AWS CLI signs 60.
const PRESIGNED_SECONDS: u64 = 60;
/// Minutes after which a client asks again, one less than EKS allows.
const TOKEN_MINUTES: i64 = 14;

impl Aws {
    /// A token for `cluster`, computed here.
    ///
    /// # Errors
    /// There are no credentials.
    pub async fn cluster_token(&self, cluster: &str) -> Result<ClusterToken, AwsError> {
        const CALL: Call = Call::GetCallerIdentity;
        let failed =
            |e: &dyn std::fmt::Display| AwsError::new(CALL, None, format!("cannot sign the cluster token: {e}"));
        let identity = self.credentials(CALL).await?.into();
        // A clock that is wrong would make a token that no cluster takes.
        let now = self.clock.now();
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(PRESIGNED_SECONDS));
        let region = self.region.to_string();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&region)
            .name("sts")
            .time(now)
            .settings(settings)
            .build()
            .map_err(|e| failed(&e))?
            .into();
        let endpoint = self.endpoint("sts", false);
        let url = format!(
            "{}/?Action=GetCallerIdentity&Version=2011-06-15",
            endpoint.trim_end_matches('/')
        );
        let headers = [("x-k8s-aws-id", cluster)];
        let request =
            SignableRequest::new("GET", &url, headers.into_iter(), SignableBody::Bytes(b"")).map_err(|e| failed(&e))?;
        let (instructions, _) = sign(request, &parameters).map_err(|e| failed(&e))?.into_parts();
        let mut url: url::Url = url.parse().map_err(|e| failed(&e))?;
        for (key, value) in instructions.params() {
            url.query_pairs_mut().append_pair(key, value);
        }
        let token = format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url.as_str()));
        let expires = Timestamp::now() + jiff::SignedDuration::from_mins(TOKEN_MINUTES);
        Ok(ClusterToken {
            token: token.into(),
            expires,
        })
    }
}
