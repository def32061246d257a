//! Terraform, as mfsre drives it, and what it brings about: all of the infrastructure or none of it.

use mfsre::model::contract::{OUTPUTS, OutputKind};
use mfsre::model::{EnvironmentName, Names, Scalar as _};
use serde_json::{Value, json};

use crate::machine::ENVIRONMENT;

#[derive(Clone, Default)]
pub(crate) struct Infrastructure {
    applied: bool,
    /// Grows with every change of the state; a plan is for one.
    serial: u64,
}

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
            ["show", "-json"] => answer(0, &json!({ "values": { "root_module": {} } }).to_string()),
            ["output", "-json"] => answer(0, &outputs().to_string()),
            ["plan", rest @ ..] => {
                let destroy = rest.contains(&"-destroy");
                let changes = self.applied == destroy;
                let out = rest.iter().find_map(|word| word.strip_prefix("-out=")).unwrap();
                std::fs::write(out, format!("{} {destroy}", self.serial)).unwrap();
                let (add, remove) = (u8::from(changes && !destroy), u8::from(changes && destroy));
                let summary =
                    json!({ "type": "change_summary", "changes": { "add": add, "change": 0, "remove": remove } });
                answer(if changes { 2 } else { 0 }, &summary.to_string())
            }
            ["apply", rest @ ..] => {
                let plan = std::fs::read_to_string(rest.last().unwrap()).unwrap_or_default();
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
                self.applied = !destroy;
                self.serial += 1;
                answer(0, "")
            }
            _ => answer(1, &error(&format!("no such call is expected: {arguments}"))),
        }
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
