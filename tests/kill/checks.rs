//! What must hold after every cut, and what must be the same after every repetition.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::canary::{Canary, Searched};
use crate::machine::{ENVIRONMENT, Finished, Machine};
use crate::outside::{World, key_data};

/// The password and the key that the cluster holds can be had from AWS, and the git host knows the key.
pub(crate) fn one_of_each_works(machine: &Machine) {
    let world = machine.outside.world();
    assert!(world.cluster.violations.is_empty(), "{:?}", world.cluster.violations);
    if let Some(hash) = hash_in_cluster(&world) {
        let secret = &world.aws.secrets[&format!("{ENVIRONMENT}/argocd")];
        let kept = ["AWSCURRENT", "AWSPENDING"]
            .iter()
            .filter_map(|label| secret.labelled(label));
        assert!(
            kept.map(|version| document(&version.value))
                .any(|d| d["bcrypt"] == hash.as_str()),
            "the password that the cluster takes is neither the current nor the pending one"
        );
    }
    if let Some(public) = world.cluster.repository_key() {
        assert!(
            world.git_host.knows(&public),
            "the git host knows the key that Argo CD reads with"
        );
        let names = ["deploy-key", "deploy-key/pending"].map(|n| format!("/{ENVIRONMENT}/argocd/{n}"));
        let kept = names.iter().filter_map(|name| public_of(&world, name));
        assert!(
            kept.into_iter().any(|k| key_data(&k) == key_data(&public)),
            "the key that Argo CD reads with is kept"
        );
    }
}

fn document(text: &str) -> BTreeMap<String, String> {
    serde_json::from_str(text).unwrap()
}

fn hash_in_cluster(world: &World) -> Option<String> {
    let held = world.cluster.get("secrets", "argocd", "argocd-secret")?;
    let bytes = STANDARD.decode(held["data"]["admin.password"].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

/// The public part of the private key in a parameter.
fn public_of(world: &World, parameter: &str) -> Option<String> {
    let (_, values) = world.aws.parameters.get(parameter)?;
    let key = ssh_key::PrivateKey::from_openssh(values.last()?).ok()?;
    key.public_key().to_openssh().ok()
}

/// No secret is in a file or in what was printed, in whatever form.
pub(crate) fn nothing_has_leaked(machine: &Machine, run: &Finished, searched: &Searched) {
    let canaries = machine.canaries();
    let secrets: Vec<(&str, Vec<u8>)> = canaries.iter().map(|c| ("a secret", c.clone().into_bytes())).collect();
    let printed = [("standard output", &run.stdout), ("standard error", &run.stderr)];
    let printed = printed.map(|(name, text)| (name.to_owned(), text.clone().into_bytes()));
    Canary::new(&secrets).assert_absent(machine.files().into_iter().chain(printed), searched);
}

/// Everything but what is made up anew each time.
pub(crate) fn final_state(machine: &Machine) -> Value {
    let world = machine.outside.world();
    let hash = hash_in_cluster(&world);
    let key = world.cluster.repository_key();
    let secrets: BTreeMap<&String, Value> = world
        .aws
        .secrets
        .iter()
        .map(|(name, secret)| {
            let current = secret
                .labelled("AWSCURRENT")
                .map(|version| document(&version.value)["bcrypt"].clone());
            let state = json!({
                "deleted": secret.deleted,
                "current is in use": hash.as_ref().map(|hash| current.as_ref() == Some(hash)),
                "pending": secret.labelled("AWSPENDING").is_some(),
            });
            (name, state)
        })
        .collect();
    let parameters: BTreeMap<&String, bool> = world
        .aws
        .parameters
        .iter()
        .map(|(name, (_, values))| {
            let public = public_of(&world, name).unwrap_or_else(|| values.last().unwrap().clone());
            (name, key.as_ref().is_some_and(|key| key_data(key) == key_data(&public)))
        })
        .collect();
    let registered: Vec<Value> = world
        .git_host
        .keys
        .iter()
        .map(|k| json!({ "read_only": k["read_only"], "in use": key.as_ref().is_some_and(|key| k["key"] == key_data(key).as_str()) }))
        .collect();
    let objects: BTreeMap<String, Value> = world
        .cluster
        .objects
        .iter()
        .map(|((plural, namespace, name), object)| (format!("{plural} {namespace}/{name}"), lasting(object)))
        .collect();
    let files: Vec<(String, Option<String>)> = machine
        .files()
        .into_iter()
        // Git's own files are compared by what is committed; the environment's has the world's port in it.
        .filter(|(path, _)| !path.contains("/.git/") && !path.starts_with("project/environments/"))
        // A kill leaves a folder with the public key for ssh, which nobody looks at again.
        .filter(|(path, _)| !path.starts_with("tmp/"))
        // What Terraform printed last stays for a person to read.
        .filter(|(path, _)| !path.starts_with("project/.mfsre/demo/terraform-"))
        .map(|(path, contents)| {
            let private = path.starts_with("project/.mfsre/");
            (
                path,
                (!private).then(|| String::from_utf8_lossy(&contents).into_owned()),
            )
        })
        .collect();
    json!({
        "infrastructure": !world.infrastructure.is_gone(),
        "secrets": secrets,
        "parameters": parameters,
        "registered": registered,
        "objects": objects,
        "published": machine.git("repository.git", &["rev-parse", "main^{tree}"]),
        "committed": machine.git("project", &["log", "--format=%s %T"]),
        "uncommitted": machine.git("project", &["status", "--short"]),
        "files": files,
    })
}

/// An object without its times and versions, and with the keys of its secrets alone.
fn lasting(object: &Value) -> Value {
    let mut object = object.clone();
    for key in ["resourceVersion", "creationTimestamp"] {
        object["metadata"][key] = Value::Null;
    }
    if object["kind"] == "Secret"
        && let Some(data) = object["data"].as_object_mut()
    {
        data.values_mut().for_each(|value| *value = Value::Null);
    }
    object["spec"]["caBundle"] = Value::Null;
    object["status"]["reconciledAt"] = Value::Null;
    object["status"]["sync"]["revision"] = Value::Null;
    object
}
