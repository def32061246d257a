//! Parameters of the Parameter Store.

use aws_sdk_ssm::types::{Parameter, ParameterType, Tag};
use jiff::Timestamp;

use super::{Aws, AwsError, Call};

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
    parameter
        .last_modified_date()
        .and_then(|date| Timestamp::from_second(date.secs()).ok())
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
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let mut request = self
            .ssm
            .put_parameter()
            .name(name)
            .value(value)
            .r#type(kind)
            .overwrite(overwrite);
        // AWS takes tags only with a parameter that is new.
        if !overwrite {
            for (key, value) in [("mfsre:environment", environment), ("mfsre:managed-by", "mfsre")] {
                let tag = tag(key, value).map_err(|e| AwsError::new(Call::PutParameter, None, e.to_string()))?;
                request = request.tags(tag);
            }
        }
        request
            .send()
            .await
            .map_err(AwsError::of(Call::PutParameter))
            .map(|answer| answer.version())
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
