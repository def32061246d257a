//! The Terraform driver with the real program and its built-in provider, which needs no network.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mfsre::child::ChildEnvironment;
use mfsre::error::ErrorKind;
use mfsre::terraform::{Flavour, Program, ProviderMirror, TerraformError, TerraformEvent, Workspace};
use mfsre::workflow::Cancellation;

/// A root module in a folder of its own.
struct Module {
    dir: tempfile::TempDir,
}

impl Module {
    fn new(main: &str) -> Self {
        let module = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(module.path("root")).unwrap();
        std::fs::create_dir(module.path("private")).unwrap();
        module.write(main);
        module
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, main: &str) {
        std::fs::write(self.path("root/main.tf"), main).unwrap();
    }

    async fn workspace(&self) -> Workspace {
        workspace_in(self.dir.path()).await
    }
}

async fn workspace_in(dir: &Path) -> Workspace {
    let program = Program::find(None).await.unwrap_or_else(|e| {
        panic!("{e}: these tests need Terraform 1.10 or newer (https://developer.hashicorp.com/terraform/install) or OpenTofu on PATH")
    });
    Workspace::new(
        program,
        dir.to_owned(),
        dir.join("root"),
        dir.join("private"),
        ChildEnvironment::terraform(),
        None,
    )
    .unwrap()
}

fn never() -> Cancellation {
    Cancellation::default()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn wait_for(what: &str, path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const TWO: &str = r#"
resource "terraform_data" "one" { input = "1" }
resource "terraform_data" "two" { input = terraform_data.one.output }
output "answer" { value = terraform_data.two.output }
"#;

#[tokio::test]
async fn a_plan_is_saved_counted_applied_once_and_undone() {
    let module = Module::new(TWO);
    let workspace = module.workspace().await;
    workspace.init(&never()).await.unwrap();
    assert_eq!(workspace.state_list(&never()).await.unwrap(), Vec::<String>::new());

    let mut planned = Vec::new();
    let plan = workspace
        .plan("up", false, &never(), |event| {
            if let TerraformEvent::PlannedChange { change } = event {
                planned.push(format!("{} {}", change.action, change.resource.addr));
            }
        })
        .await
        .unwrap();
    planned.sort();
    assert_eq!(planned, ["create terraform_data.one", "create terraform_data.two"]);
    assert_eq!(plan.counts.to_string(), "2 to add, 0 to change, 0 to destroy");
    assert!(plan.has_changes);
    assert_eq!(mode(&plan.path), 0o600);
    assert_eq!(mode(&module.path("private/terraform-plan.out")), 0o600);

    let json = workspace.show(&plan.path, &never()).await.unwrap();
    assert_eq!(json["resource_changes"].as_array().unwrap().len(), 2);

    // What is applied is the plan, not what the files say by then.
    module.write(&TWO.replace("\"1\"", "\"changed meanwhile\""));
    let mut events = Vec::new();
    workspace
        .apply(&plan, &never(), |event| match event {
            TerraformEvent::ApplyStart { hook } => events.push(format!("start {}", hook.resource.addr)),
            TerraformEvent::ApplyComplete { hook } => events.push(format!("complete {}", hook.resource.addr)),
            _ => {}
        })
        .await
        .unwrap();
    assert_eq!(
        events,
        [
            "start terraform_data.one",
            "complete terraform_data.one",
            "start terraform_data.two",
            "complete terraform_data.two"
        ]
    );
    let outputs = workspace.outputs(&never()).await.unwrap();
    assert_eq!(outputs["answer"]["value"], "1");
    assert!(!plan.path.exists(), "a plan that was applied is of no more use");
    assert!(workspace.apply(&plan, &never(), |_| {}).await.is_err());

    module.write(TWO);
    let plan = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    assert!(!plan.has_changes);
    assert_eq!(plan.counts.total(), 0);

    let plan = workspace.plan("down", true, &never(), |_| {}).await.unwrap();
    assert_eq!(plan.counts.to_string(), "0 to add, 0 to change, 2 to destroy");
    workspace.apply(&plan, &never(), |_| {}).await.unwrap();
    assert_eq!(workspace.state_list(&never()).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_plan_that_was_readable_for_others_is_not_any_more() {
    let module = Module::new(TWO);
    let workspace = module.workspace().await;
    workspace.init(&never()).await.unwrap();
    let path = module.path("private/up.tfplan");
    std::fs::write(&path, "left by somebody").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let plan = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    assert_eq!(mode(&plan.path), 0o600);
}

#[tokio::test]
async fn a_change_of_outputs_alone_is_a_change() {
    let module = Module::new("output \"x\" { value = 1 }\n");
    let workspace = module.workspace().await;
    workspace.init(&never()).await.unwrap();
    let plan = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    assert!(plan.has_changes);
    assert_eq!(plan.counts.total(), 0);
}

#[tokio::test]
async fn init_is_not_repeated_until_something_that_it_reads_changes() {
    let module = Module::new("module \"part\" { source = \"./part\" }\n");
    std::fs::create_dir(module.path("root/part")).unwrap();
    std::fs::write(module.path("root/part/main.tf"), "").unwrap();
    let workspace = module.workspace().await;
    let trace = module.path("private/terraform-init.out");
    let ran = async || {
        let _ = std::fs::remove_file(&trace);
        workspace.init(&never()).await.unwrap();
        trace.exists()
    };
    assert!(ran().await);
    assert!(!ran().await, "nothing has changed");
    module.write("module \"part\" { source = \"./part\" }\n# more\n");
    assert!(ran().await);
    assert!(!ran().await);
    std::fs::remove_dir_all(module.path("root/.terraform")).unwrap();
    assert!(ran().await, "what it made is gone");
}

#[tokio::test]
async fn an_error_in_the_files_names_file_and_line() {
    let module = Module::new("resource \"terraform_data\" \"x\" {\n  input = var.nowhere\n}\n");
    let workspace = module.workspace().await;
    workspace.init(&never()).await.unwrap();
    let error = workspace.plan("up", false, &never(), |_| {}).await.unwrap_err();
    let (message, causes) = error.retell();
    assert_eq!(message, "terraform plan failed");
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert!(
        causes[0].starts_with("Reference to undeclared input variable (root/main.tf:2)"),
        "{causes:?}"
    );
}

#[tokio::test]
async fn an_error_of_a_resource_names_it_with_file_and_line_and_keeps_what_was_done() {
    let module = Module::new(
        r#"
resource "terraform_data" "good" {}
resource "terraform_data" "bad" {
  depends_on = [terraform_data.good]
  provisioner "local-exec" { command = "echo it broke >&2; exit 3" }
}
"#,
    );
    let workspace = module.workspace().await;
    workspace.init(&never()).await.unwrap();
    let plan = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    let error = workspace.apply(&plan, &never(), |_| {}).await.unwrap_err();
    let (message, causes) = error.retell();
    assert_eq!(message, "terraform apply failed");
    assert!(
        causes[0].starts_with("terraform_data.bad: local-exec provisioner error (root/main.tf:5)"),
        "{causes:?}"
    );
    assert!(causes[0].contains("it broke"), "{causes:?}");
    assert!(
        workspace
            .state_list(&never())
            .await
            .unwrap()
            .contains(&"terraform_data.good".to_owned())
    );
    let shown = mfsre::error::Error::from(error);
    assert!(shown.hints[0].contains("run the same command again"), "{shown:?}");
}

#[tokio::test]
async fn ctrl_c_is_passed_on_once_and_waited_for_and_the_state_is_saved() {
    let module = Module::new(
        r#"
resource "terraform_data" "first" {}
resource "terraform_data" "slow" {
  depends_on = [terraform_data.first]
  provisioner "local-exec" { command = "touch started; exec sleep 60" }
}
resource "terraform_data" "last" { depends_on = [terraform_data.slow] }
"#,
    );
    let workspace = module.workspace().await;
    workspace.init(&never()).await.unwrap();
    let plan = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    let cancellation = never();
    let stopper = {
        let (cancellation, started) = (cancellation.clone(), module.path("root/started"));
        tokio::spawn(async move {
            wait_for("the slow resource", &started).await;
            // Somebody impatient.
            for _ in 0..5 {
                cancellation.cancel();
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        })
    };
    let began = Instant::now();
    let error = workspace.apply(&plan, &cancellation, |_| {}).await.unwrap_err();
    stopper.await.unwrap();
    assert!(matches!(error, TerraformError::Interrupted { .. }), "{error:?}");
    assert_eq!(mfsre::error::Error::from(error).kind.exit_code(), 130);
    assert!(began.elapsed() < Duration::from_secs(40));
    let printed = std::fs::read_to_string(module.path("private/terraform-apply.out")).unwrap();
    assert!(!printed.contains("Two interrupts"), "{printed}");
    let state = workspace.state_list(&never()).await.unwrap();
    assert!(state.contains(&"terraform_data.first".to_owned()), "{state:?}");
    assert!(!state.contains(&"terraform_data.last".to_owned()), "{state:?}");
    // What was cut off is completed, not replaced.
    let before = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    assert_eq!(
        (before.counts.add, before.counts.destroy),
        (2, 1),
        "Terraform alone would replace it"
    );
    assert_eq!(workspace.untaint(&never()).await.unwrap(), ["terraform_data.slow"]);
    assert_eq!(workspace.untaint(&never()).await.unwrap(), Vec::<String>::new());
    let after = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    assert_eq!((after.counts.add, after.counts.destroy), (1, 0));
    // And it goes on from there.
    module.write("resource \"terraform_data\" \"first\" {}\n");
    let plan = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    workspace.apply(&plan, &never(), |_| {}).await.unwrap();
    assert_eq!(workspace.state_list(&never()).await.unwrap(), ["terraform_data.first"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// The child's environment, and its life without its parent: in a process of their own, since both are the process's.

/// Runs the test `name` of this crate in a process of its own, over the folder `dir`.
fn in_a_process_of_its_own(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture"])
        .env("TEST_FOLDER", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn folder() -> Option<PathBuf> {
    std::env::var_os("TEST_FOLDER").map(PathBuf::from)
}

#[tokio::test]
async fn nothing_of_the_parents_environment_changes_what_is_planned() {
    let module = Module::new(
        "variable \"colour\" { default = \"default\" }\nresource \"terraform_data\" \"x\" {\n  input = var.colour\n  provisioner \"local-exec\" { command = \"env > environment\" }\n}\noutput \"colour\" { value = var.colour }\n",
    );
    let status = in_a_process_of_its_own("helper_applies", module.dir.path())
        .env("TF_VAR_colour", "from the parent")
        .env("TF_CLI_ARGS_plan", "-destroy")
        .env("TF_CLI_ARGS", "-nonsense")
        .env("TF_WORKSPACE", "other")
        .env("TF_DATA_DIR", "elsewhere")
        .env("GITHUB_TOKEN", "canary")
        .env("MFSRE_OUTPUT", "json")
        .env("AWS_PROFILE", "theirs")
        .status()
        .unwrap();
    assert!(status.success());
    let outputs = module.workspace().await.outputs(&never()).await.unwrap();
    assert_eq!(outputs["colour"]["value"], "default");
    let environment = std::fs::read_to_string(module.path("root/environment")).unwrap();
    for hidden in ["TF_VAR_colour", "TF_CLI_ARGS", "TF_WORKSPACE", "canary", "MFSRE_OUTPUT"] {
        assert!(!environment.contains(hidden), "{hidden} reaches Terraform's children");
    }
    assert!(environment.contains("AWS_PROFILE=theirs"));
}

/// Not a test: the program that the two around it start. Without their folder it has nothing to do.
#[tokio::test]
async fn helper_applies() {
    let Some(dir) = folder() else { return };
    let workspace = workspace_in(&dir).await;
    workspace.init(&never()).await.unwrap();
    let plan = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    workspace.apply(&plan, &never(), |_| {}).await.unwrap();
}

#[tokio::test]
async fn terraform_finishes_and_saves_its_state_when_its_parent_is_killed() {
    let module = Module::new(
        r#"
resource "terraform_data" "slow" {
  provisioner "local-exec" { command = "touch started; sleep 1; echo late; touch finished" }
}
resource "terraform_data" "last" { depends_on = [terraform_data.slow] }
"#,
    );
    let mut parent = in_a_process_of_its_own("helper_applies", module.dir.path())
        .spawn()
        .unwrap();
    wait_for("the slow resource", &module.path("root/started")).await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(!module.path("root/finished").exists(), "it was killed in the middle");
    wait_for("the end of the slow resource", &module.path("root/finished")).await;
    let workspace = module.workspace().await;
    let began = Instant::now();
    loop {
        let state = workspace.state_list(&never()).await.unwrap();
        if state == ["terraform_data.last", "terraform_data.slow"] {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{state:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let plan = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    assert!(!plan.has_changes, "nothing is left to do");
}

// ---------------------------------------------------------------------------------------------------------------------
// Programs that are none

/// A shell script in place of the program.
fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
    let path = dir.join(name);
    // Written by another process: a file that this one has open for writing cannot be run.
    let written = Command::new("sh")
        .args([
            "-c",
            "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"",
            "sh",
        ])
        .arg(&path)
        .arg(body)
        .status()
        .unwrap();
    assert!(written.success());
    path
}

#[tokio::test]
async fn a_program_that_cannot_be_used_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let mut shown = String::new();
    for program in [
        script(dir.path(), "old", r#"echo '{"terraform_version":"1.5.7"}'"#),
        script(dir.path(), "nonsense", "echo hello"),
        script(dir.path(), "silent", "exit 0"),
        script(dir.path(), "failing", "echo broken >&2; exit 1"),
        dir.path().join("missing"),
        plain,
        PathBuf::from("no-such-terraform-on-path"),
    ] {
        let error = Program::find(Some(&program)).await.unwrap_err();
        shown.push_str(&mfsre::error::Error::from(error).render(false));
    }
    insta::assert_snapshot!(shown.replace(&*dir.path().to_string_lossy(), "[DIR]"));
}

#[tokio::test]
async fn opentofu_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let tofu = script(
        dir.path(),
        "tofu",
        r#"if [ "$2" = -json ]; then echo '{"terraform_version":"1.10.0-rc1"}'; else echo "OpenTofu v1.10.0"; fi"#,
    );
    let program = Program::find(Some(&tofu)).await.unwrap();
    assert_eq!(program.flavour, Flavour::OpenTofu);
    assert_eq!(program.version, "1.10.0-rc1");
    assert_eq!(program.flavour.registry(), "registry.opentofu.org");
}

/// A workspace over a script that answers `version` as Terraform does and everything else by `body`.
async fn scripted(dir: &Path, body: &str) -> Workspace {
    let program = script(
        dir,
        "terraform",
        &format!(r#"if [ "$1" = version ]; then echo '{{"terraform_version":"1.11.4"}}'; exit 0; fi; {body}"#),
    );
    let program = Program::find(Some(&program)).await.unwrap();
    std::fs::create_dir_all(dir.join("root")).unwrap();
    std::fs::create_dir_all(dir.join("private")).unwrap();
    Workspace::new(
        program,
        dir.to_owned(),
        dir.join("root"),
        dir.join("private"),
        ChildEnvironment::terraform(),
        None,
    )
    .unwrap()
}

#[tokio::test]
async fn output_that_is_no_json_is_skipped_or_told() {
    let dir = tempfile::tempdir().unwrap();
    let workspace = scripted(
        dir.path(),
        r#"echo nonsense; echo '{"type":"unheard_of"}'; printf '{"type":"change_summary","changes":{"add":1,"change":2,"remove":3}}\n{"cut off'; exit 2"#,
    )
    .await;
    let plan = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    assert_eq!(plan.counts.to_string(), "1 to add, 2 to change, 3 to destroy");
    let workspace = scripted(dir.path(), "echo nonsense").await;
    let error = workspace.show(Path::new("x"), &never()).await.unwrap_err();
    assert!(matches!(error, TerraformError::Output { .. }), "{error:?}");
}

#[tokio::test]
async fn a_failure_without_events_shows_the_end_of_what_was_printed() {
    let dir = tempfile::tempdir().unwrap();
    let workspace = scripted(
        dir.path(),
        "i=0; while [ $i -lt 30 ]; do echo line $i >&2; i=$((i+1)); done; exit 1",
    )
    .await;
    let (message, causes) = workspace.init(&never()).await.unwrap_err().retell();
    assert_eq!(message, "terraform init failed");
    assert!(
        causes[0].starts_with("line 10\n") && causes[0].ends_with("line 29"),
        "{causes:?}"
    );
}

#[tokio::test]
async fn a_damaged_state_is_told_as_one_and_not_as_somebody_elses_lock() {
    for (damaged, next) in [
        ("{\"version\": 4, \"terr", "terraform.tfstate.backup"),
        ("{\"version\": 99}", "a newer program"),
    ] {
        let module = Module::new(TWO);
        let workspace = module.workspace().await;
        workspace.init(&never()).await.unwrap();
        std::fs::write(module.path("root/terraform.tfstate"), damaged).unwrap();
        let planned = workspace.plan("up", false, &never(), |_| {}).await;
        let error = mfsre::error::Error::from(planned.unwrap_err());
        assert_eq!(error.kind, ErrorKind::Failed, "{}", error.render(false));
        assert!(error.hints[0].contains(next), "{}", error.render(false));
        assert!(
            !error.render(false).contains("somebody else"),
            "{}",
            error.render(false)
        );
        let listed = mfsre::error::Error::from(workspace.state_list(&never()).await.unwrap_err());
        assert!(listed.hints[0].contains(next), "{}", listed.render(false));
    }
}

#[tokio::test]
async fn a_lock_is_somebody_elses_where_terraform_names_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let told = async |detail: &str| {
        let line = format!(
            r#"{{"type":"diagnostic","diagnostic":{{"severity":"error","summary":"Error acquiring the state lock","detail":"{detail}"}}}}"#
        );
        let workspace = scripted(dir.path(), &format!("printf '%s\\n' '{line}'; exit 1")).await;
        mfsre::error::Error::from(workspace.plan("up", false, &never(), |_| {}).await.unwrap_err())
    };
    let held = told(r"Error message: resource temporarily unavailable\nLock Info:\n  ID: 1\n  Who: alice@host").await;
    assert_eq!(held.kind, ErrorKind::Locked, "{}", held.render(false));
    assert!(
        held.hints[0].contains("somebody else is at work"),
        "{}",
        held.render(false)
    );
    let denied = told("Error message: AccessDenied").await;
    assert_eq!(denied.kind, ErrorKind::Failed, "{}", denied.render(false));
    assert!(
        denied.hints[0].contains("cannot lock its state"),
        "{}",
        denied.render(false)
    );
}

#[tokio::test]
async fn every_call_is_made_for_a_machine_and_apply_is_given_a_plan() {
    let dir = tempfile::tempdir().unwrap();
    let workspace = scripted(dir.path(), r#"echo "$@" >> ../calls"#).await;
    // A lock file of Terraform's own may be completed; one that was rendered is complete.
    let lock = dir.path().join("root/.terraform.lock.hcl");
    std::fs::write(
        &lock,
        "# This file is maintained automatically by \"terraform init\".\n",
    )
    .unwrap();
    workspace.init(&never()).await.unwrap();
    let rendered = |registry: &str| {
        let text =
            format!("# Generated by mfsre. Keep your own version.\nprovider \"{registry}/hashicorp/aws\" {{}}\n");
        std::fs::write(&lock, text).unwrap();
    };
    rendered("registry.opentofu.org");
    workspace.init(&never()).await.unwrap();
    rendered("registry.terraform.io");
    workspace.init(&never()).await.unwrap();
    let plan = workspace.plan("up", false, &never(), |_| {}).await.unwrap();
    workspace.apply(&plan, &never(), |_| {}).await.unwrap();
    workspace.plan("down", true, &never(), |_| {}).await.unwrap();
    let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
    insta::assert_snapshot!(calls.replace(&*dir.path().to_string_lossy(), "[DIR]"));
}

// ---------------------------------------------------------------------------------------------------------------------
// Mirrors

#[tokio::test]
async fn a_mirror_is_named_in_a_configuration_of_our_own_unless_the_user_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let hostile = dir.path().join("a \"b\" ${c}");
    std::fs::create_dir_all(hostile.join("registry.terraform.io/hashicorp/time/0.13.1")).unwrap();
    let mirror = ProviderMirror::find(Some(&hostile), Flavour::Terraform).unwrap();
    insta::assert_snapshot!(
        mirror
            .cli_configuration(&dir.path().join("links"))
            .unwrap()
            .replace(&*dir.path().to_string_lossy(), "[DIR]")
    );

    let module = Module::new(TWO);
    let mut environment = ChildEnvironment::terraform();
    environment.remove_prefix("TF_CLI_CONFIG_FILE");
    let program = Program::find(None).await.unwrap();
    let (root, private) = (module.path("root"), module.path("private"));
    let project = root.parent().unwrap().to_owned();
    let workspace = Workspace::new(
        program.clone(),
        project.clone(),
        root.clone(),
        private.clone(),
        environment.clone(),
        Some(&mirror),
    )
    .unwrap();
    assert!(private.join("terraform.rc").exists());
    workspace
        .init(&never())
        .await
        .expect("Terraform reads the configuration");

    std::fs::remove_file(private.join("terraform.rc")).unwrap();
    environment.set("TF_CLI_CONFIG_FILE", "/dev/null");
    Workspace::new(program, project, root, private.clone(), environment, Some(&mirror)).unwrap();
    assert!(!private.join("terraform.rc").exists());
}

#[test]
fn a_mirror_of_terraforms_registry_serves_opentofu_by_links_to_its_packages() {
    let dir = tempfile::tempdir().unwrap();
    let held = dir.path().join("mirror/registry.terraform.io/hashicorp");
    let unpacked = held.join("aws/5.100.0/linux_amd64");
    std::fs::create_dir_all(&unpacked).unwrap();
    std::fs::create_dir_all(held.join("time")).unwrap();
    let packed = held.join("time/terraform-provider-time_0.13.1_linux_amd64.zip");
    std::fs::write(&packed, "").unwrap();
    let mirror = ProviderMirror::find(Some(&dir.path().join("mirror")), Flavour::OpenTofu).unwrap();
    let links = dir.path().join("links");
    for _ in 0..2 {
        let configuration = mirror.cli_configuration(&links).unwrap();
        assert!(
            configuration.contains(&format!("path    = \"{}\"", links.display())),
            "{configuration}"
        );
        assert!(
            configuration.contains(
                "include = [\"registry.opentofu.org/hashicorp/aws\", \"registry.opentofu.org/hashicorp/time\"]"
            )
        );
    }
    let wanted = links.join("registry.opentofu.org/hashicorp");
    for (link, package) in [
        (wanted.join("aws/5.100.0/linux_amd64"), unpacked),
        (wanted.join("time").join(packed.file_name().unwrap()), packed.clone()),
    ] {
        assert_eq!(std::fs::read_link(&link).unwrap(), package);
    }
    // Nothing of the mirror itself is touched when the links are made anew.
    assert!(packed.exists());
    let own = ProviderMirror::find(Some(&dir.path().join("mirror")), Flavour::Terraform).unwrap();
    assert!(own.cli_configuration(&links).unwrap().contains("mirror\"\n"));
}

/// As Terraform words it, where the system refuses.
#[tokio::test]
async fn a_plan_that_finds_no_room_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let body = r#"echo plan > /dev/full || echo '{"type":"diagnostic","diagnostic":{"severity":"error","summary":"Failed to write plan file","detail":"The plan file could not be written: write up.tfplan: no space left on device."}}'; exit 1"#;
    let workspace = scripted(dir.path(), body).await;
    let error = workspace.plan("up", false, &never(), |_| {}).await.unwrap_err();
    let shown = mfsre::error::Error::from(error).render(false);
    assert!(
        shown.contains("terraform plan failed") && shown.contains("no space left on device"),
        "{shown}"
    );
    assert!(
        shown.contains("hint: free some disk space and run the same command again"),
        "{shown}"
    );
}
