//! A disk that is full, and a folder that cannot be written: the program says so and what to do, and nothing that was there
//! is lost.
//!
//! Full means here that no file may grow (RLIMIT_FSIZE, with its signal ignored, so that writing fails as it does on a full
//! disk). Root may write everywhere, so that where these tests are run as root the program is
//! run as somebody else.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "common/aws.rs"]
mod aws;
#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "common/canary.rs"]
mod canary;
#[allow(dead_code, reason = "each test crate uses some of the helpers")]
mod common;
#[allow(dead_code, reason = "each test crate uses some of the helpers")]
#[path = "common/http.rs"]
mod http;

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use aws::FakeAws;
use canary::{Canary, Searched};
use common::{Finished, Project, report};
use http::Answer;
use serde_json::json;

const SECRET_ACCESS_KEY: &str = "canary-of-a-secret-key";
const OTHERS: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: other\n  cluster: {server: 'https://other'}\ncontexts: []\nusers: []\n";

/// The same command where no file may grow beyond what fits into `blocks` of 512 bytes.
fn with_a_full_disk(command: &Command, blocks: u32) -> Command {
    let mut full = Command::new("sh");
    full.args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", &blocks.to_string()])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(std::process::Stdio::null());
    if let Some(dir) = command.get_current_dir() {
        full.current_dir(dir);
    }
    full
}

/// Runs the command as somebody who may not write where the mode does not let him: the user of these tests, or another one
/// where that is root. What is below the project becomes his.
fn run_as_an_ordinary_user(project: &Project, mut command: Command) -> Finished {
    const NOBODY: u32 = 65_534;
    if rustix::process::getuid().is_root() {
        let home = project.home();
        give(home.parent().unwrap(), NOBODY);
        // Where the program lies, he may not be let in.
        let copy = home.join("mfsre");
        std::fs::copy(command.get_program(), &copy).unwrap();
        let mut other = Command::new(copy);
        other
            .args(command.get_args())
            .env_clear()
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(command.get_current_dir().unwrap())
            .uid(NOBODY)
            .gid(NOBODY);
        command = other;
    }
    project.finish(command)
}

fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// An AWS that knows the cluster.
async fn aws() -> FakeAws {
    FakeAws::start(|seen| match seen.operation.as_str() {
        "DescribeCluster" => Answer::ok(
            json!({ "cluster": {
                "name": "demo", "endpoint": "https://127.0.0.1:9", "status": "ACTIVE", "version": "1.35",
                "certificateAuthority": { "data": "UEVN" },
            } })
            .to_string(),
        ),
        other => panic!("{other}"),
    })
    .await
}

fn kubeconfig(project: &Project, aws: &FakeAws, file: &Path) -> Command {
    let mut command = project.mfsre(&["kubeconfig", "demo", "--file", file.to_str().unwrap()]);
    command
        .env("AWS_ENDPOINT_URL", aws.url.as_str().trim_end_matches('/'))
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_is_never_lost() {
    let (project, aws) = (Project::demo(), aws().await);
    let folder = project.home().join("kube");
    let file = folder.join("config");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&file, OTHERS).unwrap();
    let mut all = String::new();
    // Not one byte, and some but not all.
    for blocks in [0, 1] {
        let run = project.finish(with_a_full_disk(&kubeconfig(&project, &aws, &file), blocks));
        assert_eq!(run.code, 1, "{run}");
        all.push_str(&format!("{run}\n"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), OTHERS, "it is as it was");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing lies beside it");
    }
    set_mode(&folder, 0o555);
    let run = run_as_an_ordinary_user(&project, kubeconfig(&project, &aws, &file));
    set_mode(&folder, 0o755);
    all.push_str(&run.to_string());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), OTHERS);
    insta::with_settings!({ filters => [(r"\.mfsre-\d+-[A-Za-z0-9]+", "[TEMPORARY]")] }, { insta::assert_snapshot!(&all) });

    let run = project.finish(kubeconfig(&project, &aws, &file));
    assert_eq!(run.code, 0, "{run}");
    all.push_str(&run.to_string());
    let searched = Searched::default();
    nothing_has_leaked(&project, all, &searched);
    searched.report("a disk that is full or closed");
    let merged = std::fs::read_to_string(&file).unwrap();
    assert!(
        merged.contains("https://other") && merged.contains("https://127.0.0.1:9"),
        "{merged}"
    );
}

/// The secret access key is in no file, nor in what was printed.
fn nothing_has_leaked(project: &Project, printed: String, searched: &Searched) {
    let read = |root: &Path| {
        let files = common::files_below(root).into_iter().filter(|file| file != "mfsre");
        files
            .map(|file| (std::fs::read(root.join(&file)).unwrap(), file))
            .map(|(text, file)| (file, text))
            .collect::<Vec<_>>()
    };
    let places = [read(&project.root()), read(&project.home())].concat();
    let printed = [("what was printed".to_owned(), printed.into_bytes())];
    let canary = Canary::new(&[("the secret access key", SECRET_ACCESS_KEY.into())]);
    canary.assert_absent(places.into_iter().chain(printed), searched);
}

/// A journal that has no room for a line more: nothing is begun that is not noted, and the torn line does no harm.
#[test]
fn a_journal_that_cannot_be_written_is_told() {
    let project = Project::demo();
    let line = |state: &str| {
        json!({ "time": "2026-01-01T00:00:00Z", "command": "up", "step": "plan", "state": state }).to_string() + "\n"
    };
    let journal = line("begin").repeat(6);
    assert!((440..=512).contains(&journal.len()), "{}", journal.len());
    project.write(".mfsre/demo/journal.jsonl", journal);
    let up = || project.mfsre(&["up", "demo", "--yes"]);
    let full = project.finish(with_a_full_disk(&up(), 1));
    insta::assert_snapshot!(full);
    assert!(!project.has("infra"), "nothing was begun");
    let again = project.finish(up());
    assert!(again.stderr.contains("was cut off in the step plan"), "{again}");
}

#[test]
fn private_files_that_cannot_be_written_are_told() {
    let project = Project::demo();
    std::fs::create_dir_all(project.root().join(".mfsre/demo")).unwrap();
    let mut all = format!(
        "{}\n",
        project.finish(with_a_full_disk(&project.mfsre(&["up", "demo", "--yes"]), 0))
    );
    set_mode(&project.root().join(".mfsre/demo"), 0o555);
    all.push_str(&run_as_an_ordinary_user(&project, project.mfsre(&["up", "demo", "--yes"])).to_string());
    set_mode(&project.root().join(".mfsre/demo"), 0o755);
    insta::assert_snapshot!(all);
}

/// What was rendered before stays whole, and the next run puts the rest in place.
#[test]
fn rendered_files_are_whole_or_as_they_were() {
    let project = Project::demo();
    let render = || project.mfsre(&["render", "demo"]);
    let whole = Project::demo();
    assert_eq!(whole.run(&["render", "demo"]).code, 0);
    let full = project.finish(with_a_full_disk(&render(), 4));
    assert_eq!(full.code, 1, "{full}");
    assert!(
        full.stderr.contains("cannot write") && full.stderr.contains("free some disk space"),
        "{full}"
    );
    for path in project.files() {
        assert_eq!(project.read(&path), whole.read(&path), "{path} is whole");
    }
    assert_eq!(project.finish(render()).code, 0);
    assert_eq!(project.files(), whole.files());

    set_mode(&project.root().join("infra/demo"), 0o555);
    project.write(
        "environments/demo.yaml",
        format!("name: demo\nregion: eu-north-1\n{}", common::REPOSITORY),
    );
    let before = project.read("infra/demo/terraform.tfvars.json");
    let closed = run_as_an_ordinary_user(&project, render());
    set_mode(&project.root().join("infra/demo"), 0o755);
    assert_eq!(closed.code, 1, "{closed}");
    assert!(closed.stderr.contains("make the folder writable for you"), "{closed}");
    assert_eq!(project.read("infra/demo/terraform.tfvars.json"), before);
}

/// A file that was cut off would be kept by the next `init`.
#[test]
fn a_project_that_was_begun_on_a_full_disk_can_be_begun_again() {
    const INIT: [&str; 3] = ["init", "--repository", "git@github.com:acme/platform.git"];
    let project = Project::empty();
    let init = || project.mfsre(&INIT);
    let full = project.finish(with_a_full_disk(&init(), 1));
    assert_eq!(full.code, 1, "{full}");
    assert!(full.stderr.contains("free some disk space"), "{full}");
    assert_eq!(project.finish(init()).code, 0);
    let whole = Project::empty();
    assert_eq!(whole.finish(whole.mfsre(&INIT)).code, 0);
    assert_eq!(project.files(), whole.files());
    for path in project.files() {
        assert_eq!(project.read(&path), whole.read(&path), "{path} is whole");
    }
}
