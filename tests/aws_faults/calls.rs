//! How each call is brought about through the adapters, and what a healthy AWS answers.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mfsre::aws::{Aws, AwsAccess, AwsError, Call, StaticCredentials};
use mfsre::model::{EnvironmentName, Names, Region, Scalar as _};
use mfsre::patience::Patience;
use serde_json::json;

use crate::aws::{FakeAws, Seen, error};
use crate::http::Answer;

pub(crate) const ENVIRONMENT: &str = "demo";
const SECRET: &str = "demo/argocd";
const KEY: &str = "/demo/argocd/deploy-key";
/// Secrets in other states: not there, and in its recovery window.
const ABSENT: &str = "demo/absent";
const DELETED: &str = "demo/deleted";

static PRIVATE_KEY: LazyLock<String> = LazyLock::new(|| {
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
    let key = ssh_key::PrivateKey::from(pair);
    key.to_openssh(ssh_key::LineEnding::LF).unwrap().to_string()
});

/// Tries quickly. `region` has a budget of retries of its own.
pub(crate) async fn connect(fake: &FakeAws, region: &str, answer: Duration) -> Aws {
    Aws::connect(&AwsAccess {
        region: Region::parse(region).unwrap(),
        endpoint_url: Some(fake.url.clone()),
        credentials: Some(StaticCredentials {
            access_key_id: "AKIATEST".into(),
            secret_access_key: "canary-of-a-secret-key".to_owned().into(),
        }),
        patience: Patience {
            attempts: 4,
            first_pause: Duration::from_millis(2),
            longest_pause: Duration::from_secs(2),
            answer,
        },
    })
    .await
}

/// Makes `call`, among others. A call that is new in the program needs a line here to compile.
pub(crate) async fn make(aws: &Aws, call: Call) -> Result<(), AwsError> {
    match call {
        Call::GetCallerIdentity => aws.identity().await.map(drop),
        Call::DescribeCluster => aws.cluster(ENVIRONMENT).await.map(drop),
        Call::DescribeClusterVersions => aws.version_calendar(crate::common::TODAY).await.map(drop),
        Call::CreateSecret => aws.ensure_admin_password(ABSENT, ENVIRONMENT).await.map(drop),
        Call::RestoreSecret => aws.ensure_admin_password(DELETED, ENVIRONMENT).await.map(drop),
        Call::GetSecretValue => aws.admin_password(SECRET).await.map(drop),
        Call::PutSecretValue => aws.stage_password(SECRET, "one").await.map(drop),
        Call::UpdateSecretVersionStage => aws.promote_password(SECRET, "one", "two").await,
        Call::DescribeSecret | Call::DeleteSecret => aws.remove_admin_password(SECRET, false).await.map(drop),
        Call::GetParameter => aws.deploy_key(KEY, ENVIRONMENT).await.map(drop),
        Call::GetParameterHistory => aws.former_keys(KEY, ENVIRONMENT).await.map(drop),
        Call::PutParameter => aws.stage_key(&format!("{KEY}/pending"), ENVIRONMENT).await.map(drop),
        Call::DeleteParameter => aws.remove_parameter(KEY).await.map(drop),
        Call::DescribeAddresses
        | Call::DescribeInstances
        | Call::DescribeLaunchTemplates
        | Call::DescribeNatGateways
        | Call::DescribeNetworkInterfaces
        | Call::DescribeSecurityGroups
        | Call::DescribeSubnets
        | Call::DescribeVolumes
        | Call::DescribeVpcs
        | Call::ListRoles
        | Call::DescribeKey
        | Call::GetResources => {
            let names = Names::of(&EnvironmentName::parse(ENVIRONMENT).unwrap());
            aws.leftovers(&names).await.map(drop)
        }
    }
}

/// An AWS on which the environment stands.
pub(crate) fn healthy() -> impl Fn(&Seen) -> Answer + Send + Sync {
    let restored = AtomicBool::new(false);
    move |seen| {
        let about = |name: &str| seen.request.body.contains(name);
        let missing = |code: &str| error(seen, 400, code, "there is no such thing");
        let body = match (seen.service.as_str(), seen.operation.as_str()) {
            ("sts", "GetCallerIdentity") => "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::000000000000:user/alice</Arn><Account>000000000000</Account></GetCallerIdentityResult></GetCallerIdentityResponse>".to_owned(),
            ("eks", "DescribeCluster") => json!({ "cluster": {
                "name": ENVIRONMENT, "endpoint": "https://127.0.0.1:9", "status": "ACTIVE", "version": "1.35",
                "certificateAuthority": { "data": "UEVN" },
            } })
            .to_string(),
            ("eks", _) => json!({ "clusterVersions": [] }).to_string(),
            ("secretsmanager", "GetSecretValue") if about(ABSENT) => return missing("ResourceNotFoundException"),
            ("secretsmanager", "GetSecretValue") if about(DELETED) && !restored.load(Ordering::Relaxed) => {
                return missing("InvalidRequestException");
            }
            ("secretsmanager", "CreateSecret") if about(DELETED) => return missing("InvalidRequestException"),
            ("secretsmanager", "GetSecretValue") => json!({
                "VersionId": "one", "CreatedDate": 1_767_225_600,
                "SecretString": json!({ "password": "p", "bcrypt": "$2b$12$x", "mtime": "2026-01-01T00:00:00Z" }).to_string(),
            })
            .to_string(),
            ("secretsmanager", operation) => {
                restored.fetch_or(operation == "RestoreSecret", Ordering::Relaxed);
                json!({ "Name": SECRET, "DeletionDate": null }).to_string()
            }
            ("ssm", "GetParameter") => json!({ "Parameter": {
                "Name": KEY, "Type": "SecureString", "Version": 1, "LastModifiedDate": 1_767_225_600, "Value": *PRIVATE_KEY,
            } })
            .to_string(),
            ("ssm", "PutParameter") => json!({ "Version": 1 }).to_string(),
            ("ssm", _) => "{}".to_owned(),
            ("ec2" | "iam", operation) => format!("<{operation}Response/>"),
            ("tag", _) => json!({ "ResourceTagMappingList": [
                { "ResourceARN": "arn:aws:kms:eu-west-1:000000000000:key/4711" },
            ] })
            .to_string(),
            ("kms", _) => json!({ "KeyMetadata": { "DeletionDate": 1_767_225_600 } }).to_string(),
            other => panic!("no healthy answer is known for {other:?}"),
        };
        Answer::ok(body)
    }
}
