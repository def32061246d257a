//! The generated secrets, looked for where none may be.

use std::collections::BTreeSet;

use super::{PULL_TOKEN, Story};
use crate::canary::{Canary, Find, parts_of_key};
use crate::process::Sample;
use crate::project::ENVIRONMENT;

impl Story<'_> {
    /// The generated secrets stand in no file, no output, no environment and no command line. Only the stores of etcd and of
    /// the emulator may hold them.
    pub(super) fn no_secret_has_leaked(&self, samples: &BTreeSet<Sample>) {
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
        let sandbox = self.project.private().join("sandbox");
        let stores = ["etcd", "ministack"].map(|part| sandbox.join(part));
        assert!(
            stores.iter().all(|s| s.is_dir()),
            "the stores are where they are expected: {stores:?}"
        );
        assert!(
            self.project.infra().join("terraform.tfstate").is_file(),
            "there is a state to look into"
        );
        let (mut finds, bytes) = canary.search_files(self.project.folder(), &stores);
        println!("    {} KiB of files, {} processes", bytes >> 10, samples.len());
        // Git compresses what it holds.
        let repository = self.project.private().join("repository");
        let history = self.git.git(
            &repository,
            &self.git.operator_key(),
            &["log", "--patch", "--all", "--format=raw"],
        );
        finds.extend(canary.search("the history of the repository", history.unwrap().as_bytes()));
        for (command, output) in self.project.said() {
            finds.extend(canary.search(&format!("the output of mfsre {command}"), &output));
        }
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
        for sample in samples {
            let name = String::from_utf8_lossy(&sample.command).replace('\0', " ");
            finds.extend(canary.search(&format!("the command line of {name}"), &sample.command));
            finds.extend(canary.search(&format!("the environment of {name}"), &sample.environment));
        }
        assert_eq!(
            finds,
            Vec::<Find>::new(),
            "no secret stands anywhere but in etcd and the emulator"
        );

        // The search finds what is there: a planted secret, and those that etcd holds.
        let planted = self.project.root().join("planted");
        std::fs::write(
            &planted,
            format!("{{\"x\": \"{}\"}}", hex::encode(&document["password"])),
        )
        .unwrap();
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
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}
