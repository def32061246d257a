use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::child::ChildEnvironment;

/// A git command that failed.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It cannot be run.
    #[error("cannot run git")]
    Unusable(#[source] std::io::Error),
    /// It failed.
    #[error("git {command} failed: {output}")]
    Failed {
        /// Subcommand.
        command: String,
        /// What it printed to standard error.
        output: String,
    },
    /// A file of the clone cannot be read or written.
    #[error("cannot {what}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

impl GitError {
    /// Whether a push came too late: somebody else has pushed since the branch was looked at.
    #[must_use]
    pub fn is_outrun(&self) -> bool {
        const SIGNS: [&str; 4] = [
            "fetch first",
            "non-fast-forward",
            "cannot lock ref",
            "failed to update ref",
        ];
        matches!(self, Self::Failed { output, .. } if SIGNS.iter().any(|sign| output.contains(sign)))
    }

    /// Whether a push was refused by a rule of the repository, as that of GitHub (`GH006`, `GH013`), GitLab or Gitea for a
    /// protected branch.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        const RULES: [&str; 3] = ["protected branch", "hook declined", "rule violations"];
        let Self::Failed { command, output } = self else {
            return false;
        };
        command == "push" && output.contains("[remote rejected]") && RULES.iter().any(|rule| output.contains(rule))
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unusable(_) => "install git",
            Self::Failed { output, .. }
                if output.contains("Permission denied")
                    || output.contains("Authentication failed")
                    || output.contains("could not read Username") =>
            {
                "git on this machine needs access to the repository with your own credentials: try `git ls-remote URL`"
            }
            Self::Failed { .. } if self.is_protected() => {
                "the branch is protected: commit cd/ in a branch of your own and open a pull request, then run `mfsre up` again"
            }
            Self::Failed { .. } => "try the same with git by hand",
            Self::Io { .. } => "check the disk and the folder's permissions",
        }
    }
}

/// A clone of one branch of the repository that Argo CD reads, kept among the private files. The user's own checkout is
/// never touched.
#[derive(Debug)]
pub struct GitRepository {
    url: String,
    branch: String,
    dir: PathBuf,
    environment: Vec<(String, String)>,
    /// Folders of the branch that are as rendered.
    folders: Vec<String>,
}

/// How the remote branch stands to what was rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publication {
    /// The branch holds it; at this commit.
    Published(String),
    /// It differs.
    Differs {
        /// Files that differ.
        files: Vec<String>,
        /// `git diff` from the branch to what was rendered.
        diff: String,
    },
}

/// Removes what the branch has in place of `path` or of a folder above it: a symbolic link would lead out of the clone.
fn clear_way(root: &Path, path: &Path) -> std::io::Result<()> {
    let mut here = root.to_owned();
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        here.push(component);
        let Ok(found) = here.symlink_metadata() else {
            return Ok(());
        };
        let folder_wanted = components.peek().is_some();
        if folder_wanted && !found.is_dir() || found.is_symlink() {
            return std::fs::remove_file(&here);
        }
        if !folder_wanted && found.is_dir() {
            return std::fs::remove_dir_all(&here);
        }
    }
    Ok(())
}

impl GitRepository {
    /// `branch` of the repository at `url`, cloned to `dir`. `environment` is added to that of each git command.
    #[must_use]
    pub fn new(url: &str, branch: &str, dir: PathBuf, environment: Vec<(String, String)>) -> Self {
        Self {
            url: url.to_owned(),
            branch: branch.to_owned(),
            dir,
            environment,
            folders: vec!["cd".to_owned()],
        }
    }

    /// Has more folders than `cd/` of the branch hold what was rendered.
    #[must_use]
    pub fn and(mut self, folders: impl IntoIterator<Item = String>) -> Self {
        self.folders.extend(folders);
        self
    }

    /// A git command over the folders.
    async fn git_over_folders(&self, arguments: &[&str]) -> Result<String, GitError> {
        let all: Vec<&str> = arguments
            .iter()
            .copied()
            .chain(["--"])
            .chain(self.folders.iter().map(String::as_str))
            .collect();
        self.git(&all).await
    }

    async fn git(&self, arguments: &[&str]) -> Result<String, GitError> {
        let output = tokio::process::Command::new("git")
            .arg("-C")
            .arg(&self.dir)
            .args([
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "commit.gpgsign=false",
                "-c",
                "core.autocrlf=false",
            ])
            .args(arguments)
            .env_clear()
            .envs(ChildEnvironment::git().iter())
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(GitError::Unusable)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = stderr.lines().filter(|l| !l.trim().is_empty()).collect();
        Err(GitError::Failed {
            command: arguments.first().copied().unwrap_or_default().to_owned(),
            output: lines.join("\n"),
        })
    }

    /// Whether the repository can be reached with the operator's credentials.
    ///
    /// # Errors
    /// It cannot.
    pub async fn reach(&self) -> Result<(), GitError> {
        self.prepare().await?;
        self.git(&["ls-remote", "--heads", &self.url]).await.map(|_| ())
    }

    async fn prepare(&self) -> Result<(), GitError> {
        std::fs::create_dir_all(&self.dir).map_err(|source| GitError::Io {
            what: format!("create {}", self.dir.display()),
            source,
        })?;
        if !self.dir.join(".git").is_dir() {
            self.git(&["init", "--quiet", "--initial-branch", &self.branch]).await?;
        }
        // Argo CD reads the bytes that are committed, so no .gitattributes of the branch may change them on the way.
        let info = self.dir.join(".git/info");
        let path = info.join("attributes");
        std::fs::create_dir_all(&info)
            .and_then(|()| std::fs::write(&path, "* -text -filter -ident -working-tree-encoding\n"))
            .map_err(|source| GitError::Io {
                what: format!("write {}", path.display()),
                source,
            })?;
        Ok(())
    }

    /// Brings the clone to the remote branch, then lays `files` over its folders, where only what `keeps` says
    /// survives besides; says how the two differ. Nothing is committed.
    ///
    /// # Errors
    /// The repository cannot be reached, or a file cannot be written.
    pub async fn compare<'a>(
        &self,
        files: impl Iterator<Item = (&'a Path, &'a [u8])>,
        keeps: impl Fn(&Path) -> bool,
    ) -> Result<Publication, GitError> {
        self.prepare().await?;
        let heads = self
            .git(&[
                "ls-remote",
                "--heads",
                &self.url,
                &format!("refs/heads/{}", self.branch),
            ])
            .await?;
        let remote_exists = !heads.trim().is_empty();
        if remote_exists {
            self.git(&[
                "fetch",
                "--quiet",
                "--depth=1",
                &self.url,
                &format!("+refs/heads/{}:refs/remotes/origin/{}", self.branch, self.branch),
            ])
            .await?;
            let remote = format!("refs/remotes/origin/{}", self.branch);
            self.git(&["checkout", "--quiet", "--force", "-B", &self.branch, &remote])
                .await?;
        } else {
            // Nobody has pushed the branch yet: begin it without a parent.
            self.git(&[
                "checkout",
                "--quiet",
                "--force",
                "--orphan",
                &format!("mfsre-{}", std::process::id()),
            ])
            .await?;
            let _ = self.git(&["branch", "-D", &self.branch]).await;
            self.git(&["checkout", "--quiet", "--orphan", &self.branch]).await?;
            self.git(&["rm", "-r", "--quiet", "--cached", "--ignore-unmatch", "."])
                .await?;
        }
        self.git(&["clean", "-ffdxq"]).await?;
        let io = |what: &str, path: &Path| {
            let what = format!("{what} {}", path.display());
            move |source| GitError::Io { what, source }
        };
        let mut written = std::collections::BTreeSet::new();
        for (path, contents) in files {
            clear_way(&self.dir, path).map_err(io("clear the way for", path))?;
            let target = self.dir.join(path);
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).map_err(io("create", parent))?;
            }
            std::fs::write(&target, contents).map_err(io("write", &target))?;
            written.insert(path.to_string_lossy().into_owned());
        }
        for tracked in self
            .git_over_folders(&["ls-files", "-z"])
            .await?
            .split('\0')
            .filter(|p| !p.is_empty())
        {
            if !written.contains(tracked) && !keeps(Path::new(tracked)) {
                let path = self.dir.join(tracked);
                // What stood in the way of a file is gone already.
                if path.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
                    std::fs::remove_file(&path).map_err(io("remove", &path))?;
                }
            }
        }
        // Entries that are no files, such as a submodule, do not make room by themselves.
        self.git_over_folders(&["rm", "-r", "--quiet", "--cached", "--ignore-unmatch"])
            .await?;
        // Forced: a .gitignore of the repository must not hide what Argo CD needs. A folder with no file in it is none to git.
        let present = self
            .folders
            .iter()
            .filter(|folder| self.dir.join(folder).exists())
            .map(String::as_str);
        let add: Vec<&str> = ["add", "--all", "--force", "--"].into_iter().chain(present).collect();
        self.git(&add).await?;
        let names = self.git(&["diff", "--cached", "--name-only", "-z"]).await?;
        let files: Vec<String> = names.split('\0').filter(|n| !n.is_empty()).map(str::to_owned).collect();
        if files.is_empty() && remote_exists {
            let commit = self.git(&["rev-parse", "HEAD"]).await?;
            return Ok(Publication::Published(commit.trim().to_owned()));
        }
        let diff = self.git(&["diff", "--cached", "--no-color"]).await?;
        Ok(Publication::Differs { files, diff })
    }

    /// Commits what [`Self::compare`] laid out and pushes it; returns the commit.
    ///
    /// # Errors
    /// The push was refused.
    pub async fn publish(&self, message: &str) -> Result<String, GitError> {
        // Only where the operator's git has no identity of its own.
        let identity = self.git(&["config", "user.email"]).await;
        let fallback: &[&str] = if identity.is_ok() {
            &[]
        } else {
            &["-c", "user.name=mfsre", "-c", "user.email=mfsre@localhost"]
        };
        let commit: Vec<&str> = fallback
            .iter()
            .copied()
            .chain(["commit", "--quiet", "--allow-empty", "-m", message])
            .collect();
        self.git(&commit).await?;
        self.git(&[
            "push",
            "--quiet",
            &self.url,
            &format!("HEAD:refs/heads/{}", self.branch),
        ])
        .await?;
        Ok(self.git(&["rev-parse", "HEAD"]).await?.trim().to_owned())
    }

    /// Pushes the commit of a [`Self::publish`] that was refused to `branch` instead, which is mfsre's own: what an earlier
    /// run has proposed there gives way, unless it is the same.
    ///
    /// # Errors
    /// The push was refused.
    pub async fn propose(&self, branch: &str) -> Result<(), GitError> {
        let remote = format!("refs/remotes/origin/{branch}");
        let fetch = [
            "fetch",
            "--quiet",
            "--depth=1",
            &self.url,
            &format!("+refs/heads/{branch}:{remote}"),
        ];
        // Whoever reviews it must not begin anew because of another time in a commit. No such branch yet is no failure.
        if self.git(&fetch).await.is_ok()
            && self.git(&["rev-parse", &format!("{remote}^{{tree}}")]).await?
                == self.git(&["rev-parse", "HEAD^{tree}"]).await?
        {
            return Ok(());
        }
        let target = format!("+HEAD:refs/heads/{branch}");
        self.git(&["push", "--quiet", &self.url, &target]).await.map(|_| ())
    }
}
