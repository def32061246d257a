use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::KubernetesError;

/// A cluster as kubectl shall know it: mfsre itself makes the tokens.
#[derive(Debug, Clone)]
pub struct KubeconfigEntry {
    /// Name of the cluster, user and context.
    pub name: String,
    /// Address of the API.
    pub endpoint: String,
    /// Its certificate authority, PEM.
    pub certificate_authority: Vec<u8>,
    /// The program that prints an ExecCredential, and its arguments.
    pub command: String,
    /// Arguments.
    pub arguments: Vec<String>,
    /// Variables that the program needs besides those of kubectl's own environment.
    pub environment: Vec<(String, String)>,
}

impl KubeconfigEntry {
    fn cluster(&self) -> Value {
        json!({ "name": self.name, "cluster": { "server": self.endpoint, "certificate-authority-data": STANDARD.encode(&self.certificate_authority) } })
    }

    fn user(&self) -> Value {
        json!({ "name": self.name, "user": { "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": self.command,
            "args": self.arguments,
            "env": self.environment.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>(),
            "interactiveMode": "Never",
            "provideClusterInfo": false,
        } } })
    }

    fn context(&self) -> Value {
        json!({ "name": self.name, "context": { "cluster": self.name, "user": self.name } })
    }
}

/// A kubeconfig that holds this entry alone.
///
/// # Errors
/// It cannot be serialised.
pub fn render_kubeconfig(entry: &KubeconfigEntry) -> Result<String, KubernetesError> {
    to_yaml(&merged(json!({}), entry), "the kubeconfig")
}

/// Puts the entry into the kubeconfig at `path`, atomically, and makes it the current context. Everything else in the
/// file stays.
///
/// # Errors
/// The file is no kubeconfig, or cannot be read or written; it is then as it was.
pub fn merge_kubeconfig(path: &Path, entry: &KubeconfigEntry) -> Result<(), KubernetesError> {
    let io = |what: &str| {
        let what = format!("{what} {}", path.display());
        move |source| KubernetesError::Kubeconfig { what, source }
    };
    let existing = match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => json!({}),
        Ok(text) => serde_saphyr::from_str::<Value>(&text)
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| KubernetesError::BadKubeconfig {
                path: path.display().to_string(),
                message: "it is not a YAML mapping".into(),
            })?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => json!({}),
        Err(e) => return Err(io("read")(e)),
    };
    let text = to_yaml(&merged(existing, entry), &path.display().to_string())?;
    let dir = path
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(io("create the folder of"))?;
    // A link is followed, so that a kubeconfig kept elsewhere stays there.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = target.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(dir);
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(io("write"))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(io("write"))?;
    file.persist(&target).map_err(|e| io("write")(e.error))?;
    Ok(())
}

fn merged(mut config: Value, entry: &KubeconfigEntry) -> Value {
    if let Some(map) = config.as_object_mut() {
        map.entry("apiVersion").or_insert(json!("v1"));
        map.entry("kind").or_insert(json!("Config"));
        for (key, value) in [
            ("clusters", entry.cluster()),
            ("contexts", entry.context()),
            ("users", entry.user()),
        ] {
            let list = map.entry(key).or_insert(json!([]));
            if !list.is_array() {
                *list = json!([]);
            }
            if let Some(list) = list.as_array_mut() {
                match list.iter_mut().find(|item| item["name"] == entry.name.as_str()) {
                    Some(existing) => *existing = value,
                    None => list.push(value),
                }
            }
        }
        map.insert("current-context".into(), json!(entry.name));
    }
    config
}

fn to_yaml(value: &Value, path: &str) -> Result<String, KubernetesError> {
    serde_saphyr::to_string(value).map_err(|e| KubernetesError::BadKubeconfig {
        path: path.to_owned(),
        message: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> KubeconfigEntry {
        KubeconfigEntry {
            name: "demo".into(),
            endpoint: "https://127.0.0.1:6443".into(),
            certificate_authority: b"PEM".to_vec(),
            command: "mfsre".into(),
            arguments: vec!["token".into(), "demo".into()],
            environment: Vec::new(),
        }
    }

    #[test]
    fn what_others_wrote_stays_and_a_second_merge_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, "apiVersion: v1\nkind: Config\nclusters:\n- name: other\n  cluster: {server: 'https://o'}\nextensions: [keep]\n").unwrap();
        merge_kubeconfig(&path, &entry()).unwrap();
        let once = std::fs::read_to_string(&path).unwrap();
        merge_kubeconfig(&path, &entry()).unwrap();
        assert_eq!(once, std::fs::read_to_string(&path).unwrap());
        let value: Value = serde_saphyr::from_str(&once).unwrap();
        assert_eq!(value["clusters"][0]["name"], "other");
        assert_eq!(value["clusters"][1]["name"], "demo");
        assert_eq!(value["extensions"][0], "keep");
        assert_eq!(value["current-context"], "demo");
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, "just some text").unwrap();
        assert!(matches!(
            merge_kubeconfig(&path, &entry()),
            Err(KubernetesError::BadKubeconfig { .. })
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "just some text");
    }
}
