//! `mfsre bump`: from a version to the lines that carry it, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Finished, Project, REPOSITORY, report};
use proptest::prelude::*;
use serde_json::json;

const VALUES: &str = "cd/charts/main-service/values.yaml";
const CHART: &str = "cd/charts/main-service/Chart.yaml";
const GENERATED: &str = "cd/environments/demo/values.yaml";
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A project whose environment is rendered.
fn rendered() -> Project {
    let project = Project::demo();
    assert_eq!(project.run(&["render", "demo"]).code, 0);
    project
}

/// The same in a git repository, with everything committed.
fn committed() -> Project {
    let project = rendered();
    git(&project, &["init", "--quiet", "--initial-branch=main"]);
    git(&project, &["config", "user.name", "Alice"]);
    git(&project, &["config", "user.email", "alice@example.com"]);
    project.write(".gitignore", ".mfsre/\n");
    git(&project, &["add", "--all"]);
    git(&project, &["commit", "--quiet", "--message=Start"]);
    project
}

fn git(project: &Project, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(project.root())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", project.home())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn commits(project: &Project) -> usize {
    git(project, &["rev-list", "--count", "HEAD"]).trim().parse().unwrap()
}

/// A bump that is expected to end well.
fn bump(project: &Project, arguments: &[&str]) -> Finished {
    let finished = project.run(&[&["bump"], arguments].concat());
    assert_eq!(finished.code, 0, "{finished}");
    finished
}

/// The tree and the number of the commits, and what is not committed.
fn outcome(project: &Project) -> (String, usize, String) {
    let tree = git(project, &["rev-parse", "HEAD^{tree}"]);
    (tree, commits(project), git(project, &["status", "--short"]))
}

/// By SIGKILL, at moments spread over its whole time, with the real git at work. The calls themselves are cut off one by one in
/// `tests/kill`.
#[test]
fn a_bump_that_is_killed_at_any_time_is_finished_by_the_next_one() {
    const MOMENTS: u32 = 24;
    let arguments = ["main-service", "--image-tag", "v2.0.0", "--commit"];
    let undisturbed = committed();
    let began = Instant::now();
    bump(&undisturbed, &arguments);
    let took = began.elapsed();
    let wanted = outcome(&undisturbed);
    let mut killed = 0;
    for moment in 0..MOMENTS {
        let project = committed();
        let mut command = project.mfsre(&[&["bump"][..], &arguments].concat());
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(took * moment / MOMENTS);
        running.kill().unwrap();
        killed += u64::from(running.wait().unwrap().signal() == Some(9));
        // A git that was at work goes on, and has the index to itself until it is done.
        let end = Instant::now() + Duration::from_secs(10);
        let mut again = project.run(&[&["bump"][..], &arguments].concat());
        while again.code != 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
            again = project.run(&[&["bump"][..], &arguments].concat());
        }
        assert_eq!(again.code, 0, "killed at moment {moment}: {again}");
        assert_eq!(outcome(&project), wanted, "killed at moment {moment}");
    }
    assert!(killed > 2, "{killed} of {MOMENTS} were killed before they had ended");
    let points = u64::from(MOMENTS);
    report::figure(
        "kill",
        "bump, real processes",
        &[("points", points), ("killed", killed), ("converged", points)],
    );
}

fn is_as_rendered(project: &Project) {
    let finished = project.run(&["render", "demo", "--check"]);
    assert_eq!(finished.code, 0, "{finished}");
}

/// The lines that two texts do not share, `-` and `+`.
fn difference(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.split('\n').collect(), after.split('\n').collect());
    assert_eq!(old.len(), new.len());
    old.iter()
        .zip(&new)
        .filter(|(old, new)| old != new)
        .map(|(old, new)| format!("-{old}\n+{new}\n"))
        .collect()
}

#[test]
fn a_tag_goes_to_the_values_and_to_the_chart_and_nothing_else_changes() {
    let project = rendered();
    let (values, chart) = (project.read(VALUES), project.read(CHART));
    let files = project.files();
    insta::assert_snapshot!(bump(&project, &["main-service", "--image-tag", "1.4.0"]));
    assert_eq!(
        difference(&values, &project.read(VALUES)),
        "-  tag: \"0.1.0\"\n+  tag: \"1.4.0\"\n"
    );
    assert_eq!(
        difference(&chart, &project.read(CHART)),
        "-appVersion: \"0.1.0\"\n+appVersion: \"1.4.0\"\n"
    );
    let after: Vec<String> = project
        .files()
        .into_iter()
        .filter(|f| !f.starts_with(".mfsre"))
        .collect();
    assert_eq!(after, files);
    is_as_rendered(&project);
}

#[test]
fn a_second_time_nothing_changes() {
    let project = rendered();
    bump(&project, &["main-service", "--image-tag", "1.4.0"]);
    let (values, chart) = (project.read(VALUES), project.read(CHART));
    insta::assert_snapshot!(bump(&project, &["main-service", "--image-tag", "1.4.0"]));
    assert_eq!((project.read(VALUES), project.read(CHART)), (values, chart));
}

#[test]
fn a_digest_goes_over_the_tag_and_a_tag_takes_the_digest_away() {
    let project = rendered();
    insta::assert_snapshot!("digest", bump(&project, &["main-service", "--image-tag", DIGEST]));
    assert!(project.read(VALUES).contains(&format!(
        "  tag: \"0.1.0\"\n  # sha256:...; goes over the tag\n  digest: \"{DIGEST}\"\n"
    )));
    is_as_rendered(&project);
    insta::assert_snapshot!(
        "tag_after_digest",
        bump(&project, &["main-service", "--image-tag", "1.4.0"])
    );
    let both = format!("1.5.0@{DIGEST}");
    insta::assert_snapshot!(
        "tag_and_digest",
        bump(&project, &["main-service", "--image-tag", &both])
    );
    is_as_rendered(&project);
}

#[test]
fn programs_get_the_same_as_a_document() {
    let project = committed();
    let finished = bump(
        &project,
        &["main-service", "--image-tag", "1.4.0", "--commit", "--output", "json"],
    );
    let mut document = finished.json();
    let commit = document["commit"].take();
    assert_eq!(commit.as_str().unwrap(), git(&project, &["rev-parse", "HEAD"]).trim());
    assert_eq!(
        document,
        json!({
            "schema": 1, "command": "bump", "environment": null, "ok": true,
            "chart": "main-service", "version": "1.4.0", "commit": null, "notes": [],
            "changes": [
                { "file": VALUES, "line": 5, "key": "image.tag", "old": "0.1.0", "new": "1.4.0" },
                { "file": CHART, "line": 9, "key": "appVersion", "old": "0.1.0", "new": "1.4.0" },
            ],
        })
    );
}

#[test]
fn rendering_anew_keeps_the_version_and_mends_the_rest() {
    let project = rendered();
    bump(&project, &["main-service", "--image-tag", "1.4.0"]);
    let good = project.read(VALUES);
    project.write(VALUES, good.replace("maxReplicas: 15", "maxReplicas: 99"));
    assert_eq!(project.run(&["render", "demo"]).code, 0);
    assert_eq!(project.read(VALUES), good);
    // Another version of the templates.
    project.write(
        "templates/cd/charts/main-service/values.yaml",
        good.replace("tag: \"1.4.0\"", "tag: \"0.9.0\"")
            .replace("maxReplicas: 15", "maxReplicas: 20"),
    );
    assert_eq!(project.run(&["render", "demo"]).code, 0);
    assert_eq!(project.read(VALUES), good.replace("maxReplicas: 15", "maxReplicas: 20"));
    // Written by hand, and without quotes.
    project.write(VALUES, project.read(VALUES).replace("\"1.4.0\"", "1.10"));
    assert_eq!(project.run(&["render", "demo"]).code, 0);
    assert!(project.read(VALUES).contains("  tag: \"1.10\"\n"));
}

#[test]
fn rendering_does_not_go_over_a_version_that_it_cannot_read() {
    let project = rendered();
    let good = project.read(VALUES);
    let mut shown = String::new();
    for broken in [
        good.replace(
            "  tag: \"0.1.0\"",
            "<<<<<<< HEAD\n  tag: \"1.0\"\n=======\n  tag: \"2.0\"\n>>>>>>> theirs",
        ),
        good.replace("\"0.1.0\"", "\"a b\""),
        good.replace("\"0.1.0\"", "[1]"),
        good.replace("digest: \"\"", "digest: \"1.0\""),
    ] {
        project.write(VALUES, &broken);
        let finished = project.run(&["render", "demo"]);
        assert_eq!(finished.code, 78, "{finished}");
        assert_eq!(project.read(VALUES), broken);
        shown.push_str(&finished.stderr);
    }
    project.write(VALUES, b"image: \xff\n");
    let finished = project.run(&["render", "demo"]);
    assert_eq!(finished.code, 78, "{finished}");
    shown.push_str(&finished.stderr);
    insta::assert_snapshot!(shown);
}

// ---------------------------------------------------------------------------------------------------------------------
// One environment

#[test]
fn an_environment_gets_a_version_of_its_own() {
    let project = rendered();
    let (values, chart, generated) = (project.read(VALUES), project.read(CHART), project.read(GENERATED));
    let arguments = ["main-service", "--image-tag", "1.4.0", "--environment", "demo"];
    insta::assert_snapshot!("environment", bump(&project, &arguments));
    assert_eq!(
        project.read("environments/demo.yaml"),
        format!("name: demo\n{REPOSITORY}images:\n  versions:\n    main-service: \"1.4.0\"\n")
    );
    assert_eq!((project.read(VALUES), project.read(CHART)), (values, chart));
    assert_eq!(
        project.read(GENERATED),
        generated.replace(
            "mainService: {}\n",
            "mainService:\n  image:\n    tag: '1.4.0'\n    digest: ''\n"
        )
    );
    is_as_rendered(&project);
    insta::assert_snapshot!("environment_again", bump(&project, &arguments));
    // What is set for all does not reach it, which is said.
    insta::assert_snapshot!(
        "chart_after_environment",
        bump(&project, &["main-service", "--image-tag", "1.5.0"])
    );
}

#[test]
fn the_file_of_an_environment_keeps_its_comments_and_its_line_breaks() {
    let project = rendered();
    let text = format!(
        "# Ours\r\nname: demo # the name\r\nimages:   # where from\r\n    registry: ghcr.io/acme\r\n    versions:\r\n        exporter: 'v1' # old\r\n\r\n{}",
        REPOSITORY.replace('\n', "\r\n")
    );
    project.write("environments/demo.yaml", &text);
    bump(&project, &["exporter", "--image-tag", "v2", "--environment", "demo"]);
    bump(
        &project,
        &["main-service", "--image-tag", DIGEST, "--environment", "demo"],
    );
    assert_eq!(
        project.read("environments/demo.yaml"),
        text.replace(
            "'v1' # old\r\n",
            &format!("'v2' # old\r\n        main-service: \"{DIGEST}\"\r\n")
        )
    );
    is_as_rendered(&project);
    assert!(
        project
            .read(GENERATED)
            .contains(&format!("mainService:\n  image:\n    digest: '{DIGEST}'\n"))
    );
}

#[test]
fn an_environment_that_is_not_rendered_yet_says_so() {
    let project = Project::demo();
    let finished = bump(&project, &["exporter", "--image-tag", "v2", "--environment", "demo"]);
    insta::assert_snapshot!(finished);
}

#[test]
fn a_link_to_a_file_stays_one_and_its_mode_is_kept() {
    let project = rendered();
    project.write("shared/demo.yaml", project.read("environments/demo.yaml"));
    let link = project.root().join("environments/demo.yaml");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("../shared/demo.yaml", &link).unwrap();
    let shared = project.root().join("shared/demo.yaml");
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o640)).unwrap();
    bump(&project, &["exporter", "--image-tag", "v2", "--environment", "demo"]);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(project.read("shared/demo.yaml").contains("exporter: \"v2\""));
    assert_eq!(shared.metadata().unwrap().permissions().mode() & 0o777, 0o640);
}

// ---------------------------------------------------------------------------------------------------------------------
// Refusals

#[test]
fn what_is_no_version_and_no_chart_is_refused_and_nothing_is_written() {
    let project = rendered();
    project.write("cd/charts/other/values.yaml", "replicas: 1\n");
    let before = (project.read(VALUES), project.read(CHART), project.files());
    let long = "x".repeat(129);
    let mut shown = String::new();
    for arguments in [
        &["main-service", "--image-tag", ""][..],
        &["main-service", "--image-tag", ".1"],
        &["main-service", "--image-tag", "1.0;rm -rf"],
        &["main-service", "--image-tag", "ghcr.io/acme/main-service:1.0"],
        &["main-service", "--image-tag", "sha256:abc"],
        &["main-service", "--image-tag", "1.0@sha512:abc"],
        &["main-service", "--image-tag", &long],
        &["main-sevice", "--image-tag", "1.0"],
        &["database", "--image-tag", "1.0"],
        &["other", "--image-tag", "1.0"],
        &["../charts/exporter", "--image-tag", "1.0"],
        &["other", "--image-tag", "1.0", "--environment", "demo"],
        &["main-service", "--image-tag", "1.0", "--environment", "dmo"],
        &["main-service"],
    ] {
        let finished = project.run(&[&["bump"], arguments].concat());
        let code = if arguments.contains(&"dmo") { 78 } else { 64 };
        assert_eq!(finished.code, code, "{arguments:?}\n{finished}");
        shown.push_str(&format!("$ mfsre bump {}\n{}\n", arguments.join(" "), finished.stderr));
    }
    insta::assert_snapshot!(shown);
    assert_eq!((project.read(VALUES), project.read(CHART), project.files()), before);
}

#[test]
fn files_that_cannot_be_edited_are_shown_with_the_place() {
    let mut shown = String::new();
    let mut refused = |path: &str, contents: &str, arguments: &[&str]| {
        let project = rendered();
        project.write(path, contents);
        let finished = project.run(&[&["bump", "main-service", "--image-tag", "1.4.0"], arguments].concat());
        assert_eq!(finished.code, 78, "{finished}");
        assert_eq!(project.read(path), contents);
        shown.push_str(&finished.stderr);
        shown.push('\n');
    };
    refused(VALUES, "image: {tag: [1]}\n", &[]);
    refused(VALUES, "image:\n  tag: 1\n  tag: 2\n", &[]);
    refused(VALUES, "image: *missing\n", &[]);
    refused(VALUES, "image:\n  tag: 1\n---\nimage:\n  tag: 2\n", &[]);
    refused(CHART, "appVersion: |\n  1\n", &[]);
    let environment = format!("{REPOSITORY}images: ~\n");
    refused("environments/demo.yaml", &environment, &["--environment", "demo"]);
    let environment = format!("{REPOSITORY}regoin: x\n");
    refused("environments/demo.yaml", &environment, &["--environment", "demo"]);
    let project = Project::demo();
    shown.push_str(&project.run(&["bump", "main-service", "--image-tag", "1"]).stderr);
    let project = rendered();
    std::fs::remove_file(project.root().join(CHART)).unwrap();
    let values = project.read(VALUES);
    let finished = project.run(&["bump", "main-service", "--image-tag", "1"]);
    assert_eq!(finished.code, 78);
    assert_eq!(project.read(VALUES), values);
    shown.push_str(&finished.stderr);
    insta::assert_snapshot!(shown);
}

#[test]
fn a_second_bump_at_the_same_time_is_turned_away() {
    let project = rendered();
    project.write(".mfsre/bump/lock", "");
    let held = std::fs::File::options()
        .write(true)
        .open(project.root().join(".mfsre/bump/lock"))
        .unwrap();
    held.lock().unwrap();
    let finished = project.run(&["bump", "main-service", "--image-tag", "1.4.0"]);
    assert_eq!(finished.code, 75, "{finished}");
    insta::assert_snapshot!(finished.stderr);
}

// ---------------------------------------------------------------------------------------------------------------------
// Commits

/// The name and place of a commit change with every run.
fn shown(finished: &Finished) -> String {
    let mut text = finished.to_string();
    if let Some(at) = text.find("committed as ") {
        text.replace_range(at + 13..at + 23, "[COMMIT]");
    }
    text
}

#[test]
fn a_commit_holds_these_files_and_no_others() {
    let project = committed();
    project.write("staged.txt", "staged\n");
    git(&project, &["add", "staged.txt"]);
    project.write("environments/demo.yaml", format!("# changed\nname: demo\n{REPOSITORY}"));
    insta::assert_snapshot!(
        "commit",
        shown(&bump(&project, &["main-service", "--image-tag", "1.4.0", "--commit"]))
    );
    assert_eq!(
        git(&project, &["log", "-1", "--format=%an <%ae>%n%s", "--name-only"]),
        format!("Alice <alice@example.com>\nBump main-service to 1.4.0\n\n{CHART}\n{VALUES}\n")
    );
    assert_eq!(
        git(&project, &["status", "--short"]),
        " M environments/demo.yaml\nA  staged.txt\n"
    );
    insta::assert_snapshot!(
        "commit_again",
        shown(&bump(&project, &["main-service", "--image-tag", "1.4.0", "--commit"]))
    );
    assert_eq!(commits(&project), 2);
}

#[test]
fn the_commit_of_an_environment_holds_its_file_and_what_is_generated_from_it() {
    let project = committed();
    let version = format!("1.4.0@{DIGEST}");
    bump(
        &project,
        &["exporter", "--image-tag", DIGEST, "--environment", "demo", "--commit"],
    );
    assert_eq!(
        git(&project, &["log", "-1", "--format=%s", "--name-only"]),
        format!("Bump exporter to sha256:0123456789ab in demo\n\n{GENERATED}\nenvironments/demo.yaml\n")
    );
    bump(
        &project,
        &["exporter", "--image-tag", &version, "--environment", "demo", "--commit"],
    );
    assert_eq!(
        git(&project, &["log", "-1", "--format=%s"]),
        "Bump exporter to 1.4.0 in demo\n"
    );
    assert_eq!(git(&project, &["status", "--short"]), "");
}

#[test]
fn a_project_may_be_a_folder_of_its_repository() {
    let project = committed();
    let nested = Project::demo();
    // The repository's top is above the project.
    let top = project.root();
    std::fs::create_dir(top.join("platform")).unwrap();
    for path in nested.files() {
        project.write(&format!("platform/{path}"), nested.read(&path));
    }
    let at = |arguments: &[&str]| project.run(&[arguments, &["--project", "platform"]].concat());
    assert_eq!(at(&["render", "demo"]).code, 0);
    git(&project, &["add", "--all"]);
    git(&project, &["commit", "--quiet", "--message=Nest"]);
    let finished = at(&["bump", "exporter", "--image-tag", "v2", "--commit"]);
    assert_eq!(finished.code, 0, "{finished}");
    assert_eq!(
        git(&project, &["show", "--format=", "--name-only", "HEAD"]),
        "platform/cd/charts/exporter/Chart.yaml\nplatform/cd/charts/exporter/values.yaml\n"
    );
}

#[test]
fn where_nothing_can_be_committed_nothing_is_written() {
    let mut told = String::new();
    let mut refused = |what: &str, prepare: &dyn Fn(&Project)| {
        let project = committed();
        prepare(&project);
        let before = project.read(VALUES);
        let finished = project.run(&["bump", "main-service", "--image-tag", "1.4.0", "--commit"]);
        assert_eq!(finished.code, 1, "{what}\n{finished}");
        assert_eq!(project.read(VALUES), before, "{what}");
        told.push_str(&format!("# {what}\n{}\n", finished.stderr));
    };
    refused("no repository", &|project| {
        std::fs::remove_dir_all(project.root().join(".git")).unwrap()
    });
    refused("no branch", &|project| {
        drop(git(project, &["checkout", "--quiet", "--detach"]))
    });
    for (what, file) in [
        ("merge", "MERGE_HEAD"),
        ("cherry-pick", "CHERRY_PICK_HEAD"),
        ("revert", "REVERT_HEAD"),
        ("rebase", "rebase-merge/head-name"),
    ] {
        refused(what, &|project| project.write(&format!(".git/{file}"), "x\n"));
    }
    refused("no name", &|project| {
        git(project, &["config", "--unset", "user.name"]);
        git(project, &["config", "--unset", "user.email"]);
        git(project, &["config", "user.useConfigOnly", "true"]);
    });
    refused("not committed yet", &|project| {
        git(project, &["rm", "--quiet", "--cached", VALUES]);
        git(project, &["commit", "--quiet", "--message=Forget"]);
    });
    refused("no commit yet", &|project| {
        std::fs::remove_dir_all(project.root().join(".git")).unwrap();
        git(project, &["init", "--quiet", "--initial-branch=main"]);
        git(project, &["config", "user.name", "Alice"]);
        git(project, &["config", "user.email", "alice@example.com"]);
    });
    refused("other changes", &|project| {
        project.write(
            VALUES,
            project.read(VALUES).replace("maxReplicas: 15", "maxReplicas: 20"),
        );
    });
    insta::assert_snapshot!(told);
}

#[test]
fn without_git_the_version_is_set_and_a_commit_is_refused() {
    let project = rendered();
    let with_path = |arguments: &[&str]| {
        let mut command = project.mfsre(arguments);
        command.env("PATH", project.home());
        project.finish(command)
    };
    let finished = with_path(&["bump", "main-service", "--image-tag", "1.4.0", "--commit"]);
    assert_eq!(finished.code, 1);
    insta::assert_snapshot!(finished.stderr);
    assert_eq!(with_path(&["bump", "main-service", "--image-tag", "1.4.0"]).code, 0);
}

#[test]
fn a_hook_that_refuses_is_told_and_the_next_run_commits() {
    let project = committed();
    let hook = project.root().join(".git/hooks/pre-commit");
    project.write(
        ".git/hooks/pre-commit",
        "#!/bin/sh\necho 'no commits on a Friday'\nexit 1\n",
    );
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let finished = project.run(&["bump", "main-service", "--image-tag", "1.4.0", "--commit"]);
    assert_eq!(finished.code, 1);
    insta::assert_snapshot!(finished.stderr);
    std::fs::remove_file(hook).unwrap();
    bump(&project, &["main-service", "--image-tag", "1.4.0", "--commit"]);
    assert_eq!(
        (commits(&project), git(&project, &["status", "--short"])),
        (2, String::new())
    );
}

/// Ends the program at a git command, by a git that kills its parent before or after the real one has run.
fn killed_at(project: &Project, command: &str, after: bool, arguments: &[&str]) {
    let real = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join("git"))
        .find(|path| path.is_file())
        .unwrap();
    let real = real.display();
    let kill = "kill -KILL $PPID; exit 1";
    let script = if after {
        format!("#!/bin/sh\n{real} \"$@\"\ncase \" $* \" in *' {command} '*) {kill} ;; esac\n")
    } else {
        format!("#!/bin/sh\ncase \" $* \" in *' {command} '*) {kill} ;; esac\nexec {real} \"$@\"\n")
    };
    let bin = project.home().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::write(bin.join("git"), script).unwrap();
    std::fs::set_permissions(bin.join("git"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path =
        std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())))
            .unwrap();
    let status = project.mfsre(arguments).env("PATH", path).output().unwrap().status;
    assert_eq!(status.code(), None, "{command} was not reached");
}

#[test]
fn killed_at_any_point_a_second_run_ends_at_the_same_place() {
    let arguments = ["bump", "main-service", "--image-tag", "1.4.0", "--commit"];
    for command in ["symbolic-ref", "cat-file", "commit", "rev-parse"] {
        for after in [false, true] {
            let project = committed();
            killed_at(&project, command, after, &arguments);
            let finished = project.run(&arguments);
            assert_eq!(finished.code, 0, "{command} {after}\n{finished}");
            assert_eq!(
                (commits(&project), git(&project, &["status", "--short"])),
                (2, String::new()),
                "{command} {after}"
            );
            assert!(project.read(VALUES).contains("tag: \"1.4.0\"") && project.read(CHART).contains("\"1.4.0\""));
        }
    }
    // Between the two files; and then somebody wants another version.
    for version in ["1.4.0", "1.5.0"] {
        let project = committed();
        project.write(VALUES, project.read(VALUES).replace("tag: \"0.1.0\"", "tag: \"1.4.0\""));
        bump(&project, &["main-service", "--image-tag", version, "--commit"]);
        assert_eq!(
            (commits(&project), git(&project, &["status", "--short"])),
            (2, String::new())
        );
        is_as_rendered(&project);
    }
    let project = committed();
    project.write(
        "environments/demo.yaml",
        format!("name: demo\n{REPOSITORY}images:\n  versions:\n    exporter: \"v2\"\n"),
    );
    bump(
        &project,
        &["exporter", "--image-tag", "v2", "--environment", "demo", "--commit"],
    );
    assert_eq!(
        (commits(&project), git(&project, &["status", "--short"])),
        (2, String::new())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_version_is_read_back_and_rendered_as_it_is(tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}") {
        let project = rendered();
        bump(&project, &["main-service", "--image-tag", &tag]);
        let values = project.read(VALUES);
        let found = mfsre::yaml::get(&values, &["image", "tag"]).unwrap().unwrap();
        prop_assert_eq!(found.value, tag);
        is_as_rendered(&project);
    }
}
