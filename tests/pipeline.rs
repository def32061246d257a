//! The pipeline that `mfsre init --ci github` writes, and that this repository shares.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::{Project, REPOSITORY, files_below};

const URL: &str = "git@github.com:acme/platform.git";

fn here(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn project() -> Project {
    let project = Project::empty();
    let finished = project.run(&["init", "--ci", "github", "--repository", URL]);
    assert_eq!(finished.code, 0, "{finished}");
    project
}

/// The workflows of a project and of this repository, by path.
fn workflows() -> BTreeMap<String, String> {
    let project = project();
    let ours = files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".github"));
    let ours = ours.iter().map(|path| format!(".github/{path}"));
    let mut all: BTreeMap<String, String> = ours.map(|path| (path.clone(), here(&path))).collect();
    all.insert("action.yaml".into(), here("action.yaml"));
    for path in project.files().into_iter().filter(|path| path.starts_with(".github")) {
        all.insert(format!("init {path}"), project.read(&path));
    }
    all
}

#[test]
fn init_writes_the_pipeline_and_the_services() {
    let project = project();
    for path in project.files().iter().filter(|path| path.starts_with(".github")) {
        insta::assert_snapshot!(path.trim_start_matches('.').replace('/', "_"), project.read(path));
    }
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("services");
    for path in project.files().iter().filter_map(|path| path.strip_prefix("services/")) {
        assert_eq!(
            project.read(&format!("services/{path}")),
            std::fs::read_to_string(services.join(path)).unwrap()
        );
        assert!(!path.contains("__pycache__") && !path.contains("_cache/"), "{path}");
    }
    let again = project.run(&["init", "--ci", "github"]);
    assert!(!again.stdout.contains("written"), "{again}");
}

#[test]
fn what_is_the_same_here_and_in_a_project_does_not_drift() {
    let project = project();
    for path in [
        ".github/actions/mfsre/action.yaml",
        ".github/workflows/bump.yaml",
        ".github/workflows/images.yaml",
    ] {
        assert_eq!(
            here(path),
            project.read(path),
            "{path}: run `mfsre init --ci github` elsewhere and copy it"
        );
    }
    assert_eq!(here("action.yaml"), mfsre::render::action().unwrap());
}

#[test]
fn each_environment_that_is_no_sandbox_has_its_place_in_the_pipeline() {
    let project = Project::empty();
    project.write("environments/prod.yaml", format!("name: prod\n{REPOSITORY}"));
    project.write(
        "environments/sandbox.yaml",
        "name: sandbox\nargocd_repository_url: ssh://git@127.0.0.1:30922/mfsre/platform.git\nsandbox: {}\n",
    );
    let finished = project.run(&["init", "--ci", "github"]);
    assert_eq!(finished.code, 0, "{finished}");
    assert!(
        !project.has("environments/demo.yaml"),
        "an environment nobody asked for"
    );
    for path in [".github/workflows/plan.yaml", ".github/workflows/apply.yaml"] {
        assert!(
            project.read(path).contains("environment: [\"prod\"]\n"),
            "{}",
            project.read(path)
        );
    }
    let project = Project::empty();
    project.write("environments/prod.yaml", format!("name: prod\n{REPOSITORY}"));
    project.run(&["init", "--ci", "github", "--environment", "staging"]);
    let apply = project.read(".github/workflows/apply.yaml");
    assert!(apply.contains("environment: [\"prod\", \"staging\"]\n"), "{apply}");
    // Without being asked for, no pipeline is written.
    let project = Project::empty();
    project.run(&["init", "--ci", "none"]);
    assert!(!project.has(".github"));
}

#[test]
fn every_action_is_pinned_by_its_commit_and_the_same_everywhere() {
    let mut pins: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in workflows() {
        for line in text.lines().filter_map(|line| line.split_once("uses: ")) {
            let used = line.1;
            if used.starts_with("./") {
                continue;
            }
            let (action, pin) = used.split_once('@').unwrap_or_else(|| panic!("{path}: {used}"));
            let (commit, version) = pin.split_once(" # v").unwrap_or_else(|| panic!("{path}: {used}"));
            assert!(
                commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()),
                "{path}: {used}"
            );
            assert_eq!(version.split('.').count(), 3, "{path}: {used}");
            pins.entry(action.to_owned()).or_default().insert(pin.to_owned());
        }
    }
    for (action, pins) in &pins {
        assert_eq!(pins.len(), 1, "{action} is pinned in several ways: {pins:?}");
    }
    // The documentation lists them all.
    let documentation = here("docs/github-actions.md");
    for (action, pins) in pins {
        let (commit, version) = pins.first().unwrap().split_once(" # ").unwrap();
        assert!(
            documentation.contains(&format!("| `{action}` | {version} | `{commit}` |")),
            "docs/github-actions.md lacks {action} {version} {commit}"
        );
    }
}

#[test]
fn no_workflow_has_more_than_it_needs() {
    for (path, text) in workflows().into_iter().filter(|(path, _)| path.contains("workflows/")) {
        assert!(text.contains("\npermissions: {}\n"), "{path}");
        assert!(
            !text.contains("pull_request_target") && !text.contains("workflow_run"),
            "{path}"
        );
        assert!(
            !text.contains("AWS_ACCESS_KEY_ID") && !text.contains("AWS_SECRET_ACCESS_KEY"),
            "{path}"
        );
        let count = |what: &str| text.matches(what).count();
        assert_eq!(
            count("uses: actions/checkout@"),
            count("persist-credentials: false"),
            "{path}"
        );
        let jobs = count("\n    runs-on: ");
        assert_eq!(count("\n    timeout-minutes: "), jobs, "{path}");
        assert!(count("\n    permissions:\n") >= jobs, "{path}");
        assert!(text.contains("\nconcurrency:\n"), "{path}");
        // No expression stands in a script: what it holds would be run.
        let mut script = None;
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            if script.is_some_and(|start| indent <= start && !line.trim().is_empty()) {
                script = None;
            }
            if line.trim_start().trim_start_matches("- ").starts_with("run:") {
                script = Some(indent);
            }
            assert!(script.is_none() || !line.contains("${{"), "{path}: {line}");
        }
    }
}
