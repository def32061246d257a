//! Both credentials are replaced while they are in use: by Argo CD, by a reader of the repository, and by somebody who
//! logs in all the time. Then rotations are killed, and `up` comes in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mfsre::git::KeyReader;
use serde_json::{Value, json};

use crate::argocd::ArgoCd;
use crate::aws::Aws;
use crate::canary::{Canary, Find, parts_of_key};
use crate::cluster::Kubectl;
use crate::git::GitHost;
use crate::policy;
use crate::process::{Sample, Sampler, eventually, secrets_given};
use crate::project::{ENVIRONMENT, Finished, Project};
use crate::report;
use crate::tools::{RUNTIME, terraform};

const KEY: &str = "/sandbox/argocd/deploy-key";
const PENDING: &str = "/sandbox/argocd/deploy-key/pending";
const SECRET: &str = "sandbox/argocd";
const BUCKET: &str = "mfsre-e2e-rotation";

struct Rotation<'a> {
    project: &'a Project,
    status: Value,
    aws: Arc<Aws>,
    git: GitHost<'a>,
    kubectl: Kubectl<'a>,
    /// Every password and key there was.
    seen: Mutex<Vec<(String, Vec<u8>)>>,
}

#[test]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
fn both_credentials_are_replaced_while_they_are_in_use() {
    let project = Project::new();
    // With its state in S3, as an environment on which a pipeline works has it.
    let shipped = std::fs::read_to_string(project.root().join("environments/sandbox.yaml")).unwrap();
    let terraform = terraform().display();
    let settings = format!("{shipped}\nterraform:\n  program: {terraform}\nbackend:\n  type: s3\n  bucket: {BUCKET}\n");
    project.write("environments/sandbox.yaml", &settings);
    project.run(&["up", ENVIRONMENT]).exit(0);
    let status = project.status().exit(0).clone();
    let state = Aws::of(&status).s3(&format!("/{BUCKET}/sandbox/terraform.tfstate"));
    assert!(
        state.is_some_and(|state| state.contains("aws_eks_cluster")),
        "it is in the bucket"
    );
    let kubeconfig = project.folder().join("kubeconfig");
    project.text(&["kubeconfig", ENVIRONMENT, "--file", kubeconfig.to_str().unwrap()]);
    let rotation = Rotation {
        aws: Arc::new(Aws::of(&status)),
        git: GitHost::of(&project, &status),
        kubectl: Kubectl::new(&project, kubeconfig),
        project: &project,
        status,
        seen: Mutex::default(),
    };
    let sampler = Sampler::start();
    sampler.watch(std::process::id());
    rotation.remember();
    rotation.what_is_young_is_left_alone_and_a_dry_run_changes_nothing();
    section("deploy key in use", || {
        rotation.no_fetch_fails_while_the_key_is_replaced()
    });
    section("password in use", || rotation.a_password_works_at_every_moment());
    section("deploy key killed", || {
        rotation.a_killed_rotation_of_the_key_is_finished()
    });
    section("password killed", || {
        rotation.a_killed_rotation_of_the_password_is_finished()
    });
    rotation.nothing_has_leaked(&sampler.finish());
    section("IAM policy", || policy::no_call_is_outside_the_policy(&project));
    section("down", || {
        let down = project.run(&["down", ENVIRONMENT]);
        assert_eq!(down.exit(0)["aws"], json!([]), "{down}");
    });
}

fn section<T>(name: &str, part: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = part();
    println!("  {name}: {:.1}s", began.elapsed().as_secs_f64());
    result
}

/// A password document of Secrets Manager.
fn document(secret: &Value) -> BTreeMap<String, String> {
    serde_json::from_str(secret["SecretString"].as_str().unwrap()).unwrap()
}

impl Rotation<'_> {
    fn argocd_url(&self) -> &str {
        self.status["argocd_url"].as_str().unwrap()
    }

    fn password(&self) -> String {
        document(&self.aws.secret(SECRET).unwrap())["password"].clone()
    }

    fn private_key(&self) -> String {
        self.aws.parameter(KEY).unwrap()["Value"].as_str().unwrap().to_owned()
    }

    fn fingerprint(&self) -> String {
        let key = ssh_key::PrivateKey::from_openssh(self.private_key()).unwrap();
        key.fingerprint(ssh_key::HashAlg::Sha256).to_string()
    }

    /// Keeps what is secret now, to look for it later.
    fn remember(&self) {
        let mut seen = self.seen.lock().unwrap();
        seen.push(("password".into(), self.password().into_bytes()));
        seen.extend(parts_of_key(&self.private_key()));
        if let Ok(pending) = self.aws.parameter(PENDING) {
            seen.extend(parts_of_key(pending["Value"].as_str().unwrap()));
        }
    }

    /// What a rotation must not change, or change once.
    fn standing(&self) -> (Vec<Value>, Value, usize) {
        (
            self.aws.secret_versions(SECRET),
            self.aws.parameter(KEY).unwrap()["Version"].clone(),
            self.git.deploy_keys().len(),
        )
    }

    fn what_is_young_is_left_alone_and_a_dry_run_changes_nothing(&self) {
        let before = self.standing();
        for credential in ["argocd-password", "deploy-key"] {
            let young = self
                .project
                .run(&["rotate", credential, ENVIRONMENT, "--if-older-than", "90d"]);
            assert_eq!(young.exit(0)["outcome"], "not_due", "{young}");
            assert_eq!(young.exit(0)["found_age_days"], 0);
            let text = self
                .project
                .text(&["rotate", credential, ENVIRONMENT, "--if-older-than", "90d"]);
            assert!(text.contains("less than a day old, nothing to do before 90d"), "{text}");
            let dry = self.project.run(&["rotate", credential, ENVIRONMENT, "--dry-run"]);
            let document = dry.exit(0);
            assert_eq!(document["outcome"], "planned", "{dry}");
            let steps: Vec<(&str, &str)> = document["steps"]
                .as_array()
                .unwrap()
                .iter()
                .map(|s| (s["step"].as_str().unwrap(), s["would"].as_str().unwrap()))
                .collect();
            let wanted: &[&str] = if credential == "deploy-key" {
                &[
                    "stage", "register", "prove", "patch", "see", "promote", "revoke", "finish",
                ]
            } else {
                &["stage", "patch", "verify", "promote", "finish"]
            };
            assert_eq!(steps, wanted.iter().map(|s| (*s, "run")).collect::<Vec<_>>());
        }
        assert_eq!(self.standing(), before, "nothing was changed");
        let status = self.project.run(&["status", ENVIRONMENT]).exit(0)["credentials"].clone();
        assert_eq!(
            (&status["password_age_days"], &status["deploy_key_age_days"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(status["deploy_key_pending"], Value::Null);
    }

    /// The key that the cluster holds at this moment, read from the Kubernetes API.
    fn cluster_key(&self) -> impl Fn() -> String + Send + 'static + use<> {
        let text = self.project.text(&["token", ENVIRONMENT]);
        let credential: Value = serde_json::from_str(&text).unwrap();
        let token = credential["status"]["token"].as_str().unwrap().to_owned();
        let path = self.project.folder().join("kubeconfig");
        let config: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let cluster = &config["clusters"][0]["cluster"];
        let authority: String = cluster["certificate-authority-data"]
            .as_str()
            .unwrap()
            .split_whitespace()
            .collect();
        let authority = reqwest::Certificate::from_pem(&STANDARD.decode(authority).unwrap()).unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([authority])
            .build()
            .unwrap();
        let server = cluster["server"].as_str().unwrap();
        let url = format!("{server}/api/v1/namespaces/argocd/secrets/mfsre-repository");
        move || {
            RUNTIME.block_on(async {
                let response = http.get(&url).bearer_auth(&token).send().await.unwrap();
                let secret: Value = response.error_for_status().unwrap().json().await.unwrap();
                let key = STANDARD
                    .decode(secret["data"]["sshPrivateKey"].as_str().unwrap())
                    .unwrap();
                String::from_utf8(key).unwrap()
            })
        }
    }

    fn no_fetch_fails_while_the_key_is_replaced(&self) {
        let old = self.fingerprint();
        let stop = Arc::new(AtomicBool::new(false));
        let failures = Arc::new(Mutex::new(Vec::<String>::new()));
        let (fetches, refreshes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));

        // A reader with the key that the cluster holds.
        let reader = {
            let (stop, failures, fetches) = (stop.clone(), failures.clone(), fetches.clone());
            let key = self.cluster_key();
            let known_hosts = format!("{}\n", self.status["git_known_hosts"].as_str().unwrap());
            let reader = KeyReader::new(self.status["git_url"].as_str().unwrap(), Some(known_hosts));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let next = Instant::now() + Duration::from_millis(50);
                    if let Err(error) = RUNTIME.block_on(reader.read(&key().into())) {
                        failures.lock().unwrap().push(format!("reader: {error}"));
                    }
                    fetches.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            })
        };
        // Argo CD, without pause.
        let refresher = {
            let (stop, failures, refreshes) = (stop.clone(), failures.clone(), refreshes.clone());
            let argo_cd = ArgoCd::log_in(self.argocd_url(), &self.password()).unwrap();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for application in ["workloads", "exporter", "addons"] {
                        let errors = argo_cd.refresh_errors(application);
                        failures
                            .lock()
                            .unwrap()
                            .extend(errors.into_iter().map(|e| format!("{application}: {e}")));
                        refreshes.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        std::thread::sleep(Duration::from_secs(2));
        let rotated = self.project.run(&["rotate", "deploy-key", ENVIRONMENT]);
        std::thread::sleep(Duration::from_secs(5));
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        refresher.join().unwrap();

        let document = rotated.exit(0);
        let new = self.fingerprint();
        assert_eq!(
            (&document["outcome"], &document["adopted"]),
            (&json!("rotated"), &json!(false)),
            "{rotated}"
        );
        assert_eq!(
            (&document["fingerprint"], &document["former_fingerprint"]),
            (&json!(new), &json!(old))
        );
        assert_ne!(new, old);
        let (fetches, refreshes) = (fetches.load(Ordering::Relaxed), refreshes.load(Ordering::Relaxed));
        println!(
            "    {fetches} fetches of a reader and {refreshes} hard refreshes of Argo CD during a rotation of {:.1}s",
            rotated.took.as_secs_f64()
        );
        assert_eq!(*failures.lock().unwrap(), Vec::<String>::new(), "0 failed");
        assert!(fetches > 20 && refreshes > 10, "there was something to fail");
        report::figure(
            "rotations",
            "deploy key, while a reader and Argo CD fetch",
            &[
                ("rotations", 1),
                ("fetches", (fetches + refreshes) as u64),
                ("failed", 0),
            ],
        );
        self.one_key_is_left(&new);

        // Now only Argo CD reads, and it does with the new key.
        let before = self.git.log().len();
        let argo_cd = ArgoCd::log_in(self.argocd_url(), &self.password()).unwrap();
        eventually("Argo CD has read with the new key", Duration::from_secs(30), || {
            assert_eq!(argo_cd.refresh_errors("workloads"), Vec::<String>::new());
            let log = self.git.log();
            let new_ones: Vec<&Value> = log[before..].iter().collect();
            assert!(
                new_ones.iter().all(|e| e["fingerprint"] == new.as_str()),
                "{new_ones:?}"
            );
            (!new_ones.is_empty()).then_some(())
        });
        self.remember();
    }

    /// The key with this fingerprint is the only one on the host, in AWS and in the cluster.
    fn one_key_is_left(&self, fingerprint: &str) {
        let keys = self.git.deploy_keys();
        assert_eq!(keys.len(), 1, "{keys:?}");
        assert_eq!(keys[0]["title"], format!("mfsre sandbox {fingerprint}"));
        assert_eq!(keys[0]["read_only"], true);
        assert_eq!(
            self.aws.parameter(PENDING).unwrap_err(),
            "ParameterNotFound",
            "nothing is pending"
        );
        assert_eq!(
            self.cluster_key()(),
            self.private_key(),
            "the cluster has the key that AWS has"
        );
        let public = self.aws.parameter("/sandbox/argocd/deploy-key.pub").unwrap()["Value"].clone();
        let public = ssh_key::PublicKey::from_openssh(public.as_str().unwrap()).unwrap();
        assert_eq!(public.fingerprint(ssh_key::HashAlg::Sha256).to_string(), fingerprint);
    }

    fn pending_password(&self) -> Option<String> {
        let body = json!({ "SecretId": SECRET, "VersionStage": "AWSPENDING" });
        let answer = self
            .aws
            .try_json("secretsmanager", "secretsmanager.GetSecretValue", &body);
        answer.ok().map(|secret| document(&secret)["password"].clone())
    }

    /// Logs in with what AWS holds at this moment.
    fn some_password_works(&self) -> bool {
        // Between the reading and the login the rotation may go on, so that what was read is old: then it is read anew.
        (0..2).any(|_| {
            let known = [Some(self.password()), self.pending_password()];
            known
                .iter()
                .flatten()
                .any(|p| ArgoCd::log_in(self.argocd_url(), p).is_ok())
        })
    }

    fn a_password_works_at_every_moment(&self) {
        let old = self.password();
        let session = ArgoCd::log_in(self.argocd_url(), &old).unwrap();
        assert_eq!(session.session_status(), 200);
        // Sessions have whole seconds.
        std::thread::sleep(Duration::from_secs(2));
        let running = self.project.start(&["rotate", "argocd-password", ENVIRONMENT]);
        let mut logins = 0;
        let stop = Arc::new(AtomicBool::new(false));
        let rotated = std::thread::scope(|scope| {
            let stopped = stop.clone();
            let prober = scope.spawn(move || {
                let mut tried = 0;
                while !stopped.load(Ordering::Relaxed) {
                    let next = Instant::now() + Duration::from_secs(1);
                    assert!(
                        self.some_password_works(),
                        "at every moment one of the known passwords works"
                    );
                    tried += 1;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                tried
            });
            let rotated = running.finish();
            std::thread::sleep(Duration::from_secs(2));
            stop.store(true, Ordering::Relaxed);
            logins += prober.join().unwrap();
            rotated
        });
        assert_eq!(rotated.exit(0)["outcome"], "rotated", "{rotated}");
        println!(
            "    {logins} moments with a working password during a rotation of {:.1}s",
            rotated.took.as_secs_f64()
        );
        report::figure(
            "rotations",
            "admin password, while a prober logs in",
            &[("rotations", 1), ("logins", logins), ("failed", 0)],
        );
        assert_eq!(
            session.session_status(),
            401,
            "the session of the old password has ended"
        );
        let new = self.password();
        assert_ne!(new, old);
        assert_eq!(
            ArgoCd::log_in(self.argocd_url(), &old).err(),
            Some(401),
            "the old password is refused"
        );
        let session = ArgoCd::log_in(self.argocd_url(), &new).expect("the new one logs in");
        assert_eq!(session.session_status(), 200);
        self.one_password_is_left();
        self.remember();
    }

    fn one_password_is_left(&self) {
        assert_eq!(self.pending_password(), None, "nothing is pending");
        let held = self
            .kubectl
            .field("argocd", "secret/argocd-secret", "/data/admin.password");
        let held = String::from_utf8(STANDARD.decode(held.as_str().unwrap()).unwrap()).unwrap();
        let current = document(&self.aws.secret(SECRET).unwrap());
        assert_eq!(held, current["bcrypt"], "the cluster has the hash that AWS has");
        let mtime = self
            .kubectl
            .field("argocd", "secret/argocd-secret", "/data/admin.passwordMtime");
        let mtime = String::from_utf8(STANDARD.decode(mtime.as_str().unwrap()).unwrap()).unwrap();
        assert!(mtime.ends_with('Z') && mtime.parse::<jiff::Timestamp>().unwrap() <= jiff::Timestamp::now());
    }

    /// Starts a rotation and kills it when the step begins.
    fn killed_in(&self, credential: &str, step: &str) -> Finished {
        let mut running = self.project.start(&["rotate", credential, ENVIRONMENT]);
        running.wait_for(step, |e| e["event"] == "step_started" && e["step"] == step);
        let killed = running.kill();
        killed.expect_killed();
        println!("    killed in {step}");
        killed
    }

    fn a_killed_rotation_of_the_key_is_finished(&self) {
        let old = self.fingerprint();
        for step in ["register", "patch", "see"] {
            self.killed_in("deploy-key", step);
        }
        let pending = self.aws.parameter(PENDING).expect("a key is pending");
        self.remember();
        // `up` neither breaks nor loses it.
        let up = self.project.run(&["up", ENVIRONMENT]);
        assert_eq!(up.exit(0)["changed"], 0, "{up}");
        assert!(
            up.notes().contains("a rotation of the deploy-key is unfinished"),
            "{up}"
        );
        assert_eq!(
            self.aws.parameter(PENDING).unwrap()["Value"],
            pending["Value"],
            "it is still the same one"
        );
        let status = self.project.run(&["status", ENVIRONMENT]).exit(0)["credentials"].clone();
        assert!(status["deploy_key_pending"].is_string(), "{status}");
        assert_eq!(status["deploy_key"], old.as_str());
        for step in ["promote", "revoke", "finish"] {
            self.killed_in("deploy-key", step);
        }
        let last = self
            .project
            .run(&["rotate", "deploy-key", ENVIRONMENT, "--if-older-than", "90d"]);
        let document = last.exit(0);
        assert_eq!(
            (&document["outcome"], &document["adopted"]),
            (&json!("rotated"), &json!(true)),
            "{last}"
        );
        assert!(last.notes().contains("was cut off in the step finish"), "{last}");
        let new = self.fingerprint();
        assert_ne!(new, old);
        assert_eq!(
            self.private_key(),
            pending["Value"].as_str().unwrap(),
            "one key through all the kills"
        );
        self.one_key_is_left(&new);
    }

    fn a_killed_rotation_of_the_password_is_finished(&self) {
        let old = self.password();
        for step in ["patch", "verify"] {
            self.killed_in("argocd-password", step);
            assert!(self.some_password_works(), "after a kill in {step}");
        }
        let pending = self.pending_password().expect("a password is pending");
        let up = self.project.run(&["up", ENVIRONMENT]);
        assert_eq!(up.exit(0)["changed"], 0, "{up}");
        assert!(
            up.notes().contains("a rotation of the argocd-password is unfinished"),
            "{up}"
        );
        for step in ["promote", "finish"] {
            self.killed_in("argocd-password", step);
            assert!(self.some_password_works(), "after a kill in {step}");
        }
        self.project.run(&["rotate", "argocd-password", ENVIRONMENT]).exit(0);
        assert_ne!(self.password(), old);
        assert_eq!(self.password(), pending, "one password through all the kills");
        self.one_password_is_left();
        self.remember();
    }

    /// No password and no key of all these stands in an output or in a file, the stores of etcd and of the emulator apart.
    fn nothing_has_leaked(&self, samples: &BTreeSet<Sample>) {
        let seen = self.seen.lock().unwrap();
        let secrets: Vec<(&str, Vec<u8>)> = seen.iter().map(|(n, s)| (n.as_str(), s.clone())).collect();
        let canary = Canary::new(&secrets);
        let sandbox = self.project.private().join("sandbox");
        let stores = ["etcd", "ministack"].map(|part| sandbox.join(part));
        let (mut finds, _) = canary.search_files(self.project.folder(), &stores);
        for (command, output) in self.project.said() {
            finds.extend(canary.search(&format!("the output of mfsre {command}"), &output));
        }
        finds.extend(secrets_given(&canary, samples));
        assert_eq!(finds, Vec::<Find>::new());
    }
}
