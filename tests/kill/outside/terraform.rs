//! Terraform, as mfsre drives it, and what it brings about: all of the infrastructure or none of it.

use jiff::Timestamp;
use mfsre::model::contract::{OUTPUTS, OutputKind};
use mfsre::model::{EnvironmentName, Names, Scalar as _};
use serde_json::{Value, json};

use crate::machine::ENVIRONMENT;

#[derive(Clone, Default)]
pub(crate) struct Infrastructure {
    applied: bool,
    /// Grows with every change of the state; a plan is for one.
    serial: u64,
    /// The environment in the tags of a role that stands on AWS and of which no state knows.
    pub(crate) lost: Option<String>,
    /// Who holds the lock of the state, and since when, in the form that Terraform tells it.
    pub(crate) lock: Option<(String, String)>,
    /// The next apply dies in the middle, and leaves its lock.
    pub(crate) dies: bool,
    /// Locks that were broken.
    pub(crate) unlocked: Vec<String>,
}

/// The role that may be lost, and its name.
const ROLE: (&str, &str) = ("module.eks.aws_iam_role.cluster", "demo-cluster");

impl Infrastructure {
    pub(crate) fn is_gone(&self) -> bool {
        !self.applied
    }

    /// One call: the exit status in the first line, then what is printed. `loaded`: load balancers stand in the network.
    pub(super) fn terraform(&mut self, arguments: &str, loaded: bool) -> String {
        let words: Vec<&str> = arguments.split(' ').collect();
        let answer = |status: u8, printed: &str| format!("{status}\n{printed}\n");
        match words.as_slice() {
            ["version", "-json"] => answer(0, &json!({ "terraform_version": "1.11.4" }).to_string()),
            ["version"] => answer(0, "Terraform v1.11.4"),
            ["init", ..] => answer(0, ""),
            ["state", "list"] if self.applied => answer(0, "aws_vpc.this"),
            ["state", "list"] => answer(0, ""),
            ["state", "pull", ..] if self.applied => answer(0, &self.state().to_string()),
            ["state", "pull", ..] => answer(0, ""),
            ["force-unlock", "-force", id] => {
                self.lock = None;
                self.unlocked.push((*id).to_owned());
                answer(0, "")
            }
            ["plan" | "apply" | "untaint", ..] if self.lock.is_some() => answer(1, &self.locked()),
            ["show", "-no-color", "-json", plan] => answer(0, &self.shown(plan).to_string()),
            ["show", "-no-color", "-json"] => answer(0, &json!({ "values": { "root_module": {} } }).to_string()),
            ["output", "-no-color", "-json"] => answer(0, &outputs().to_string()),
            ["plan", rest @ ..] => {
                let destroy = rest.contains(&"-destroy");
                let changes = self.applied == destroy;
                let out = rest.iter().find_map(|word| word.strip_prefix("-out=")).unwrap();
                let importing = if rest.contains(&"-importing") { " importing" } else { "" };
                std::fs::write(out, format!("{} {destroy}{importing}", self.serial)).unwrap();
                let (add, remove) = (u8::from(changes && !destroy), u8::from(changes && destroy));
                let summary =
                    json!({ "type": "change_summary", "changes": { "add": add, "change": 0, "remove": remove } });
                answer(if changes { 2 } else { 0 }, &summary.to_string())
            }
            ["apply", rest @ ..] => {
                let plan = std::fs::read_to_string(rest.last().unwrap()).unwrap_or_default();
                let importing = plan.ends_with(" importing");
                let plan = plan.trim_end_matches(" importing");
                let destroy = plan == format!("{} true", self.serial);
                if !destroy && plan != format!("{} false", self.serial) {
                    return answer(1, &error("Saved plan is stale"));
                }
                if destroy && loaded {
                    return answer(
                        1,
                        &error("deleting EC2 VPC: DependencyViolation: the vpc has dependencies"),
                    );
                }
                if std::mem::take(&mut self.dies) {
                    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
                    let since = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string();
                    self.lock = Some((format!("alice@{}", host.trim()), since));
                    let work = json!({ "@timestamp": Timestamp::now().to_string(), "type": "apply_start" });
                    return answer(137, &work.to_string());
                }
                if !destroy && self.lost.is_some() && !importing {
                    let (address, name) = ROLE;
                    let summary = format!(
                        "creating IAM Role ({name}): EntityAlreadyExists: Role with name {name} already exists."
                    );
                    let diagnostic = json!({ "severity": "error", "summary": summary, "address": address });
                    return answer(
                        1,
                        &json!({ "type": "diagnostic", "diagnostic": diagnostic }).to_string(),
                    );
                }
                self.lost = None;
                self.applied = !destroy;
                self.serial += 1;
                answer(0, "")
            }
            _ => answer(1, &error(&format!("no such call is expected: {arguments}"))),
        }
    }
}

impl Infrastructure {
    /// What Terraform says of a lock that somebody holds.
    fn locked(&self) -> String {
        let (who, since) = self.lock.clone().unwrap_or_default();
        let detail = format!(
            "Error message: resource temporarily unavailable\nLock Info:\n  ID:        lock-1\n  Path:      terraform.tfstate\n  Operation: OperationTypeApply\n  Who:       {who}\n  Version:   1.11.4\n  Created:   {since}\n  Info:      \n"
        );
        let diagnostic = json!({ "severity": "error", "summary": "Error acquiring the state lock", "detail": detail });
        json!({ "type": "diagnostic", "diagnostic": diagnostic }).to_string()
    }

    /// The state, as `state pull` prints it.
    fn state(&self) -> Value {
        json!({
            "version": 4, "terraform_version": "1.11.4", "serial": self.serial, "lineage": "lineage-1",
            "outputs": {}, "resources": [{ "instances": [{}] }],
        })
    }

    /// A saved plan, as far as it is about the role.
    fn shown(&self, plan: &str) -> Value {
        let importing = std::fs::read_to_string(plan)
            .unwrap_or_default()
            .ends_with(" importing");
        let (address, name) = ROLE;
        let change = if importing {
            json!({ "actions": ["update"], "importing": { "id": name }, "before": { "name": name, "tags_all": { "mfsre:environment": self.lost } }, "after": { "name": name } })
        } else {
            json!({ "actions": ["create"], "before": null, "after": { "name": name } })
        };
        let changes = importing || !self.applied;
        let shown = json!({ "address": address, "type": "aws_iam_role", "change": change });
        json!({ "resource_changes": if changes { vec![shown] } else { Vec::new() } })
    }
}

fn error(summary: &str) -> String {
    json!({ "type": "diagnostic", "diagnostic": { "severity": "error", "summary": summary } }).to_string()
}

fn outputs() -> Value {
    let names = Names::of(&EnvironmentName::parse(ENVIRONMENT).unwrap());
    let value = |output: &mfsre::model::contract::Output| match (output.kind, output.promised) {
        (_, Some(promised)) => json!(promised(&names)),
        (OutputKind::String, None) => json!("x"),
        (OutputKind::ListOfStrings, None) => json!(["x"]),
    };
    OUTPUTS
        .iter()
        .map(|output| (output.name.to_owned(), json!({ "value": value(output) })))
        .collect()
}
