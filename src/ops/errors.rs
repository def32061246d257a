//! From the adapters' errors to the one a user sees.

use crate::argocd::ArgoCdError;
use crate::aws::AwsError;
use crate::error::{Error, ErrorKind, storage_hint};
use crate::git::{CheckoutError, GitError, HostError, KeyError, TokenError};
use crate::kubernetes::KubernetesError;
use crate::render::RenderError;
use crate::terraform::{StateLock, TerraformError};
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

/// Terraform's words for a state that it could not lock, whatever the reason.
const STATE_LOCK: &str = "Error acquiring the state lock";

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
        if let Some(lock) = StateLock::of(&error) {
            return Self::new(ErrorKind::Locked, format!("the state {} is locked", lock.path))
                .cause(format!("by {lock}"))
                .hint("somebody else is at work on this state: wait until they are done, and run the same command again")
                .hint(format!(
                    "if nobody is, because that run was killed: `terraform force-unlock {}` in infra/NAME, or the same with tofu",
                    lock.id
                ));
        }
        let (message, causes) = error.retell();
        let text = causes.join("\n");
        // A state that cannot be read is told as a lock that cannot be had. A lock is held if it has an owner, or if S3 refused to write it twice.
        let locked = text.contains(STATE_LOCK) && (text.contains("Lock Info:") || text.contains("PreconditionFailed"));
        let hint = match &error {
            TerraformError::NotFound => {
                Some("install Terraform 1.10 or newer (https://developer.hashicorp.com/terraform/install) or OpenTofu (https://opentofu.org/docs/intro/install/)".to_owned())
            }
            TerraformError::Unusable { .. } => {
                Some("name a Terraform or OpenTofu that works with terraform.program in the environment file, or remove the setting to take the one on PATH".to_owned())
            }
            TerraformError::TooOld { .. } => Some("install a newer one, or name another with terraform.program in the environment file".to_owned()),
            TerraformError::Interrupted { .. } => return Self::interrupted(),
            TerraformError::Failed { .. } if text.contains("Saved plan is stale") => {
                return Self::new(
                    ErrorKind::Locked,
                    "somebody else has changed the Terraform state since the plan was made",
                )
                .hint("nothing was changed by this run; plan anew: run the same command again, without --plan where one was given");
            }
            TerraformError::Failed { .. } if locked => {
                Some("somebody else is at work on this state: wait until they are done, and run the same command again".to_owned())
            }
            TerraformError::Io { source, .. } => storage_hint(source.kind()).map(str::to_owned),
            TerraformError::Failed { command, .. } => Some(state_hint(&text).unwrap_or_else(|| failed_hint(command, &text))),
            _ => None,
        };
        let kind = if locked { ErrorKind::Locked } else { ErrorKind::Failed };
        let mut shown = Self::new(kind, message);
        shown.causes = causes;
        with_hint(shown, hint)
    }
}

/// What to do when a state, or the place in which it is kept, is the trouble.
fn state_hint(text: &str) -> Option<String> {
    let has = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
    if has(&["provider packages", "Failed to install provider"]) {
        // The network may be the trouble there too, and a mirror the way around it.
        return None;
    }
    if has(&[
        "ExpiredToken",
        "RequestExpired",
        "security token included in the request is expired",
    ]) {
        return Some("your AWS session has expired: sign in again (for example aws sso login) and run the same command again; what was done is in the state, and one that could not be saved is in infra/NAME/errored.tfstate, which the next run saves".to_owned());
    }
    let of_s3 = has(&["operation error S3", "S3 bucket", "s3:"]);
    let hint = if has(&["NoSuchBucket"]) {
        "make the bucket with `mfsre backend create` and the environment's name, or correct backend.bucket and backend.region in the environment file".to_owned()
    } else if let Some((_, rest)) = text.split_once("actual location \"") {
        let region = rest.split('"').next().unwrap_or_default();
        format!("the bucket is in {region}: set backend.region to that in the environment file")
    } else if of_s3 && has(&["StatusCode: 403", "AccessDenied"]) {
        "allow to the identity you run as (aws sts get-caller-identity): s3:ListBucket on the bucket; s3:GetObject, s3:PutObject and s3:DeleteObject on the state and its lock file KEY.tflock; kms:Decrypt and kms:GenerateDataKey on the bucket's key".to_owned()
    } else if has(&["state file uses format version"]) {
        "the state was written by a newer program than this one: install that, or name it with terraform.program in the environment file".to_owned()
    } else if has(&["Unsupported state file format"]) && !has(&["state file is encrypted"]) {
        "the state is damaged: put a good copy in its place, for the local backend infra/NAME/terraform.tfstate.backup, in a bucket the object's former version; nothing was changed".to_owned()
    } else if has(&["managed by newer provider version"]) {
        "the state was written with a newer provider than the one that is locked here: take over the .terraform.lock.hcl that was used (git pull), or a newer mfsre".to_owned()
    } else if has(&[
        "unencrypted payload without unencrypted method",
        "decryption failed",
        "state file is encrypted",
    ]) {
        "the state is not encrypted as `backend.encryption` says: check the passphrase or the key; if the setting was changed, set it back, run `mfsre plan`, change it again and run `mfsre backend migrate`".to_owned()
    } else if has(&["cannot import state with"]) {
        "another state is there: nothing was written over; compare the two before one is put in place of the other"
            .to_owned()
    } else if has(&[
        "dial tcp",
        "connection refused",
        "connection reset",
        "i/o timeout",
        "no such host",
        "request send failed",
    ]) {
        "check the network and AWS_ENDPOINT_URL, and run the same command again; nothing is lost: a state that could not be saved is in infra/NAME/errored.tfstate, and the next run saves it".to_owned()
    } else {
        return None;
    };
    Some(hint)
}

/// What to do when anything else is.
fn failed_hint(command: &str, text: &str) -> String {
    let has = |mark: &str| text.contains(mark);
    let again = if command.ends_with(" apply") {
        "run the same command again; what was done so far is in the state".to_owned()
    } else {
        format!("run the same command again; {command} changes no resource on AWS")
    };
    if let Some(action) = denied_action(text) {
        format!(
            "allow {action} to whom `aws sts get-caller-identity` names, or all that Terraform needs here, as `mfsre iam-policy ENV --terraform` prints it; then {again}"
        )
    } else if ["Throttling", "RequestLimitExceeded", "Rate exceeded", "TooManyRequests"]
        .iter()
        .any(|mark| has(mark))
    {
        format!("AWS is throttling this account: wait a minute, then {again}")
    } else if has("provider packages") || has("Failed to install provider") {
        "the provider registry cannot be reached: set mirrors.terraform_providers to a filesystem mirror".to_owned()
    } else if has("AlreadyExists") || has("already exists") {
        "it is on AWS and not in the state, as when an earlier run was interrupted while it was created: take it into the state with `terraform import ADDRESS ID` in infra/NAME, or remove it, and run the same command again".to_owned()
    } else if has("no space left on device") || has("file too large") {
        format!("free some disk space and {again}")
    } else if has("read-only file system") {
        format!("make the folder writable for you and {again}")
    } else if has(STATE_LOCK) {
        "Terraform cannot lock its state, and nobody else has it locked: mend the cause above and run the same command again".to_owned()
    } else if has("lock file") {
        "run `mfsre render` to restore infra/NAME/.terraform.lock.hcl, or remove it where the blueprint brings none: the next run writes it anew".to_owned()
    } else {
        format!("mend the cause and {again}")
    }
}

/// The IAM action that was missing, if AWS has refused a call of Terraform's provider. The provider writes
/// `operation error SERVICE: OPERATION, ... api error CODE: MESSAGE`, and the message of most services names the action.
fn denied_action(text: &str) -> Option<String> {
    let codes = [
        "AccessDenied",
        "UnauthorizedOperation",
        "AuthorizationError",
        "NotAuthorized",
    ];
    if !codes.iter().any(|code| text.contains(&format!("api error {code}"))) {
        return None;
    }
    let word = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !":-".contains(c));
        text[..end.unwrap_or(text.len())].to_owned()
    };
    if let Some((_, action)) = text.split_once("not authorized to perform: ") {
        return Some(word(action));
    }
    let (_, call) = text.split_once("operation error ")?;
    let (service, operation) = call.split_once(": ")?;
    Some(format!(
        "{}:{}",
        service.replace(' ', "").to_ascii_lowercase(),
        word(operation)
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The next step for what Terraform 1.11 and OpenTofu 1.12 printed.
    fn hint(command: &str, printed: &str) -> String {
        let error = TerraformError::Failed {
            command: command.into(),
            diagnostics: Vec::new(),
            output: printed.into(),
        };
        Error::from(error).hints.remove(0)
    }

    #[test]
    fn only_an_apply_has_left_something_in_the_state() {
        for trouble in ["anything", "no space left on device"] {
            let told = hint("terraform apply", trouble);
            assert!(told.ends_with("what was done so far is in the state"), "{told}");
            for command in ["terraform init", "tofu plan", "terraform show"] {
                let told = hint(command, trouble);
                assert!(
                    told.ends_with(&format!("{command} changes no resource on AWS")),
                    "{told}"
                );
            }
        }
    }

    #[test]
    fn troubles_with_a_state_have_their_next_step() {
        for (printed, next) in [
            (
                "Resource instance managed by newer provider version\nThe current state of aws_vpc.this was created by a newer provider version than is currently selected. Upgrade the aws provider to work with this state.",
                ".terraform.lock.hcl",
            ),
            (
                "Failed to refresh state: encountered unencrypted payload without unencrypted method configured",
                "mfsre backend migrate",
            ),
            (
                "Failed to refresh state: Unsupported state file format: This state file is encrypted and can not be read without an encryption configuration",
                "is not encrypted as",
            ),
            (
                "Failed to refresh state: decryption failed for all provided methods\nattempted decryption failed for state: decryption failed: cipher: message authentication failed",
                "check the passphrase",
            ),
            (
                "Failed to write state: cannot import state with serial 9 over newer state with serial 10",
                "nothing was written over",
            ),
            (
                "Error: Failed to save state\nError saving state: failed to upload state: operation error S3: PutObject, exceeded maximum number of attempts, 5, https response error StatusCode: 0, request send failed, Put \"https://b.s3.eu-west-1.amazonaws.com/k\": dial tcp: lookup: no such host",
                "errored.tfstate",
            ),
            (
                "Error: Failed to resolve provider packages\nCould not resolve provider hashicorp/aws: could not connect to registry.opentofu.org: dial tcp: no such host",
                "mirrors.terraform_providers",
            ),
            (
                "Error: creating EC2 VPC: operation error EC2: CreateVpc, https response error StatusCode: 403, RequestID: r, api error UnauthorizedOperation: You are not authorized to perform this operation.",
                "allow ec2:CreateVpc to whom",
            ),
            (
                "Error: creating IAM Role (demo): operation error IAM: CreateRole, https response error StatusCode: 403, RequestID: r, api error AccessDenied: User: arn:aws:iam::000000000000:user/alice is not authorized to perform: iam:CreateRole on resource: arn:aws:iam::000000000000:role/demo",
                "allow iam:CreateRole to whom `aws sts get-caller-identity` names, or all that Terraform needs here, as `mfsre iam-policy ENV --terraform` prints it",
            ),
            (
                "Error: creating EKS Cluster (demo): operation error EKS: CreateCluster, exceeded maximum number of attempts, 25, https response error StatusCode: 429, api error TooManyRequestsException: Rate exceeded",
                "AWS is throttling this account",
            ),
            ("Error: anything else", "mend the cause"),
        ] {
            let told = hint("terraform plan", printed);
            assert!(told.contains(next), "{printed}: {told}");
        }
    }
}
