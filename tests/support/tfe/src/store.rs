//! What the server keeps, in memory.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use serde_json::Value;

/// A person or a machine with a token.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: String,
    /// May apply runs and override policies.
    pub(crate) approves: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// A Sentinel policy of the organization; what it decides is given by the test.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// How much it counts.
    pub enforcement: Enforcement,
    /// Whether it lets a run pass.
    pub passes: bool,
}

/// How much a policy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// A failure is told.
    Advisory,
    /// A failure can be overridden by a person.
    SoftMandatory,
    /// A failure ends the run.
    HardMandatory,
}

impl Enforcement {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Advisory => "advisory",
            Self::SoftMandatory => "soft-mandatory",
            Self::HardMandatory => "hard-mandatory",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Organization {
    pub(crate) name: String,
    pub(crate) projects: Vec<Project>,
    pub(crate) policies: Vec<Policy>,
    /// Whether policies are evaluated in a stage of the run, and not checked.
    pub(crate) evaluates: bool,
}

/// Who holds a workspace's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    User(String),
    Run(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) category: String,
    pub(crate) hcl: bool,
    pub(crate) sensitive: bool,
    pub(crate) description: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    pub(crate) id: String,
    pub(crate) organization: String,
    pub(crate) project: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) execution_mode: String,
    pub(crate) terraform_version: String,
    pub(crate) working_directory: String,
    pub(crate) auto_apply: bool,
    pub(crate) allow_destroy_plan: bool,
    pub(crate) structured: bool,
    pub(crate) vcs_repo: Option<Value>,
    pub(crate) lock: Option<(Holder, String)>,
    pub(crate) current_run: Option<String>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) id: String,
    pub(crate) workspace: String,
    pub(crate) source: &'static str,
    pub(crate) speculative: bool,
    pub(crate) provisional: bool,
    pub(crate) auto_queue: bool,
    pub(crate) archive: Option<Vec<u8>>,
    pub(crate) error: Option<String>,
    /// Commit and branch, where it came from version control.
    pub(crate) ingress: Option<Value>,
}

/// The plan or the apply of a run.
#[derive(Debug, Clone)]
pub(crate) struct Phase {
    pub(crate) id: String,
    pub(crate) status: &'static str,
    pub(crate) log: String,
    pub(crate) add: u64,
    pub(crate) change: u64,
    pub(crate) destroy: u64,
    /// The plan as JSON.
    pub(crate) json: Option<Vec<u8>>,
    /// The plan as it is shown to people.
    pub(crate) redacted: Option<Vec<u8>>,
    pub(crate) timestamps: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(crate) struct PolicyCheck {
    pub(crate) id: String,
    pub(crate) run: String,
    pub(crate) status: &'static str,
    pub(crate) passed: usize,
    pub(crate) advisory: usize,
    pub(crate) soft: usize,
    pub(crate) hard: usize,
    pub(crate) output: String,
    pub(crate) policies: Vec<Policy>,
    /// Where they are evaluated in a stage of the run.
    pub(crate) stage: Option<Stage>,
}

/// Ids of a stage of a run, of the evaluation of policies in it, and of the outcome of their set.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) id: String,
    pub(crate) evaluation: String,
    pub(crate) outcome: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) workspace: String,
    pub(crate) configuration: String,
    pub(crate) status: &'static str,
    pub(crate) message: String,
    pub(crate) source: &'static str,
    pub(crate) is_destroy: bool,
    pub(crate) plan_only: bool,
    pub(crate) save_plan: bool,
    pub(crate) auto_apply: bool,
    pub(crate) refresh: bool,
    pub(crate) refresh_only: bool,
    pub(crate) targets: Vec<String>,
    pub(crate) replace: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) has_changes: bool,
    pub(crate) created_at: String,
    pub(crate) created_by: Option<String>,
    pub(crate) confirmed_by: Option<String>,
    pub(crate) timestamps: BTreeMap<String, String>,
    pub(crate) plan: Phase,
    pub(crate) apply: Phase,
    pub(crate) policy_checks: Vec<PolicyCheck>,
    pub(crate) events: Vec<(String, String, Option<String>)>,
    pub(crate) comments: Vec<(String, String)>,
    /// Somebody wants it to end.
    pub(crate) cancel: bool,
    pub(crate) folder: PathBuf,
}

/// Statuses in which nothing happens any more
/// (<https://developer.hashicorp.com/terraform/cloud-docs/api-docs/run#run-states>).
pub(crate) const FINAL: [&str; 6] = [
    "applied",
    "canceled",
    "discarded",
    "errored",
    "planned_and_finished",
    "policy_soft_failed",
];

impl Run {
    pub(crate) fn is_final(&self) -> bool {
        FINAL.contains(&self.status)
    }

    pub(crate) fn is_confirmable(&self) -> bool {
        !self.plan_only
            && self.has_changes
            && matches!(
                self.status,
                "planned" | "cost_estimated" | "policy_checked" | "planned_and_saved" | "post_plan_completed"
            )
    }

    pub(crate) fn is_discardable(&self) -> bool {
        self.is_confirmable()
            || matches!(
                self.status,
                "pending" | "policy_override" | "post_plan_awaiting_decision"
            )
    }

    pub(crate) fn is_cancelable(&self) -> bool {
        matches!(
            self.status,
            "pending"
                | "fetching"
                | "plan_queued"
                | "planning"
                | "confirmed"
                | "apply_queued"
                | "applying"
                | "policy_checking"
                | "post_plan_running"
        )
    }
}

#[derive(Debug, Clone)]
pub(crate) struct StateVersion {
    pub(crate) id: String,
    pub(crate) workspace: String,
    pub(crate) serial: i64,
    pub(crate) lineage: String,
    pub(crate) md5: String,
    pub(crate) created_at: String,
    pub(crate) created_by: Option<String>,
    pub(crate) run: Option<String>,
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) json: Option<Vec<u8>>,
    /// By name: type and value of each output, and whether it is sensitive.
    pub(crate) outputs: Vec<(String, Value)>,
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) tokens: BTreeMap<String, User>,
    pub(crate) organizations: Vec<Organization>,
    pub(crate) workspaces: Vec<Workspace>,
    pub(crate) configurations: Vec<Configuration>,
    pub(crate) runs: Vec<Run>,
    pub(crate) states: Vec<StateVersion>,
    /// The answers to come that are 429, with their Retry-After in seconds.
    pub(crate) limited: VecDeque<u64>,
    /// Versions of Terraform that a workspace may be set to; none takes any.
    pub(crate) versions: Vec<String>,
    counter: u64,
}

impl Store {
    /// A new external id, such as `ws-...`.
    pub(crate) fn id(&mut self, prefix: &str) -> String {
        const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
        self.counter += 1;
        // Spread, so that ids look like the real ones and do not tell their order.
        let mut number = (u128::from(self.counter) << 64 | u128::from(std::process::id()))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let mut text = format!("{prefix}-");
        for _ in 0..16 {
            text.push(char::from(ALPHABET[usize::try_from(number % 58).unwrap()]));
            number /= 58;
        }
        text
    }

    pub(crate) fn organization(&self, name: &str) -> Option<&Organization> {
        self.organizations.iter().find(|o| o.name == name)
    }

    pub(crate) fn workspace(&self, id: &str) -> Option<&Workspace> {
        self.workspaces.iter().find(|w| w.id == id)
    }

    pub(crate) fn workspace_mut(&mut self, id: &str) -> Option<&mut Workspace> {
        self.workspaces.iter_mut().find(|w| w.id == id)
    }

    pub(crate) fn named(&self, organization: &str, name: &str) -> Option<&Workspace> {
        self.workspaces
            .iter()
            .find(|w| w.organization == organization && w.name == name)
    }

    pub(crate) fn run(&self, id: &str) -> Option<&Run> {
        self.runs.iter().find(|r| r.id == id)
    }

    pub(crate) fn run_mut(&mut self, id: &str) -> Option<&mut Run> {
        self.runs.iter_mut().find(|r| r.id == id)
    }

    pub(crate) fn configuration(&self, id: &str) -> Option<&Configuration> {
        self.configurations.iter().find(|c| c.id == id)
    }

    /// The newest state of a workspace that has been uploaded.
    pub(crate) fn current_state(&self, workspace: &str) -> Option<&StateVersion> {
        self.states
            .iter()
            .rev()
            .find(|s| s.workspace == workspace && s.state.is_some())
    }

    pub(crate) fn user_name(&self, id: &str) -> String {
        self.tokens
            .values()
            .find(|u| u.id == id)
            .map(|u| u.name.clone())
            .unwrap_or_default()
    }
}

/// The present moment as the API writes it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
