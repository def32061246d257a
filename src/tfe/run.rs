use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Archive, RemoteWorkspace, Tfe, TfeError, Trouble};
use crate::cancellation::Cancellation;

/// How often a run is looked at.
const POLL: Duration = Duration::from_millis(500);
/// For how long a run is looked for again while the network is lost.
const LOST: Duration = Duration::from_secs(300);
/// How long the host may take to see a push.
const PUSH: Duration = Duration::from_secs(60);

/// The file that Terraform saves in place of a plan that the host keeps: `terraform show` and `terraform apply` take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    remote_plan_format: u32,
    /// The run's external id.
    pub run_id: String,
    hostname: String,
}

impl Bookmark {
    /// Of a run at a host.
    #[must_use]
    pub fn new(run_id: &str, hostname: &str) -> Self {
        Self {
            remote_plan_format: 1,
            run_id: run_id.to_owned(),
            hostname: hostname.to_owned(),
        }
    }

    /// The bookmark in a file, if it is one of this host.
    #[must_use]
    pub fn read(path: &Path, hostname: &str) -> Option<Self> {
        let found: Self = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (found.remote_plan_format == 1 && found.hostname == hostname).then_some(found)
    }
}

/// A run to be made.
#[derive(Debug, Clone, Copy)]
pub struct RunRequest<'a> {
    /// What it says of itself.
    pub message: &'a str,
    /// Whether it removes everything.
    pub destroy: bool,
    /// Whether it only shows what would be.
    pub speculative: bool,
}

/// How far a run is (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs/run#run-states>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunPhase {
    /// It waits for its turn, plans or is checked.
    Planning,
    /// A policy has failed that a person may override.
    NeedsOverride,
    /// It waits for consent.
    NeedsConsent,
    /// It has consent, and waits for its turn or applies.
    Applying,
    /// There was nothing to change, or the plan was all that was asked for.
    PlanOnly,
    /// A policy has failed, and the plan was all that was asked for.
    PolicyFailed,
    /// It is applied.
    Applied,
    /// It failed.
    Errored,
    /// Somebody discarded it.
    Discarded,
    /// Somebody cancelled it.
    Canceled,
}

/// A run at the host.
#[derive(Debug, Clone)]
pub struct Run {
    /// External id, `run-...`.
    pub id: String,
    /// The host's word for its state.
    pub status: String,
    /// How far it is.
    pub phase: RunPhase,
    /// What it says of itself.
    pub message: String,
    /// Whether it removes everything.
    pub destroy: bool,
    /// Whether its plan changes anything.
    pub has_changes: bool,
    /// Whether the token may give consent.
    pub may_apply: bool,
    plan: String,
    apply: Option<String>,
}

impl Run {
    fn of(data: &Value) -> Self {
        let attributes = &data["attributes"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let status = text(&attributes["status"]);
        let confirmable = attributes["actions"]["is-confirmable"] == true;
        let phase = match status.as_str() {
            "applied" => RunPhase::Applied,
            "errored" => RunPhase::Errored,
            "discarded" => RunPhase::Discarded,
            "canceled" | "force_canceled" => RunPhase::Canceled,
            "planned_and_finished" => RunPhase::PlanOnly,
            "policy_soft_failed" => RunPhase::PolicyFailed,
            "policy_override" | "post_plan_awaiting_decision" => RunPhase::NeedsOverride,
            "confirmed"
            | "queuing_apply"
            | "apply_queued"
            | "applying"
            | "pre_apply_running"
            | "pre_apply_completed"
            | "post_apply_running"
            | "post_apply_completed" => RunPhase::Applying,
            _ if confirmable => RunPhase::NeedsConsent,
            _ => RunPhase::Planning,
        };
        let relation = |name: &str| text(&data["relationships"][name]["data"]["id"]);
        Self {
            id: text(&data["id"]),
            status,
            phase,
            message: text(&attributes["message"]),
            destroy: attributes["is-destroy"] == true,
            has_changes: attributes["has-changes"] == true,
            // Hosts that say nothing of rights refuse by themselves.
            may_apply: attributes["permissions"]["can-apply"] != false,
            plan: relation("plan"),
            apply: Some(relation("apply")).filter(|id| !id.is_empty()),
        }
    }
}

/// What a plan would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Resources to add.
    pub add: u64,
    /// Resources to change.
    pub change: u64,
    /// Resources to destroy.
    pub destroy: u64,
}

/// What is told while a run is followed.
pub trait Watch: Send {
    /// A line of the log; JSON where the workspace has structured output.
    fn line(&mut self, line: &str);
    /// What is waited for, when that changes.
    fn waiting(&mut self, what: &str);
}

/// Which part of a run is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Until the plan stands, and everything that checks it.
    Plan,
    /// Until the end.
    Apply,
}

/// Where a log is, and how far it has been read.
#[derive(Default)]
struct Log {
    url: String,
    offset: usize,
    rest: Vec<u8>,
    ended: bool,
}

impl Tfe {
    /// The run's page in the web UI.
    #[must_use]
    pub fn run_url(&self, workspace: &RemoteWorkspace, run: &str) -> String {
        format!(
            "https://{}/app/{}/{}/runs/{run}",
            self.hostname(),
            workspace.organization,
            workspace.name
        )
    }

    /// Uploads a configuration; returns its id.
    ///
    /// # Errors
    /// It is refused or cannot be unpacked.
    pub async fn upload_configuration(
        &self,
        workspace: &RemoteWorkspace,
        archive: &Archive,
        speculative: bool,
    ) -> Result<String, TfeError> {
        let what = format!(
            "upload the configuration to {}/{}",
            workspace.organization, workspace.name
        );
        let attributes = json!({ "auto-queue-runs": false, "speculative": speculative, "provisional": !speculative });
        let body = json!({ "data": { "type": "configuration-versions", "attributes": attributes } });
        let made = self
            .call(
                Method::POST,
                &format!("workspaces/{}/configuration-versions", workspace.id),
                Some(&body),
                &what,
            )
            .await?;
        let id = made.data()["id"].as_str().unwrap_or_default().to_owned();
        let url = made.data()["attributes"]["upload-url"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.upload(&url, &archive.bytes, &what).await?;
        let began = Instant::now();
        loop {
            let read = self.get(&format!("configuration-versions/{id}"), &what).await?;
            let attributes = &read.data()["attributes"];
            match attributes["status"].as_str().unwrap_or_default() {
                "uploaded" => return Ok(id),
                "pending" | "fetching" if began.elapsed() < PUSH => tokio::time::sleep(POLL).await,
                status => {
                    let told = attributes["error-message"].as_str().unwrap_or_default();
                    return Err(TfeError {
                        attempted: what,
                        message: format!("the configuration is {status} {told}").trim_end().to_owned(),
                        hint: "run the same command again".into(),
                        kind: Trouble::Refused,
                    });
                }
            }
        }
    }

    /// Makes a run; without a configuration, of the workspace's latest one. A plan that is to be applied is saved: it holds
    /// no lock and is applied as it was reviewed. Where the workspace follows a repository, plans cannot be saved.
    ///
    /// # Errors
    /// It is refused.
    pub async fn create_run(
        &self,
        workspace: &RemoteWorkspace,
        configuration: Option<&str>,
        request: RunRequest<'_>,
    ) -> Result<Run, TfeError> {
        let what = format!(
            "make a run in {}/{} at {}",
            workspace.organization,
            workspace.name,
            self.hostname()
        );
        let saved = configuration.is_some() && !request.speculative;
        let mut body = json!({ "data": {
            "type": "runs",
            "attributes": { "message": request.message, "is-destroy": request.destroy, "auto-apply": false, "save-plan": saved },
            "relationships": { "workspace": { "data": { "type": "workspaces", "id": workspace.id } } },
        } });
        if request.speculative {
            body["data"]["attributes"]["plan-only"] = json!(true);
        }
        if let Some(id) = configuration {
            body["data"]["relationships"]["configuration-version"] =
                json!({ "data": { "type": "configuration-versions", "id": id } });
        }
        let made = self.call(Method::POST, "runs", Some(&body), &what).await?;
        Ok(Run::of(made.data()))
    }

    /// The run, or `None` where there is none.
    ///
    /// # Errors
    /// The host does not answer.
    pub async fn run(&self, id: &str) -> Result<Option<Run>, TfeError> {
        match self
            .get(
                &format!("runs/{id}"),
                &format!("read the run {id} at {}", self.hostname()),
            )
            .await
        {
            Err(error) if error.kind == Trouble::Missing => Ok(None),
            read => Ok(Some(Run::of(read?.data()))),
        }
    }

    /// The run that a push made, once the host has seen it; `None` if it makes none.
    ///
    /// # Errors
    /// The host does not answer.
    pub async fn run_of_commit(&self, workspace: &RemoteWorkspace, commit: &str) -> Result<Option<Run>, TfeError> {
        let what = format!(
            "look for the run of {commit} in {}/{}",
            workspace.organization, workspace.name
        );
        let path = format!(
            "workspaces/{}/runs?include=configuration_version.ingress_attributes&page%5Bsize%5D=50",
            workspace.id
        );
        let began = Instant::now();
        loop {
            let document = self.get(&path, &what).await?;
            let included = document.0["included"].as_array().into_iter().flatten();
            let of_commit: Vec<&str> = included
                .clone()
                .filter(|i| i["type"] == "ingress-attributes" && i["attributes"]["commit-sha"] == commit)
                .filter_map(|i| i["id"].as_str())
                .collect();
            let configurations: Vec<&str> = included
                .filter(|i| i["type"] == "configuration-versions")
                .filter(|c| {
                    let ingress = c["relationships"]["ingress-attributes"]["data"]["id"].as_str();
                    ingress.is_some_and(|id| of_commit.contains(&id))
                })
                .filter_map(|c| c["id"].as_str())
                .collect();
            let runs = document.data().as_array().into_iter().flatten();
            let mut runs = runs.filter(|r| r["attributes"]["plan-only"] != true);
            let found = runs.find(|r| {
                let id = r["relationships"]["configuration-version"]["data"]["id"].as_str();
                id.is_some_and(|id| configurations.contains(&id))
            });
            match found {
                Some(run) => return Ok(Some(Run::of(run))),
                None if began.elapsed() > PUSH => return Ok(None),
                None => tokio::time::sleep(POLL * 2).await,
            }
        }
    }

    /// What a run's plan would do.
    ///
    /// # Errors
    /// The host does not answer.
    pub async fn changes(&self, run: &Run) -> Result<Change, TfeError> {
        let plan = self
            .get(&format!("plans/{}", run.plan), &format!("read the plan of {}", run.id))
            .await?;
        let number = |key: &str| plan.data()["attributes"][key].as_u64().unwrap_or(0);
        Ok(Change {
            add: number("resource-additions"),
            change: number("resource-changes"),
            destroy: number("resource-destructions"),
        })
    }

    /// The policies that keep a run from going on, by name and level. They are evaluated in stages of the run
    /// (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs/policy-evaluations>) or, the older way, checked
    /// (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs/policy-checks>).
    ///
    /// # Errors
    /// The host does not answer.
    pub async fn failed_policies(&self, run: &Run) -> Result<Vec<String>, TfeError> {
        let what = format!("read the policies of {}", run.id);
        let mut failed = Vec::new();
        let stages = self.list_if_any(&format!("runs/{}/task-stages", run.id), &what).await?;
        for stage in stages {
            let id = stage["id"].as_str().unwrap_or_default();
            let path = format!("task-stages/{id}/policy-evaluations");
            for evaluation in self.list_if_any(&path, &what).await? {
                let id = evaluation["id"].as_str().unwrap_or_default();
                let path = format!("policy-evaluations/{id}/policy-set-outcomes");
                for set in self.list_if_any(&path, &what).await? {
                    let outcomes = set["attributes"]["outcomes"].as_array().into_iter().flatten();
                    failed.extend(outcomes.filter_map(|outcome| {
                        let text = |key: &str| outcome[key].as_str().unwrap_or_default();
                        let (level, status) = (text("enforcement_level"), text("status"));
                        let stops = status == "errored" || (status == "failed" && level != "advisory");
                        stops.then(|| format!("{} ({level})", text("policy_name")))
                    }));
                }
            }
        }
        for check in self
            .list_if_any(&format!("runs/{}/policy-checks", run.id), &what)
            .await?
        {
            let sets = check["attributes"]["result"]["sentinel"]["data"].as_object();
            for policy in sets
                .into_iter()
                .flat_map(|s| s.values())
                .flat_map(|s| s["policies"].as_array().into_iter().flatten())
            {
                if policy["result"] == false && policy["allowed-failure"] != true {
                    // Written as a name, or as an object with a level.
                    let about = &policy["policy"];
                    let name = about["name"].as_str().or(about.as_str()).unwrap_or("a policy");
                    let level = about["enforcement-level"]
                        .as_str()
                        .map(|l| format!(" ({l})"))
                        .unwrap_or_default();
                    failed.push(format!("{name}{level}"));
                }
            }
        }
        Ok(failed)
    }

    /// Gives consent to a run. Somebody else who does so first is as good.
    ///
    /// # Errors
    /// It is refused.
    pub async fn confirm(&self, run: &Run, comment: &str) -> Result<(), TfeError> {
        let what = format!("apply the run {} at {}", run.id, self.hostname());
        let path = format!("runs/{}/actions/apply", run.id);
        let Err(error) = self
            .call(Method::POST, &path, Some(&json!({ "comment": comment })), &what)
            .await
        else {
            return Ok(());
        };
        // The answer may have been lost after the deed.
        match self.run(&run.id).await?.map(|r| r.phase) {
            Some(RunPhase::Applying | RunPhase::Applied) => Ok(()),
            _ => Err(error),
        }
    }

    /// Gives a run up: discards its plan, or cancels it while it makes one.
    ///
    /// # Errors
    /// It is refused.
    pub async fn give_up(&self, run: &Run, comment: &str) -> Result<(), TfeError> {
        let what = format!("discard the run {} at {}", run.id, self.hostname());
        let mut refused = None;
        for action in ["discard", "cancel"] {
            let path = format!("runs/{}/actions/{action}", run.id);
            match self
                .call(Method::POST, &path, Some(&json!({ "comment": comment })), &what)
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Follows a run until its plan stands, or to its end, with its log as it is written. A lost network is waited for. While
    /// a person has to decide, it waits until `patience` is over and then returns the run as it is. Where `cancellation` is
    /// set off, it stops watching: the run goes on.
    ///
    /// # Errors
    /// The host does not answer for a long time, or watching was stopped.
    pub async fn follow(
        &self,
        workspace: &RemoteWorkspace,
        id: &str,
        part: Follow,
        patience: Duration,
        cancellation: &Cancellation,
        watch: &mut dyn Watch,
    ) -> Result<Run, TfeError> {
        let url = self.run_url(workspace, id);
        let mut log = Log::default();
        let mut lost: Option<Instant> = None;
        let mut undecided: Option<Instant> = None;
        let mut said = String::new();
        let mut say = |what: String, watch: &mut dyn Watch| {
            if what != said {
                watch.waiting(&what);
                said = what;
            }
        };
        loop {
            match self.look(id, part, &mut log, watch).await {
                Ok(run) => {
                    lost = None;
                    let waits = match run.phase {
                        RunPhase::Planning if run.status == "pending" => {
                            say(
                                format!(
                                    "{id} waits for its turn in {}/{}: {url}",
                                    workspace.organization, workspace.name
                                ),
                                watch,
                            );
                            false
                        }
                        RunPhase::NeedsOverride => {
                            let failed = self.failed_policies(&run).await.unwrap_or_default().join(", ");
                            say(format!("{id} waits for a person to override {failed}: {url}"), watch);
                            true
                        }
                        RunPhase::NeedsConsent if part == Follow::Apply => {
                            say(
                                format!("{id} waits for the approval of somebody who may apply it: {url}"),
                                watch,
                            );
                            true
                        }
                        RunPhase::Planning => false,
                        RunPhase::Applying if part == Follow::Apply => false,
                        _ => return Ok(run),
                    };
                    if waits {
                        if undecided.get_or_insert_with(Instant::now).elapsed() >= patience {
                            return Ok(run);
                        }
                    } else {
                        undecided = None;
                    }
                }
                Err(error) if error.kind == Trouble::Network => {
                    if lost.get_or_insert_with(Instant::now).elapsed() >= LOST {
                        return Err(TfeError {
                            hint: format!(
                                "the run goes on without this program: {url}\nrun the same command again: it follows {id} from where it is then"
                            ),
                            ..error
                        });
                    }
                    say(
                        format!("{} does not answer; {id} goes on: {url}", self.hostname()),
                        watch,
                    );
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = cancellation.cancelled() => {
                    return Err(TfeError {
                        attempted: format!("follow the run {id} any longer"),
                        message: "stopped on request; the run itself goes on".into(),
                        hint: format!("{url}\nrun the same command again to follow it, or discard it there"),
                        kind: Trouble::Stopped,
                    });
                }
            }
        }
    }

    /// Looks once: the run, and what its log has that is new.
    async fn look(&self, id: &str, part: Follow, log: &mut Log, watch: &mut dyn Watch) -> Result<Run, TfeError> {
        let what = format!("follow the run {id}");
        let Some(run) = self.run(id).await? else {
            return Err(TfeError {
                attempted: what,
                message: format!("{} has no such run any more", self.hostname()),
                hint: "run the same command again: it makes a new plan".into(),
                kind: Trouble::Missing,
            });
        };
        let phase = match (part, &run.apply) {
            (Follow::Plan, _) => format!("plans/{}", run.plan),
            (Follow::Apply, Some(apply)) => format!("applies/{apply}"),
            (Follow::Apply, None) => return Ok(run),
        };
        if log.url.is_empty() {
            let read = self.get(&phase, &what).await?;
            log.url = read.data()["attributes"]["log-read-url"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
        }
        while !log.ended && !log.url.is_empty() {
            let bytes = self.log(&log.url, log.offset, &what).await?;
            if bytes.is_empty() {
                break;
            }
            log.offset += bytes.len();
            log.take(&bytes, watch);
        }
        Ok(run)
    }
}

impl Log {
    /// Hands on the lines that are complete. A log is between STX and ETX
    /// (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs/plans>).
    fn take(&mut self, bytes: &[u8], watch: &mut dyn Watch) {
        for byte in bytes {
            match byte {
                2 => {}
                3 => self.ended = true,
                b'\n' => self.hand_on(watch),
                byte => self.rest.push(*byte),
            }
        }
        if self.ended {
            self.hand_on(watch);
        }
    }

    fn hand_on(&mut self, watch: &mut dyn Watch) {
        let line = std::mem::take(&mut self.rest);
        let line = String::from_utf8_lossy(&line);
        if !line.trim().is_empty() {
            watch.line(line.trim_end());
        }
    }
}
