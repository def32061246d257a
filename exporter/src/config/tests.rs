use super::*;

fn mistakes(text: &str) -> String {
    read::read("c.yaml", text).unwrap_err().to_string()
}

/// The mistakes in one metric, which begins at line 4.
fn metric(yaml: &str) -> String {
    mistakes(&format!("modules:\n  default:\n    metrics:\n      - {yaml}\n"))
}

#[test]
fn the_built_in_mapping_is_that_of_the_main_service() {
    let config = Config::load(None, &["http://a/x, http://b/y http://c/".to_owned()]).unwrap();
    let names: Vec<&str> = config.modules[0]
        .mapping
        .families()
        .iter()
        .map(|family| &*family.name)
        .collect();
    assert_eq!(
        names,
        [
            "http_requests_total",
            "http_400_response_total",
            "http_500_response_total"
        ]
    );
    let urls: Vec<&str> = config.targets.iter().map(|target| target.url.as_str()).collect();
    assert_eq!(urls, ["http://a/x", "http://b/y", "http://c/"]);
    assert!(
        config.modules[0].allow.is_empty(),
        "nothing may be probed unless somebody says so"
    );
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text = "\
targets:
  - url: ftp://a
  - url: http://b
    module: other
    labels: {target: x}
modules:
  default:
    probe: {allow: [nowhere]}
    request:
      headers: {Host: x}
      valid_status: [99]
    metrics:
      - {name: 1a, value: $.}
      - {name: b_total, value: $.b, labels: {__x: y}}
";
    assert_eq!(
        mistakes(text)
            .lines()
            .map(|line| line.split_once(": ").unwrap().0)
            .collect::<Vec<_>>(),
        [
            "c.yaml:2:10",
            "c.yaml:5:22",
            "c.yaml:8:21",
            "c.yaml:10:23",
            "c.yaml:11:22",
            "c.yaml:13:16",
            "c.yaml:13:27",
            "c.yaml:14:16",
            "c.yaml:14:51"
        ]
    );
}

#[test]
fn the_form_of_the_file_is_checked() {
    for (text, place, message) in [
        ("targetz: []\n", "c.yaml:1:1", "targetz"),
        ("targets: [{module: x}]\n", "c.yaml:1:12", "url"),
        ("modules: {m: {}}\n", "c.yaml:1:14", "metrics"),
        ("targets:\n\t- url: x\n", "c.yaml:2", "tab"),
        (
            "modules: {m: {metrics: [{name: a, value: $.a, type: summary}]}}\n",
            "c.yaml:1:53",
            "summary",
        ),
    ] {
        let error = mistakes(text);
        assert!(error.starts_with(place), "{text}: {error}");
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn a_metric_s_mistakes_are_told() {
    for (yaml, message) in [
        ("{name: a-b, value: $.a}", "\"a-b\" is no name of a metric"),
        ("{name: exporter_a, value: $.a}", "the exporter's own"),
        (
            "{name: a, type: counter, value: $.a}",
            "a counter's name ends in _total: a_total",
        ),
        ("{name: a_total, value: $.a}", "only a counter's name ends in _total"),
        ("{name: a_created, value: $.a}", "keeps names that end in _created"),
        (
            "{name: a_bucket_total, type: counter, value: $.a}",
            "keeps names that end in _bucket",
        ),
        ("{name: a, unit: bytes, value: $.a}", "ends in _bytes"),
        (
            "{name: a_total, type: counter, unit: bytes, value: $.a}",
            "ends in _bytes_total",
        ),
        ("{name: a, value: b}", "neither a path"),
        ("{name: a, value: nan}", "neither a path"),
        ("{name: a, value: count($.a)}", "count(...) counts elements"),
        ("{name: a, value: 'count($.a[*]~)'}", "count(...) counts elements"),
        ("{name: a, value: count(a)}", "a path begins with"),
        ("{name: a, value: 'count(^.a[*])'}", "leads out of the document"),
        ("{name: a, value: $..b}", "`..` is not supported"),
        ("{name: a, value: '^.b'}", "leads out of the document"),
        ("{name: a, each: '$.x[*]', value: '^^.b'}", "leads out of the document"),
        ("{name: a, value: '@~'}", "leads out of the document"),
        ("{name: a, each: $.b, value: 1}", "has [*], .* or a filter"),
        ("{name: a, each: '@[*]', value: 1}", "begins with $"),
        ("{name: a, value: $.a, scale: .inf}", "finite"),
        ("{name: a, value: $.a, map: {x: .nan}}", "finite"),
        (
            "{name: a, value: $.a, default: 1, optional: true}",
            "choose one of `default` and `optional`",
        ),
        ("{name: a, value: $.a, pattern: '('}", "\"(\""),
        ("{name: a, value: $.a, created: {path: $.b}}", "only a counter"),
        ("{name: a, value: $.a, labels: {l: '{$.a'}}", "between { and }"),
        ("{name: a, value: $.a, labels: {l: 'a}b'}}", "between { and }"),
        ("{name: a, value: $.a, labels: {l: '{x}'}}", "a path begins with"),
        ("{name: a, value: $.a, labels: {0l: x}}", "no name of a label"),
        ("{name: a, value: $.a, labels: {target: x}}", "the exporter's own"),
        (
            "{name: a, value: $.a}\n      - {name: a, type: gauge, value: $.b}",
            "with another help, type or unit",
        ),
    ] {
        let error = metric(yaml);
        assert!(
            error.starts_with("c.yaml:4:") || error.starts_with("c.yaml:5:"),
            "{yaml}: {error}"
        );
        assert!(error.contains(message), "{yaml}: {error}");
        assert_eq!(error.lines().count(), 1, "{yaml}: {error}");
    }
    assert!(mistakes("modules: {m: {metrics: []}}").contains("a module needs metrics"));
}

#[test]
fn a_module_s_request_is_checked() {
    for (yaml, message) in [
        ("{headers: {'a b': x}}", "no name of a header"),
        ("{headers: {X: \"a\\nb\"}}", "one line of visible characters"),
        ("{header_files: {Host: /x}}", "set by the exporter"),
        (
            "{bearer_token_file: /x, basic_auth: {username: u, password_file: /y}}",
            "choose one",
        ),
        ("{basic_auth: {username: 'u:v', password_file: /y}}", "no colon"),
        ("{valid_status: [200, 700]}", "from 200 to 599"),
        ("{tls: {cert_file: /x}}", "belong together"),
        ("{tls: {server_name: 'a b'}}", "no name of a host"),
        ("{tls: {ca_file: /nowhere/ca.pem}}", "/nowhere/ca.pem: cannot read"),
        ("{tls: {pinned_file: /nowhere/it.pem}}", "/nowhere/it.pem: cannot read"),
        (
            "{tls: {pinned_file: /x, server_name: a}}",
            "leave out ca_file and server_name",
        ),
    ] {
        let text = format!("modules:\n  m:\n    request: {yaml}\n    metrics: [{{name: a, value: $.a}}]\n");
        let error = mistakes(&text);
        assert!(error.starts_with("c.yaml:3:"), "{yaml}: {error}");
        assert!(error.contains(message), "{yaml}: {error}");
    }
}

#[test]
fn parameters_are_checked() {
    for (yaml, place, message) in [
        ("parameters: {target: x}", "c.yaml:3:", "of /probe itself"),
        ("parameters: {a: '{}'}", "c.yaml:3:", "has letters"),
        (
            "parameters: {a: }\n    request: {body: '${b}'}",
            "c.yaml:4:",
            "\"b\" is not among",
        ),
        (
            "parameters: {a: }\n    request: {headers: {X: '${a'}}",
            "c.yaml:4:",
            "after ${",
        ),
    ] {
        let error = mistakes(&format!(
            "modules:\n  m:\n    {yaml}\n    metrics: [{{name: a, value: $.a}}]\n"
        ));
        assert!(error.starts_with(place) && error.contains(message), "{yaml}: {error}");
    }
    let module = "modules: {default: {parameters: {a: }, metrics: [{name: a, value: $.a}]}}";
    for (target, message) in [
        ("{url: 'http://a'}", "needs the parameter \"a\""),
        (
            "{url: 'http://a', parameters: {a: x, b: y}}",
            "\"b\" is not known; there are a",
        ),
        ("{url: 'http://a', parameters: {a: '\"'}}", "has letters"),
    ] {
        let error = mistakes(&format!("targets: [{target}]\n{module}\n"));
        assert!(
            error.starts_with("c.yaml:1:") && error.contains(message),
            "{target}: {error}"
        );
    }
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), module).unwrap();
    let error = Config::load(Some(path.path()), &["http://a/".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("needs the parameter \"a\""), "{error}");
}

#[test]
fn targets_are_checked() {
    let with = |target: &str| {
        mistakes(&format!(
            "targets: [{target}]\nmodules: {{m: {{metrics: [{{name: a, value: 1, labels: {{l: x}}}}]}}}}\n"
        ))
    };
    for (target, message) in [
        ("{url: 'http://u:p@a/', module: m}", "does not belong into a URL"),
        ("{url: a, module: m}", "relative URL"),
        ("{url: 'http://a:0/', module: m}", "0 is no port"),
        ("{url: 'http://a/', module: n}", "no module \"n\""),
        ("{url: 'http://a/', module: m, labels: {l: y}}", "a label \"l\" already"),
    ] {
        let error = with(target);
        assert!(
            error.starts_with("c.yaml:1:") && error.contains(message),
            "{target}: {error}"
        );
    }
}

#[test]
fn modules_that_are_exposed_together_agree() {
    let text = "\
targets: [{url: 'http://a', module: m}, {url: 'http://b', module: n}]
modules:
  m: {metrics: [{name: a, value: 1}]}
  n: {metrics: [{name: a, type: gauge, value: 1}]}
";
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), text).unwrap();
    let error = Config::load(Some(path.path()), &[]).unwrap_err();
    assert!(error.to_string().contains("of the modules m and n"), "{error}");
}

#[test]
fn a_file_keeps_the_built_in_module_unless_it_has_one() {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), "modules: {other: {metrics: [{name: a, value: 1}]}}").unwrap();
    let config = Config::load(Some(path.path()), &["http://a".to_owned()]).unwrap();
    assert_eq!(config.targets[0].module.mapping.families().len(), 3);
    std::fs::write(path.path(), "modules: {default: {metrics: [{name: a, value: 1}]}}").unwrap();
    let config = Config::load(Some(path.path()), &["http://a".to_owned()]).unwrap();
    assert_eq!(config.targets[0].module.mapping.families().len(), 1);
    let error = config.module("x").unwrap_err();
    assert!(error.to_string().contains("choose one of default"), "{error}");
}

#[test]
fn what_cannot_be_used_is_told() {
    let error = Config::load(Some(std::path::Path::new("/nowhere/c.yaml")), &[]).unwrap_err();
    assert!(error.to_string().contains("/nowhere/c.yaml"), "{error}");
    let error = Config::load(None, &["main-service:8080".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("must begin with http://"), "{error}");
    let error = Config::load(None, &["http://".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("next: set MAIN_APP_URL"), "{error}");
}
