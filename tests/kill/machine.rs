//! An operator's machine: a project, the program, and stand-ins for the programs that it calls.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::outside::{Moment, Outside, World};

pub(crate) const ENVIRONMENT: &str = "demo";
/// A token for the git host, which must not turn up anywhere.
pub(crate) const TOKEN: &str = "canary-token-of-the-git-host";

/// Objects like those of Argo CD's install manifest, one of each kind that matters.
const MANIFEST: &str = include_str!("manifest.yaml");

/// A machine and its world, to begin from.
pub(crate) struct Start {
    folder: tempfile::TempDir,
    world: World,
}

pub(crate) struct Machine {
    folder: tempfile::TempDir,
    pub(crate) outside: Arc<Outside>,
    /// The repository, on this machine or on another.
    repository: PathBuf,
    /// What the program's environment has besides.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// When a run is cut off.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// At a call.
    Call(Moment),
    /// When a step has begun, by its number.
    Step(usize, Signal),
}

impl Cut {
    pub(crate) fn signal(self) -> Signal {
        match self {
            Self::Call(moment) => moment.signal,
            Self::Step(_, signal) => signal,
        }
    }
}

/// What a run left.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The steps that began.
    pub(crate) steps: Vec<String>,
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n----- stdout -----\n{}----- stderr -----\n{}",
            self.status, self.stdout, self.stderr
        )
    }
}

/// In memory where the machine has a place for it: hundreds of machines are made and thrown away.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn shell(command: &str, folder: &Path) {
    let output = Command::new("sh")
        .args(["-ec", command])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn script(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn on_path(program: &str) -> String {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|p| p.is_file());
    found
        .unwrap_or_else(|| panic!("{program} is not on PATH"))
        .to_str()
        .unwrap()
        .to_owned()
}

impl Machine {
    /// A project, an empty repository, and nothing outside.
    pub(crate) fn new() -> Self {
        let folder = folder();
        for name in ["project/environments", "home", "tmp"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        shell(
            "git init --quiet --bare --initial-branch=main repository.git",
            folder.path(),
        );
        let cache = folder
            .path()
            .join("cache/tools/argocd-install")
            .join(mfsre_sandbox::ARGO_CD_VERSION);
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(cache.join("argocd-install.yaml"), MANIFEST).unwrap();
        let authority = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("authorities.pem"), authority.cert.pem()).unwrap();
        Self::over(folder, World::default())
    }

    pub(crate) fn from(start: &Start) -> Self {
        let folder = folder();
        shell(&format!("cp -a '{}/.' .", start.folder.path().display()), folder.path());
        Self::over(folder, start.world.clone())
    }

    pub(crate) fn into_start(self) -> Start {
        let world = self.outside.world();
        Start {
            folder: self.folder,
            world,
        }
    }

    fn over(folder: tempfile::TempDir, world: World) -> Self {
        let repository = folder.path().join("repository.git");
        let outside = Outside::start(world, repository.join("refs/heads/main"));
        Self {
            folder,
            outside: Arc::new(outside),
            repository,
            variables: Vec::new(),
        }
        .equipped()
    }

    /// Another machine with a copy of the project, in the same world.
    pub(crate) fn beside(&self) -> Self {
        let folder = folder();
        shell(&format!("cp -a '{}/.' .", self.folder.path().display()), folder.path());
        let (outside, repository) = (self.outside.clone(), self.repository.clone());
        Self {
            folder,
            outside,
            repository,
            variables: Vec::new(),
        }
        .equipped()
    }

    fn equipped(self) -> Self {
        let machine = self;
        let port = machine.outside.port();
        let environment = format!(
            "name: {ENVIRONMENT}\n\
             argocd_repository_url: ssh://git@git.test/acme/platform.git\n\
             git:\n  host: github\n  api_url: http://127.0.0.1:{port}/github\n\
             cluster:\n  public_access_cidrs: [203.0.113.7/32]\n\
             access:\n  administrators:\n    - arn:aws:iam::123456789012:user/alice\n"
        );
        std::fs::write(machine.project().join("environments/demo.yaml"), environment).unwrap();
        let tell = format!("exec 9<>/dev/tcp/127.0.0.1/{port}\n");
        let line = "printf 'program %s %s\\n' \"${0##*/}\" \"${*//$'\\n'/ }\" >&9\n";
        let git = on_path("git");
        let repository = machine.repository.display();
        let serve =
            format!("command=${{!#}}; command=${{command%% *}}\nexec {git} \"${{command#git-}}\" '{repository}'\n");
        // Terraform is left to end by itself, as it does when it is interrupted.
        script(
            &machine.path("bin/terraform"),
            &format!(
                "#!/bin/bash\ntrap '' INT\n[ \"$1\" = init ] && mkdir -p .terraform\n[ -f mfsre_import.tf.json ] && set -- \"$@\" -importing\n{tell}{line}read -r status <&9; cat <&9; exit \"$status\"\n"
            ),
        );
        script(
            &machine.path("bin/git"),
            &format!(
                "#!/bin/bash\n[ \"$1\" = --version ] && exec {git} --version\n{tell}{line}read -r _ <&9\n{git} \"$@\" 9>&-; status=$?\necho done >&9; read -r _ <&9; exit $status\n"
            ),
        );
        // With a key it opens the repository if the host knows the key, and the agent signs with it.
        script(
            &machine.path("bin/ssh"),
            &format!(
                "#!/bin/bash\n[ \"$1\" = -V ] && exec {} -V\n\
                 for word in \"$@\"; do word=${{word//\\\"/}}; case $word in IdentityFile=*) key=${{word#*=}};; IdentityAgent=*) export SSH_AUTH_SOCK=${{word#*=}};; esac; done\n\
                 {tell}printf 'program key %s\\n' \"$(cat \"$key\")\" >&9; read -r answer <&9\n\
                 [ \"$answer\" = known ] && ssh-keygen -Y sign -n test -f \"$key\" </dev/null >/dev/null 2>&1 || {{ echo 'Permission denied (publickey).' >&2; exit 255; }}\n{serve}",
                on_path("ssh")
            ),
        );
        script(&machine.path("operator/ssh"), &format!("#!/bin/bash\n{serve}"));
        machine
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.path("project")
    }

    fn command(&self, output: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("mfsre"));
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command
            .args(["--output", output])
            .args(arguments)
            .current_dir(self.project())
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("USER", "alice")
            .env("MFSRE_CACHE_DIR", self.path("cache"))
            // Nothing is reached over TLS, and reading every authority of the machine takes longer than anything else.
            .env("SSL_CERT_FILE", self.path("authorities.pem"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.outside.port()))
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "canary-secret-access-key")
            .env("GITHUB_TOKEN", TOKEN)
            .env("GIT_SSH_COMMAND", self.path("operator/ssh"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end as a person does; returns the exit code and what is printed to both outputs.
    pub(crate) fn read(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command("text", arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Starts the program, for a test that follows it.
    pub(crate) fn start(&self, arguments: &[&str]) -> std::process::Child {
        self.command("json", arguments).spawn().unwrap()
    }

    /// Runs the program to its end, or to where it is cut off.
    pub(crate) fn run(&self, arguments: &[&str], cut: Option<Cut>) -> Finished {
        self.run_telling(arguments, cut, None)
    }

    /// The same, and tells when the first step has begun.
    pub(crate) fn run_telling(&self, arguments: &[&str], cut: Option<Cut>, began: Option<Sender<()>>) -> Finished {
        let mut told = began;
        let moment = match cut {
            Some(Cut::Call(moment)) => Some(moment),
            _ => None,
        };
        let started = Instant::now();
        let mut child = self
            .outside
            .watch(moment, || self.command("json", arguments).spawn().unwrap());
        let mut errors = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            text
        });
        let (mut stdout, mut steps) = (String::new(), Vec::new());
        // A program that outlives its parent may hold the pipe for a while.
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line.contains("\"step_started\"") {
                if let Some(Cut::Step(number, signal)) = cut
                    && number == steps.len()
                {
                    self.outside.kill(signal);
                }
                if let Some(began) = told.take() {
                    began.send(()).unwrap();
                }
                let event: Value = serde_json::from_str(&line).unwrap();
                steps.push(event["step"].as_str().unwrap().to_owned());
            }
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let status = child.wait().unwrap();
        self.outside.wait_for_programs();
        assert!(
            started.elapsed().as_secs() < 120,
            "{arguments:?} took {:?}",
            started.elapsed()
        );
        Finished {
            status,
            stdout,
            stderr: stderr.join().unwrap(),
            steps,
        }
    }

    /// Every file, with its path from the machine's folder. What git keeps compressed is left out: nothing of it is made here.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let mut pending: Vec<PathBuf> = ["project", "home", "tmp"].iter().map(|name| self.path(name)).collect();
        while let Some(folder) = pending.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if entry.file_type().unwrap().is_dir() {
                    if path.file_name().is_none_or(|name| name != "objects") {
                        pending.push(path);
                    }
                } else if let Ok(contents) = std::fs::read(&path) {
                    let path = path.strip_prefix(self.folder.path()).unwrap();
                    files.push((path.to_string_lossy().into_owned(), contents));
                }
            }
        }
        files.sort();
        files
    }

    pub(crate) fn git(&self, folder: &str, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.path(folder))
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What must not be found anywhere.
    pub(crate) fn canaries(&self) -> Vec<String> {
        let mut canaries = self.outside.secrets();
        canaries.extend([TOKEN.to_owned(), "canary-secret-access-key".to_owned()]);
        canaries.sort();
        canaries.dedup();
        canaries
    }
}
