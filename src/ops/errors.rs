//! From the adapters' errors to the one a user sees.

use crate::argocd::ArgoCdError;
use crate::aws::AwsError;
use crate::error::{Error, ErrorKind};
use crate::git::{CheckoutError, GitError, HostError, KeyError, TokenError};
use crate::kubernetes::KubernetesError;
use crate::render::RenderError;
use crate::terraform::TerraformError;
use crate::tfe::{TfeError, Trouble};

impl From<TfeError> for Error {
    fn from(error: TfeError) -> Self {
        let kind = match error.kind {
            Trouble::Configuration => ErrorKind::Configuration,
            Trouble::Stopped => ErrorKind::Interrupted,
            Trouble::Network | Trouble::Missing | Trouble::Conflict | Trouble::Refused => ErrorKind::Failed,
        };
        Self::new(kind, error.to_string()).cause(error.message).hint(error.hint)
    }
}

fn with_hint(error: Error, hint: Option<String>) -> Error {
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

impl From<AwsError> for Error {
    fn from(error: AwsError) -> Self {
        let hint = error.hint();
        let message = error.to_string();
        with_hint(Self::failed(message).cause(error.source.to_string()), hint)
    }
}

impl From<KubernetesError> for Error {
    fn from(error: KubernetesError) -> Self {
        let hint = error.hint();
        let shown = Self::failed(error.to_string());
        let shown = match std::error::Error::source(&error) {
            Some(source) => shown.caused_by(source),
            None => shown,
        };
        with_hint(shown, hint)
    }
}

impl From<GitError> for Error {
    fn from(error: GitError) -> Self {
        let hint = error.hint();
        let shown = Self::failed(error.to_string());
        let shown = match std::error::Error::source(&error) {
            Some(source) => shown.caused_by(source),
            None => shown,
        };
        shown.hint(hint)
    }
}

impl From<CheckoutError> for Error {
    fn from(error: CheckoutError) -> Self {
        let hint = match &error {
            CheckoutError::Git(_) => None,
            CheckoutError::NotARepository(_) => Some("run `git init` there, or leave out --commit".to_owned()),
            CheckoutError::Underway(_) => Some("finish or abort it, and run the same command again".to_owned()),
            CheckoutError::Detached => Some("check a branch out, for example `git switch main`".to_owned()),
            CheckoutError::NoIdentity(_) => {
                Some("say who commits: git config user.name NAME && git config user.email ADDRESS".to_owned())
            }
        };
        let shown = match error {
            CheckoutError::Git(error) => return error.into(),
            CheckoutError::NoIdentity(ref output) => Self::failed(error.to_string()).cause(output.clone()),
            ref other => Self::failed(other.to_string()),
        };
        with_hint(shown, hint)
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        Self::failed(format!("cannot {}", error.attempted))
            .cause(error.message)
            .hint(error.hint)
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        let hint = error.hint();
        let shown = match &error {
            KeyError::Refused {
                url,
                fingerprint,
                output,
            } => Self::failed(format!("{url} cannot be read with the deploy key {fingerprint}")).cause(output.clone()),
            other => Self::failed(other.to_string()),
        };
        let shown = match std::error::Error::source(&error) {
            Some(source) => shown.caused_by(source),
            None => shown,
        };
        shown.hint(hint)
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        let shown = Self::new(ErrorKind::Configuration, error.to_string());
        let shown = match std::error::Error::source(&error) {
            Some(source) => shown.caused_by(source),
            None => shown,
        };
        shown.hint("write the token alone into the file, or remove git.token_file to have it found")
    }
}

impl From<ArgoCdError> for Error {
    fn from(error: ArgoCdError) -> Self {
        let hint = match &error {
            ArgoCdError::Client(_) => "the certificate in argocd-secret (tls.crt) or argocd-server-tls is none",
            ArgoCdError::Unreachable { .. } | ArgoCdError::Refused { .. } => {
                "look at argocd-server (kubectl -n argocd get pods), and run the same command again once it answers"
            }
        };
        Self::failed(error.to_string()).hint(hint)
    }
}

impl From<RenderError> for Error {
    fn from(error: RenderError) -> Self {
        let kind = match error {
            RenderError::Template { .. } | RenderError::Unreadable { .. } | RenderError::Module { .. } => {
                ErrorKind::Configuration
            }
            RenderError::Values { .. } | RenderError::NoManifest => ErrorKind::Failed,
        };
        let hint = match &error {
            RenderError::Template { .. } => {
                Some("if this template is your own, mend it; without it the built-in one is used".to_owned())
            }
            _ => None,
        };
        let shown = Self::new(kind, error.to_string());
        let shown = match std::error::Error::source(&error) {
            Some(source) => shown.caused_by(source),
            None => shown,
        };
        with_hint(shown, hint)
    }
}

impl From<TerraformError> for Error {
    fn from(error: TerraformError) -> Self {
        let (message, causes) = error.retell();
        let text = causes.join("\n");
        let hint = match &error {
            TerraformError::NotFound => {
                Some("install Terraform 1.10 or newer (https://developer.hashicorp.com/terraform/install) or OpenTofu (https://opentofu.org/docs/intro/install/)".to_owned())
            }
            TerraformError::Unusable { .. } => {
                Some("name a Terraform or OpenTofu that works with terraform.program in the environment file, or remove the setting to take the one on PATH".to_owned())
            }
            TerraformError::TooOld { .. } => Some("install a newer one, or name another with terraform.program in the environment file".to_owned()),
            TerraformError::Interrupted { .. } => return Self::interrupted(),
            TerraformError::Failed { .. } if text.contains("Error acquiring the state lock") => {
                Some("somebody else is at work on this state: wait until they are done; the lock's owner is named above".to_owned())
            }
            TerraformError::Failed { .. } if text.contains("errored.tfstate") => Some(
                "the state was not saved, because somebody changed it meanwhile: what was done is in infra/NAME/errored.tfstate. Compare it with `terraform state pull` in infra/NAME, then keep it with `terraform state push errored.tfstate`"
                    .to_owned(),
            ),
            TerraformError::Failed { .. } if text.contains("Failed to query available provider packages") || text.contains("Failed to install provider") => {
                Some("the provider registry cannot be reached: set mirrors.terraform_providers to a filesystem mirror".to_owned())
            }
            TerraformError::Failed { .. } if text.contains("AlreadyExists") || text.contains("already exists") => Some(
                "it is on AWS and not in the state, as when an earlier run was interrupted while it was created: take it into the state with `terraform import ADDRESS ID` in infra/NAME, or remove it, and run the same command again"
                    .to_owned(),
            ),
            TerraformError::Failed { .. } if text.contains("lock file") => {
                Some("run `mfsre render` to restore infra/NAME/.terraform.lock.hcl, or remove it where the blueprint brings none: the next run writes it anew".to_owned())
            }
            TerraformError::Failed { .. } => Some("what was done so far is in the state: mend the cause and run the same command again".to_owned()),
            _ => None,
        };
        let kind = if text.contains("Error acquiring the state lock") {
            ErrorKind::Locked
        } else {
            ErrorKind::Failed
        };
        let mut shown = Self::new(kind, message);
        shown.causes = causes;
        with_hint(shown, hint)
    }
}

impl From<mfsre_sandbox::Error> for Error {
    fn from(error: mfsre_sandbox::Error) -> Self {
        let text = error.to_string();
        let kind = match &error {
            mfsre_sandbox::Error::Busy { .. } => ErrorKind::Locked,
            mfsre_sandbox::Error::PortBusy { .. } => ErrorKind::Configuration,
            mfsre_sandbox::Error::NoSuchPart { .. } => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        // The sandbox writes what to do next behind its own mark.
        match text.split_once("\n  next: ") {
            Some((message, next)) => Self::new(kind, message).hint(next),
            None => Self::new(kind, text),
        }
    }
}
