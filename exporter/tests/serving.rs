//! What the exporter serves, how it begins and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::target::{Target, answer, counters};
use support::{Exporter, command, encode, eventually, file, get, request, run, value};

#[test]
fn the_format_is_negotiated() {
    let target = Target::json(&counters(1));
    let exporter = Exporter::ready(&["--target", &target.url()]);
    let text = exporter.get("/metrics");
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(text.header("vary"), Some("accept, accept-encoding"));
    let text = text.text();
    assert!(text.contains("# TYPE http_requests_total counter\n") && !text.contains("# EOF"));

    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let open = get(exporter.address, "/metrics", &[("Accept", accept)]);
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let open = open.text();
    assert!(open.contains("# TYPE http_requests counter\n") && open.ends_with("\n# EOF\n"));
    assert!(open.contains("# UNIT exporter_poll_duration_seconds seconds\n"));
}

#[test]
fn answers_are_compressed_where_that_is_wanted() {
    let target = Target::json(&counters(1));
    let exporter = Exporter::ready(&["--target", &target.url()]);
    let coded = get(exporter.address, "/metrics", &[("Accept-Encoding", "gzip")]);
    assert_eq!(coded.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*coded.body)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(
        value(&text, &format!("http_requests_total{}", target.label())),
        Some(1.0)
    );
    assert!(coded.body.len() < text.len() / 3);
    assert!(exporter.get("/metrics").header("content-encoding").is_none());
}

/// By somebody else's parser.
#[test]
fn what_is_served_can_be_parsed() {
    let target = Target::json(&counters(12));
    let exporter = Exporter::ready(&["--target", &target.url()]);
    let text = exporter.metrics();
    let scrape = prometheus_parse::Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let address = target.address.to_string();
    let sample = scrape
        .samples
        .iter()
        .find(|sample| sample.metric == "http_requests_total")
        .unwrap();
    assert_eq!(sample.value, prometheus_parse::Value::Counter(12.0));
    assert_eq!(sample.labels.get("target"), Some(address.as_str()));
    let histogram = scrape
        .samples
        .iter()
        .find(|sample| sample.metric == "exporter_poll_duration_seconds");
    assert!(matches!(&histogram.unwrap().value, prometheus_parse::Value::Histogram(buckets) if buckets.len() == 13));
    assert!(text.lines().filter(|line| !line.starts_with('#')).count() >= scrape.samples.len());
}

/// By Prometheus's own linter, where the machine has it.
#[test]
fn promtool_has_nothing_to_say() {
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        return;
    };
    let target = Target::json(&counters(12));
    let exporter = Exporter::ready(&["--target", &target.url()]);
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(exporter.metrics().as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn other_paths_and_methods_are_refused() {
    let target = Target::json(&counters(1));
    let exporter = Exporter::ready(&["--target", &target.url()]);
    assert!(exporter.get("/").text().contains("/metrics"));
    assert_eq!(exporter.get("/nothing").status, 404);
    let refused = request(exporter.address, "POST", "/metrics", &[("Content-Length", "0")]);
    assert_eq!(refused.status, 405);
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
    let head = request(exporter.address, "HEAD", "/metrics", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn an_idle_client_keeps_no_other_from_being_served() {
    let target = Target::json(&counters(1));
    let exporter = Exporter::ready(&["--target", &target.url()]);
    let idle: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(exporter.address).unwrap())
        .collect();
    assert_eq!(exporter.get("/healthz").status, 200);
    drop(idle);
}

/// A configuration whose module `any` may be used to probe these origins.
fn probing(origins: &[String]) -> (tempfile::TempDir, String) {
    file(
        "exporter.yaml",
        &format!(
            "modules:\n  any:\n    probe: {{allow: {}}}\n    metrics: [{{name: v, value: $.v, labels: {{a: '{{$.a}}'}}}}]\n",
            serde_json::to_string(origins).unwrap()
        ),
    )
}

fn probe(exporter: &Exporter, target: &str) -> support::Reply {
    exporter.get(&format!("/probe?module=any&target={}", encode(target)))
}

#[test]
fn allowed_targets_are_probed() {
    let target = Target::json(r#"{"v": 1.5, "a": "b"}"#);
    let (_dir, config) = probing(&[format!("http://{}", target.address)]);
    let exporter = Exporter::ready(&["--config", &config]);
    let reply = probe(&exporter, &format!("http://{}/a?b=c", target.address));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.text(), "# TYPE v untyped\n# HELP v \nv{a=\"b\"} 1.5\n");
    assert!(target.requests()[0].starts_with("GET /a?b=c HTTP/1.1\r\n"));
    assert_eq!(exporter.value("exporter_probe_duration_seconds_count"), Some(1.0));
    for _ in 0..5 {
        probe(&exporter, &target.url());
    }
    assert_eq!(target.connections(), 1);
}

#[test]
fn what_is_not_allowed_is_not_probed() {
    use support::dns::{NameServer, Say};
    let target = Target::json(r#"{"v": 1}"#);
    let port = target.address.port();
    let names = NameServer::start();
    names.say("allowed.test", Say::addresses(&["127.0.0.1"]));
    names.say("metadata.test", Say::addresses(&["169.254.169.254"]));
    names.say("localhost", Say::addresses(&["127.0.0.1"]));
    let (_dir, config) = probing(&[format!("http://*.test:{port}"), "http://*.test".to_owned()]);
    let exporter = Exporter::ready(&["--config", &config, "--dns-server", &names.argument()]);
    for (url, status) in [
        (target.url(), 403),
        (format!("http://localhost:{port}/"), 403),
        (format!("http://0x7f000001:{port}/"), 403),
        (format!("http://[::ffff:127.0.0.1]:{port}/"), 403),
        // Allowed by name, but a name may lead anywhere.
        (format!("http://allowed.test:{port}/"), 403),
        ("http://metadata.test/latest/meta-data/".to_owned(), 403),
        (format!("http://absent.test:{port}/"), 502),
        (format!("https://allowed.test:{port}/"), 403),
        (format!("http://allowed.test@127.0.0.1:{port}/"), 400),
        ("file:///etc/passwd".to_owned(), 400),
        ("nonsense".to_owned(), 400),
        (String::new(), 400),
    ] {
        let reply = probe(&exporter, &url);
        let answered = reply.status;
        assert_eq!(answered, status, "{url}: {}", reply.text());
    }
    assert_eq!(exporter.get("/probe").status, 400);
    assert_eq!(exporter.get("/probe?target=http://a.test/&module=none").status, 400);
    let unknown = exporter.get("/probe?target=http://a.test/&debug=true");
    assert_eq!(unknown.status, 400);
    assert!(unknown.text().contains("\"debug\" is not known; the module has none"));
    assert_eq!(
        exporter.get("/probe?target=http://a.test/").status,
        403,
        "the default module allows nothing"
    );
    assert!(target.requests().is_empty());
    let forbidden = exporter.value("exporter_probe_errors_total{reason=\"forbidden\"}");
    assert!(forbidden.unwrap() >= 7.0);
}

/// json_exporter issues 106, 265: one module for several requests.
#[test]
fn a_probe_s_parameters_go_into_its_request_and_nowhere_else() {
    let target = Target::json(r#"{"v": 1}"#);
    let (_dir, config) = file(
        "exporter.yaml",
        &format!(
            "modules:\n  any:\n    parameters: {{site: , window: 5m}}\n    probe: {{allow: ['http://{}']}}\n    request:\n      \
             headers: {{X-Site: 's-${{site}}'}}\n      body: '{{\"site\": \"${{site}}\", \"window\": \"${{window}}\"}}'\n    \
             metrics: [{{name: v, value: $.v}}]\n",
            target.address
        ),
    );
    let exporter = Exporter::ready(&["--config", &config]);
    let ask = |query: &str| exporter.get(&format!("/probe?module=any&target={}{query}", encode(&target.url())));
    assert_eq!(ask("&site=north%2F1").status, 200);
    assert_eq!(ask("&window=1h&site=south").status, 200);
    for (request, header, body) in [
        (0, "x-site: s-north/1\r\n", r#"{"site": "north/1", "window": "5m"}"#),
        (1, "x-site: s-south\r\n", r#"{"site": "south", "window": "1h"}"#),
    ] {
        let request = &target.requests()[request];
        assert!(
            request.starts_with("POST /metrics HTTP/1.1\r\n") && request.contains(header),
            "{request}"
        );
        assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
    }
    for (query, message) in [
        ("", "needs the parameter \"site\""),
        ("&site=a&sight=b", "\"sight\" is not known; there are site, window"),
        ("&site=a%22%2C%22admin%22%3A%22b", "the parameter \"site\" has letters"),
        ("&site=a%0D%0AX-Other%3A+b", "the parameter \"site\" has letters"),
    ] {
        let reply = ask(query);
        assert_eq!(reply.status, 400, "{query}");
        let text = reply.text();
        assert!(text.contains(message), "{query}: {text}");
    }
    assert_eq!(target.requests().len(), 2);

    let output = run(&[
        "check",
        "--mapping",
        &config,
        "--module",
        "any",
        "--parameter",
        "site=x",
        &target.url(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(target.requests()[2].contains("x-site: s-x\r\n"));
}

#[test]
fn a_probe_says_what_went_wrong() {
    let trap = Target::json(r#"{"v": 1}"#);
    let redirect = Target::raw(format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        trap.url()
    ));
    let missing = Target::json("{}");
    let slow = Target::start(|_, _| {
        std::thread::sleep(Duration::from_secs(60));
        false
    });
    let origins: Vec<String> = [&redirect, &missing, &slow]
        .iter()
        .map(|target| format!("http://{}", target.address))
        .collect();
    let (_dir, config) = probing(&origins);
    let exporter = Exporter::ready(&["--config", &config, "--timeout", "300ms"]);
    for (target, status, message) in [
        (&redirect, 502, "redirects are not followed"),
        (&missing, 502, "v: nothing at $.v"),
        (&slow, 504, "no complete answer within 300ms"),
    ] {
        let reply = probe(&exporter, &target.url());
        assert_eq!(reply.status, status);
        let text = reply.text();
        assert!(text.contains(message), "{text}");
    }
    assert!(trap.requests().is_empty());
    drop(missing);
    // Its listener ends a moment later.
    eventually("nobody listens there", || {
        let reply = probe(&exporter, &format!("{}/", origins[1]));
        assert_eq!(reply.status, 502);
        reply.text().contains("cannot connect").then_some(())
    });
}

#[test]
fn too_many_requests_wait_and_then_fail() {
    let slow = Target::start(|_, stream| {
        std::thread::sleep(Duration::from_millis(400));
        answer(stream, r#"{"v": 1}"#)
    });
    let (_dir, config) = probing(&[format!("http://{}", slow.address)]);
    let exporter = Exporter::ready(&["--config", &config, "--concurrency", "1", "--timeout", "600ms"]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let probes: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| probe(&exporter, &slow.url()).status))
            .collect();
        probes.into_iter().map(|probe| probe.join().unwrap()).collect()
    });
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
}

#[test]
fn a_shutdown_lets_requests_end_and_takes_no_new_ones() {
    let slow = Target::start(|_, stream| {
        std::thread::sleep(Duration::from_millis(800));
        answer(stream, r#"{"v": 1}"#)
    });
    let (_dir, config) = probing(&[format!("http://{}", slow.address)]);
    let mut exporter = Exporter::ready(&["--config", &config]);
    let address = exporter.address;
    // A client that keeps its connection without using it must not hold up the end.
    let idle = TcpStream::connect(address).unwrap();
    let url = slow.url();
    let under_way =
        std::thread::spawn(move || get(address, &format!("/probe?module=any&target={}", encode(&url)), &[]));
    eventually("the probe is under way", || (!slow.requests().is_empty()).then_some(()));
    exporter.terminate();
    assert_eq!(under_way.join().unwrap().status, 200);
    assert!(exporter.wait().success());
    // Another test's server may have got the port meanwhile, for a while.
    eventually("nobody listens there", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    // The process may end before the test has read its last line.
    eventually("it says that it stopped", || {
        (exporter.log().last()?["message"] == "stopped").then_some(())
    });
    drop(idle);
}

#[test]
fn check_prints_the_metrics_of_a_file_or_a_url() {
    let (dir, mapping) = file(
        "mapping.yaml",
        "modules: {default: {metrics: [{name: v, help: A value, type: gauge, each: '$[*]', value: '@.n', labels: {id: '{@.id}'}}]}}",
    );
    let document = dir.path().join("data.json");
    std::fs::write(&document, r#"[{"id": "a", "n": 1}, {"id": "b", "n": 2}]"#).unwrap();
    let output = run(&["check", "--mapping", &mapping, document.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "# TYPE v gauge\n# HELP v A value\nv{id=\"a\"} 1\nv{id=\"b\"} 2\n"
    );
    let target = Target::json(&counters(9));
    let output = run(&["check", &target.url()]);
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("\nhttp_requests_total 9\n")
    );
}

#[test]
fn check_tells_what_is_wrong() {
    let (dir, mapping) = file(
        "mapping.yaml",
        "modules:\n  default:\n    metrics:\n      - name: v\n        value: $..x\n",
    );
    let document = dir.path().join("data.json");
    std::fs::write(&document, "{}").unwrap();
    let document = document.to_str().unwrap();
    let target = Target::json("{}");
    let url = target.url();
    for (arguments, code, message) in [
        (
            &["check", "--mapping", &mapping, document][..],
            78,
            "mapping.yaml:5:16: \"$..x\": `..` is not supported",
        ),
        (
            &["check", "--mapping", "/nowhere.yaml", document],
            78,
            "cannot read the configuration /nowhere.yaml",
        ),
        (&["check", "--module", "x", document], 78, "no module \"x\""),
        (
            &["check", document],
            1,
            "http_requests_total: nothing at $.request_count",
        ),
        (&["check", "/nowhere.json"], 1, "cannot read the document /nowhere.json"),
        (&["check", &url], 1, "http_requests_total: nothing at $.request_count"),
        (&["check", "http://127.0.0.1:0/"], 1, "0 is no port"),
        (
            &["check", "http://absent.invalid./", "--dns-server", "127.0.0.1:9"],
            1,
            "cannot find the address of absent.invalid.",
        ),
        (&["check"], 64, "FILE|URL"),
        (&["check", "--parameter", "x", &url], 64, "NAME=VALUE"),
        (
            &["check", "--parameter", "x=y", &url],
            1,
            "--parameter: the parameter \"x\" is not known; the module has none",
        ),
    ] {
        let output = run(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(message), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn what_cannot_be_served_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, code, message) in [
        (&["--listen", "127.0.0.1:0"][..], 78, "nothing to do: no target"),
        (
            &["serve", "--target", "main:8080"],
            78,
            "\"main:8080\" is no URL to poll",
        ),
        (
            &["--target", "http://a/", "--listen", &taken],
            1,
            "choose another address with --listen",
        ),
        (
            &["--target", "http://a/", "--config", "/nowhere"],
            78,
            "cannot read the configuration /nowhere",
        ),
        (&["--period", "0s"], 64, "above 0"),
        (&["--nonsense"], 64, "--nonsense"),
    ] {
        let output = run(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(message), "{arguments:?}: {text}");
    }
}

#[test]
fn variables_count_as_options_with_and_without_the_subcommand() {
    for arguments in [&[][..], &["serve"]] {
        let output = |name: &str, value: &str| {
            let output = command()
                .env("MAIN_APP_URL", "http://127.0.0.1:9/")
                .env(name, value)
                .args(arguments)
                .output()
                .unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, text) = output("EXPORTER_LISTEN", "nowhere");
        assert_eq!(code, Some(64), "{text}");
        assert!(text.contains("--listen"), "{text}");
        let (code, text) = output("EXPORTER_CONFIG", "/nowhere");
        assert_eq!(code, Some(78), "{text}");
        let (code, text) = output("MAIN_APP_URL", "ftp://a");
        assert_eq!(code, Some(78), "{text}");
    }
}

#[test]
fn help_and_version_are_printed() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("MAIN_APP_URL") && text.contains("--dns-server"), "{text}");
    assert!(
        String::from_utf8(run(&["--version"]).stdout)
            .unwrap()
            .starts_with("mfsre-exporter ")
    );
}

/// docs/exporter.md: its configurations can be read, and it leaves out no option.
#[test]
fn the_documentation_is_right() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/exporter.md");
    let documentation = std::fs::read_to_string(path).unwrap();
    let mut configurations = 0;
    for block in documentation.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let text = if block.starts_with("- ") {
            let metrics: String = block.lines().map(|line| format!("      {line}\n")).collect();
            format!("modules:\n  default:\n    metrics:\n{metrics}")
        } else if block.starts_with("modules:") {
            block.to_owned()
        } else {
            // Prometheus's own.
            continue;
        };
        configurations += 1;
        let (dir, config) = file("exporter.yaml", &text);
        let document = dir.path().join("empty.json");
        std::fs::write(&document, "{}").unwrap();
        let output = run(&["check", "--mapping", &config, document.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        // The document has nothing of what is read.
        assert_eq!(output.status.code(), Some(1), "{said}\n{text}");
        assert!(said.contains("nothing at"), "{said}");
    }
    assert_eq!(configurations, 3);
    for command in [&["--help"][..], &["check", "--help"]] {
        let help = String::from_utf8(run(command).stdout).unwrap();
        let options = help.split_whitespace().filter(|word| word.starts_with("--"));
        for option in options.filter(|option| !["--help", "--version"].contains(option)) {
            assert!(
                documentation.contains(&format!("`{option}")),
                "{option} is not in docs/exporter.md"
            );
        }
        let variables = help.split("[env: ").skip(1).map(|rest| rest.split('=').next().unwrap());
        for variable in variables.filter(|variable| !["EXPORTER_MODULE", "EXPORTER_PARAMETER"].contains(variable)) {
            assert!(
                documentation.contains(&format!("`{variable}`")),
                "{variable} is not in docs/exporter.md"
            );
        }
    }
    for reason in Exporter::ready(&["--target", &Target::json("{}").url()])
        .metrics()
        .lines()
        .filter_map(|line| line.strip_prefix("exporter_poll_errors_total{reason=\""))
        .map(|rest| rest.split('"').next().unwrap().to_owned())
    {
        assert!(
            documentation.contains(&format!("`{reason}`")),
            "{reason} is not in docs/exporter.md"
        );
    }
}

#[test]
fn the_documentation_s_paths_find_what_they_should() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/exporter.md");
    let documentation = std::fs::read_to_string(path).unwrap();
    let mut blocks = documentation.split("```yaml\n").skip(1);
    let block = blocks.find(|block| block.starts_with("- ")).unwrap();
    let examples = [
        (
            "app_processes",
            r#"{"applications": {"shop": {"processes": {"running": 3}}}}"#,
            r#"app_processes{application="shop"} 3"#,
        ),
        (
            "store_online",
            r#"[{"name": "Oxford", "online": true, "properties": [{"key": "customer", "value": "G"}]}]"#,
            r#"store_online{customer="G",store="Oxford"} 1"#,
        ),
        (
            "services_down",
            r#"{"components": [{"status": "DOWN"}, {"status": "UP"}]}"#,
            "services_down 1",
        ),
        ("kp_index", r#"[["2024-09-16", 2], ["2024-09-17", 3]]"#, "kp_index 3"),
        (
            "user_seen_seconds",
            r#"[{"name": "ann", "last_activity_on": "2024-09-17T10:00:00+02:00"}]"#,
            r#"user_seen_seconds{user="ann"} 1726560000"#,
        ),
    ];
    let block = format!("\n{}", block.split("```").next().unwrap());
    let metrics: Vec<&str> = block.split("\n- ").skip(1).collect();
    assert_eq!(metrics.len(), examples.len());
    for (metric, (name, document, sample)) in metrics.into_iter().zip(examples) {
        assert!(metric.contains(&format!("name: {name}")), "{metric}");
        let metric = format!("- {metric}").replace('\n', "\n      ");
        let (dir, config) = file(
            "exporter.yaml",
            &format!("modules:\n  default:\n    metrics:\n      {metric}\n"),
        );
        let path = dir.path().join("document.json");
        std::fs::write(&path, document).unwrap();
        let output = run(&["check", "--mapping", &config, path.to_str().unwrap()]);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(
            printed.lines().any(|line| line == sample),
            "{printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
