use std::path::{Path, PathBuf};
use std::process::Stdio;

use hcl_edit::expr::Expression;
use hcl_edit::structure::{Block, Body};
use secrecy::SecretString;
use serde_json::Value;

use super::{TfeError, Trouble};
use crate::child::ChildEnvironment;

/// A token, and where it was found.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The token.
    pub token: SecretString,
    /// Where it was found.
    pub from: TokenPlace,
}

/// Where a token was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenPlace {
    /// An environment variable.
    Variable(String),
    /// A file of Terraform's CLI configuration.
    File(PathBuf),
    /// A program that keeps tokens.
    Helper(String),
}

impl std::fmt::Display for TokenPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Helper(name) => write!(f, "the credentials helper {name}"),
        }
    }
}

impl Credential {
    /// Looks for the token of a host where Terraform does, in its order: a variable `TF_TOKEN_*`, the CLI configuration, a
    /// credentials helper (<https://developer.hashicorp.com/terraform/cli/config/config-file#credentials>).
    ///
    /// # Errors
    /// There is none, or what keeps it cannot be read.
    pub async fn find(hostname: &str) -> Result<Self, TfeError> {
        for (name, value) in std::env::vars() {
            if name
                .strip_prefix("TF_TOKEN_")
                .is_some_and(|host| host_of(host).eq_ignore_ascii_case(hostname))
            {
                return Ok(Self {
                    token: value.into(),
                    from: TokenPlace::Variable(name),
                });
            }
        }
        let mut helper = None;
        for path in configuration_files() {
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            let found = read(&path, &text, hostname)?;
            if let Some(token) = found.token {
                return Ok(Self {
                    token,
                    from: TokenPlace::File(path),
                });
            }
            helper = helper.or(found.helper);
        }
        if let Some(helper) = helper {
            return ask(helper, hostname).await;
        }
        Err(missing(
            hostname,
            "there is none in the environment and in Terraform's CLI configuration",
        ))
    }
}

fn missing(hostname: &str, message: &str) -> TfeError {
    let host = if hostname == "app.terraform.io" {
        String::new()
    } else {
        format!(" {hostname}")
    };
    TfeError {
        attempted: format!("find a token for {hostname}"),
        message: message.to_owned(),
        hint: format!(
            "run `terraform login{host}`, or set {} in the environment of a pipeline",
            format_args!("TF_TOKEN_{}", hostname.replace('-', "__").replace('.', "_"))
        ),
        kind: Trouble::Configuration,
    }
}

/// The host in the name of a variable: dots are written as underscores, hyphens as two.
fn host_of(name: &str) -> String {
    name.replace("__", "-").replace('_', ".")
}

/// The files of the CLI configuration that Terraform reads, in its order.
fn configuration_files() -> Vec<PathBuf> {
    // One that is named takes the place of all others.
    for variable in ["TF_CLI_CONFIG_FILE", "TERRAFORM_CONFIG"] {
        if let Some(file) = std::env::var_os(variable).filter(|f| !f.is_empty()) {
            return vec![file.into()];
        }
    }
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else {
        return Vec::new();
    };
    let mut files = vec![home.join(".terraformrc"), home.join(".tofurc")];
    let mut more: Vec<PathBuf> = std::fs::read_dir(home.join(".terraform.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".tfrc") || name.ends_with(".tfrc.json")
        })
        .collect();
    more.sort();
    files.extend(more);
    files
}

/// What a file says of a host.
#[derive(Default)]
struct Found {
    token: Option<SecretString>,
    helper: Option<Helper>,
}

struct Helper {
    name: String,
    arguments: Vec<String>,
}

fn read(path: &Path, text: &str, hostname: &str) -> Result<Found, TfeError> {
    let unreadable = |message: String| TfeError {
        attempted: format!("read {}", path.display()),
        message,
        hint: "mend the file: Terraform reads it too".into(),
        kind: Trouble::Configuration,
    };
    if path.extension().is_some_and(|e| e == "json") {
        // The error of a parser could quote a token.
        let value: Value =
            serde_json::from_str(text).map_err(|e| unreadable(format!("line {} is no JSON", e.line())))?;
        let token = value["credentials"][hostname]["token"].as_str();
        return Ok(Found {
            token: token.map(|t| t.to_owned().into()),
            helper: None,
        });
    }
    let body: Body = text.parse().map_err(|_| unreadable("it is no HCL".into()))?;
    let label = |block: &Block| block.labels.first().map(|l| l.as_str().to_owned());
    let string = |block: &Block, key: &str| {
        block
            .body
            .get_attribute(key)
            .and_then(|a| a.value.as_str().map(str::to_owned))
    };
    let mut found = Found::default();
    for block in body.blocks() {
        if block.has_ident("credentials") && label(block).is_some_and(|l| l.eq_ignore_ascii_case(hostname)) {
            found.token = string(block, "token").map(Into::into);
        }
        if block.has_ident("credentials_helper")
            && let Some(name) = label(block)
        {
            let arguments = block.body.get_attribute("args").map(|a| &a.value);
            let arguments = match arguments {
                Some(Expression::Array(all)) => all.iter().filter_map(|a| a.as_str().map(str::to_owned)).collect(),
                _ => Vec::new(),
            };
            found.helper = Some(Helper { name, arguments });
        }
    }
    Ok(found)
}

/// Asks a credentials helper (<https://developer.hashicorp.com/terraform/internals/credentials-helpers>).
async fn ask(helper: Helper, hostname: &str) -> Result<Credential, TfeError> {
    let name = format!("terraform-credentials-{}", helper.name);
    let trouble = |message: String| TfeError {
        attempted: format!("ask the credentials helper {name} for a token"),
        message,
        hint: format!("look at {name}, or set a variable TF_TOKEN_* for {hostname}"),
        kind: Trouble::Configuration,
    };
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let plugins = home.join(".terraform.d/plugins");
    let platform = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let system = if std::env::consts::OS == "macos" {
        "darwin"
    } else {
        std::env::consts::OS
    };
    let places = [
        plugins.join(&name),
        plugins.join(format!("{system}_{platform}")).join(&name),
    ];
    let Some(program) = places.iter().find(|p| p.is_file()) else {
        return Err(trouble(format!("it is not in {}", plugins.display())));
    };
    let output = tokio::process::Command::new(program)
        .args(&helper.arguments)
        .args(["get", hostname])
        .env_clear()
        .envs(ChildEnvironment::terraform().iter())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| trouble(e.to_string()))?;
    if !output.status.success() {
        return Err(trouble(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let answer: Value = serde_json::from_slice(&output.stdout).map_err(|_| trouble("its answer is no JSON".into()))?;
    match answer["token"].as_str() {
        Some(token) => Ok(Credential {
            token: token.to_owned().into(),
            from: TokenPlace::Helper(name),
        }),
        None => Err(missing(hostname, &format!("{name} has none"))),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn token(path: &str, text: &str) -> Option<String> {
        let found = read(Path::new(path), text, "tfe.example.com").unwrap();
        found.token.map(|t| t.expose_secret().to_owned())
    }

    #[test]
    fn the_token_of_the_host_is_read_from_both_kinds_of_file() {
        let hcl = "credentials \"app.terraform.io\" {\n  token = \"other\"\n}\ncredentials \"TFE.example.com\" {\n  token = \"mine\"\n}\n";
        assert_eq!(token("x/.terraformrc", hcl).as_deref(), Some("mine"));
        let json = r#"{"credentials": {"tfe.example.com": {"token": "mine"}}}"#;
        assert_eq!(token("credentials.tfrc.json", json).as_deref(), Some("mine"));
        assert_eq!(token("credentials.tfrc.json", "{}"), None);
    }

    #[test]
    fn a_helper_is_named_with_its_arguments() {
        let text = "credentials_helper \"vault\" {\n  args = [\"--address\", \"https://vault\"]\n}\n";
        let helper = read(Path::new(".terraformrc"), text, "tfe.example.com")
            .unwrap()
            .helper
            .unwrap();
        assert_eq!((helper.name.as_str(), helper.arguments.len()), ("vault", 2));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_not_quoted() {
        let error = read(Path::new("c.tfrc.json"), "{\"token\": secret", "h").err().unwrap();
        assert!(
            error.attempted.contains("c.tfrc.json") && !error.message.contains("secret"),
            "{error:?}"
        );
    }

    #[test]
    fn a_variable_writes_dots_and_hyphens_with_underscores() {
        assert_eq!(host_of("my__tfe_example_com"), "my-tfe.example.com");
    }
}
