//! Every call of AWS that mfsre makes. An adapter cannot name one that is not here: errors are told by it, and the IAM
//! policy is made of it.

use std::fmt;

/// What a call is about, which decides what an IAM policy can narrow it to
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Whoever calls; IAM asks for no permission.
    Caller,
    /// The environment's EKS cluster.
    Cluster,
    /// The secret of the admin password.
    AdminSecret,
    /// The secret of the admin password, and the one with the registry's credential where there is one.
    ReadableSecrets,
    /// The parameters of the deploy key, and the environment's lock.
    Parameters,
    /// KMS keys with the environment's tag, and with an S3 backend any.
    Keys,
    /// What controllers of the environment's cluster have made, by its tags.
    Orphans,
    /// Network interfaces of the region.
    Interfaces,
    /// Instance profiles with the cluster's tag.
    InstanceProfiles,
    /// Log groups that are named after the cluster.
    LogGroups,
    /// The bucket of an S3 backend.
    StateBucket,
    /// A KMS key to be made for a state bucket, which carries its tag.
    StateKeys,
    /// The account: IAM knows nothing narrower for this action.
    Account,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $call:ident = $service:literal : $operation:literal $(, tags by $tags:literal)? => $subject:ident;)*) => {
        /// A call of AWS.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Call {
            $($(#[$doc])* #[doc = concat!("`", $service, ":", $operation, "`")] $call,)*
        }

        impl Call {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$call),*];

            /// The service as IAM names it.
            #[must_use]
            pub fn service(self) -> &'static str {
                match self { $(Self::$call => $service,)* }
            }

            /// The operation as the API names it.
            #[must_use]
            pub fn operation(self) -> &'static str {
                match self { $(Self::$call => $operation,)* }
            }

            /// What it is about.
            #[must_use]
            pub fn subject(self) -> Subject {
                match self { $(Self::$call => Subject::$subject,)* }
            }

            /// The IAM actions that it needs: its own, and that of the tags which it gives.
            #[must_use]
            pub fn actions(self) -> Vec<&'static str> {
                match self { $(Self::$call => vec![concat!($service, ":", $operation), $($tags)?],)* }
            }
        }
    };
}

calls! {
    GetCallerIdentity = "sts":"GetCallerIdentity" => Caller;

    DescribeCluster = "eks":"DescribeCluster" => Cluster;
    DescribeClusterVersions = "eks":"DescribeClusterVersions" => Account;

    CreateSecret = "secretsmanager":"CreateSecret", tags by "secretsmanager:TagResource" => AdminSecret;
    DeleteSecret = "secretsmanager":"DeleteSecret" => AdminSecret;
    DescribeSecret = "secretsmanager":"DescribeSecret" => AdminSecret;
    GetSecretValue = "secretsmanager":"GetSecretValue" => ReadableSecrets;
    PutSecretValue = "secretsmanager":"PutSecretValue" => AdminSecret;
    RestoreSecret = "secretsmanager":"RestoreSecret" => AdminSecret;
    UpdateSecretVersionStage = "secretsmanager":"UpdateSecretVersionStage" => AdminSecret;

    DeleteParameter = "ssm":"DeleteParameter" => Parameters;
    GetParameter = "ssm":"GetParameter" => Parameters;
    GetParameterHistory = "ssm":"GetParameterHistory" => Parameters;
    PutParameter = "ssm":"PutParameter", tags by "ssm:AddTagsToResource" => Parameters;

    DescribeAddresses = "ec2":"DescribeAddresses" => Account;
    DescribeInstances = "ec2":"DescribeInstances" => Account;
    DescribeInternetGateways = "ec2":"DescribeInternetGateways" => Account;
    DescribeLaunchTemplates = "ec2":"DescribeLaunchTemplates" => Account;
    DescribeNatGateways = "ec2":"DescribeNatGateways" => Account;
    DescribeNetworkInterfaces = "ec2":"DescribeNetworkInterfaces" => Account;
    DescribeRouteTables = "ec2":"DescribeRouteTables" => Account;
    DescribeSecurityGroups = "ec2":"DescribeSecurityGroups" => Account;
    DescribeSubnets = "ec2":"DescribeSubnets" => Account;
    DescribeVolumes = "ec2":"DescribeVolumes" => Account;
    DescribeVpcEndpoints = "ec2":"DescribeVpcEndpoints" => Account;
    DescribeVpcs = "ec2":"DescribeVpcs" => Account;
    CreateTags = "ec2":"CreateTags" => Orphans;
    DeleteLaunchTemplate = "ec2":"DeleteLaunchTemplate" => Orphans;
    DeleteNetworkInterface = "ec2":"DeleteNetworkInterface" => Interfaces;
    DeleteRouteTable = "ec2":"DeleteRouteTable" => Orphans;
    DeleteSecurityGroup = "ec2":"DeleteSecurityGroup" => Orphans;
    DeleteSubnet = "ec2":"DeleteSubnet" => Orphans;
    DeleteVolume = "ec2":"DeleteVolume" => Orphans;
    RevokeSecurityGroupEgress = "ec2":"RevokeSecurityGroupEgress" => Orphans;
    RevokeSecurityGroupIngress = "ec2":"RevokeSecurityGroupIngress" => Orphans;
    TerminateInstances = "ec2":"TerminateInstances" => Orphans;

    DescribeLoadBalancers = "elasticloadbalancing":"DescribeLoadBalancers" => Account;
    DescribeTags = "elasticloadbalancing":"DescribeTags" => Account;
    DescribeTargetGroups = "elasticloadbalancing":"DescribeTargetGroups" => Account;
    DeleteLoadBalancer = "elasticloadbalancing":"DeleteLoadBalancer" => Orphans;
    DeleteTargetGroup = "elasticloadbalancing":"DeleteTargetGroup" => Orphans;

    ListInstanceProfiles = "iam":"ListInstanceProfiles" => Account;
    ListInstanceProfileTags = "iam":"ListInstanceProfileTags" => Account;
    ListRoles = "iam":"ListRoles" => Account;
    DeleteInstanceProfile = "iam":"DeleteInstanceProfile" => InstanceProfiles;
    RemoveRoleFromInstanceProfile = "iam":"RemoveRoleFromInstanceProfile" => InstanceProfiles;

    DescribeLogGroups = "logs":"DescribeLogGroups" => Account;
    DeleteLogGroup = "logs":"DeleteLogGroup" => LogGroups;

    DescribeKey = "kms":"DescribeKey" => Keys;
    CreateKey = "kms":"CreateKey", tags by "kms:TagResource" => StateKeys;
    EnableKeyRotation = "kms":"EnableKeyRotation" => StateKeys;

    GetResources = "tag":"GetResources" => Account;

    // S3 names its operations otherwise than IAM its actions; these are the actions.
    CreateBucket = "s3":"CreateBucket" => StateBucket;
    ListBucket = "s3":"ListBucket" => StateBucket;
    GetBucketOwnershipControls = "s3":"GetBucketOwnershipControls" => StateBucket;
    PutBucketOwnershipControls = "s3":"PutBucketOwnershipControls" => StateBucket;
    GetBucketPolicy = "s3":"GetBucketPolicy" => StateBucket;
    PutBucketPolicy = "s3":"PutBucketPolicy" => StateBucket;
    GetBucketPublicAccessBlock = "s3":"GetBucketPublicAccessBlock" => StateBucket;
    PutBucketPublicAccessBlock = "s3":"PutBucketPublicAccessBlock" => StateBucket;
    GetBucketTagging = "s3":"GetBucketTagging" => StateBucket;
    PutBucketTagging = "s3":"PutBucketTagging" => StateBucket;
    GetBucketVersioning = "s3":"GetBucketVersioning" => StateBucket;
    PutBucketVersioning = "s3":"PutBucketVersioning" => StateBucket;
    GetEncryptionConfiguration = "s3":"GetEncryptionConfiguration" => StateBucket;
    PutEncryptionConfiguration = "s3":"PutEncryptionConfiguration" => StateBucket;
    GetLifecycleConfiguration = "s3":"GetLifecycleConfiguration" => StateBucket;
    PutLifecycleConfiguration = "s3":"PutLifecycleConfiguration" => StateBucket;
}

/// As IAM names it, such as `eks:DescribeCluster`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service(), self.operation())
    }
}
