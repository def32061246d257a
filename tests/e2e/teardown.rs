//! An environment whose controllers have made things on AWS is taken away: with objects that hang, with orphans that nothing
//! but AWS knows of, beside those of other clusters, and then without its state and without its cluster.

mod controllers;
mod planted;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::controllers::{Controllers, SERVICE_FINALIZER, node_group, place};
use self::planted::{Planted, is_there};
use crate::aws::Aws;
use crate::cluster::Kubectl;
use crate::process::eventually;
use crate::project::{ENVIRONMENT, Finished, Project};
use crate::report;

const SECRET: &str = "sandbox/argocd";
/// A finalizer that nobody takes off.
const NEVER: &str = "example.com/never";
const SERVICE: &str = "cd/charts/main-service/templates/service.yaml";

struct Teardown<'a> {
    project: &'a Project,
    aws: Arc<Aws>,
    /// With a certificate, which counts also when the cluster is not on AWS any more.
    kubectl: Kubectl<'a>,
    controllers: Controllers,
}

#[test]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
fn a_teardown_takes_what_is_the_environment_s_and_nothing_else() {
    let project = Project::new();
    let status = project.run(&["sandbox", "start", ENVIRONMENT]).exit(0).clone();
    let aws = Arc::new(Aws::of(&status));
    let kubeconfig: PathBuf = status["kubeconfig"].as_str().unwrap().into();
    let endpoint = status["kubernetes_endpoint"].as_str().unwrap();
    let teardown = Teardown {
        project: &project,
        controllers: Controllers::start(aws.clone(), endpoint, &kubeconfig),
        kubectl: Kubectl::new(&project, kubeconfig),
        aws,
    };
    let password = teardown.a_secret_waits_for_its_deletion();
    section("up", || teardown.a_service_in_git_has_a_load_balancer());
    let secret = teardown.aws.secret(SECRET).unwrap()["SecretString"].clone();
    assert_eq!(secret, password, "`up` has restored the secret in its recovery window");
    section("what controllers have made", || teardown.controllers_make_things());
    let orphans = teardown.orphans();
    let network = planted::network(&teardown.aws);
    let (silent, told) = planted::alike(&teardown.aws, ENVIRONMENT, &network);
    for planted in orphans.iter().chain(&silent).chain(&told) {
        assert!(is_there(&teardown.aws, planted), "{planted:?} was planted");
    }
    section("what hangs is named", || teardown.what_hangs_is_named_and_left());
    let down = section("down --force", || {
        project.run(&["down", ENVIRONMENT, "--force", "--timeout", "45s"])
    });
    teardown.only_what_hung_was_forced(&down);
    teardown.controllers_had_their_time();
    teardown.the_sweep_took_the_orphans_alone(&down, &orphans, &told);
    section("down again", || teardown.a_second_down_does_nothing(&told));
    let survived = silent
        .iter()
        .chain(&told)
        .filter(|p| is_there(&teardown.aws, p))
        .count();
    let left = orphans.iter().filter(|p| is_there(&teardown.aws, p)).count();
    assert_eq!((left, survived), (0, silent.len() + told.len()));
    let planted = orphans.len() as u64;
    report::figure(
        "teardowns",
        "orphans of controllers, and look-alikes of another cluster",
        &[
            ("teardowns", 1),
            ("planted", planted),
            ("found", planted),
            ("left", 0),
            ("look-alikes", survived as u64),
            ("survived", survived as u64),
        ],
    );
    project.run(&["sandbox", "stop", ENVIRONMENT]).exit(0);
    project.assert_no_process("sandbox stop");
}

#[test]
#[ignore = "brings up a platform: `cargo xtask test` runs it"]
fn a_teardown_without_state_or_cluster_names_what_it_leaves() {
    let project = Project::new();
    let status = project.run(&["sandbox", "start", ENVIRONMENT]).exit(0).clone();
    without_its_state_everything_is_named(&project, &Aws::of(&status));
    project.run(&["sandbox", "stop", ENVIRONMENT]).exit(0);
    project.assert_no_process("sandbox stop");
}

fn section<T>(name: &str, part: impl FnOnce() -> T) -> T {
    println!("  {name} ...");
    let began = Instant::now();
    let result = part();
    println!("  {name}: {:.1}s", began.elapsed().as_secs_f64());
    result
}

/// Kind and id of everything in a list of the document.
fn listed(document: &Value, key: &str) -> Vec<Planted> {
    let list = document[key]
        .as_array()
        .unwrap_or_else(|| panic!("{key} in {document}"));
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    let mut listed: Vec<Planted> = list.iter().map(|item| (text(item, "kind"), text(item, "id"))).collect();
    listed.sort();
    listed
}

fn sorted(planted: &[Planted]) -> Vec<Planted> {
    let mut planted = planted.to_vec();
    planted.sort();
    planted
}

fn warnings(finished: &Finished) -> Vec<&str> {
    finished.of("warning").map(|e| e["message"].as_str().unwrap()).collect()
}

impl Teardown<'_> {
    /// As an earlier `down` leaves it on AWS, where it keeps the name taken for days; returns what it holds.
    fn a_secret_waits_for_its_deletion(&self) -> String {
        let password = "of-an-earlier-life-0123456789";
        let document = json!({
            "password": password, "bcrypt": bcrypt::hash(password, 12).unwrap(), "mtime": "2026-01-01T00:00:00Z",
        });
        let made = json!({ "Name": SECRET, "SecretString": document.to_string() });
        self.aws.json("secretsmanager", "secretsmanager.CreateSecret", &made);
        let deleted = json!({ "SecretId": SECRET, "RecoveryWindowInDays": 7 });
        self.aws.json("secretsmanager", "secretsmanager.DeleteSecret", &deleted);
        assert!(self.aws.secret(SECRET).is_err(), "it cannot be read");
        document.to_string()
    }

    /// The Service of main-service is of type LoadBalancer; with self-healing, deleting it alone brings it back.
    fn a_service_in_git_has_a_load_balancer(&self) {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(SERVICE);
        let shipped = std::fs::read_to_string(shipped).unwrap();
        let balanced = shipped.replacen("spec:\n", "spec:\n  type: LoadBalancer\n", 1);
        self.project.write(&format!("templates/{SERVICE}"), &balanced);
        let up = std::thread::scope(|scope| {
            let up = scope.spawn(|| self.project.run(&["up", ENVIRONMENT]));
            while !up.is_finished() {
                std::thread::sleep(Duration::from_secs(1));
                Controllers::addresses(&self.kubectl);
            }
            up.join().unwrap()
        });
        up.exit(0);
        let service = ["workloads", "service/main-service"];
        let uid = || {
            self.kubectl.try_run(
                &[
                    "--namespace",
                    service[0],
                    "get",
                    service[1],
                    "--output=jsonpath={.metadata.uid}",
                ],
                "",
            )
        };
        let before = uid().unwrap();
        self.kubectl
            .run(&["--namespace", service[0], "delete", service[1], "--wait=false"]);
        eventually("self-healing brings the Service back", Duration::from_secs(120), || {
            uid().ok().filter(|uid| !uid.is_empty() && *uid != before)
        });
    }

    fn apply(&self, objects: &[Value]) {
        for object in objects {
            self.kubectl
                .try_run(&["apply", "--filename=-"], &object.to_string())
                .unwrap_or_else(|e| panic!("{object}: {e}"));
        }
    }

    fn controllers_make_things(&self) {
        let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/definitions");
        for name in ["karpenter.sh_nodepools.yaml", "karpenter.k8s.aws_ec2nodeclasses.yaml"] {
            let file = format!("--filename={}", definitions.join(name).display());
            self.kubectl
                .run(&["apply", "--server-side", "--field-manager=test", &file]);
            self.kubectl
                .run(&["wait", "--for=condition=Established", "--timeout=30s", &file]);
        }
        let class = |name: &str, policy: &str| {
            json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": name },
                "provisioner": "ebs.csi.aws.com", "reclaimPolicy": policy,
            })
        };
        let claim = |name: &str, class: &str| {
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name, "namespace": "default" },
                "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": { "requests": { "storage": "1Gi" } } },
            })
        };
        let by_hand = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "by-hand", "namespace": "default" },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
        });
        let ingress = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": "shop", "namespace": "default" },
            "spec": { "defaultBackend": { "service": { "name": "by-hand", "port": { "number": 80 } } } },
        });
        let pool = json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
            "metadata": { "name": "live", "finalizers": ["karpenter.sh/termination"] },
            "spec": { "template": { "spec": {
                "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "live" },
                "requirements": [{ "key": "kubernetes.io/os", "operator": "In", "values": ["linux"] }],
            } } },
        });
        let node_class = json!({
            "apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass",
            "metadata": { "name": "live", "finalizers": ["karpenter.k8s.aws/termination"] },
            "spec": {
                "role": "sandbox-karpenter-node", "amiSelectorTerms": [{ "alias": "al2023@latest" }],
                "subnetSelectorTerms": [{ "tags": { "karpenter.sh/discovery": ENVIRONMENT } }],
                "securityGroupSelectorTerms": [{ "tags": { "karpenter.sh/discovery": ENVIRONMENT } }],
            },
        });
        self.apply(&[
            class("ebs", "Delete"),
            class("ebs-retain", "Retain"),
            claim("scratch", "ebs"),
            claim("precious", "ebs-retain"),
            by_hand,
            ingress,
            node_class,
            pool,
        ]);
        let owned = (&*format!("kubernetes.io/cluster/{ENVIRONMENT}"), "owned");
        let place = place(&self.aws).unwrap();
        planted::instance(&self.aws, &[owned, ("karpenter.sh/nodepool", "live")], &place.subnet);
        let region = ("topology.kubernetes.io/region", "eu-west-1");
        planted::instance_profile(&self.aws, &format!("{ENVIRONMENT}_live"), &[owned, region]);
        // What hangs: an Application of somebody's own, and an object in a namespace of the platform.
        let stuck = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": { "name": "by-hand", "namespace": "argocd", "finalizers": [NEVER] },
            "spec": {
                "project": "default", "source": { "repoURL": "https://127.0.0.1:1/none.git", "path": "." },
                "destination": { "server": "https://kubernetes.default.svc", "namespace": "default" },
            },
        });
        let inside = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "stuck", "namespace": "workloads", "finalizers": [NEVER] },
        });
        self.apply(&[stuck, inside]);
        eventually(
            "two Services, an Ingress and two claims are served",
            Duration::from_secs(60),
            || {
                self.controllers
                    .done(|done| (done.balancers.len() >= 3 && done.volumes.len() == 2).then_some(()))
            },
        );
        eventually("the claims are bound", Duration::from_secs(60), || {
            let claims = self.kubectl.get(&["persistentvolumeclaims", "--namespace=default"]);
            let bound = |claim: &Value| claim["status"]["phase"] == "Bound";
            claims["items"].as_array().unwrap().iter().all(bound).then_some(())
        });
    }

    /// One of each kind, and a rule of the nodes' group that names one.
    fn orphans(&self) -> Vec<Planted> {
        let orphans = planted::everything_of(&self.aws, ENVIRONMENT, &place(&self.aws).unwrap());
        let group = orphans.iter().find(|(kind, _)| kind == "security group").unwrap();
        planted::allow(&self.aws, &node_group(&self.aws), &group.1);
        orphans
    }

    fn what_hangs_is_named_and_left(&self) {
        let down = self.project.run(&["down", ENVIRONMENT, "--timeout", "20s"]);
        let error = &down.exit(1)["error"];
        let text = error.to_string();
        for told in [
            "Application argocd/by-hand is being deleted for ",
            "example.com/never (whose controller mfsre does not know)",
            "waiting on it: Namespace argocd, the rest of the teardown",
            "--force",
        ] {
            assert!(text.contains(told), "{told:?} in {error:#}");
        }
        assert_eq!(
            warnings(&down),
            Vec::<&str>::new(),
            "nothing is forced by default: {down}"
        );
        let finalizers = self
            .kubectl
            .field("argocd", "application/by-hand", "/metadata/finalizers");
        assert_eq!(finalizers, json!([NEVER]));
        let applications = self.kubectl.get(&["applications", "--namespace=argocd"]);
        for application in applications["items"].as_array().unwrap() {
            let automated = &application["spec"]["syncPolicy"]["automated"];
            assert!(automated.is_null(), "nothing heals any more: {application}");
        }
        let place = place(&self.aws).expect("Terraform's resources stand");
        assert!(is_there(&self.aws, &("vpc".into(), place.vpc)));
    }

    fn only_what_hung_was_forced(&self, down: &Finished) {
        down.exit(0);
        let warnings = warnings(down);
        let about = |what: &str| {
            warnings
                .iter()
                .filter(|w| w.contains(what) && w.contains(NEVER))
                .count()
        };
        assert_eq!(about("Application argocd/by-hand, which hung for"), 1, "{warnings:#?}");
        assert_eq!(
            about("ConfigMap workloads/stuck, on which Namespace workloads waited"),
            1,
            "{warnings:#?}"
        );
        assert_eq!(warnings.len(), 2, "{warnings:#?}");
    }

    /// Every controller was slow and failed, and was waited for: nothing of theirs was left to the sweep.
    fn controllers_had_their_time(&self) {
        let (removed, failed) = self.controllers.done(|done| (done.removed.clone(), done.failed()));
        for object in [
            "Service workloads/main-service",
            "Service default/by-hand",
            "Ingress default/shop",
            "PersistentVolume pvc-scratch",
            "NodePool live",
            "EC2NodeClass live",
        ] {
            assert!(removed.iter().any(|r| r == object), "{object} among {removed:?}");
        }
        let at = |object: &str| removed.iter().rposition(|r| r == object);
        assert!(at("NodePool live") < at("EC2NodeClass live"), "{removed:?}");
        assert!(failed >= 18, "each failed at first: {failed}");
        let services = self.kubectl.get(&["services", "--all-namespaces"]);
        assert!(!services.to_string().contains(SERVICE_FINALIZER), "{services}");
        println!(
            "    controllers removed {} things, after {failed} failures",
            removed.len()
        );
    }

    fn the_sweep_took_the_orphans_alone(&self, down: &Finished, orphans: &[Planted], told: &[Planted]) {
        let document = down.exit(0);
        let mut removed = listed(document, "removed");
        // Where an answer got lost while Terraform created a subnet, there is one that no state knows.
        removed.retain(|(kind, _)| kind != "subnet");
        assert_eq!(removed, sorted(orphans), "{down}");
        assert_eq!(document["aws"], json!([]), "{down}");
        assert_eq!(listed(document, "doubtful"), sorted(told), "{down}");
        let precious = self.controllers.done(|done| done.volumes["precious"].clone());
        let kept = [("volume".to_owned(), precious)];
        assert_eq!(listed(document, "kept"), kept, "{down}");
        assert!(is_there(&self.aws, &kept[0]), "its reclaim policy is Retain");
        let why = document["kept"][0]["why"].as_str().unwrap();
        assert!(why.contains("reclaim policy Retain"), "{why}");
        for told in document["doubtful"].as_array().unwrap() {
            let command = told["command"].as_str().unwrap();
            assert!(command.contains(told["id"].as_str().unwrap()), "{told}");
        }
        // The load balancers and groups that would have blocked the network went before it.
        let detail = |step: &str| {
            let finished = down.of("step_finished").find(|e| e["step"] == step).unwrap();
            finished["detail"].as_str().unwrap().to_owned()
        };
        let before = detail("orphans");
        for kind in [
            "1 classic load balancer",
            "1 load balancer",
            "1 security group",
            "1 network interface",
            "1 instance",
        ] {
            assert!(before.contains(kind), "{kind} in {before}");
        }
        assert_eq!(self.aws.ec2("DescribeVpcs", ENVIRONMENT, "vpcId"), Vec::<String>::new());
        let namespaces = self.kubectl.namespaces();
        assert!(
            !namespaces.iter().any(|n| n == "workloads" || n == "argocd"),
            "{namespaces:?}"
        );
    }

    fn a_second_down_does_nothing(&self, told: &[Planted]) {
        let again = self.project.run(&["down", ENVIRONMENT]);
        let document = again.exit(0);
        assert_eq!(
            (&document["changed"], &document["was_there"]),
            (&json!(0), &json!(false)),
            "{again}"
        );
        assert_eq!(document["removed"], json!([]));
        assert_eq!(
            listed(document, "doubtful"),
            sorted(told),
            "what was left alone is told again"
        );
        let text = self.project.text(&["down", ENVIRONMENT]);
        assert!(text.contains("is down already; nothing had to be removed"), "{text}");
        assert!(
            text.contains("left alone on AWS, because it is not provably the environment's"),
            "{text}"
        );
    }
}

/// AWS holds a whole environment and the state is gone; then the cluster is gone as well; then the state is back.
fn without_its_state_everything_is_named(project: &Project, aws: &Aws) {
    let mut up = project.start(&["up", ENVIRONMENT]);
    up.wait_for("the end of apply", |e| {
        e["event"] == "step_finished" && e["step"] == "apply"
    });
    up.kill().expect_killed();
    let place = place(aws).unwrap();
    let nodes = ("security group".to_owned(), node_group(aws));
    let state = project.infra().join("terraform.tfstate");
    let aside = project.folder().join("aside.tfstate");
    std::fs::rename(&state, &aside).unwrap();

    let down = project.run(&["down", ENVIRONMENT]);
    let document = down.exit(1);
    let left = listed(document, "aws");
    for wanted in [
        ("eks cluster", ENVIRONMENT),
        ("vpc", &place.vpc),
        ("iam role", "sandbox-node"),
        (&nodes.0, &nodes.1),
    ] {
        assert!(
            left.contains(&(wanted.0.into(), wanted.1.into())),
            "{wanted:?} in {left:?}"
        );
    }
    assert_eq!(
        document["removed"],
        json!([]),
        "a cluster that stands keeps what is its own: {down}"
    );
    for leftover in document["aws"].as_array().unwrap() {
        assert_eq!(leftover["why"], "no Terraform state has it", "{leftover}");
        let known = leftover["kind"] != "resource";
        assert_eq!(leftover["command"].is_string(), known, "{leftover}");
    }
    assert!(
        document["error"]["hints"].to_string().contains("Terraform's state"),
        "{down}"
    );
    assert!(aws.eks("/clusters/sandbox").is_some());

    aws.delete_cluster(ENVIRONMENT);
    let down = project.run(&["down", ENVIRONMENT]);
    let document = down.exit(1);
    let removed = listed(document, "removed");
    assert!(removed.contains(&nodes), "nobody makes it again now: {down}");
    let left = listed(document, "aws");
    assert!(left.contains(&("vpc".into(), place.vpc.clone())), "{left:?}");
    assert!(!left.iter().any(|(kind, _)| kind == "security group"), "{left:?}");
    let cluster = down.of("step_finished").find(|e| e["step"] == "cluster").unwrap();
    assert_eq!(
        (&cluster["outcome"], &cluster["detail"]),
        (&json!("skipped"), &json!("there is no cluster"))
    );

    std::fs::rename(&aside, &state).unwrap();
    let down = project.run(&["down", ENVIRONMENT]);
    assert_eq!(down.exit(0)["aws"], json!([]), "with its state the rest goes: {down}");
    assert_eq!(aws.ec2("DescribeVpcs", ENVIRONMENT, "vpcId"), Vec::<String>::new());
    assert_eq!(project.run(&["down", ENVIRONMENT]).exit(0)["was_there"], false);
}
