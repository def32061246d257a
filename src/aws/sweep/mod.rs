//! What an environment has left on AWS: found by Describe calls and the tagging API, judged by what it carries, and removed
//! where that proves whose it is.

mod ec2;
mod elb;
mod iam;
mod logs;
mod owner;
mod resource;
mod tagged;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use futures_util::future::join_all;
use jiff::Timestamp;

use self::ec2::{Asked, PeerRule};
use self::owner::KEEP_TAG;
pub use self::owner::{Maker, Owner, Verdict};
pub use self::resource::{Leftover, Resource, ResourceKind, State};
use super::{Aws, AwsError};

/// How much of what is the environment's a sweep removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What keeps the network from being removed and no state knows of. EKS removes its own as long as the cluster stands.
    InTheWay,
    /// Everything that a sweep can remove; what Terraform and EKS made only once the cluster is gone, or they would make
    /// it again.
    Everything,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// Whose it is asked for.
    pub owner: Owner,
    /// Everything that carries a sign of a cluster or is in the environment's network, in the order of removal.
    pub resources: Vec<Resource>,
    /// Keys that AWS deletes later, with the day.
    pub scheduled: Vec<(String, Timestamp)>,
    /// What could not be looked for, and why.
    pub unseen: Vec<String>,
    rules: Vec<PeerRule>,
}

/// What came of trying to remove something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// It is removed, or was not there.
    Removed,
    /// It cannot be removed yet, for this reason.
    Waits(String),
    /// AWS refuses it, and waiting does not help.
    Refused(String),
}

/// What AWS says where something else has to go first, or where it is at work on it already ("Error codes", Amazon EC2 API
/// Reference, and those of the other services).
const WAITING: [&str; 11] = [
    "DependencyViolation",
    "DependencyThrottle",
    "DeleteConflict",
    "ConcurrentModification",
    "IncorrectState",
    "InvalidNetworkInterface.InUse",
    "InvalidParameterValue",
    "OperationAbortedException",
    "ResourceInUse",
    "VolumeInUse",
    "InvalidGroup.InUse",
];

fn attempt<T>(result: Result<T, AwsError>) -> Attempt {
    let error = match result {
        Ok(_) => return Attempt::Removed,
        Err(error) if error.is_missing() => return Attempt::Removed,
        Err(error) => error,
    };
    let code = error.code.as_deref().unwrap_or_default();
    let text = format!("{error}: {}", error.source);
    let server = code.starts_with('5') || code.contains("Throttl") || code == "RequestLimitExceeded";
    if server || error.code.is_none() || WAITING.iter().any(|known| code.starts_with(known)) {
        Attempt::Waits(text)
    } else {
        Attempt::Refused(text)
    }
}

impl Inventory {
    /// What was found of nothing yet.
    #[must_use]
    pub fn of(owner: Owner) -> Self {
        Self {
            owner,
            resources: Vec::new(),
            scheduled: Vec::new(),
            unseen: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Adds what a listing has found. One that is not allowed is told in the end, and does not keep the others from being
    /// looked at.
    fn add(&mut self, what: &str, found: Result<Vec<Resource>, AwsError>) -> Result<(), AwsError> {
        match found {
            Ok(found) => {
                self.resources.extend(found);
                Ok(())
            }
            Err(error) if error.is_denied() => {
                self.unseen.push(format!("{what}: {error}"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn has_cluster(&self) -> bool {
        self.resources.iter().any(|r| r.kind == ResourceKind::Cluster)
    }

    /// What is to be removed, in order.
    #[must_use]
    pub fn doomed(&self, scope: Scope) -> Vec<&Resource> {
        let has_cluster = self.has_cluster();
        let fits = |resource: &&Resource| {
            let Verdict::Ours(maker) = self.owner.judge(resource) else {
                return false;
            };
            resource.kind.is_swept()
                && match (scope, maker) {
                    (Scope::InTheWay, _) if !resource.kind.blocks_network() => false,
                    (Scope::InTheWay, Maker::Terraform) => false,
                    // The cluster's own claims decide what becomes of a volume, as long as it stands.
                    (_, Maker::Controller) => !(has_cluster && resource.kind == ResourceKind::Volume),
                    (_, Maker::Eks | Maker::Terraform) => !has_cluster,
                }
        };
        self.resources.iter().filter(fits).collect()
    }

    /// What is the environment's, in the order of removal.
    #[must_use]
    pub fn ours(&self) -> Vec<&Resource> {
        let ours = |resource: &&Resource| matches!(self.owner.judge(resource), Verdict::Ours(_));
        self.resources.iter().filter(ours).collect()
    }

    /// What is kept, and why.
    #[must_use]
    pub fn kept(&self) -> Vec<Leftover> {
        let region = &self.owner.region;
        let kept = |resource: &Resource| match self.owner.judge(resource) {
            Verdict::Kept(why) => Some(resource.left(region, why)),
            _ => None,
        };
        self.resources.iter().filter_map(kept).collect()
    }

    /// What may be the environment's or is in its way, and what keeps that from being proved.
    #[must_use]
    pub fn doubtful(&self) -> Vec<Leftover> {
        let region = &self.owner.region;
        let doubtful = |resource: &Resource| match self.owner.judge(resource) {
            Verdict::Doubtful(why) => Some(resource.left(region, why)),
            _ => None,
        };
        self.resources.iter().filter_map(doubtful).collect()
    }

    /// What keeps the network from being removed and is not provably the environment's.
    #[must_use]
    pub fn blockers(&self) -> Vec<Leftover> {
        let in_network = |r: &&Resource| {
            r.kind.blocks_network() && r.vpc.as_ref().is_some_and(|vpc| self.owner.networks.contains(vpc))
        };
        let blocking: Vec<&str> = self
            .resources
            .iter()
            .filter(in_network)
            .map(|r| r.id.as_str())
            .collect();
        let mut blockers = self.doubtful();
        blockers.retain(|left| blocking.contains(&left.id.as_str()));
        blockers
    }

    /// The rules that name the security group `peer`, of groups that no other cluster has a claim on.
    fn rules_about(&self, peer: &str) -> Vec<&PeerRule> {
        let free = |rule: &&PeerRule| {
            let group = self
                .resources
                .iter()
                .find(|r| r.kind == ResourceKind::SecurityGroup && r.id == rule.group);
            group.is_some_and(|group| matches!(self.owner.judge(group), Verdict::Ours(_)) || group.detail == "default")
        };
        self.rules
            .iter()
            .filter(|rule| rule.peer == peer)
            .filter(free)
            .collect()
    }
}

impl Aws {
    /// Everything on AWS that is the cluster's and the environment's of the name `cluster`, or might be.
    /// `cluster_network` is the VPC of the cluster, where EKS could be asked.
    ///
    /// # Errors
    /// A call failed. One that is not allowed is no error, but told in the inventory.
    pub async fn inventory(&self, cluster: &str, cluster_network: Option<&str>) -> Result<Inventory, AwsError> {
        let keys = owner::keys(cluster);
        let mut inventory = Inventory::of(Owner {
            name: cluster.to_owned(),
            region: self.region.to_string(),
            networks: BTreeSet::new(),
            cluster_network: cluster_network.map(str::to_owned),
        });
        let vpcs = self.ec2_answers(&ec2::VPCS, &Asked::Tagged(&keys)).await;
        let vpcs = vpcs.map(|answers| answers.iter().flat_map(|answer| ec2::VPCS.read(answer)).collect());
        inventory.add("VPCs", vpcs)?;
        inventory.owner.networks = inventory.ours().iter().map(|vpc| vpc.id.clone()).collect();
        let networks: Vec<String> = inventory.owner.networks.iter().cloned().collect();

        let (ec2, elb, profiles, roles, groups, eks, tagged) = tokio::join!(
            join_all(
                ec2::LISTINGS
                    .iter()
                    .map(|listing| self.ec2_list(listing, &keys, &networks))
            ),
            join_all(elb::LISTINGS.iter().map(|listing| self.elb_list(listing))),
            self.instance_profiles(cluster),
            self.roles_of(cluster),
            self.log_groups(cluster),
            self.cluster(cluster),
            self.tagged(cluster),
        );
        for (listing, found) in ec2::LISTINGS.iter().zip(ec2) {
            let found = found.map(|(resources, rules)| {
                inventory.rules.extend(rules);
                resources
            });
            inventory.add(&format!("{}s", listing.kind.name()), found)?;
        }
        for (listing, found) in elb::LISTINGS.iter().zip(elb) {
            inventory.add(&format!("{}s", listing.kind.name()), found)?;
        }
        inventory.add("instance profiles", profiles)?;
        inventory.add("iam roles", roles)?;
        inventory.add("log groups", groups)?;
        let eks = eks.map(|found| found.map(|_| Resource::new(ResourceKind::Cluster, cluster)));
        inventory.add("eks clusters", eks.map(|found| found.into_iter().collect()))?;
        match tagged {
            Ok(arns) => {
                for resource in arns.iter().filter_map(|arn| tagged::read(cluster, arn)) {
                    let deletion = match resource.kind {
                        ResourceKind::Key => self.key_deletion(&resource.id).await?,
                        _ => None,
                    };
                    match deletion {
                        Some(date) => inventory.scheduled.push((resource.id, date)),
                        None => inventory.resources.push(resource),
                    }
                }
            }
            Err(error) => inventory.add("resources by their tags", Err(error))?,
        }
        inventory
            .resources
            .sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        Ok(inventory)
    }

    /// Removes `resource`, which is one of `inventory`.
    pub async fn remove(&self, resource: &Resource, inventory: &Inventory) -> Attempt {
        match &resource.state {
            State::Going => return Attempt::Waits("it is shutting down".into()),
            State::Held(by) => return Attempt::Waits(by.clone()),
            State::Free => {}
        }
        let id = resource.id.as_str();
        match resource.kind {
            ResourceKind::Instance => self.terminate_instance(id).await,
            ResourceKind::ClassicLoadBalancer => self.delete_classic_load_balancer(id).await,
            ResourceKind::LoadBalancer => self.delete_load_balancer(id).await,
            ResourceKind::TargetGroup => self.delete_target_group(id).await,
            ResourceKind::NetworkInterface => self.delete_interface(id).await,
            ResourceKind::SecurityGroup => self.delete_security_group(id, inventory).await,
            ResourceKind::Volume => self.delete_volume(id).await,
            ResourceKind::LaunchTemplate => self.delete_launch_template(id).await,
            ResourceKind::InstanceProfile => self.delete_instance_profile(id, &resource.detail).await,
            ResourceKind::LogGroup => self.delete_log_group(id).await,
            _ => Attempt::Refused("only Terraform, or a person, removes such a thing".into()),
        }
    }
}
