//! The cluster: by kubectl with the kubeconfig that mfsre wrote, and by bare HTTP with a token of the test's choice.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::project::Project;
use crate::tools::{RUNTIME, tool};

pub(crate) struct Kubectl<'a> {
    project: &'a Project,
    kubeconfig: PathBuf,
}

impl<'a> Kubectl<'a> {
    pub(crate) fn new(project: &'a Project, kubeconfig: PathBuf) -> Self {
        Self { project, kubeconfig }
    }

    /// Runs kubectl; what it printed, or its error.
    pub(crate) fn try_run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.project.command(tool("kubectl"));
        let mut child = command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = std::thread::spawn(move || {
            // kubectl may end before it has read everything.
            let _ = stdin.write_all(input.as_bytes());
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(text(output.stderr))
        }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments, "")
            .unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    pub(crate) fn get(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[&["get", "--output", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// One field, by JSON pointer.
    pub(crate) fn field(&self, namespace: &str, object: &str, pointer: &str) -> Value {
        let object = self.get(&["--namespace", namespace, object]);
        object.pointer(pointer).cloned().unwrap_or(Value::Null)
    }

    pub(crate) fn namespaces(&self) -> Vec<String> {
        let list = self.get(&["namespaces"]);
        let names = list["items"].as_array().unwrap().iter();
        names
            .map(|n| n["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The HTTP status with which the API server answers a request that carries `token`.
    pub(crate) fn status_with(&self, token: &str) -> u16 {
        let text = std::fs::read_to_string(&self.kubeconfig).unwrap();
        let config: Value = serde_saphyr::from_str(&text).unwrap();
        let cluster = &config["clusters"][0]["cluster"];
        let authority: String = cluster["certificate-authority-data"]
            .as_str()
            .unwrap()
            .split_whitespace()
            .collect();
        let authority = reqwest::Certificate::from_pem(&STANDARD.decode(authority).unwrap()).unwrap();
        let server = cluster["server"].as_str().unwrap();
        RUNTIME.block_on(async {
            let http = reqwest::Client::builder()
                .no_proxy()
                .tls_certs_only([authority])
                .build()
                .unwrap();
            let request = http.get(format!("{server}/api/v1/namespaces")).bearer_auth(token);
            request.send().await.unwrap().status().as_u16()
        })
    }
}
