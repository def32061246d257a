//! Environment files: what is accepted, and what a person is told about everything else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use common::{REPOSITORY, TODAY, environment, read, read_as, with_setting};
use mfsre::config::{Source, parse};

/// A setting, with values that are taken and values that are refused.
struct Setting {
    path: &'static str,
    /// Lines that must stand besides; the setting itself comes last.
    besides: &'static str,
    good: &'static [&'static str],
    bad: &'static [&'static str],
}

const S3: &str = "backend:\n  type: s3\n  bucket: acme-state\n";
const S3_WITHOUT_BUCKET: &str = "backend:\n  type: s3\n";
const EXISTING: &str =
    "observability:\n  prometheus: existing\n  prometheus_url: http://prometheus.monitoring.svc:9090\n";
const MONITOR: &str = "observability:\n  prometheus: existing\n  prometheus_url: http://prometheus.monitoring.svc:9090\n  service_monitor: true\n";
const PASSPHRASE: &str = "backend:\n  type: local\n  encryption:\n    key_provider: pbkdf2\n";
const KMS: &str = "backend:\n  type: s3\n  bucket: acme-state\n  encryption:\n    key_provider: aws_kms\n    kms_key_id: alias/state\n";
const KMS_WITHOUT_KEY: &str = "backend:\n  type: local\n  encryption:\n    key_provider: aws_kms\n";
const CLOUD: &str = "backend:\n  type: cloud\n  organization: acme\n";
const CLOUD_WITHOUT_ORGANIZATION: &str = "backend:\n  type: cloud\n";

/// Values that are no scalar, or one of another kind, for a setting that is text.
macro_rules! setting {
    ($path:literal, $besides:expr, good: [$($good:literal),* $(,)?], bad: [$($bad:literal),* $(,)?]) => {
        Setting { path: $path, besides: $besides, good: &[$($good),*], bad: &[$($bad),*] }
    };
}

/// Every setting there is; a test below compares the list with the JSON Schema.
const SETTINGS: &[Setting] = &[
    setting!("name", "", good: ["demo", "a1", "blue-green-2", "abcdefghijklmnopqrstuvwxyz012345"],
        bad: ["\"\"", "x", "Demo", "1demo", "-demo", "demo-", "a--b", "a_b", "a.b", "demo team", "démo", "\"a${b}\"", "sg-demo",
              "abcdefghijklmnopqrstuvwxyz0123456", "[demo]", "{a: b}", "42"]),
    setting!("region", "", good: ["eu-west-1", "us-gov-east-1", "cn-northwest-1", "ap-southeast-4"],
        bad: ["\"\"", "eu-west-1a", "EU-WEST-1", "europe", "eu_west_1", "eu-west-", "\"eu-west-1 \"", "[eu-west-1]", "1"]),
    setting!("vpc_cidr", "", good: ["10.0.0.0/16", "172.16.0.0/16", "192.168.0.0/20", "100.64.0.0/16"],
        bad: ["\"\"", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/8", "10.0.0.0/24", "10.0.1.0/16", "8.8.0.0/16", "172.17.0.0/16",
              "fd00::/48", "10.0.0/16", "[10.0.0.0/16]"]),
    setting!("cluster_version", "", good: ["\"1.35\"", "'1.34'", "1.33", "\"1.36\"", "\"1.32\""],
        bad: ["\"1.25\"", "1.30.4", "1.3", "\"v1.35\"", "latest", "\"1.\"", "\"1.035\"", "35", "[\"1.35\"]", "\"\""]),
    setting!("instance_types", "", good: ["[t3.medium]", "[m7i-flex.large, u-6tb1.metal, g5.xlarge]", "[\"t3.small\"]", "[m7g.large, t4g.medium, a1.large, im4gn.large, c7gn.large]"],
        bad: ["[]", "t3.medium", "[t3]", "[t3.medium, T3.large]", "[\"t3.medium; rm\"]", "[t3.nano]", "[t3.medium, [x]]", "[t3.medium, t4g.medium]", "[m7g.large, g4dn.xlarge]",
              "[a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x, a1.x]"]),
    setting!("capacity_type", "", good: ["SPOT", "ON_DEMAND"], bad: ["spot", "\"\"", "on-demand", "true", "[SPOT]"]),
    setting!("argocd_repository_url", "",
        good: ["git@github.com:acme/platform.git", "ssh://git@git.example.com:2222/a/b/c.git", "https://git.example.com/acme/platform"],
        bad: ["\"\"", "acme/platform", "http://github.com/acme/platform", "file:///etc/passwd", "https://user:secret@github.com/acme/platform",
              "ssh://github.com/acme/platform", "git@github.com", "https://github.com/", "https://github.com/acme", "git@github.com:acme/../etc",
              "git@github.com:OWNER/REPOSITORY.git", "https://github.com/OWNER/REPOSITORY", "null", "http://user:secret@github.com/acme/platform",
              "git@-oProxyCommand=x:a/b", "\"git@github.com:acme/platform.git\\n\"", "'git@github.com:acme/$(id).git'",
              "ssh://git@host:0/a/b", "ssh://git@host:99999/a/b", "\"git@github.com:acme/pla tform.git\"", "[x]"]),
    setting!("access.administrators", REPOSITORY,
        good: ["[arn:aws:iam::123456789012:role/team/admin]", "[arn:aws:iam::123456789012:user/bob, 'arn:aws:iam::123456789012:root']"],
        bad: ["[]", "admin", "[arn:aws-cn:iam::123456789012:user/bob]", "[admin]", "[arn:aws:sts::123456789012:assumed-role/admin/alice]", "[arn:aws:iam::1234:role/x]",
              "[arn:aws:s3:::bucket]", "[\"arn:aws:iam::123456789012:role/a b\"]", "[arn:aws:iam::123456789012:role/]", "{a: b}"]),
    setting!("network.nat_gateways", REPOSITORY, good: ["single", "per_az"], bad: ["none", "per-az", "2", "\"\""]),
    setting!("network.availability_zones", REPOSITORY, good: ["[eu-west-1a, eu-west-1b, eu-west-1c]"],
        bad: ["[]", "[eu-west-1a]", "[eu-west-1a, eu-west-1a, eu-west-1b]", "[a, b, c]", "eu-west-1a", "[eu-west-1a, eu-west-1b, us-east-1c]"]),
    setting!("network.flow_logs", REPOSITORY, good: ["true", "false"], bad: ["1", "\"maybe\"", "[true]"]),
    setting!("cluster.public_access_cidrs", REPOSITORY, good: ["[]", "[203.0.113.0/24, 0.0.0.0/0]"],
        bad: ["203.0.113.0/24", "[203.0.113.7]", "[203.0.113.7/24]", "[::/0]"]),
    setting!("cluster.private_access_cidrs", REPOSITORY, good: ["[]", "[192.168.0.0/16]"], bad: ["[192.168.0.1/16]", "[vpn]"]),
    setting!("cluster.log_retention_days", REPOSITORY, good: ["90", "1", "3653"], bad: ["0", "2", "-1", "70000", "90.5", "ninety", "\"\""]),
    setting!("cluster.support_type", REPOSITORY, good: ["STANDARD", "EXTENDED"], bad: ["standard", "none"]),
    setting!("node_group.min_size", REPOSITORY, good: ["0", "2", "100"], bad: ["-1", "451", "two", "1.5"]),
    setting!("node_group.max_size", REPOSITORY, good: ["2", "450"], bad: ["0", "1", "451", "4294967296"]),
    setting!("node_group.desired_size", REPOSITORY, good: ["2", "4"], bad: ["1", "5", "-2"]),
    setting!("tags", REPOSITORY, good: ["{}", "{team: platform}", "{\"cost center\": \"42/7+0@x.y:z-_\", größe: \"\"}"],
        bad: ["[team]", "{\"aws:x\": y}", "{\"AWS:x\": y}", "{karpenter.sh/discovery: demo}", "{team: \"a${b}\"}", "{team: \"a\\nb\"}", "{\"\": x}",
              "{team: 'say \"hi\"'}", "{team: {a: b}}"]),
    setting!("backend.type", REPOSITORY, good: ["local"], bad: ["gcs", "\"\"", "s3", "cloud", "S3"]),
    setting!("backend.bucket", S3_WITHOUT_BUCKET, good: ["acme-state"], bad: ["ac", "Acme", "acme_state", "-acme", "\"acme\\\" }\"", "${var.x}"]),
    setting!("backend.key", S3, good: ["demo/terraform.tfstate"], bad: ["\"\"", "/demo", "demo/"]),
    setting!("backend.region", S3, good: ["eu-central-1"], bad: ["europe", "\"\""]),
    setting!("backend.kms_key_id", S3, good: ["alias/state"], bad: ["\"\"", "\"my key\""]),
    setting!("backend.encryption.key_provider", "backend:\n  type: local\n  encryption:\n", good: ["pbkdf2"], bad: ["gcp_kms", "\"\"", "aws_kms"]),
    setting!("backend.encryption.passphrase_variable", PASSPHRASE, good: ["STATE_PASSPHRASE"], bad: ["\"correct horse battery staple\"", "\"\"", "a=b"]),
    setting!("backend.encryption.kms_key_id", KMS_WITHOUT_KEY, good: ["alias/state"], bad: ["\"\"", "\"my key\""]),
    setting!("backend.encryption.region", KMS, good: ["eu-central-1"], bad: ["europe", "\"\""]),
    setting!("backend.organization", CLOUD_WITHOUT_ORGANIZATION, good: ["acme", "Acme Inc"], bad: ["\"\"", "a/b", "\"a\\\"b\""]),
    setting!("backend.workspace", CLOUD, good: ["demo"], bad: ["\"\"", "my demo", "a/b"]),
    setting!("backend.project", CLOUD, good: ["Platform"], bad: ["\"\"", "a.b"]),
    setting!("backend.execution", CLOUD, good: ["remote", "local"], bad: ["\"\"", "agent", "here"]),
    setting!("backend.aws_run_role", CLOUD, good: ["arn:aws:iam::123456789012:role/terraform"], bad: ["\"\"", "terraform"]),
    setting!("backend.hostname", CLOUD, good: ["tfe.example.com", "localhost:8443"], bad: ["\"\"", "https://tfe.example.com"]),
    setting!("blueprint", REPOSITORY, good: ["built-in", "eks-blueprints", "blueprints/own", "./own"],
        bad: ["\"\"", "eks-blueprint", "builtin", "own", "/srv/blueprint", "../own", "own/../..", "./", "infra/demo", "modules/eks", "git::https://example.com/x",
              "[built-in]"]),
    setting!("argocd.manifest", REPOSITORY, good: ["remote", "vendored"], bad: ["local", "\"\""]),
    setting!("argocd.known_hosts", REPOSITORY,
        good: ["[]", "[\"github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\"]"],
        bad: ["[github.com]", "[\"github.com ssh-ed25519 AAAA\"]",
              "[\"a ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\\nb ssh-rsa AAAA\"]"]),
    setting!("argocd.secret_name", REPOSITORY, good: ["argocd", "demo/argocd"], bad: ["\"\"", "my secret", "a#b"]),
    setting!("autoscaling.provider", REPOSITORY, good: ["prometheus-adapter", "keda"], bad: ["hpa", "KEDA"]),
    setting!("observability.prometheus", REPOSITORY, good: ["install"], bad: ["existing", "none"]),
    setting!("observability.prometheus_url", "observability:\n  prometheus: existing\n",
        good: ["http://prometheus.monitoring.svc:9090"],
        bad: ["prometheus:9090", "ftp://host", "\"\"", "https://user:secret@host/", "\"http://\""]),
    setting!("observability.service_monitor", EXISTING, good: ["true", "false"], bad: ["1", "\"maybe\"", "[true]"]),
    setting!("observability.service_monitor_labels", MONITOR,
        good: ["{}", "{release: kube-prometheus-stack, team.example.com/name: a_b.C-1, empty: \"\"}"],
        bad: ["[release]", "{\"\": x}", "{-a: x}", "{a b: x}", "{a: -x}", "{a: \"x y\"}", "{a: \"{{ x }}\"}", "{Example.com/a: x}", "{a/b/c: x}",
              "{/a: x}", "{a: {b: c}}", "{a: abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz01234}"]),
    setting!("images.registry", REPOSITORY, good: ["ghcr.io/acme", "localhost:5000/x"], bad: ["\"\"", "ghcr.io/Acme", "ghcr.io/acme/", "https://ghcr.io/a b"]),
    setting!("images.versions.main-service", REPOSITORY, good: ["1.4.0", "\"1.4\"", "_x", "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "v1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"], bad: ["\"\"", "-1", "1/2", "acme/app:1", "sha256:abc", "1@sha512:abc"]),
    setting!("images.versions.exporter", REPOSITORY, good: ["1.4.0"], bad: ["\"a b\""]),
    setting!("images.pull_secret", REPOSITORY, good: ["acme/ghcr", "registry"], bad: ["\"\"", "ghp token", "a#b", "{a: b}"]),
    setting!("main_service.canary", REPOSITORY, good: ["true", "false"], bad: ["1", "\"maybe\"", "[true]"]),
    setting!("git.revision", REPOSITORY, good: ["main", "release/1.2", "HEAD"], bad: ["\"\"", "-main", "a..b", "a b", "refs/", "\"main\\nx\"", "'${x}'"]),
    setting!("git.host", REPOSITORY, good: ["github", "gitlab", "gitea", "forgejo", "manual"], bad: ["bitbucket", "\"\""]),
    setting!("git.token_file", REPOSITORY, good: ["secrets/token", "/run/secrets/gitlab"], bad: ["\"\"", "\"a\\nb\""]),
    setting!("git.api_url", REPOSITORY, good: ["https://git.example.com/api/v3"], bad: ["git.example.com", "https://token@git.example.com"]),
    setting!("mirrors.tools", REPOSITORY, good: ["https://mirror.example.com/tools"], bad: ["/srv/mirror", "\"\""]),
    setting!("mirrors.terraform_providers", REPOSITORY, good: ["/srv/terraform"], bad: ["\"\"", "[x]"]),
    setting!("mirrors.argocd_manifest", REPOSITORY, good: ["https://mirror.example.com/install.yaml"], bad: ["install.yaml"]),
    setting!("mirrors.modules", REPOSITORY, good: ["vendor/modules", "../modules"], bad: ["\"\"", "/srv/modules", "https://example.com/modules", "[x]"]),
    setting!("terraform.program", REPOSITORY, good: ["tofu", "/usr/local/bin/terraform"], bad: ["\"\"", "[tofu]"]),
    setting!("sandbox.tools", SANDBOX, good: ["{}", "{etcd: /usr/bin/etcd}"], bad: ["[etcd]", "{helmm: /usr/bin/helm}", "{etcd: [x]}", "{etcd: \"\"}"]),
    setting!("sandbox.nodes", SANDBOX, good: ["1", "100"], bad: ["0", "101", "-3", "three"]),
];

const SANDBOX: &str = "argocd_repository_url: ssh://git@127.0.0.1:30922/mfsre/platform.git\n";

/// The environment file in which a setting has a value.
fn file(setting: &Setting, value: &str) -> String {
    let needs_repository =
        setting.path != "argocd_repository_url" && !setting.besides.contains("argocd_repository_url");
    let besides = format!("{}{}", if needs_repository { REPOSITORY } else { "" }, setting.besides);
    with_setting(&besides, setting.path, value)
}

/// The dotted paths of every setting below `object`.
fn settings_of(schema: &serde_json::Value, object: &serde_json::Value, above: &str, known: &mut BTreeSet<String>) {
    for (key, property) in object["properties"].as_object().unwrap() {
        let path = format!("{above}{key}");
        let nested = property["anyOf"]
            .as_array()
            .into_iter()
            .flatten()
            .chain(property["allOf"].as_array().into_iter().flatten())
            .chain([property])
            .find_map(|p| p["$ref"].as_str())
            .map(|reference| &schema["definitions"][reference.rsplit('/').next().unwrap()])
            .filter(|definition| definition["properties"].is_object());
        match nested {
            Some(nested) => settings_of(schema, nested, &format!("{path}."), known),
            None => drop(known.insert(path)),
        }
    }
}

#[test]
fn every_setting_of_the_schema_has_good_and_bad_values_here() {
    let schema = mfsre::config::schema();
    let mut known = BTreeSet::new();
    settings_of(&schema, &schema, "", &mut known);
    let tested: BTreeSet<String> = SETTINGS.iter().map(|s| s.path.to_owned()).collect();
    assert_eq!(known, tested);
}

#[test]
fn good_values_are_taken() {
    for setting in SETTINGS {
        for value in setting.good {
            let text = file(setting, value);
            let stem = if setting.path == "name" { value } else { "demo" };
            if let Err(diagnostics) = read_as(stem, &text) {
                panic!("{}: {value}\n{}", setting.path, diagnostics.render(false));
            }
        }
    }
}

#[test]
fn bad_values_are_refused_with_their_place_and_a_hint() {
    let mut taken = Vec::new();
    for setting in SETTINGS {
        let mut shown = String::new();
        for value in setting.bad {
            let text = file(setting, value);
            match read(&text) {
                Ok(_) => taken.push(format!("{}: {value}", setting.path)),
                Err(diagnostics) => {
                    assert!(
                        diagnostics.items.iter().all(|d| d.hint.is_some()),
                        "{}: {value} without a hint",
                        setting.path
                    );
                    let _ = writeln!(shown, "{}", diagnostics.render(false));
                }
            }
        }
        insta::assert_snapshot!(format!("bad_{}", setting.path.replace('.', "_")), shown);
    }
    assert!(taken.is_empty(), "taken: {taken:#?}");
}

/// The offending text of the first diagnostic, as programs get it.
fn offending(text: &str) -> (u64, u64, String) {
    let diagnostics = match read(text) {
        Ok(loaded) => loaded.warnings,
        Err(diagnostics) => diagnostics,
    };
    let json = serde_json::to_value(diagnostics.to_json()).unwrap();
    let first = json
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["message"] != "argocd_repository_url is missing")
        .or(json.as_array().unwrap().first())
        .unwrap_or_else(|| panic!("no place for\n{text}{json:#}"));
    (
        first["line"].as_u64().unwrap(),
        first["column"].as_u64().unwrap(),
        first["text"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn a_mistake_points_at_the_value_as_it_is_written() {
    let at = |line, column, text: &str| (line, column, text.to_owned());
    assert_eq!(offending("region: europe\n"), at(1, 9, "europe"));
    assert_eq!(offending("region: europe # where\n"), at(1, 9, "europe"));
    assert_eq!(offending("region:    'europe'   # where\n"), at(1, 12, "'europe'"));
    assert_eq!(offending("region: \"europe\"\n"), at(1, 9, "\"europe\""));
    assert_eq!(offending("region: \"eu\\x72ope\"\n"), at(1, 9, "\"eu\\x72ope\""));
    assert_eq!(offending("# größer\nname: \"größe\"\n"), at(2, 7, "\"größe\""));
    assert_eq!(
        offending("instance_types: [t3.medium, bad, t3.large]\n"),
        at(1, 29, "bad")
    );
    assert_eq!(
        offending("instance_types: [t3.medium, \"bad\" , t3.large]\n"),
        at(1, 29, "\"bad\"")
    );
    assert_eq!(offending("instance_types:\n  - t3.medium\n  - bad\n"), at(3, 5, "bad"));
    assert_eq!(
        offending("instance_types:\n  [\n    t3.medium,\n    bad,\n  ]\n"),
        at(4, 5, "bad")
    );
    assert_eq!(offending("instance_types: []\n"), at(1, 17, "[]"));
    assert_eq!(offending("network: {nat_gateways: none}\n"), at(1, 25, "none"));
    assert_eq!(offending("network: { nat_gateways: 'none' }\n"), at(1, 26, "'none'"));
    assert_eq!(offending("name: demo\nregion:\n  europe\n"), at(3, 3, "europe"));
    assert_eq!(offending("region: >-\n  europe\nname: demo\n"), at(2, 3, "europe"));
    assert_eq!(offending("name: demo\r\nregion: europe\r\n"), at(2, 9, "europe"));
    assert_eq!(offending("cluster: {log_retention_days: 2}\n"), at(1, 31, "2"));
    assert_eq!(
        offending("cluster:\n  log_retention_days: 2 # too few\n"),
        at(2, 23, "2")
    );
    assert_eq!(offending("\u{feff}region: europe\n").2, "europe");
    assert_eq!(offending("---\nregion: europe\n"), at(2, 9, "europe"));
}

#[test]
fn a_wrong_type_an_unknown_key_and_a_second_one_have_their_place_as_well() {
    let at = |line, column, text: &str| (line, column, text.to_owned());
    assert_eq!(offending("regionn: eu-west-1\n"), at(1, 1, "regionn"));
    assert_eq!(offending("network:\n  nat: single\n"), at(2, 3, "nat"));
    assert_eq!(offending("network: {nat: single}\n"), at(1, 11, "nat"));
    assert_eq!(offending("name: demo\nname: other\n"), at(2, 1, "name"));
    assert_eq!(
        offending("cluster:\n  log_retention_days: many # days\n"),
        at(2, 23, "many")
    );
    assert_eq!(offending("region: [eu-west-1]\n"), at(1, 9, "[eu-west-1]"));
    assert_eq!(offending("instance_types: t3.medium # one\n"), at(1, 17, "t3.medium"));
    assert_eq!(offending("backend:\n  bucket: x\n"), at(2, 3, "bucket"));
    assert_eq!(offending("name: demo\nregion: @europe\n"), at(2, 9, "@europe"));
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    let mut shown = String::new();
    for text in [
        "regoin: eu-west-1\n",
        "instancetypes: [t3.medium]\n",
        "argocd_repo_url: x\n",
        "something_else: 1\n",
        "network:\n  nat_gateway: single\n",
        "backend:\n  type: s3\n  buckets: x\n",
        "sandbox:\n  node: 3\n",
        "argocd:\n  version: v3\n",
        "x: 1\n",
        "nme: demo\n",
    ] {
        shown.push_str(&read(text).unwrap_err().render(false));
        shown.push('\n');
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_their_place() {
    let text = "\
name: Demo
region: europe
vpc_cidr: 10.0.0.0/8
cluster_version: \"1.25\"
instance_types: [t3.medium, t3]
capacity_type: cheap
argocd_repository_url: acme/platform
network:
  nat_gateways: many
cluster:
  log_retention_days: 2
tags:
  team: \"a${b}\"
backend:
  type: s3
  organization: acme
";
    insta::assert_snapshot!(read(text).unwrap_err().render(false));
}

#[test]
fn settings_that_need_another_one_say_which() {
    let mut shown = String::new();
    for text in [
        format!("{REPOSITORY}observability:\n  service_monitor: true\n"),
        format!("{REPOSITORY}{EXISTING}  service_monitor: false\n  service_monitor_labels: {{a: b}}\n"),
        format!("{SANDBOX}main_service:\n  canary: true\nsandbox: {{}}\n"),
        format!("{REPOSITORY}{PASSPHRASE}    kms_key_id: alias/state\n"),
        format!("{REPOSITORY}{KMS}    passphrase_variable: X\n"),
        format!("{REPOSITORY}{KMS_WITHOUT_KEY}"),
        format!("{REPOSITORY}{CLOUD}  encryption: {{key_provider: pbkdf2}}\n"),
    ] {
        shown.push_str(&read(&text).unwrap_err().render(false));
        shown.push('\n');
    }
    insta::assert_snapshot!(shown);
    assert!(read(&format!("{SANDBOX}main_service:\n  canary: false\nsandbox: {{}}\n")).is_ok());
}

#[test]
fn several_mistakes_of_form_are_told_at_once_too() {
    let text = "\
regoin: eu-west-1
name: demo
name: demo
cluster:
  log_retention_days: many
  unknown: 1
vpc_cidr: 10.0.0.0/8
argocd_repository_url: git@github.com:acme/platform.git
";
    insta::assert_snapshot!(read(text).unwrap_err().render(false));
}

#[test]
fn the_cluster_version_is_asked_of_the_calendar_of_the_day() {
    let on = |version: &str, today| {
        let source = Source {
            path: "environments/demo.yaml".into(),
            text: format!("{REPOSITORY}cluster_version: {version}\n"),
        };
        match parse(source, "demo", today) {
            Ok(loaded) => format!("taken\n{}", loaded.warnings.render(false)),
            Err(diagnostics) => format!("refused\n{}", diagnostics.render(false)),
        }
    };
    let mut shown = String::new();
    for (version, today) in [
        ("\"1.25\"", TODAY),
        ("\"1.30\"", TODAY),
        ("1.30", TODAY),
        ("\"1.32\"", TODAY),
        ("\"1.35\"", TODAY),
        ("\"1.36\"", TODAY),
        ("\"1.30\"", jiff::civil::date(2026, 7, 23)),
        ("\"1.30\"", jiff::civil::date(2026, 7, 24)),
        ("\"1.35\"", jiff::civil::date(2027, 6, 1)),
        ("\"1.35\"", jiff::civil::date(2030, 1, 1)),
    ] {
        let _ = writeln!(shown, "## {version} on {today}: {}", on(version, today));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn a_version_without_quotes_is_the_version_that_is_written() {
    for (written, meant) in [
        ("1.30", "1.30"),
        ("\"1.30\"", "1.30"),
        ("1.33", "1.33"),
        ("'1.33'", "1.33"),
    ] {
        let environment = environment(&format!("{REPOSITORY}cluster_version: {written}\n"));
        assert_eq!(environment.cluster_version.to_string(), meant);
    }
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let environment = environment(REPOSITORY);
    insta::assert_snapshot!(serde_json::to_string_pretty(&environment).unwrap());
}

#[test]
fn an_environment_has_the_name_of_its_file() {
    assert!(read_as("demo", REPOSITORY).unwrap().warnings.items.is_empty());
    assert_eq!(environment(REPOSITORY).name.as_str(), "demo");
    let mut shown = String::new();
    for (stem, text) in [
        ("prod", REPOSITORY.to_owned()),
        (
            "prod",
            format!("# A copy\n{REPOSITORY}name: demo # of this\nregion: us-east-1\n"),
        ),
        ("Prod", format!("name: prod\n{REPOSITORY}")),
        ("prod", format!("name: null\n{REPOSITORY}")),
    ] {
        let diagnostics = read_as(stem, &text).unwrap_err();
        let _ = writeln!(shown, "{}", diagnostics.render(false));
    }
    insta::assert_snapshot!(shown);
    // What stands in the way is told, and not that a name is missing.
    let diagnostics = read_as("prod", &format!("{REPOSITORY}name: [prod]\n")).unwrap_err();
    assert_eq!(diagnostics.items.len(), 1, "{}", diagnostics.render(false));
}

#[test]
fn a_setting_that_is_missing_has_a_line_too() {
    let place = |text: &str| {
        let (line, column, _) = offending(text);
        (line, column)
    };
    assert_eq!(place("name: demo\nargocd_repository_url:\n"), (2, 1));
    assert_eq!(place("name: demo\nargocd_repository_url: ~\n"), (2, 1));
    assert_eq!(place("# A remark\n\nname: demo\nregion: eu-west-1\n"), (3, 1));
    assert_eq!(place(""), (1, 1));
}

#[test]
fn principals_are_of_the_partition_of_the_region() {
    for (region, partition) in [
        ("eu-west-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
    ] {
        for named in ["aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b"] {
            let text = format!(
                "{REPOSITORY}region: {region}\naccess:\n  administrators: ['arn:{named}:iam::123456789012:role/x']\n"
            );
            assert_eq!(read(&text).is_ok(), named == partition, "{named} in {region}");
        }
    }
}

#[test]
fn a_file_that_is_no_environment_is_refused_as_a_whole() {
    let mut shown = String::new();
    for text in [
        "",
        "\n\n",
        "# nothing but a remark\n",
        "---\n",
        "---\n...\n",
        "null\n",
        "just text\n",
        "- a\n- list\n",
        "42\n",
        "{}\n",
        "name: demo\n\tregion: eu-west-1\n",
        "\tname: demo\n",
        "name: demo\n  region: eu-west-1\n",
        "name: [demo\n",
        "name: \"demo\n",
        "name: demo\n---\nname: other\n",
        "name: &x demo\nregion: *y\n",
        "name: \u{1}demo\n",
        "name: !!binary aGVsbG8=\n",
        "? [complex, key]\n: value\n",
        "name: @demo\n",
        "name: %demo\n",
    ] {
        let _ = writeln!(shown, "## {text:?}");
        match read(text) {
            Ok(_) => shown.push_str("taken\n"),
            Err(diagnostics) => shown.push_str(&diagnostics.render(false)),
        }
        shown.push('\n');
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn anchors_and_aliases_work_and_a_mistake_is_shown_where_the_alias_stands() {
    let environment = environment(&format!("{REPOSITORY}name: &n demo\nargocd:\n  secret_name: *n\n"));
    assert_eq!(environment.names.argocd_secret, "demo");
    let text = format!("{REPOSITORY}argocd:\n  secret_name: &a x1\nnetwork:\n  nat_gateways: *a\n");
    assert_eq!(offending(&text), (5, 17, "*a".to_owned()));
}

#[test]
fn a_bomb_of_aliases_is_refused_quickly() {
    let mut text = String::from(REPOSITORY);
    text.push_str("tags:\n  a: &a0 x\n");
    text.push_str("instance_types: &b0 [a, a, a, a, a, a, a, a, a]\n");
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let last = i - 1;
        let _ = writeln!(bomb, "a{i}: &a{i} [{}]", vec![format!("*a{last}"); 9].join(", "));
    }
    let began = std::time::Instant::now();
    assert!(read(&bomb).is_err());
    assert!(read(&format!("{REPOSITORY}instance_types: &x [*x]\n")).is_err());
    assert!(began.elapsed().as_secs() < 5, "took {:?}", began.elapsed());
}

#[test]
fn a_deep_or_huge_file_is_refused_without_a_crash() {
    for text in [
        format!("name: {}\n", "[".repeat(100_000)),
        format!("name: {}\n", "{a: ".repeat(100_000)),
        format!("name: {}\n", "x".repeat(3_000_000)),
        "a: 1\n".repeat(20_000),
        (0..20_000).fold(String::new(), |mut text, i| {
            let _ = writeln!(text, "key{i}: {i}");
            text
        }),
        format!("# {}\n", "x".repeat(3_000_000)),
    ] {
        let began = std::time::Instant::now();
        let diagnostics = read(&text).unwrap_err();
        let shown = diagnostics.render(false);
        assert!(
            shown.len() < 20_000,
            "{} characters are shown for a mistake",
            shown.len()
        );
        assert!(began.elapsed().as_secs() < 10, "took {:?}", began.elapsed());
    }
}

#[test]
fn a_secret_in_a_url_is_not_repeated() {
    let mut texts: Vec<String> = [
        "https://user:hunter2@github.com/acme/platform",
        "http://user:hunter2@github.com/acme/platform",
        "https://hunter2@github.com/acme/platform",
        "ssh://git:hunter2@github.com/acme/platform",
        "https://user:12/hunter2@github.com/acme/platform",
        "user:hunter2@github.com:acme/platform",
        "\"https://user:hunter2@github.com/acme/plat form\"",
    ]
    .iter()
    .map(|url| format!("argocd_repository_url: {url}\n"))
    .collect();
    texts.extend(
        [
            "https://user:hunter2@git.example.com",
            "ftp://user:hunter2@git.example.com",
        ]
        .map(|url| format!("{REPOSITORY}git:\n  api_url: {url}\n")),
    );
    texts.push(format!(
        "{REPOSITORY}images:\n  registry: https://user:hunter2@ghcr.io/acme\n"
    ));
    // Another mistake shows the line as well.
    texts.push("argocd_repository_url: [https://user:hunter2@github.com/acme/platform]\n".to_owned());
    for text in texts {
        let diagnostics = read(&text).unwrap_err();
        let json = serde_json::to_string(&diagnostics.to_json()).unwrap();
        for shown in [diagnostics.render(false), diagnostics.render(true), json] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        let url = text.lines().next().unwrap();
        if url.contains("hunter2") && !url.contains('[') {
            assert!(
                diagnostics.items[0].message.contains("credentials"),
                "{}",
                diagnostics.render(false)
            );
        }
    }
}

#[test]
fn hostile_text_is_refused_or_stays_data() {
    for hostile in [
        "x\"; echo pwned; \"",
        "${file(\"/etc/passwd\")}",
        "%{ for x in y }",
        "{{ .Values.x }}",
        "@{ name }@",
        "<% include \"x\" %>",
        "a\nb: c",
        "a\r\nb",
        "\u{0}",
        "\u{2028}",
        "*alias",
        "!!python/object/apply:os.system [id]",
        "`id`",
        "$(id)",
        "'; DROP TABLE x; --",
        "../../etc/passwd",
    ] {
        let quoted = serde_json::to_string(hostile).unwrap();
        for setting in SETTINGS {
            let text = file(setting, &quoted);
            // Folders and programs of the user's own machine may be called anything.
            let Ok(loaded) = read(&text) else { continue };
            assert!(
                [
                    "backend.key",
                    "backend.kms_key_id",
                    "backend.encryption.kms_key_id",
                    "git.token_file",
                    "mirrors.terraform_providers",
                    "terraform.program"
                ]
                .contains(&setting.path)
                    || hostile == "../../etc/passwd",
                "{} takes {hostile:?}",
                setting.path
            );
            let kept = serde_json::to_value(&loaded.environment).unwrap().to_string();
            assert!(
                kept.contains(quoted.trim_matches('"')),
                "{} changed {hostile:?}: {kept}",
                setting.path
            );
        }
    }
}

#[test]
fn a_well_known_host_is_known_by_its_name() {
    use mfsre::config::GitHost;
    for (url, host) in [
        ("git@github.com:acme/platform.git", GitHost::Github),
        ("ssh://git@ssh.github.com:443/acme/platform.git", GitHost::Github),
        ("git@gitlab.com:acme/infra/platform.git", GitHost::Gitlab),
        ("ssh://git@altssh.gitlab.com:443/acme/platform.git", GitHost::Gitlab),
        ("git@codeberg.org:acme/platform.git", GitHost::Forgejo),
        ("git@gitea.com:acme/platform.git", GitHost::Gitea),
        ("git@git.example.com:acme/platform.git", GitHost::Manual),
    ] {
        let environment = environment(&format!("argocd_repository_url: {url}\n"));
        assert_eq!(environment.git.host, host, "{url}");
    }
}
