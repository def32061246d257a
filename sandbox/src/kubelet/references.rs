//! What a container gets from elsewhere: variables and files out of ConfigMaps, Secrets and the pod itself.

use std::collections::BTreeMap;
use std::ffi::OsString;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Agent;
use crate::Error;

/// Reads ConfigMaps and Secrets of one namespace, each one once.
#[derive(Debug)]
pub(super) struct References<'a> {
    agent: &'a Agent,
    namespace: &'a str,
    read: BTreeMap<(Kind, String), Option<Content>>,
}

/// The keys of a ConfigMap or Secret with their values.
pub(super) type Content = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
        }
    }

    /// What an object of this kind holds.
    fn content(self, object: &Value) -> Content {
        let decoded = |field: &str| {
            let entries = object[field].as_object().into_iter().flatten();
            entries.filter_map(|(key, value)| Some((key.clone(), STANDARD.decode(value.as_str()?).ok()?)))
        };
        match self {
            Self::Secret => decoded("data").collect(),
            Self::ConfigMap => {
                let plain = object["data"].as_object().into_iter().flatten();
                plain
                    .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.as_bytes().to_vec())))
                    .chain(decoded("binaryData"))
                    .collect()
            }
        }
    }
}

impl<'a> References<'a> {
    pub(super) fn new(agent: &'a Agent, namespace: &'a str) -> Self {
        Self {
            agent,
            namespace,
            read: BTreeMap::new(),
        }
    }

    /// What the ConfigMap or Secret of that name holds; `None` where there is none and `optional` allows that.
    pub(super) async fn content(&mut self, kind: Kind, name: &str, optional: bool) -> Result<Option<&Content>, Error> {
        let key = (kind, name.to_owned());
        if !self.read.contains_key(&key) {
            let path = format!("/api/v1/namespaces/{}/{}/{name}", self.namespace, kind.plural());
            let found = self.agent.client.get(&path).await?;
            self.read.insert(key.clone(), found.map(|object| kind.content(&object)));
        }
        match self.read.get(&key).and_then(Option::as_ref) {
            None if !optional => Err(self.missing(kind, name, "it does not exist")),
            found => Ok(found),
        }
    }

    /// The environment that a kubelet would give the container. Fields that the pod does not have are left out, and so
    /// is what `skip` names.
    pub(super) async fn environment(
        &mut self,
        pod: &Value,
        container: &Value,
        skip: &[&str],
    ) -> Result<Vec<(String, OsString)>, Error> {
        let mut environment = Vec::new();
        for variable in container["env"].as_array().into_iter().flatten() {
            let Some(name) = variable["name"].as_str().filter(|name| !skip.contains(name)) else {
                continue;
            };
            if let Some(value) = self.value(pod, variable).await? {
                environment.push((name.to_owned(), value.into()));
            }
        }
        Ok(environment)
    }

    async fn value(&mut self, pod: &Value, variable: &Value) -> Result<Option<String>, Error> {
        if let Some(value) = variable["value"].as_str() {
            return Ok(Some(value.to_owned()));
        }
        let from = &variable["valueFrom"];
        if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
            return Ok(pod
                .pointer(&format!("/{}", path.replace('.', "/")))
                .and_then(Value::as_str)
                .map(str::to_owned));
        }
        for (field, kind) in [("configMapKeyRef", Kind::ConfigMap), ("secretKeyRef", Kind::Secret)] {
            let reference = &from[field];
            let (Some(name), Some(key)) = (reference["name"].as_str(), reference["key"].as_str()) else {
                continue;
            };
            let optional = reference["optional"] == true;
            let value = self
                .content(kind, name, optional)
                .await?
                .and_then(|content| content.get(key));
            return match value {
                Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
                None if optional => Ok(None),
                None => Err(self.missing(kind, name, &format!("it has no key {key}"))),
            };
        }
        Ok(None)
    }

    fn missing(&self, kind: Kind, name: &str, message: &str) -> Error {
        Error::Internal {
            action: format!("use the {} {}/{name}", kind.name(), self.namespace),
            message: message.to_owned(),
            next: "the pod starts once it is there".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_and_a_config_map_hold_bytes() {
        let secret = json!({"data": {"tls.key": STANDARD.encode("private")}});
        assert_eq!(Kind::Secret.content(&secret)["tls.key"], b"private");
        let map = json!({"data": {"a": "1"}, "binaryData": {"b": STANDARD.encode([0, 255])}});
        let content = Kind::ConfigMap.content(&map);
        assert_eq!((&content["a"][..], &content["b"][..]), (&b"1"[..], &[0, 255][..]));
    }
}
