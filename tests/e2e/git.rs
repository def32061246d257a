//! The git host: its SSH server through real git, its API, and its access log.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::project::Project;
use crate::tools::{RUNTIME, tool};

pub(crate) struct GitHost<'a> {
    project: &'a Project,
    status: Value,
    work: tempfile::TempDir,
}

impl<'a> GitHost<'a> {
    pub(crate) fn of(project: &'a Project, status: &Value) -> Self {
        let work = tempfile::tempdir_in(project.folder()).unwrap();
        let known_hosts = format!("{}\n", status["git_known_hosts"].as_str().unwrap());
        std::fs::write(work.path().join("known_hosts"), known_hosts).unwrap();
        Self {
            project,
            status: status.clone(),
            work,
        }
    }

    fn text(&self, key: &str) -> &str {
        self.status[key].as_str().unwrap()
    }

    pub(crate) fn operator_key(&self) -> PathBuf {
        self.text("operator_key").into()
    }

    /// Puts a private key into a file as SSH wants it. The file is gone with this value.
    pub(crate) fn key_file(&self, private: &str) -> PathBuf {
        let path = self.work.path().join("key");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        file.write_all(private.as_bytes()).unwrap();
        path
    }

    /// Runs git with the private key in `key`; what it printed, or its error.
    pub(crate) fn git(&self, dir: &Path, key: &Path, arguments: &[&str]) -> Result<String, String> {
        let ssh = format!(
            "ssh -F none -i {} -o IdentitiesOnly=yes -o IdentityAgent=none -o StrictHostKeyChecking=yes -o UserKnownHostsFile={}",
            key.display(),
            self.work.path().join("known_hosts").display()
        );
        let output = self
            .project
            .command(tool("git"))
            .args(["-c", "user.name=test", "-c", "user.email=test@example.invalid"])
            .args(arguments)
            .current_dir(dir)
            .env("GIT_SSH_COMMAND", ssh)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// Clones the repository.
    pub(crate) fn clone(&self, name: &str, key: &Path) -> PathBuf {
        let dir = self.work.path().join(name);
        let arguments = ["clone", "--quiet", self.text("git_url"), dir.to_str().unwrap()];
        self.git(self.work.path(), key, &arguments)
            .unwrap_or_else(|e| panic!("the repository cannot be cloned: {e}"));
        dir
    }

    /// The commit at the branch's end.
    pub(crate) fn head(&self) -> String {
        let arguments = ["ls-remote", "--heads", self.text("git_url"), "main"];
        let line = self.git(self.work.path(), &self.operator_key(), &arguments).unwrap();
        line.split_whitespace()
            .next()
            .expect("the branch main exists")
            .to_owned()
    }

    /// The deploy keys that the host knows.
    pub(crate) fn deploy_keys(&self) -> Vec<Value> {
        let url = format!("{}repos/mfsre/platform/keys", self.text("git_api_url"));
        RUNTIME.block_on(async {
            let http = reqwest::Client::builder().no_proxy().build().unwrap();
            let request = http
                .get(url)
                .bearer_auth(self.text("git_api_token"))
                .header("User-Agent", "test");
            request
                .send()
                .await
                .unwrap()
                .error_for_status()
                .unwrap()
                .json()
                .await
                .unwrap()
        })
    }

    /// The access log, one entry a command.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.text("git_access_log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
