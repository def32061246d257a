use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::event::Changes;
use super::run::{Call, Finished};
use super::{Flavour, Program, ProviderMirror, TerraformError, TerraformEvent};
use crate::cancellation::Cancellation;
use crate::child::ChildEnvironment;

/// A root module and the program that runs it.
#[derive(Debug)]
pub struct Workspace {
    program: Program,
    dir: PathBuf,
    private: PathBuf,
    environment: ChildEnvironment,
    /// Whether the root module has a `cloud` block.
    cloud: bool,
    /// Whether the CLI configuration is one of our own, in place of the user's.
    own_configuration: bool,
}

/// What a plan would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlanCounts {
    /// Resources to add.
    pub add: u64,
    /// Resources to change.
    pub change: u64,
    /// Resources to destroy.
    pub destroy: u64,
}

impl PlanCounts {
    /// Resources touched in all.
    #[must_use]
    pub fn total(self) -> u64 {
        self.add + self.change + self.destroy
    }
}

impl std::fmt::Display for PlanCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} to add, {} to change, {} to destroy",
            self.add, self.change, self.destroy
        )
    }
}

/// A saved plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The file, 0600 in a 0700 folder: it holds every value in clear.
    pub path: PathBuf,
    /// What it would do.
    pub counts: PlanCounts,
    /// Whether applying it changes anything, outputs included.
    pub has_changes: bool,
}

impl Workspace {
    /// The root module in `dir`. Files that must not be committed go to `private`, which exists. `mirror` is where the
    /// provider is taken from, unless the user's own CLI configuration says.
    ///
    /// # Errors
    /// The CLI configuration for the mirror cannot be written.
    pub fn new(
        program: Program,
        dir: PathBuf,
        private: PathBuf,
        mut environment: ChildEnvironment,
        mirror: Option<&ProviderMirror>,
    ) -> Result<Self, TerraformError> {
        let mut own_configuration = false;
        if let Some(mirror) = mirror
            && !environment.has("TF_CLI_CONFIG_FILE")
        {
            own_configuration = true;
            let path = private.join("terraform.rc");
            std::fs::write(&path, mirror.cli_configuration()).map_err(|source| TerraformError::Io {
                what: format!("write {}", path.display()),
                source,
            })?;
            environment.set("TF_CLI_CONFIG_FILE", path);
        }
        Ok(Self {
            program,
            dir,
            private,
            environment,
            cloud: false,
            own_configuration,
        })
    }

    /// Says that the root module has a `cloud` block for this host. Where the user's CLI configuration, in which Terraform
    /// would find the token, is not read, Terraform gets it in the variable that is made for it.
    pub fn use_cloud(&mut self, hostname: &str, token: &SecretString) {
        self.cloud = true;
        if self.own_configuration {
            let name = format!("TF_TOKEN_{}", hostname.replace('-', "__").replace('.', "_"));
            self.environment.set(&name, token.expose_secret());
        }
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    fn call(&self, arguments: &[&str]) -> Call<'_> {
        Call {
            program: &self.program,
            dir: &self.dir,
            environment: &self.environment,
            private: &self.private,
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
        }
    }

    /// `init`, unless the last one was for the same program and the same providers, modules and backend.
    ///
    /// # Errors
    /// It failed.
    pub async fn init(&self, cancellation: &Cancellation) -> Result<(), TerraformError> {
        let stamp_path = self.private.join("init.stamp");
        let stamp = self.fingerprint()?;
        let current = std::fs::read_to_string(&stamp_path).ok();
        if self.dir.join(".terraform").is_dir() && current.as_deref() == Some(&stamp) {
            return Ok(());
        }
        let mut arguments = vec!["init", "-input=false", "-no-color"];
        // A `cloud` block refuses it and does not need it.
        if !self.cloud {
            arguments.push("-reconfigure");
        }
        if self.program.flavour == Flavour::Terraform && self.lock_is_rendered() {
            // This lock file is complete for every platform, so that nothing may be added to it. OpenTofu has a registry of
            // its own and adds its entries.
            arguments.push("-lockfile=readonly");
        }
        self.call(&arguments).expect(&[], cancellation, |_| {}).await?;
        std::fs::write(&stamp_path, self.fingerprint()?).map_err(|source| TerraformError::Io {
            what: format!("write {}", stamp_path.display()),
            source,
        })
    }

    /// Whether the lock file comes from the blueprint. Where it brings none, Terraform writes one, whose first lines say so.
    fn lock_is_rendered(&self) -> bool {
        std::fs::read_to_string(self.dir.join(".terraform.lock.hcl"))
            .is_ok_and(|text| text.lines().take(5).any(|line| line.contains("Generated by mfsre")))
    }

    /// What `init` depends on.
    fn fingerprint(&self) -> Result<String, TerraformError> {
        let mut hash = Sha256::new();
        hash.update(self.program.path.as_os_str().as_encoded_bytes());
        hash.update(self.program.version.as_bytes());
        let io = |path: &Path| {
            let what = format!("read {}", path.display());
            move |source| TerraformError::Io { what, source }
        };
        // The root module first, then those that the last `init` found.
        let manifest = std::fs::read(self.dir.join(".terraform/modules/modules.json")).unwrap_or_default();
        let installed: Value = serde_json::from_slice(&manifest).unwrap_or_default();
        let modules = installed["Modules"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|m| m["Dir"].as_str());
        for module in std::iter::once(".").chain(modules.filter(|dir| *dir != ".")) {
            let dir = self.dir.join(module);
            let entries = match std::fs::read_dir(&dir) {
                // A module that has moved makes another fingerprint, which is all that is asked for here.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && module != "." => continue,
                entries => entries.map_err(io(&dir))?,
            };
            let mut files: Vec<PathBuf> = entries
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.extension().is_some_and(|e| e == "tf" || e == "hcl"))
                .collect();
            files.sort();
            for file in files {
                hash.update(std::fs::read(&file).map_err(io(&file))?);
            }
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// Plans, and saves the plan as `NAME.tfplan` among the private files.
    ///
    /// # Errors
    /// It failed.
    pub async fn plan(
        &self,
        name: &str,
        destroy: bool,
        cancellation: &Cancellation,
        on_event: impl FnMut(&TerraformEvent) + Send,
    ) -> Result<Plan, TerraformError> {
        let path = self.private.join(format!("{name}.tfplan"));
        // The program truncates a file that is there and keeps its mode.
        std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|file| file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)))
            .map_err(|source| TerraformError::Io {
                what: format!("write {}", path.display()),
                source,
            })?;
        let out = format!("-out={}", path.display());
        let mut arguments = vec![
            "plan",
            "-json",
            "-input=false",
            "-lock-timeout=300s",
            "-detailed-exitcode",
            &out,
        ];
        if destroy {
            arguments.push("-destroy");
        }
        let mut counts = Changes::default();
        let mut on_event = on_event;
        let Finished { status, .. } = self
            .call(&arguments)
            .expect(&[2], cancellation, |event| {
                if let TerraformEvent::ChangeSummary { changes } = event {
                    counts = *changes;
                }
                on_event(event);
            })
            .await?;
        let counts = PlanCounts {
            add: counts.add,
            change: counts.change,
            destroy: counts.remove,
        };
        Ok(Plan {
            path,
            counts,
            has_changes: status.code() == Some(2),
        })
    }

    /// The plan as JSON (<https://developer.hashicorp.com/terraform/internals/json-format>).
    ///
    /// # Errors
    /// It failed.
    pub async fn show(&self, plan: &Path, cancellation: &Cancellation) -> Result<Value, TerraformError> {
        let plan = plan.display().to_string();
        let call = self.call(&["show", "-json", &plan]);
        let finished = call.expect(&[], cancellation, |_| {}).await?;
        serde_json::from_str(&finished.stdout).map_err(|source| TerraformError::Output {
            command: call.name(),
            source,
        })
    }

    /// Applies a saved plan, and removes it.
    ///
    /// # Errors
    /// It failed, or was interrupted; what was done by then is in the state.
    pub async fn apply(
        &self,
        plan: &Plan,
        cancellation: &Cancellation,
        on_event: impl FnMut(&TerraformEvent) + Send,
    ) -> Result<(), TerraformError> {
        let path = plan.path.display().to_string();
        self.call(&["apply", "-json", "-input=false", "-lock-timeout=300s", &path])
            .expect(&[], cancellation, on_event)
            .await?;
        // A plan that was applied cannot be applied again.
        let _ = std::fs::remove_file(&plan.path);
        Ok(())
    }

    /// The addresses in the state.
    ///
    /// # Errors
    /// It failed.
    pub async fn state_list(&self, cancellation: &Cancellation) -> Result<Vec<String>, TerraformError> {
        let finished = self.call(&["state", "list"]).run(cancellation, |_| {}).await?;
        // With no state at all the command fails, and there is nothing in it.
        Ok(finished
            .stdout
            .lines()
            .map(str::to_owned)
            .filter(|l| !l.is_empty())
            .collect())
    }

    /// Takes back the mark "to be replaced" from every resource whose creation was cut off; the next plan then compares
    /// it with what is there and completes it. Returns their addresses.
    ///
    /// When it is interrupted, Terraform has its providers give up waiting for what they are creating, and marks the
    /// results as tainted although nothing is wrong with them. Replacing them would fail where the new one must stand
    /// before the old one goes and both have one name.
    ///
    /// # Errors
    /// A command failed.
    pub async fn untaint(&self, cancellation: &Cancellation) -> Result<Vec<String>, TerraformError> {
        let call = self.call(&["show", "-json"]);
        let finished = call.expect(&[], cancellation, |_| {}).await?;
        let state: Value = serde_json::from_str(&finished.stdout).map_err(|source| TerraformError::Output {
            command: call.name(),
            source,
        })?;
        let mut addresses = Vec::new();
        let mut modules = vec![&state["values"]["root_module"]];
        while let Some(module) = modules.pop() {
            modules.extend(module["child_modules"].as_array().into_iter().flatten());
            let resources = module["resources"].as_array().into_iter().flatten();
            addresses.extend(
                resources
                    .filter(|r| r["tainted"] == true && r["deposed_key"].is_null())
                    .filter_map(|r| r["address"].as_str().map(str::to_owned)),
            );
        }
        for address in &addresses {
            let mut arguments = vec!["untaint", "-no-color", "-lock-timeout=300s"];
            if self.cloud {
                // The version that the workspace is set to is for runs at the host.
                arguments.push("-ignore-remote-version");
            }
            arguments.push(address);
            self.call(&arguments).expect(&[], cancellation, |_| {}).await?;
        }
        Ok(addresses)
    }

    /// The outputs by name.
    ///
    /// # Errors
    /// It failed.
    pub async fn outputs(&self, cancellation: &Cancellation) -> Result<Value, TerraformError> {
        let call = self.call(&["output", "-json"]);
        let finished = call.expect(&[], cancellation, |_| {}).await?;
        serde_json::from_str(&finished.stdout).map_err(|source| TerraformError::Output {
            command: call.name(),
            source,
        })
    }
}

impl TerraformError {
    /// The error for a person: the resource, file and line it is about, and what to do next.
    #[must_use]
    pub fn retell(&self) -> (String, Vec<String>) {
        match self {
            Self::Failed {
                command,
                diagnostics,
                output,
            } => {
                let mut causes: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
                if causes.is_empty() && !output.is_empty() {
                    causes.push(output.clone());
                }
                (format!("{command} failed"), causes)
            }
            other => {
                let mut causes = Vec::new();
                let mut source = std::error::Error::source(other);
                while let Some(error) = source {
                    let mut text = String::new();
                    let _ = write!(text, "{error}");
                    causes.push(text);
                    source = error.source();
                }
                (other.to_string(), causes)
            }
        }
    }
}
