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
    /// The parameters of the deploy key.
    DeployKey,
    /// KMS keys with the environment's tag.
    Keys,
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

    DeleteParameter = "ssm":"DeleteParameter" => DeployKey;
    GetParameter = "ssm":"GetParameter" => DeployKey;
    GetParameterHistory = "ssm":"GetParameterHistory" => DeployKey;
    PutParameter = "ssm":"PutParameter", tags by "ssm:AddTagsToResource" => DeployKey;

    DescribeAddresses = "ec2":"DescribeAddresses" => Account;
    DescribeInstances = "ec2":"DescribeInstances" => Account;
    DescribeLaunchTemplates = "ec2":"DescribeLaunchTemplates" => Account;
    DescribeNatGateways = "ec2":"DescribeNatGateways" => Account;
    DescribeNetworkInterfaces = "ec2":"DescribeNetworkInterfaces" => Account;
    DescribeSecurityGroups = "ec2":"DescribeSecurityGroups" => Account;
    DescribeSubnets = "ec2":"DescribeSubnets" => Account;
    DescribeVolumes = "ec2":"DescribeVolumes" => Account;
    DescribeVpcs = "ec2":"DescribeVpcs" => Account;

    ListRoles = "iam":"ListRoles" => Account;
    DescribeKey = "kms":"DescribeKey" => Keys;
    GetResources = "tag":"GetResources" => Account;
}

/// As IAM names it, such as `eks:DescribeCluster`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service(), self.operation())
    }
}
