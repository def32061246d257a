//! A project with a small blueprint of its own, a host with the API of HCP Terraform, a git repository, and as much of AWS as
//! it takes to know who calls. What comes after Terraform needs more of AWS, so that `up` ends there with an error.

use std::path::{Path, PathBuf};
use std::process::Command;

use axum::Router;
use mfsre::model::contract::{OUTPUTS, OutputKind};
use serde_json::{Value, json};
use tfe_test_server::{Person, Server};

use crate::common::Project;

/// Whoever runs the program.
const CALLER: &str = "arn:aws:iam::123456789012:user/alice";

pub(crate) struct Setup {
    pub(crate) project: Project,
    pub(crate) server: Server,
    /// Somebody who may approve.
    pub(crate) alice: Person,
    aws: String,
}

/// How the program ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) events: Vec<Value>,
    text: String,
}

impl Setup {
    /// With a workspace that follows the branch `main` of a repository.
    pub(crate) async fn following(repository: &str) -> Self {
        let setup = Self::new().await;
        let remote = json!({ "execution-mode": "remote", "working-directory": "infra/demo" });
        setup.alice.create_workspace("demo", remote).await;
        setup.server.connect_vcs("demo", repository, "main");
        setup
    }

    pub(crate) async fn new() -> Self {
        let server = Server::start(&[]);
        let project = Project::empty();
        let setup = Self {
            alice: server.person("alice", true),
            aws: aws().await,
            project,
            server,
        };
        setup.backend("");
        setup.resources("resource \"terraform_data\" \"one\" {\n  input = var.name\n}\n");
        let git = |arguments: &[&str]| {
            let status = Command::new("git").args(arguments).status().unwrap();
            assert!(status.success());
        };
        git(&[
            "init",
            "--quiet",
            "--bare",
            "--initial-branch=main",
            setup.repository().to_str().unwrap(),
        ]);
        setup
    }

    /// The repository itself.
    pub(crate) fn repository(&self) -> PathBuf {
        self.project.home().join("platform.git")
    }

    /// Writes the environment file, with more lines in its section `backend`.
    pub(crate) fn backend(&self, more: &str) {
        self.environment(&format!(
            "backend:\n  type: cloud\n  hostname: {}\n  organization: acme\n{more}",
            self.server.host()
        ));
    }

    /// Writes the environment file, with this at its end.
    pub(crate) fn environment(&self, end: &str) {
        self.project.write(
            "environments/demo.yaml",
            format!(
                "name: demo\nargocd_repository_url: https://git.example.com/acme/platform.git\naccess:\n  administrators: [{CALLER}]\nblueprint: blueprints/own\ngit:\n  host: manual\n{end}"
            ),
        );
    }

    /// Writes the blueprint: the outputs of the contract, and these resources.
    pub(crate) fn resources(&self, resources: &str) {
        let mut text = String::from(
            "terraform {\n  required_version = \">= 1.10\"\n}\n\nvariable \"name\" {\n  type = string\n}\n\n",
        );
        for output in OUTPUTS {
            let value = match output.kind {
                OutputKind::String => format!("\"{}\"", output.name),
                OutputKind::ListOfStrings => format!("[\"{}\"]", output.name),
            };
            text.push_str(&format!("output \"{}\" {{\n  value = {value}\n}}\n\n", output.name));
        }
        self.project.write("blueprints/own/main.tf", text + resources);
    }

    /// The program, with Alice's token.
    pub(crate) fn mfsre(&self, arguments: &[&str]) -> Command {
        self.mfsre_as(&self.alice, arguments)
    }

    pub(crate) fn mfsre_as(&self, person: &Person, arguments: &[&str]) -> Command {
        let mut command = self.project.mfsre(arguments);
        command
            .args(["--output", "json"])
            .env("AWS_ENDPOINT_URL", &self.aws)
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
            .env("SSL_CERT_FILE", self.server.ca_file())
            .env(self.server.token_variable(), &person.token)
            .env("GIT_CONFIG_COUNT", "1")
            .env(
                "GIT_CONFIG_KEY_0",
                format!("url.file://{}.insteadOf", self.repository().display()),
            )
            .env("GIT_CONFIG_VALUE_0", "https://git.example.com/acme/platform.git");
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.mfsre(arguments)).await
    }

    /// `up` as far as it comes.
    pub(crate) async fn up(&self) -> Ended {
        self.run(&["up", "demo", "--yes", "--push"]).await
    }

    /// Waits until the host is asked this, not counting what it was asked before.
    pub(crate) async fn asked(&self, request: &str) {
        let before = self.server.requests().len();
        while !self.server.requests()[before..].iter().any(|r| r == request) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// What the host has of the state.
    pub(crate) async fn state(&self) -> Value {
        self.alice.state("demo").await
    }

    /// The addresses in the state, as `TYPE.NAME`.
    pub(crate) async fn resources_in_state(&self) -> Vec<String> {
        let state = self.state().await;
        let resources = state["resources"].as_array().cloned().unwrap_or_default();
        resources
            .iter()
            .map(|r| format!("{}.{}", r["type"].as_str().unwrap(), r["name"].as_str().unwrap()))
            .collect()
    }
}

/// Runs a command to its end.
pub(crate) async fn ended(command: Command) -> Ended {
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), command.kill_on_drop(true).output()).await;
    let output = output.expect("the program ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ended {
        code: output.status.code().unwrap_or(-1),
        events: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        text: text + &String::from_utf8_lossy(&output.stderr),
    }
}

impl Ended {
    /// Expects an exit code, and returns the error of the document.
    pub(crate) fn error(&self, code: i32) -> String {
        assert_eq!(self.code, code, "{self}");
        self.events.last().unwrap()["error"].to_string()
    }

    /// What a step came to.
    pub(crate) fn step(&self, id: &str) -> Option<String> {
        let finished = |e: &&Value| e["event"] == "step_finished" && e["step"] == id;
        self.events
            .iter()
            .find(finished)
            .map(|e| e["detail"].as_str().unwrap().to_owned())
    }

    /// Expects that Terraform's part was done; what comes after it needs AWS.
    pub(crate) fn applied(&self) -> String {
        self.step("apply")
            .unwrap_or_else(|| panic!("nothing was applied: {self}"))
    }

    /// The notes and warnings, one a line.
    pub(crate) fn notes(&self) -> String {
        let told = self
            .events
            .iter()
            .filter(|e| e["event"] == "note" || e["event"] == "warning");
        told.map(|e| e["message"].as_str().unwrap())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n{}", self.code, self.text)
    }
}

/// Answers who calls, takes the lock of an environment, and refuses everything else.
async fn aws() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = async |body: String| {
        if body.contains("GetCallerIdentity") {
            let xml = format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult><Arn>{CALLER}</Arn><UserId>AIDA</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
            );
            (axum::http::StatusCode::OK, xml)
        } else if body.contains("/mfsre/lock") {
            (axum::http::StatusCode::OK, "{\"Version\": 1}".to_owned())
        } else {
            let refusal =
                "{\"__type\": \"AccessDeniedException\", \"message\": \"there is no more of AWS in this test\"}";
            (axum::http::StatusCode::BAD_REQUEST, refusal.to_owned())
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    format!("http://{address}")
}

/// Waits until a file is there.
pub(crate) async fn wait_for_file(path: &Path) {
    for _ in 0..600 {
        if path.exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{} did not appear", path.display());
}
