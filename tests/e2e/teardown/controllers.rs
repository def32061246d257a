//! The controllers that have a cloud to work on, and that a sandbox has not: for Services of type LoadBalancer and Ingresses, for
//! volumes, and Karpenter. They work as the real ones do, finalizer first, and with the real ones' faults: slowly, and not always at
//! the first try.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use mfsre::kubernetes::{Kubernetes, KubernetesError, ObjectId, TokenSource};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::planted::{self, Place};
use crate::aws::Aws;
use crate::cluster::Kubectl;
use crate::project::ENVIRONMENT;
use crate::tools::RUNTIME;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(400);
/// How often something fails before it is removed.
const FAILURES: usize = 3;
pub(super) const SERVICE_FINALIZER: &str = "service.k8s.aws/resources";
const PROVISIONER: &str = "ebs.csi.aws.com";
const PROVISIONER_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

/// What the controllers have done.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Load balancers by their Services: balancer, target group, security group.
    pub(super) balancers: BTreeMap<String, (String, String, String)>,
    /// Volumes by their claims.
    pub(super) volumes: BTreeMap<String, String>,
    /// What was removed, in order.
    pub(super) removed: Vec<String>,
    failures: BTreeMap<String, usize>,
}

impl Done {
    /// Whether a try to remove this fails.
    fn fails(&mut self, what: &str) -> bool {
        let failed = self.failures.entry(what.to_owned()).or_default();
        *failed += 1;
        *failed <= FAILURES
    }

    pub(super) fn failed(&self) -> usize {
        self.failures.values().map(|tries| tries.min(&FAILURES)).sum()
    }
}

struct Tokens(Arc<Aws>);

impl TokenSource for Tokens {
    fn token(&self) -> BoxFuture<'_, Result<(SecretString, Timestamp), String>> {
        Box::pin(async {
            let token = self.0.cluster_token(ENVIRONMENT, SystemTime::now());
            Ok((token.into(), Timestamp::now() + Duration::from_secs(300)))
        })
    }
}

/// The controllers at work. Dropped, they end.
pub(super) struct Controllers {
    stop: Arc<AtomicBool>,
    done: Arc<Mutex<Done>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Controllers {
    pub(super) fn start(aws: Arc<Aws>, endpoint: &str, kubeconfig: &Path) -> Self {
        let text = std::fs::read_to_string(kubeconfig).unwrap();
        let config: Value = serde_saphyr::from_str(&text).unwrap();
        let authority: String = config["clusters"][0]["cluster"]["certificate-authority-data"]
            .as_str()
            .unwrap()
            .split_whitespace()
            .collect();
        let kubernetes = Kubernetes::new(
            endpoint.trim_end_matches('/'),
            &STANDARD.decode(authority).unwrap(),
            Arc::new(Tokens(aws.clone())),
            mfsre::patience::Patience::USUAL,
        );
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Done>>::default());
        let (stopped, record) = (stop.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // No cluster yet, or not any more.
                if let Ok(changes) = RUNTIME.block_on(look(&kubernetes)) {
                    for change in changes {
                        change.make(&kubernetes, &aws, &mut record.lock().unwrap());
                    }
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self {
            stop,
            done,
            thread: Some(thread),
        }
    }

    pub(super) fn done<T>(&self, read: impl FnOnce(&Done) -> T) -> T {
        read(&self.done.lock().unwrap())
    }

    /// Services want an address before they are healthy.
    pub(super) fn addresses(kubectl: &Kubectl<'_>) {
        let services = kubectl.get(&["services", "--all-namespaces"]);
        for service in services["items"].as_array().unwrap() {
            let wants =
                service["spec"]["type"] == "LoadBalancer" && service["status"]["loadBalancer"]["ingress"].is_null();
            if wants && service["metadata"]["finalizers"].is_array() {
                let text = |key: &str| service["metadata"][key].as_str().unwrap().to_owned();
                let status =
                    json!({ "status": { "loadBalancer": { "ingress": [{ "hostname": "web.elb.amazonaws.com" }] } } });
                let (namespace, name, status) = (text("namespace"), text("name"), status.to_string());
                let _ = kubectl.try_run(
                    &[
                        "--namespace",
                        &namespace,
                        "patch",
                        "service",
                        &name,
                        "--subresource=status",
                        "--type=merge",
                        "--patch",
                        &status,
                    ],
                    "",
                );
            }
        }
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a controller sees to.
enum Change {
    Balance(ObjectId),
    Unbalance(ObjectId),
    Provision(ObjectId, Value),
    Unprovision(ObjectId, String),
    EndPool(ObjectId),
    EndClass(ObjectId),
}

async fn look(kubernetes: &Kubernetes) -> Result<Vec<Change>, KubernetesError> {
    let mut changes = Vec::new();
    let id = |api_version: &str, kind: &str, object: &Value| {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        match text("namespace").as_str() {
            "" => ObjectId::cluster(api_version, kind, &text("name")),
            namespace => ObjectId::namespaced(api_version, kind, namespace, &text("name")),
        }
    };
    let has = |object: &Value, finalizer: &str| {
        let finalizers = object["metadata"]["finalizers"].as_array().into_iter().flatten();
        finalizers.filter_map(Value::as_str).any(|f| f == finalizer)
    };
    let going = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();

    for (api_version, kind) in [("v1", "Service"), ("networking.k8s.io/v1", "Ingress")] {
        for object in kubernetes.list(api_version, kind, None).await? {
            let id = id(api_version, kind, &object);
            let balanced = kind == "Ingress" || object["spec"]["type"] == "LoadBalancer";
            match (going(&object), has(&object, balancer_finalizer(kind))) {
                (false, false) if balanced => changes.push(Change::Balance(id)),
                (true, true) => changes.push(Change::Unbalance(id)),
                _ => {}
            }
        }
    }
    let volumes = kubernetes.list("v1", "PersistentVolume", None).await?;
    for claim in kubernetes.list("v1", "PersistentVolumeClaim", None).await? {
        let id = id("v1", "PersistentVolumeClaim", &claim);
        let made = volumes
            .iter()
            .any(|v| v["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"]);
        if !made && !going(&claim) {
            changes.push(Change::Provision(id, claim));
        }
    }
    for volume in &volumes {
        let released =
            volume["status"]["phase"] == "Released" && volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete";
        if released && has(volume, PROVISIONER_FINALIZER) {
            let handle = volume["spec"]["csi"]["volumeHandle"].as_str().unwrap_or_default();
            changes.push(Change::Unprovision(
                id("v1", "PersistentVolume", volume),
                handle.to_owned(),
            ));
        }
    }
    let pools = kubernetes.list("karpenter.sh/v1", "NodePool", None).await?;
    for pool in pools.iter().filter(|p| going(p)) {
        changes.push(Change::EndPool(id("karpenter.sh/v1", "NodePool", pool)));
    }
    for class in kubernetes.list("karpenter.k8s.aws/v1", "EC2NodeClass", None).await? {
        // Its nodes go first.
        if going(&class) && pools.is_empty() {
            changes.push(Change::EndClass(id("karpenter.k8s.aws/v1", "EC2NodeClass", &class)));
        }
    }
    Ok(changes)
}

/// The finalizer of the AWS Load Balancer Controller.
fn balancer_finalizer(kind: &str) -> &'static str {
    if kind == "Ingress" {
        "ingress.k8s.aws/resources"
    } else {
        SERVICE_FINALIZER
    }
}

fn set_finalizers(kubernetes: &Kubernetes, id: &ObjectId, finalizers: &Value) {
    let patch = json!({ "metadata": { "finalizers": finalizers } });
    let _ = RUNTIME.block_on(kubernetes.merge(id, &patch));
}

/// The environment's network, as a controller finds it.
pub(super) fn place(aws: &Aws) -> Option<Place> {
    let vpc = aws.ec2("DescribeVpcs", ENVIRONMENT, "vpcId").into_iter().next()?;
    let subnet = aws.ec2("DescribeSubnets", ENVIRONMENT, "subnetId").into_iter().next()?;
    Some(Place { vpc, subnet })
}

/// The group that nodes wear.
pub(super) fn node_group(aws: &Aws) -> String {
    let filter = [
        ("Filter.1.Name", "tag:karpenter.sh/discovery"),
        ("Filter.1.Value.1", ENVIRONMENT),
    ];
    planted::ec2(aws, "DescribeSecurityGroups", &filter, "groupId")
}

impl Change {
    fn make(self, kubernetes: &Kubernetes, aws: &Aws, done: &mut Done) {
        let owned = format!("kubernetes.io/cluster/{ENVIRONMENT}");
        let owned = (owned.as_str(), "owned");
        match self {
            Self::Balance(id) => {
                let Some(place) = place(aws) else {
                    return;
                };
                set_finalizers(kubernetes, &id, &json!([balancer_finalizer(&id.kind)]));
                let name = format!("k8s-{}", id.name);
                let stack = id.to_string();
                let tags = [
                    ("elbv2.k8s.aws/cluster", ENVIRONMENT),
                    (
                        if id.kind == "Ingress" {
                            "ingress.k8s.aws/stack"
                        } else {
                            "service.k8s.aws/stack"
                        },
                        stack.as_str(),
                    ),
                ];
                let group = planted::security_group(aws, &name, &tags, &place.vpc);
                planted::allow(aws, &node_group(aws), &group);
                let (balancer, targets) = planted::load_balancer(aws, &name, &tags, &place, &group);
                done.balancers.insert(stack, (balancer, targets, group));
            }
            Self::Unbalance(id) => {
                let stack = id.to_string();
                let Some((balancer, targets, group)) = done.balancers.get(&stack).cloned() else {
                    return;
                };
                if done.fails(&stack) {
                    return;
                }
                planted::delete_load_balancer(aws, &balancer);
                if planted::is_there(aws, &("target group".into(), targets.clone())) {
                    planted::delete_target_group(aws, &targets);
                }
                let rule = [
                    ("GroupId", node_group(aws)),
                    ("IpPermissions.1.IpProtocol", "tcp".into()),
                    ("IpPermissions.1.FromPort", "30000".into()),
                    ("IpPermissions.1.ToPort", "32767".into()),
                    ("IpPermissions.1.Groups.1.GroupId", group.clone()),
                ];
                let rule: Vec<(&str, &str)> = rule.iter().map(|(k, v)| (*k, v.as_str())).collect();
                planted::ec2(aws, "RevokeSecurityGroupIngress", &rule, "groupId");
                let form = [
                    ("Action", "DeleteSecurityGroup"),
                    ("Version", "2016-11-15"),
                    ("GroupId", &group),
                ];
                // Its interfaces are there for a while.
                if aws.try_query("ec2", &form).0 == 200 {
                    done.removed.push(stack);
                    set_finalizers(kubernetes, &id, &Value::Null);
                }
            }
            Self::Provision(id, claim) => {
                let class = claim["spec"]["storageClassName"].as_str().unwrap_or_default();
                let policy = match class {
                    "ebs" => "Delete",
                    "ebs-retain" => "Retain",
                    _ => return,
                };
                let volume = planted::volume(
                    aws,
                    &[
                        owned,
                        ("ebs.csi.aws.com/cluster", "true"),
                        ("kubernetes.io/created-for/pvc/name", &id.name),
                    ],
                );
                let object = json!({
                    "apiVersion": "v1", "kind": "PersistentVolume",
                    "metadata": {
                        "name": format!("pvc-{}", id.name), "finalizers": [PROVISIONER_FINALIZER],
                        "annotations": { "pv.kubernetes.io/provisioned-by": PROVISIONER },
                    },
                    "spec": {
                        "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" }, "storageClassName": class,
                        "persistentVolumeReclaimPolicy": policy,
                        "csi": { "driver": PROVISIONER, "volumeHandle": volume },
                        "claimRef": {
                            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": id.name, "namespace": id.namespace,
                            "uid": claim["metadata"]["uid"],
                        },
                    },
                });
                RUNTIME.block_on(kubernetes.apply(&object, PROVISIONER)).unwrap();
                done.volumes.insert(id.name, volume);
            }
            Self::Unprovision(id, volume) => {
                if done.fails(&id.to_string()) {
                    return;
                }
                planted::ec2(aws, "DeleteVolume", &[("VolumeId", &volume)], "return");
                done.removed.push(id.to_string());
                let _ = RUNTIME.block_on(kubernetes.delete(&id));
                set_finalizers(kubernetes, &id, &Value::Null);
            }
            Self::EndPool(id) => {
                if done.fails(&id.to_string()) {
                    return;
                }
                let filter = [
                    ("Filter.1.Name", "tag:karpenter.sh/nodepool"),
                    ("Filter.1.Value.1", &id.name),
                ];
                let instance = planted::ec2(aws, "DescribeInstances", &filter, "instanceId");
                planted::ec2(aws, "TerminateInstances", &[("InstanceId.1", &instance)], "instanceId");
                done.removed.push(id.to_string());
                set_finalizers(kubernetes, &id, &Value::Null);
            }
            Self::EndClass(id) => {
                if done.fails(&id.to_string()) {
                    return;
                }
                planted::delete_instance_profile(aws, &format!("{ENVIRONMENT}_live"));
                done.removed.push(id.to_string());
                set_finalizers(kubernetes, &id, &Value::Null);
            }
        }
    }
}
