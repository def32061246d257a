//! The environment of child processes: clean, and made of what each kind of program needs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// What any program may inherit: how to find programs, folders, certificates and proxies.
const COMMON: [&str; 19] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "SSH_AUTH_SOCK",
];

/// The complete environment of a child process.
#[derive(Clone)]
pub struct ChildEnvironment {
    variables: BTreeMap<OsString, OsString>,
}

impl ChildEnvironment {
    /// For Terraform: credentials of AWS and of registries, and nothing that would change what is planned, in particular
    /// no `TF_VAR_*` and no `TF_CLI_ARGS*`.
    #[must_use]
    pub fn terraform() -> Self {
        let mut environment = Self::inherited(
            &[
                "TF_PLUGIN_CACHE_DIR",
                "TF_LOG",
                "TF_LOG_PATH",
                "TF_REGISTRY_CLIENT_TIMEOUT",
                "TF_CLI_CONFIG_FILE",
            ],
            &["AWS_", "TF_TOKEN_"],
        );
        // A configuration file that is named but missing draws a warning from every command.
        let configuration = OsStr::new("TF_CLI_CONFIG_FILE");
        if environment
            .variables
            .get(configuration)
            .is_some_and(|f| !std::path::Path::new(f).exists())
        {
            environment.variables.remove(configuration);
        }
        for (key, value) in [
            ("TF_IN_AUTOMATION", "1"),
            ("TF_INPUT", "0"),
            ("CHECKPOINT_DISABLE", "1"),
        ] {
            environment.set(key, value);
        }
        environment
    }

    /// For git: the operator's identity, credentials and SSH settings, and nothing that would point it at another
    /// repository.
    #[must_use]
    pub fn git() -> Self {
        let mut environment = Self::inherited(
            &[
                "GIT_SSH_COMMAND",
                "GIT_SSH",
                "GIT_ASKPASS",
                "GIT_SSL_CAINFO",
                "GIT_TRACE",
                "SSH_ASKPASS",
                "DISPLAY",
                "GNUPGHOME",
            ],
            &["GIT_AUTHOR_", "GIT_COMMITTER_", "GIT_CONFIG_", "GIT_HTTP_"],
        );
        environment.set("GIT_TERMINAL_PROMPT", "0");
        // Its messages are read.
        environment.set("LC_ALL", "C");
        environment
    }

    /// For the programs of git hosts, `gh` and `glab`: where they keep their sign-in, and the way to the keyring.
    #[must_use]
    pub fn git_host() -> Self {
        Self::inherited(
            &[
                "DBUS_SESSION_BUS_ADDRESS",
                "XDG_RUNTIME_DIR",
                "XDG_DATA_HOME",
                "XDG_STATE_HOME",
                "GH_CONFIG_DIR",
                "GH_HOST",
                "GLAB_CONFIG_DIR",
                "GITLAB_HOST",
            ],
            &[],
        )
    }

    fn inherited(names: &[&str], prefixes: &[&str]) -> Self {
        let wanted =
            |key: &str| COMMON.contains(&key) || names.contains(&key) || prefixes.iter().any(|p| key.starts_with(p));
        Self {
            variables: std::env::vars_os()
                .filter(|(key, _)| key.to_str().is_some_and(wanted))
                .collect(),
        }
    }

    /// Sets a variable.
    pub fn set(&mut self, key: &str, value: impl Into<OsString>) {
        self.variables.insert(key.into(), value.into());
    }

    /// Removes every variable that begins with `prefix`.
    pub fn remove_prefix(&mut self, prefix: &str) {
        self.variables
            .retain(|key, _| !key.to_string_lossy().starts_with(prefix));
    }

    /// Whether a variable is set.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.variables.contains_key(OsStr::new(key))
    }

    /// Every variable.
    pub fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.variables.iter()
    }
}

/// The names alone: a value may be a secret.
impl std::fmt::Debug for ChildEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
