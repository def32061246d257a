use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::resolve::parse_in;
use super::{Diagnostics, Loaded, Source};

/// A user's project: the folder that holds `environments/`.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
}

/// Why a project or one of its environments cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// No folder above has `environments/`.
    #[error("no project found: neither {} nor a folder above it has environments/", .0.display())]
    NotFound(PathBuf),
    /// There is no such environment.
    #[error("there is no environment {name:?}: {} does not exist", path.display())]
    NoEnvironment {
        /// As given.
        name: String,
        /// The file looked for.
        path: PathBuf,
        /// Whether one is there that ends in `.yml`.
        other_ending: bool,
        /// The environments that are there.
        known: Vec<String>,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file has mistakes.
    #[error("{} has mistakes", .0.source.path)]
    Invalid(Box<Diagnostics>),
}

impl Project {
    /// The project at `dir`, or in the nearest folder above the current one that has `environments/`.
    ///
    /// # Errors
    /// [`ProjectError::NotFound`] when there is none.
    pub fn find(dir: Option<&Path>) -> Result<Self, ProjectError> {
        if let Some(dir) = dir {
            let root = std::path::absolute(dir).map_err(|source| ProjectError::Unreadable {
                path: dir.into(),
                source,
            })?;
            return if root.join("environments").is_dir() {
                Ok(Self { root })
            } else {
                Err(ProjectError::NotFound(root))
            };
        }
        let start = std::env::current_dir().map_err(|source| ProjectError::Unreadable {
            path: ".".into(),
            source,
        })?;
        start
            .ancestors()
            .find(|d| d.join("environments").is_dir())
            .map(|d| Self { root: d.to_owned() })
            .ok_or(ProjectError::NotFound(start.clone()))
    }

    /// The project's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names of the environment files, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn environments(&self) -> Result<Vec<String>, ProjectError> {
        self.files(&["yaml"])
    }

    /// Besides [`environments`](Self::environments) the files that end in `.yml`, which [`load`](Self::load) refuses.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn candidates(&self) -> Result<Vec<String>, ProjectError> {
        self.files(&["yaml", "yml"])
    }

    fn files(&self, endings: &[&str]) -> Result<Vec<String>, ProjectError> {
        let dir = self.root.join("environments");
        let unreadable = |source| ProjectError::Unreadable {
            path: dir.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path
                .extension()
                .is_some_and(|e| endings.iter().any(|ending| e == *ending))
                && let Some(stem) = path.file_stem().and_then(|s| s.to_str())
            {
                names.push(stem.to_owned());
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Reads the environment `name`; on success the warnings come with it.
    ///
    /// # Errors
    /// There is no such file, it cannot be read, or it has mistakes.
    pub fn load(&self, name: &str, today: Date) -> Result<Loaded, ProjectError> {
        let relative = format!("environments/{name}.yaml");
        let path = self.root.join(&relative);
        let well_formed = !name.is_empty() && !name.contains(['/', '\\']) && name != "..";
        if !well_formed || !path.exists() {
            return Err(ProjectError::NoEnvironment {
                name: name.to_owned(),
                path: relative.into(),
                other_ending: well_formed && path.with_extension("yml").exists(),
                known: self.environments()?,
            });
        }
        let text = std::fs::read_to_string(&path).map_err(|source| ProjectError::Unreadable { path, source })?;
        parse_in(Some(&self.root), Source { path: relative, text }, name, today)
            .map_err(|d| ProjectError::Invalid(Box::new(d)))
    }

    /// The folder of an environment's Terraform root module.
    #[must_use]
    pub fn infra(&self, name: &str) -> PathBuf {
        self.root.join("infra").join(name)
    }

    /// The folder, never committed, for an environment's plan files, journal and lock.
    #[must_use]
    pub fn private(&self, name: &str) -> PathBuf {
        self.root.join(".mfsre").join(name)
    }
}
