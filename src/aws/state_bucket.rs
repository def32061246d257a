//! The bucket that keeps Terraform's states. Every read and write here can be repeated.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::escape::escape;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::query::{Element, read_xml};
use super::signed::{Answer, Failure, Request};
use super::{Aws, AwsError, Call};

/// Marks the bucket, and the key that is made for it.
const TAG: &str = "mfsre:state-bucket";
/// By which the statement in the bucket's policy, and the rule of its life cycle, are known again.
const TLS_ONLY: &str = "MfsreTlsOnly";
const OLD_VERSIONS: &str = "mfsre-old-states";
/// A state that was replaced is kept for so many days, and the newest of them for ever.
const OLD_DAYS: u32 = 90;
const OLD_KEPT: u32 = 20;

/// Whether a bucket of this name is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// In the account and the region.
    Here,
    /// In another region.
    Elsewhere(String),
    /// In another account, or the caller may not look at it; which of the two S3 does not tell.
    Foreign,
    /// Nowhere.
    Missing,
}

/// A bucket of one account.
#[derive(Debug, Clone)]
pub struct StateBucket {
    aws: Aws,
    name: String,
    account: String,
}

/// What a read found: the document, or nothing where S3 says that there is none.
type Read = Result<Option<Element>, AwsError>;

impl StateBucket {
    /// The bucket `name` in the region of `aws`, which has to belong to `account`.
    #[must_use]
    pub fn new(aws: Aws, name: &str, account: &str) -> Self {
        Self {
            aws,
            name: name.to_owned(),
            account: account.to_owned(),
        }
    }

    /// Looks for the bucket.
    ///
    /// # Errors
    /// S3 cannot be asked.
    pub async fn find(&self) -> Result<Found, AwsError> {
        let (status, region) = self.send(Call::ListBucket, "HEAD", "", "", look).await?;
        let elsewhere = region.filter(|region| region != self.aws.region.as_str());
        Ok(match (status, elsewhere) {
            (404, _) => Found::Missing,
            (_, Some(region)) => Found::Elsewhere(region),
            (403, None) => Found::Foreign,
            _ => Found::Here,
        })
    }

    /// Makes the bucket. Nobody but its owner owns what is in it from the start.
    ///
    /// # Errors
    /// It cannot be made; `BucketAlreadyExists` where another account has the name.
    pub async fn create(&self) -> Result<(), AwsError> {
        let region = self.aws.region.as_str();
        // Only us-east-1 must not be named (CreateBucket in the API reference).
        let body = if region == "us-east-1" {
            String::new()
        } else {
            format!(
                "<CreateBucketConfiguration xmlns=\"{XMLNS}\"><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            )
        };
        let request = Request {
            service: "s3",
            global: false,
            call: Call::CreateBucket,
            method: "PUT",
            path: format!("/{}", self.name),
            headers: vec![("x-amz-object-ownership", "BucketOwnerEnforced".to_owned())],
            body,
        };
        match self.aws.signed(request, done).await {
            // Somebody else of this account was quicker.
            Err(error) if error.is("BucketAlreadyOwnedByYou") => Ok(()),
            made => made,
        }
    }

    /// Whether every version of an object is kept.
    ///
    /// # Errors
    /// The call failed.
    pub async fn is_versioned(&self) -> Result<bool, AwsError> {
        let found = self.read(Call::GetBucketVersioning, "versioning").await?;
        Ok(text(found.as_ref(), &["VersioningConfiguration", "Status"]) == "Enabled")
    }

    /// Has every version kept.
    ///
    /// # Errors
    /// The call failed.
    pub async fn keep_versions(&self) -> Result<(), AwsError> {
        let body =
            format!("<VersioningConfiguration xmlns=\"{XMLNS}\"><Status>Enabled</Status></VersioningConfiguration>");
        self.write(Call::PutBucketVersioning, "versioning", &body).await
    }

    /// The KMS key that encrypts the bucket's objects, where the bucket uses one with a bucket key.
    ///
    /// # Errors
    /// The call failed.
    pub async fn encryption(&self) -> Result<Option<String>, AwsError> {
        let found = self.read(Call::GetEncryptionConfiguration, "encryption").await?;
        let rule = |path: &[&str]| {
            let path = [&["ServerSideEncryptionConfiguration", "Rule"], path].concat();
            text(found.as_ref(), &path)
        };
        let algorithm = rule(&["ApplyServerSideEncryptionByDefault", "SSEAlgorithm"]);
        if !algorithm.starts_with("aws:kms") || rule(&["BucketKeyEnabled"]) != "true" {
            return Ok(None);
        }
        let key = rule(&["ApplyServerSideEncryptionByDefault", "KMSMasterKeyID"]);
        Ok(Some(key).filter(|key| !key.is_empty()))
    }

    /// Has the bucket's objects encrypted with a KMS key, and asks KMS once for many of them.
    ///
    /// # Errors
    /// The call failed.
    pub async fn encrypt_with(&self, key: &str) -> Result<(), AwsError> {
        let body = format!(
            "<ServerSideEncryptionConfiguration xmlns=\"{XMLNS}\"><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{}</KMSMasterKeyID></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>",
            escape(key)
        );
        self.write(Call::PutEncryptionConfiguration, "encryption", &body).await
    }

    /// The ARN of a KMS key.
    ///
    /// # Errors
    /// There is none, or the caller may not look at it.
    pub async fn key_arn(&self, key: &str) -> Result<String, AwsError> {
        let answer = self
            .kms("TrentService.DescribeKey", Call::DescribeKey, &json!({ "KeyId": key }))
            .await?;
        Ok(answer["KeyMetadata"]["Arn"].as_str().unwrap_or(key).to_owned())
    }

    /// The key that was made for this bucket, if one was.
    ///
    /// # Errors
    /// A call failed.
    pub async fn own_key(&self) -> Result<Option<String>, AwsError> {
        let filter = json!({
            "TagFilters": [{ "Key": TAG, "Values": [self.name] }],
            "ResourceTypeFilters": ["kms:key"],
        });
        let answer = self
            .aws
            .json_call(
                "tagging",
                "ResourceGroupsTaggingAPI_20170126.GetResources",
                Call::GetResources,
                &filter,
            )
            .await?;
        for found in answer["ResourceTagMappingList"].as_array().into_iter().flatten() {
            let Some(arn) = found["ResourceARN"].as_str() else {
                continue;
            };
            let key = self
                .kms("TrentService.DescribeKey", Call::DescribeKey, &json!({ "KeyId": arn }))
                .await?;
            if key["KeyMetadata"]["KeyState"] == "Enabled" {
                return Ok(Some(arn.to_owned()));
            }
        }
        Ok(None)
    }

    /// Makes a key for this bucket, which KMS rotates every year.
    ///
    /// # Errors
    /// A call failed.
    pub async fn make_key(&self) -> Result<String, AwsError> {
        let wanted = json!({
            "Description": format!("Terraform states in {}", self.name),
            "Tags": [{ "TagKey": TAG, "TagValue": self.name }],
        });
        let made = self.kms("TrentService.CreateKey", Call::CreateKey, &wanted).await?;
        let arn = made["KeyMetadata"]["Arn"].as_str().unwrap_or_default().to_owned();
        self.kms(
            "TrentService.EnableKeyRotation",
            Call::EnableKeyRotation,
            &json!({ "KeyId": arn }),
        )
        .await?;
        Ok(arn)
    }

    /// Whether everything that would make the bucket public is blocked.
    ///
    /// # Errors
    /// The call failed.
    pub async fn is_private(&self) -> Result<bool, AwsError> {
        let found = self.read(Call::GetBucketPublicAccessBlock, "publicAccessBlock").await?;
        Ok(PUBLIC_ACCESS
            .iter()
            .all(|setting| text(found.as_ref(), &["PublicAccessBlockConfiguration", setting]) == "true"))
    }

    /// Blocks everything that would make the bucket public.
    ///
    /// # Errors
    /// The call failed.
    pub async fn block_public_access(&self) -> Result<(), AwsError> {
        let settings: String = PUBLIC_ACCESS.iter().map(|s| format!("<{s}>true</{s}>")).collect();
        let body =
            format!("<PublicAccessBlockConfiguration xmlns=\"{XMLNS}\">{settings}</PublicAccessBlockConfiguration>");
        self.write(Call::PutBucketPublicAccessBlock, "publicAccessBlock", &body)
            .await
    }

    /// Whether access lists of objects mean nothing, so that the policy alone decides.
    ///
    /// # Errors
    /// The call failed.
    pub async fn is_owned_whole(&self) -> Result<bool, AwsError> {
        let found = self.read(Call::GetBucketOwnershipControls, "ownershipControls").await?;
        Ok(text(found.as_ref(), &["OwnershipControls", "Rule", "ObjectOwnership"]) == "BucketOwnerEnforced")
    }

    /// Switches access lists of objects off.
    ///
    /// # Errors
    /// The call failed.
    pub async fn own_whole(&self) -> Result<(), AwsError> {
        let body = format!(
            "<OwnershipControls xmlns=\"{XMLNS}\"><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>"
        );
        self.write(Call::PutBucketOwnershipControls, "ownershipControls", &body)
            .await
    }

    /// The bucket's policy with the statement that refuses calls without TLS; `None` where it has it already.
    ///
    /// # Errors
    /// The call failed.
    pub async fn policy_to_write(&self) -> Result<Option<Value>, AwsError> {
        let mut policy = match self
            .send(Call::GetBucketPolicy, "GET", "?policy", "", read_policy)
            .await
        {
            Err(error) if error.is("NoSuchBucketPolicy") => json!({ "Version": "2012-10-17", "Statement": [] }),
            found => found?,
        };
        let arn = format!("arn:{}:s3:::{}", self.aws.region.partition(), self.name);
        let ours = json!({
            "Sid": TLS_ONLY,
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, format!("{arn}/*")],
            "Condition": { "Bool": { "aws:SecureTransport": "false" } },
        });
        // One statement may stand without a list.
        let mut statements = match policy["Statement"].take() {
            Value::Array(statements) => statements,
            one => vec![one],
        };
        if statements.contains(&ours) {
            return Ok(None);
        }
        statements.retain(|statement| statement["Sid"] != TLS_ONLY);
        statements.push(ours);
        policy["Statement"] = statements.into();
        Ok(Some(policy))
    }

    /// Writes the bucket's policy.
    ///
    /// # Errors
    /// The call failed.
    pub async fn write_policy(&self, policy: &Value) -> Result<(), AwsError> {
        self.write(Call::PutBucketPolicy, "policy", &policy.to_string()).await
    }

    /// Whether old versions go some day; `None` where the bucket has rules of its own, which are left alone.
    ///
    /// # Errors
    /// The call failed.
    pub async fn drops_old_versions(&self) -> Result<Option<bool>, AwsError> {
        let found = self.read(Call::GetLifecycleConfiguration, "lifecycle").await?;
        let rules = found.as_ref().map(|f| f.all(&["LifecycleConfiguration", "Rule"]));
        let rules = rules.unwrap_or_default();
        if rules.iter().any(|rule| rule.text_at(&["ID"]) == OLD_VERSIONS) {
            return Ok(Some(true));
        }
        Ok(rules.is_empty().then_some(false))
    }

    /// Has old versions go after a while, the newest of them excepted.
    ///
    /// # Errors
    /// The call failed.
    pub async fn drop_old_versions(&self) -> Result<(), AwsError> {
        let body = format!(
            "<LifecycleConfiguration xmlns=\"{XMLNS}\"><Rule><ID>{OLD_VERSIONS}</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>{OLD_DAYS}</NoncurrentDays><NewerNoncurrentVersions>{OLD_KEPT}</NewerNoncurrentVersions></NoncurrentVersionExpiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>"
        );
        self.write(Call::PutLifecycleConfiguration, "lifecycle", &body).await
    }

    /// The bucket's tags with the one that says what it is for; `None` where it has it already.
    ///
    /// # Errors
    /// The call failed.
    pub async fn tags_to_write(&self) -> Result<Option<Vec<(String, String)>>, AwsError> {
        let found = self.read(Call::GetBucketTagging, "tagging").await?;
        let tags = found.as_ref().map(|f| f.all(&["Tagging", "TagSet", "Tag"]));
        let mut tags: Vec<(String, String)> = tags
            .unwrap_or_default()
            .iter()
            .map(|tag| (tag.text_at(&["Key"]).to_owned(), tag.text_at(&["Value"]).to_owned()))
            .collect();
        let ours = (TAG.to_owned(), self.name.clone());
        if tags.contains(&ours) {
            return Ok(None);
        }
        tags.retain(|(key, _)| key != TAG);
        tags.push(ours);
        Ok(Some(tags))
    }

    /// Writes the bucket's tags.
    ///
    /// # Errors
    /// The call failed.
    pub async fn write_tags(&self, tags: &[(String, String)]) -> Result<(), AwsError> {
        let tags: String = tags
            .iter()
            .map(|(key, value)| format!("<Tag><Key>{}</Key><Value>{}</Value></Tag>", escape(key), escape(value)))
            .collect();
        let body = format!("<Tagging xmlns=\"{XMLNS}\"><TagSet>{tags}</TagSet></Tagging>");
        self.write(Call::PutBucketTagging, "tagging", &body).await
    }

    /// A part of the bucket's configuration.
    async fn read(&self, call: Call, part: &str) -> Read {
        match self.send(call, "GET", &format!("?{part}"), "", read_xml).await {
            Ok(document) => Ok(Some(document)),
            // Each part has a code of its own for "there is none".
            Err(error) => match error.code.as_deref() {
                Some(
                    "ServerSideEncryptionConfigurationNotFoundError"
                    | "NoSuchPublicAccessBlockConfiguration"
                    | "OwnershipControlsNotFoundError"
                    | "NoSuchLifecycleConfiguration"
                    | "NoSuchTagSet",
                ) => Ok(None),
                _ => Err(error),
            },
        }
    }

    async fn write(&self, call: Call, part: &str, body: &str) -> Result<(), AwsError> {
        self.send(call, "PUT", &format!("?{part}"), body, done).await
    }

    async fn send<O>(
        &self,
        call: Call,
        method: &'static str,
        query: &str,
        body: &str,
        read: super::signed::Read<O>,
    ) -> Result<O, AwsError>
    where
        O: std::fmt::Debug + Send + Sync + 'static,
    {
        // A bucket whose name has changed hands is refused, whatever its policy would allow.
        let mut headers = vec![("x-amz-expected-bucket-owner", self.account.clone())];
        if method == "PUT" {
            let checksum = STANDARD.encode(Sha256::digest(body.as_bytes()));
            headers.push(("x-amz-checksum-sha256", checksum));
        }
        let request = Request {
            service: "s3",
            global: false,
            call,
            method,
            // By path: a name with dots in it has no certificate as a host.
            path: format!("/{}{query}", self.name),
            headers,
            body: body.to_owned(),
        };
        self.aws.signed(request, read).await
    }

    async fn kms(&self, target: &'static str, call: Call, body: &Value) -> Result<Value, AwsError> {
        self.aws.json_call("kms", target, call, body).await
    }
}

const XMLNS: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

const PUBLIC_ACCESS: [&str; 4] = [
    "BlockPublicAcls",
    "IgnorePublicAcls",
    "BlockPublicPolicy",
    "RestrictPublicBuckets",
];

fn text(document: Option<&Element>, path: &[&str]) -> String {
    document.map_or_else(String::new, |d| d.text_at(path).to_owned())
}

/// Status and region of a bucket. S3 tells nothing else in the answer to a HEAD, and both also where it refuses.
fn look(answer: &Answer<'_>) -> Result<(u16, Option<String>), Failure> {
    let region = answer.header("x-amz-bucket-region").map(str::to_owned);
    match answer.status() {
        status @ (200 | 403 | 404) => Ok((status, region)),
        status @ 300..=499 if region.is_some() => Ok((status, region)),
        status => read_xml(answer).map(|_| (status, None)),
    }
}

/// Nothing but whether it was done.
fn done(answer: &Answer<'_>) -> Result<(), Failure> {
    if answer.is_success() {
        return Ok(());
    }
    read_xml(answer).map(drop)
}

/// The document of a policy, which is JSON where errors are XML.
fn read_policy(answer: &Answer<'_>) -> Result<Value, Failure> {
    if answer.is_success() {
        return serde_json::from_str(answer.text)
            .map_err(|e| Failure::Unreadable(format!("the answer is not JSON: {e}")));
    }
    read_xml(answer).map(|_| Value::Null)
}
