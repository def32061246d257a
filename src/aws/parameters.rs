//! Parameters of the Parameter Store.

use std::time::Duration;

use aws_sdk_ssm::primitives::DateTime;
use aws_sdk_ssm::types::{Parameter, ParameterHistory, ParameterType, Tag};
use jiff::Timestamp;

use super::{Aws, AwsError, Call};

/// How long after its removal a parameter's name may be refused to a new one: AWS asks for 30 seconds
/// (<https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_DeleteParameter.html>).
const NAME_IS_FREE: Duration = Duration::from_secs(40);
/// Pause between two tries until then.
const SETTLING: Duration = Duration::from_secs(5);

/// What removing something came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// AWS keeps it until then.
    Scheduled(Timestamp),
    /// It was not there.
    Absent,
}

/// A parameter that holds plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The text.
    pub text: String,
    /// The version, counted from 1.
    pub version: i64,
    /// When this version was put, by AWS's clock.
    pub put: Timestamp,
}

/// When the parameter's version was put.
pub(super) fn modified(parameter: &Parameter) -> Timestamp {
    timestamp(parameter.last_modified_date())
}

fn timestamp(date: Option<&DateTime>) -> Timestamp {
    date.and_then(|date| Timestamp::from_second(date.secs()).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Aws {
    pub(super) async fn parameter(&self, name: &str) -> Result<Option<Parameter>, AwsError> {
        match self
            .ssm
            .get_parameter()
            .name(name)
            .with_decryption(true)
            .send()
            .await
            .map_err(AwsError::of(Call::GetParameter))
        {
            Ok(answer) => Ok(answer.parameter),
            Err(error) if error.is("ParameterNotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn put_parameter(
        &self,
        name: &str,
        value: &str,
        kind: ParameterType,
        overwrite: bool,
        environment: &str,
    ) -> Result<i64, AwsError> {
        let mut tags = Vec::new();
        // AWS takes tags only with a parameter that is new.
        if !overwrite {
            for (key, value) in self.tags_of(environment) {
                let tag = Tag::builder().key(key).value(value).build();
                tags.push(tag.map_err(|e| AwsError::new(Call::PutParameter, None, e.to_string()))?);
            }
        }
        let end = tokio::time::Instant::now() + NAME_IS_FREE;
        loop {
            let put = self
                .ssm
                .put_parameter()
                .name(name)
                .value(value)
                .r#type(kind.clone())
                .overwrite(overwrite)
                .set_tags((!tags.is_empty()).then(|| tags.clone()))
                .send()
                .await
                .map_err(AwsError::of(Call::PutParameter));
            match put {
                Err(error) if error.is("TooManyUpdates") && tokio::time::Instant::now() < end => {
                    tokio::time::sleep(SETTLING).await;
                }
                put => return put.map(|answer| answer.version()),
            }
        }
    }

    /// Removes a parameter.
    ///
    /// # Errors
    /// The call failed.
    pub async fn remove_parameter(&self, name: &str) -> Result<Removal, AwsError> {
        match self
            .ssm
            .delete_parameter()
            .name(name)
            .send()
            .await
            .map_err(AwsError::of(Call::DeleteParameter))
        {
            Ok(_) => Ok(Removal::Removed),
            Err(error) if error.is("ParameterNotFound") => Ok(Removal::Absent),
            Err(error) => Err(error),
        }
    }

    /// The note in the parameter `name`.
    ///
    /// # Errors
    /// The call failed.
    pub async fn note(&self, name: &str) -> Result<Option<Note>, AwsError> {
        Ok(self.parameter(name).await?.map(|parameter| Note {
            version: parameter.version(),
            put: modified(&parameter),
            text: parameter.value.unwrap_or_default(),
        }))
    }

    /// The versions of the note in the parameter `name` that AWS remembers, 100 at most, the oldest first.
    ///
    /// # Errors
    /// The call failed.
    pub async fn former_notes(&self, name: &str) -> Result<Vec<Note>, AwsError> {
        let versions = self.history(name).await?;
        Ok(versions
            .into_iter()
            .map(|version| Note {
                version: version.version(),
                put: timestamp(version.last_modified_date()),
                text: version.value.unwrap_or_default(),
            })
            .collect())
    }

    /// The versions of a parameter that AWS remembers, the oldest first.
    pub(super) async fn history(&self, name: &str) -> Result<Vec<ParameterHistory>, AwsError> {
        const CALL: Call = Call::GetParameterHistory;
        let mut versions = Vec::new();
        let mut next = None;
        loop {
            let request = self.ssm.get_parameter_history().name(name).with_decryption(true);
            let answer = request.set_next_token(next).send().await.map_err(AwsError::of(CALL));
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) if error.is("ParameterNotFound") => return Ok(versions),
                Err(error) => return Err(error),
            };
            versions.extend(answer.parameters.unwrap_or_default());
            next = answer.next_token;
            if next.is_none() {
                return Ok(versions);
            }
        }
    }

    /// Puts a note into the new parameter `name`; says whether it was new. Of two who try, AWS lets one.
    ///
    /// # Errors
    /// The call failed.
    pub async fn create_note(&self, name: &str, text: &str, environment: &str) -> Result<bool, AwsError> {
        let put = self.put_parameter(name, text, ParameterType::String, false, environment);
        match put.await {
            Ok(_) => Ok(true),
            Err(error) if error.is("ParameterAlreadyExists") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts a note into the parameter `name`, whatever it holds; returns the new version.
    ///
    /// # Errors
    /// The call failed.
    pub async fn overwrite_note(&self, name: &str, text: &str, environment: &str) -> Result<i64, AwsError> {
        self.put_parameter(name, text, ParameterType::String, true, environment)
            .await
    }

    /// The time by AWS's clock, as far as its answers tell.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::try_from(self.clock.now()).unwrap_or_else(|_| Timestamp::now())
    }
}
