//! What is rendered from an environment, and that values stay the values they are.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{REPOSITORY, environment, environment_of, files_below};
use mfsre::config::Environment;
use mfsre::render::{RenderError, Tree, render, terraform_variables};
use proptest::prelude::*;
use serde_json::Value;

const MANIFEST: &[u8] = b"# Argo CD's install manifest\nkind: List\n";

/// An environment on AWS in which every kind of setting is used.
fn demo() -> Environment {
    environment(
        "\
name: demo
region: eu-central-1
vpc_cidr: 10.20.0.0/16
cluster_version: \"1.35\"
instance_types: [m7i.large, m6i.large]
capacity_type: ON_DEMAND
argocd_repository_url: git@github.com:acme/platform.git
access:
  administrators: [arn:aws:iam::123456789012:role/platform-admin]
network:
  nat_gateways: per_az
  availability_zones: [eu-central-1a, eu-central-1b, eu-central-1c]
  flow_logs: true
cluster:
  public_access_cidrs: [203.0.113.0/24]
  private_access_cidrs: [192.168.0.0/16]
  log_retention_days: 30
node_group: {min_size: 3, max_size: 6, desired_size: 4}
tags: {team: platform, cost center: \"42\"}
autoscaling: {provider: keda}
observability:
  prometheus: existing
  prometheus_url: http://prometheus.observability.svc:9090
  service_monitor: true
  service_monitor_labels: {release: kube-prometheus-stack, quoted: \"1\"}
images: {registry: registry.example.com/acme, pull_secret: acme/registry}
main_service: {canary: true}
git: {revision: release/1.2}
argocd:
  known_hosts:
    - git.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl
",
    )
}

fn sandbox() -> Environment {
    environment_of(
        "sandbox",
        "name: sandbox\nargocd_repository_url: ssh://git@127.0.0.1:30922/mfsre/platform.git\nsandbox: {}\n",
    )
}

fn tree(environment: &Environment) -> Tree {
    render(environment, None, Some(MANIFEST)).unwrap()
}

fn text<'a>(tree: &'a Tree, path: &str) -> &'a str {
    let contents = tree
        .get(Path::new(path))
        .unwrap_or_else(|| panic!("{path} is not rendered"));
    std::str::from_utf8(contents).unwrap()
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.files().map(|(path, _)| path.display().to_string()).collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// What is rendered

#[test]
fn these_are_the_files_of_an_environment() {
    insta::assert_snapshot!("files_on_aws", paths(&tree(&demo())).join("\n"));
    insta::assert_snapshot!("files_of_a_sandbox", paths(&tree(&sandbox())).join("\n"));
}

#[test]
fn these_are_the_files_that_differ_between_environments() {
    for (kind, environment) in [("aws", demo()), ("sandbox", sandbox())] {
        let tree = tree(&environment);
        let name = &environment.name;
        for (part, path) in [
            ("tfvars", format!("infra/{name}/terraform.tfvars.json")),
            ("values", format!("cd/environments/{name}/values.yaml")),
            ("root", format!("cd/root/{name}.yaml")),
            ("argocd", format!("cd/environments/{name}/argo-cd/kustomization.yaml")),
        ] {
            insta::assert_snapshot!(format!("{kind}_{part}"), text(&tree, &path));
        }
    }
    insta::assert_snapshot!(
        "aws_known_hosts",
        text(
            &tree(&demo()),
            "cd/environments/demo/argo-cd/argocd-ssh-known-hosts-cm.yaml"
        )
    );
}

#[test]
fn a_service_monitor_and_its_labels_reach_the_exporter_s_chart() {
    for (labels, exporter) in [
        ("", serde_json::json!({})),
        (
            "  service_monitor_labels: {release: kube-prometheus-stack, quoted: \"1\"}\n",
            serde_json::json!({ "serviceMonitor": { "labels": { "release": "kube-prometheus-stack", "quoted": "1" } } }),
        ),
    ] {
        let tree = tree(&environment(&format!(
            "{REPOSITORY}observability:\n  prometheus: existing\n  prometheus_url: http://p.x.svc:9090\n  service_monitor: true\n{labels}"
        )));
        let values: Value = serde_saphyr::from_str(text(&tree, "cd/environments/demo/values.yaml")).unwrap();
        assert_eq!(
            values["observability"],
            serde_json::json!({ "prometheus": "existing", "url": "http://p.x.svc:9090/", "serviceMonitor": true })
        );
        assert_eq!(values["exporter"], exporter);
    }
}

#[test]
fn each_backend_has_its_block() {
    let mut shown = String::new();
    for backend in [
        "{type: local}",
        "{type: s3, bucket: acme-state}",
        "{type: s3, bucket: acme-state, key: a/b, region: us-east-1, kms_key_id: alias/state}",
        "{type: local, encryption: {key_provider: pbkdf2}}",
        "{type: s3, bucket: acme-state, encryption: {key_provider: aws_kms, kms_key_id: alias/state}}",
        "{type: cloud, organization: acme}",
        "{type: cloud, organization: acme, workspace: w, project: Platform, hostname: tfe.example.com}",
    ] {
        let environment = environment(&format!("{REPOSITORY}backend: {backend}\n"));
        shown.push_str(&format!(
            "## {backend}\n{}\n",
            text(&tree(&environment), "infra/demo/backend.tf")
        ));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn the_lock_file_pins_the_same_version_of_the_provider_for_either_program() {
    let lock = |program: &str| {
        let environment = environment(&format!("{REPOSITORY}terraform: {{program: {program}}}\n"));
        text(&tree(&environment), "infra/demo/.terraform.lock.hcl").to_owned()
    };
    let hashes = |lock: &str, scheme: &str| -> std::collections::BTreeSet<String> {
        let lines = lock.lines().map(|line| line.trim_matches([' ', '"', ',']).to_owned());
        lines.filter(|line| line.starts_with(scheme)).collect()
    };
    let (terraform, tofu) = (lock("terraform"), lock("/opt/bin/tofu"));
    assert_eq!(
        terraform,
        text(&tree(&demo()), "infra/demo/.terraform.lock.hcl"),
        "without the setting"
    );
    for (lock, registry) in [(&terraform, "registry.terraform.io"), (&tofu, "registry.opentofu.org")] {
        // Either program takes out what is not its own, and then the file is not as it was rendered.
        assert_eq!(lock.matches("provider \"").count(), 1, "{lock}");
        assert!(lock.contains(&format!(
            "provider \"{registry}/hashicorp/aws\" {{\n  version     = \"5.100.0\""
        )));
        assert!(
            lock.contains("Generated by mfsre") && lock.ends_with("  ]\n}\n"),
            "{lock}"
        );
    }
    // OpenTofu may take the provider from a mirror of Terraform's registry, where it is another build.
    assert!(hashes(&tofu, "h1:").is_superset(&hashes(&terraform, "h1:")));
    assert!(hashes(&tofu, "zh:").is_disjoint(&hashes(&terraform, "zh:")));
}

#[test]
fn rendering_twice_gives_the_same_bytes_in_the_same_order() {
    let environment = demo();
    let (first, second) = (tree(&environment), tree(&environment));
    assert!(first.files().eq(second.files()));
    assert!(first.files().map(|(path, _)| path).is_sorted());
}

#[test]
fn the_shared_files_are_the_same_for_every_environment() {
    let (demo, sandbox) = (tree(&demo()), tree(&sandbox()));
    let own = |path: &Path| {
        ["infra", "cd/environments", "cd/root"]
            .iter()
            .any(|dir| path.starts_with(dir))
    };
    let shared = |tree: &Tree| -> BTreeMap<String, Vec<u8>> {
        tree.files()
            .filter(|(path, _)| !own(path))
            .map(|(path, contents)| (path.display().to_string(), contents.to_vec()))
            .collect()
    };
    assert_eq!(shared(&demo), shared(&sandbox));
}

#[test]
fn every_file_says_what_made_it() {
    let (demo, sandbox) = (tree(&demo()), tree(&sandbox()));
    let unmarked: Vec<String> = demo
        .files()
        .chain(sandbox.files())
        .filter(|(_, contents)| {
            let text = String::from_utf8_lossy(contents);
            !text.lines().take(5).any(|line| line.contains("Generated by mfsre"))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(unmarked.is_empty(), "without the mark: {unmarked:#?}");
}

#[test]
fn files_that_are_no_templates_are_taken_as_they_are() {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let tree = tree(&demo());
    let mut compared = 0;
    for path in files_below(&templates) {
        let target = match path.strip_prefix("terraform/modules/") {
            Some(rest) => format!("modules/{rest}"),
            None => path
                .replace("terraform/root/", "infra/demo/")
                .replace("cd/environment/", "cd/environments/demo/"),
        };
        // What Terraform leaves in a module that someone tried out is no template.
        if path.ends_with(".tera") || path.contains(".terraform/") || tree.get(Path::new(&target)).is_none() {
            continue;
        }
        let original = std::fs::read(templates.join(&path)).unwrap();
        assert!(tree.get(Path::new(&target)) == Some(&*original), "{path} is changed");
        compared += 1;
    }
    assert!(compared > 50, "{compared}");
}

#[test]
fn a_vendored_manifest_is_carried_byte_for_byte_and_needed() {
    let environment = sandbox();
    let rendered = tree(&environment);
    let carried = text(&rendered, "cd/environments/sandbox/argo-cd/install.yaml");
    let (mark, carried) = carried.split_once('\n').unwrap();
    assert!(mark.starts_with("# Generated by mfsre"), "{mark}");
    assert_eq!(carried.as_bytes(), MANIFEST);
    assert!(matches!(render(&environment, None, None), Err(RenderError::NoManifest)));
    let remote = tree(&demo());
    assert!(!paths(&remote).iter().any(|path| path.ends_with("install.yaml")));
}

#[test]
fn no_template_syntax_is_left() {
    for environment in [demo(), sandbox()] {
        for (path, contents) in tree(&environment).files() {
            let contents = String::from_utf8_lossy(contents);
            for mark in ["@{ ", " }@", "<%", "%>", "<#", "#>"] {
                assert!(!contents.contains(mark), "{} has {mark}", path.display());
            }
        }
    }
}

#[test]
fn every_variable_of_the_root_module_that_has_no_default_is_set_and_none_is_unknown() {
    let environment = demo();
    let variables: BTreeMap<String, Value> = serde_json::from_str(&terraform_variables(&environment).unwrap()).unwrap();
    let rendered = tree(&environment);
    let declared: Vec<(String, bool)> = text(&rendered, "infra/demo/variables.tf")
        .split("\nvariable \"")
        .skip(1)
        .map(|block| {
            let (name, rest) = block.split_once('"').unwrap();
            let body = rest.split("\n}").next().unwrap();
            (name.to_owned(), body.contains("\n  default"))
        })
        .collect();
    for (name, has_default) in &declared {
        assert!(*has_default || variables.contains_key(name), "{name} is not set");
    }
    for name in variables.keys().filter(|name| *name != "//") {
        assert!(
            declared.iter().any(|(declared, _)| declared == name),
            "{name} is not declared"
        );
    }
}

#[test]
fn rendering_takes_no_noticeable_time() {
    let environment = demo();
    tree(&environment);
    let began = std::time::Instant::now();
    tree(&environment);
    // The bound for a release build is 20 ms; this one is not optimised and may share the machine.
    assert!(began.elapsed().as_millis() < 1000, "{:?}", began.elapsed());
}

// ---------------------------------------------------------------------------------------------------------------------
// Values stay values

/// A project's templates that print one value into each language.
fn probes() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, contents) in [
        (
            "cd/probe.yaml.tera",
            "before: 1\nvalue: @{ tags.probe }@\nlist:\n  - @{ tags.probe }@\nflow: {x: @{ tags.probe }@, y: [@{ tags.probe }@]}\nafter: 2\n",
        ),
        ("cd/json.yaml.tera", "tags: @{ tags | json }@\nafter: 2\n"),
        ("terraform/root/probe.tf.tera", "@{ tags.probe }@"),
        ("terraform/root/json.tf.tera", "@{ [tags.probe] | json }@"),
    ] {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
    dir
}

/// Reads a quoted HCL template that must hold no interpolation
/// (<https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#template-expressions>).
fn unquote_hcl(text: &str) -> Result<String, String> {
    let inner = text
        .strip_prefix('"')
        .and_then(|t| t.strip_suffix('"'))
        .ok_or_else(|| format!("no quoted string: {text:?}"))?;
    let mut out = String::new();
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("$${") {
            out.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("%%{") {
            out.push_str("%{");
            rest = after;
        } else if rest.starts_with("${") || rest.starts_with("%{") {
            return Err(format!("an interpolation begins at {rest:?}"));
        } else if let Some(after) = rest.strip_prefix('\\') {
            let (escaped, length) = match after.chars().next() {
                Some('n') => ('\n', 1),
                Some('r') => ('\r', 1),
                Some('t') => ('\t', 1),
                Some('"') => ('"', 1),
                Some('\\') => ('\\', 1),
                Some('u') => {
                    let digits = after.get(1..5).ok_or("a short escape")?;
                    let number = u32::from_str_radix(digits, 16).map_err(|e| e.to_string())?;
                    (char::from_u32(number).ok_or("no character")?, 5)
                }
                other => return Err(format!("no escape: {other:?}")),
            };
            out.push(escaped);
            rest = &after[length..];
        } else if c == '"' || c == '\n' || c == '\r' {
            return Err(format!("the string ends early at {rest:?}"));
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Ok(out)
}

/// Renders the probes with `value`, past every check that settings go through, and reads them back.
fn check_quoting(probes: &Path, value: &str) {
    let mut environment = environment(REPOSITORY);
    environment.tags = BTreeMap::from([("probe".to_owned(), value.to_owned())]);
    let tree = render(&environment, Some(probes), None).unwrap();
    let yaml: Value = serde_saphyr::from_str(text(&tree, "cd/probe.yaml"))
        .unwrap_or_else(|e| panic!("{value:?}: {e}\n{}", text(&tree, "cd/probe.yaml")));
    let expected = serde_json::json!({
        "before": 1, "value": value, "list": [value], "flow": {"x": value, "y": [value]}, "after": 2
    });
    assert_eq!(yaml, expected);
    let yaml: Value = serde_saphyr::from_str(text(&tree, "cd/json.yaml"))
        .unwrap_or_else(|e| panic!("{value:?}: {e}\n{}", text(&tree, "cd/json.yaml")));
    assert_eq!(yaml, serde_json::json!({"tags": {"probe": value}, "after": 2}));
    // Behind the line that names the template.
    let written = |path| text(&tree, path).split_once("instead.\n\n").unwrap().1;
    assert_eq!(unquote_hcl(written("infra/demo/probe.tf")).as_deref(), Ok(value));
    let list = written("infra/demo/json.tf")
        .strip_prefix('[')
        .unwrap()
        .strip_suffix(']')
        .unwrap();
    assert_eq!(unquote_hcl(list).as_deref(), Ok(value));
    let variables: Value = serde_json::from_str(text(&tree, "infra/demo/terraform.tfvars.json")).unwrap();
    assert_eq!(variables["tags"]["probe"], value);
}

#[test]
fn known_injections_come_out_as_data() {
    let probes = probes();
    for value in [
        "",
        " ",
        "x",
        "null",
        "~",
        "true",
        "no",
        "1.30",
        "0x1f",
        "2026-01-01",
        "\"",
        "'",
        "\\",
        "\\\"",
        "\\n",
        "a: b",
        "a #b",
        "- x",
        "*x",
        "&x",
        "!!x",
        "{{ .Values.x }}",
        "@{ name }@",
        "<% if x %>",
        "<# x #>",
        "${x}",
        "$${x}",
        "$$${x}",
        "%{x}",
        "%%{x}",
        "$%{x}",
        "%${x}",
        "$",
        "%",
        "${",
        "\"}\nresource \"null_resource\" \"x\" {",
        "\nkey: value\n",
        "\r\n",
        "\t",
        "\u{0}",
        "\u{1b}[31m",
        "\u{7f}",
        "\u{85}",
        "\u{a0}",
        "\u{2028}\u{2029}",
        "\u{feff}",
        "\u{fffe}\u{ffff}",
        "\u{e000}",
        "😀 größe",
        "\u{10ffff}",
        "---\n",
        "...",
        "<<: *x",
        "EOF\n",
    ] {
        check_quoting(probes.path(), value);
    }
}

/// Text that is likely to break out of something.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        any::<char>().prop_map(String::from),
        prop::sample::select(vec![
            "\"", "'", "\\", "$", "%", "{", "}", "${", "%{", "$${", "\n", "\r", "\t", "\u{0}", "#", ": ", "- ", "@{",
            "}@", "<%", "%>", "\\u", "\u{2028}", "\u{85}", "\u{feff}", " ", "a", "1", "&", "*", "!", "|", ">", "`",
            "[", "]", ","
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

/// A tag's key and value, within AWS's alphabet.
fn tags() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[a-zA-Z0-9äßЖ日 _.:/+@-]{1,30}", "[a-zA-Z0-9äßЖ日 _.:/+@-]{0,60}", 0..8).prop_filter(
        "some keys belong to others",
        |tags| {
            let reserved = ["aws:", "kubernetes.io/", "karpenter.sh/", "mfsre:"];
            !tags
                .keys()
                .any(|key| reserved.iter().any(|r| key.to_ascii_lowercase().starts_with(r)))
        },
    )
}

/// Every string of a document.
fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(map) => map.values().for_each(|item| strings(item, found)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_template_prints_comes_out_as_data(value in hostile()) {
        thread_local! { static PROBES: tempfile::TempDir = probes(); }
        PROBES.with(|probes| check_quoting(probes.path(), &value));
    }

    #[test]
    fn what_is_written_in_the_environment_is_what_terraform_and_helm_read(
        name in "[a-z][a-z0-9]{1,10}(-[a-z0-9]{1,9}){0,2}",
        tags in tags(),
        revision in "[a-zA-Z0-9_][a-zA-Z0-9_-]{0,10}(/[a-zA-Z0-9][a-zA-Z0-9_-]{0,10}){0,2}",
        registry in "[a-z0-9][a-z0-9.-]{0,20}(:[0-9]{2,5})?(/[a-z0-9][a-z0-9_-]{0,10}){0,2}",
        owner in "[a-zA-Z0-9_.~-]{1,10}[a-z]",
        repository in "[a-zA-Z0-9_.~-]{1,10}[a-z]",
        second_octet in 0_u8..=255,
        types in prop::collection::vec("[b-z][0-9][a-fh-z]{0,3}\\.(small|large|[0-9]{1,2}xlarge)", 1..4),
        spot in any::<bool>(),
        sizes in (0_u32..10, 0_u32..10, 1_u32..10),
        retention in prop::sample::select(vec![1_u16, 7, 30, 90, 3653]),
    ) {
        prop_assume!(!name.starts_with("sg-"));
        let (min, desired, max) = (sizes.0, sizes.0 + sizes.1, sizes.0 + sizes.1 + sizes.2);
        let url = format!("git@git.example.com:{owner}/{repository}.git");
        // JSON is YAML, and serde_json quotes everything.
        let file = serde_json::json!({
            "name": name, "argocd_repository_url": url, "tags": tags, "instance_types": types,
            "vpc_cidr": format!("10.{second_octet}.0.0/16"),
            "capacity_type": if spot { "SPOT" } else { "ON_DEMAND" },
            "git": {"revision": revision}, "images": {"registry": registry},
            "node_group": {"min_size": min, "desired_size": desired, "max_size": max},
            "cluster": {"log_retention_days": retention},
        });
        let environment = environment_of(&name, &file.to_string());
        let tree = render(&environment, None, None).unwrap();

        let variables: Value = serde_json::from_str(text(&tree, &format!("infra/{name}/terraform.tfvars.json"))).unwrap();
        prop_assert_eq!(&variables["name"], &name);
        prop_assert_eq!(&variables["tags"], &serde_json::to_value(&tags).unwrap());
        prop_assert_eq!(&variables["instance_types"], &serde_json::to_value(&types).unwrap());
        prop_assert_eq!(&variables["vpc_cidr"], &file["vpc_cidr"]);
        prop_assert_eq!(&variables["node_min_size"], min);
        prop_assert_eq!(&variables["node_max_size"], max);
        prop_assert_eq!(&variables["node_desired_size"], desired);
        prop_assert_eq!(&variables["log_retention_days"], retention);

        let values: Value = serde_saphyr::from_str(text(&tree, &format!("cd/environments/{name}/values.yaml"))).unwrap();
        prop_assert_eq!(&values["name"], &name);
        prop_assert_eq!(&values["repository"]["url"], &url);
        prop_assert_eq!(&values["repository"]["revision"], &revision);
        prop_assert_eq!(&values["images"]["registry"], &registry);

        let roots: Vec<Value> = serde_saphyr::from_multiple(text(&tree, &format!("cd/root/{name}.yaml"))).unwrap();
        let mut found = Vec::new();
        roots.iter().for_each(|root| strings(root, &mut found));
        prop_assert!(found.contains(&url) && found.contains(&revision));
        let kustomization = text(&tree, &format!("cd/environments/{name}/argo-cd/kustomization.yaml"));
        prop_assert!(serde_saphyr::from_str::<Value>(kustomization).is_ok());
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// A project's own templates

#[test]
fn a_template_that_renders_to_nothing_leaves_its_file_out() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("terraform/root")).unwrap();
    std::fs::write(
        dir.path().join("terraform/root/outputs.tf.tera"),
        "<% if sandbox %>x<% endif %>\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("terraform/root/empty.txt"), "").unwrap();
    let tree = render(&demo(), Some(dir.path()), None).unwrap();
    assert_eq!(tree.get(Path::new("infra/demo/empty.txt")), Some(&b""[..]));
}

#[test]
fn a_template_replaces_a_built_in_file_that_is_none_and_the_other_way_round() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("terraform/root")).unwrap();
    std::fs::write(dir.path().join("terraform/root/outputs.tf.tera"), "# @{ name }@\n").unwrap();
    std::fs::write(dir.path().join("terraform/root/backend.tf"), "# mine\n").unwrap();
    let tree = render(&demo(), Some(dir.path()), None).unwrap();
    assert!(text(&tree, "infra/demo/outputs.tf").ends_with("instead.\n\n# \"demo\"\n"));
    assert!(text(&tree, "infra/demo/backend.tf").ends_with("instead.\n\n# mine\n"));
}
