//! Where things lie in a sandbox's folder.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::files::create_private_dir;

/// The folder of one sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Layout(PathBuf);

impl Layout {
    /// The layout of an absolute folder.
    pub(crate) fn new(dir: &Path) -> Result<Self, Error> {
        std::path::absolute(dir).map(Self).map_err(Error::file("resolve", dir))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }

    /// Held while a command starts or stops the sandbox.
    pub(crate) fn command_lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Held by the supervisor as long as it lives; contains its process id.
    pub(crate) fn supervisor_lock(&self) -> PathBuf {
        self.0.join("supervisor.lock")
    }

    /// What the supervisor is to run.
    pub(crate) fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// What it runs.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.0.join("admin.kubeconfig")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    pub(crate) fn log(&self, part: &str) -> PathBuf {
        self.logs().join(format!("{part}.log"))
    }

    /// A UNIX socket. Its path is limited to 103 bytes on macOS and 107 on Linux, so where the sandbox lies deep, it is
    /// in the folder for temporary files; whoever made it removes it.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        let socket = self.0.join(format!("{name}.sock"));
        if socket.as_os_str().len() <= 103 {
            socket
        } else {
            std::env::temp_dir().join(format!("mfsre-{name}-{}.sock", std::process::id()))
        }
    }

    /// A private folder for one subject, for example `etcd`; created where it is missing.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.0.join(name);
        create_private_dir(&folder)?;
        Ok(folder)
    }
}
