use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::KubernetesError;
use crate::unfinished::unfinished_in;

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
/// file stays. An entry of this name is replaced only where it is mfsre's own.
///
/// # Errors
/// The file is none or no kubeconfig, has somebody else's entry of this name, or cannot be read or written; it is then as it
/// was.
pub fn merge_kubeconfig(path: &Path, entry: &KubeconfigEntry) -> Result<(), KubernetesError> {
    let io = |what: &str| {
        let what = format!("{what} {}", path.display());
        move |source| KubernetesError::Kubeconfig { what, source }
    };
    // A device or a socket would be replaced by a file, and a link to nothing has no file to keep.
    let special = match std::fs::metadata(path) {
        Ok(there) => !there.is_file(),
        Err(_) => path.is_symlink(),
    };
    if special {
        return Err(KubernetesError::NoRegularFile(path.display().to_string()));
    }
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
    if let Some(what) = foreign(&existing, entry) {
        return Err(KubernetesError::ForeignEntry {
            path: path.display().to_string(),
            what,
            name: entry.name.clone(),
        });
    }
    let text = to_yaml(&merged(existing, entry), &path.display().to_string())?;
    let dir = path
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(io("create the folder of"))?;
    // A link is followed, so that a kubeconfig kept elsewhere stays there.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = target.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(dir);
    // It may hold credentials of others.
    let private = std::fs::Permissions::from_mode(0o600);
    let mut file = unfinished_in(dir, private).map_err(io("write"))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(io("write"))?;
    file.persist(&target).map_err(|e| io("write")(e.error))?;
    Ok(())
}

/// What of the entry's name stands in the kubeconfig and is not mfsre's: a user that gets its tokens elsewhere, or a cluster or
/// context without mfsre's user.
fn foreign(config: &Value, entry: &KubeconfigEntry) -> Option<&'static str> {
    let named = |list: &str| {
        let items = config[list].as_array().into_iter().flatten();
        items.into_iter().find(|item| item["name"] == entry.name.as_str())
    };
    let user = named("users");
    let program = |command: &str| Path::new(command).file_name().map(std::ffi::OsStr::to_owned);
    let ours = user.is_some_and(|user| {
        let exec = &user["user"]["exec"];
        exec["args"][0] == "token"
            && exec["command"]
                .as_str()
                .is_some_and(|command| program(command) == program(&entry.command) || command.ends_with("mfsre"))
    });
    let leads_here = |context: &Value| {
        let context = &context["context"];
        context["cluster"] == entry.name.as_str() && context["user"] == entry.name.as_str()
    };
    match (user, named("contexts"), named("clusters")) {
        (Some(_), _, _) if !ours => Some("user"),
        (_, Some(context), _) if !ours || !leads_here(context) => Some("context"),
        (_, _, Some(_)) if !ours => Some("cluster"),
        _ => None,
    }
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
    fn an_entry_of_somebody_else_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        for (text, what) in [
            ("users:\n- name: demo\n  user: {token: t0ken}\n", "user"),
            (
                "users:\n- name: demo\n  user: {exec: {command: aws, args: [eks, get-token]}}\n",
                "user",
            ),
            (
                "clusters:\n- name: demo\n  cluster: {server: 'https://kind'}\n",
                "cluster",
            ),
            (
                "contexts:\n- name: demo\n  context: {cluster: kind, user: kind}\n",
                "context",
            ),
            (
                "users:\n- name: demo\n  user: {exec: {command: /bin/mfsre, args: [token, demo]}}\ncontexts:\n- name: demo\n  context: {cluster: kind, user: demo}\n",
                "context",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = merge_kubeconfig(&path, &entry()).unwrap_err();
            assert!(error.to_string().contains(&format!("a {what} demo")), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("--file")));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        // One that another mfsre made, before it was moved, is replaced.
        let moved = KubeconfigEntry {
            command: "/old/place/mfsre".into(),
            ..entry()
        };
        std::fs::remove_file(&path).unwrap();
        merge_kubeconfig(&path, &moved).unwrap();
        merge_kubeconfig(&path, &entry()).unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("/old/place"));
    }

    #[test]
    fn a_link_is_followed_to_its_file_and_what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        merge_kubeconfig(&link, &entry()).unwrap();
        assert!(link.is_symlink() && std::fs::read_to_string(&file).unwrap().contains("demo"));
        let refused = |path: &Path| {
            let error = merge_kubeconfig(path, &entry()).unwrap_err();
            assert!(matches!(error, KubernetesError::NoRegularFile(_)), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("--file")));
        };
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        refused(&socket);
        refused(dir.path());
        std::fs::remove_file(&file).unwrap();
        refused(&link);
        assert!(link.is_symlink() && socket.exists());
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
