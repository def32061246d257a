//! The sandbox with its state and its runs at a host with the API of HCP Terraform: a test server, whose runs execute
//! Terraform against the sandbox's AWS.

use mfsre::terraform::{Flavour, ProviderMirror};
use serde_json::{Value, json};
use tfe_test_server::{Person, Server};

use crate::aws::Aws;
use crate::project::{ENVIRONMENT, Finished, Project};

#[test]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
fn an_environment_whose_runs_are_at_the_host_comes_up_and_goes() {
    let project = Project::new();
    let scratch = project.folder().join("host");
    std::fs::create_dir(&scratch).unwrap();
    // What a runner's machine has: providers.
    let mut runner = Vec::new();
    let configuration = scratch.join("terraform.rc");
    if let Some(mirror) = ProviderMirror::find(None, Flavour::Terraform) {
        let text = mirror.cli_configuration(&scratch.join("providers")).unwrap();
        std::fs::write(&configuration, text).unwrap();
        runner.push(("TF_CLI_CONFIG_FILE", configuration.to_str().unwrap()));
    }
    let server = Server::start(&runner);
    let alice = server.person("alice", true);
    let runtime = tokio::runtime::Runtime::new().unwrap();

    let path = format!("environments/{ENVIRONMENT}.yaml");
    let text = std::fs::read_to_string(project.root().join(&path)).unwrap();
    let backend = format!(
        "\nbackend:\n  type: cloud\n  hostname: {}\n  organization: acme\n",
        server.host()
    );
    project.write(&path, &(text + &backend));

    // Credentials are given to the workspace by a person.
    let status = project.run(&["sandbox", "start", ENVIRONMENT]).exit(0).clone();
    let aws = Aws::of(&status);
    runtime.block_on(async {
        let settings = json!({ "execution-mode": "remote", "working-directory": format!("infra/{ENVIRONMENT}") });
        let id = alice.create_workspace(ENVIRONMENT, settings).await;
        for (key, value) in aws.variables() {
            alice
                .set_variable(&id, "env", key, &value, key == "AWS_SECRET_ACCESS_KEY")
                .await;
        }
    });

    // The host's CA beside those that are trusted already.
    let trusted = std::env::var("SSL_CERT_FILE").unwrap_or_else(|_| "/etc/ssl/certs/ca-certificates.crt".into());
    let trusted = std::fs::read_to_string(trusted).unwrap_or_default();
    let bundle = scratch.join("ca.pem");
    std::fs::write(&bundle, trusted + &std::fs::read_to_string(server.ca_file()).unwrap()).unwrap();
    let token = server.token_variable();
    let variables = [
        (token.as_str(), alice.token.clone()),
        ("SSL_CERT_FILE", bundle.to_str().unwrap().to_owned()),
    ];
    let run = |arguments: &[&str]| project.run_with(arguments, &variables);

    let up = run(&["up", ENVIRONMENT]);
    assert_eq!(up.exit(0)["ok"], true, "{up}");
    for application in up.exit(0)["applications"].as_array().unwrap() {
        assert_eq!(
            (&application["sync"], &application["health"]),
            (&json!("Synced"), &json!("Healthy")),
            "{up}"
        );
    }
    let runs = runtime.block_on(alice.runs(ENVIRONMENT));
    assert_eq!(statuses(&runs), ["applied"], "what was planned was applied");
    told_with_its_url(&up, &server, &runs[0]);
    let managed = runtime.block_on(resources(&alice));
    println!(
        "    {managed} resources in the state at the host, up in {:.1}s",
        up.took.as_secs_f64()
    );
    assert!(managed > 30);
    assert!(!project.infra().join("terraform.tfstate").exists(), "no state is here");

    let down = run(&["down", ENVIRONMENT]);
    assert_eq!(down.exit(0)["ok"], true, "{down}");
    assert_eq!(runtime.block_on(resources(&alice)), 0);
    let runs = runtime.block_on(alice.runs(ENVIRONMENT));
    assert_eq!(statuses(&runs), ["applied", "applied"]);
    assert_eq!(runs[0]["attributes"]["is-destroy"], true);
    println!("    down in {:.1}s", down.took.as_secs_f64());
    project.run(&["sandbox", "stop", ENVIRONMENT]).exit(0);
}

fn statuses(runs: &[Value]) -> Vec<&str> {
    runs.iter()
        .map(|r| r["attributes"]["status"].as_str().unwrap())
        .collect()
}

fn told_with_its_url(up: &Finished, server: &Server, run: &Value) {
    let url = format!(
        "https://{}/app/acme/{ENVIRONMENT}/runs/{}",
        server.host(),
        run["id"].as_str().unwrap()
    );
    assert!(up.notes().contains(&url), "{up}");
}

/// How many resources the host's state has.
async fn resources(person: &Person) -> usize {
    let state = person.state(ENVIRONMENT).await;
    let all = state["resources"].as_array().cloned().unwrap_or_default();
    all.iter()
        .filter(|r| r["mode"] == "managed")
        .map(|r| r["instances"].as_array().map_or(0, Vec::len))
        .sum()
}
