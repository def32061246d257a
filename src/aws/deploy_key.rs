use aws_sdk_ssm::types::ParameterType;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey};

use super::parameters::modified;
use super::{Aws, AwsError, Call};

/// The SSH key pair with which Argo CD reads the repository.
#[derive(Debug, Clone)]
pub struct DeployKey {
    /// OpenSSH private key.
    pub private: SecretString,
    /// OpenSSH public key, one line, with a comment that names the environment.
    pub public: String,
    /// `SHA256:...`
    pub fingerprint: String,
}

/// A deploy key as a parameter holds it.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// The pair.
    pub key: DeployKey,
    /// The parameter's version, counted from 1.
    pub version: i64,
    /// When this version was put.
    pub since: Timestamp,
}

impl DeployKey {
    fn generate(environment: &str) -> Result<Self, AwsError> {
        let wrong =
            |e: ssh_key::Error| AwsError::new(Call::PutParameter, None, format!("cannot make a deploy key: {e}"));
        let mut seed = zeroize::Zeroizing::new([0_u8; 32]);
        getrandom::fill(seed.as_mut())
            .map_err(|e| AwsError::new(Call::PutParameter, None, format!("no randomness from the system: {e}")))?;
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&seed);
        let mut key = PrivateKey::from(pair);
        key.set_comment(format!("mfsre {environment}"));
        let private = key.to_openssh(LineEnding::LF).map_err(wrong)?;
        Self::parse(private.as_str().into(), environment)
    }

    /// The pair of a private key; the public part is always derived.
    fn parse(private: SecretString, environment: &str) -> Result<Self, AwsError> {
        let wrong = |e: ssh_key::Error| {
            AwsError::new(
                Call::GetParameter,
                None,
                format!("the stored deploy key cannot be read: {e}"),
            )
        };
        let key = PrivateKey::from_openssh(private.expose_secret()).map_err(wrong)?;
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(AwsError::new(
                Call::GetParameter,
                None,
                "the stored deploy key is not an ed25519 key",
            ));
        }
        let mut public = key.public_key().clone();
        public.set_comment(format!("mfsre {environment}"));
        Ok(Self {
            private,
            fingerprint: public.fingerprint(HashAlg::Sha256).to_string(),
            public: public.to_openssh().map_err(wrong)?,
        })
    }
}

impl Aws {
    /// The deploy key in the parameter `private_name`; `None` when there is none.
    ///
    /// # Errors
    /// The call failed, or the parameter holds something else.
    pub async fn deploy_key(&self, private_name: &str, environment: &str) -> Result<Option<DeployKey>, AwsError> {
        Ok(self
            .stored_key(private_name, environment)
            .await?
            .map(|stored| stored.key))
    }

    /// The deploy key in the parameter `private_name` with its version; `None` when there is none.
    ///
    /// # Errors
    /// The call failed, or the parameter holds something else.
    pub async fn stored_key(&self, private_name: &str, environment: &str) -> Result<Option<StoredKey>, AwsError> {
        let Some(parameter) = self.parameter(private_name).await? else {
            return Ok(None);
        };
        Ok(Some(StoredKey {
            version: parameter.version(),
            since: modified(&parameter),
            key: DeployKey::parse(parameter.value.unwrap_or_default().into(), environment)?,
        }))
    }

    /// The public parts of every key that the parameter `private_name` has held, as far as the Parameter Store remembers:
    /// 100 versions.
    ///
    /// # Errors
    /// The call failed.
    pub async fn former_keys(&self, private_name: &str, environment: &str) -> Result<Vec<DeployKey>, AwsError> {
        let versions = self.history(private_name).await?;
        // A version that holds something else never was a deploy key.
        Ok(versions
            .into_iter()
            .filter_map(|version| DeployKey::parse(version.value.unwrap_or_default().into(), environment).ok())
            .collect())
    }

    /// A new key in the parameter `pending_name`; where somebody made one first, that one.
    ///
    /// # Errors
    /// A call failed.
    pub async fn stage_key(&self, pending_name: &str, environment: &str) -> Result<StoredKey, AwsError> {
        let key = DeployKey::generate(environment)?;
        let private = key.private.expose_secret();
        let put = self
            .put_parameter(pending_name, private, ParameterType::SecureString, false, environment)
            .await;
        match put {
            Ok(_) => {}
            Err(error) if error.is("ParameterAlreadyExists") => {}
            Err(error) => return Err(error),
        }
        // What it holds now is what counts, whoever wrote it.
        self.stored_key(pending_name, environment).await?.ok_or_else(|| {
            AwsError::new(
                Call::PutParameter,
                None,
                format!("the new parameter {pending_name} is not there"),
            )
        })
    }

    /// Puts `key` into the parameter `private_name` and its public part beside it; returns the new version. A put is at
    /// once what readers get, and knows no condition: the caller compares the version with the one it read.
    ///
    /// # Errors
    /// A call failed.
    pub async fn promote_key(
        &self,
        private_name: &str,
        public_name: &str,
        key: &DeployKey,
        environment: &str,
    ) -> Result<i64, AwsError> {
        // The private part last: with it the promotion is done.
        self.put_parameter(public_name, &key.public, ParameterType::String, true, environment)
            .await?;
        let private = key.private.expose_secret();
        self.put_parameter(private_name, private, ParameterType::SecureString, true, environment)
            .await
    }

    /// The deploy key, made where there is none, with its public part beside it; says whether anything was written.
    ///
    /// # Errors
    /// A call failed.
    pub async fn ensure_deploy_key(
        &self,
        private_name: &str,
        public_name: &str,
        environment: &str,
    ) -> Result<(DeployKey, bool), AwsError> {
        let (key, made) = match self.deploy_key(private_name, environment).await? {
            Some(key) => (key, false),
            None => {
                let key = DeployKey::generate(environment)?;
                let put = self
                    .put_parameter(
                        private_name,
                        key.private.expose_secret(),
                        ParameterType::SecureString,
                        false,
                        environment,
                    )
                    .await;
                match put {
                    Ok(_) => (key, true),
                    Err(error) if error.is("ParameterAlreadyExists") => {
                        match self.deploy_key(private_name, environment).await? {
                            Some(key) => (key, false),
                            None => return Err(error),
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let public = self.parameter(public_name).await?;
        let stale = public.as_ref().and_then(|p| p.value()) != Some(key.public.as_str());
        if stale {
            self.put_parameter(
                public_name,
                &key.public,
                ParameterType::String,
                public.is_some(),
                environment,
            )
            .await?;
        }
        Ok((key, made || stale))
    }
}
