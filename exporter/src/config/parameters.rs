//! Parameters of a module: parts of its requests that differ between targets.

use std::collections::BTreeMap;

/// Longest value of a parameter, in bytes.
const MAX_LENGTH: usize = 256;

/// The parameters that a module declares.
#[derive(Debug, Default)]
pub(crate) struct Parameters(Vec<Parameter>);

#[derive(Debug)]
struct Parameter {
    name: String,
    /// `None`: whoever uses the module must say it.
    default: Option<String>,
}

/// The values of a module's parameters, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Values(Vec<String>);

/// Text in which parameters stand: `{"site": "${site}"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// By its place among the module's parameters.
    Parameter(usize),
}

/// Values that do not fit a module's parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParameterError {
    #[error("the parameter {name:?} is not known{}", listed(.known))]
    Unknown { name: String, known: Vec<String> },
    #[error("the module needs the parameter {0:?}")]
    Missing(String),
    #[error("the parameter {0:?} {RULE}")]
    Value(String),
}

/// What a value may be. A request's body may be JSON, a form or anything else, and a header is one line: nothing of this
/// means something in any of them, so a value cannot become more than a value.
const RULE: &str = "has letters, digits, spaces and - _ . : / @ + * , = alone, at most 256 of them";

fn listed(known: &[String]) -> String {
    match known {
        [] => "; the module has none".to_owned(),
        known => format!("; there are {}", known.join(", ")),
    }
}

fn is_harmless(value: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b" -_.:/@+*,=".contains(&byte);
    value.len() <= MAX_LENGTH && value.bytes().all(allowed)
}

impl Parameters {
    /// Adds a parameter. Its default must be what its value may be.
    pub(super) fn declare(&mut self, name: &str, default: Option<&str>) -> Result<(), String> {
        let mut characters = name.bytes();
        let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic());
        if !first || !characters.all(|c| c.is_ascii_alphanumeric() || c == b'_') {
            return Err(format!(
                "{name:?} is no name of a parameter; it has letters, digits and _, and begins with a letter"
            ));
        }
        if ["target", "module"].contains(&name) {
            return Err(format!("{name:?} is a parameter of /probe itself"));
        }
        if default.is_some_and(|default| !is_harmless(default)) {
            return Err(format!("the parameter {name:?} {RULE}"));
        }
        self.0.push(Parameter {
            name: name.to_owned(),
            default: default.map(str::to_owned),
        });
        Ok(())
    }

    /// The values for a target: those given, and the defaults of the others.
    ///
    /// # Errors
    ///
    /// If one is not declared, cannot be a value, or is missing.
    pub(crate) fn values(&self, mut given: BTreeMap<String, String>) -> Result<Values, ParameterError> {
        let mut values = Vec::with_capacity(self.0.len());
        for parameter in &self.0 {
            let value = given
                .remove(&parameter.name)
                .or_else(|| parameter.default.clone())
                .ok_or_else(|| ParameterError::Missing(parameter.name.clone()))?;
            if !is_harmless(&value) {
                return Err(ParameterError::Value(parameter.name.clone()));
            }
            values.push(value);
        }
        match given.into_keys().next() {
            Some(name) => Err(ParameterError::Unknown {
                name,
                known: self.0.iter().map(|parameter| parameter.name.clone()).collect(),
            }),
            None => Ok(Values(values)),
        }
    }

    /// Reads text. Where the module has no parameters, it is taken as it is.
    pub(super) fn text(&self, text: &str) -> Result<Text, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        if self.0.is_empty() {
            return Ok(Text(vec![Part::Text(text.to_owned())]));
        }
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                rest = after;
                continue;
            }
            literal.push_str(before);
            let (name, after) = after
                .split_once('}')
                .ok_or("after ${ comes the name of a parameter and }; for ${ itself write $${")?;
            let at = self.0.iter().position(|parameter| parameter.name == name);
            let at = at
                .ok_or_else(|| format!("{name:?} is not among the module's `parameters`; for ${{ itself write $${{"))?;
            parts.push(Part::Text(std::mem::take(&mut literal)));
            parts.push(Part::Parameter(at));
            rest = after;
        }
        literal.push_str(rest);
        parts.push(Part::Text(literal));
        Ok(Text(parts))
    }
}

impl Text {
    /// The text with these values.
    pub(crate) fn with(&self, values: &Values) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Parameter(at) => values.0.get(*at).cloned().unwrap_or_default(),
        };
        self.0.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Parameters {
        let mut parameters = Parameters::default();
        parameters.declare("site", None).unwrap();
        parameters.declare("window", Some("5m")).unwrap();
        parameters
    }

    fn values(given: &[(&str, &str)]) -> Result<Values, String> {
        let given = given.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        parameters().values(given.collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn parameters_stand_in_for_their_values() {
        let text = parameters()
            .text(r#"{"site": "${site}", "w": "${window}${site}", "x": "$${y} $"}"#)
            .unwrap();
        assert_eq!(
            text.with(&values(&[("site", "a b")]).unwrap()),
            r#"{"site": "a b", "w": "5ma b", "x": "${y} $"}"#
        );
        let plain = Parameters::default().text("${a} $${b} ${").unwrap();
        assert_eq!(plain.with(&Values::default()), "${a} $${b} ${");
    }

    #[test]
    fn a_value_cannot_become_more_than_a_value() {
        for value in ["a", "", "2024-06-29 12:00", "a/b@c:d+e=f,*", &"x".repeat(256)] {
            assert!(values(&[("site", value)]).is_ok(), "{value}");
        }
        for value in [
            "\"",
            "a\\",
            "a\r\nX: y",
            "a&b",
            "{}",
            "<",
            "é",
            "${window}",
            &"x".repeat(257),
        ] {
            assert!(
                values(&[("site", value)]).unwrap_err().contains("has letters"),
                "{value}"
            );
        }
    }

    #[test]
    fn mistakes_are_told() {
        assert!(values(&[]).unwrap_err().contains("needs the parameter \"site\""));
        assert!(
            values(&[("site", ""), ("sight", "")])
                .unwrap_err()
                .contains("\"sight\" is not known; there are site, window")
        );
        let mut parameters = parameters();
        for (name, default, message) in [
            ("", None, "no name"),
            ("0a", None, "no name"),
            ("a-b", None, "no name"),
            ("target", None, "of /probe itself"),
            ("a", Some("\""), "has letters"),
        ] {
            assert!(
                parameters.declare(name, default).unwrap_err().contains(message),
                "{name}"
            );
        }
        assert!(
            parameters
                .text("${size}")
                .unwrap_err()
                .contains("\"size\" is not among")
        );
        assert!(parameters.text("${size").unwrap_err().contains("after ${"));
    }
}
