//! What to poll and how to read it.

mod allow;
mod file;
mod parameters;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::header::HeaderName;
use url::Url;

use crate::fetch::Tls;
use crate::mapping::Mapping;

pub(crate) use allow::Origin;
pub(crate) use parameters::{ParameterError, Parameters, Text, Values};
pub(crate) use read::{TARGET_LABEL, url};

/// The name of the module that is used where none is named.
pub(crate) const DEFAULT_MODULE: &str = "default";

/// The mapping that is there without a configuration.
const BUILT_IN: &str = include_str!("default.yaml");

/// A configuration that was checked.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) modules: Vec<Arc<Module>>,
    pub(crate) targets: Vec<Target>,
}

/// How to ask and what to read.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) parameters: Parameters,
    pub(crate) request: Request,
    /// What `/probe` may ask.
    pub(crate) allow: Vec<Origin>,
    /// The names of the labels that metrics have by the mapping.
    labels: BTreeSet<String>,
    pub(crate) mapping: Mapping,
}

/// How to ask.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) headers: Vec<(HeaderName, Text)>,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) tls: Tls,
    pub(crate) body: Option<Text>,
    /// Empty: all of 2xx.
    pub(crate) valid_status: Vec<u16>,
}

/// A header whose value is read from a file for each request.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) header: HeaderName,
    pub(crate) scheme: Scheme,
    pub(crate) file: PathBuf,
}

/// What a header's value is made of.
#[derive(Debug)]
pub(crate) enum Scheme {
    /// The file's text as it is.
    Plain,
    /// `Bearer` and the file's text.
    Bearer,
    /// `Basic` with this user name and the file's text as the password.
    Basic(String),
}

/// One URL to poll.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) module: Arc<Module>,
    pub(crate) values: Values,
    /// As they are written out: `,a="b"`, or nothing.
    pub(crate) labels: String,
}

/// A mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Line and column, from 1, where the parser knows them.
    place: Option<(u64, u64)>,
    message: String,
}

/// A configuration that cannot be used, with all its mistakes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration {}: {source}\n  next: check the path in --config or EXPORTER_CONFIG", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}", List(.source_name, .mistakes))]
    Mistakes {
        source_name: String,
        mistakes: Vec<Mistake>,
    },
    #[error(
        "{url:?} is no URL to poll: {problem}\n  next: set MAIN_APP_URL or --target to something like http://main-service-headless:8080/metrics"
    )]
    Url { url: String, problem: String },
    #[error(
        "nothing to do: no target, and no module that /probe may use\n  next: set MAIN_APP_URL or --target, or `targets` or `probe.allow` in the file of --config"
    )]
    Nothing,
    #[error("no module {name:?} in the configuration\n  next: choose one of {}", .known.join(", "))]
    NoModule { name: String, known: Vec<String> },
    #[error(
        "the metric {name} is exposed by targets of the modules {first} and {second}, but with another help, type or unit\n  next: make them equal, or choose another name in one of them"
    )]
    Conflict {
        name: String,
        first: String,
        second: String,
    },
}

struct List<'a>(&'a str, &'a [Mistake]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.1.iter().enumerate() {
            let end = if at > 0 { "\n" } else { "" };
            match mistake.place {
                Some((line, column)) => write!(f, "{end}{}:{line}:{column}: {}", self.0, mistake.message)?,
                None => write!(f, "{end}{}: {}", self.0, mistake.message)?,
            }
        }
        Ok(())
    }
}

impl Config {
    /// Reads the file, if there is one, and adds the targets of the command line.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or has mistakes, or a target is no URL.
    pub(crate) fn load(path: Option<&std::path::Path>, targets: &[String]) -> Result<Self, ConfigError> {
        let mut config = match path {
            None => read::read("default.yaml", BUILT_IN)?,
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
                    path: path.to_owned(),
                    source,
                })?;
                let mut config = read::read(&path.display().to_string(), &text)?;
                if config.module(DEFAULT_MODULE).is_err() {
                    config
                        .modules
                        .append(&mut read::read("default.yaml", BUILT_IN)?.modules);
                }
                config
            }
        };
        for text in targets
            .iter()
            .flat_map(|list| list.split(|c: char| c == ',' || c.is_whitespace()))
            .filter(|text| !text.is_empty())
        {
            let module = Arc::clone(config.module(DEFAULT_MODULE)?);
            let failed = |problem| ConfigError::Url {
                url: text.to_owned(),
                problem,
            };
            let url = read::url(text).map_err(failed)?;
            let values = module.parameters.values(BTreeMap::new());
            config.targets.push(Target {
                url,
                values: values.map_err(|error| failed(error.to_string()))?,
                module,
                labels: String::new(),
            });
        }
        read::conflict(&config.targets)?;
        Ok(config)
    }

    /// The module of this name.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn module(&self, name: &str) -> Result<&Arc<Module>, ConfigError> {
        self.modules
            .iter()
            .find(|module| module.name == name)
            .ok_or_else(|| ConfigError::NoModule {
                name: name.to_owned(),
                known: self.modules.iter().map(|module| module.name.clone()).collect(),
            })
    }
}

/// The mapping of a list of metrics as a configuration has it.
#[cfg(test)]
pub(crate) fn mapping_of(metrics: &str) -> Result<Mapping, ConfigError> {
    let config = read::read("test.yaml", &format!("modules:\n  default:\n    metrics: {metrics}"))?;
    let module = config.modules.into_iter().next().and_then(Arc::into_inner);
    module.map(|module| module.mapping).ok_or(ConfigError::Nothing)
}

#[cfg(test)]
mod tests;
