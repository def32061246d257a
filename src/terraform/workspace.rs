use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::event::Changes;
use super::lock::{Runs, StateLock};
use super::run::{Call, Finished};
use super::{Program, ProviderMirror, State, TerraformError, TerraformEvent};
use crate::cancellation::Cancellation;
use crate::child::ChildEnvironment;

/// How long a command waits for the lock of a state: as long as others hold it for a moment, such as to plan a small
/// change. Who waits longer wants to know for whom.
pub(super) const LOCK_TIMEOUT: &str = "-lock-timeout=10s";

/// A root module and the program that runs it.
#[derive(Debug)]
pub struct Workspace {
    program: Program,
    project: PathBuf,
    dir: PathBuf,
    private: PathBuf,
    environment: ChildEnvironment,
    /// Whether the root module has a `cloud` block.
    cloud: bool,
    /// Whether the CLI configuration is one of our own, in place of the user's.
    own_configuration: bool,
}

/// A resource that stands and is to be taken into the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its address in the configuration.
    pub address: String,
    /// By which the provider finds it.
    pub id: String,
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
    /// What it would destroy, with or without a new one in its place.
    pub destroyed: Vec<Destroyed>,
}

impl Plan {
    /// The plan in the file `path`, whose JSON is `shown`.
    fn of(path: PathBuf, shown: &Value) -> Self {
        let (mut counts, mut destroyed) = (PlanCounts::default(), Vec::new());
        let outputs = shown["output_changes"].as_object().into_iter().flatten();
        let mut has_changes = outputs
            .map(|(_, change)| change)
            .any(|change| change["actions"] != json!(["no-op"]));
        for resource in shown["resource_changes"].as_array().into_iter().flatten() {
            let change = &resource["change"];
            let does = |action: &str| change["actions"].as_array().is_some_and(|a| a.contains(&json!(action)));
            let (create, delete, update) = (does("create"), does("delete"), does("update"));
            counts.add += u64::from(create);
            counts.change += u64::from(update);
            counts.destroy += u64::from(delete);
            has_changes |= create || delete || update || does("forget") || !change["importing"].is_null();
            if delete {
                destroyed.push(Destroyed {
                    address: resource["address"].as_str().unwrap_or_default().to_owned(),
                    replaced: create,
                });
            }
        }
        Self {
            path,
            counts,
            has_changes,
            destroyed,
        }
    }
}

/// An empty file that only its owner may read, also where one stands already.
fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

/// A resource that a plan would destroy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroyed {
    /// Its address.
    pub address: String,
    /// Whether a new one takes its place.
    pub replaced: bool,
}

impl Destroyed {
    /// What an event of a plan says is to be destroyed.
    #[must_use]
    pub fn planned(event: &TerraformEvent) -> Option<Self> {
        match event {
            TerraformEvent::PlannedChange { change } if matches!(change.action.as_str(), "delete" | "replace") => {
                Some(Self {
                    address: change.resource.addr.clone(),
                    replaced: change.action == "replace",
                })
            }
            _ => None,
        }
    }
}

impl Workspace {
    /// The root module in `dir`, a folder of `project`. Files that must not be committed go to `private`, which exists.
    /// `mirror` is where the provider is taken from, unless the user's own CLI configuration says.
    ///
    /// # Errors
    /// The CLI configuration for the mirror cannot be written.
    pub fn new(
        program: Program,
        project: PathBuf,
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
            let configuration = mirror.cli_configuration(&private.join("providers"));
            configuration
                .and_then(|text| std::fs::write(&path, text))
                .map_err(|source| TerraformError::Io {
                    what: format!("write {}", path.display()),
                    source,
                })?;
            environment.set("TF_CLI_CONFIG_FILE", path);
        }
        Ok(Self {
            program,
            project,
            dir,
            private,
            environment,
            cloud: false,
            own_configuration,
        })
    }

    /// Says that the root module has a `cloud` block. Where the user's CLI configuration, in which Terraform would find the
    /// token, is not read, Terraform gets it in the variable that is made for the host's.
    pub fn use_cloud(&mut self, hostname: &str, token: &SecretString) {
        self.cloud = true;
        if self.own_configuration {
            let variable = format!("TF_TOKEN_{}", hostname.replace('-', "__").replace('.', "_"));
            self.environment.set(&variable, token.expose_secret());
        }
    }

    pub(super) fn call(&self, arguments: &[&str]) -> Call<'_> {
        Call {
            program: &self.program,
            project: &self.project,
            dir: &self.dir,
            environment: &self.environment,
            private: &self.private,
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
        }
    }

    /// The process of a Terraform that an earlier run left at work when it was killed.
    #[must_use]
    pub fn at_work(&self) -> Option<u32> {
        Runs::read(&self.private).at_work()
    }

    /// A call that takes the lock of the state. It waits for a Terraform of an earlier run, and takes a lock away that one left
    /// behind when it died.
    async fn locking(
        &self,
        arguments: &[&str],
        also: &[i32],
        cancellation: &Cancellation,
        mut on_event: impl FnMut(&TerraformEvent) + Send,
    ) -> Result<Finished, TerraformError> {
        let call = self.call(arguments);
        let mut broken = false;
        loop {
            Runs::read(&self.private).wait(cancellation).await;
            let mut runs = Runs::read(&self.private);
            let finished = call.expect(also, cancellation, &mut on_event, Some(&mut runs)).await;
            let lock = match &finished {
                Ok(_) => {
                    runs.forget();
                    return finished;
                }
                Err(error) => StateLock::of(error),
            };
            let Some(lock) = lock else { return finished };
            if broken || !runs.left(&lock) {
                let command = call.name();
                return Err(TerraformError::Locked {
                    command,
                    lock: Box::new(lock),
                });
            }
            broken = true;
            self.call(&["force-unlock", "-force", &lock.id])
                .expect(&[], cancellation, |_| {}, None)
                .await?;
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
        // One that fails may have set up another backend by then, so that the last stamp tells nothing any more.
        match std::fs::remove_file(&stamp_path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                let what = format!("remove {}", stamp_path.display());
                return Err(TerraformError::Io { what, source });
            }
            _ => {}
        }
        let mut arguments = vec!["init", "-input=false", "-no-color"];
        if self.cloud {
            self.forget_other_backend()?;
        } else {
            arguments.push("-reconfigure");
        }
        if self.lock_is_rendered() {
            // This lock file is complete for every platform, so that nothing may be added to it.
            arguments.push("-lockfile=readonly");
        }
        self.call(&arguments).expect(&[], cancellation, |_| {}, None).await?;
        std::fs::write(&stamp_path, self.fingerprint()?).map_err(|source| TerraformError::Io {
            what: format!("write {}", stamp_path.display()),
            source,
        })
    }

    /// `init` of a root module that has a backend and nothing else. It wants the providers of the resources in the state as
    /// well, after it has set the backend up; states come and go without them.
    ///
    /// # Errors
    /// The backend cannot be set up.
    pub async fn init_backend(&self, cancellation: &Cancellation) -> Result<(), TerraformError> {
        match self.init(cancellation).await {
            Err(TerraformError::Failed { output, .. }) if output.contains("provider packages") => Ok(()),
            result => result,
        }
    }

    /// What `-reconfigure` does, which a `cloud` block refuses: Terraform shall not want to move a state by itself.
    fn forget_other_backend(&self) -> Result<(), TerraformError> {
        let io = |path: &Path| {
            let what = format!("move {} away", path.display());
            move |source| TerraformError::Io { what, source }
        };
        let set_up = self.dir.join(".terraform/terraform.tfstate");
        if let Ok(text) = std::fs::read(&set_up) {
            let found: Value = serde_json::from_slice(&text).unwrap_or_default();
            if found["backend"]["type"] != "cloud" {
                std::fs::remove_file(&set_up).map_err(io(&set_up))?;
            }
        }
        // Of a local state that was moved to the host, only the word where to is left.
        let local = self.dir.join("terraform.tfstate");
        if let Ok(text) = std::fs::read_to_string(&local)
            && State::read(text).is_ok_and(|state| state.moved_to.is_some())
        {
            std::fs::rename(&local, self.private.join("moved.tfstate")).map_err(io(&local))?;
        }
        Ok(())
    }

    /// Whether the lock file comes from the blueprint and is for this program. Where the blueprint brings none, Terraform
    /// writes one, whose first lines say so.
    fn lock_is_rendered(&self) -> bool {
        let ours = format!("provider \"{}/", self.program.flavour.registry());
        std::fs::read_to_string(self.dir.join(".terraform.lock.hcl")).is_ok_and(|text| {
            text.lines().take(5).any(|line| line.contains("Generated by mfsre")) && text.contains(&ours)
        })
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
                .filter(|p| {
                    let name = p.file_name().unwrap_or_default().to_string_lossy();
                    [".tf", ".tf.json", ".hcl"].iter().any(|ending| name.ends_with(ending))
                })
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
        let arguments: &[&str] = if destroy { &["-destroy"] } else { &[] };
        self.save_plan(name, arguments, &[], cancellation, on_event).await
    }

    /// Plans with `imports` taken into the state when the plan is applied
    /// (<https://developer.hashicorp.com/terraform/language/import>).
    ///
    /// # Errors
    /// It failed; one of them is not there, for example.
    pub async fn plan_importing(
        &self,
        name: &str,
        imports: &[Import],
        cancellation: &Cancellation,
        on_event: impl FnMut(&TerraformEvent) + Send,
    ) -> Result<Plan, TerraformError> {
        self.save_plan(name, &[], imports, cancellation, on_event).await
    }

    /// Plans the removal of what is at `addresses`, and of what depends on it.
    ///
    /// # Errors
    /// It failed.
    pub async fn plan_removal(
        &self,
        name: &str,
        addresses: &[String],
        cancellation: &Cancellation,
        on_event: impl FnMut(&TerraformEvent) + Send,
    ) -> Result<Plan, TerraformError> {
        let targets: Vec<String> = addresses.iter().map(|a| format!("-target={a}")).collect();
        let arguments: Vec<&str> = std::iter::once("-destroy")
            .chain(targets.iter().map(String::as_str))
            .collect();
        self.save_plan(name, &arguments, &[], cancellation, on_event).await
    }

    /// Takes a plan that was saved to `file` before, as if it had just been made, and its JSON.
    ///
    /// # Errors
    /// The file cannot be read, or is no plan of this program.
    pub async fn take_plan(
        &self,
        name: &str,
        file: &Path,
        cancellation: &Cancellation,
    ) -> Result<(Plan, Value), TerraformError> {
        let path = self.private.join(format!("{name}.tfplan"));
        let copy = || std::io::copy(&mut std::fs::File::open(file)?, &mut private_file(&path)?);
        copy().map_err(|source| TerraformError::Io {
            what: format!("take the plan {}", file.display()),
            source,
        })?;
        let shown = self.show(&path, cancellation).await?;
        Ok((Plan::of(path, &shown), shown))
    }

    async fn save_plan(
        &self,
        name: &str,
        further: &[&str],
        imports: &[Import],
        cancellation: &Cancellation,
        on_event: impl FnMut(&TerraformEvent) + Send,
    ) -> Result<Plan, TerraformError> {
        let path = self.private.join(format!("{name}.tfplan"));
        // The program truncates a file that is there and keeps its mode.
        private_file(&path).map_err(|source| TerraformError::Io {
            what: format!("write {}", path.display()),
            source,
        })?;
        let out = format!("-out={}", path.display());
        let mut arguments = vec![
            "plan",
            "-json",
            "-input=false",
            LOCK_TIMEOUT,
            "-detailed-exitcode",
            &out,
        ];
        arguments.extend(further);
        // Import blocks have to lie beside the configuration, of which the saved plan keeps a copy. A run that was killed may have
        // left some, which nobody has looked at.
        let blocks = self.dir.join("mfsre_import.tf.json");
        let io = |result: std::io::Result<()>, what: &str| match result {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                let what = format!("{what} {}", blocks.display());
                Err(TerraformError::Io { what, source })
            }
            _ => Ok(()),
        };
        if imports.is_empty() {
            io(std::fs::remove_file(&blocks), "remove")?;
        } else {
            let import: Vec<Value> = imports.iter().map(|i| json!({ "to": i.address, "id": i.id })).collect();
            io(
                std::fs::write(&blocks, json!({ "import": import }).to_string()),
                "write",
            )?;
        }
        let mut counts = Changes::default();
        let mut destroyed = Vec::new();
        let mut on_event = on_event;
        let planned = self
            .locking(&arguments, &[2], cancellation, |event| {
                if let TerraformEvent::ChangeSummary { changes } = event {
                    counts = *changes;
                }
                destroyed.extend(Destroyed::planned(event));
                on_event(event);
            })
            .await;
        io(std::fs::remove_file(&blocks), "remove")?;
        let Finished { status, .. } = planned?;
        let counts = PlanCounts {
            add: counts.add,
            change: counts.change,
            destroy: counts.remove,
        };
        Ok(Plan {
            path,
            counts,
            has_changes: status.code() == Some(2),
            destroyed,
        })
    }

    /// The plan as JSON (<https://developer.hashicorp.com/terraform/internals/json-format>).
    ///
    /// # Errors
    /// It failed.
    pub async fn show(&self, plan: &Path, cancellation: &Cancellation) -> Result<Value, TerraformError> {
        let plan = plan.display().to_string();
        let call = self.call(&["show", "-no-color", "-json", &plan]);
        let text = call.pipe("", cancellation).await?;
        serde_json::from_str(&text).map_err(|source| TerraformError::Output {
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
        self.locking(
            &["apply", "-json", "-input=false", LOCK_TIMEOUT, &path],
            &[],
            cancellation,
            on_event,
        )
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
        let finished = match self
            .call(&["state", "list"])
            .expect(&[], cancellation, |_| {}, None)
            .await
        {
            // With no state at all the command fails, and there is nothing in it.
            Err(TerraformError::Failed { output, .. }) if output.contains("No state file was found") => {
                return Ok(Vec::new());
            }
            listed => listed?,
        };
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
        let state = self.state(cancellation).await?;
        let addresses: Vec<String> = resources(&state)
            .into_iter()
            .filter(|r| r["tainted"] == true && r["deposed_key"].is_null())
            .filter_map(|r| r["address"].as_str().map(str::to_owned))
            .collect();
        for address in &addresses {
            let mut arguments = vec!["untaint", "-no-color", LOCK_TIMEOUT];
            if self.cloud {
                // The version that the workspace is set to is for runs at the host.
                arguments.push("-ignore-remote-version");
            }
            arguments.push(address);
            self.locking(&arguments, &[], cancellation, |_| {}).await?;
        }
        Ok(addresses)
    }

    /// The ids of everything in the state.
    ///
    /// # Errors
    /// It failed.
    pub async fn state_ids(&self, cancellation: &Cancellation) -> Result<BTreeSet<String>, TerraformError> {
        let state = self.state(cancellation).await?;
        let ids = resources(&state).into_iter().filter(|r| r["mode"] == "managed");
        Ok(ids
            .filter_map(|r| r["values"]["id"].as_str().map(str::to_owned))
            .collect())
    }

    async fn state(&self, cancellation: &Cancellation) -> Result<Value, TerraformError> {
        let call = self.call(&["show", "-no-color", "-json"]);
        let text = call.pipe("", cancellation).await?;
        serde_json::from_str(&text).map_err(|source| TerraformError::Output {
            command: call.name(),
            source,
        })
    }

    /// The outputs by name.
    ///
    /// # Errors
    /// It failed.
    pub async fn outputs(&self, cancellation: &Cancellation) -> Result<Value, TerraformError> {
        let call = self.call(&["output", "-no-color", "-json"]);
        let text = call.pipe("", cancellation).await?;
        serde_json::from_str(&text).map_err(|source| TerraformError::Output {
            command: call.name(),
            source,
        })
    }
}

/// The resources of every module in the JSON form of a state.
fn resources(state: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    let mut modules = vec![&state["values"]["root_module"]];
    while let Some(module) = modules.pop() {
        modules.extend(module["child_modules"].as_array().into_iter().flatten());
        found.extend(module["resources"].as_array().into_iter().flatten());
    }
    found
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
