//! The generated secrets, looked for where none may be.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::CommandFactory as _;
use serde_json::Value;

use super::{PULL_TOKEN, Story};
use crate::canary::{Canary, Find, parts_of_key};
use crate::process::{Sample, secrets_given};
use crate::project::ENVIRONMENT;
use crate::report;

impl Story<'_> {
    /// Runs every command that the canary has not heard yet, and that leaves the platform as it is, with all it has to say.
    pub(super) fn every_command_has_spoken(&self) {
        let parts = self.status["parts"].as_array().unwrap();
        let parts = parts.iter().map(|part| part["name"].as_str().unwrap());
        let logs: Vec<[&str; 3]> = parts.map(|part| ["sandbox", "logs", part]).collect();
        let values = std::fs::read_to_string(self.project.root().join("cd/charts/exporter/values.yaml")).unwrap();
        let values: Value = serde_saphyr::from_str(&values).unwrap();
        let version = values["image"]["tag"].as_str().unwrap();
        let commands: [&[&str]; 18] = [
            &["init"],
            &["validate"],
            &["render", ENVIRONMENT],
            &["render", ENVIRONMENT, "--check"],
            &["plan", ENVIRONMENT],
            &["up", ENVIRONMENT],
            &["status", ENVIRONMENT],
            &["kubeconfig", ENVIRONMENT, "--print"],
            &["token", ENVIRONMENT],
            &["rotate", "argocd-password", ENVIRONMENT, "--dry-run"],
            &["rotate", "deploy-key", ENVIRONMENT, "--dry-run"],
            &["bump", "exporter", "--image-tag", version],
            &["sandbox", "start", ENVIRONMENT],
            &["sandbox", "status", ENVIRONMENT],
            &["sandbox", "load", ENVIRONMENT, "--rate", "1", "--duration", "2s"],
            &["iam-policy", ENVIRONMENT],
            &["schema"],
            &["completions", "bash"],
        ];
        for command in commands.into_iter().chain(logs.iter().map(|words| &words[..])) {
            self.project.text(&[command, &["-vv"]].concat());
        }
        let said = self.project.said();
        let silent: Vec<String> = leaves(&mfsre::cli::Cli::command(), "")
            .into_iter()
            // The first is there to show a secret; the next end the platform, and are asked after their end; the last are for a
            // state elsewhere, which has a test of its own.
            .filter(|name| !["secrets show argocd-password", "down", "sandbox stop"].contains(&name.as_str()))
            .filter(|name| !name.starts_with("backend "))
            .filter(|name| !said.iter().any(|(command, _)| command.starts_with(name)))
            .collect();
        assert_eq!(silent, Vec::<String>::new(), "every command is listed above");
    }

    /// No process may write its memory to the disk, by itself (limit 0 or 1) or through a program that takes the dumps
    /// (limit 1, on Linux).
    pub(super) fn memory_is_not_dumped(&self) {
        // Each part is a child of the supervisor, which is a child of mfsre.
        for part in self.project.status().exit(0)["parts"].as_array().unwrap() {
            let limits = std::fs::read_to_string(format!("/proc/{}/limits", part["pid"])).unwrap();
            let limit = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
            let words: Vec<&str> = limit.split_whitespace().skip(4).take(2).collect();
            assert_eq!(words, ["1", "1"], "{part}");
        }
    }

    /// The generated secrets stand in no file, no output, no environment and no command line. Only the stores of etcd and of
    /// the emulator may hold them.
    pub(super) fn no_secret_has_leaked(&self, samples: &BTreeSet<Sample>) -> Canary {
        let document = self.password();
        let key = self.private_key();
        let mut secrets = vec![
            ("password".to_owned(), document["password"].clone().into_bytes()),
            ("registry token".to_owned(), PULL_TOKEN.as_bytes().to_vec()),
            (
                "hash of the password".to_owned(),
                document["bcrypt"].clone().into_bytes(),
            ),
        ];
        secrets.extend(parts_of_key(&key));
        let secrets: Vec<(&str, Vec<u8>)> = secrets.iter().map(|(n, s)| (n.as_str(), s.clone())).collect();
        let canary = Canary::new(&secrets);

        let plan = self.project.folder().join("kept.tfplan");
        self.project
            .run(&["plan", ENVIRONMENT, "--out", plan.to_str().unwrap()])
            .exit(0);
        assert!(plan.is_file(), "there is a plan file to look into");
        let stores = self.stores();
        assert!(
            self.project.infra().join("terraform.tfstate").is_file(),
            "there is a state to look into"
        );
        let (mut finds, files) = canary.search_files(self.project.folder(), &stores);
        println!("    {files} files, {} processes", samples.len());
        // Git compresses what it holds.
        let repository = self.project.private().join("repository");
        let history = self.git.git(
            &repository,
            &self.git.operator_key(),
            &["log", "--patch", "--all", "--format=raw"],
        );
        finds.extend(canary.search("the history of the repository", history.unwrap().as_bytes()));
        finds.extend(self.secrets_said(&canary));
        let commands = |name: &str| samples.iter().filter(|s| contains(&s.command, name.as_bytes())).count();
        for program in ["terraform", "terraform-provider-aws", "git", "argocd", "helm"] {
            assert!(
                commands(program) > 0,
                "{program} was among the processes that were looked at"
            );
        }
        let credential = self.status["secret_access_key"].as_str().unwrap();
        let seen = samples.iter().any(|s| contains(&s.environment, credential.as_bytes()));
        assert!(
            seen,
            "environments are looked into: Terraform's holds the sandbox's own AWS credential"
        );
        finds.extend(secrets_given(&canary, samples));
        assert_eq!(
            finds,
            Vec::<Find>::new(),
            "no secret stands anywhere but in etcd and the emulator"
        );

        let places = files + self.project.said().len() + 2 * samples.len() + 1;
        report::figure(
            "canaries",
            "the life of an environment",
            &[
                ("canaries", secrets.len() as u64),
                ("forms", canary.forms() as u64),
                ("places", places as u64),
                ("found", 0),
            ],
        );

        // The search finds what is there: a planted secret, and those that etcd holds.
        let planted = self.project.root().join("planted");
        std::fs::write(
            &planted,
            format!("{{\"x\": \"{}\"}}", hex::encode(&document["password"])),
        )
        .unwrap();
        let sandbox = self.project.private().join("sandbox");
        let (finds, _) = canary.search_files(&self.project.root(), &[sandbox]);
        let wanted = Find {
            place: planted.display().to_string(),
            form: "password in hexadecimal".into(),
        };
        assert_eq!(finds, [wanted], "a planted secret is found");
        std::fs::remove_file(planted).unwrap();
        let (finds, _) = canary.search_files(&stores[0], &[]);
        assert!(
            finds.iter().any(|f| f.form.starts_with("hash")),
            "etcd holds the hash: {finds:?}"
        );
        canary
    }

    /// Nor did one leak after that, until the environment was gone.
    pub(super) fn no_secret_is_left_behind(&self, canary: &Canary, samples: &BTreeSet<Sample>) {
        let (mut finds, _) = canary.search_files(self.project.folder(), &self.stores());
        finds.extend(self.secrets_said(canary));
        finds.extend(secrets_given(canary, samples));
        assert_eq!(finds, Vec::<Find>::new());
    }

    /// Where secrets may be: the files of etcd and of the emulator.
    fn stores(&self) -> [PathBuf; 2] {
        let stores = ["etcd", "ministack"].map(|part| self.project.private().join("sandbox").join(part));
        assert!(
            stores.iter().all(|s| s.is_dir()),
            "the stores are where they are expected: {stores:?}"
        );
        stores
    }

    fn secrets_said(&self, canary: &Canary) -> Vec<Find> {
        let said = self.project.said();
        let search =
            |(command, output): &(String, Vec<u8>)| canary.search(&format!("the output of mfsre {command}"), output);
        said.iter().flat_map(search).collect()
    }
}

/// The commands that people see, by their whole names.
fn leaves(command: &clap::Command, before: &str) -> Vec<String> {
    let below = command.get_subcommands().filter(|c| !c.is_hide_set());
    below
        .flat_map(|c| {
            let name = format!("{before}{}", c.get_name());
            match c.has_subcommands() {
                true => leaves(c, &format!("{name} ")),
                false => vec![name],
            }
        })
        .collect()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}
