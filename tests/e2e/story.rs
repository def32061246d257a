//! The life of one environment: planned, brought up, looked at from every side, disturbed, and taken away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::argocd::ArgoCd;
use crate::aws::Aws;
use crate::canary::{Canary, Find, parts_of_key};
use crate::cluster::Kubectl;
use crate::git::GitHost;
use crate::process::{Sample, Sampler, eventually};
use crate::project::{ENVIRONMENT, Finished, Project};
use crate::{manifests, plan};

/// Every Application of the sandbox, with the root that it belongs to.
const APPLICATIONS: [(&str, Option<&str>); 8] = [
    ("addons", None),
    ("argo-cd", Some("addons")),
    ("exporter", Some("workloads")),
    ("infra-workloads", None),
    ("main-service", Some("workloads")),
    ("prometheus", Some("infra-workloads")),
    ("prometheus-adapter", Some("infra-workloads")),
    ("workloads", None),
];
const DEPLOYMENT: &str = "cd/charts/exporter/templates/deployment.yaml";
/// Longest own share of a warm `up`, in seconds. Without optimisation hashing the password alone takes a second and more.
const OWN_SHARE: f64 = if cfg!(debug_assertions) { 15.0 } else { 10.0 };

/// What the parts of the story share.
struct Story<'a> {
    project: &'a Project,
    status: Value,
    aws: Aws,
    git: GitHost<'a>,
    kubectl: Kubectl<'a>,
}

#[test]
fn an_environment_comes_up_is_kept_in_order_and_goes_without_a_trace() {
    let project = Project::new();
    // Started by itself, the platform outlives `down`, so that what is left on it can be looked at.
    let status = section("start", || {
        project.run(&["sandbox", "start", ENVIRONMENT]).exit(0).clone()
    });
    let aws = Aws::of(&status);
    section("plan of an environment on AWS", || {
        plan::the_plan_of_an_environment_on_aws(&project, &aws);
    });

    let sampler = Sampler::start();
    let supervisor = status["parts"][1]["pid"].as_u64().unwrap();
    sampler.watch(u32::try_from(supervisor).unwrap());
    let up = section("up from nothing", || {
        let running = project.start(&["up", ENVIRONMENT]);
        sampler.watch(running.pid());
        running.finish()
    });
    everything_was_made(&up);
    own_share_is_small(&up);

    let kubeconfig = project.folder().join("kubeconfig");
    project.text(&["kubeconfig", ENVIRONMENT, "--file", kubeconfig.to_str().unwrap()]);
    let story = Story {
        git: GitHost::of(&project, &status),
        kubectl: Kubectl::new(&project, kubeconfig),
        aws,
        project: &project,
        status,
    };
    section("AWS", || story.aws_holds_the_platform());
    section("credentials", || story.credentials_are_where_they_belong());
    section("cluster access", || story.the_cluster_takes_only_intact_tokens());
    section("Argo CD", || story.argo_cd_answers_to_the_password());
    section("git", || story.argo_cd_reads_with_a_key_that_cannot_write());
    section("rendered objects", || {
        manifests::every_rendered_object_is_accepted_by_the_api_server(&project, &story.kubectl);
    });
    section("second up", || story.a_second_up_changes_nothing(&sampler));
    let samples = sampler.finish();
    section("canary", || story.no_secret_has_leaked(&samples));
    section("self-healing", || story.a_change_by_hand_is_healed());
    section("autoscaling", || story.a_scaled_deployment_stays_scaled_and_synced());
    section("broken child", || story.a_broken_child_is_named_and_mended());
    let down = section("down", || project.run(&["down", ENVIRONMENT]));
    section("after down", || story.nothing_is_left(&down));
    project.run(&["sandbox", "stop", ENVIRONMENT]).exit(0);
    project.assert_no_process("sandbox stop");
}

/// Runs a part of the story and prints how long it took.
fn section<T>(name: &str, part: impl FnOnce() -> T) -> T {
    println!("  {name} ...");
    let began = Instant::now();
    let result = part();
    println!("  {name}: {:.1}s", began.elapsed().as_secs_f64());
    result
}

fn everything_was_made(up: &Finished) {
    let document = up.exit(0);
    assert_eq!(document["ok"], true);
    let found: Vec<(&str, Option<&str>)> = document["applications"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| {
            assert_eq!((&a["sync"], &a["health"]), (&json!("Synced"), &json!("Healthy")), "{a}");
            (a["name"].as_str().unwrap(), a["parent"].as_str())
        })
        .collect();
    assert_eq!(found, APPLICATIONS, "the Applications and their roots");
    assert_eq!(
        document["left_out"],
        json!(["argo-rollouts", "karpenter"]),
        "what needs the internet is named"
    );
    assert_eq!(up.of("warning").count(), 0, "{up}");
}

/// The share of each part; mfsre's own is all but Terraform and waiting for Argo CD.
fn own_share_is_small(up: &Finished) {
    let total = up.took.as_secs_f64();
    println!("    {:<22} {:>6}", "step", "s");
    for step in up.of("step_finished") {
        println!(
            "    {:<22} {:>6.1}",
            step["step"].as_str().unwrap(),
            step["elapsed"].as_f64().unwrap()
        );
    }
    let of = |ids: &[&str]| ids.iter().filter_map(|id| up.step(id)).sum::<f64>();
    let (terraform, waiting) = (of(&["plan", "apply"]), of(&["healthy"]));
    let own = total - terraform - waiting;
    println!("    total {total:.1}, Terraform {terraform:.1}, waiting for Argo CD {waiting:.1}, mfsre itself {own:.1}");
    assert!(
        total < 180.0,
        "a warm `up` from nothing takes under 3 minutes, not {total:.0} s"
    );
    assert!(
        own < OWN_SHARE,
        "of which mfsre itself takes under {OWN_SHARE} s, not {own:.1} s"
    );
}

impl Story<'_> {
    fn argo_cd(&self) -> ArgoCd {
        let url = self.status["argocd_url"].as_str().unwrap();
        ArgoCd::log_in(url, &self.password()["password"]).expect("the password logs in")
    }

    /// The document in Secrets Manager.
    fn password(&self) -> BTreeMap<String, String> {
        let secret = self.aws.secret("sandbox/argocd").expect("the secret is there");
        serde_json::from_str(secret["SecretString"].as_str().unwrap()).unwrap()
    }

    fn private_key(&self) -> String {
        let parameter = self.aws.parameter("/sandbox/argocd/deploy-key").unwrap();
        parameter["Value"].as_str().unwrap().to_owned()
    }

    fn fingerprint(&self) -> String {
        let public = self.aws.parameter("/sandbox/argocd/deploy-key.pub").unwrap();
        let public = ssh_key::PublicKey::from_openssh(public["Value"].as_str().unwrap()).unwrap();
        public.fingerprint(ssh_key::HashAlg::Sha256).to_string()
    }

    fn aws_holds_the_platform(&self) {
        let cluster = &self.aws.eks("/clusters/sandbox").expect("EKS has the cluster")["cluster"];
        assert_eq!(cluster["status"], "ACTIVE");
        assert_eq!(cluster["version"], "1.35", "the version of the environment file");
        let kubernetes = self.status["kubernetes_endpoint"]
            .as_str()
            .unwrap()
            .trim_end_matches('/');
        assert_eq!(cluster["endpoint"], kubernetes);
        assert_eq!(
            cluster["accessConfig"]["authenticationMode"], "API",
            "only access entries let anybody in"
        );
        assert_eq!(
            cluster["encryptionConfig"][0]["resources"],
            json!(["secrets"]),
            "secrets are encrypted with KMS"
        );
        assert_eq!(cluster["resourcesVpcConfig"]["endpointPublicAccess"], false);
        assert_eq!(cluster["tags"]["mfsre:environment"], "sandbox");

        let groups = self.aws.eks("/clusters/sandbox/node-groups").unwrap()["nodegroups"].clone();
        assert_eq!(groups.as_array().unwrap().len(), 1, "{groups}");
        let path = format!("/clusters/sandbox/node-groups/{}", groups[0].as_str().unwrap());
        let group = &self.aws.eks(&path).unwrap()["nodegroup"];
        assert_eq!(
            (&group["status"], &group["capacityType"]),
            (&json!("ACTIVE"), &json!("SPOT"))
        );
        assert_eq!(group["instanceTypes"], json!(["t3.medium"]));

        let mut addons = strings(&self.aws.eks("/clusters/sandbox/addons").unwrap()["addons"]);
        addons.sort();
        let wanted = [
            "aws-ebs-csi-driver",
            "coredns",
            "eks-pod-identity-agent",
            "kube-proxy",
            "metrics-server",
            "vpc-cni",
        ];
        assert_eq!(addons, wanted, "the EKS add-ons");

        let entries = strings(&self.aws.eks("/clusters/sandbox/access-entries").unwrap()["accessEntries"]);
        let kinds: BTreeMap<String, String> = entries
            .into_iter()
            .map(|arn| {
                let encoded: String = url::form_urlencoded::byte_serialize(arn.as_bytes()).collect();
                let entry = self.aws.eks(&format!("/clusters/sandbox/access-entries/{encoded}"));
                (arn, entry.unwrap()["accessEntry"]["type"].as_str().unwrap().to_owned())
            })
            .collect();
        let account = self.status["account"].as_str().unwrap();
        let wanted = [
            (
                format!("arn:aws:iam::{account}:role/sandbox-karpenter-node"),
                "EC2_LINUX".to_owned(),
            ),
            (format!("arn:aws:iam::{account}:root"), "STANDARD".to_owned()),
        ];
        assert_eq!(kinds, wanted.into(), "who may join or administer the cluster");

        let roles = [
            "cluster",
            "ebs-csi",
            "karpenter-controller",
            "karpenter-node",
            "node",
            "vpc-cni",
        ];
        assert_eq!(
            self.aws.iam("ListRoles", &[], "RoleName"),
            roles.map(|r| format!("sandbox-{r}")),
            "the IAM roles"
        );
        let policies = self.aws.iam(
            "ListAttachedRolePolicies",
            &[("RoleName", "sandbox-node")],
            "PolicyName",
        );
        assert!(
            policies.contains(&"AmazonEKSWorkerNodePolicy".to_owned()),
            "{policies:?}"
        );
        assert!(
            !policies.iter().any(|p| p.contains("Admin")),
            "least privilege: {policies:?}"
        );
        assert_eq!(
            self.aws.queues(),
            ["sandbox-karpenter"],
            "Karpenter's interruption queue"
        );
        assert_eq!(self.aws.rules().len(), 5, "what fills it");
        assert_eq!(self.aws.ec2("DescribeVpcs", ENVIRONMENT, "vpcId").len(), 1);
        assert_eq!(
            self.aws.ec2("DescribeSubnets", ENVIRONMENT, "subnetId").len(),
            9,
            "three kinds in three zones"
        );
    }

    fn credentials_are_where_they_belong(&self) {
        let secrets = self.aws.secrets();
        assert_eq!(secrets, ["sandbox/argocd"], "one secret");
        let versions = self.aws.secret_versions("sandbox/argocd");
        assert_eq!(versions.len(), 1, "of one version: {versions:?}");
        assert_eq!(versions[0]["VersionStages"], json!(["AWSCURRENT"]));
        let document = self.password();
        let keys: Vec<&str> = document.keys().map(String::as_str).collect();
        assert_eq!(keys, ["bcrypt", "mtime", "password"]);
        assert!(
            document["password"].len() >= 22,
            "at least 128 bits in 6-bit characters"
        );
        assert!(document["bcrypt"].starts_with("$2b$12$"), "bcrypt at cost 12");
        assert!(
            bcrypt::verify(&document["password"], &document["bcrypt"]).unwrap(),
            "the hash is that of the password"
        );
        let mtime: jiff::Timestamp = document["mtime"].parse().expect("RFC 3339");
        assert!(
            document["mtime"].ends_with('Z') && mtime < jiff::Timestamp::now(),
            "{}",
            document["mtime"]
        );

        let parameters = ["/sandbox/argocd/deploy-key", "/sandbox/argocd/deploy-key.pub"];
        assert_eq!(self.aws.parameters(), parameters);
        let kinds = parameters.map(|name| self.aws.parameter(name).unwrap()["Type"].clone());
        assert_eq!(
            kinds,
            ["SecureString", "String"],
            "the private part is encrypted, the public one readable"
        );
        let private = ssh_key::PrivateKey::from_openssh(self.private_key()).unwrap();
        assert_eq!(private.algorithm(), ssh_key::Algorithm::Ed25519);
        assert_eq!(
            private.fingerprint(ssh_key::HashAlg::Sha256).to_string(),
            self.fingerprint(),
            "the two parts belong together"
        );
    }

    fn the_cluster_takes_only_intact_tokens(&self) {
        let nodes = self.kubectl.get(&["nodes"]);
        assert_eq!(
            nodes["items"].as_array().unwrap().len(),
            3,
            "kubectl works with the written kubeconfig"
        );
        assert_eq!(
            self.kubectl
                .run(&["auth", "can-i", "*", "*", "--all-namespaces"])
                .trim(),
            "yes"
        );

        let credential = self.project.text(&["token", ENVIRONMENT]);
        let credential: Value = serde_json::from_str(&credential).unwrap();
        let token = credential["status"]["token"].as_str().unwrap();
        assert_eq!(self.kubectl.status_with(token), 200, "an intact token is taken");

        let now = SystemTime::now();
        let signed = |cluster: &str, time| self.aws.cluster_token(cluster, time);
        assert_eq!(
            self.kubectl.status_with(&signed(ENVIRONMENT, now)),
            200,
            "the test can sign one itself"
        );
        let past = now - Duration::from_secs(16 * 60);
        for (token, why) in [
            (with_another_signature(token), "a signature that does not belong to it"),
            (signed("another", now), "the name of another cluster"),
            (signed(ENVIRONMENT, past), "a signature that has expired"),
            (token.replace("k8s-aws-v1.", "k8s-aws-v2."), "another version"),
            ("nonsense".to_owned(), "no sense"),
        ] {
            assert_eq!(self.kubectl.status_with(&token), 401, "a token with {why} is refused");
        }
    }

    fn argo_cd_answers_to_the_password(&self) {
        let shown = self.project.text(&["secrets", "show", "argocd-password", ENVIRONMENT]);
        assert_eq!(
            shown.trim_end(),
            self.password()["password"],
            "mfsre shows the password that AWS holds"
        );
        let url = self.status["argocd_url"].as_str().unwrap();
        assert_eq!(
            ArgoCd::log_in(url, "wrong").err(),
            Some(401),
            "another password is refused"
        );
        let applications = self.argo_cd().applications();
        let names: Vec<&str> = applications.keys().map(String::as_str).collect();
        assert_eq!(names, APPLICATIONS.map(|(name, _)| name));
        for (name, state) in &applications {
            assert_eq!(state, &ready(), "{name} as Argo CD itself tells");
        }
    }

    fn argo_cd_reads_with_a_key_that_cannot_write(&self) {
        let keys = self.git.deploy_keys();
        assert_eq!(keys.len(), 1, "{keys:?}");
        assert_eq!(keys[0]["read_only"], true, "the git host knows the key as read-only");
        let fingerprint = self.fingerprint();
        let fetched = self.git.log().iter().any(|entry| {
            entry["fingerprint"] == fingerprint.as_str()
                && entry["command"] == "git-upload-pack"
                && entry["repository"] == "mfsre/platform"
        });
        assert!(fetched, "the access log shows that {fingerprint} has fetched");

        let key = self.git.key_file(&self.private_key());
        let clone = self.git.clone("with-the-deploy-key", &key);
        assert!(clone.join("cd/root/sandbox.yaml").exists(), "the key reads");
        let head = self.git.head();
        self.git
            .git(&clone, &key, &["commit", "--quiet", "--allow-empty", "-m", "x"])
            .unwrap();
        let refused = self
            .git
            .git(&clone, &key, &["push", "origin", "HEAD:main"])
            .unwrap_err();
        assert!(
            refused.contains("read"),
            "the refusal says that the key is read-only: {refused}"
        );
        assert_eq!(self.git.head(), head, "and nothing was pushed");
        let entries = self.git.log();
        let entry = entries
            .iter()
            .find(|e| e["command"] == "git-receive-pack" && e["fingerprint"] == fingerprint.as_str());
        let result = entry.expect("the attempt is in the access log")["result"]
            .as_str()
            .unwrap();
        assert!(result.starts_with("refused"), "{result}");
        std::fs::remove_file(key).unwrap();
        std::fs::remove_dir_all(clone).unwrap();
    }

    fn a_second_up_changes_nothing(&self, sampler: &Sampler) {
        let before = self.standing();
        let running = self.project.start(&["up", ENVIRONMENT]);
        sampler.watch(running.pid());
        let up = running.finish();
        assert_eq!(up.exit(0)["changed"], 0, "{up}");
        let plan = up.of("step_finished").find(|e| e["step"] == "plan").unwrap();
        assert_eq!(plan["detail"], "no changes", "Terraform finds nothing to do");
        assert_eq!(self.standing(), before, "the same versions, key and commit");
        assert!(up.took < Duration::from_secs(30), "it takes seconds, not {:?}", up.took);
        let said = self.project.text(&["status", ENVIRONMENT]);
        assert!(said.contains("sandbox is healthy"), "{said}");
    }

    /// What a repetition must leave as it is.
    fn standing(&self) -> (Vec<Value>, Value, String, String) {
        let parameter = self.aws.parameter("/sandbox/argocd/deploy-key").unwrap()["Version"].clone();
        (
            self.aws.secret_versions("sandbox/argocd"),
            parameter,
            self.fingerprint(),
            self.git.head(),
        )
    }

    /// The generated secrets stand in no file, no output, no environment and no command line. Only the stores of etcd and of
    /// the emulator may hold them.
    fn no_secret_has_leaked(&self, samples: &std::collections::BTreeSet<Sample>) {
        let document = self.password();
        let key = self.private_key();
        let mut secrets = vec![
            ("password".to_owned(), document["password"].clone().into_bytes()),
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

    fn a_change_by_hand_is_healed(&self) {
        self.kubectl.run(&[
            "--namespace",
            "workloads",
            "scale",
            "deployment/exporter",
            "--replicas=3",
        ]);
        let replicas = || self.kubectl.field("workloads", "deployment/exporter", "/spec/replicas");
        eventually("Argo CD has undone the change", Duration::from_secs(60), || {
            (replicas() == 1).then_some(())
        });
    }

    fn a_scaled_deployment_stays_scaled_and_synced(&self) {
        // What a HorizontalPodAutoscaler does: it patches the scale subresource.
        self.kubectl.run(&[
            "--namespace",
            "workloads",
            "patch",
            "deployment/main-service",
            "--subresource=scale",
            "--type=merge",
            "--patch={\"spec\":{\"replicas\":4}}",
        ]);
        let argo_cd = self.argo_cd();
        for _ in 0..3 {
            let (sync, _) = argo_cd.refreshed("main-service");
            assert_eq!(sync, "Synced", "the number of replicas is no business of Git's");
            std::thread::sleep(Duration::from_secs(1));
        }
        let replicas = self
            .kubectl
            .field("workloads", "deployment/main-service", "/spec/replicas");
        assert_eq!(replicas, 4, "nobody has scaled it back");
        let healthy = || (argo_cd.refreshed("main-service") == ready()).then_some(());
        eventually(
            "main-service is healthy with four replicas",
            Duration::from_secs(60),
            healthy,
        );
        let ready = self
            .kubectl
            .field("workloads", "deployment/main-service", "/status/readyReplicas");
        assert_eq!(ready, 4);
    }

    fn a_broken_child_is_named_and_mended(&self) {
        let shipped = std::fs::read_to_string(self.project.root().join(DEPLOYMENT)).unwrap();
        let broken = shipped.replace("  replicas: 1\n", "  replicas: -1\n");
        assert_ne!(broken, shipped, "the chart sets its number of replicas");
        let template = format!("templates/{DEPLOYMENT}");
        self.project.write(&template, &broken);
        let up = self.project.run(&["up", ENVIRONMENT, "--timeout", "60s"]);
        let error = &up.exit(3)["error"];
        let text = error.to_string();
        for told in ["exporter is OutOfSync", "spec.replicas: Invalid value: -1"] {
            assert!(
                text.contains(told),
                "the error names the child and the reason, {told:?}: {error}"
            );
        }
        let applications = self.argo_cd().applications();
        assert_eq!(
            applications["workloads"].1, "Degraded",
            "the child's root is unhealthy: {applications:?}"
        );
        assert_eq!(applications["addons"], ready(), "another root is not");
        let status = self.project.run(&["status", ENVIRONMENT]);
        assert_eq!(status.exit(3)["healthy"], false, "`status` tells as well");

        std::fs::remove_dir_all(self.project.root().join("templates")).unwrap();
        let up = self.project.run(&["up", ENVIRONMENT]);
        assert_eq!(
            up.exit(0)["ok"],
            true,
            "without the broken template `up` converges: {up}"
        );
        assert_eq!(self.argo_cd().applications()["workloads"], ready());
    }

    fn nothing_is_left(&self, down: &Finished) {
        let document = down.exit(0);
        assert_eq!(
            (&document["aws"], &document["cluster"]),
            (&json!([]), &json!([])),
            "{document}"
        );
        assert_eq!(document["sandbox_stopped"], false, "who started the platform stops it");
        let aws = &self.aws;
        assert!(aws.eks("/clusters/sandbox").is_none(), "the cluster is gone");
        for (action, element) in [
            ("DescribeVpcs", "vpcId"),
            ("DescribeSubnets", "subnetId"),
            ("DescribeSecurityGroups", "groupId"),
            ("DescribeInternetGateways", "internetGatewayId"),
            ("DescribeRouteTables", "routeTableId"),
            ("DescribeAddresses", "allocationId"),
            ("DescribeLaunchTemplates", "launchTemplateId"),
        ] {
            assert_eq!(aws.ec2(action, ENVIRONMENT, element), Vec::<String>::new(), "{action}");
        }
        let nothing = Vec::<String>::new();
        assert_eq!(aws.iam("ListRoles", &[], "RoleName"), nothing, "no role");
        assert_eq!(
            aws.iam("ListPolicies", &[("Scope", "Local")], "PolicyName"),
            nothing,
            "no policy"
        );
        assert_eq!(aws.queues(), nothing, "no queue");
        assert_eq!(aws.rules(), nothing, "no rule");
        assert_eq!(aws.secrets(), nothing, "no secret");
        assert_eq!(aws.secret("sandbox/argocd").unwrap_err(), "ResourceNotFoundException");
        assert_eq!(aws.parameters(), nothing, "no parameter");
        for (key, state) in aws.keys() {
            assert_eq!(state, "PendingDeletion", "AWS keeps the key {key} for its waiting time");
        }
        assert_eq!(self.git.deploy_keys(), Vec::<Value>::new(), "no deploy key");
        // The cluster is not on AWS any more, but the platform still runs it.
        let administrator: PathBuf = self.status["kubeconfig"].as_str().unwrap().into();
        let kubectl = Kubectl::new(self.project, administrator);
        let mut namespaces = kubectl.namespaces();
        namespaces.retain(|n| !n.starts_with("kube-"));
        assert_eq!(namespaces, ["default"], "no namespace of the platform");
        let definitions = kubectl.run(&["get", "customresourcedefinitions", "--output=name"]);
        assert_eq!(definitions, "", "no kind of Argo CD");
        let roles = kubectl.run(&["get", "clusterroles,clusterrolebindings,apiservices", "--output=name"]);
        let ours = roles.lines().filter(|l| {
            ["argocd", "prometheus", "external.metrics"]
                .iter()
                .any(|n| l.contains(n))
        });
        assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new(), "nothing cluster-wide");

        let again = self.project.run(&["down", ENVIRONMENT]);
        let document = again.exit(0);
        assert_eq!(
            (&document["changed"], &document["was_there"]),
            (&json!(0), &json!(false)),
            "{again}"
        );
        let said = self.project.text(&["down", ENVIRONMENT]);
        assert!(said.contains("is down already; nothing had to be removed"), "{said}");
    }
}

/// The token with one character of its signature changed.
fn with_another_signature(token: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let encoded = token.strip_prefix("k8s-aws-v1.").unwrap();
    let mut url = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap();
    let at = url.find("X-Amz-Signature=").unwrap() + "X-Amz-Signature=".len();
    let other = if url[at..].starts_with('0') { "1" } else { "0" };
    url.replace_range(at..=at, other);
    format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url))
}

fn ready() -> (String, String) {
    ("Synced".into(), "Healthy".into())
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|v| v.as_str().unwrap().to_owned()).collect()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}
