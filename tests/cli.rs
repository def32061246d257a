//! The command line as people and scripts meet it: the whole of what the program prints, and its exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
mod common;

use std::io::Read as _;
use std::process::Stdio;

use common::{Finished, Project, REPOSITORY};
use serde_json::{Value, json};

/// A document, laid out for reading.
fn document(finished: &Finished) -> String {
    format!(
        "exit code: {}\n{}\n----- stderr -----\n{}",
        finished.code,
        serde_json::to_string_pretty(&finished.json()).unwrap(),
        finished.stderr
    )
}

// ---------------------------------------------------------------------------------------------------------------------
// Help, version, and what is not understood

#[test]
fn every_command_explains_itself() {
    let project = Project::empty();
    for command in [
        "",
        "init",
        "validate",
        "render",
        "plan",
        "up",
        "down",
        "status",
        "backend",
        "backend create",
        "backend migrate",
        "rotate",
        "rotate argocd-password",
        "rotate deploy-key",
        "kubeconfig",
        "token",
        "secrets",
        "secrets show",
        "secrets show argocd-password",
        "sandbox",
        "sandbox start",
        "sandbox stop",
        "sandbox status",
        "sandbox logs",
        "sandbox load",
        "bump",
        "iam-policy",
        "schema",
        "completions",
    ] {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let finished = project.run(&arguments);
        assert_eq!(finished.code, 0, "{finished}");
        insta::assert_snapshot!(format!("help_{}", command.replace(' ', "_")), finished);
    }
}

#[test]
fn the_help_of_the_program_names_every_command_that_is_not_internal() {
    let help = Project::empty().run(&["--help"]).stdout;
    use clap::CommandFactory as _;
    for command in mfsre::cli::Cli::command().get_subcommands() {
        assert!(
            help.contains(&format!("  {} ", command.get_name())),
            "{}",
            command.get_name()
        );
    }
    let help = Project::empty().run(&["sandbox", "--help"]).stdout;
    assert!(!help.contains("supervise") && !help.contains("exec ") && !help.contains("exporter"));
}

#[test]
fn the_version_is_that_of_the_package() {
    let finished = Project::empty().run(&["--version"]);
    assert_eq!(finished.code, 0);
    assert_eq!(finished.stdout, concat!("mfsre ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn what_is_not_understood_ends_with_64_and_prints_nothing_to_standard_output() {
    let project = Project::empty();
    let mut shown = String::new();
    for arguments in [
        &[][..],
        &["sandbox"],
        &["secrets", "show"],
        &["frobnicate"],
        &["valdate"],
        &["up"],
        &["up", "demo", "extra"],
        &["up", "demo", "--force-it"],
        &["up", "demo", "--timeout", "soon"],
        &["up", "demo", "--timeout", "99999999999999999999m"],
        &["sandbox", "load", "--rate", "0"],
        &["rotate", "password", "demo"],
        &["rotate", "deploy-key"],
        &["rotate", "deploy-key", "demo", "--if-older-than", "old"],
        &["validate", "--output", "yaml"],
        &["validate", "-q", "-v"],
        &["completions", "cmd.exe"],
        &["kubeconfig", "demo", "--print", "--file", "x"],
    ] {
        let finished = project.run(arguments);
        assert_eq!(finished.code, 64, "{arguments:?}\n{finished}");
        assert_eq!(finished.stdout, "", "{arguments:?}");
        if !arguments.is_empty() && arguments != ["sandbox"] && arguments != ["secrets", "show"] {
            shown.push_str(&format!("$ mfsre {}\n{}\n", arguments.join(" "), finished.stderr));
        }
    }
    insta::assert_snapshot!(shown);
}

// ---------------------------------------------------------------------------------------------------------------------
// init

#[test]
fn init_starts_a_project_in_an_empty_folder() {
    let project = Project::empty();
    insta::assert_snapshot!(project.run(&["init"]));
    assert_eq!(
        project.files(),
        [".gitignore", "environments/demo.yaml", "environments/schema.json"]
    );
    insta::assert_snapshot!("init_writes_this_environment", project.read("environments/demo.yaml"));
    insta::assert_snapshot!("init_writes_this_gitignore", project.read(".gitignore"));
}

#[test]
fn what_init_writes_is_valid_once_the_repository_and_administrators_are_known() {
    let project = Project::empty();
    let repository = "git@github.com:acme/platform.git";
    let finished = project.run(&[
        "init",
        "--repository",
        repository,
        "--environment",
        "blue",
        "--environment",
        "green",
    ]);
    insta::assert_snapshot!(finished);
    assert_eq!(project.run(&["validate"]).code, 78);
    for name in ["blue", "green"] {
        let path = format!("environments/{name}.yaml");
        let administrators = "administrators: ['arn:aws:iam::123456789012:role/platform-admin']";
        project.write(&path, project.read(&path).replace("administrators: []", administrators));
    }
    assert_eq!(project.run(&["validate"]).code, 0);
    assert_eq!(project.run(&["render", "green"]).code, 0);
}

#[test]
fn init_keeps_files_that_are_there() {
    let project = Project::demo();
    let before = project.read("environments/demo.yaml");
    insta::assert_snapshot!(project.run(&["init"]));
    assert_eq!(project.read("environments/demo.yaml"), before);
    insta::assert_snapshot!("init_a_second_time", project.run(&["init"]));
}

#[test]
fn init_writes_a_sandbox_that_can_be_used_at_once() {
    let project = Project::empty();
    let finished = project.run(&["init", "--environment", "sandbox"]);
    insta::assert_snapshot!(finished);
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/environments/sandbox.yaml");
    assert_eq!(
        project.read("environments/sandbox.yaml"),
        std::fs::read_to_string(shipped).unwrap()
    );
    assert_eq!(project.run(&["validate"]).code, 0);
    assert_eq!(project.run(&["sandbox", "status"]).code, 3);
}

#[test]
fn init_tells_that_a_url_is_not_written_into_a_file_that_is_kept() {
    let project = Project::empty();
    project.run(&["init"]);
    let before = project.read("environments/demo.yaml");
    let finished = project.run(&["init", "--repository", "git@github.com:acme/platform.git"]);
    assert_eq!(project.read("environments/demo.yaml"), before);
    insta::assert_snapshot!(finished);
}

#[test]
fn init_refuses_names_and_urls_that_cannot_be_used_and_writes_nothing() {
    let project = Project::empty();
    let mut shown = String::new();
    for arguments in [
        &["init", "--environment", "Demo"][..],
        &["init", "--environment", "../demo"],
        &["init", "--environment", ""],
        &["init", "--repository", "acme/platform"],
        &["init", "--repository", "https://token@github.com/acme/platform"],
        &["init", "--environment", "good", "--environment", "Bad"],
    ] {
        let finished = project.run(arguments);
        assert_eq!(finished.code, 64, "{finished}");
        shown.push_str(&format!("$ mfsre {}\n{finished}\n", arguments.join(" ")));
    }
    insta::assert_snapshot!(shown);
    assert!(project.files().is_empty(), "{:?}", project.files());
}

#[test]
fn init_tells_programs_what_it_wrote() {
    let project = Project::empty();
    insta::assert_snapshot!(document(&project.run(&["init", "--output", "json"])));
    insta::assert_snapshot!(
        "init_bad_name_json",
        document(&project.run(&["init", "--environment", "Demo", "--output", "json"]))
    );
}

#[test]
fn init_says_which_folder_cannot_be_written() {
    let project = Project::empty();
    project.write("environments", "a file in the way");
    let finished = project.run(&["init"]);
    assert_eq!(finished.code, 1);
    insta::assert_snapshot!(finished);
}

// ---------------------------------------------------------------------------------------------------------------------
// validate

fn with_mistakes() -> Project {
    let project = Project::demo();
    project.write(
        "environments/prod.yaml",
        format!("name: prod\nregoin: eu-west-1\nvpc_cidr: 10.0.0.0/8\n{REPOSITORY}"),
    );
    project
}

#[test]
fn validate_checks_one_environment_or_all() {
    let project = Project::demo();
    insta::assert_snapshot!("validate_one", project.run(&["validate", "demo"]));
    project.write("environments/blue.yaml", format!("name: blue\n{REPOSITORY}"));
    insta::assert_snapshot!("validate_all", project.run(&["validate"]));
}

#[test]
fn validate_shows_every_mistake_and_ends_with_78() {
    let project = with_mistakes();
    let finished = project.run(&["validate"]);
    assert_eq!(finished.code, 78);
    insta::assert_snapshot!(finished);
}

#[test]
fn validate_gives_programs_the_place_of_every_mistake() {
    let project = with_mistakes();
    let finished = project.run(&["validate", "--output", "json"]);
    assert_eq!(finished.code, 78);
    insta::assert_snapshot!(document(&finished));
    insta::assert_snapshot!(
        "validate_good_json",
        document(&project.run(&["validate", "demo", "--output", "json"]))
    );
}

#[test]
fn a_warning_is_shown_and_the_file_is_valid() {
    let project = Project::empty();
    // Newer than any calendar.
    project.write(
        "environments/demo.yaml",
        format!("name: demo\ncluster_version: \"1.99\"\n{REPOSITORY}"),
    );
    insta::assert_snapshot!(project.run(&["validate"]));
    insta::assert_snapshot!(
        "a_warning_json",
        document(&project.run(&["validate", "--output", "json"]))
    );
    // Every other command tells it too, whether it succeeds or not.
    for (arguments, code) in [(&["render", "demo"][..], 0), (&["token", "demo"], 1)] {
        let shown = project.run(arguments);
        assert!(shown.stderr.starts_with("warning: the cluster version 1.99"), "{shown}");
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        let finished = project.run(&arguments);
        assert_eq!((finished.code, finished.stderr.as_str()), (code, ""), "{finished}");
        let warnings = &finished.json()["warnings"];
        assert_eq!(warnings[0]["line"], 2, "{finished}");
        assert!(warnings[0]["message"].as_str().unwrap().contains("1.99"), "{finished}");
    }
    assert!(Project::demo().run(&["render", "demo", "--output", "json"]).json()["warnings"].is_null());
}

#[test]
fn an_unknown_environment_is_answered_with_the_nearest_one() {
    let project = Project::demo();
    let mut shown = String::new();
    for name in [
        "dem",
        "production",
        "../demo",
        "demo.yaml",
        "environments/demo.yaml",
        "",
        "..",
    ] {
        let finished = project.run(&["validate", name]);
        assert_eq!(finished.code, 78, "{finished}");
        shown.push_str(&format!("$ mfsre validate {name:?}\n{finished}\n"));
    }
    insta::assert_snapshot!(shown);
    insta::assert_snapshot!(
        "unknown_environment_json",
        document(&project.run(&["render", "dem", "--output", "json"]))
    );
}

#[test]
fn outside_of_a_project_the_program_says_how_to_start_one() {
    let project = Project::empty();
    let finished = project.run(&["validate"]);
    assert_eq!(finished.code, 78);
    insta::assert_snapshot!(finished);
    let finished = project.run(&["validate", "--project", "nowhere"]);
    assert_eq!(finished.code, 78);
    insta::assert_snapshot!("outside_of_a_project_named", finished);
}

#[test]
fn a_project_is_found_from_a_folder_below_it_or_by_name() {
    let project = Project::demo();
    project.write("src/deep/file", "");
    let mut command = project.mfsre(&["validate"]);
    command.current_dir(project.root().join("src/deep"));
    assert_eq!(project.finish(command).code, 0);
    let mut command = project.mfsre(&["validate", "--project", project.root().to_str().unwrap()]);
    command.current_dir("/");
    assert_eq!(project.finish(command).code, 0);
    let mut command = project.mfsre(&["validate"]);
    command.current_dir("/").env("MFSRE_PROJECT", project.root());
    assert_eq!(project.finish(command).code, 0);
}

#[test]
fn a_project_without_environments_is_told_how_to_get_one() {
    let project = Project::empty();
    project.write("environments/README.md", "nothing here yet");
    let finished = project.run(&["validate"]);
    assert_eq!(finished.code, 78);
    insta::assert_snapshot!(finished);
}

#[test]
fn a_copied_file_that_keeps_its_name_is_refused_by_every_command() {
    let project = Project::demo();
    project.write(
        "environments/us.yaml",
        format!("name: demo\nregion: us-east-1\n{REPOSITORY}"),
    );
    project.write("environments/prod.yaml", project.read("environments/demo.yaml"));
    let before = project.files();
    let finished = project.run(&["validate"]);
    assert_eq!(finished.code, 78);
    insta::assert_snapshot!(finished);
    for arguments in [
        &["render", "us"][..],
        &["plan", "prod"],
        &["up", "prod", "--yes"],
        &["down", "us", "--yes"],
        &["token", "prod"],
        &["kubeconfig", "prod", "--print"],
    ] {
        let finished = project.run(arguments);
        assert_eq!((finished.code, finished.stdout.as_str()), (78, ""), "{finished}");
        assert!(
            finished.stderr.contains("an environment has the name of its file"),
            "{finished}"
        );
    }
    assert_eq!(project.files(), before);
}

#[test]
fn an_environment_that_is_named_twice_is_checked_once() {
    let finished = Project::demo().run(&["validate", "demo", "demo"]);
    assert_eq!(
        (finished.code, finished.stdout.as_str()),
        (0, "environments/demo.yaml is valid\n"),
        "{finished}"
    );
}

#[test]
fn a_file_with_another_ending_is_no_environment_and_that_is_told() {
    let project = Project::demo();
    project.write("environments/prod.yml", format!("name: prod\n{REPOSITORY}"));
    insta::assert_snapshot!(project.run(&["validate", "prod"]));
    let finished = project.run(&["validate"]);
    assert_eq!(finished.code, 78, "{finished}");
    assert!(finished.stderr.contains("rename environments/prod.yml"), "{finished}");
}

#[test]
fn a_file_that_is_not_text_or_cannot_be_read_is_named() {
    let project = Project::empty();
    project.write("environments/demo.yaml", b"name: \xff\xfe\x00demo");
    let finished = project.run(&["validate", "demo"]);
    assert_eq!(finished.code, 78);
    insta::assert_snapshot!(finished);
    let project = Project::empty();
    std::fs::create_dir_all(project.root().join("environments/demo.yaml")).unwrap();
    let finished = project.run(&["validate", "demo"]);
    assert_eq!(finished.code, 78);
    insta::assert_snapshot!("an_environment_that_is_a_folder", finished);
}

#[test]
fn the_end_of_a_cluster_version_is_told_with_its_place() {
    let project = Project::empty();
    project.write(
        "environments/demo.yaml",
        format!("name: demo\ncluster_version: \"1.25\"\n{REPOSITORY}"),
    );
    let finished = project.run(&["validate"]);
    assert_eq!(finished.code, 78);
    // Which versions EKS supports depends on the day.
    insta::with_settings!({filters => vec![(r"1\.\d\d to 1\.\d\d", "1.x to 1.y"), ("set cluster_version to \"1\\.\\d\\d\"", "set cluster_version to \"1.y\"")]}, {
        insta::assert_snapshot!(finished);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// render

#[test]
fn render_writes_every_file_once() {
    let project = Project::demo();
    let first = project.run(&["render", "demo"]);
    assert_eq!(first.code, 0, "{first}");
    let count = project.files().len() - 1;
    assert_eq!(first.stdout, format!("{count} files, {count} changed\n"));
    assert_eq!(first.stderr, "");
    let second = project.run(&["render", "demo"]);
    assert_eq!(
        (second.code, second.stdout.as_str()),
        (0, &*format!("{count} files, 0 changed\n"))
    );
    let check = project.run(&["render", "demo", "--check"]);
    assert_eq!(
        (check.code, check.stdout.as_str()),
        (0, &*format!("{count} files are as rendered\n"))
    );
}

#[test]
fn render_check_shows_a_unified_diff_and_ends_with_2() {
    let project = Project::demo();
    project.run(&["render", "demo"]);
    project.write(
        "environments/demo.yaml",
        format!("name: demo\ncapacity_type: ON_DEMAND\n{REPOSITORY}"),
    );
    let before = project.files();
    let finished = project.run(&["render", "demo", "--check"]);
    assert_eq!(finished.code, 2);
    insta::assert_snapshot!(finished);
    assert_eq!(project.files(), before);
    assert!(
        project.read("infra/demo/terraform.tfvars.json").contains("SPOT"),
        "--check writes nothing"
    );
    insta::assert_snapshot!("render_check_json", {
        let finished = project.run(&["render", "demo", "--check", "--output", "json"]);
        assert_eq!(finished.code, 2);
        let mut shown = finished.json();
        assert!(shown["files"].take().as_u64().unwrap() > 50);
        serde_json::to_string_pretty(&shown).unwrap()
    });
}

#[test]
fn render_check_of_a_new_project_shows_whole_files() {
    let finished = Project::demo().run(&["render", "demo", "--check"]);
    assert_eq!(finished.code, 2);
    assert!(
        finished
            .stdout
            .contains("--- /dev/null\n+++ b/infra/demo/terraform.tfvars.json\n@@ -0,0 +1,"),
        "{finished}"
    );
}

#[test]
fn render_removes_what_it_generated_earlier_and_nothing_of_the_user() {
    let project = Project::demo();
    project.run(&["render", "demo"]);
    let generated = "# Generated by mfsre. Edit something else instead.\nkey: value\n";
    let stale = [
        "cd/charts/old/Chart.yaml",
        "infra/demo/old.tf",
        "modules/eks/old.tf",
        "cd/environments/demo/old.yaml",
    ];
    let kept = [
        ("cd/charts/mine/Chart.yaml", "name: mine\n"),
        ("infra/demo/mine.tf", "# mine\n"),
        ("infra/demo/.terraform/modules/x.tf", generated),
        ("infra/prod/main.tf", generated),
        ("cd/environments/prod/values.yaml", generated),
        ("cd/root/prod.yaml", generated),
        ("docs/notes.md", generated),
    ];
    for path in stale {
        project.write(path, generated);
    }
    for (path, contents) in kept {
        project.write(path, contents);
    }
    let finished = project.run(&["render", "demo"]);
    assert!(finished.stdout.ends_with(" files, 4 changed\n"), "{finished}");
    for path in stale {
        assert!(!project.has(path), "{path} is still there");
    }
    for (path, contents) in kept {
        assert_eq!(project.read(path), contents, "{path}");
    }
}

#[test]
fn a_template_of_the_project_wins_over_the_built_in_one_at_the_same_path() {
    let project = Project::demo();
    project.write("templates/terraform/root/outputs.tf", "# mine\n");
    project.write("templates/terraform/root/backend.tf.tera", "# for @{ name }@\n");
    project.write(
        "templates/terraform/root/extra.tf.tera",
        "locals { region = @{ region }@ }\n",
    );
    project.write("templates/cd/charts/mine/Chart.yaml", "name: mine\n");
    assert_eq!(project.run(&["render", "demo"]).code, 0);
    let mark = |template: &str| format!("# Generated by mfsre from templates/{template}. Edit that file instead.\n\n");
    for (path, template, contents) in [
        ("infra/demo/outputs.tf", "terraform/root/outputs.tf", "# mine\n"),
        (
            "infra/demo/backend.tf",
            "terraform/root/backend.tf.tera",
            "# for \"demo\"\n",
        ),
        (
            "infra/demo/extra.tf",
            "terraform/root/extra.tf.tera",
            "locals { region = \"eu-west-1\" }\n",
        ),
        ("cd/charts/mine/Chart.yaml", "cd/charts/mine/Chart.yaml", "name: mine\n"),
    ] {
        assert_eq!(project.read(path), mark(template) + contents);
    }
    assert_eq!(project.run(&["render", "demo", "--check"]).code, 0);
    std::fs::remove_dir_all(project.root().join("templates")).unwrap();
    assert_eq!(project.run(&["render", "demo"]).code, 0);
    assert!(project.read("infra/demo/outputs.tf").contains("Generated by mfsre. "));
    for gone in ["infra/demo/extra.tf", "cd/charts/mine/Chart.yaml"] {
        assert!(!project.has(gone), "{gone} outlives its template");
    }
}

#[test]
fn a_broken_template_is_named_with_its_line_and_ends_with_78() {
    let project = Project::demo();
    let mut shown = String::new();
    for template in [
        "# one\n@{ no_such_setting }@\n",
        "# one\n<% if x %>\nno end\n",
        "@{ name | no_such_filter }@\n",
        "@{ region @\n",
    ] {
        project.write("templates/terraform/root/backend.tf.tera", template);
        let finished = project.run(&["render", "demo"]);
        assert_eq!(finished.code, 78, "{finished}");
        assert!(
            finished.stderr.contains("templates/terraform/root/backend.tf.tera"),
            "{finished}"
        );
        shown.push_str(&format!("{template}{finished}\n"));
    }
    insta::assert_snapshot!(shown);
    assert!(!project.has("infra"), "nothing is written");
}

#[test]
fn render_says_what_it_cannot_write() {
    let project = Project::demo();
    project.write("infra", "a file in the way");
    let finished = project.run(&["render", "demo"]);
    assert_eq!(finished.code, 1);
    insta::assert_snapshot!(finished);
}

#[test]
fn two_environments_share_a_project_without_disturbing_one_another() {
    let project = Project::demo();
    project.write(
        "environments/blue.yaml",
        format!("name: blue\ncapacity_type: ON_DEMAND\n{REPOSITORY}"),
    );
    project.run(&["render", "demo"]);
    project.run(&["render", "blue"]);
    for name in ["demo", "blue"] {
        assert_eq!(project.run(&["render", name, "--check"]).code, 0, "{name}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// schema, completions, sandbox

#[test]
fn the_published_schema_is_the_one_of_the_program() {
    let finished = Project::empty().run(&["schema"]);
    assert_eq!(finished.code, 0);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/environments/schema.json");
    assert!(
        std::fs::read_to_string(path).unwrap() == finished.stdout,
        "environments/schema.json is out of date; update it with `cargo run -- schema > environments/schema.json`"
    );
}

#[test]
fn the_shipped_environments_are_valid() {
    let project = Project::empty();
    let finished = project.run(&["validate", "--project", env!("CARGO_MANIFEST_DIR")]);
    assert_eq!(finished.code, 0, "{finished}");
}

#[test]
fn there_are_completions_for_the_usual_shells() {
    let project = Project::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let finished = project.run(&["completions", shell]);
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
        assert!(finished.stdout.contains("kubeconfig"), "{shell}");
        assert!(
            !finished.stdout.contains("supervise"),
            "{shell} offers an internal command"
        );
    }
}

fn sandbox() -> Project {
    let project = Project::demo();
    project.write(
        "environments/sandbox.yaml",
        "name: sandbox\nargocd_repository_url: ssh://git@127.0.0.1:39922/mfsre/platform.git\nsandbox: {}\n",
    );
    project
}

#[test]
fn a_sandbox_that_does_not_run_is_not_healthy() {
    let project = sandbox();
    let finished = project.run(&["sandbox", "status"]);
    assert_eq!(finished.code, 3);
    insta::assert_snapshot!(finished);
    insta::assert_snapshot!(
        "sandbox_status_json",
        document(&project.run(&["sandbox", "status", "--output", "json"]))
    );
}

#[test]
fn status_of_a_sandbox_that_does_not_run_says_so_and_asks_nobody() {
    let project = sandbox();
    let finished = project.run(&["status", "sandbox"]);
    assert_eq!(finished.code, 3);
    insta::assert_snapshot!(finished);
    insta::assert_snapshot!(
        "status_of_no_sandbox_json",
        document(&project.run(&["status", "sandbox", "--output", "json"]))
    );
    let finished = project.run(&["plan", "sandbox"]);
    assert!(finished.stderr.contains("`mfsre sandbox start sandbox`"), "{finished}");
}

/// A sandbox of which the part `crashed` was killed; the file that is returned is what its supervisor holds.
fn with_a_crashed_part(crashed: &str) -> (Project, std::fs::File) {
    let project = sandbox();
    let parts = ["ministack", "etcd", "kube-apiserver", "argocd-server"].map(|name| {
        let health = if name == crashed {
            json!({ "state": "crashed", "exit": "signal: 9 (SIGKILL)", "log_tail": "the last words", "restarting": false })
        } else {
            json!({ "state": "healthy" })
        };
        json!({
            "name": name, "version": "v1", "pid": null, "address": "127.0.0.1:9", "memory_bytes": null, "health": health,
            "ready_after_ms": 5, "restarts": 0, "log": "/nowhere",
        })
    });
    let nowhere = "http://127.0.0.1:9/";
    let state = json!({ "phase": "ready", "status": {
        "name": "sandbox", "aws_endpoint_url": nowhere, "region": "eu-west-1", "account": "000000000000",
        "caller_arn": "arn:aws:iam::000000000000:user/operator", "access_key_id": "AKIDSANDBOX", "secret_access_key": "none",
        "kubeconfig": "/nowhere", "kubernetes_endpoint": "https://127.0.0.1:9/", "argocd_url": nowhere,
        "git_url": "ssh://git@127.0.0.1:39922/mfsre/platform.git", "git_api_url": nowhere, "git_api_token": "none",
        "git_known_hosts": "", "operator_key": "/nowhere", "git_access_log": "/nowhere", "started_by": "up",
        "pod_proxy_url": nowhere, "parts": parts,
    } });
    project.write(".mfsre/sandbox/sandbox/state.json", state.to_string());
    project.write(".mfsre/sandbox/sandbox/supervisor.lock", std::process::id().to_string());
    let lock = std::fs::File::open(project.root().join(".mfsre/sandbox/sandbox/supervisor.lock")).unwrap();
    lock.lock().unwrap();
    (project, lock)
}

#[test]
fn a_crashed_part_of_a_sandbox_is_told_before_anything_waits_for_it() {
    let (project, _lock) = with_a_crashed_part("etcd");
    let began = std::time::Instant::now();
    let finished = project.run(&["status", "sandbox"]);
    assert_eq!(finished.code, 3, "{finished}");
    insta::assert_snapshot!(finished);
    let finished = project.run(&["up", "sandbox"]);
    assert_eq!(finished.code, 3, "{finished}");
    for told in [
        "the part etcd of the sandbox has ended",
        "SIGKILL",
        "the last words",
        "mfsre sandbox stop sandbox",
    ] {
        assert!(finished.stderr.contains(told), "{told}: {finished}");
    }
    assert!(began.elapsed().as_secs() < 10, "took {:?}", began.elapsed());
}

#[test]
fn stopping_a_sandbox_that_does_not_run_is_no_error() {
    let project = sandbox();
    insta::assert_snapshot!(project.run(&["sandbox", "stop"]));
    insta::assert_snapshot!(
        "sandbox_stop_json",
        document(&project.run(&["sandbox", "stop", "--output", "json"]))
    );
}

#[test]
fn an_environment_on_aws_is_no_sandbox() {
    let project = sandbox();
    for command in ["start", "stop", "status", "load"] {
        let finished = project.run(&["sandbox", command, "demo"]);
        assert_eq!(finished.code, 78, "{finished}");
        if command == "status" {
            insta::assert_snapshot!(finished);
        }
    }
}

#[test]
fn the_logs_of_a_sandbox_that_does_not_run_are_not_there() {
    let project = sandbox();
    let finished = project.run(&["sandbox", "logs", "argo-cd"]);
    assert_eq!(finished.code, 1, "{finished}");
    insta::assert_snapshot!(finished);
}

#[test]
fn load_for_a_sandbox_that_does_not_run_says_how_to_start_it() {
    let finished = sandbox().run(&["sandbox", "load", "--duration", "1s"]);
    assert_eq!(finished.code, 1, "{finished}");
    insta::assert_snapshot!(finished);
}

#[test]
fn the_exporter_that_the_sandbox_starts_is_the_exporter() {
    let project = Project::empty();
    let finished = project.run(&["sandbox", "exporter", "--", "--version"]);
    assert_eq!(finished.code, 0, "{finished}");
    assert!(finished.stdout.starts_with("mfsre-exporter "), "{finished}");
    let finished = project.run(&["sandbox", "exporter", "--", "--listen", "nowhere"]);
    assert_eq!(finished.code, 64, "{finished}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Commands that need AWS, where there is none

#[test]
fn without_credentials_the_commands_on_aws_say_so_and_change_nothing() {
    let project = Project::demo();
    let before = project.files();
    let mut shown = String::new();
    for arguments in [
        &["up", "demo", "--yes"][..],
        &["down", "demo", "--yes"],
        &["plan", "demo"],
        &["status", "demo"],
        &["kubeconfig", "demo", "--print"],
        &["token", "demo"],
        &["secrets", "show", "argocd-password", "demo", "--reveal"],
    ] {
        let finished = project.run(arguments);
        assert_eq!(finished.code, 1, "{arguments:?}\n{finished}");
        assert_eq!(finished.stdout, "", "{arguments:?}");
        assert!(finished.stderr.contains("hint:"), "{finished}");
        shown.push_str(&format!("$ mfsre {}\n{}\n", arguments.join(" "), finished.stderr));
    }
    let filters = vec![
        // A step that takes no noticeable time is told without one.
        (r" +\d+(\.\d)?s\n", "\n"),
        (r"(?s) Attempted:\n.*?\n  hint:", " [...]\n  hint:"),
    ];
    insta::with_settings!({filters => filters}, {
        insta::assert_snapshot!(shown);
    });
    let private = |path: &String| !path.starts_with(".mfsre/");
    assert_eq!(project.files().into_iter().filter(private).collect::<Vec<_>>(), before);
}

#[test]
fn a_secret_goes_into_a_pipe_only_where_that_is_asked_for() {
    let project = Project::demo();
    let finished = project.run(&["secrets", "show", "argocd-password", "demo"]);
    assert_eq!((finished.code, finished.stdout.as_str()), (64, ""), "{finished}");
    insta::assert_snapshot!(finished.stderr);
    let finished = project.run(&["secrets", "show", "argocd-password", "demo", "--output", "json"]);
    assert_eq!(finished.code, 64, "{finished}");
    assert_eq!(finished.json()["error"]["kind"], "usage");
}

#[test]
fn a_failure_is_one_document_at_the_end_of_the_events() {
    let finished = Project::demo().run(&["up", "demo", "--yes", "--output", "json"]);
    assert_eq!((finished.code, finished.stderr.as_str()), (1, ""));
    let lines: Vec<Value> = finished
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let (document, events) = lines.split_last().unwrap();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["command"], "up");
    assert_eq!(document["environment"], "demo");
    assert_eq!(document["ok"], false);
    assert_eq!(document["error"]["kind"], "failed");
    assert_eq!(document["error"]["exit_code"], 1);
    assert!(document["error"]["hints"].as_array().is_some_and(|h| !h.is_empty()));
    assert!(events.iter().all(|e| e["event"].is_string()), "{finished}");
    assert_eq!(events.last().unwrap()["event"], "step_failed");
}

#[test]
fn a_profile_that_is_not_there_is_named() {
    let project = Project::demo();
    let mut command = project.mfsre(&["token", "demo"]);
    command.env("AWS_PROFILE", "nope");
    let finished = project.finish(command);
    assert_eq!(finished.code, 1, "{finished}");
    assert!(
        finished.stderr.contains("hint: the profile nope (AWS_PROFILE)"),
        "{finished}"
    );
}

#[test]
fn an_endpoint_that_does_not_answer_is_told_with_the_call_and_what_to_check() {
    let project = Project::demo();
    let mut command = project.mfsre(&["status", "demo"]);
    command
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "canary-of-a-secret-key")
        .env("AWS_MAX_ATTEMPTS", "1");
    let finished = project.finish(command);
    assert_eq!(finished.code, 1, "{finished}");
    assert!(finished.stderr.contains("eks:DescribeCluster"), "{finished}");
    assert!(finished.stderr.contains("Connection refused"), "{finished}");
    assert!(finished.stderr.contains("AWS_ENDPOINT_URL"), "{finished}");
    assert!(!finished.stderr.contains("AWS_REGION"), "{finished}");
    assert!(!finished.stderr.contains("canary"), "{finished}");
}

#[test]
fn a_token_for_the_cluster_is_made_without_a_call_and_is_an_exec_credential() {
    let project = Project::demo();
    let mut command = project.mfsre(&["token", "demo"]);
    command
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "canary-of-a-secret-key");
    let finished = project.finish(command);
    assert_eq!(finished.code, 0, "{finished}");
    let credential = finished.json();
    assert_eq!(credential["kind"], "ExecCredential");
    assert_eq!(credential["apiVersion"], "client.authentication.k8s.io/v1");
    assert!(
        credential["status"]["token"]
            .as_str()
            .unwrap()
            .starts_with("k8s-aws-v1.")
    );
    assert!(!finished.stdout.contains("canary"));
}

// ---------------------------------------------------------------------------------------------------------------------
// Locks, pipes, colours, folders

#[test]
fn a_lock_held_by_another_process_names_its_owner_and_ends_with_75() {
    let project = sandbox();
    let private = project.root().join(".mfsre/demo");
    let _lock = mfsre::workflow::Lock::acquire(&private, "up", "demo").unwrap();
    let pid = std::process::id();
    for arguments in [
        &["plan", "demo"][..],
        &["up", "demo", "--yes"],
        &["down", "demo", "--yes"],
    ] {
        let finished = project.run(arguments);
        assert_eq!(finished.code, 75, "{arguments:?}\n{finished}");
        assert!(finished.stderr.contains("`mfsre up demo`"), "{finished}");
        assert!(finished.stderr.contains(&format!("(process {pid})")), "{finished}");
    }
    let finished = project.run(&["plan", "demo", "--output", "json"]);
    assert_eq!(finished.code, 75);
    assert_eq!(finished.json()["error"]["kind"], "locked");
    // Another environment is free.
    assert_eq!(project.run(&["sandbox", "stop"]).code, 0);
}

#[test]
fn the_folder_of_private_files_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = Project::demo();
    project.run(&["plan", "demo"]);
    let mode = |path: &str| {
        std::fs::metadata(project.root().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(".mfsre/demo"), 0o700);
    assert_eq!(mode(".mfsre/demo/lock"), 0o600);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let project = Project::demo();
    project.run(&["render", "demo"]);
    project.write(
        "environments/demo.yaml",
        format!("name: demo\nregion: us-east-1\n{REPOSITORY}"),
    );
    for (arguments, code) in [
        (&["schema"][..], 0),
        (&["--help"], 0),
        (&["completions", "bash"], 0),
        (&["completions", "zsh"], 0),
        (&["render", "demo", "--check"], 2),
        (&["validate", "--output", "json"], 0),
    ] {
        let mut child = project
            .mfsre(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(stderr, "", "{arguments:?}");
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn colour_is_used_where_it_is_asked_for() {
    let project = with_mistakes();
    let coloured = |arguments: &[&str], variable: Option<(&str, &str)>| {
        let mut command = project.mfsre(arguments);
        command.envs(variable);
        let finished = project.finish(command);
        assert!(!finished.stdout.contains('\u{1b}'), "{finished}");
        finished.stderr.contains('\u{1b}')
    };
    assert!(!coloured(&["validate"], None), "a pipe is no terminal");
    assert!(coloured(&["validate", "--color", "always"], None));
    assert!(coloured(&["validate"], Some(("MFSRE_COLOR", "always"))));
    assert!(
        coloured(&["validate", "--color", "always"], Some(("NO_COLOR", "1"))),
        "a flag says more than a variable"
    );
    assert!(!coloured(&["validate", "--color", "never"], None));
    assert!(!coloured(&["validate"], Some(("NO_COLOR", "1"))));
    assert!(coloured(&["render", "nowhere", "--color", "always"], None));
    // Help is printed before anything else is read.
    let help = |arguments: &[&str], variable: (&str, &str)| {
        let mut command = project.mfsre(arguments);
        command.env(variable.0, variable.1);
        let finished = project.finish(command);
        assert_eq!(finished.code, 0, "{finished}");
        finished.stdout.contains('\u{1b}')
    };
    let forced = ("CLICOLOR_FORCE", "1");
    assert!(help(&["validate", "--help"], forced));
    assert!(!help(&["validate", "--help", "--color", "never"], forced));
    assert!(!help(&["--color=never", "validate", "--help"], forced));
    assert!(help(&["validate", "--help", "--color", "always"], ("TERM", "xterm")));
    assert!(help(&["validate", "--help"], ("MFSRE_COLOR", "always")));
    assert!(!help(&["validate", "--help"], ("MFSRE_COLOR", "never")));
}

#[test]
fn global_flags_have_variables_and_stand_anywhere() {
    let project = Project::demo();
    let mut command = project.mfsre(&["validate"]);
    command.env("MFSRE_OUTPUT", "json");
    assert_eq!(project.finish(command).json()["ok"], true);
    assert_eq!(
        project.run(&["--output", "json", "validate"]).json(),
        project.run(&["validate", "--output", "json"]).json()
    );
    for value in ["1", "true", "0", "false", ""] {
        let mut command = project.mfsre(&["validate"]);
        command.env("MFSRE_NO_INPUT", value).env("MFSRE_QUIET", value);
        assert_eq!(project.finish(command).code, 0, "MFSRE_NO_INPUT={value:?}");
    }
    for (value, code) in [("0", 0), ("2", 0), ("much", 64)] {
        let mut command = project.mfsre(&["validate"]);
        command.env("MFSRE_VERBOSE", value);
        assert_eq!(project.finish(command).code, code, "MFSRE_VERBOSE={value:?}");
    }
}

#[test]
fn every_document_begins_the_same_way() {
    let project = sandbox();
    for (arguments, command, environment, ok) in [
        (&["init"][..], "init", json!(null), true),
        (&["validate"], "validate", json!(null), true),
        (&["render", "demo"], "render", json!("demo"), true),
        (&["render", "demo", "--check"], "render", json!("demo"), true),
        (&["render", "nowhere"], "render", json!("nowhere"), false),
        (&["sandbox", "status"], "sandbox status", json!("sandbox"), false),
        (&["sandbox", "stop"], "sandbox stop", json!("sandbox"), true),
        (&["plan", "demo"], "plan", json!("demo"), false),
        (&["token", "demo"], "token", json!("demo"), false),
        (
            &["secrets", "show", "argocd-password", "demo"],
            "secrets show",
            json!("demo"),
            false,
        ),
    ] {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        let finished = project.run(&arguments);
        let document = finished.json();
        let head: Vec<&str> = document
            .as_object()
            .unwrap()
            .keys()
            .take(4)
            .map(String::as_str)
            .collect();
        assert_eq!(head, ["schema", "command", "environment", "ok"], "{finished}");
        assert_eq!(document["schema"], 1);
        assert_eq!(document["command"], command);
        assert_eq!(document["environment"], environment);
        assert_eq!(document["ok"], ok, "{finished}");
    }
}

#[test]
fn the_exit_codes_are_those_of_the_documentation() {
    use mfsre::error::ErrorKind;
    let codes = [
        (ErrorKind::Failed, 1),
        (ErrorKind::Unhealthy, 3),
        (ErrorKind::Usage, 64),
        (ErrorKind::Locked, 75),
        (ErrorKind::Configuration, 78),
        (ErrorKind::Interrupted, 130),
    ];
    for (kind, code) in codes {
        assert_eq!(kind.exit_code(), code, "{kind:?}");
    }
}
