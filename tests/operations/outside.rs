//! An outside to run the real program against: AWS and GitHub as far as they are asked before anything is created, a bare
//! git repository, and a Terraform that does what a test writes down.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::common::{Finished, Project};
use crate::terminal::{self, Shown};

const CALLER: &str = "arn:aws:iam::111122223333:user/alice";

/// Does what the file of a subcommand's name says, in its own folder.
const TERRAFORM: &str = r#"#!/bin/sh
case "$*" in
  "version -json") echo '{"terraform_version": "1.11.4"}'; exit ;;
  version) echo 'Terraform v1.11.4'; exit ;;
esac
here=$(dirname "$0")
echo "$1" >> "$here/calls"
[ "$1" = init ] && mkdir -p .terraform
[ "$1" = show ] && [ ! -f "$here/show" ] && echo '{}'
[ -f "$here/$1" ] && . "$here/$1"
exit 0
"#;

pub(crate) struct Outside {
    pub(crate) project: Project,
    asked: Arc<Mutex<Vec<String>>>,
    address: String,
}

impl Outside {
    /// One with the environment `demo`, whose file has `settings` besides.
    pub(crate) fn new(settings: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = log.clone();
                std::thread::spawn(move || serve(stream, &log));
            }
        });
        let project = Project::empty();
        let outside = Self {
            project,
            asked,
            address,
        };
        outside.project.write(
            "environments/demo.yaml",
            format!(
                "name: demo\nargocd_repository_url: git@github.com:acme/platform.git\ngit: {{api_url: '{}/github'}}\naccess: {{administrators: ['{CALLER}']}}\nterraform: {{program: '{}'}}\n{settings}",
                outside.address,
                outside.path("terraform/terraform").display()
            ),
        );
        // Argo CD's manifest is in the cache, as after a first run.
        let manifest = outside.project.home().join(format!(
            ".cache/mfsre/tools/argocd-install/{}/argocd-install.yaml",
            mfsre_sandbox::ARGO_CD_VERSION
        ));
        std::fs::create_dir_all(manifest.parent().unwrap()).unwrap();
        std::fs::write(manifest, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n").unwrap();
        std::fs::create_dir_all(outside.path("terraform")).unwrap();
        let terraform = outside.path("terraform/terraform");
        std::fs::write(&terraform, TERRAFORM).unwrap();
        std::fs::set_permissions(&terraform, std::fs::Permissions::from_mode(0o755)).unwrap();
        outside.terraform(
            "plan",
            &[r#"{"type": "change_summary", "changes": {"add": 2, "change": 0, "remove": 0}}"#],
            2,
        );
        outside.git(&["init", "--quiet", "--bare", "--initial-branch", "main", "."]);
        outside
    }

    fn path(&self, path: &str) -> PathBuf {
        self.project.home().parent().unwrap().join(path)
    }

    /// Has a subcommand print `lines`, after as many seconds as one that is a number says, and end with `code`.
    pub(crate) fn terraform(&self, subcommand: &str, lines: &[&str], code: u8) {
        let mut script = String::new();
        for line in lines {
            match line.parse::<f64>() {
                Ok(seconds) => script.push_str(&format!("sleep {seconds}\n")),
                Err(_) => script.push_str(&format!("echo '{line}'\n")),
            }
        }
        script.push_str(&format!("exit {code}\n"));
        std::fs::write(self.path("terraform").join(subcommand), script).unwrap();
    }

    /// The subcommands that were called.
    pub(crate) fn terraform_calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.path("terraform/calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// What AWS and GitHub were asked.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Runs git in the repository that Argo CD reads.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let dir = self.path("remote.git");
        std::fs::create_dir_all(&dir).unwrap();
        let output = Command::new("git").args(arguments).current_dir(dir).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Refuses pushes to a branch, as a git host does for a protected one.
    pub(crate) fn protect(&self, branch: &str) {
        let hook = self.path("remote.git/hooks/pre-receive");
        let refuse = format!("[ $ref = refs/heads/{branch} ] && {{ echo 'main is protected' >&2; exit 1; }}");
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        std::fs::write(
            &hook,
            format!("#!/bin/sh\nwhile read -r old new ref; do {refuse}; done\nexit 0\n"),
        )
        .unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The program, with credentials for this outside.
    pub(crate) fn mfsre(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.mfsre(arguments);
        command
            .env("AWS_ENDPOINT_URL", &self.address)
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "canary-of-a-secret-key")
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("GITHUB_TOKEN", "canary-of-a-token")
            .env("GIT_CONFIG_COUNT", "1")
            .env(
                "GIT_CONFIG_KEY_0",
                format!("url.file://{}.insteadOf", self.path("remote.git").display()),
            )
            .env("GIT_CONFIG_VALUE_0", "git@github.com:acme/platform.git");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.project.finish(self.mfsre(arguments))
    }

    /// Runs it at a terminal.
    pub(crate) fn at_terminal(&self, columns: usize, arguments: &[&str], script: &[(&str, &str)]) -> Shown {
        terminal::run(&self.mfsre(arguments), columns, script)
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length, mut authorized, mut target) = (String::new(), 0, false, String::new());
    reader.read_line(&mut line).unwrap();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let header = header.trim().to_ascii_lowercase();
        match header.split_once(": ") {
            None => break,
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("authorization", _)) => authorized = true,
            Some(("x-amz-target", value)) => target = value.to_owned(),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8_lossy(&body);
    log.lock().unwrap().push(format!("{} {body}", line.trim()));
    let (status, kind, answer) = if body.contains("Action=GetCallerIdentity") {
        let xml = format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult><Arn>{CALLER}</Arn><UserId>x</UserId><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
        );
        (200, "", xml)
    } else if target == "amazonssm.putparameter" && body.contains("/demo/mfsre/lock") {
        (200, "", r#"{"Version": 1}"#.to_owned())
    } else if target.ends_with("parameter") && body.contains("/demo/mfsre/lock") {
        (
            400,
            "ParameterNotFound",
            r#"{"__type": "ParameterNotFound"}"#.to_owned(),
        )
    } else if line.contains(" /cluster-versions") {
        (200, "", r#"{"clusterVersions": []}"#.to_owned())
    } else if line.contains(" /clusters/") {
        (
            404,
            "ResourceNotFoundException",
            r#"{"message": "No cluster found"}"#.to_owned(),
        )
    } else if line.contains(" /github/") && authorized {
        (200, "", "[]".to_owned())
    } else if line.contains(" /github/") {
        (401, "", r#"{"message": "Requires authentication"}"#.to_owned())
    } else {
        (
            400,
            "AccessDeniedException",
            r#"{"__type": "AccessDeniedException", "message": "no"}"#.to_owned(),
        )
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nx-amzn-errortype: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    let _ = stream.write_all(format!("{head}{answer}").as_bytes());
}
