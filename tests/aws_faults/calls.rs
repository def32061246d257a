//! How each call is brought about through the adapters, and what a healthy AWS answers.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use std::collections::{BTreeMap, BTreeSet};

use mfsre::aws::{
    Attempt, Aws, AwsAccess, AwsError, Call, Inventory, Owner, Resource, ResourceKind, State, StateBucket,
    StaticCredentials,
};
use mfsre::model::{Region, Scalar as _};
use mfsre::patience::Patience;
use serde_json::json;

use crate::aws::{FakeAws, Seen, error};
use crate::http::Answer;

pub(crate) const ENVIRONMENT: &str = "demo";
/// Who calls, which nobody may learn.
pub(crate) const SECRET_ACCESS_KEY: &str = "canary-of-a-secret-key";
const SECRET: &str = "demo/argocd";
const KEY: &str = "/demo/argocd/deploy-key";
/// Secrets in other states: not there, and in its recovery window.
const ABSENT: &str = "demo/absent";
const DELETED: &str = "demo/deleted";
const KMS_KEY: &str = "arn:aws:kms:eu-west-1:000000000000:key/4711";
pub(crate) const BUCKET: &str = "acme-state";
/// A security group that cannot be removed as long as rules of another one name it.
const NAMED: &str = "sg-named";

pub(crate) static PRIVATE_KEY: LazyLock<String> = LazyLock::new(|| {
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
            secret_access_key: SECRET_ACCESS_KEY.to_owned().into(),
        }),
        patience: Patience {
            attempts: 4,
            first_pause: Duration::from_millis(2),
            longest_pause: Duration::from_secs(2),
            answer,
        },
        tags: BTreeMap::from([("team".to_owned(), "platform".to_owned())]),
    })
    .await
}

/// What a caller learns of a call that failed.
#[derive(Debug)]
pub(crate) enum Told {
    /// The operation ends with it.
    Error(AwsError),
    /// It goes on, and tells this at its end.
    Line(String),
}

impl From<AwsError> for Told {
    fn from(error: AwsError) -> Self {
        Self::Error(error)
    }
}

impl Told {
    /// As the user reads it.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Error(error) => mfsre::error::Error::from(error).render(false),
            Self::Line(line) => line,
        }
    }
}

/// Makes `call`, among others. A call that is new in the program needs a line here to compile.
pub(crate) async fn make(aws: &Aws, call: Call) -> Result<(), Told> {
    let bucket = StateBucket::new(aws.clone(), BUCKET, "000000000000");
    match call {
        Call::GetCallerIdentity => aws.identity().await.map(drop)?,
        Call::DescribeCluster => aws.cluster(ENVIRONMENT).await.map(drop)?,
        Call::DescribeClusterVersions => aws.version_calendar(crate::common::TODAY).await.map(drop)?,
        Call::CreateSecret => aws.ensure_admin_password(ABSENT, ENVIRONMENT).await.map(drop)?,
        Call::RestoreSecret => aws.ensure_admin_password(DELETED, ENVIRONMENT).await.map(drop)?,
        Call::GetSecretValue => aws.admin_password(SECRET).await.map(drop)?,
        Call::PutSecretValue => aws.stage_password(SECRET, "one").await.map(drop)?,
        Call::UpdateSecretVersionStage => aws.promote_password(SECRET, "one", "two").await?,
        Call::DescribeSecret | Call::DeleteSecret => aws.remove_admin_password(SECRET, false).await.map(drop)?,
        Call::GetParameter => aws.deploy_key(KEY, ENVIRONMENT).await.map(drop)?,
        Call::GetParameterHistory => aws.former_keys(KEY, ENVIRONMENT).await.map(drop)?,
        Call::PutParameter => aws.stage_key(&format!("{KEY}/pending"), ENVIRONMENT).await.map(drop)?,
        Call::DeleteParameter => aws.remove_parameter(KEY).await.map(drop)?,
        Call::DescribeAddresses
        | Call::DescribeInstances
        | Call::DescribeInternetGateways
        | Call::DescribeLaunchTemplates
        | Call::DescribeNatGateways
        | Call::DescribeNetworkInterfaces
        | Call::DescribeRouteTables
        | Call::DescribeSecurityGroups
        | Call::DescribeSubnets
        | Call::DescribeVolumes
        | Call::DescribeVpcEndpoints
        | Call::DescribeVpcs
        | Call::DescribeLoadBalancers
        | Call::DescribeTags
        | Call::DescribeTargetGroups
        | Call::ListInstanceProfiles
        | Call::ListInstanceProfileTags
        | Call::ListRoles
        | Call::DescribeLogGroups
        | Call::DescribeKey
        | Call::GetResources => {
            let inventory = aws.inventory(ENVIRONMENT, None).await?;
            if let Some(unseen) = inventory.unseen.into_iter().next() {
                return Err(Told::Line(unseen));
            }
        }
        Call::TerminateInstances => remove(aws, call, ResourceKind::Instance, "i-1").await?,
        Call::DeleteNetworkInterface => remove(aws, call, ResourceKind::NetworkInterface, "eni-1").await?,
        Call::DeleteSecurityGroup => remove(aws, call, ResourceKind::SecurityGroup, "sg-1").await?,
        Call::DeleteRouteTable => remove(aws, call, ResourceKind::RouteTable, "rtb-1").await?,
        Call::DeleteSubnet => remove(aws, call, ResourceKind::Subnet, "subnet-1").await?,
        Call::DeleteVolume => remove(aws, call, ResourceKind::Volume, "vol-1").await?,
        Call::DeleteLaunchTemplate => remove(aws, call, ResourceKind::LaunchTemplate, "lt-1").await?,
        Call::DeleteLoadBalancer => remove(aws, call, ResourceKind::LoadBalancer, "arn:lb").await?,
        Call::DeleteTargetGroup => remove(aws, call, ResourceKind::TargetGroup, "arn:tg").await?,
        Call::DeleteInstanceProfile | Call::RemoveRoleFromInstanceProfile => {
            remove(aws, call, ResourceKind::InstanceProfile, "demo_1").await?;
        }
        Call::DeleteLogGroup => remove(aws, call, ResourceKind::LogGroup, "/aws/eks/demo/cluster").await?,
        Call::RevokeSecurityGroupIngress | Call::RevokeSecurityGroupEgress => {
            // Rules of another group name it.
            let inventory = aws.inventory(ENVIRONMENT, None).await?;
            let named = resource(ResourceKind::SecurityGroup, NAMED);
            outcome(call, aws.remove(&named, &inventory).await)?;
        }
        Call::CreateTags => aws.keep_volume("vol-1", "it was asked for").await?,
        Call::ListBucket => bucket.find().await.map(drop)?,
        Call::CreateBucket => bucket.create().await?,
        Call::GetBucketVersioning => bucket.is_versioned().await.map(drop)?,
        Call::PutBucketVersioning => bucket.keep_versions().await?,
        Call::GetEncryptionConfiguration => bucket.encryption().await.map(drop)?,
        Call::PutEncryptionConfiguration => bucket.encrypt_with("arn:key").await?,
        Call::CreateKey | Call::EnableKeyRotation => bucket.make_key().await.map(drop)?,
        Call::GetBucketPublicAccessBlock => bucket.is_private().await.map(drop)?,
        Call::PutBucketPublicAccessBlock => bucket.block_public_access().await?,
        Call::GetBucketOwnershipControls => bucket.is_owned_whole().await.map(drop)?,
        Call::PutBucketOwnershipControls => bucket.own_whole().await?,
        Call::GetBucketPolicy => bucket.policy_to_write().await.map(drop)?,
        Call::PutBucketPolicy => bucket.write_policy(&json!({})).await?,
        Call::GetLifecycleConfiguration => bucket.drops_old_versions().await.map(drop)?,
        Call::PutLifecycleConfiguration => bucket.drop_old_versions().await?,
        Call::GetBucketTagging => bucket.tags_to_write().await.map(drop)?,
        Call::PutBucketTagging => bucket.write_tags(&[]).await?,
    }
    Ok(())
}

fn resource(kind: ResourceKind, id: &str) -> Resource {
    Resource {
        kind,
        id: id.to_owned(),
        // The role, of an instance profile.
        detail: "demo-karpenter-node".to_owned(),
        tags: BTreeMap::new(),
        vpc: None,
        state: State::Free,
        managed_by_service: false,
    }
}

async fn remove(aws: &Aws, call: Call, kind: ResourceKind, id: &str) -> Result<(), Told> {
    let nothing = Inventory::of(Owner {
        name: ENVIRONMENT.to_owned(),
        region: "eu-west-1".to_owned(),
        networks: BTreeSet::new(),
        cluster_network: None,
    });
    outcome(call, aws.remove(&resource(kind, id), &nothing).await)
}

/// Whether `call` has failed. What a sweep waits for otherwise is none of its faults.
fn outcome(call: Call, attempt: Attempt) -> Result<(), Told> {
    match attempt {
        Attempt::Waits(why) | Attempt::Refused(why) if why.contains(&format!("{call} failed")) => Err(Told::Line(why)),
        _ => Ok(()),
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
            ("ec2", "DeleteSecurityGroup") if about(NAMED) => return missing("DependencyViolation"),
            ("ec2", "DescribeSecurityGroups") => {
                let rule = format!("<item><ipProtocol>-1</ipProtocol><groups><item><groupId>{NAMED}</groupId></item></groups></item>");
                format!("<R><securityGroupInfo><item><groupId>sg-ours</groupId><tagSet><item><key>kubernetes.io/cluster/demo</key><value>owned</value></item></tagSet><ipPermissions>{rule}</ipPermissions><ipPermissionsEgress>{rule}</ipPermissionsEgress></item></securityGroupInfo></R>")
            }
            ("elasticloadbalancing", "DescribeLoadBalancers") if about("Version=2015-12-01") => "<R><DescribeLoadBalancersResult><LoadBalancers><member><LoadBalancerArn>arn:lb</LoadBalancerArn></member></LoadBalancers></DescribeLoadBalancersResult></R>".to_owned(),
            ("iam", "ListInstanceProfiles") => "<R><ListInstanceProfilesResult><InstanceProfiles><member><InstanceProfileName>demo_1</InstanceProfileName></member></InstanceProfiles></ListInstanceProfilesResult></R>".to_owned(),
            ("logs", _) => "{}".to_owned(),
            ("s3", "GetBucketPolicy") => "{}".to_owned(),
            ("s3", operation) if operation.starts_with("Get") => format!("<{operation}/>"),
            ("s3", _) => String::new(),
            ("ec2" | "iam" | "elasticloadbalancing", operation) => format!("<{operation}Response/>"),
            ("tag", _) => json!({ "ResourceTagMappingList": [
                { "ResourceARN": KMS_KEY },
            ] })
            .to_string(),
            ("kms", _) => json!({ "KeyMetadata": { "Arn": KMS_KEY, "DeletionDate": 1_767_225_600 } }).to_string(),
            other => panic!("no healthy answer is known for {other:?}"),
        };
        Answer::ok(body)
    }
}
