//! Polling, from the outside: the real program against real servers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::dns::{NameServer, Say};
use support::target::{Target, answer, counters, free_port};
use support::{Exporter, eventually, get, value};

#[test]
fn a_target_s_counters_are_served() {
    let target = Target::json(&counters(37));
    let exporter = Exporter::start_with(&[], &[("MAIN_APP_URL", &target.url())]);
    exporter.wait_ready();
    let text = exporter.metrics();
    let label = target.label();
    assert!(text.contains("# TYPE http_requests_total counter\n"));
    for (name, number) in [
        ("http_requests_total", 37.0),
        ("http_400_response_total", 3.0),
        ("http_500_response_total", 1.0),
        ("exporter_target_up", 1.0),
    ] {
        assert_eq!(value(&text, &format!("{name}{label}")), Some(number), "{name}");
    }
    assert!(value(&text, &format!("exporter_target_data_age_seconds{label}")).unwrap() < 2.0);
    assert!(text.contains("exporter_build_info{version=\""));
    let head = target.requests().remove(0);
    assert!(head.starts_with("GET /metrics HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_lowercase().contains(&format!("host: {}", target.address)),
        "{head}"
    );
}

#[test]
fn several_urls_are_polled_and_none_twice() {
    let [first, second] = [Target::json(&counters(1)), Target::json(&counters(2))];
    let list = format!("{}, {}\n{}", first.url(), second.url(), first.url());
    let exporter = Exporter::ready(&["--target", &list]);
    let text = exporter.metrics();
    assert_eq!(
        value(&text, &format!("http_requests_total{}", first.label())),
        Some(1.0)
    );
    assert_eq!(
        value(&text, &format!("http_requests_total{}", second.label())),
        Some(2.0)
    );
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("http_requests_total{"))
            .count(),
        2
    );
    assert!(exporter.failures("duplicate_target") >= 1.0);
}

#[test]
fn ready_means_that_every_target_was_polled_whatever_it_answered() {
    let slow = Target::start(|_, stream| {
        std::thread::sleep(Duration::from_millis(700));
        answer(stream, &counters(1))
    });
    let broken = Target::json("{}");
    let list = format!("{} {}", slow.url(), broken.url());
    let exporter = Exporter::start(&["--target", &list]);
    assert_eq!(exporter.get("/readyz").status, 503);
    assert_eq!(exporter.get("/healthz").status, 200);
    exporter.wait_ready();
    let text = exporter.metrics();
    assert_eq!(value(&text, &format!("exporter_target_up{}", slow.label())), Some(1.0));
    assert_eq!(
        value(&text, &format!("exporter_target_up{}", broken.label())),
        Some(0.0)
    );
}

#[test]
fn connections_are_kept_and_replaced_when_the_target_closes_them() {
    let target = Target::json(&counters(1));
    let exporter = Exporter::ready(&["--target", &target.url()]);
    eventually("some polls", || (target.requests().len() > 5).then_some(()));
    assert_eq!(target.connections(), 1);
    for _ in 0..3 {
        let before = target.requests().len();
        target.hang_up();
        eventually("some more polls", || {
            (target.requests().len() > before + 2).then_some(())
        });
    }
    assert!(target.connections() > 1);
    let text = exporter.metrics();
    assert_eq!(
        value(&text, &format!("exporter_target_up{}", target.label())),
        Some(1.0)
    );
    let failed: f64 = ["protocol", "connect"]
        .map(|reason| exporter.failures(reason))
        .iter()
        .sum();
    assert_eq!(
        failed, 0.0,
        "a connection that ended while it was idle is no failure of the target"
    );
}

/// A restart of the target: the counter is exposed as the target counts, which Prometheus takes for the reset it is; and
/// the time when it was seen is the counter's creation.
#[test]
fn a_counter_that_went_back_is_a_reset() {
    let body = Arc::new(Mutex::new(counters(1000)));
    let target = Target::changing(&body);
    let exporter = Exporter::ready(&["--target", &target.url()]);
    let requests = format!("http_requests_total{}", target.label());
    let openmetrics = || {
        get(
            exporter.address,
            "/metrics",
            &[("Accept", "application/openmetrics-text")],
        )
        .text()
    };
    assert_eq!(exporter.value(&requests), Some(1000.0));
    assert!(
        !openmetrics().contains("_created"),
        "when a counter began that was there before is not known"
    );

    *body.lock().unwrap() = counters(1010);
    eventually("the counter grows", || {
        (exporter.value(&requests) == Some(1010.0)).then_some(())
    });
    assert!(!openmetrics().contains("_created"));

    let before = seconds_since_1970();
    *body.lock().unwrap() = counters(5);
    eventually("the counter is reset", || {
        (exporter.value(&requests) == Some(5.0)).then_some(())
    });
    let created = value(&openmetrics(), &format!("http_requests_created{}", target.label())).unwrap();
    assert!((before - 0.01..seconds_since_1970()).contains(&created), "{created}");
    assert!(
        !openmetrics().contains("http_400_response_created"),
        "that one did not go back"
    );

    *body.lock().unwrap() = counters(2000);
    eventually("the counter grows", || {
        (exporter.value(&requests) == Some(2000.0)).then_some(())
    });
    assert_eq!(
        value(&openmetrics(), &format!("http_requests_created{}", target.label())),
        Some(created),
        "it is the same counter still"
    );
}

fn seconds_since_1970() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

/// Nothing is remembered, so nothing can be wrong after a restart of the exporter.
#[test]
fn a_new_exporter_serves_what_the_old_one_did() {
    let body = Arc::new(Mutex::new(counters(1000)));
    let target = Target::changing(&body);
    let requests = format!("http_requests_total{}", target.label());
    let mut old = Exporter::ready(&["--target", &target.url()]);
    *body.lock().unwrap() = counters(7);
    eventually("the target restarts", || {
        (old.value(&requests) == Some(7.0)).then_some(())
    });
    old.terminate();
    assert!(old.wait().success());
    let new = Exporter::ready(&["--target", &target.url()]);
    assert_eq!(new.value(&requests), Some(7.0));
    let text = get(new.address, "/metrics", &[("Accept", "application/openmetrics-text")]).text();
    assert!(!text.contains("_created"));
}

#[test]
fn an_outage_takes_the_series_away_and_never_looks_like_no_load() {
    let body = Arc::new(Mutex::new(counters(100)));
    let target = Target::changing(&body);
    let address = target.address;
    let other = Target::json(&counters(1));
    let label = target.label();
    let exporter = Exporter::ready(&["--target", &target.url(), "--target", &other.url()]);
    target.stop();
    let text = eventually("the target is down", || {
        let text = exporter.metrics();
        (value(&text, &format!("exporter_target_up{label}")) == Some(0.0)).then_some(text)
    });
    assert!(!text.contains(&format!("http_requests_total{label}")), "{text}");
    assert!(exporter.failures("connect") >= 1.0);
    assert_eq!(
        value(&text, &format!("http_requests_total{}", other.label())),
        Some(1.0)
    );
    let age = format!("exporter_target_data_age_seconds{label}");
    let before = exporter.value(&age).unwrap();
    eventually("the data grows old", || {
        (exporter.value(&age).unwrap() > before + 0.5).then_some(())
    });

    let _target = Target::changing_at(address, &body);
    eventually("the target is back", || {
        exporter
            .value(&format!("http_requests_total{label}"))
            .filter(|number| *number == 100.0)
    });
    let log = exporter.log();
    let downs = log.iter().filter(|line| line["level"] == "WARN").count();
    assert_eq!(downs, 1, "a target that stays down is told once: {log:#?}");
}

/// Every way in which a target can be bad, side by side with one that is good.
#[test]
fn a_bad_target_loses_its_series_and_hurts_no_other() {
    let json = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let trap = Target::json(&counters(666));
    let endless = |_: &str, stream: &mut dyn std::io::Write| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while stream
            .write_all(format!("1000\r\n{}\r\n", " ".repeat(4096)).as_bytes())
            .is_ok()
        {}
        false
    };
    let slow = |_: &str, stream: &mut dyn std::io::Write| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        while stream.write_all(b" ").and_then(|()| stream.flush()).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    };
    let silent = |_: &str, _: &mut dyn std::io::Write| {
        std::thread::sleep(Duration::from_secs(60));
        false
    };
    let mut bad = vec![
        ("malformed", Target::json("{\"request_count\": ")),
        ("malformed", Target::json("<html>")),
        (
            "malformed",
            Target::json("{\"request_count\": NaN, \"400_count\": 0, \"500_count\": 0}"),
        ),
        (
            "not_finite",
            Target::json("{\"request_count\": 1e999, \"400_count\": 0, \"500_count\": 0}"),
        ),
        (
            "too_deep",
            Target::json(&format!(
                "{{\"x\": {}{}, {}",
                "[".repeat(5000),
                "]".repeat(5000),
                &counters(1)[1..]
            )),
        ),
        ("missing", Target::json("{\"request_count\": 1}")),
        (
            "missing",
            Target::json("{\"request_count\": null, \"400_count\": 0, \"500_count\": 0}"),
        ),
        (
            "invalid",
            Target::json("{\"request_count\": \"many\", \"400_count\": 0, \"500_count\": 0}"),
        ),
        (
            "invalid",
            Target::json("{\"request_count\": -1, \"400_count\": 0, \"500_count\": 0}"),
        ),
        (
            "status",
            Target::raw("HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}"),
        ),
        (
            "status",
            Target::raw(format!(
                "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
                trap.url()
            )),
        ),
        (
            "encoding",
            Target::raw("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
        ),
        (
            "too_large",
            Target::raw("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{"),
        ),
        ("too_large", Target::start(endless)),
        ("protocol", Target::raw("220 mail.example ESMTP\r\n")),
        (
            "protocol",
            Target::raw(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(500_000))),
        ),
        ("protocol", Target::raw(&json(&counters(1)).as_bytes()[..60])),
        ("timeout", Target::start(slow)),
        ("timeout", Target::start(silent)),
    ];
    let closed = Target::json("{}");
    let refusing = closed.url();
    closed.stop();
    let good = Target::json(&counters(42));
    let urls: Vec<String> = bad
        .iter()
        .map(|(_, target)| target.url())
        .chain([good.url(), refusing])
        .collect();
    let exporter = Exporter::ready(&[
        "--target",
        &urls.join(","),
        "--timeout",
        "500ms",
        "--max-body",
        "100000",
    ]);

    let text = exporter.metrics();
    assert_eq!(
        value(&text, &format!("http_requests_total{}", good.label())),
        Some(42.0)
    );
    assert_eq!(value(&text, &format!("exporter_target_up{}", good.label())), Some(1.0));
    assert!(exporter.failures("connect") >= 1.0);
    for (reason, target) in bad.drain(..) {
        assert_eq!(
            value(&text, &format!("exporter_target_up{}", target.label())),
            Some(0.0),
            "{reason}"
        );
        assert!(
            !text.contains(&format!("http_requests_total{}", target.label())),
            "{reason}"
        );
        assert!(exporter.failures(reason) >= 1.0, "{reason}");
        let address = target.address.to_string();
        let told = exporter
            .log()
            .into_iter()
            .find(|line| line["level"] == "WARN" && line["target_address"] == address.as_str());
        assert_eq!(told.unwrap()["reason"], reason);
    }
    assert!(trap.requests().is_empty(), "redirects are not followed");
}

#[test]
fn a_slow_target_delays_no_other() {
    let slow: Vec<Target> = (0..40)
        .map(|_| {
            Target::start(|_, _| {
                std::thread::sleep(Duration::from_secs(60));
                false
            })
        })
        .collect();
    let good = Target::json(&counters(1));
    let urls: Vec<String> = slow.iter().map(Target::url).chain([good.url()]).collect();
    let _exporter = Exporter::start(&["--target", &urls.join(","), "--timeout", "10s"]);
    eventually("the first poll", || (!good.requests().is_empty()).then_some(()));
    let (before, began) = (good.requests().len(), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let polls = good.requests().len() - before;
    let expected = began.elapsed().as_millis() / 200;
    assert!(polls as u128 + 3 >= expected, "{polls} polls of {expected}");
}

#[test]
fn large_bodies_share_a_limit_and_small_ones_are_not_touched_by_it() {
    let body = format!("{{\"pad\": \"{}\", {}", "x".repeat(400_000), &counters(1)[1..]);
    let large: Vec<Target> = (0..8)
        .map(|_| {
            let body = body.clone();
            Target::start(move |_, stream| {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes());
                // Half of it, so that the memory stays in use.
                let _ = stream.write_all(&body.as_bytes()[..200_000]);
                let _ = stream.flush();
                std::thread::sleep(Duration::from_millis(800));
                stream
                    .write_all(&body.as_bytes()[200_000..])
                    .and_then(|()| stream.flush())
                    .is_ok()
            })
        })
        .collect();
    let small = Target::json(&counters(2));
    let urls: Vec<String> = large.iter().map(Target::url).chain([small.url()]).collect();
    let exporter = Exporter::ready(&["--target", &urls.join(","), "--max-buffer", "1000000"]);
    let text = exporter.metrics();
    let up = |target: &Target| value(&text, &format!("exporter_target_up{}", target.label()));
    assert_eq!(up(&small), Some(1.0));
    let alive = large.iter().filter(|target| up(target) == Some(1.0)).count();
    assert!((1..8).contains(&alive), "{alive}");
    assert!(exporter.failures("memory") >= 1.0);
}

#[test]
fn every_address_of_a_name_is_polled_and_found_again_as_it_changes() {
    let hosts = [
        Ipv4Addr::new(127, 0, 0, 2),
        Ipv4Addr::new(127, 0, 0, 3),
        Ipv4Addr::new(127, 0, 0, 4),
    ];
    let port = free_port(&hosts);
    let targets: Vec<Target> = hosts
        .iter()
        .zip(1..)
        .map(|(host, number)| {
            let body = Arc::new(Mutex::new(counters(number)));
            Target::changing_at(SocketAddr::from((*host, port)), &body)
        })
        .collect();
    let names = NameServer::start();
    let name = "main-service-headless.workloads.svc";
    names.say(name, Say::addresses(&["127.0.0.2", "127.0.0.3", "::1"]));
    let url = format!("http://{name}:{port}/metrics");
    let exporter = Exporter::ready(&["--target", &url, "--dns-server", &names.argument()]);
    let series = || {
        let text = exporter.metrics();
        let mut found: Vec<f64> = targets
            .iter()
            .filter_map(|target| value(&text, &format!("http_requests_total{}", target.label())))
            .collect();
        found.sort_by(f64::total_cmp);
        assert!(!text.contains("[::1]"), "a target with two addresses would count twice");
        found
    };
    assert_eq!(series(), [1.0, 2.0]);
    let head = targets[0].requests().remove(0).to_lowercase();
    assert!(
        head.contains(&format!("host: {name}:{port}\r\n")),
        "the name stays in the request: {head}"
    );

    names.say(name, Say::addresses(&["127.0.0.3", "127.0.0.4"]));
    eventually("one address goes and one comes", || {
        (series() == [2.0, 3.0]).then_some(())
    });
    let text = exporter.metrics();
    assert!(!text.contains("127.0.0.2:"), "nothing is left of it: {text}");
    assert_eq!(
        value(&text, &format!("exporter_url_addresses{{index=\"0\",url=\"{url}\"}}")),
        Some(2.0)
    );

    names.say(name, Say::NoSuchName);
    eventually("all are gone", || series().is_empty().then_some(()));
    names.say(name, Say::addresses(&["127.0.0.2"]));
    eventually("one is back", || (series() == [1.0]).then_some(()));
    assert!(exporter.failures("dns") >= 1.0);
}

#[test]
fn addresses_are_kept_for_a_while_when_no_name_server_answers() {
    let target = Target::json(&counters(5));
    let names = NameServer::start();
    names.say("a.test", Say::addresses(&["127.0.0.1"]));
    let url = format!("http://a.test:{}/", target.address.port());
    let series = format!("http_requests_total{}", target.label());
    for silence in [Say::Failure, Say::Nothing] {
        names.say("a.test", Say::addresses(&["127.0.0.1"]));
        let exporter = Exporter::ready(&["--target", &url, "--dns-server", &names.argument(), "--dns-grace", "5s"]);
        assert_eq!(exporter.value(&series), Some(5.0));
        names.say("a.test", silence);
        let began = Instant::now();
        eventually("the failure is seen", || {
            (exporter.failures("dns") >= 1.0).then_some(())
        });
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(
            exporter.value(&series),
            Some(5.0),
            "the target answers, so its counter is true"
        );
        eventually("the addresses are given up", || {
            exporter.value(&series).is_none().then_some(())
        });
        assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
    }
}

#[test]
fn a_name_that_never_resolved_is_no_target_but_an_error() {
    let names = NameServer::start();
    names.say("failing.test", Say::Failure);
    let list = "http://absent.test/ http://failing.test/";
    let exporter = Exporter::ready(&["--target", list, "--dns-server", &names.argument()]);
    let text = exporter.metrics();
    assert!(!text.contains("http_requests_total{"), "{text}");
    assert!(exporter.failures("dns") >= 2.0);
    let log = exporter.log();
    for url in ["http://absent.test/", "http://failing.test/"] {
        assert_eq!(
            log.iter()
                .filter(|line| line["url"] == url && line["level"] == "WARN")
                .count(),
            1,
            "{log:#?}"
        );
    }
}

/// The polls of targets that were found together spread over the period.
#[test]
fn targets_that_were_found_together_are_not_polled_together() {
    let began = Instant::now();
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let targets: Vec<Target> = (0..30)
        .map(|_| {
            let (times, polls) = (Arc::clone(&times), std::sync::atomic::AtomicUsize::new(0));
            Target::start(move |_, stream| {
                if polls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1 {
                    times.lock().unwrap().push(began.elapsed());
                }
                answer(stream, &counters(1))
            })
        })
        .collect();
    let urls: Vec<String> = targets.iter().map(Target::url).collect();
    let _exporter = Exporter::start(&["--target", &urls.join(","), "--period", "2s"]);
    eventually("every target was polled twice", || {
        (times.lock().unwrap().len() == targets.len()).then_some(())
    });
    let times = times.lock().unwrap();
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(*last - *first > Duration::from_millis(500), "{times:?}");
}

#[test]
fn other_documents_are_read_by_other_modules() {
    let target = Target::json(r#"{"queues": {"mail": {"length": 3}, "print": {"length": 0}}}"#);
    let (_dir, config) = support::file(
        "exporter.yaml",
        &format!(
            "targets:\n  - url: {}\n    module: queues\n    labels: {{team: a\"b}}\nmodules:\n  queues:\n    metrics:\n      \
             - name: queue_length\n        type: gauge\n        each: $.queues.*\n        value: '@.length'\n        labels: {{queue: '{{@~}}'}}\n",
            target.url()
        ),
    );
    let exporter = Exporter::ready(&["--config", &config]);
    let text = exporter.metrics();
    let labels = format!("target=\"{}\",team=\"a\\\"b\"", target.address);
    assert_eq!(
        value(&text, &format!("queue_length{{{labels},queue=\"mail\"}}")),
        Some(3.0),
        "{text}"
    );
    assert_eq!(
        value(&text, &format!("queue_length{{{labels},queue=\"print\"}}")),
        Some(0.0)
    );
    assert_eq!(value(&text, &format!("exporter_target_up{{{labels}}}")), Some(1.0));
}
