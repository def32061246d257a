//! The scaling chain with every link real: main-service processes, the exporter, Prometheus with the rendered
//! configuration, prometheus-adapter with the rendered rule behind the API server's aggregation, and the autoscaler with
//! the shipped behaviour. One platform for all cases, because each begins where the one before it ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::cluster::Kubectl;
use crate::process::eventually;
use crate::project::{ENVIRONMENT, Finished, Project, Running};

const METRIC: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/workloads/http_requests_per_second";
/// Of the shipped chart.
const TARGET: f64 = 10.0;
const MOST: u64 = 15;
/// Of the shipped chart: for how long the autoscaler remembers that more was needed.
const WINDOW: Duration = Duration::from_secs(300);

#[test]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
fn the_chain_scales_with_the_load_and_holds_while_it_cannot_see() {
    let project = Project::new();
    let up = project.run(&["up", ENVIRONMENT]);
    assert_eq!(up.exit(0)["ok"], true);
    println!("  up took {:.1}s", up.took.as_secs_f64());
    let chain = Chain::new(&project);
    chain.every_process_is_a_pod();

    // 28/s: three replicas, of which one restarts, and then the exporter.
    let load = chain.load(28);
    let load = chain.the_first_load_is_decided_on_within_a_minute(load);
    chain.reaches(3);
    chain.one_of_three_restarts(28.0);
    chain.the_exporter_is_rolled(28.0);
    chain.ends(load, 28);

    let load = chain.load(37);
    chain.reaches(4);
    chain.git_has_no_say_in_the_number_of_replicas();
    chain.stays("37/s", 4, Duration::from_secs(20));
    chain.prometheus_is_down();
    chain.ends(load, 37);

    let load = chain.load(180);
    chain.reaches(MOST);
    chain.stays("beyond the maximum", MOST, Duration::from_secs(20));
    let ended = Instant::now();
    let _ = load.interrupt();
    chain.all_targets_are_down_and_the_load_is_gone(ended);

    project.run(&["sandbox", "stop", ENVIRONMENT]).exit(0);
    project.assert_no_process("sandbox stop");
}

/// What can be seen of the chain's end at one moment.
#[derive(Debug)]
struct Seen {
    metric: Option<f64>,
    desired: u64,
    replicas: u64,
    /// Why the autoscaler can or cannot scale.
    active: String,
    message: String,
}

struct Chain<'a> {
    project: &'a Project,
    kubectl: Kubectl<'a>,
}

impl<'a> Chain<'a> {
    fn new(project: &'a Project) -> Self {
        let status = project.status().exit(0).clone();
        let kubeconfig = PathBuf::from(status["kubeconfig"].as_str().unwrap());
        Self {
            project,
            kubectl: Kubectl::new(project, kubeconfig),
        }
    }

    fn load(&self, rate: u32) -> Running<'a> {
        println!("  {rate} requests/s ...");
        self.project
            .start(&["sandbox", "load", ENVIRONMENT, "--rate", &rate.to_string()])
    }

    /// Ends the load as a person does, and compares what it sent with what was asked for.
    fn ends(&self, load: Running<'a>, rate: u64) -> Finished {
        let finished = load.interrupt();
        let document = finished.exit(0);
        let number = |name: &str| document[name].as_u64().unwrap();
        let elapsed = document["elapsed"].as_f64().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand requests")]
        let sent = number("sent") as f64 / elapsed;
        #[expect(clippy::cast_precision_loss, reason = "a few thousand requests")]
        let wanted = rate as f64;
        assert!(
            (sent - wanted).abs() < wanted * 0.05,
            "{sent:.1}/s were sent: {document}"
        );
        assert_eq!(number("withheld"), 0, "{document}");
        assert_eq!(number("sent"), number("answered") + number("failed"), "{document}");
        finished
    }

    fn see(&self) -> Seen {
        let autoscaler = self.kubectl.get(&["--namespace", "workloads", "hpa", "main-service"]);
        let status = &autoscaler["status"];
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let active = conditions.iter().find(|c| c["type"] == "ScalingActive");
        let text = |field: &str| active.map_or("", |c| c[field].as_str().unwrap_or_default()).to_owned();
        let metric = self
            .kubectl
            // Nobody answers while Prometheus hangs, and the next look is due.
            .try_run(&["get", "--raw", METRIC, "--request-timeout=3s"], "")
            .ok()
            .and_then(|list| {
                let list: Value = serde_json::from_str(&list).unwrap();
                quantity(list["items"][0]["value"].as_str()?)
            });
        Seen {
            metric,
            desired: status["desiredReplicas"].as_u64().unwrap_or_default(),
            replicas: status["currentReplicas"].as_u64().unwrap_or_default(),
            active: text("reason"),
            message: text("message"),
        }
    }

    /// Looks every 5 s until the time is over.
    fn watch(&self, what: &str, limit: Duration, mut check: impl FnMut(Duration, &Seen)) {
        println!("  {what} ...");
        let began = Instant::now();
        while began.elapsed() < limit {
            let at = began.elapsed();
            let seen = self.see();
            let metric = seen.metric.map_or("-".to_owned(), |metric| format!("{metric:.1}"));
            println!(
                "    {:4.0}s  metric {metric:>5}  wanted {:2}  there {:2}  {}",
                at.as_secs_f64(),
                seen.desired,
                seen.replicas,
                seen.active
            );
            check(at, &seen);
            std::thread::sleep(Duration::from_secs(5).saturating_sub(began.elapsed() - at));
        }
    }

    /// Waits until there are so many replicas, ready and with a process each, and never more.
    fn reaches(&self, replicas: u64) {
        let began = Instant::now();
        eventually(
            &format!("{replicas} replicas with a process each"),
            Duration::from_secs(120),
            || {
                let seen = self.see();
                assert!(seen.desired <= replicas, "no more than {replicas} are needed: {seen:?}");
                let status = self.project.status();
                let healthy = processes(status.events.last()?, "main-service")
                    .values()
                    .filter(|part| part["health"]["state"] == "healthy")
                    .count();
                (seen.replicas == replicas && healthy as u64 == replicas).then_some(())
            },
        );
        println!("    {replicas} replicas after {:.0}s", began.elapsed().as_secs_f64());
    }

    fn stays(&self, what: &str, replicas: u64, limit: Duration) {
        self.watch(what, limit, |_, seen| {
            assert_eq!((seen.desired, seen.replicas), (replicas, replicas), "{seen:?}");
        });
    }

    /// The process of each pod is a part of the sandbox, and is where the pod's address says.
    fn every_process_is_a_pod(&self) {
        let status = self.project.status().exit(0).clone();
        let pods = self.kubectl.get(&["pods", "--all-namespaces"]);
        for (name, count) in [
            ("main-service", 1),
            ("exporter", 1),
            ("prometheus", 1),
            ("prometheus-adapter", 2),
        ] {
            let processes = processes(&status, name);
            assert_eq!(processes.len(), count, "{name}: {processes:?}");
            for (pod, part) in processes {
                assert_eq!(part["health"]["state"], "healthy", "{part}");
                let object = pods["items"].as_array().unwrap().iter();
                let object = object.clone().find(|o| o["metadata"]["name"] == pod.as_str()).unwrap();
                let address = object["status"]["podIP"].as_str().unwrap();
                let listens = part["address"].as_str().unwrap();
                let rest = address.strip_prefix("10.").unwrap();
                assert!(listens.starts_with(&format!("127.{rest}:")), "{address} and {listens}");
            }
        }
        let service = self.kubectl.get(&["apiservice", "v1beta1.external.metrics.k8s.io"]);
        assert!(
            service["spec"]["caBundle"].is_string(),
            "the API server knows whom to trust: {service}"
        );
        assert_ne!(service["spec"]["insecureSkipTLSVerify"], true);
    }

    /// Measures and prints how long each link takes.
    fn the_first_load_is_decided_on_within_a_minute(&self, mut load: Running<'a>) -> Running<'a> {
        load.wait_for("the autoscaler's decision", |event| {
            if event["event"] == "load" && event["delays"]["decided"].is_number() {
                print_delays(&event["delays"]);
                return true;
            }
            assert!(
                event["elapsed"].as_f64().is_none_or(|elapsed| elapsed < 60.0),
                "a scale-up is decided on within a minute: {event}"
            );
            false
        });
        load
    }

    /// One of three restarts: its count goes back to zero, and the sum shows neither a spike nor a dip.
    fn one_of_three_restarts(&self, rate: f64) {
        let status = self.project.status().exit(0).clone();
        let processes = processes(&status, "main-service");
        assert_eq!(processes.len(), 3);
        // The history before it must be the true rate's, or what is seen is the beginning of the load.
        eventually("the metric is the true rate", Duration::from_secs(60), || {
            let metric = self.see().metric?;
            ((metric - rate).abs() < rate * 0.08).then_some(())
        });
        let (name, part) = processes.first_key_value().unwrap();
        signal_group(pid(part), Signal::KILL);
        self.watch(
            &format!("{name} is killed and restarts"),
            Duration::from_secs(75),
            |_, seen| {
                assert_eq!(seen.desired, 3, "{seen:?}");
                // While it starts, it answers no requests, so those are not counted: a third of the rate, for some seconds of
                // a minute, and what it had counted since the last poll.
                let metric = seen.metric.unwrap_or_else(|| panic!("there is a metric: {seen:?}"));
                assert!(metric < rate * 1.08, "a spike: {seen:?}");
                assert!(metric > rate * 0.8, "a dip: {seen:?}");
            },
        );
        let after = self.project.status();
        let part = &self::processes(after.exit(0), "main-service")[name];
        assert_ne!(
            pid(part),
            pid(&status_part(&status, name)),
            "another process stands for the pod"
        );
        let restarts = self.kubectl.field(
            "workloads",
            &format!("pod/{name}"),
            "/status/containerStatuses/0/restartCount",
        );
        assert_eq!(restarts, 1, "and the cluster knows");
    }

    /// A new exporter tells what the old one told; nothing is counted twice.
    fn the_exporter_is_rolled(&self, rate: f64) {
        self.kubectl.run(&[
            "--namespace",
            "workloads",
            "delete",
            "pod",
            "--selector",
            "app.kubernetes.io/name=exporter",
            "--wait=false",
        ]);
        self.watch("the exporter is rolled", Duration::from_secs(75), |_, seen| {
            assert_eq!(seen.desired, 3, "{seen:?}");
            assert!(
                seen.metric.is_none_or(|metric| metric < rate * 1.08),
                "a rise: {seen:?}"
            );
        });
        let seen = self.see();
        assert!(
            seen.metric.is_some_and(|metric| metric > rate * 0.9),
            "it is measured again: {seen:?}"
        );
    }

    /// Compared with Git anew, the scaled Deployment is as it should be.
    fn git_has_no_say_in_the_number_of_replicas(&self) {
        let application = ["--namespace", "argocd", "application/main-service"];
        let refresh = "argocd.argoproj.io/refresh";
        self.kubectl
            .run(&[&["annotate"][..], &application, &[&format!("{refresh}=hard")]].concat());
        let object = eventually("Argo CD has compared", Duration::from_secs(60), || {
            let object = self.kubectl.get(&application);
            let compared = object["metadata"]["annotations"][refresh].is_null();
            // New pods may still be on their way.
            (compared && object["status"]["health"]["status"] == "Healthy").then_some(object)
        });
        assert_eq!(object["status"]["sync"]["status"], "Synced", "{object}");
    }

    fn prometheus_is_down(&self) {
        let status = self.project.status().exit(0).clone();
        let processes = processes(&status, "prometheus");
        let part = processes.values().next().unwrap();
        // Stopped, not killed: a killed one is restarted at once.
        signal_group(pid(part), Signal::STOP);
        let mut reasons = Vec::new();
        // The API server gives up a request to the adapter after 60 s; only then the autoscaler knows.
        self.watch("Prometheus is down", Duration::from_secs(100), |_, seen| {
            assert_eq!((seen.desired, seen.replicas), (4, 4), "{seen:?}");
            reasons.push((seen.active.clone(), seen.message.clone()));
        });
        signal_group(pid(part), Signal::CONT);
        let (reason, message) = reasons.last().unwrap();
        assert_eq!(reason, "FailedGetExternalMetric", "{message}");
        eventually("the metric is back", Duration::from_secs(60), || {
            let seen = self.see();
            assert_eq!(seen.desired, 4, "{seen:?}");
            (seen.active == "ValidMetricFound").then_some(())
        });
    }

    /// No target answers: the rate seems to fall, then there is none. The size is held through all of it, and after it
    /// the autoscaler says why. Then the service answers again, without load, and shrinks no sooner than the window ends.
    fn all_targets_are_down_and_the_load_is_gone(&self, ended: Instant) {
        let status = self.project.status().exit(0).clone();
        let pids: Vec<u32> = processes(&status, "main-service").values().map(pid).collect();
        assert_eq!(pids.len() as u64, MOST);
        for pid in &pids {
            signal_group(*pid, Signal::STOP);
        }
        let mut reasons = Vec::new();
        let mut decay = Vec::new();
        self.watch("all targets are down", Duration::from_secs(180), |at, seen| {
            assert_eq!((seen.desired, seen.replicas), (MOST, MOST), "{seen:?}");
            decay.extend(seen.metric);
            if at > Duration::from_secs(100) {
                assert_eq!(seen.metric, None, "no number is made up: {seen:?}");
                reasons.push((seen.active.clone(), seen.message.clone()));
            }
        });
        assert!(
            decay.iter().any(|rate| *rate < TARGET * 10.0),
            "the decay was seen: {decay:?}"
        );
        let (reason, message) = reasons.last().unwrap();
        assert_eq!(reason, "FailedGetExternalMetric", "the autoscaler says why it holds");
        println!("    it says: {message}");
        for pid in &pids {
            signal_group(*pid, Signal::CONT);
        }
        println!("  the service answers again, without load ...");
        let mut quiet_since = None;
        let shrunk = eventually("the service shrinks", Duration::from_secs(300), || {
            let seen = self.see();
            if seen.metric.is_some_and(|metric| metric < 1.0) {
                quiet_since.get_or_insert_with(|| ended.elapsed());
            }
            (seen.desired < MOST).then(|| ended.elapsed())
        });
        let quiet = quiet_since.expect("a rate of nothing was seen before");
        println!(
            "    no load is seen {:.0}s, and less is wanted {:.0}s after its end",
            quiet.as_secs_f64(),
            shrunk.as_secs_f64()
        );
        assert!(
            shrunk >= WINDOW - Duration::from_secs(5),
            "no sooner than the window ends: {shrunk:?}"
        );
        eventually("one replica is left", Duration::from_secs(120), || {
            let seen = self.see();
            let status = self.project.status();
            let left = processes(status.events.last()?, "main-service").len();
            (seen.replicas == 1 && left == 1).then_some(())
        });
    }
}

fn print_delays(delays: &Value) {
    println!("    {:<10} {:>6}", "link", "s");
    for link in ["counted", "polled", "scraped", "served", "decided"] {
        println!("    {link:<10} {:>6.1}", delays[link].as_f64().unwrap());
    }
}

/// The parts that stand for the pods of an application, by the pod's name.
fn processes(status: &Value, application: &str) -> BTreeMap<String, Value> {
    let parts = status["parts"].as_array().unwrap().iter();
    parts
        .filter(|part| part["pod"].is_string())
        .filter_map(|part| {
            let name = part["name"].as_str()?;
            // A Deployment's pods have two more words in their names.
            (name.rsplitn(3, '-').nth(2)? == application).then(|| (name.to_owned(), part.clone()))
        })
        .collect()
}

fn status_part(status: &Value, name: &str) -> Value {
    processes(status, "main-service")[name].clone()
}

fn pid(part: &Value) -> u32 {
    u32::try_from(part["pid"].as_u64().unwrap_or_else(|| panic!("a process: {part}"))).unwrap()
}

fn signal_group(leader: u32, signal: Signal) {
    let leader = Pid::from_raw(i32::try_from(leader).unwrap()).unwrap();
    kill_process_group(leader, signal).unwrap();
}

/// A Kubernetes quantity, as far as a rate is written as one.
fn quantity(text: &str) -> Option<f64> {
    match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>().ok().map(|number| number / 1000.0),
        None => text.parse().ok(),
    }
}
