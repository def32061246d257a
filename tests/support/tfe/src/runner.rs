//! Runs: their way through the states, with Terraform itself at work in a folder of each.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::Shared;
use crate::objects;
use crate::store::{Enforcement, Holder, Phase, PolicyCheck, Run, Stage, StateVersion, Store, now};

/// Puts a run into the queue, and sees to it.
pub(crate) fn queue(shared: &Arc<Shared>, store: &mut Store, run: Run) {
    let id = run.id.clone();
    if let Some(workspace) = store.workspace_mut(&run.workspace)
        && !run.plan_only
        && !run.save_plan
        && workspace.current_run.is_none()
    {
        workspace.current_run = Some(id.clone());
    }
    store.runs.push(run);
    let shared = shared.clone();
    std::thread::spawn(move || {
        Worker {
            shared: &shared,
            id: &id,
        }
        .work();
    });
}

/// Moves a run on to a state.
pub(crate) fn status(run: &mut Run, status: &'static str, actor: Option<&str>) {
    run.status = status;
    run.timestamps.insert(format!("{}-at", status.replace('_', "-")), now());
    run.events.push((status.into(), now(), actor.map(str::to_owned)));
}

fn phase_status(phase: &mut Phase, status: &'static str) {
    phase.status = status;
    let at = if status == "running" { "started" } else { status };
    phase.timestamps.insert(format!("{at}-at"), now());
}

/// How a run ended before its end.
enum Stop {
    Canceled,
    Discarded,
    Errored,
    /// The server goes down.
    Down,
}

struct Worker<'a> {
    shared: &'a Arc<Shared>,
    id: &'a str,
}

impl Worker<'_> {
    fn work(&self) {
        let end = match self.steps() {
            Ok(status) => status,
            Err(Stop::Canceled) => "canceled",
            Err(Stop::Errored) => "errored",
            Err(Stop::Discarded) => "discarded",
            Err(Stop::Down) => return,
        };
        self.shared.with(|store| {
            let Some(run) = store.run_mut(self.id) else { return };
            if run.status != end {
                status(run, end, None);
            }
            for phase in [&mut run.plan, &mut run.apply] {
                if matches!(phase.status, "running" | "queued" | "pending") {
                    let before = phase.status;
                    phase_status(phase, if before == "running" { "canceled" } else { "unreachable" });
                }
            }
            let workspace = run.workspace.clone();
            if let Some(workspace) = store.workspace_mut(&workspace)
                && matches!(&workspace.lock, Some((Holder::Run(run), _)) if run == self.id)
            {
                workspace.lock = None;
            }
        });
    }

    fn run<T>(&self, read: impl FnOnce(&mut Run) -> T) -> T {
        self.shared.with(|store| read(store.run_mut(self.id).unwrap()))
    }

    fn set(&self, to: &'static str) {
        self.run(|r| status(r, to, None));
    }

    /// Waits until something is so.
    fn wait<T>(&self, until: impl Fn(&mut Store) -> Option<T>) -> Result<T, Stop> {
        loop {
            if self.shared.is_down() {
                return Err(Stop::Down);
            }
            let found = self.shared.with(|store| {
                let run = store.run(self.id).unwrap();
                if run.cancel {
                    return Err(Stop::Canceled);
                }
                if run.status == "discarded" {
                    return Err(Stop::Discarded);
                }
                Ok(until(store))
            })?;
            if let Some(found) = found {
                return Ok(found);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn steps(&self) -> Result<&'static str, Stop> {
        let archive = self.wait(|store| {
            let configuration = store.configuration(&store.run(self.id).unwrap().configuration).unwrap();
            if configuration.error.is_some() {
                Some(None)
            } else {
                configuration.archive.clone().map(Some)
            }
        })?;
        let Some(archive) = archive else {
            return Err(Stop::Errored);
        };
        let folder = self.shared.folder.path().join(self.id);
        std::fs::create_dir_all(&folder).unwrap();
        objects::unpack(&archive, &folder);
        self.run(|r| r.folder = folder.clone());
        let exclusive = self.run(|r| !r.plan_only && !r.save_plan);
        if exclusive {
            self.take_turn()?;
        }
        self.set("plan_queued");
        self.run(|r| phase_status(&mut r.plan, "queued"));
        self.set("planning");
        self.plan(&folder)?;
        let (has_changes, plan_only, save_plan) = self.run(|r| (r.has_changes, r.plan_only, r.save_plan));
        if !has_changes {
            return Ok("planned_and_finished");
        }
        if !plan_only && !save_plan {
            self.set("planned");
        }
        let checked = self.check_policies()?;
        if plan_only {
            return Ok(if checked {
                "planned_and_finished"
            } else {
                "policy_soft_failed"
            });
        }
        if save_plan {
            self.set("planned_and_saved");
        }
        if self.run(|r| r.auto_apply) && !save_plan {
            self.set("confirmed");
        }
        self.wait(|store| (store.run(self.id).unwrap().status == "confirmed").then_some(()))?;
        if save_plan {
            self.take_turn()?;
        }
        self.set("apply_queued");
        self.run(|r| phase_status(&mut r.apply, "queued"));
        self.set("applying");
        self.apply(&folder)?;
        Ok("applied")
    }

    /// Waits until the workspace is free, and locks it.
    fn take_turn(&self) -> Result<(), Stop> {
        self.wait(|store| {
            let run = store.run(self.id).unwrap();
            let workspace = run.workspace.clone();
            let waits = |r: &Run| r.workspace == workspace && !r.plan_only && !r.save_plan && !r.is_final();
            // The queue of a workspace is in the order of creation; a saved plan that is confirmed joins it at once.
            let first = run.save_plan || store.runs.iter().find(|r| waits(r)).is_some_and(|r| r.id == self.id);
            let workspace = store.workspace_mut(&workspace).unwrap();
            if workspace.lock.is_some() || !first {
                return None;
            }
            workspace.lock = Some((Holder::Run(self.id.to_owned()), String::new()));
            workspace.current_run = Some(self.id.to_owned());
            Some(())
        })
    }

    /// The folder in which Terraform works, made ready: the state beside the files, in place of the block that names this
    /// very server.
    fn prepare(&self, folder: &Path) -> PathBuf {
        let (directory, state, variables, of_run) = self.shared.with(|store| {
            let run = store.run(self.id).unwrap();
            let workspace = store.workspace(&run.workspace).unwrap();
            let state = store.current_state(&run.workspace).and_then(|s| s.state.clone());
            (
                workspace.working_directory.clone(),
                state,
                workspace.variables.clone(),
                run.variables.clone(),
            )
        });
        let root = folder.join(directory);
        std::fs::create_dir_all(&root).unwrap();
        // An override decides between backend and cloud
        // (<https://developer.hashicorp.com/terraform/language/files/override#merging-terraform-blocks>).
        let backend = "terraform {\n  backend \"local\" {\n    path = \"terraform.tfstate\"\n  }\n}\n";
        std::fs::write(root.join("tfe_override.tf"), backend).unwrap();
        let path = root.join("terraform.tfstate");
        match state {
            Some(state) => std::fs::write(path, state).unwrap(),
            None => drop(std::fs::remove_file(path)),
        }
        let mut plain = serde_json::Map::new();
        let mut hcl = String::new();
        for variable in variables.iter().filter(|v| v.category == "terraform") {
            if variable.hcl {
                hcl.push_str(&format!("{} = {}\n", variable.key, variable.value));
            } else {
                plain.insert(variable.key.clone(), json!(variable.value));
            }
        }
        for (key, value) in of_run {
            hcl.push_str(&format!("{key} = {value}\n"));
        }
        if !plain.is_empty() {
            std::fs::write(
                root.join("zz-workspace.auto.tfvars.json"),
                Value::Object(plain).to_string(),
            )
            .unwrap();
        }
        if !hcl.is_empty() {
            std::fs::write(root.join("zz-workspace.auto.tfvars"), hcl).unwrap();
        }
        root
    }

    fn terraform(&self, root: &Path, arguments: &[&str]) -> Command {
        let variables: Vec<(String, String)> = self.shared.with(|store| {
            let run = store.run(self.id).unwrap();
            let workspace = store.workspace(&run.workspace).unwrap();
            let all = workspace.variables.iter().filter(|v| v.category == "env");
            all.map(|v| (v.key.clone(), v.value.clone())).collect()
        });
        let mut command = Command::new("terraform");
        command
            .args(arguments)
            .current_dir(root)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.shared.folder.path())
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env("TFC_RUN_ID", self.id)
            .envs(self.shared.runner_environment.iter().map(|(k, v)| (k, v)))
            .envs(variables)
            .stdin(Stdio::null());
        command
    }

    fn plan(&self, folder: &Path) -> Result<(), Stop> {
        let root = self.prepare(folder);
        self.run(|r| {
            phase_status(&mut r.plan, "running");
            r.plan
                .log
                .push_str("Terraform\non linux_amd64\nInitializing plugins and modules...\n");
        });
        let init = self
            .terraform(&root, &["init", "-input=false", "-no-color"])
            .output()
            .unwrap();
        if !init.status.success() {
            let text = String::from_utf8_lossy(&init.stderr).into_owned();
            return self.failed(false, &text);
        }
        let run = self.run(|r| r.clone());
        let mut arguments = vec!["plan", "-json", "-input=false", "-detailed-exitcode", "-out=tfe.tfplan"];
        if run.is_destroy {
            arguments.push("-destroy");
        }
        if run.refresh_only {
            arguments.push("-refresh-only");
        }
        if !run.refresh {
            arguments.push("-refresh=false");
        }
        let more: Vec<String> = run
            .targets
            .iter()
            .map(|t| format!("-target={t}"))
            .chain(run.replace.iter().map(|t| format!("-replace={t}")))
            .collect();
        arguments.extend(more.iter().map(String::as_str));
        let code = self.follow(&root, &arguments, false)?;
        if code != 0 && code != 2 {
            return self.failed(false, "");
        }
        let json = self
            .terraform(&root, &["show", "-json", "tfe.tfplan"])
            .output()
            .unwrap();
        self.run(|r| {
            r.has_changes = code == 2;
            r.plan.json = Some(json.stdout);
            phase_status(&mut r.plan, "finished");
        });
        Ok(())
    }

    fn apply(&self, folder: &Path) -> Result<(), Stop> {
        let root = self.prepare(folder);
        self.run(|r| {
            phase_status(&mut r.apply, "running");
            r.apply
                .log
                .push_str("Terraform\non linux_amd64\nInitializing plugins and modules...\n");
        });
        let code = self.follow(&root, &["apply", "-json", "-input=false", "tfe.tfplan"], true);
        // What was done by then is in the state, however it ended.
        self.keep_state(&root);
        if code? != 0 {
            return self.failed(true, "");
        }
        self.run(|r| phase_status(&mut r.apply, "finished"));
        Ok(())
    }

    /// Runs Terraform with its output going to the log as it comes.
    fn follow(&self, root: &Path, arguments: &[&str], applies: bool) -> Result<i32, Stop> {
        let path = root.join("tfe.log");
        let errors = root.join("tfe.err");
        let mut child: Child = self
            .terraform(root, arguments)
            .stdout(File::create(&path).unwrap())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let mut log = File::open(&path).unwrap();
        let mut interrupted = false;
        loop {
            let ended = child.try_wait().unwrap();
            let mut text = String::new();
            log.read_to_string(&mut text).unwrap();
            let mut counts = None;
            for line in text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()) {
                if line["type"] == "change_summary" {
                    counts = Some(["add", "change", "remove"].map(|k| line["changes"][k].as_u64().unwrap_or(0)));
                }
            }
            let cancel = self.run(|r| {
                let phase = if applies { &mut r.apply } else { &mut r.plan };
                phase.log.push_str(&text);
                if let Some([add, change, destroy]) = counts {
                    (phase.add, phase.change, phase.destroy) = (add, change, destroy);
                }
                r.cancel
            });
            if let Some(status) = ended {
                if interrupted {
                    return Err(Stop::Canceled);
                }
                let stderr = std::fs::read_to_string(&errors).unwrap_or_default();
                self.run(|r| if applies { &mut r.apply } else { &mut r.plan }.log.push_str(&stderr));
                return Ok(status.code().unwrap_or(1));
            }
            if self.shared.is_down() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Stop::Down);
            }
            if cancel
                && !interrupted
                && let Some(pid) = pid
            {
                interrupted = true;
                let _ = kill_process(pid, Signal::INT);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn failed(&self, applies: bool, text: &str) -> Result<(), Stop> {
        self.run(|r| {
            let phase = if applies { &mut r.apply } else { &mut r.plan };
            phase.log.push_str(text);
            phase_status(phase, "errored");
        });
        Err(Stop::Errored)
    }

    fn keep_state(&self, root: &Path) {
        let Ok(state) = std::fs::read(root.join("terraform.tfstate")) else {
            return;
        };
        let parsed: Value = serde_json::from_slice(&state).unwrap_or_default();
        let md5 = format!("{:x}", md5::compute(&state));
        let outputs = parsed["outputs"].as_object().cloned().unwrap_or_default();
        self.shared.with(|store| {
            let run = store.run(self.id).unwrap().clone();
            if store.current_state(&run.workspace).is_some_and(|s| s.md5 == md5) {
                return;
            }
            let id = store.id("sv");
            store.states.push(StateVersion {
                id,
                workspace: run.workspace,
                serial: parsed["serial"].as_i64().unwrap_or(0),
                lineage: parsed["lineage"].as_str().unwrap_or_default().to_owned(),
                md5,
                created_at: now(),
                created_by: run.created_by,
                run: Some(run.id),
                state: Some(state),
                json: None,
                outputs: outputs.into_iter().collect(),
            });
        });
    }

    /// Whether the run may go on; waits for an override where a person can give one.
    fn check_policies(&self) -> Result<bool, Stop> {
        let check = self.shared.with(|store| {
            let run = store.run(self.id).unwrap();
            let organization = store.workspace(&run.workspace).unwrap().organization.clone();
            let organization = store.organization(&organization).unwrap();
            let (policies, evaluates) = (organization.policies.clone(), organization.evaluates);
            if policies.is_empty() {
                return None;
            }
            let failed = |e: Enforcement| policies.iter().filter(|p| p.enforcement == e && !p.passes).count();
            let (advisory, soft, hard) = (
                failed(Enforcement::Advisory),
                failed(Enforcement::SoftMandatory),
                failed(Enforcement::HardMandatory),
            );
            let check = PolicyCheck {
                id: store.id("polchk"),
                run: self.id.to_owned(),
                status: if hard > 0 {
                    "hard_failed"
                } else if soft > 0 {
                    "soft_failed"
                } else {
                    "passed"
                },
                passed: policies.iter().filter(|p| p.passes).count(),
                advisory,
                soft,
                hard,
                output: output(&policies),
                policies,
                stage: evaluates.then(|| Stage {
                    id: store.id("ts"),
                    evaluation: store.id("poleval"),
                    outcome: store.id("psout"),
                }),
            };
            let run = store.run_mut(self.id).unwrap();
            status(
                run,
                if evaluates {
                    "post_plan_running"
                } else {
                    "policy_checking"
                },
                None,
            );
            run.policy_checks.push(check.clone());
            Some(check)
        });
        let Some(check) = check else { return Ok(true) };
        let (waiting, passed) = match check.stage {
            Some(_) => ("post_plan_awaiting_decision", "post_plan_completed"),
            None => ("policy_override", "policy_checked"),
        };
        match check.status {
            "hard_failed" => Err(Stop::Errored),
            "passed" => {
                self.set(passed);
                Ok(true)
            }
            _ if self.run(|r| r.plan_only) => Ok(false),
            _ => {
                self.set(waiting);
                self.wait(|store| (store.run(self.id).unwrap().policy_checks[0].status == "overridden").then_some(()))?;
                self.set(passed);
                Ok(true)
            }
        }
    }
}

/// Makes the plan as it is shown to people: what changes, with the schemas that say how to show it. Values that are
/// sensitive are left out.
pub(crate) fn redact(shared: &Arc<Shared>, plan: &str) {
    let found = shared.with(|store| {
        let run = store.runs.iter().find(|r| r.plan.id == plan)?;
        let directory = store.workspace(&run.workspace)?.working_directory.clone();
        let json = run.plan.json.clone().filter(|_| run.plan.redacted.is_none())?;
        Some((run.id.clone(), run.folder.join(directory), json))
    });
    let Some((id, root, json)) = found else { return };
    let worker = Worker { shared, id: &id };
    let schemas = worker
        .terraform(&root, &["providers", "schema", "-json"])
        .output()
        .unwrap();
    let mut schemas: Value = serde_json::from_slice(&schemas.stdout).unwrap_or_default();
    let plan: Value = serde_json::from_slice(&json).unwrap_or_default();
    let mut changes = plan["resource_changes"].clone();
    for change in changes.as_array_mut().into_iter().flatten() {
        for side in ["before", "after"] {
            let marks = change["change"][format!("{side}_sensitive")].clone();
            hide(&mut change["change"][side], &marks);
        }
    }
    let used: Vec<&str> = changes
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["type"].as_str())
        .collect();
    for provider in schemas["provider_schemas"]
        .as_object_mut()
        .into_iter()
        .flat_map(|p| p.values_mut())
    {
        for kind in ["resource_schemas", "data_source_schemas"] {
            if let Some(all) = provider[kind].as_object_mut() {
                all.retain(|name, _| used.contains(&name.as_str()));
            }
        }
    }
    let shown = json!({
        "plan_format_version": plan["format_version"],
        "output_changes": plan["output_changes"],
        "resource_changes": changes,
        "resource_drift": plan["resource_drift"],
        "relevant_attributes": plan["relevant_attributes"],
        "provider_format_version": schemas["format_version"],
        "provider_schemas": schemas["provider_schemas"],
    });
    shared.with(|store| store.run_mut(&id).unwrap().plan.redacted = Some(shown.to_string().into_bytes()));
}

/// Takes out what is marked as sensitive.
fn hide(value: &mut Value, marks: &Value) {
    match (value, marks) {
        (value, Value::Bool(true)) => *value = json!("REDACTED"),
        (Value::Object(map), Value::Object(marks)) => {
            for (key, value) in map {
                hide(value, marks.get(key).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(list), Value::Array(marks)) => {
            for (value, marks) in list.iter_mut().zip(marks) {
                hide(value, marks);
            }
        }
        _ => {}
    }
}

/// What the service prints of policies.
fn output(policies: &[crate::Policy]) -> String {
    let mut text = String::from("Sentinel Result\n\n");
    for policy in policies {
        let result = if policy.passes { "passed" } else { "failed" };
        text.push_str(&format!("{} ({}): {result}\n", policy.name, policy.enforcement.word()));
    }
    text
}
