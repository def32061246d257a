//! Makes the bucket of an S3 backend, and everything about it as it should be.

use serde::Serialize;

use crate::aws::{Aws, AwsAccess, Found, StateBucket};
use crate::config::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Region, Scalar as _};
use crate::ops::Context;
use crate::workflow::{Journal, Lock, Probe, Progress, Ran, Step, StepFuture, Steps, perform};

/// What `backend create` left behind.
#[derive(Debug, Serialize)]
pub struct BucketSummary {
    /// How many settings were changed; 0 where the bucket was as it should be.
    pub changed: usize,
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// The account that has it.
    pub account: String,
    /// The KMS key that encrypts what is in it.
    pub kms_key: String,
}

/// What the steps share.
pub(super) struct Bucket {
    bucket: StateBucket,
    name: String,
    region: String,
    account: String,
    /// The environment's file, for hints.
    file: String,
    /// The key that the settings name.
    wanted_key: Option<String>,
    key: String,
}

/// Makes the environment's bucket, or finds that it is as it should be.
///
/// # Errors
/// The backend is not S3, the bucket is somebody else's or elsewhere, or a call failed; run again, it continues.
pub async fn create_backend(context: &mut Context) -> Result<BucketSummary> {
    let name = context.environment.name.to_string();
    let private = context.private();
    let _lock = Lock::acquire(&private, "backend create", &name)?;
    context.attach().await?;
    let mut bucket = Bucket::of(context).await?;
    let (mut journal, _) = Journal::open(&private, "backend create")?;
    let reporter = context.reporter.clone();
    let cancellation = context.cancellation.clone();
    let changed = perform(&steps(), &mut bucket, &mut journal, reporter.as_ref(), &cancellation).await?;
    Ok(BucketSummary {
        changed,
        bucket: bucket.name,
        region: bucket.region,
        account: bucket.account,
        kms_key: bucket.key,
    })
}

/// The same as a part of another operation. Says whether anything was changed.
pub(super) async fn ensure_bucket(context: &mut Context, progress: Progress<'_>) -> Result<bool> {
    let mut bucket = Bucket::of(context).await?;
    let mut changed = false;
    for step in steps() {
        progress.say(step.describe());
        if step.probe(&mut bucket, progress).await? == Probe::Needed {
            step.run(&mut bucket, progress).await?;
            changed = true;
        }
    }
    Ok(changed)
}

fn steps() -> Steps<Bucket> {
    [
        Part::Bucket,
        Part::PublicAccess,
        Part::Ownership,
        Part::Versioning,
        Part::Encryption,
        Part::TlsOnly,
        Part::Lifecycle,
        Part::Tags,
    ]
    .into_iter()
    .map(|part| -> Box<dyn Step<Bucket>> { Box::new(part) })
    .collect()
}

impl Bucket {
    async fn of(context: &mut Context) -> Result<Self> {
        let file = format!("environments/{}.yaml", context.environment.name);
        let Backend::S3 {
            bucket,
            region,
            kms_key_id,
            ..
        } = context.environment.backend.clone()
        else {
            return Err(Error::new(
                ErrorKind::Configuration,
                format!("the state of {} is not kept in S3", context.environment.name),
            )
            .hint(format!(
                "write into {file}:\nbackend:\n  type: s3\n  bucket: NAME\nOnly an S3 backend has a bucket to make"
            )));
        };
        let account = context.connect().await?.identity().await?.account;
        let access = AwsAccess {
            region: Region::parse(&region)
                .map_err(|e| Error::new(ErrorKind::Configuration, format!("backend.region: {}", e.message)))?,
            ..context.platform()?.aws.clone()
        };
        let aws = Aws::connect(&access).await;
        Ok(Self {
            bucket: StateBucket::new(aws, &bucket, &account),
            name: bucket,
            region,
            account,
            file,
            wanted_key: kms_key_id,
            key: String::new(),
        })
    }

    fn foreign(&self) -> Error {
        Error::new(
            ErrorKind::Configuration,
            format!("the bucket {} is not one that mfsre may set up", self.name),
        )
        .cause(format!(
            "S3 refuses to show it (403): it belongs to another account than {}, or you may not look at it",
            self.account
        ))
        .hint(format!(
            "names of buckets are shared by all accounts: choose another one as backend.bucket in {}",
            self.file
        ))
        .hint("if the bucket is yours, allow s3:ListBucket on it to the identity you run as (aws sts get-caller-identity)")
    }

    fn elsewhere(&self, region: &str) -> Error {
        Error::new(
            ErrorKind::Configuration,
            format!("the bucket {} is in {region}, not in {}", self.name, self.region),
        )
        .hint(format!(
            "set backend.region to {region} in {}, or choose another backend.bucket",
            self.file
        ))
    }

    /// The ARN of the key that shall encrypt, where one is known.
    async fn key_to_use(&self) -> Result<Option<String>> {
        match &self.wanted_key {
            Some(key) => match self.bucket.key_arn(key).await {
                Ok(arn) => Ok(Some(arn)),
                Err(error) if error.is("NotFoundException") => Err(Error::new(
                    ErrorKind::Configuration,
                    format!("there is no KMS key {key} in {}", self.region),
                )
                .cause(error.source.to_string())
                .hint(format!(
                    "write a key of the bucket's region as backend.kms_key_id in {}, or remove the setting to have one made",
                    self.file
                ))),
                Err(error) => Err(error.into()),
            },
            None => Ok(self.bucket.own_key().await?),
        }
    }
}

/// A part of how the bucket should be.
#[derive(Debug, Clone, Copy)]
enum Part {
    Bucket,
    PublicAccess,
    Ownership,
    Versioning,
    Encryption,
    TlsOnly,
    Lifecycle,
    Tags,
}

impl Part {
    /// Whether the bucket is so already.
    async fn look(self, b: &mut Bucket) -> Result<Probe> {
        let stands = |stands: bool, detail: &str| {
            if stands {
                Probe::Stands(detail.to_owned())
            } else {
                Probe::Needed
            }
        };
        Ok(match self {
            Self::Bucket => match b.bucket.find().await? {
                Found::Here => Probe::Stands(format!("{} in account {}", b.name, b.account)),
                Found::Missing => Probe::Needed,
                Found::Foreign => return Err(b.foreign()),
                Found::Elsewhere(region) => return Err(b.elsewhere(&region)),
            },
            Self::PublicAccess => stands(b.bucket.is_private().await?, "all of it is blocked"),
            Self::Ownership => stands(b.bucket.is_owned_whole().await?, "access lists are off"),
            Self::Versioning => stands(b.bucket.is_versioned().await?, "every version is kept"),
            Self::Encryption => {
                let found = b.bucket.encryption().await?;
                // A key that the bucket has is as good as any, unless another one is asked for.
                let wanted = match (&b.wanted_key, &found) {
                    (None, Some(found)) => Some(found.clone()),
                    _ => b.key_to_use().await?,
                };
                match found {
                    Some(found) if wanted.as_ref() == Some(&found) => {
                        b.key.clone_from(&found);
                        Probe::Stands(format!("{found}, with a bucket key"))
                    }
                    _ => Probe::Needed,
                }
            }
            Self::TlsOnly => stands(
                b.bucket.policy_to_write().await?.is_none(),
                "the policy refuses plain HTTP",
            ),
            Self::Lifecycle => match b.bucket.drops_old_versions().await? {
                Some(true) => Probe::Stands("states that were replaced go after 90 days, but for the newest 20".into()),
                Some(false) => Probe::Needed,
                None => Probe::Impossible("the bucket has rules of its own, which stay as they are".into()),
            },
            Self::Tags => stands(b.bucket.tags_to_write().await?.is_none(), "mfsre:state-bucket"),
        })
    }

    /// Makes the bucket so.
    async fn set(self, b: &mut Bucket) -> Result<String> {
        Ok(match self {
            Self::Bucket => {
                match b.bucket.create().await {
                    Err(error) if error.is("BucketAlreadyExists") => return Err(b.foreign()),
                    made => made?,
                }
                format!("{} made in {}, account {}", b.name, b.region, b.account)
            }
            Self::PublicAccess => {
                b.bucket.block_public_access().await?;
                "all of it is blocked now".into()
            }
            Self::Ownership => {
                b.bucket.own_whole().await?;
                "access lists are off now".into()
            }
            Self::Versioning => {
                b.bucket.keep_versions().await?;
                "every version is kept from now on".into()
            }
            Self::Encryption => {
                let (key, made) = match b.key_to_use().await? {
                    Some(key) => (key, ""),
                    None => (b.bucket.make_key().await?, ", made for it"),
                };
                b.bucket.encrypt_with(&key).await?;
                b.key = key;
                format!("{}{made}, with a bucket key", b.key)
            }
            Self::TlsOnly => {
                if let Some(policy) = b.bucket.policy_to_write().await? {
                    b.bucket.write_policy(&policy).await?;
                }
                "the policy refuses plain HTTP now".into()
            }
            Self::Lifecycle => {
                b.bucket.drop_old_versions().await?;
                "states that were replaced go after 90 days, but for the newest 20".into()
            }
            Self::Tags => {
                if let Some(tags) = b.bucket.tags_to_write().await? {
                    b.bucket.write_tags(&tags).await?;
                }
                "mfsre:state-bucket".into()
            }
        })
    }
}

impl Step<Bucket> for Part {
    fn id(&self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::PublicAccess => "public-access",
            Self::Ownership => "ownership",
            Self::Versioning => "versioning",
            Self::Encryption => "encryption",
            Self::TlsOnly => "tls-only",
            Self::Lifecycle => "lifecycle",
            Self::Tags => "tags",
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Bucket => "the bucket",
            Self::PublicAccess => "block public access",
            Self::Ownership => "own every object",
            Self::Versioning => "keep versions",
            Self::Encryption => "encrypt with KMS",
            Self::TlsOnly => "take TLS only",
            Self::Lifecycle => "let old versions go",
            Self::Tags => "tag the bucket",
        }
        .into()
    }

    fn probe<'a>(&'a self, context: &'a mut Bucket, _: Progress<'a>) -> StepFuture<'a, Probe> {
        Box::pin(async move { self.look(context).await.map_err(|error| told(error, &context.name)) })
    }

    fn run<'a>(&'a self, context: &'a mut Bucket, _: Progress<'a>) -> StepFuture<'a, Ran> {
        Box::pin(async move {
            let set = self.set(context).await.map_err(|error| told(error, &context.name));
            Ok(Ran::Changed(set?))
        })
    }
}

/// A call's error names the call; it is also told on what.
fn told(mut error: Error, bucket: &str) -> Error {
    if error.kind == ErrorKind::Failed && !error.message.contains(bucket) {
        error.message = format!("cannot set up the bucket {bucket}: {}", error.message);
    }
    error
}
