//! Measures the exporter and json_exporter v0.7.0 in one run: same targets, same mapping, same core.
//!
//! ```sh
//! cargo bench -p mfsre-exporter --bench compare -- \
//!     [--seconds N] [--rounds N] [--connections N] [--exporter PROGRAM] [--json-exporter PROGRAM]
//! ```
//!
//! The exporter under test has the first core that this process may use, and nothing else has it; targets and load
//! generator are one thread on the last one. Without `--exporter` it is the one that Cargo has just built; docs/exporter.md tells how to
//! build the one of the image. Without `--json-exporter` that is built by Go from the module that pins it.

// A benchmark prints, and ends where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod load;
mod outside;
mod program;
mod target;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use load::Outcome;
use program::{Program, first_and_last_cpu, pin};

/// What is asked of both.
struct Case {
    name: &'static str,
    /// JSON of every target.
    document: String,
    /// Metrics, by name and member of the document.
    metrics: Vec<(String, String)>,
    targets: usize,
}

struct Options {
    time: Duration,
    rounds: usize,
    connections: usize,
    exporter: PathBuf,
    json_exporter: Option<PathBuf>,
}

/// What was measured of one program in one round.
struct Figures {
    outcome: Outcome,
    cpu: Duration,
    /// Most memory that the process ever had resident, in bytes.
    memory: u64,
    /// What of it was no file's in the end: heap and stacks, without the program itself.
    anonymous: u64,
}

impl Figures {
    fn cpu_per_scrape(&self) -> f64 {
        self.cpu.as_secs_f64() / self.outcome.answers as f64
    }
}

fn main() {
    let options = options();
    let (exporter_cpu, load_cpu) = first_and_last_cpu();
    assert_ne!(exporter_cpu, load_cpu, "two cores are needed");
    let json_exporter = options
        .json_exporter
        .clone()
        .unwrap_or_else(program::build_json_exporter);
    let ours = options.exporter.clone();
    println!("machine: {}", program::machine());
    println!(
        "rounds of {:?}: {}, connections: {}, cores: exporter {exporter_cpu}, load and targets {load_cpu}\n",
        options.time, options.rounds, options.connections
    );
    println!(
        "raw figures: case, program, round, requests/s, p50 us, p99 us, CPU us/scrape, peak memory KiB, anonymous KiB, core used"
    );
    pin(load_cpu);
    let mut table = String::new();
    let mut cached = String::new();
    for case in cases() {
        let targets = target::start(&case.document);
        let urls: Vec<String> = (0..case.targets)
            .map(|number| format!("http://127.1.{}.{}:{}/", number / 250, number % 250 + 1, targets.port()))
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let (our_config, their_config) = (dir.path().join("ours.yaml"), dir.path().join("theirs.yaml"));
        std::fs::write(&our_config, our_configuration(&case, &urls)).unwrap();
        std::fs::write(&their_config, their_configuration(&case)).unwrap();
        let start = |name: &'static str| match name {
            "mfsre-exporter" => Program::start(exporter_cpu, load_cpu, &ours, &|port| {
                vec![
                    "--config".into(),
                    our_config.clone().into(),
                    "--listen".into(),
                    format!("127.0.0.1:{port}").into(),
                ]
            }),
            _ => Program::start(exporter_cpu, load_cpu, &json_exporter, &|port| {
                vec![
                    "--config.file".into(),
                    their_config.clone().into(),
                    "--web.listen-address".into(),
                    format!("127.0.0.1:{port}").into(),
                    "--log.level=error".into(),
                ]
            }),
        };
        let paths: Vec<String> = urls.iter().map(|url| format!("/probe?target={url}")).collect();
        let mut figures: [Vec<Figures>; 2] = [Vec::new(), Vec::new()];
        let names = ["mfsre-exporter", "json_exporter"];
        let [our_samples, their_samples] = names.map(|name| samples(&load::get(start(name).address, &paths[0])));
        assert_eq!(our_samples, their_samples, "the two do not say the same");
        assert_eq!(our_samples.len(), case.metrics.len());
        for round in 1..=options.rounds {
            for (name, figures) in names.into_iter().zip(&mut figures) {
                let program = start(name);
                figures.push(measure(case.name, name, round, &program, &paths, &options));
            }
        }
        let [ours, theirs] = figures.map(|mut rounds| {
            rounds.sort_by(|a, b| a.outcome.rate().total_cmp(&b.outcome.rate()));
            rounds.swap_remove(rounds.len() / 2)
        });
        for (name, figures) in names.into_iter().zip([&ours, &theirs]) {
            row(&mut table, case.name, name, figures);
        }
        let _ = writeln!(
            table,
            "| | **ratio** | **{:.1} x** | {:.3} x | {:.3} x | **1/{:.1}** | **1/{:.1}** | 1/{:.1} |",
            ours.outcome.rate() / theirs.outcome.rate(),
            ours.outcome.quantile(0.5).as_secs_f64() / theirs.outcome.quantile(0.5).as_secs_f64(),
            ours.outcome.quantile(0.99).as_secs_f64() / theirs.outcome.quantile(0.99).as_secs_f64(),
            theirs.cpu_per_scrape() / ours.cpu_per_scrape(),
            theirs.memory as f64 / ours.memory as f64,
            theirs.anonymous as f64 / ours.anonymous as f64,
        );

        let polling = Program::start(exporter_cpu, load_cpu, &options.exporter, &|port| {
            vec![
                "--config".into(),
                our_config.clone().into(),
                "--target".into(),
                urls.join(",").into(),
                "--listen".into(),
                format!("127.0.0.1:{port}").into(),
            ]
        });
        load::wait_for(polling.address, "/readyz");
        let figures = measure(case.name, "cached", 1, &polling, &["/metrics".to_owned()], &options);
        row(&mut cached, case.name, "/metrics", &figures);
    }
    let head = |title: &str| {
        format!(
            "\n{title}\n\n| case | program | requests/s | p50 | p99 | CPU per scrape | peak memory | of it anonymous |\n\
             |---|---|---:|---:|---:|---:|---:|---:|"
        )
    };
    println!(
        "{}\n{table}",
        head("/probe against /probe, median of the rounds by rate:")
    );
    println!(
        "{}\n{cached}",
        head("mfsre-exporter alone, /metrics of targets that are polled in the background:")
    );
}

fn measure(case: &str, name: &str, round: usize, program: &Program, paths: &[String], options: &Options) -> Figures {
    // Until every connection is there and the code is warm.
    load::run(program.address, paths, options.connections, options.time / 5);
    let before = program.cpu();
    let outcome = load::run(program.address, paths, options.connections, options.time);
    let figures = Figures {
        cpu: program.cpu() - before,
        memory: program.memory("VmHWM"),
        anonymous: program.memory("RssAnon"),
        outcome,
    };
    println!(
        "{case}, {name}, {round}, {:.0}, {}, {}, {:.1}, {}, {}, {:.0} %",
        figures.outcome.rate(),
        figures.outcome.quantile(0.5).as_micros(),
        figures.outcome.quantile(0.99).as_micros(),
        figures.cpu_per_scrape() * 1e6,
        figures.memory / 1024,
        figures.anonymous / 1024,
        figures.cpu.as_secs_f64() / figures.outcome.time.as_secs_f64() * 100.0,
    );
    figures
}

fn row(table: &mut String, case: &str, name: &str, figures: &Figures) {
    let milliseconds = |quantile| figures.outcome.quantile(quantile).as_secs_f64() * 1e3;
    let _ = writeln!(
        table,
        "| {case} | {name} | {:.0} | {:.2} ms | {:.2} ms | {:.1} us | {:.1} MiB | {:.1} MiB |",
        figures.outcome.rate(),
        milliseconds(0.5),
        milliseconds(0.99),
        figures.cpu_per_scrape() * 1e6,
        figures.memory as f64 / f64::from(1 << 20),
        figures.anonymous as f64 / f64::from(1 << 20),
    );
}

fn cases() -> Vec<Case> {
    let numbered = |number: usize| {
        let metrics: Vec<(String, String)> = (0..number)
            .map(|n| (format!("metric_{n:04}"), format!("member_{n:04}")))
            .collect();
        let members: Vec<String> = metrics
            .iter()
            .zip(1..)
            .map(|((_, member), n)| format!("\"{member}\": {n}"))
            .collect();
        (format!("{{{}}}", members.join(", ")), metrics)
    };
    let (thousand, thousand_metrics) = numbered(1000);
    let (one, one_metric) = numbered(1);
    vec![
        Case {
            name: "3 metrics, 1 target",
            document: r#"{"400_count": 3, "500_count": 1, "request_count": 4711}"#.to_owned(),
            metrics: [
                ("http_requests_total", "request_count"),
                ("http_400_response_total", "400_count"),
                ("http_500_response_total", "500_count"),
            ]
            .map(|(name, member)| (name.to_owned(), member.to_owned()))
            .into(),
            targets: 1,
        },
        Case {
            name: "1,000 metrics, 1 target",
            document: thousand,
            metrics: thousand_metrics,
            targets: 1,
        },
        Case {
            name: "1 metric, 500 targets",
            document: one,
            metrics: one_metric,
            targets: 500,
        },
    ]
}

fn our_configuration(case: &Case, urls: &[String]) -> String {
    let mut text = "modules:\n  default:\n    probe:\n      allow:\n".to_owned();
    for url in urls {
        let _ = writeln!(text, "        - {}", url.trim_end_matches('/'));
    }
    text.push_str("    metrics:\n");
    for (name, member) in &case.metrics {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(
            text,
            "      - {{name: {name}, help: {name}, type: {kind}, value: \"$['{member}']\"}}"
        );
    }
    text
}

fn their_configuration(case: &Case) -> String {
    let mut text = "modules:\n  default:\n    metrics:\n".to_owned();
    for (name, member) in &case.metrics {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(
            text,
            "      - {{name: {name}, help: {name}, valuetype: {kind}, path: \"{{ ['{member}'] }}\"}}"
        );
    }
    text
}

/// The samples of an exposition, as name and number, in order of their names.
fn samples(text: &str) -> Vec<(String, u64)> {
    let mut samples: Vec<(String, u64)> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, number) = line.split_once(' ').unwrap();
            (name.to_owned(), number.parse::<f64>().unwrap() as u64)
        })
        .collect();
    samples.sort();
    samples
}

fn options() -> Options {
    let mut options = Options {
        time: Duration::from_secs(10),
        rounds: 3,
        connections: 16,
        exporter: env!("CARGO_BIN_EXE_mfsre-exporter").into(),
        json_exporter: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("this option takes a value");
        match argument.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--seconds" => options.time = Duration::from_secs(value().parse().expect("a number of seconds")),
            "--rounds" => options.rounds = value().parse().expect("a number of rounds"),
            "--connections" => options.connections = value().parse().expect("a number of connections"),
            "--exporter" => options.exporter = value().into(),
            "--json-exporter" => options.json_exporter = Some(value().into()),
            other => panic!("{other} is not known; see the top of benches/compare/main.rs"),
        }
    }
    options
}
