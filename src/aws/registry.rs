use secrecy::SecretString;
use serde::Deserialize;
use zeroize::Zeroize as _;

use super::{Aws, AwsError, Call};

/// What a container registry asks for: a user and a token.
#[derive(Debug, Clone)]
pub struct RegistryCredential {
    /// User name; ghcr.io takes any, other registries may not.
    pub username: String,
    /// Token or password.
    pub token: SecretString,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    username: String,
    token: String,
}

impl Drop for Document {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl RegistryCredential {
    /// Reads the text of a secret: a JSON object of exactly `username` and `token`, neither of them empty; a user name has no
    /// colon, which would end it (RFC 7617). `None` where it is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let document: Document = serde_json::from_str(text).ok()?;
        let usable = !document.username.is_empty() && !document.username.contains(':') && !document.token.is_empty();
        usable.then(|| Self {
            username: document.username.clone(),
            token: document.token.as_str().into(),
        })
    }
}

impl Aws {
    /// The text of the current version of the secret `name`, which somebody else keeps; `None` where there is no such secret or it
    /// is being deleted. Bytes instead of text count as an empty text.
    ///
    /// # Errors
    /// The call failed.
    pub async fn secret_text(&self, name: &str) -> Result<Option<SecretString>, AwsError> {
        let answer = self
            .secrets
            .get_secret_value()
            .secret_id(name)
            .send()
            .await
            .map_err(AwsError::of(Call::GetSecretValue));
        match answer {
            Ok(answer) => Ok(Some(answer.secret_string().unwrap_or_default().into())),
            Err(error) if error.is("ResourceNotFoundException") || error.is("InvalidRequestException") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::RegistryCredential;

    #[test]
    fn a_user_and_a_token_are_read() {
        let credential = RegistryCredential::parse(r#"{"username": "acme-bot", "token": "t:\"o\"ken"}"#);
        let credential = credential.map(|c| (c.username.clone(), c.token.expose_secret().to_owned()));
        assert_eq!(credential, Some(("acme-bot".into(), "t:\"o\"ken".into())));
    }

    #[test]
    fn anything_else_is_no_credential() {
        for text in [
            "",
            "ghp_token",
            "null",
            "[]",
            "{}",
            r#"{"username": "bot"}"#,
            r#"{"token": "t"}"#,
            r#"{"username": "", "token": "t"}"#,
            r#"{"username": "a:b", "token": "t"}"#,
            r#"{"username": "bot", "token": ""}"#,
            r#"{"username": "bot", "token": 7}"#,
            r#"{"username": "bot", "token": "t", "auths": {}}"#,
        ] {
            assert!(RegistryCredential::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_token_is_not_shown() {
        let credential = RegistryCredential::parse(r#"{"username": "bot", "token": "canary"}"#);
        assert!(!format!("{credential:?}").contains("canary"));
    }
}
