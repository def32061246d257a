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
    /// What becomes of the node group: the next apply makes it badly, or one was made badly.
    pub(crate) node_group: NodeGroup,
    /// Locks that were broken.
    pub(crate) unlocked: Vec<String>,
}

/// How a node group fares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum NodeGroup {
    #[default]
    Well,
    /// It will not get its nodes.
    Fails,
    /// It stands without nodes, and the state has it as tainted.
    Tainted,
    /// The same, and an addon was put on it.
    TaintedAndUsed,
    /// It was removed.
    Gone,
}

/// The node group, and what stands on it.
const NODE_GROUP: &str = "module.eks.aws_eks_node_group.system";
const ADDON: &str = "module.eks.aws_eks_addon.coredns";

/// The role that may be lost, and its name.
const ROLE: (&str, &str) = ("module.eks.aws_iam_role.cluster", "demo-cluster");

impl Infrastructure {
    pub(crate) fn is_gone(&self) -> bool {
        !self.applied
    }

    /// Whether a call needs the provider, and with it AWS. The state is a local one.
    pub(super) fn asks_aws(arguments: &str) -> bool {
        ["plan ", "apply "].iter().any(|command| arguments.starts_with(command))
    }

    /// One call: the exit status in the first line, then what is printed. `loaded`: load balancers stand in the network.
    pub(super) fn terraform(&mut self, arguments: &str, loaded: bool, expired: bool) -> String {
        let words: Vec<&str> = arguments.split(' ').collect();
        let answer = |status: u8, printed: &str| format!("{status}\n{printed}\n");
        match words.as_slice() {
            _ if expired && Self::asks_aws(arguments) => answer(1, &error(EXPIRED)),
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
                let removal = rest.contains(&format!("-target={NODE_GROUP}").as_str());
                let changes = self.applied == destroy || !destroy && self.node_group != NodeGroup::Well;
                let out = rest.iter().find_map(|word| word.strip_prefix("-out=")).unwrap();
                let importing = if rest.contains(&"-importing") { " importing" } else { "" };
                let kind = if removal {
                    "removal".to_owned()
                } else {
                    destroy.to_string()
                };
                std::fs::write(out, format!("{} {kind}{importing}", self.serial)).unwrap();
                let (add, remove) = (
                    u8::from(changes && !destroy),
                    u8::from(changes && destroy || !destroy && self.is_tainted()),
                );
                let summary =
                    json!({ "type": "change_summary", "changes": { "add": add, "change": 0, "remove": remove } });
                answer(if changes { 2 } else { 0 }, &summary.to_string())
            }
            ["apply", rest @ ..] => {
                let plan = std::fs::read_to_string(rest.last().unwrap()).unwrap_or_default();
                let importing = plan.ends_with(" importing");
                let plan = plan.trim_end_matches(" importing");
                if plan == format!("{} removal", self.serial) {
                    self.node_group = NodeGroup::Gone;
                    self.serial += 1;
                    return answer(0, "");
                }
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
                    return answer(1, &error_at(address, &summary));
                }
                if !destroy && self.is_tainted() {
                    let summary = "creating EKS Node Group (demo:system): operation error EKS: CreateNodegroup, https response error StatusCode: 409, RequestID: 1, ResourceInUseException: NodeGroup already exists with name system and cluster name demo";
                    return answer(1, &error_at(NODE_GROUP, summary));
                }
                self.lost = None;
                self.applied = !destroy;
                if !destroy && self.node_group == NodeGroup::Fails {
                    self.node_group = NodeGroup::Tainted;
                    self.serial += 1;
                    let summary = "waiting for EKS Node Group (demo:system) create: unexpected state 'CREATE_FAILED', wanted target 'ACTIVE'. last error: i-0: NodeCreationFailure: Instances failed to join the kubernetes cluster";
                    return answer(1, &error_at(NODE_GROUP, summary));
                }
                self.node_group = NodeGroup::Well;
                self.serial += 1;
                answer(0, "")
            }
            _ => answer(1, &error(&format!("no such call is expected: {arguments}"))),
        }
    }
}

impl Infrastructure {
    fn is_tainted(&self) -> bool {
        matches!(self.node_group, NodeGroup::Tainted | NodeGroup::TaintedAndUsed)
    }

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
        let plan = std::fs::read_to_string(plan).unwrap_or_default();
        if self.is_tainted() {
            let names = json!({ "cluster_name": "demo", "node_group_name": "system", "tags_all": { "mfsre:environment": "demo" } });
            let addon = json!({ "address": ADDON, "type": "aws_eks_addon", "change": { "actions": ["delete"] } });
            let replaced = |actions: [&str; 2]| {
                json!({
                    "address": NODE_GROUP, "type": "aws_eks_node_group", "action_reason": "replace_because_tainted",
                    "change": { "actions": actions, "before": names, "after": names },
                })
            };
            let changes = match (plan.ends_with(" removal"), self.node_group) {
                (true, NodeGroup::TaintedAndUsed) => json!([replaced(["delete", ""]), addon]),
                (true, _) => json!([replaced(["delete", ""])]),
                (false, _) => json!([replaced(["create", "delete"])]),
            };
            return json!({ "resource_changes": changes });
        }
        let importing = plan.ends_with(" importing");
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

/// What the provider says when the credentials have run out.
const EXPIRED: &str = "validating provider credentials: retrieving caller identity from STS: operation error STS: GetCallerIdentity, https response error StatusCode: 403, RequestID: 1, api error ExpiredToken: The security token included in the request is expired";

fn error_at(address: &str, summary: &str) -> String {
    let diagnostic = json!({ "severity": "error", "summary": summary, "address": address });
    json!({ "type": "diagnostic", "diagnostic": diagnostic }).to_string()
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
