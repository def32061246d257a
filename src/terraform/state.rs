//! States as the program hands them out and takes them back.

use serde::Deserialize;
use serde_json::{Value, json};

use super::workspace::LOCK_TIMEOUT;
use super::{TerraformError, Workspace};
use crate::cancellation::Cancellation;

/// The output that a state carries in the place that it was moved away from.
const MOVED: &str = "mfsre_moved_to";

/// A state, as `state pull` prints it. The text is what counts: it is handed on as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    text: String,
    /// Grows with every change.
    pub serial: u64,
    /// The same for every version of one state.
    pub lineage: String,
    /// Instances of resources, those that are only read included.
    pub resources: usize,
    /// How many outputs there are.
    pub outputs: usize,
    /// Where it was moved to; then nothing else is in it.
    pub moved_to: Option<String>,
}

/// A state can hold anything that resources have as attributes.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "State({} {}, {} resources)",
            self.lineage, self.serial, self.resources
        )
    }
}

#[derive(Deserialize)]
struct Format {
    serial: u64,
    lineage: String,
    #[serde(default)]
    outputs: serde_json::Map<String, Value>,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    instances: Vec<serde::de::IgnoredAny>,
}

impl State {
    /// Reads the JSON of a state, format version 4.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        let format: Format = serde_json::from_str(&text)?;
        Ok(Self {
            serial: format.serial,
            lineage: format.lineage,
            resources: format.resources.iter().map(|r| r.instances.len()).sum(),
            outputs: format.outputs.len(),
            moved_to: format
                .outputs
                .get(MOVED)
                .and_then(|o| o["value"].as_str())
                .map(str::to_owned),
            text,
        })
    }

    /// The JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether nothing would be lost with it. What says that a state was moved away is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources == 0 && (self.outputs == 0 || self.moved_to.is_some())
    }

    /// Whether both hold the same, whatever their serials are.
    #[must_use]
    pub fn holds_the_same(&self, other: &Self) -> bool {
        let contents = |state: &Self| {
            let value: Value = serde_json::from_str(&state.text).unwrap_or_default();
            (
                value["lineage"].clone(),
                value["resources"].clone(),
                value["outputs"].clone(),
            )
        };
        contents(self) == contents(other)
    }

    /// The same state with another serial. Nothing else in the text changes, so that no number in it loses digits.
    ///
    /// # Errors
    /// The text is not laid out as the programs print it: the serial first, before anything that may hold the same words.
    pub fn with_serial(&self, serial: u64) -> Result<Self, serde_json::Error> {
        const KEY: &str = "\"serial\":";
        let text = self.text.split_once(KEY).map_or_else(String::new, |(head, rest)| {
            let number = rest.trim_start();
            let space = &rest[..rest.len() - number.len()];
            let rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{head}{KEY}{space}{serial}{rest}")
        });
        let state = Self::read(text)?;
        if state.serial == serial {
            return Ok(state);
        }
        Err(<serde_json::Error as serde::de::Error>::custom(
            "the serial is not where it was expected",
        ))
    }

    /// What is left in the place that this state was moved away from: nothing but where it is now.
    ///
    /// # Errors
    /// None is known.
    pub fn farewell(&self, moved_to: &str) -> Result<Self, serde_json::Error> {
        let outputs = json!({ MOVED: { "value": moved_to, "type": "string" } });
        Self::read(self.without_resources(self.serial + 1, &outputs)?)
    }

    fn without_resources(&self, serial: u64, outputs: &Value) -> Result<String, serde_json::Error> {
        let format: Value = serde_json::from_str(&self.text)?;
        serde_json::to_string_pretty(&json!({
            "version": 4,
            "terraform_version": format["terraform_version"],
            "serial": serial,
            "lineage": self.lineage,
            "outputs": outputs,
            "resources": [],
            "check_results": null,
        }))
    }

    /// An older, empty version of it.
    fn emptied(&self) -> Result<String, TerraformError> {
        self.without_resources(0, &json!({}))
            .map_err(|source| TerraformError::Output {
                command: "state pull".into(),
                source,
            })
    }
}

impl Workspace {
    /// The state; `None` where there never was one.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn pull(&self, cancellation: &Cancellation) -> Result<Option<State>, TerraformError> {
        let call = self.call(&["state", "pull", "-no-color"]);
        let text = call.pipe("", cancellation).await?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        let state = State::read(text).map_err(|source| TerraformError::Output {
            command: call.name(),
            source,
        })?;
        // Some backends show an empty one in place of none.
        Ok(Some(state).filter(|state| !state.lineage.is_empty()))
    }

    /// Puts a state in place of the one that is there, under its lock. The program refuses one of another lineage and one
    /// that is not newer than a different one that is there, unless `force`d.
    ///
    /// # Errors
    /// It was refused, the lock is held by somebody else, or the place cannot be written.
    pub async fn push(&self, state: &State, force: bool, cancellation: &Cancellation) -> Result<(), TerraformError> {
        // A state that is pushed to where there is none gets another lineage from some backends: the program looks once more
        // before it writes, and forgets what it was given (hashicorp/terraform, internal/states/remote/state.go). So an empty
        // state goes first.
        let nothing_there = self.pull(cancellation).await?.is_none();
        let mut arguments = vec!["state", "push", "-no-color", LOCK_TIMEOUT];
        if nothing_there {
            // From standard input: no copy in clear lies on the disk meanwhile.
            let call = self.call(&[&arguments[..], &["-"]].concat());
            call.pipe(&state.emptied()?, cancellation).await?;
        }
        if force || nothing_there {
            arguments.push("-force");
        }
        arguments.push("-");
        self.call(&arguments).pipe(state.text(), cancellation).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{
  "version": 4,
  "terraform_version": "1.11.4",
  "serial": 7,
  "lineage": "a",
  "outputs": {"x": {"value": 12345678901234567890123, "type": "number"}},
  "resources": [
    {"mode": "managed", "instances": [{"attributes": {"serial": 7}}, {}]},
    {"mode": "data", "instances": [{}]}
  ],
  "check_results": null
}
"#;

    #[test]
    fn only_the_serial_changes() {
        let state = State::read(STATE).unwrap();
        assert_eq!((state.serial, state.resources, state.outputs), (7, 3, 1));
        let next = state.with_serial(8).unwrap();
        assert_eq!(next.text(), STATE.replacen("\"serial\": 7", "\"serial\": 8", 1));
        assert!(state.holds_the_same(&next));
        // OpenTofu prints it in one line.
        let line = State::read("{\"version\":4,\"serial\":12,\"lineage\":\"a\"}").unwrap();
        assert_eq!(
            line.with_serial(9).unwrap().text(),
            "{\"version\":4,\"serial\":9,\"lineage\":\"a\"}"
        );
        let odd = "{\"lineage\":\"a\",\"outputs\":{\"serial\":{}},\"serial\":1}";
        assert!(State::read(odd).unwrap().with_serial(2).is_err());
    }

    #[test]
    fn what_is_left_behind_says_where_the_state_is_and_counts_as_nothing() {
        let left = State::read(STATE).unwrap().farewell("s3://b/k").unwrap();
        assert_eq!(left.moved_to.as_deref(), Some("s3://b/k"));
        assert_eq!((left.serial, left.lineage.as_str()), (8, "a"));
        assert!(left.is_empty());
        assert!(!State::read(STATE).unwrap().is_empty());
    }

    #[test]
    fn nothing_of_it_is_shown_by_accident() {
        assert_eq!(format!("{:?}", State::read(STATE).unwrap()), "State(a 7, 3 resources)");
    }
}
