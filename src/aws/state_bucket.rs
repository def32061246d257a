//! The bucket that keeps Terraform's states. Every read and write here can be repeated.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::escape::escape;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::query::{Element, parse};
use super::signed::{Request, Response};
use super::{Aws, AwsError};

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
        let answer = self.send("s3:ListBucket", Method::HEAD, "", "").await?;
        let region = answer.headers.get("x-amz-bucket-region").and_then(|v| v.to_str().ok());
        let elsewhere = region.filter(|region| *region != self.aws.region.as_str());
        match (answer.status, elsewhere) {
            (StatusCode::NOT_FOUND, _) => Ok(Found::Missing),
            (StatusCode::FORBIDDEN, None) => Ok(Found::Foreign),
            (_, Some(region)) => Ok(Found::Elsewhere(region.to_owned())),
            (status, None) if status.is_success() => Ok(Found::Here),
            _ => Err(refused("s3:ListBucket", &answer)),
        }
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
            call: "s3:CreateBucket",
            method: Method::PUT,
            path: &format!("/{}", self.name),
            headers: &[("x-amz-object-ownership", "BucketOwnerEnforced")],
            body: &body,
        };
        let answer = self.aws.signed(&request).await?;
        let error = match answer.status.is_success() {
            true => return Ok(()),
            false => refused("s3:CreateBucket", &answer),
        };
        // Somebody else of this account was quicker.
        if error.is("BucketAlreadyOwnedByYou") {
            return Ok(());
        }
        Err(error)
    }

    /// Whether every version of an object is kept.
    ///
    /// # Errors
    /// The call failed.
    pub async fn is_versioned(&self) -> Result<bool, AwsError> {
        let found = self.read("s3:GetBucketVersioning", "versioning").await?;
        Ok(text(found.as_ref(), &["VersioningConfiguration", "Status"]) == "Enabled")
    }

    /// Has every version kept.
    ///
    /// # Errors
    /// The call failed.
    pub async fn keep_versions(&self) -> Result<(), AwsError> {
        let body =
            format!("<VersioningConfiguration xmlns=\"{XMLNS}\"><Status>Enabled</Status></VersioningConfiguration>");
        self.write("s3:PutBucketVersioning", "versioning", &body).await
    }

    /// The KMS key that encrypts the bucket's objects, where the bucket uses one with a bucket key.
    ///
    /// # Errors
    /// The call failed.
    pub async fn encryption(&self) -> Result<Option<String>, AwsError> {
        let found = self.read("s3:GetEncryptionConfiguration", "encryption").await?;
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
        self.write("s3:PutEncryptionConfiguration", "encryption", &body).await
    }

    /// The ARN of a KMS key.
    ///
    /// # Errors
    /// There is none, or the caller may not look at it.
    pub async fn key_arn(&self, key: &str) -> Result<String, AwsError> {
        let answer = self
            .kms("DescribeKey", "kms:DescribeKey", &json!({ "KeyId": key }))
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
                "tag:GetResources",
                &filter,
            )
            .await?;
        for found in answer["ResourceTagMappingList"].as_array().into_iter().flatten() {
            let Some(arn) = found["ResourceARN"].as_str() else {
                continue;
            };
            let key = self
                .kms("DescribeKey", "kms:DescribeKey", &json!({ "KeyId": arn }))
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
        let made = self.kms("CreateKey", "kms:CreateKey", &wanted).await?;
        let arn = made["KeyMetadata"]["Arn"].as_str().unwrap_or_default().to_owned();
        self.kms("EnableKeyRotation", "kms:EnableKeyRotation", &json!({ "KeyId": arn }))
            .await?;
        Ok(arn)
    }

    /// Whether everything that would make the bucket public is blocked.
    ///
    /// # Errors
    /// The call failed.
    pub async fn is_private(&self) -> Result<bool, AwsError> {
        let found = self.read("s3:GetBucketPublicAccessBlock", "publicAccessBlock").await?;
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
        self.write("s3:PutBucketPublicAccessBlock", "publicAccessBlock", &body)
            .await
    }

    /// Whether access lists of objects mean nothing, so that the policy alone decides.
    ///
    /// # Errors
    /// The call failed.
    pub async fn is_owned_whole(&self) -> Result<bool, AwsError> {
        let found = self.read("s3:GetBucketOwnershipControls", "ownershipControls").await?;
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
        self.write("s3:PutBucketOwnershipControls", "ownershipControls", &body)
            .await
    }

    /// The bucket's policy with the statement that refuses calls without TLS; `None` where it has it already.
    ///
    /// # Errors
    /// The call failed.
    pub async fn policy_to_write(&self) -> Result<Option<Value>, AwsError> {
        const CALL: &str = "s3:GetBucketPolicy";
        let answer = self.send(CALL, Method::GET, "?policy", "").await?;
        let mut policy = if answer.status.is_success() {
            serde_json::from_str(&answer.text)
                .map_err(|e| AwsError::new(CALL, None, format!("the answer is not JSON: {e}")))?
        } else {
            let error = refused(CALL, &answer);
            if !error.is("NoSuchBucketPolicy") {
                return Err(error);
            }
            json!({ "Version": "2012-10-17", "Statement": [] })
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
        self.write("s3:PutBucketPolicy", "policy", &policy.to_string()).await
    }

    /// Whether old versions go some day; `None` where the bucket has rules of its own, which are left alone.
    ///
    /// # Errors
    /// The call failed.
    pub async fn drops_old_versions(&self) -> Result<Option<bool>, AwsError> {
        let found = self.read("s3:GetLifecycleConfiguration", "lifecycle").await?;
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
        self.write("s3:PutLifecycleConfiguration", "lifecycle", &body).await
    }

    /// The bucket's tags with the one that says what it is for; `None` where it has it already.
    ///
    /// # Errors
    /// The call failed.
    pub async fn tags_to_write(&self) -> Result<Option<Vec<(String, String)>>, AwsError> {
        let found = self.read("s3:GetBucketTagging", "tagging").await?;
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
        self.write("s3:PutBucketTagging", "tagging", &body).await
    }

    /// A part of the bucket's configuration.
    async fn read(&self, call: &'static str, part: &str) -> Read {
        let answer = self.send(call, Method::GET, &format!("?{part}"), "").await?;
        if answer.status.is_success() {
            let document =
                parse(&answer.text).map_err(|e| AwsError::new(call, None, format!("the answer is not XML: {e}")))?;
            return Ok(Some(document));
        }
        let error = refused(call, &answer);
        // Each part has a code of its own for "there is none".
        let none = error.code.as_deref().is_some_and(|code| {
            [
                "ServerSideEncryptionConfigurationNotFoundError",
                "NoSuchPublicAccessBlockConfiguration",
                "OwnershipControlsNotFoundError",
                "NoSuchLifecycleConfiguration",
                "NoSuchTagSet",
            ]
            .contains(&code)
        });
        if none { Ok(None) } else { Err(error) }
    }

    async fn write(&self, call: &'static str, part: &str, body: &str) -> Result<(), AwsError> {
        let answer = self.send(call, Method::PUT, &format!("?{part}"), body).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(refused(call, &answer))
    }

    async fn send(&self, call: &'static str, method: Method, query: &str, body: &str) -> Result<Response, AwsError> {
        let checksum = STANDARD.encode(Sha256::digest(body.as_bytes()));
        // A bucket whose name has changed hands is refused, whatever its policy would allow.
        let mut headers = vec![("x-amz-expected-bucket-owner", self.account.as_str())];
        if method == Method::PUT {
            headers.push(("x-amz-checksum-sha256", &checksum));
        }
        let request = Request {
            service: "s3",
            global: false,
            call,
            method,
            // By path: a name with dots in it has no certificate as a host.
            path: &format!("/{}{query}", self.name),
            headers: &headers,
            body,
        };
        self.aws.signed(&request).await
    }

    async fn kms(&self, action: &str, call: &'static str, body: &Value) -> Result<Value, AwsError> {
        self.aws
            .json_call("kms", &format!("TrentService.{action}"), call, body)
            .await
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

/// The error of an answer. S3 says nothing in the answer to a HEAD but its status.
fn refused(call: &'static str, answer: &Response) -> AwsError {
    let document = parse(&answer.text).unwrap_or_default();
    let at = |leaf: &str| Some(document.text_at(&["Error", leaf]).to_owned()).filter(|t| !t.is_empty());
    AwsError::new(
        call,
        at("Code").or_else(|| Some(answer.status.as_u16().to_string())),
        at("Message").unwrap_or_else(|| answer.status.to_string()),
    )
}
