//! Hostile values come out of real Terraform, Helm and Kustomize as they went into the renderer.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mfsre::config::{Backend, Environment, Source, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use crate::tools::{terraform, tool};

/// Pieces that mean something to HCL, YAML, Go templates, Tera, a shell or a lexer.
const PIECES: [&str; 58] = [
    "${",
    "}",
    "$${",
    "%{",
    "%%{ if true }",
    "{{",
    "}}",
    "{{ .Values }}",
    "@{",
    "}@",
    "<%",
    "%>",
    "<#",
    "#>",
    "\"",
    "'",
    "\\",
    "\\n",
    "\n",
    "\r\n",
    "\t",
    "\r",
    "\n\n",
    "---\n",
    "...",
    ": ",
    "- ",
    "# ",
    "|",
    ">",
    "&a ",
    "*a",
    "!!int ",
    "~",
    "null",
    "yes",
    "NO",
    "1e3",
    "0x1F",
    "012",
    "1_000",
    "2001-01-01",
    ".inf",
    "=",
    "<<EOF\n",
    "EOF\n",
    "`",
    "$(id)",
    "\u{1}",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "é",
    "😀",
    "\u{fffd}",
    " ",
];

fn hostile() -> impl Strategy<Value = String> {
    vec(
        prop_oneof![
            5 => proptest::sample::select(&PIECES[..]).prop_map(str::to_owned),
            2 => "[a-z0-9]{1,4}",
        ],
        0..8,
    )
    .prop_map(|pieces| pieces.concat())
}

/// The same cases each time, so that a failure can be repeated.
fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 32,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
}

fn environment() -> Environment {
    let source = Source {
        path: "environments/demo.yaml".into(),
        text: "argocd_repository_url: git@github.com:acme/platform.git\n".into(),
    };
    let parsed = parse(source, "demo", jiff::civil::date(2026, 5, 1));
    parsed.expect("the environment is valid").environment
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
fn terraform_reads_back_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let tags = proptest::collection::btree_map(hostile(), hostile(), 0..6);
    let cases = (tags, vec(hostile(), 0..4), hostile(), hostile());
    runner(48)
        .run(&cases, |(tags, zones, bucket, key)| {
            let mut environment = environment();
            environment.tags.clone_from(&tags);
            environment.network.availability_zones.clone_from(&zones);
            environment.backend = Backend::S3 {
                bucket: bucket.clone(),
                key: key.clone(),
                region: "eu-west-1".into(),
                kms_key_id: None,
                encryption: None,
            };
            let variables = mfsre::render::terraform_variables(&environment).unwrap();
            let tree = mfsre::render::render(&environment, None, None).unwrap();
            let backend = tree.get(Path::new("infra/demo/backend.tf")).unwrap();
            let read = terraform_reads(dir.path(), &variables, &String::from_utf8_lossy(backend));
            prop_assert_eq!(&read["variables"]["tags"], &serde_json::to_value(&tags).unwrap());
            prop_assert_eq!(
                &read["variables"]["availability_zones"],
                &serde_json::to_value(&zones).unwrap()
            );
            let mut written: Value = serde_json::from_str(&variables).unwrap();
            written.as_object_mut().unwrap().remove(COMMENT);
            prop_assert_eq!(&read["variables"], &written);
            prop_assert_eq!(&read["bucket"], &bucket);
            prop_assert_eq!(&read["key"], &key);
            Ok(())
        })
        .unwrap();
}

/// The key that Terraform takes for a comment.
const COMMENT: &str = "//";

/// What Terraform makes of the variables and of the backend's values. The latter are read as locals, since a backend shows its
/// values to nobody.
fn terraform_reads(dir: &Path, variables: &str, backend: &str) -> Value {
    let names: Vec<String> = match serde_json::from_str(variables).unwrap() {
        Value::Object(map) => map.keys().filter(|name| *name != COMMENT).cloned().collect(),
        other => panic!("variables are an object: {other}"),
    };
    let value = |name: &str| {
        let line = backend.lines().find(|l| l.trim_start().starts_with(name)).unwrap();
        line.split_once('=').unwrap().1.to_owned()
    };
    let mut module = String::new();
    for name in &names {
        module.push_str(&format!("variable \"{name}\" {{\n  type = any\n}}\n"));
    }
    let echo: Vec<String> = names.iter().map(|n| format!("    {n} = var.{n}")).collect();
    module.push_str(&format!(
        "locals {{\n  bucket = {}\n  key = {}\n  variables = {{\n{}\n  }}\n}}\n",
        value("bucket "),
        value("key "),
        echo.join("\n")
    ));
    module.push_str("output \"read\" {\n  value = base64encode(jsonencode({ bucket = local.bucket, key = local.key, variables = local.variables }))\n}\n");
    std::fs::write(dir.join("main.tf"), module).unwrap();
    std::fs::write(dir.join("terraform.tfvars.json"), variables).unwrap();
    let _ = std::fs::remove_file(dir.join("terraform.tfstate"));
    let call = |arguments: &[&str]| {
        let mut command = Command::new(terraform());
        run(command.args(arguments).current_dir(dir).env("CHECKPOINT_DISABLE", "1"))
    };
    call(&["apply", "-auto-approve", "-input=false", "-no-color"]);
    let output = call(&["output", "-raw", "read"]);
    serde_json::from_slice(&STANDARD.decode(output.stdout).unwrap()).unwrap()
}

#[test]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
fn helm_reads_back_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("templates")).unwrap();
    std::fs::write(
        dir.path().join("Chart.yaml"),
        "apiVersion: v2\nname: echo\nversion: 0.0.0\n",
    )
    .unwrap();
    std::fs::write(
        dir.path().join("templates/echo.yaml"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: echo}\ndata: {read: {{ dict \"values\" .Values \"file\" (.Files.Get \"hosts.yaml\" | fromYaml) | toJson | b64enc }}}\n",
    )
    .unwrap();
    runner(48)
        .run(
            &(hostile(), hostile(), vec(hostile(), 1..4)),
            |(registry, revision, known_hosts)| {
                let mut environment = environment();
                environment.images.registry.clone_from(&registry);
                environment.git.revision.clone_from(&revision);
                environment.argocd.known_hosts.clone_from(&known_hosts);
                std::fs::write(dir.path().join("hosts.yaml"), known_hosts_file(&environment)).unwrap();
                let values = dir.path().join("hostile.yaml");
                std::fs::write(&values, mfsre::render::helm_values(&environment).unwrap()).unwrap();
                let mut helm = Command::new(tool("helm"));
                let output = run(helm
                    .args(["template", "echo"])
                    .arg(dir.path())
                    .arg("--values")
                    .arg(&values));
                let text = String::from_utf8(output.stdout).unwrap();
                let encoded = text.split_once("read: ").unwrap().1.split('}').next().unwrap();
                let both: Value = serde_json::from_slice(&STANDARD.decode(encoded).unwrap()).unwrap();
                let hosts = &both["file"]["data"]["ssh_known_hosts"];
                prop_assert_eq!(
                    hosts,
                    &format!("{}\n", known_hosts.join("\n")),
                    "what a template printed"
                );
                let read = &both["values"];
                prop_assert_eq!(&read["images"]["registry"], &registry);
                prop_assert_eq!(&read["repository"]["revision"], &revision);
                prop_assert_eq!(&read["repository"]["url"], "git@github.com:acme/platform.git");
                prop_assert_eq!(&read["region"], "eu-west-1");
                prop_assert_eq!(&read["addons"]["keda"]["enabled"], false, "a boolean stays one");
                Ok(())
            },
        )
        .unwrap();
}

/// A file that a template prints values into.
fn known_hosts_file(environment: &Environment) -> Vec<u8> {
    let tree = mfsre::render::render(environment, None, None).unwrap();
    let path = Path::new("cd/environments/demo/argo-cd/argocd-ssh-known-hosts-cm.yaml");
    tree.get(path).expect("the host keys are rendered").to_owned()
}

#[test]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
fn kustomize_reads_back_what_a_template_printed() {
    let dir = tempfile::tempdir().unwrap();
    // Kustomize reads these two escapes, but trips over its own output, in which they stand bare. Helm takes them, above.
    let line = hostile().prop_map(|text| text.replace(['\u{7f}', '\u{85}'], ""));
    let hosts = vec(line, 1..4);
    runner(32)
        .run(&hosts, |known_hosts| {
            let mut environment = environment();
            environment.argocd.known_hosts.clone_from(&known_hosts);
            std::fs::write(dir.path().join("hosts.yaml"), known_hosts_file(&environment)).unwrap();
            std::fs::write(dir.path().join("kustomization.yaml"), "resources: [hosts.yaml]\n").unwrap();
            let output = run(Command::new(tool("kustomize")).arg("build").arg(dir.path()));
            let read: Value = serde_saphyr::from_slice(&output.stdout).unwrap();
            prop_assert_eq!(
                &read["data"]["ssh_known_hosts"],
                &format!("{}\n", known_hosts.join("\n"))
            );
            Ok(())
        })
        .unwrap();
}
