use aws_sdk_secretsmanager::types::Tag;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{Timestamp, ToSpan as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Aws, AwsError, Call, Removal};

/// Random bytes in a password: 192 bits.
const PASSWORD_BYTES: usize = 24;
/// bcrypt's cost; Argo CD's own tool uses 10, OWASP recommends at least 10.
const BCRYPT_COST: u32 = 12;

/// Argo CD's admin password as a version of the secret holds it, hash included, so that a retry re-uses the hash.
#[derive(Debug, Clone)]
pub struct AdminPassword {
    /// In clear.
    pub password: SecretString,
    /// bcrypt hash.
    pub bcrypt: SecretString,
    /// When it was made, RFC 3339 in UTC with `Z`; Argo CD ends sessions that are older.
    pub mtime: String,
}

/// A version of the secret.
#[derive(Debug, Clone)]
pub struct PasswordVersion {
    /// Secrets Manager's id of it.
    pub id: String,
    /// When it was made, by Secrets Manager's clock.
    pub since: Timestamp,
    /// What it holds.
    pub password: AdminPassword,
}

/// Names a version.
enum Version<'a> {
    Staged(&'static str),
    Id(&'a str),
}

/// Staging labels (<https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html>).
const CURRENT: &str = "AWSCURRENT";
const PENDING: &str = "AWSPENDING";

#[derive(Serialize, Deserialize)]
struct Document {
    password: String,
    bcrypt: String,
    mtime: String,
}

impl Drop for Document {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.password.zeroize();
        self.bcrypt.zeroize();
    }
}

impl AdminPassword {
    /// A new random password.
    ///
    /// # Errors
    /// The system gives no randomness, or hashing failed.
    fn generate(call: Call) -> Result<Self, AwsError> {
        let mut bytes = Zeroizing::new([0_u8; PASSWORD_BYTES]);
        getrandom::fill(bytes.as_mut())
            .map_err(|e| AwsError::new(call, None, format!("no randomness from the system: {e}")))?;
        let password = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()));
        let bcrypt = bcrypt::hash(password.as_str(), BCRYPT_COST)
            .map_err(|e| AwsError::new(call, None, format!("cannot hash the password: {e}")))?;
        // Never in the future, or Argo CD refuses sessions made with it: allow for a clock that is a little ahead.
        let mtime = Timestamp::now()
            .checked_sub(30.seconds())
            .unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Self {
            password: password.as_str().into(),
            bcrypt: bcrypt.into(),
            mtime: mtime.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        })
    }

    fn to_json(&self) -> Zeroizing<String> {
        let document = Document {
            password: self.password.expose_secret().to_owned(),
            bcrypt: self.bcrypt.expose_secret().to_owned(),
            mtime: self.mtime.clone(),
        };
        Zeroizing::new(serde_json::to_string(&document).unwrap_or_default())
    }
}

impl Aws {
    /// The current admin password in the secret `name`; `None` when there is no such secret, or it is being deleted.
    ///
    /// # Errors
    /// The call failed, or the secret holds something else.
    pub async fn admin_password(&self, name: &str) -> Result<Option<AdminPassword>, AwsError> {
        Ok(self.current_password(name).await?.map(|version| version.password))
    }

    /// The version of the secret `name` with the label AWSCURRENT.
    ///
    /// # Errors
    /// The call failed, or the version holds something else.
    pub async fn current_password(&self, name: &str) -> Result<Option<PasswordVersion>, AwsError> {
        self.password_version(name, Version::Staged(CURRENT)).await
    }

    /// The version of the secret `name` with the label AWSPENDING. It may be the current one as well: then it was made
    /// the current one, and only the label is left.
    ///
    /// # Errors
    /// The call failed, or the version holds something else.
    pub async fn pending_password(&self, name: &str) -> Result<Option<PasswordVersion>, AwsError> {
        self.password_version(name, Version::Staged(PENDING)).await
    }

    async fn password_version(&self, name: &str, version: Version<'_>) -> Result<Option<PasswordVersion>, AwsError> {
        const CALL: Call = Call::GetSecretValue;
        let request = self.secrets.get_secret_value().secret_id(name);
        let request = match version {
            Version::Staged(label) => request.version_stage(label),
            Version::Id(id) => request.version_id(id),
        };
        let answer = match request.send().await.map_err(AwsError::of(CALL)) {
            Ok(answer) => answer,
            Err(error) if error.is("ResourceNotFoundException") || error.is("InvalidRequestException") => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let text = answer.secret_string().unwrap_or_default();
        let document: Document = serde_json::from_str(text).map_err(|_| {
            AwsError::new(CALL, None, format!("the secret {name} is not one that mfsre wrote; move it away or choose another name with argocd.secret_name"))
        })?;
        Ok(Some(PasswordVersion {
            id: answer.version_id().unwrap_or_default().to_owned(),
            since: answer
                .created_date()
                .and_then(|d| Timestamp::from_second(d.secs()).ok())
                .unwrap_or(Timestamp::UNIX_EPOCH),
            password: AdminPassword {
                password: document.password.as_str().into(),
                bcrypt: document.bcrypt.as_str().into(),
                mtime: document.mtime.clone(),
            },
        }))
    }

    /// Puts a new password beside the current one, with the label AWSPENDING.
    ///
    /// Its version id is a function of the current one's: whoever else rotates from the same version at the same time
    /// meets this one, and gets it, instead of taking the label away.
    ///
    /// # Errors
    /// A call failed.
    pub async fn stage_password(&self, name: &str, current: &str) -> Result<PasswordVersion, AwsError> {
        const CALL: Call = Call::PutSecretValue;
        let token = hex::encode(Sha256::digest(format!("mfsre rotation of {name} from {current}")));
        let json = AdminPassword::generate(CALL)?.to_json();
        let put = self
            .secrets
            .put_secret_value()
            .secret_id(name)
            .client_request_token(&token)
            .secret_string(json.as_str())
            .version_stages(PENDING)
            .send()
            .await
            .map_err(AwsError::of(CALL));
        match put {
            Ok(_) => {}
            // Somebody made it first. A version that lost its label, by hand, gets it back; one that was made the current
            // one since needs none.
            Err(error) if error.is("ResourceExistsException") => {
                let now = self.current_password(name).await?.map(|version| version.id);
                if now.as_deref() == Some(current) {
                    if self.pending_password(name).await?.is_none() {
                        self.move_label(name, PENDING, None, Some(&token)).await?;
                    }
                } else if now.as_ref() != Some(&token) {
                    return Err(AwsError::new(
                        CALL,
                        None,
                        format!("somebody else has rotated {name} since this rotation began"),
                    ));
                }
            }
            Err(error) => return Err(error),
        }
        // What it holds now is what counts, whoever wrote it.
        self.password_version(name, Version::Id(&token))
            .await?
            .ok_or_else(|| AwsError::new(CALL, None, format!("the new version of {name} is not there")))
    }

    /// Makes the version `pending` the current one in place of `current`, which keeps the label AWSPREVIOUS.
    ///
    /// # Errors
    /// The call failed; also where the current version is a third one by now.
    pub async fn promote_password(&self, name: &str, current: &str, pending: &str) -> Result<(), AwsError> {
        let Err(error) = self.move_label(name, CURRENT, Some(current), Some(pending)).await else {
            return Ok(());
        };
        // Somebody who rotates at the same time promotes the same version, and was quicker.
        if error.is("InvalidParameterException")
            && self
                .current_password(name)
                .await?
                .is_some_and(|found| found.id == pending)
        {
            return Ok(());
        }
        Err(error)
    }

    /// Takes the label AWSPENDING off the version `id`, where it still has it.
    ///
    /// # Errors
    /// The call failed.
    pub async fn unstage_password(&self, name: &str, id: &str) -> Result<(), AwsError> {
        let Err(error) = self.move_label(name, PENDING, Some(id), None).await else {
            return Ok(());
        };
        // Somebody who goes on with the same rotation was quicker, and may have begun the next one.
        if error.is("InvalidParameterException")
            && self.pending_password(name).await?.is_none_or(|found| found.id != id)
        {
            return Ok(());
        }
        Err(error)
    }

    async fn move_label(&self, name: &str, label: &str, from: Option<&str>, to: Option<&str>) -> Result<(), AwsError> {
        self.secrets
            .update_secret_version_stage()
            .secret_id(name)
            .version_stage(label)
            .set_remove_from_version_id(from.map(str::to_owned))
            .set_move_to_version_id(to.map(str::to_owned))
            .send()
            .await
            .map_err(AwsError::of(Call::UpdateSecretVersionStage))
            .map(|_| ())
    }

    /// The password in the secret `name`, made where there is none; says whether it was made. A secret in its recovery
    /// window is restored.
    ///
    /// # Errors
    /// A call failed.
    pub async fn ensure_admin_password(
        &self,
        name: &str,
        environment: &str,
    ) -> Result<(AdminPassword, bool), AwsError> {
        const CALL: Call = Call::CreateSecret;
        if let Some(password) = self.admin_password(name).await? {
            return Ok((password, false));
        }
        let password = AdminPassword::generate(CALL)?;
        let json = password.to_json();
        let tags = self
            .tags_of(environment)
            .map(|(key, value)| Tag::builder().key(key).value(value).build());
        let created = self
            .secrets
            .create_secret()
            .name(name)
            .description(format!("Argo CD admin password of {environment}, kept by mfsre"))
            // The first version's id: two who create at once meet here.
            .client_request_token(hex::encode(Sha256::digest(format!("mfsre first version of {name}"))))
            .secret_string(json.as_str())
            .set_tags(Some(tags.collect()))
            .send()
            .await
            .map_err(AwsError::of(CALL));
        match created {
            Ok(_) => Ok((password, true)),
            Err(error) if error.is("ResourceExistsException") || error.is("InvalidRequestException") => {
                // Somebody was faster, or the secret is in its recovery window.
                let restored = self
                    .secrets
                    .restore_secret()
                    .secret_id(name)
                    .send()
                    .await
                    .map_err(AwsError::of(Call::RestoreSecret));
                match (self.admin_password(name).await?, restored) {
                    (Some(password), _) => Ok((password, false)),
                    (None, Err(restore)) => Err(restore),
                    (None, Ok(_)) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the secret `name`: with `purge` at once, else after Secrets Manager's recovery window.
    ///
    /// # Errors
    /// The call failed.
    pub async fn remove_admin_password(&self, name: &str, purge: bool) -> Result<Removal, AwsError> {
        const CALL: Call = Call::DeleteSecret;
        // Deleting again would push the date back; a secret that is scheduled already stays as it is.
        let described = self
            .secrets
            .describe_secret()
            .secret_id(name)
            .send()
            .await
            .map_err(AwsError::of(Call::DescribeSecret));
        let scheduled = match described {
            Ok(secret) => secret
                .deleted_date()
                .map(|d| Timestamp::from_second(d.secs()).unwrap_or_default()),
            Err(error) if error.is("ResourceNotFoundException") => return Ok(Removal::Absent),
            Err(error) => return Err(error),
        };
        if let (Some(date), false) = (scheduled, purge) {
            return Ok(Removal::Scheduled(date));
        }
        let request = self.secrets.delete_secret().secret_id(name);
        let request = if purge {
            request.force_delete_without_recovery(true)
        } else {
            request.recovery_window_in_days(7)
        };
        let answer = match request.send().await.map_err(AwsError::of(CALL)) {
            Ok(answer) => answer,
            Err(error) if error.is("ResourceNotFoundException") => return Ok(Removal::Absent),
            Err(error) => return Err(error),
        };
        if purge {
            return Ok(Removal::Removed);
        }
        let date = answer
            .deletion_date()
            .and_then(|d| Timestamp::from_second(d.secs()).ok())
            .unwrap_or_else(Timestamp::now);
        Ok(Removal::Scheduled(date))
    }
}
