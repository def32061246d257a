//! What `plan`, `up`, `status` and `down` print, whole: the JSON documents with the events before them, on which programs
//! rest, and the text that people read.

use std::fmt::Write as _;

use serde_json::Value;

use crate::machine::{ENVIRONMENT, Machine};
use crate::{DOWN, NOTHING, UP};

/// The life of an environment.
const STORY: [&[&str]; 8] = [
    &["status", ENVIRONMENT],
    &["plan", ENVIRONMENT, "--detailed-exitcode"],
    &UP,
    &UP,
    &["plan", ENVIRONMENT, "--detailed-exitcode"],
    &["status", ENVIRONMENT],
    &DOWN,
    &DOWN,
];

/// What differs from run to run and from machine to machine, and how many files the templates make.
const FILTERS: [(&str, &str); 14] = [
    (r"127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
    (r"SHA256:[A-Za-z0-9+/]{43}", "SHA256:[FINGERPRINT]"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
    (r"until \d{4}-\d\d-\d\d", "until [DATE]"),
    (r"\b[0-9a-f]{40}\b", "[COMMIT]"),
    (r"\b[0-9a-f]{10}\b", "[COMMIT]"),
    (r#", providers from [^"\n]*?( +\d\S*s)?(["\n])"#, "$2"),
    (r"\b\d+ files, \d+ changed", "[N] files, [N] changed"),
    (r"\b\d+ files", "[N] files"),
    (r#""elapsed":[0-9.e-]+"#, r#""elapsed":0"#),
    (r" (up|down) in \d+(\.\d|m\d\d)?s", " $1 in [DURATION]"),
    (r"\(\d+(\.\d|m\d\d)?s\)", "([DURATION])"),
    // A step that took no time is told without it.
    (r"(?m) +\d+(\.\d|m\d\d)?s$", ""),
    (r"(?m) +$", ""),
];

/// What was told, without the machine's folder.
fn without_folder(machine: &Machine, told: &str) -> String {
    told.replace(machine.path("").to_str().unwrap().trim_end_matches('/'), "[FOLDER]")
}

#[test]
fn documents_are_what_programs_were_promised() {
    let machine = Machine::from(&NOTHING);
    let mut told = String::new();
    for arguments in STORY {
        let run = machine.run(arguments, None);
        let _ = writeln!(
            told,
            "$ mfsre --output json {}\nexit code {}",
            arguments.join(" "),
            run.status.code().unwrap()
        );
        assert_eq!(run.stderr, "", "{run}");
        let mut lines: Vec<Value> = run.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let document = lines.pop().unwrap();
        // How often a step tells how far it is depends on the machine.
        for event in lines.iter().filter(|event| event["event"] != "step_progress") {
            let _ = writeln!(told, "{event}");
        }
        let _ = writeln!(told, "{document:#}\n");
    }
    insta::with_settings!({ filters => FILTERS }, { insta::assert_snapshot!(without_folder(&machine, &told)) });
}

#[test]
fn texts_say_the_same_to_people() {
    let machine = Machine::from(&NOTHING);
    let mut told = String::new();
    for arguments in STORY {
        let (code, stdout, stderr) = machine.read(arguments);
        let _ = writeln!(
            told,
            "$ mfsre {}\n{stderr}{stdout}exit code {code}\n",
            arguments.join(" ")
        );
    }
    insta::with_settings!({ filters => FILTERS }, { insta::assert_snapshot!(without_folder(&machine, &told)) });
}
