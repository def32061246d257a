use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use super::GitError;
use crate::child::ChildEnvironment;

/// The user's own checkout, in which a commit is made only when they ask for it.
#[derive(Debug)]
pub struct Checkout {
    root: PathBuf,
}

/// Why nothing can be committed.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The folder is in no repository.
    #[error("cannot commit: {} is not in a git repository", .0.display())]
    NotARepository(PathBuf),
    /// The user is in the middle of something.
    #[error("cannot commit: {0} is under way in the repository")]
    Underway(&'static str),
    /// No branch is checked out.
    #[error("cannot commit: no branch is checked out (HEAD is detached)")]
    Detached,
    /// git does not know who commits; what it said.
    #[error("cannot commit: git does not know who you are")]
    NoIdentity(String),
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// What a user may be in the middle of, by the file of git's that says so.
const UNDERWAY: [(&str, &str); 5] = [
    ("MERGE_HEAD", "a merge"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
];

impl Checkout {
    /// The checkout that `root` is in.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    async fn output(&self, arguments: &[&str]) -> Result<Output, GitError> {
        tokio::process::Command::new("git")
            .arg("-C")
            .arg(&self.root)
            .arg("--literal-pathspecs")
            .args(arguments)
            .env_clear()
            .envs(ChildEnvironment::git().iter())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(GitError::Unusable)
    }

    async fn git(&self, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        let output = self.output(arguments).await?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(GitError::Failed {
            command: arguments.first().copied().unwrap_or_default().to_owned(),
            output: printed(&output),
        })
    }

    /// Makes sure that a commit can be made: a branch is checked out, nothing is under way, and git knows who commits.
    ///
    /// # Errors
    /// One of these is not so.
    pub async fn ready(&self) -> Result<(), CheckoutError> {
        match self.git(&["rev-parse", "--is-inside-work-tree"]).await {
            Err(GitError::Failed { output, .. }) if output.contains("not a git repository") => {
                return Err(CheckoutError::NotARepository(self.root.clone()));
            }
            result => result?,
        };
        for (file, what) in UNDERWAY {
            let path = self.git(&["rev-parse", "--git-path", file]).await?;
            let path = String::from_utf8_lossy(&path).trim_end_matches('\n').to_owned();
            if self.root.join(path).exists() {
                return Err(CheckoutError::Underway(what));
            }
        }
        if !self
            .output(&["symbolic-ref", "--quiet", "HEAD"])
            .await?
            .status
            .success()
        {
            return Err(CheckoutError::Detached);
        }
        for who in ["GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"] {
            let output = self.output(&["var", who]).await?;
            if !output.status.success() {
                return Err(CheckoutError::NoIdentity(printed(&output)));
            }
        }
        Ok(())
    }

    /// The file at `path`, relative to the folder, as the last commit has it and as git would write it here; `None` where
    /// there is no such file.
    ///
    /// # Errors
    /// git cannot read it.
    pub async fn committed(&self, path: &Path) -> Result<Option<Vec<u8>>, GitError> {
        let path = path.to_string_lossy();
        let head = self.output(&["rev-parse", "--verify", "--quiet", "HEAD"]).await?;
        if !head.status.success() || self.git(&["ls-tree", "-z", "HEAD", "--", &path]).await?.is_empty() {
            return Ok(None);
        }
        self.git(&["cat-file", "--filters", &format!("HEAD:./{path}")])
            .await
            .map(Some)
    }

    /// Commits `files`, relative to the folder, and nothing else; what else is staged stays staged. The user's hooks run.
    /// Returns the commit.
    ///
    /// # Errors
    /// git or a hook refused.
    pub async fn commit(&self, files: &[PathBuf], message: &str) -> Result<String, GitError> {
        let files: Vec<String> = files.iter().map(|f| f.to_string_lossy().into_owned()).collect();
        let mut arguments = vec!["commit", "--quiet", "--only", "--message", message, "--"];
        arguments.extend(files.iter().map(String::as_str));
        self.git(&arguments).await?;
        let commit = self.git(&["rev-parse", "HEAD"]).await?;
        Ok(String::from_utf8_lossy(&commit).trim().to_owned())
    }
}

/// What a command that failed said; a hook may say it on either stream.
fn printed(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines.join("\n")
}
