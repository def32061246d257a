use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::services::Error;

/// What the emulator was told and does not keep, by `kind/region/name…`. It is written through to a file, so that a
/// restart of the proxy alone does not look like drift to Terraform.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    values: Mutex<BTreeMap<String, Value>>,
}

impl Memory {
    /// Reads the file, which may be missing.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let values = match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| Error::Content {
                path: path.to_owned(),
                reason: error.to_string(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Error::file("read the memory of the AWS proxy", path)(error)),
        };
        Ok(Self {
            path: path.to_owned(),
            values: Mutex::new(values),
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<Value> {
        self.lock().get(key).cloned()
    }

    pub(super) fn put(&self, key: String, value: Value) {
        let mut values = self.lock();
        values.insert(key, value);
        self.save(&values);
    }

    /// Forgets every key that begins so.
    pub(super) fn forget(&self, prefix: &str) {
        let mut values = self.lock();
        let before = values.len();
        values.retain(|key, _| !key.starts_with(prefix));
        if values.len() < before {
            self.save(&values);
        }
    }

    /// What follows the prefix in every key that begins so.
    pub(super) fn suffixes(&self, prefix: &str) -> Vec<String> {
        self.lock()
            .keys()
            .filter_map(|key| key.strip_prefix(prefix))
            .map(str::to_owned)
            .collect()
    }

    /// A file that cannot be written costs a restart its memory, but no call its answer.
    fn save(&self, values: &BTreeMap<String, Value>) {
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let Ok(mut file) = tempfile::NamedTempFile::new_in(folder) else {
            return;
        };
        if serde_json::to_vec(values).is_ok_and(|text| file.write_all(&text).is_ok()) {
            let _ = file.persist(&self.path);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Memory;

    #[test]
    fn outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.json");
        let memory = Memory::open(&path).unwrap();
        memory.put("a/1".to_owned(), json!(1));
        memory.put("a/2".to_owned(), json!(2));
        memory.put("ab/3".to_owned(), json!(3));
        let memory = Memory::open(&path).unwrap();
        assert_eq!(memory.suffixes("a/"), ["1", "2"]);
        memory.forget("a/");
        let memory = Memory::open(&path).unwrap();
        assert_eq!((memory.get("a/1"), memory.get("ab/3")), (None, Some(json!(3))));
        std::fs::write(&path, "x").unwrap();
        assert!(Memory::open(&path).is_err());
    }
}
