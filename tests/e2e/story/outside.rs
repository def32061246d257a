//! What `up` has made, asked of everything that knows it but mfsre.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{APPLICATIONS, PULL_SECRET, PULL_TOKEN, Story, ready};
use crate::argocd::ArgoCd;
use crate::project::ENVIRONMENT;

impl Story<'_> {
    pub(super) fn aws_holds_the_platform(&self) {
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

    pub(super) fn credentials_are_where_they_belong(&self) {
        let secrets = self.aws.secrets();
        assert_eq!(
            secrets,
            [PULL_SECRET, "sandbox/argocd"],
            "one secret beside the user's own"
        );
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

        let parameters = [
            "/sandbox/argocd/deploy-key",
            "/sandbox/argocd/deploy-key.pub",
            "/sandbox/mfsre/lock",
        ];
        assert_eq!(self.aws.parameters(), parameters);
        let kinds = parameters.map(|name| self.aws.parameter(name).unwrap()["Type"].clone());
        assert_eq!(
            kinds,
            ["SecureString", "String", "String"],
            "the private part is encrypted, the public one and the lock are readable"
        );
        let private = ssh_key::PrivateKey::from_openssh(self.private_key()).unwrap();
        assert_eq!(private.algorithm(), ssh_key::Algorithm::Ed25519);
        assert_eq!(
            private.fingerprint(ssh_key::HashAlg::Sha256).to_string(),
            self.fingerprint(),
            "the two parts belong together"
        );
    }

    pub(super) fn private_images_can_be_pulled(&self) {
        let secret = self
            .kubectl
            .get(&["--namespace", "workloads", "secret", "mfsre-registry"]);
        assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
        let data = STANDARD
            .decode(secret["data"][".dockerconfigjson"].as_str().unwrap())
            .unwrap();
        let found: Value = serde_json::from_slice(&data).unwrap();
        let auth = STANDARD.encode(format!("bot:{PULL_TOKEN}"));
        let wanted = json!({ "username": "bot", "password": PULL_TOKEN, "auth": auth });
        assert_eq!(found, json!({ "auths": { "ghcr.io": wanted } }));
        for workload in ["deployment/main-service", "deployment/exporter"] {
            let names = self
                .kubectl
                .field("workloads", workload, "/spec/template/spec/imagePullSecrets");
            assert_eq!(names, json!([{ "name": "mfsre-registry" }]), "{workload}");
        }
    }

    pub(super) fn the_cluster_takes_only_intact_tokens(&self) {
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

    fn the_password_is_shown_to_a_terminal_or_where_asked_for(&self) {
        const TERMINAL: &str = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
        let password = &self.password()["password"];
        let show = ["secrets", "show", "argocd-password", ENVIRONMENT];
        let shown = self.project.text(&[&show[..], &["--reveal"]].concat());
        assert_eq!(shown.trim_end(), password, "mfsre shows the password that AWS holds");

        let mut command = self.project.command("python3");
        command.args(["-c", TERMINAL, env!("CARGO_BIN_EXE_mfsre")]).args(show);
        let output = command.output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{shown}");
        assert_eq!(shown.trim_end(), password, "a terminal needs no flag");

        let mut command = self.project.command(env!("CARGO_BIN_EXE_mfsre"));
        command.args(show).arg("--reveal").env("GITHUB_ACTIONS", "true");
        let output = command.output().unwrap();
        let masked = format!("::add-mask::{password}\n");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            masked,
            "a pipeline's log shows asterisks"
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), password);
    }

    pub(super) fn argo_cd_answers_to_the_password(&self) {
        self.the_password_is_shown_to_a_terminal_or_where_asked_for();
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

    pub(super) fn argo_cd_reads_with_a_key_that_cannot_write(&self) {
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
}

/// The token with one character of its signature changed.
fn with_another_signature(token: &str) -> String {
    let encoded = token.strip_prefix("k8s-aws-v1.").unwrap();
    let mut url = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap();
    let at = url.find("X-Amz-Signature=").unwrap() + "X-Amz-Signature=".len();
    let other = if url[at..].starts_with('0') { "1" } else { "0" };
    url.replace_range(at..=at, other);
    format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url))
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|v| v.as_str().unwrap().to_owned()).collect()
}
