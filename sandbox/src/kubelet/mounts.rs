//! A container's volumes, as folders of this machine.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Agent;
use super::references::{Content, Kind, References};
use crate::Error;
use crate::files::{create_private_dir, write_private};

/// Folders that stand for a container's mounts.
///
/// A process sees the machine's files, not a container's. So the path of a mount is another one here, and wherever the
/// pod names it, in arguments, variables and mounted files, that is written instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounts {
    root: PathBuf,
    /// The longest first, so that `/a/b` is found before `/a`.
    paths: Vec<String>,
}

/// Changes a mounted file on its way; gets its path in the container and its content.
pub(super) type Adapt<'a> = &'a (dyn Fn(&str, &str) -> Result<Option<String>, Error> + Sync);

impl Mounts {
    pub(super) fn new(root: PathBuf, container: &Value) -> Self {
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        let mut paths: Vec<String> = mounts
            .filter_map(|mount| Some(mount["mountPath"].as_str()?.trim_end_matches('/').to_owned()))
            .filter(|path| path.starts_with('/'))
            .collect();
        paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
        Self { root, paths }
    }

    /// Where the mount at `path` is here; `None` where the container has none there.
    pub(super) fn folder(&self, path: &str) -> Option<PathBuf> {
        self.paths.iter().any(|mount| mount == path).then(|| self.place(path))
    }

    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// `text` with the paths of mounts replaced by where they are here.
    pub(super) fn rebase(&self, text: &str) -> String {
        let within_path = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let mut rebased = String::new();
        let (mut rest, mut before) = (text, None);
        while let Some(first) = rest.chars().next() {
            let starts = !before.is_some_and(within_path);
            let found = self.paths.iter().find(|path| {
                let after = rest.strip_prefix(path.as_str()).map(|after| after.chars().next());
                // `/etc/x` is in `/etc/x/y`, and not in `/etc/xy`.
                after.is_some_and(|next| next.is_none_or(|next| next == '/' || !within_path(next)))
            });
            let length = match found {
                Some(path) if starts => {
                    rebased.push_str(&self.place(path).display().to_string());
                    path.len()
                }
                _ => {
                    rebased.push(first);
                    first.len_utf8()
                }
            };
            before = rest[..length].chars().last();
            rest = &rest[length..];
        }
        rebased
    }

    /// Writes what the container's volumes hold, where it changed.
    pub(super) async fn project(
        &self,
        agent: &Agent,
        references: &mut References<'_>,
        pod: &Value,
        container: &Value,
        adapt: Adapt<'_>,
    ) -> Result<(), Error> {
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let (Some(name), Some(path)) = (mount["name"].as_str(), mount["mountPath"].as_str()) else {
                continue;
            };
            let path = path.trim_end_matches('/');
            let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            let Some(volume) = volumes.into_iter().find(|volume| volume["name"] == name) else {
                continue;
            };
            let folder = self.place(path);
            if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
                // It outlives the pod, as a volume does.
                let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
                let kept = agent.layout.folder("volumes")?.join(namespace).join(claim);
                create_private_dir(&kept)?;
                link(&kept, &folder)?;
                continue;
            }
            create_private_dir(&folder)?;
            for (source, name_field, kind) in [
                ("configMap", "name", Kind::ConfigMap),
                ("secret", "secretName", Kind::Secret),
            ] {
                let source = &volume[source];
                let Some(name) = source[name_field].as_str() else {
                    continue;
                };
                let content = references.content(kind, name, source["optional"] == true).await?;
                for (file, bytes) in content.into_iter().flat_map(|content| files(content, &source["items"])) {
                    // Keys of a ConfigMap are file names; a path among `items` may have folders, but not lead out.
                    if file.split('/').any(|part| part == "..") {
                        continue;
                    }
                    let bytes = match std::str::from_utf8(bytes) {
                        Ok(text) => {
                            let adapted = adapt(&format!("{path}/{file}"), text)?;
                            self.rebase(adapted.as_deref().unwrap_or(text)).into_bytes()
                        }
                        Err(_) => bytes.clone(),
                    };
                    write_changed(&folder.join(file), &bytes)?;
                }
            }
        }
        Ok(())
    }
}

/// The files that a volume has of an object's keys: all of them, or those that are chosen, under the names given there.
fn files<'a>(content: &'a Content, items: &'a Value) -> Vec<(&'a str, &'a Vec<u8>)> {
    match items.as_array() {
        None => content.iter().map(|(key, bytes)| (key.as_str(), bytes)).collect(),
        Some(items) => items
            .iter()
            .filter_map(|item| Some((item["path"].as_str()?, content.get(item["key"].as_str()?)?)))
            .collect(),
    }
}

/// A file is left alone where it holds that already, because some programs watch theirs.
fn write_changed(path: &Path, content: &[u8]) -> Result<(), Error> {
    if std::fs::read(path).is_ok_and(|found| found == content) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        create_private_dir(folder)?;
    }
    write_private(path, content)
}

fn link(target: &Path, link: &Path) -> Result<(), Error> {
    if let Some(folder) = link.parent() {
        create_private_dir(folder)?;
    }
    match std::os::unix::fs::symlink(target, link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::file("create", link)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mounts() -> Mounts {
        let container = json!({"volumeMounts": [
            {"name": "data", "mountPath": "/prometheus"},
            {"name": "config", "mountPath": "/etc/prometheus/"},
            {"name": "tmp", "mountPath": "/tmp"},
        ]});
        Mounts::new("/tmp/pod".into(), &container)
    }

    #[test]
    fn paths_of_mounts_are_replaced_and_nothing_else() {
        let mounts = mounts();
        for (text, expected) in [
            (
                "--config.file=/etc/prometheus/p.yaml",
                "--config.file=/tmp/pod/etc/prometheus/p.yaml",
            ),
            (
                "--storage.tsdb.path=/prometheus",
                "--storage.tsdb.path=/tmp/pod/prometheus",
            ),
            (
                "a: \"/prometheus\"\nb: /tmp",
                "a: \"/tmp/pod/prometheus\"\nb: /tmp/pod/tmp",
            ),
            ("/tmp:/prometheus/x", "/tmp/pod/tmp:/tmp/pod/prometheus/x"),
            // Neither in a URL, nor as a part of another path, nor as the beginning of another name.
            (
                "http://prometheus.monitoring/prometheus",
                "http://prometheus.monitoring/prometheus",
            ),
            ("/var/tmp /tmpfs /prometheus-old é", "/var/tmp /tmpfs /prometheus-old é"),
            ("", ""),
        ] {
            assert_eq!(mounts.rebase(text), expected, "{text}");
        }
        assert_eq!(mounts.folder("/tmp"), Some("/tmp/pod/tmp".into()));
        assert_eq!(mounts.folder("/etc"), None);
    }

    #[test]
    fn a_volume_has_all_keys_or_the_chosen_ones() {
        let content = Content::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let names = |items: &Value| -> Vec<String> {
            files(&content, items)
                .into_iter()
                .map(|(name, _)| name.to_owned())
                .collect()
        };
        assert_eq!(names(&Value::Null), ["a", "b"]);
        assert_eq!(
            names(&json!([{"key": "b", "path": "x/y"}, {"key": "none", "path": "z"}])),
            ["x/y"]
        );
    }

    #[test]
    fn a_file_that_did_not_change_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/file");
        let written = || std::fs::metadata(&path).unwrap().modified().unwrap();
        write_changed(&path, b"1").unwrap();
        let first = written();
        write_changed(&path, b"1").unwrap();
        assert_eq!(written(), first);
        write_changed(&path, b"2").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"2");
    }
}
