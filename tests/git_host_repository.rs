//! The repository that Argo CD reads: compared and published with real git, over a bare repository on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use mfsre::git::{GitError, GitRepository, Publication};

/// A bare repository, and a place for the clone.
struct Remote {
    dir: tempfile::TempDir,
}

/// What git of these tests may know of the machine: nothing.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("HOME", "/nonexistent"),
];

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=somebody",
            "-c",
            "user.email=somebody@example.com",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(arguments)
        .current_dir(dir)
        .envs(ENVIRONMENT)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

impl Remote {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        git(
            dir.path(),
            &["init", "--quiet", "--bare", "--initial-branch", "main", "remote.git"],
        );
        Self { dir }
    }

    /// One whose branch main was pushed by somebody else, who made `prepare` of an empty folder.
    fn with(prepare: impl FnOnce(&Path)) -> Self {
        let remote = Self::empty();
        remote.somebody_pushes(prepare);
        remote
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn somebody_pushes(&self, prepare: impl FnOnce(&Path)) {
        let dir = self.path("somebody");
        if !dir.exists() {
            git(self.dir.path(), &["clone", "--quiet", "remote.git", "somebody"]);
            git(&dir, &["checkout", "--quiet", "-B", "main"]);
        } else {
            git(&dir, &["pull", "--quiet", "origin", "main"]);
        }
        prepare(&dir);
        git(&dir, &["add", "--all", "--force"]);
        git(&dir, &["commit", "--quiet", "--allow-empty", "-m", "theirs"]);
        git(&dir, &["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
    }

    fn repository(&self) -> GitRepository {
        let url = format!("file://{}", self.path("remote.git").display());
        let environment = ENVIRONMENT
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        GitRepository::new(&url, "main", self.path("clone"), environment)
    }

    /// What the branch holds, by path.
    fn branch(&self) -> BTreeMap<String, String> {
        let bare = self.path("remote.git");
        git(&bare, &["ls-tree", "-r", "--name-only", "main"])
            .lines()
            .map(|path| (path.to_owned(), git(&bare, &["show", &format!("main:{path}")])))
            .collect()
    }

    fn commits(&self) -> usize {
        git(&self.path("remote.git"), &["log", "--format=%h", "main"])
            .lines()
            .count()
    }
}

const VALUES: &str = "cd/environments/demo/values.yaml";

type Files = Vec<(&'static str, &'static str)>;

fn rendered() -> Files {
    vec![
        ("cd/addons/Chart.yaml", "name: addons\n"),
        (VALUES, "name: 'demo'\n"),
        ("cd/root/demo.yaml", "kind: Application\n"),
    ]
}

async fn compare(repository: &GitRepository, files: &Files) -> Result<Publication, GitError> {
    let files = files
        .iter()
        .map(|(path, contents)| (Path::new(*path), contents.as_bytes()));
    repository
        .compare(files, |path| {
            path.starts_with("cd/environments/prod") || path == Path::new("cd/root/prod.yaml")
        })
        .await
}

fn files(publication: Publication) -> Vec<String> {
    match publication {
        Publication::Differs { files, .. } => files,
        Publication::Published(commit) => panic!("published at {commit}"),
    }
}

fn write(dir: &Path, path: &str, contents: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, contents).unwrap();
}

#[tokio::test]
async fn an_empty_repository_gets_its_first_commit() {
    let remote = Remote::empty();
    let repository = remote.repository();
    repository.reach().await.unwrap();
    let differs = compare(&repository, &rendered()).await.unwrap();
    assert_eq!(files(differs), ["cd/addons/Chart.yaml", VALUES, "cd/root/demo.yaml"]);
    let commit = repository.publish("Render demo").await.unwrap();
    assert_eq!(
        compare(&repository, &rendered()).await.unwrap(),
        Publication::Published(commit)
    );
    assert_eq!(remote.branch().len(), 3);
    assert_eq!(
        git(&remote.path("remote.git"), &["log", "--format=%an %s", "main"]),
        "mfsre Render demo\n"
    );
}

#[tokio::test]
async fn comparing_changes_nothing_and_shows_what_publishing_would() {
    let remote = Remote::with(|dir| {
        for (path, contents) in rendered() {
            write(dir, path, contents);
        }
        write(dir, VALUES, "name: 'old'\n");
        write(dir, "cd/charts/old/Chart.yaml", "name: old\n");
        write(dir, "README.md", "theirs\n");
    });
    let repository = remote.repository();
    let before = remote.branch();
    let Publication::Differs { files, diff } = compare(&repository, &rendered()).await.unwrap() else {
        panic!("it differs")
    };
    assert_eq!(files, ["cd/charts/old/Chart.yaml", VALUES]);
    assert!(diff.contains("-name: 'old'\n+name: 'demo'\n"), "{diff}");
    assert!(diff.contains("deleted file"), "{diff}");
    assert_eq!(remote.branch(), before);
    repository.publish("Render demo").await.unwrap();
    let after = remote.branch();
    assert_eq!(after[VALUES], "name: 'demo'\n");
    assert_eq!(after["README.md"], "theirs\n");
    assert!(!after.contains_key("cd/charts/old/Chart.yaml"));
    assert_eq!(remote.commits(), 2, "what was there stays in the history");
}

#[tokio::test]
async fn files_of_other_environments_are_kept() {
    let remote = Remote::with(|dir| {
        write(dir, "cd/environments/prod/values.yaml", "name: 'prod'\n");
        write(dir, "cd/root/prod.yaml", "kind: Application\n");
    });
    let repository = remote.repository();
    compare(&repository, &rendered()).await.unwrap();
    repository.publish("Render demo").await.unwrap();
    let branch = remote.branch();
    assert_eq!(branch["cd/environments/prod/values.yaml"], "name: 'prod'\n");
    assert!(branch.contains_key("cd/root/prod.yaml"));
    assert_eq!(branch.len(), 5);
}

#[tokio::test]
async fn what_somebody_pushes_in_between_is_seen() {
    let remote = Remote::empty();
    let repository = remote.repository();
    compare(&repository, &rendered()).await.unwrap();
    repository.publish("Render demo").await.unwrap();
    remote.somebody_pushes(|dir| write(dir, VALUES, "name: 'theirs'\n"));
    assert_eq!(files(compare(&repository, &rendered()).await.unwrap()), [VALUES]);
    remote.somebody_pushes(|dir| write(dir, "docs/x.md", "more\n"));
    // Between looking and pushing: refused, never overwritten.
    let error = repository.publish("Render demo").await.unwrap_err();
    assert!(
        matches!(&error, GitError::Failed { command, .. } if command == "push"),
        "{error}"
    );
    assert_eq!(files(compare(&repository, &rendered()).await.unwrap()), [VALUES]);
    repository.publish("Render demo").await.unwrap();
    assert_eq!(remote.branch()["docs/x.md"], "more\n");
}

#[tokio::test]
async fn a_branch_that_was_deleted_begins_anew() {
    let remote = Remote::with(|dir| write(dir, "cd/old.yaml", "old: true\n"));
    let repository = remote.repository();
    compare(&repository, &rendered()).await.unwrap();
    git(&remote.path("remote.git"), &["update-ref", "-d", "refs/heads/main"]);
    assert_eq!(files(compare(&repository, &rendered()).await.unwrap()).len(), 3);
    repository.publish("Render demo").await.unwrap();
    assert_eq!(remote.commits(), 1);
    assert_eq!(remote.branch().len(), 3);
}

#[tokio::test]
async fn a_clone_that_was_cut_off_or_tampered_with_is_brought_back() {
    let remote = Remote::with(|dir| write(dir, "cd/x.yaml", "x: 1\n"));
    let repository = remote.repository();
    compare(&repository, &rendered()).await.unwrap();
    write(&remote.path("clone"), "cd/stray.yaml", "stray: true\n");
    write(&remote.path("clone"), "elsewhere.txt", "stray\n");
    std::fs::remove_file(remote.path("clone").join(VALUES)).unwrap();
    compare(&repository, &rendered()).await.unwrap();
    repository.publish("Render demo").await.unwrap();
    assert_eq!(
        remote.branch().into_keys().collect::<Vec<_>>(),
        ["cd/addons/Chart.yaml", VALUES, "cd/root/demo.yaml"]
    );
}

/// Has the repository refuse pushes to branches that match `pattern`, as a git host does for protected ones.
fn protect(remote: &Remote, pattern: &str) {
    let hook = remote.path("remote.git/hooks/pre-receive");
    write(
        &remote.path("remote.git"),
        "hooks/pre-receive",
        &format!(
            "#!/bin/sh\nwhile read -r old new ref; do case $ref in {pattern}) echo \"no pushing to $ref\" >&2; exit 1;; esac; done\n"
        ),
    );
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn what_a_protected_branch_refuses_is_proposed_in_another() {
    let remote = Remote::with(|dir| write(dir, "README.md", "theirs\n"));
    protect(&remote, "refs/heads/main");
    let bare = remote.path("remote.git");
    let repository = remote.repository();
    compare(&repository, &rendered()).await.unwrap();
    let error = repository.publish("Render demo").await.unwrap_err();
    assert!(error.is_protected(), "{error}");
    assert!(error.to_string().contains("no pushing to refs/heads/main"), "{error}");
    repository.propose("mfsre/demo").await.unwrap();
    assert_eq!(git(&bare, &["show", &format!("mfsre/demo:{VALUES}")]), "name: 'demo'\n");
    assert_eq!(
        git(&bare, &["rev-parse", "mfsre/demo^"]),
        git(&bare, &["rev-parse", "main"])
    );
    assert_eq!(
        remote.branch().into_keys().collect::<Vec<_>>(),
        ["README.md"],
        "the branch itself is as it was"
    );

    // The refused commit is not taken for published; proposed again, the branch that is under review stays as it is.
    let proposed = git(&bare, &["rev-parse", "mfsre/demo"]);
    assert_eq!(files(compare(&repository, &rendered()).await.unwrap()).len(), 3);
    repository.publish("Render demo, later").await.unwrap_err();
    repository.propose("mfsre/demo").await.unwrap();
    assert_eq!(git(&bare, &["rev-parse", "mfsre/demo"]), proposed);

    // Something else takes its place.
    let mut changed = rendered();
    changed[1].1 = "name: 'changed'\n";
    compare(&repository, &changed).await.unwrap();
    repository.publish("Render demo").await.unwrap_err();
    repository.propose("mfsre/demo").await.unwrap();
    assert_eq!(
        git(&bare, &["show", &format!("mfsre/demo:{VALUES}")]),
        "name: 'changed'\n"
    );
    assert_eq!(
        git(&bare, &["rev-parse", "mfsre/demo^"]),
        git(&bare, &["rev-parse", "main"])
    );
}

#[tokio::test]
async fn where_no_branch_may_be_pushed_a_pull_request_is_the_advice() {
    let remote = Remote::with(|dir| write(dir, "README.md", "theirs\n"));
    protect(&remote, "*");
    let repository = remote.repository();
    compare(&repository, &rendered()).await.unwrap();
    repository.publish("Render demo").await.unwrap_err();
    let error = repository.propose("mfsre/demo").await.unwrap_err();
    assert!(
        error.to_string().contains("no pushing to refs/heads/mfsre/demo"),
        "{error}"
    );
    assert!(error.hint().contains("pull request"), "{}", error.hint());
}

#[tokio::test]
async fn a_repository_that_cannot_be_reached_is_told_with_gits_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let repository = GitRepository::new(
        "file:///nowhere/at/all.git",
        "main",
        dir.path().join("clone"),
        Vec::new(),
    );
    let error = repository.reach().await.unwrap_err();
    assert!(error.to_string().starts_with("git ls-remote failed: "), "{error}");
    assert!(error.to_string().contains("/nowhere/at/all.git"), "{error}");
    assert!(!error.hint().is_empty());
}

#[tokio::test]
async fn links_in_the_branch_never_lead_out_of_the_clone() {
    let outside = tempfile::tempdir().unwrap();
    let precious = outside.path().join("values.yaml");
    for place in [
        "cd",
        "cd/environments",
        "cd/environments/demo",
        VALUES,
        "cd/addons/Chart.yaml",
    ] {
        std::fs::write(&precious, "precious\n").unwrap();
        let remote = Remote::with(|dir| {
            let link = dir.join(place);
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            let target = if place.ends_with(".yaml") {
                &precious
            } else {
                outside.path()
            };
            symlink(target, link).unwrap();
        });
        let repository = remote.repository();
        compare(&repository, &rendered()).await.unwrap();
        repository.publish("Render demo").await.unwrap();
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious\n", "{place}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{place}");
        assert_eq!(remote.branch(), own(&rendered()), "{place}");
    }
}

fn own(files: &Files) -> BTreeMap<String, String> {
    files
        .iter()
        .map(|(path, contents)| ((*path).to_owned(), (*contents).to_owned()))
        .collect()
}

#[tokio::test]
async fn files_in_place_of_folders_and_folders_in_place_of_files_give_way() {
    for (path, contents) in [
        ("cd", "a file\n"),
        ("cd/environments", "a file\n"),
        ("cd/addons/Chart.yaml/inner", "a folder\n"),
    ] {
        let remote = Remote::with(|dir| write(dir, path, contents));
        let repository = remote.repository();
        compare(&repository, &rendered()).await.unwrap();
        repository.publish("Render demo").await.unwrap();
        assert_eq!(remote.branch(), own(&rendered()), "{path}");
    }
}

#[tokio::test]
async fn a_submodule_in_place_of_cd_gives_way() {
    let other = Remote::with(|dir| write(dir, "x", "x\n"));
    let url = format!("file://{}", other.path("remote.git").display());
    let remote = Remote::with(|dir| {
        git(dir, &["submodule", "--quiet", "add", "-b", "main", &url, "cd"]);
    });
    let repository = remote.repository();
    compare(&repository, &rendered()).await.unwrap();
    repository.publish("Render demo").await.unwrap();
    let mut branch = remote.branch();
    branch.remove(".gitmodules");
    assert_eq!(branch, own(&rendered()));
}

#[tokio::test]
async fn what_is_committed_is_what_was_rendered_whatever_the_branch_says_of_its_files() {
    let remote = Remote::with(|dir| {
        write(
            dir,
            ".gitattributes",
            "cd/environments/** text eol=crlf working-tree-encoding=UTF-16 ident filter=evil\n",
        );
        write(dir, ".gitignore", "*\n");
        write(dir, "cd/.gitattributes", "* text eol=crlf\n");
        write(dir, "cd/addons/.gitignore", "*\n");
    });
    let repository = remote.repository();
    let tricky: Files = vec![
        (VALUES, "a: 1\r\nb: $Id$\n"),
        ("cd/root/demo.yaml", "größe: \u{feff}x\n"),
    ];
    compare(&repository, &tricky).await.unwrap();
    let commit = repository.publish("Render demo").await.unwrap();
    let branch = remote.branch();
    for (path, contents) in &tricky {
        assert_eq!(branch[*path], *contents, "{path}");
    }
    assert_eq!(
        compare(&repository, &tricky).await.unwrap(),
        Publication::Published(commit)
    );
}

#[tokio::test]
async fn a_branch_name_is_never_an_option() {
    let remote = Remote::with(|dir| write(dir, "README.md", "theirs\n"));
    let url = format!("file://{}", remote.path("remote.git").display());
    let environment = ENVIRONMENT
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let repository = GitRepository::new(&url, "release/1.2", remote.path("other"), environment);
    compare(&repository, &rendered()).await.unwrap();
    repository.publish("Render demo").await.unwrap();
    let branches = git(&remote.path("remote.git"), &["branch", "--format=%(refname:short)"]);
    assert_eq!(branches, "main\nrelease/1.2\n");
}
