//! The operations on a real account, as the real program performs them, up to the point where AWS would begin to build.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "../common/mod.rs"]
mod common;
mod outside;
mod terminal;

use std::sync::Arc;
use std::time::Duration;

use common::Project;
use mfsre::ui::{ColorChoice, Console, OutputFormat, Printer};
use mfsre::workflow::{Event, Outcome, Reporter as _};
use outside::Outside;
use serde_json::Value;

/// Settings of a cluster that can be reached over the internet.
const PUBLIC: &str = "cluster: {public_access_cidrs: [203.0.113.7/32]}\n";

// ---------------------------------------------------------------------------------------------------------------------
// Asking

#[test]
fn where_nobody_can_be_asked_up_and_down_refuse_before_they_change_anything() {
    let outside = Outside::new(PUBLIC);
    let before = outside.project.files();
    for arguments in [&["up", "demo"][..], &["up", "demo", "--push"], &["down", "demo"]] {
        let finished = outside.run(arguments);
        assert_eq!(finished.code, 64, "{arguments:?}\n{finished}");
        assert!(finished.stderr.contains("--yes"), "{finished}");
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        assert_eq!(outside.run(&arguments).json()["error"]["kind"], "usage");
    }
    // A terminal is of no use where asking is forbidden.
    let shown = outside.at_terminal(100, &["up", "demo", "--push", "--no-input"], &[]);
    assert_eq!(shown.code, 64, "{}", shown.screen);
    assert_eq!(outside.project.files(), before);
    assert_eq!(outside.git(&["for-each-ref"]), "", "nothing was pushed");
    assert_eq!(outside.asked(), [""; 0], "AWS was not even asked who this is");
}

#[test]
fn ctrl_c_at_the_question_is_an_answer() {
    let outside = Outside::new(PUBLIC);
    let shown = outside.at_terminal(100, &["up", "demo", "--push"], &[("[y/N]", "\u{3}")]);
    assert_eq!(shown.code, 130, "{}", shown.screen);
    assert!(shown.screen.contains("stopped on request"), "{}", shown.screen);
    assert!(!outside.terraform_calls().contains(&"apply".to_owned()));
    let shown = outside.at_terminal(100, &["down", "demo"], &[("[y/N]", "\u{3}")]);
    assert_eq!(shown.code, 130, "{}", shown.screen);
}

#[test]
fn a_no_is_told_with_what_was_done_by_then() {
    let outside = Outside::new(PUBLIC);
    let shown = outside.at_terminal(120, &["up", "demo", "--push"], &[("[y/N]", "n\n")]);
    assert_eq!(shown.code, 130, "{}", shown.screen);
    let hint = shown.with("hint:").join("\n");
    assert!(hint.contains("files pushed to main, "), "{}", shown.screen);
    let head = outside.git(&["rev-parse", "main"]);
    assert!(shown.screen.contains(&head[..10]), "{}", shown.screen);
    assert!(shown.screen.contains("nothing was changed on AWS"), "{}", shown.screen);
    // The second time there is nothing to push.
    let shown = outside.at_terminal(120, &["up", "demo", "--push"], &[("[y/N]", "\n")]);
    assert_eq!(shown.code, 130, "{}", shown.screen);
    assert!(!shown.with("hint:").join("\n").contains("pushed"), "{}", shown.screen);
}

#[test]
fn what_a_plan_destroys_is_listed_before_the_question() {
    let outside = Outside::new(PUBLIC);
    let change = |action: &str, address: &str| {
        format!(
            r#"{{"type": "planned_change", "change": {{"resource": {{"addr": "{address}"}}, "action": "{action}"}}}}"#
        )
    };
    let lines = [
        change("create", "module.platform.aws_eks_addon.coredns"),
        change("replace", "module.platform.aws_eks_cluster.this"),
        change("delete", "module.platform.aws_nat_gateway.this[0]"),
        r#"{"type": "change_summary", "changes": {"add": 2, "change": 0, "remove": 2}}"#.to_owned(),
    ];
    outside.terraform("plan", &lines.each_ref().map(String::as_str), 2);
    let shown = outside.at_terminal(120, &["up", "demo", "--push"], &[("[y/N]", "n\n")]);
    let (before, _) = shown.screen.split_once("[y/N]").unwrap();
    for line in [
        "warning: this plan destroys 2 resources, with what is in them:",
        "replace  module.platform.aws_eks_cluster.this",
        "destroy  module.platform.aws_nat_gateway.this[0]",
    ] {
        assert!(before.contains(line), "{line}\n{}", shown.screen);
    }
    assert!(
        !before.contains("destroy  module.platform.aws_eks_addon"),
        "{}",
        shown.screen
    );
}

// ---------------------------------------------------------------------------------------------------------------------
// What is missing is told before it is needed

#[test]
fn programs_that_are_missing_are_told_all_at_once() {
    let project = Project::empty();
    let nothing = project.root().join("nothing");
    project.write(
        "environments/demo.yaml",
        "name: demo\nargocd_repository_url: git@github.com:acme/platform.git\n",
    );
    project.write(
        "environments/sandbox.yaml",
        "name: sandbox\nargocd_repository_url: ssh://git@127.0.0.1:39922/mfsre/platform.git\nsandbox: {}\n",
    );
    for arguments in [&["up", "sandbox"][..], &["up", "demo", "--yes"], &["plan", "demo"]] {
        let mut command = project.mfsre(arguments);
        command.env("PATH", &nothing);
        let finished = project.finish(command);
        assert_eq!(finished.code, 1, "{finished}");
        for program in ["terraform", "python3", "git", "ssh"] {
            let told = |l: &&str| l.contains("because:") && l.contains(program);
            assert_eq!(finished.stderr.lines().filter(told).count(), 1, "{program}\n{finished}");
            let how = |l: &&str| l.contains("install") && l.to_lowercase().contains(program);
            assert!(finished.stderr.lines().any(|l| how(&l)), "{program}\n{finished}");
        }
    }
    assert!(!project.has(".mfsre/sandbox/sandbox"), "nothing was started");
}

#[test]
fn a_git_host_that_refuses_is_told_before_anything_is_planned() {
    let outside = Outside::new(PUBLIC);
    let mut command = outside.mfsre(&["up", "demo", "--push", "--yes"]);
    command.env_remove("GITHUB_TOKEN");
    let finished = outside.project.finish(command);
    assert_eq!(finished.code, 1, "{finished}");
    assert!(finished.stderr.contains("✘ check tools and access"), "{finished}");
    assert!(finished.stderr.contains("hint: set GITHUB_TOKEN"), "{finished}");
    assert_eq!(outside.terraform_calls(), [""; 0]);
    assert_eq!(outside.git(&["for-each-ref"]), "", "nothing was pushed");
}

#[test]
fn a_cluster_that_this_machine_may_not_reach_is_warned_of_before_the_plan() {
    for (settings, warned) in [("", true), (PUBLIC, false)] {
        let outside = Outside::new(settings);
        let finished = outside.run(&["up", "demo", "--push", "--yes"]);
        let at = |text: &str| {
            finished
                .stderr
                .find(text)
                .unwrap_or_else(|| panic!("{text}\n{finished}"))
        };
        assert_eq!(
            finished.stderr.contains("from within its VPC 10.0.0.0/16 only"),
            warned,
            "{finished}"
        );
        if warned {
            assert!(at("public_access_cidrs: [") < at("✔ plan"), "{finished}");
        }
    }
}

#[test]
fn a_manifest_with_another_checksum_is_refused_with_both() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nanother\n");
        }
    });
    let outside = Outside::new(&format!(
        "mirrors: {{argocd_manifest: 'http://{address}/install.yaml'}}\n"
    ));
    std::fs::remove_dir_all(outside.project.home().join(".cache")).unwrap();
    let finished = outside.run(&["plan", "demo"]);
    assert_eq!(finished.code, 1, "{finished}");
    // printf 'another\n' | sha256sum
    let found = "sha256 is 33a7b215065f2ee8635efb72620bc269a1efb889ba3026560334da7366742374";
    assert!(finished.stderr.contains(found), "{finished}");
    assert!(finished.stderr.contains(", pinned is "), "{finished}");
    assert!(
        finished.stderr.contains("correct mirrors.argocd_manifest"),
        "{finished}"
    );
    assert!(
        !finished.stderr.contains("Go module"),
        "no other way is taken: {finished}"
    );
}

#[test]
fn a_protected_branch_gets_a_pull_request() {
    let outside = Outside::new(PUBLIC);
    outside.protect("main");
    let finished = outside.run(&["up", "demo", "--push", "--yes"]);
    assert_eq!(finished.code, 1, "{finished}");
    let link = "https://github.com/acme/platform/compare/main...mfsre/demo?expand=1";
    assert!(
        finished.stderr.contains(&format!("hint: open a pull request: {link}")),
        "{finished}"
    );
    assert!(finished.stderr.contains("`mfsre up demo`"), "{finished}");
    assert!(
        finished.stderr.contains("main is protected"),
        "what the host said: {finished}"
    );
    let values = outside.git(&["show", "mfsre/demo:cd/environments/demo/values.yaml"]);
    assert_eq!(values, outside.project.read("cd/environments/demo/values.yaml"));
    assert_eq!(outside.terraform_calls(), [""; 0], "it stops there");
    // Merged, it goes on.
    outside.git(&["update-ref", "refs/heads/main", "refs/heads/mfsre/demo"]);
    let finished = outside.run(&["up", "demo", "--yes"]);
    assert!(finished.stderr.contains("✔ create the AWS resources"), "{finished}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Terraform, retold

#[test]
fn a_plan_that_fails_is_told_with_the_place_in_the_project() {
    let outside = Outside::new(PUBLIC);
    outside.terraform(
        "plan",
        &[r#"{"type": "diagnostic", "diagnostic": {"severity": "error", "summary": "Unsupported argument", "range": {"filename": "../../modules/eks/addons.tf", "start": {"line": 29}}}}"#],
        1,
    );
    let finished = outside.run(&["plan", "demo"]);
    assert_eq!(finished.code, 1, "{finished}");
    assert!(
        finished
            .stderr
            .contains("because: Unsupported argument (modules/eks/addons.tf:29)"),
        "{finished}"
    );
    assert!(
        finished.stderr.contains("terraform plan changes no resource on AWS"),
        "{finished}"
    );
    assert!(!finished.stderr.contains("in the state"), "{finished}");

    outside.terraform("init", &[], 1);
    std::fs::remove_dir_all(outside.project.root().join("infra/demo/.terraform")).unwrap();
    let finished = outside.run(&["plan", "demo"]);
    assert_eq!(finished.code, 1, "{finished}");
    assert!(finished.stderr.contains("terraform init failed"), "{finished}");
    assert!(!finished.stderr.contains("in the state"), "{finished}");
}

#[test]
fn a_plan_is_a_step() {
    let outside = Outside::new(PUBLIC);
    outside.terraform(
        "plan",
        &[
            r#"{"type": "refresh_start", "hook": {"resource": {"addr": "module.platform.aws_vpc.this"}}}"#,
            "1",
            r#"{"type": "change_summary", "changes": {"add": 2, "change": 0, "remove": 0}}"#,
        ],
        2,
    );
    let finished = outside.run(&["plan", "demo", "--output", "json"]);
    assert_eq!(finished.code, 0, "{finished}");
    let events: Vec<Value> = finished
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let of_plan = events.iter().filter(|e| e["step"] == "plan");
    let kinds: Vec<&str> = of_plan.clone().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(
        (kinds[0], kinds[kinds.len() - 1]),
        ("step_started", "step_finished"),
        "{finished}"
    );
    assert!(
        of_plan.clone().any(|e| e["message"] == "reading aws_vpc.this"),
        "{finished}"
    );
    assert_eq!(finished.json()["add"], 2);

    let finished = outside.run(&["plan", "demo", "-v"]);
    assert!(
        finished
            .stderr
            .lines()
            .any(|l| l.starts_with("  · plan ") && l.ends_with("reading aws_vpc.this")),
        "{finished}"
    );
    let shown = outside.at_terminal(80, &["plan", "demo"], &[]);
    assert_eq!(shown.code, 0, "{}", shown.screen);
    assert!(
        !shown.with("plan reading aws_vpc.this").is_empty(),
        "{:#?}",
        shown.lines
    );
    assert!(shown.screen.contains("✔ plan "), "{}", shown.screen);
}

// ---------------------------------------------------------------------------------------------------------------------
// Progress

#[test]
fn an_apply_shows_its_bar_the_time_and_the_resource() {
    let outside = Outside::new(PUBLIC);
    let hook = |kind: &str, address: &str| {
        format!(r#"{{"type": "{kind}", "hook": {{"resource": {{"addr": "module.platform.{address}"}}}}}}"#)
    };
    outside.terraform(
        "plan",
        &[r#"{"type": "change_summary", "changes": {"add": 95, "change": 0, "remove": 0}}"#],
        2,
    );
    let mut lines = vec![hook("apply_start", "aws_eks_cluster.this")];
    lines.extend((0..41).map(|n| hook("apply_complete", &format!("aws_subnet.private[{n}]"))));
    lines.extend([
        "2.3".to_owned(),
        hook("apply_progress", "aws_eks_cluster.this"),
        "0.7".to_owned(),
    ]);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    outside.terraform("apply", &lines, 0);
    for columns in [80, 120] {
        let shown = outside.at_terminal(columns, &["up", "demo", "--push"], &[("[y/N]", "y\n")]);
        let lines = &shown.lines;
        let bar = |l: &&String| l.contains(" create the AWS resources ━━━") && l.ends_with("┄ 41/95");
        assert!(lines.iter().any(|l| bar(&l)), "{columns} columns: {lines:#?}");
        let at_work = |l: &&String| l.starts_with("    2.") && l.ends_with("s of ~10m  aws_eks_cluster.this");
        assert!(lines.iter().any(|l| at_work(&l)), "{columns} columns: {lines:#?}");
        assert!(shown.screen.contains("✔ create the AWS resources"), "{}", shown.screen);
        assert!(
            !shown.screen.contains("41/95"),
            "the live line is gone: {}",
            shown.screen
        );
    }
}

/// Set in the process that shows the Applications below.
const SHOW: &str = "MFSRE_TEST_SHOW_APPLICATIONS";

#[test]
fn applications_that_are_not_ready_have_a_line_each() {
    if std::env::var_os(SHOW).is_some() {
        show_applications();
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "applications_that_are_not_ready_have_a_line_each",
            "--nocapture",
        ])
        .env(SHOW, "1");
    for columns in [80, 120] {
        let shown = terminal::run(&command, columns, &[]);
        assert_eq!(shown.code, 0, "{}", shown.screen);
        let lines = |text: &str| shown.with(text);
        assert!(
            lines("wait until everything is synced and healthy")
                .iter()
                .any(|l| l.ends_with(" 1/4")),
            "{:#?}",
            shown.lines
        );
        for line in [
            "    addons                   Synced     Progressing",
            "    exporter                 OutOfSync  Missing",
            "    main-service             Synced     Progressing",
        ] {
            assert!(shown.lines.contains(line), "{line}\n{:#?}", shown.lines);
        }
        assert!(shown.screen.contains("warning: look at this"), "{}", shown.screen);
        // A line that stays may be longer than the terminal is wide.
        let joined = shown.screen.replace('\n', "");
        assert!(joined.contains("4 Applications synced and healthy"), "{}", shown.screen);
        assert!(
            !shown.screen.contains("OutOfSync"),
            "the live lines are gone: {}",
            shown.screen
        );
    }
}

/// Tells the display what the step `healthy` would.
fn show_applications() {
    let console = Arc::new(Console::new(Printer {
        format: OutputFormat::Text,
        color: ColorChoice::Never,
        verbosity: 0,
        warnings: Arc::default(),
    }));
    let step = "healthy";
    let progress = |done, lines: &[&str]| {
        console.report(Event::StepProgress {
            step,
            message: lines.join("\n"),
            done: Some(done),
            total: Some(4),
        });
        std::thread::sleep(Duration::from_millis(300));
    };
    console.report(Event::StepStarted {
        step,
        describe: "wait until everything is synced and healthy".into(),
    });
    let addons = "addons                   Synced     Progressing";
    let exporter = "exporter                 OutOfSync  Missing";
    let service = "main-service             Synced     Progressing";
    progress(1, &[addons, exporter, service]);
    console.report(Event::Warning {
        message: "look at this".into(),
    });
    progress(2, &[addons, service]);
    progress(3, &[service]);
    progress(4, &[]);
    console.report(Event::StepFinished {
        step,
        outcome: Outcome::Changed,
        detail: "4 Applications synced and healthy".into(),
        elapsed: Duration::from_secs(1),
    });
}
