use std::collections::BTreeMap;
use std::ffi::OsString;

/// Variables that a child may inherit: what it needs to find programs, certificates, proxies and credentials. Nothing
/// else reaches it, in particular no `TF_VAR_*` and no `TF_CLI_ARGS*` that would change what is planned.
const INHERITED: [&str; 24] = [
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
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "TF_PLUGIN_CACHE_DIR",
    "TF_LOG",
    "TF_LOG_PATH",
    "TF_REGISTRY_CLIENT_TIMEOUT",
    "TF_CLI_CONFIG_FILE",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
];
const INHERITED_PREFIXES: [&str; 2] = ["AWS_", "TF_TOKEN_"];

/// The complete environment of a child process.
#[derive(Clone)]
pub struct ChildEnvironment {
    variables: BTreeMap<OsString, OsString>,
}

impl ChildEnvironment {
    /// What may be inherited, plus what makes Terraform quiet and reproducible.
    #[must_use]
    pub fn inherited() -> Self {
        let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os()
            .filter(|(key, _)| {
                key.to_str()
                    .is_some_and(|k| INHERITED.contains(&k) || INHERITED_PREFIXES.iter().any(|p| k.starts_with(p)))
            })
            .collect();
        // A configuration file that is named but missing draws a warning from every command.
        if variables
            .get(&OsString::from("TF_CLI_CONFIG_FILE"))
            .is_some_and(|f| !std::path::Path::new(f).exists())
        {
            variables.remove(&OsString::from("TF_CLI_CONFIG_FILE"));
        }
        for (key, value) in [
            ("TF_IN_AUTOMATION", "1"),
            ("TF_INPUT", "0"),
            ("CHECKPOINT_DISABLE", "1"),
        ] {
            variables.insert(key.into(), value.into());
        }
        Self { variables }
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
        self.variables.contains_key(&OsString::from(key))
    }

    /// Every variable.
    pub fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.variables.iter()
    }
}

impl std::fmt::Debug for ChildEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
