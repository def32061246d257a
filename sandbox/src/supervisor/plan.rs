//! What the supervisor is told to run: `plan.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::write_private;
use crate::{Error, Spec, Toolset};

/// The order of [`start`](crate::start) to the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub spec: Spec,
    pub tools: Toolset,
}

impl Plan {
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        write_private(
            path,
            serde_json::to_vec_pretty(self).map_err(|error| unreadable(path, &error))?,
        )
    }

    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(Error::file("read", path))?;
        serde_json::from_slice(&text).map_err(|error| unreadable(path, &error))
    }
}

fn unreadable(path: &Path, error: &serde_json::Error) -> Error {
    Error::Internal {
        action: format!("exchange the plan in {}", path.display()),
        message: error.to_string(),
        next: "stop the sandbox and start it again".to_owned(),
    }
}
