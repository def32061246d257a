//! OpenTofu's encryption of states and plans (<https://opentofu.org/docs/language/state/encryption/>), as far as it is
//! not written in files.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::config::StateEncryption;

/// The variable from which OpenTofu takes encryption settings besides those in files.
pub const VARIABLE: &str = "TF_ENCRYPTION";

/// How a state is encrypted, with the secret that this takes.
#[derive(Debug, Clone)]
pub struct Encryption {
    setting: StateEncryption,
    passphrase: Option<SecretString>,
}

/// The passphrase is not where the setting says.
#[derive(Debug, thiserror::Error)]
#[error("the passphrase of the state's encryption is not in the environment variable {0}")]
pub struct NoPassphrase(pub String);

impl Encryption {
    /// The encryption of a setting, with the passphrase from the environment.
    ///
    /// # Errors
    /// There is none.
    pub fn of(setting: &StateEncryption) -> Result<Self, NoPassphrase> {
        let passphrase = match setting {
            StateEncryption::Pbkdf2 { passphrase_variable } => {
                let found = std::env::var(passphrase_variable).ok().filter(|p| !p.is_empty());
                let found = found.ok_or_else(|| NoPassphrase(passphrase_variable.clone()))?;
                Some(SecretString::from(found))
            }
            StateEncryption::AwsKms { .. } => None,
        };
        Ok(Self {
            setting: setting.clone(),
            passphrase,
        })
    }

    /// The value of [`VARIABLE`] that completes the rendered root module; `None` where nothing is missing in it.
    #[must_use]
    pub fn completion(&self) -> Option<SecretString> {
        self.passphrase
            .is_some()
            .then(|| json!({ "key_provider": self.key_provider("state") }).to_string().into())
    }

    /// The value of [`VARIABLE`] for a root module that says nothing of encryption: states are written by `wanted` and read
    /// by it or, where `former` is given, also by that.
    #[must_use]
    pub fn complete(wanted: Option<&Self>, former: Option<Option<&Self>>) -> SecretString {
        let method = |name: &str, encryption: Option<&Self>| match encryption {
            Some(encryption) => {
                let keys = format!("${{key_provider.{}.{name}}}", encryption.kind());
                (json!({ "aes_gcm": { name: { "keys": keys } } }), "aes_gcm")
            }
            None => (json!({ "unencrypted": { name: {} } }), "unencrypted"),
        };
        let (mut methods, kind) = method("state", wanted);
        let mut providers = wanted.map_or_else(|| json!({}), |e| e.key_provider("state"));
        let mut state = json!({ "method": format!("method.{kind}.state") });
        if let Some(former) = former {
            let (more, kind) = method("former", former);
            merge(&mut methods, more);
            if let Some(former) = former {
                merge(&mut providers, former.key_provider("former"));
            }
            state["fallback"] = json!({ "method": format!("method.{kind}.former") });
        }
        json!({ "key_provider": providers, "method": methods, "state": state })
            .to_string()
            .into()
    }

    fn kind(&self) -> &'static str {
        match self.setting {
            StateEncryption::Pbkdf2 { .. } => "pbkdf2",
            StateEncryption::AwsKms { .. } => "aws_kms",
        }
    }

    /// What a state tells of its encryption stands in it under the alias. So each variable and each key has its own: then one
    /// can be read while the other is written.
    fn key_provider(&self, name: &str) -> Value {
        match &self.setting {
            StateEncryption::Pbkdf2 { passphrase_variable } => {
                let passphrase = self.passphrase.as_ref().map_or("", |p| p.expose_secret());
                let settings = json!({
                    "passphrase": json_literal(passphrase),
                    "encrypted_metadata_alias": passphrase_variable,
                });
                json!({ "pbkdf2": { name: settings } })
            }
            StateEncryption::AwsKms { kms_key_id, region } => {
                let key = json_literal(kms_key_id);
                let settings = json!({
                    "kms_key_id": key,
                    "region": json_literal(region),
                    "key_spec": "AES_256",
                    "encrypted_metadata_alias": key,
                });
                json!({ "aws_kms": { name: settings } })
            }
        }
    }
}

/// A string in HCL's JSON is a template; this one stands for itself.
#[must_use]
pub fn json_literal(text: &str) -> String {
    text.replace("${", "$${").replace("%{", "%%{")
}

/// Puts the blocks of `more` beside those of `blocks`: objects of objects by kind and name.
fn merge(blocks: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (kind, named) in more {
        match (blocks[&kind].as_object_mut(), named) {
            (Some(there), Value::Object(named)) => there.extend(named),
            (_, named) => blocks[&kind] = named,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(passphrase: &str) -> Encryption {
        Encryption {
            setting: StateEncryption::Pbkdf2 {
                passphrase_variable: "X".into(),
            },
            passphrase: Some(passphrase.to_owned().into()),
        }
    }

    #[test]
    fn a_passphrase_is_never_a_template() {
        let text = with("a\"${b}%{c}").completion().unwrap();
        let value: Value = serde_json::from_str(text.expose_secret()).unwrap();
        assert_eq!(value["key_provider"]["pbkdf2"]["state"]["passphrase"], "a\"$${b}%%{c}");
    }

    #[test]
    fn a_change_of_the_passphrase_reads_by_both() {
        let text = Encryption::complete(Some(&with("new")), Some(Some(&with("old"))));
        let value: Value = serde_json::from_str(text.expose_secret()).unwrap();
        assert_eq!(value["key_provider"]["pbkdf2"]["state"]["passphrase"], "new");
        assert_eq!(value["key_provider"]["pbkdf2"]["former"]["passphrase"], "old");
        assert_eq!(
            value["key_provider"]["pbkdf2"]["former"]["encrypted_metadata_alias"],
            "X"
        );
        assert_eq!(
            value["method"]["aes_gcm"]["former"]["keys"],
            "${key_provider.pbkdf2.former}"
        );
        assert_eq!(
            value["state"],
            json!({ "method": "method.aes_gcm.state", "fallback": { "method": "method.aes_gcm.former" } })
        );
        let text = Encryption::complete(None, Some(Some(&with("old"))));
        let value: Value = serde_json::from_str(text.expose_secret()).unwrap();
        assert_eq!(value["state"]["method"], "method.unencrypted.state");
    }
}
