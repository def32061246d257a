//! EC2: instances, what they hold, and the network.

use std::collections::BTreeMap;

use super::resource::{Resource, ResourceKind, State};
use super::{Attempt, Inventory, attempt};
use crate::aws::query::{Element, Service};
use crate::aws::{Aws, AwsError};

const EC2: Service = Service {
    name: "ec2",
    version: "2016-11-15",
    global: false,
};

/// How a kind is listed, and where an answer holds what.
pub(super) struct Listing {
    pub(super) kind: ResourceKind,
    pub(super) call: &'static str,
    items: &'static [&'static str],
    id: &'static [&'static str],
    detail: &'static [&'static str],
    vpc: &'static [&'static str],
    state: &'static [&'static str],
    /// States in which it counts as gone.
    gone: &'static [&'static str],
    /// Whether everything of the kind in the environment's network is looked at, whatever it carries.
    whole_network: bool,
}

/// No such path in an answer.
const NONE: &[&str] = &["-"];

pub(super) const VPCS: Listing = Listing {
    kind: ResourceKind::Vpc,
    call: "ec2:DescribeVpcs",
    items: &["vpcSet", "item"],
    id: &["vpcId"],
    detail: NONE,
    vpc: NONE,
    state: NONE,
    gone: &[],
    whole_network: false,
};

pub(super) const LISTINGS: [Listing; 11] = [
    Listing {
        kind: ResourceKind::Instance,
        call: "ec2:DescribeInstances",
        items: &["reservationSet", "item", "instancesSet", "item"],
        id: &["instanceId"],
        vpc: &["vpcId"],
        state: &["instanceState", "name"],
        gone: &["terminated"],
        ..VPCS
    },
    Listing {
        kind: ResourceKind::NatGateway,
        call: "ec2:DescribeNatGateways",
        items: &["natGatewaySet", "item"],
        id: &["natGatewayId"],
        vpc: &["vpcId"],
        state: &["state"],
        gone: &["deleted", "deleting", "failed"],
        ..VPCS
    },
    Listing {
        kind: ResourceKind::ElasticIp,
        call: "ec2:DescribeAddresses",
        items: &["addressesSet", "item"],
        id: &["allocationId"],
        detail: &["publicIp"],
        ..VPCS
    },
    Listing {
        kind: ResourceKind::VpcEndpoint,
        call: "ec2:DescribeVpcEndpoints",
        items: &["vpcEndpointSet", "item"],
        id: &["vpcEndpointId"],
        detail: &["serviceName"],
        vpc: &["vpcId"],
        state: &["state"],
        gone: &["deleted", "deleting"],
        whole_network: true,
    },
    Listing {
        kind: ResourceKind::NetworkInterface,
        call: "ec2:DescribeNetworkInterfaces",
        items: &["networkInterfaceSet", "item"],
        id: &["networkInterfaceId"],
        detail: &["description"],
        vpc: &["vpcId"],
        state: &["status"],
        whole_network: true,
        ..VPCS
    },
    Listing {
        kind: ResourceKind::SecurityGroup,
        call: "ec2:DescribeSecurityGroups",
        items: &["securityGroupInfo", "item"],
        id: &["groupId"],
        detail: &["groupName"],
        vpc: &["vpcId"],
        whole_network: true,
        ..VPCS
    },
    Listing {
        kind: ResourceKind::Volume,
        call: "ec2:DescribeVolumes",
        items: &["volumeSet", "item"],
        id: &["volumeId"],
        state: &["status"],
        gone: &["deleting", "deleted"],
        ..VPCS
    },
    Listing {
        kind: ResourceKind::LaunchTemplate,
        call: "ec2:DescribeLaunchTemplates",
        items: &["launchTemplates", "item"],
        id: &["launchTemplateId"],
        detail: &["launchTemplateName"],
        ..VPCS
    },
    Listing {
        kind: ResourceKind::InternetGateway,
        call: "ec2:DescribeInternetGateways",
        items: &["internetGatewaySet", "item"],
        id: &["internetGatewayId"],
        vpc: &["attachmentSet", "item", "vpcId"],
        ..VPCS
    },
    Listing {
        kind: ResourceKind::Subnet,
        call: "ec2:DescribeSubnets",
        items: &["subnetSet", "item"],
        id: &["subnetId"],
        vpc: &["vpcId"],
        whole_network: true,
        ..VPCS
    },
    Listing {
        kind: ResourceKind::RouteTable,
        call: "ec2:DescribeRouteTables",
        items: &["routeTableSet", "item"],
        id: &["routeTableId"],
        vpc: &["vpcId"],
        ..VPCS
    },
];

/// A rule of the security group `group` that lets another group, `peer`, in or out. As long as it stands, `peer` cannot be
/// removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerRule {
    pub(super) group: String,
    pub(super) peer: String,
    pub(super) egress: bool,
    protocol: String,
    ports: Option<(String, String)>,
}

impl Listing {
    /// The resources in an answer.
    pub(super) fn read(&self, answer: &Element) -> Vec<Resource> {
        let items = answer.root().all(self.items).into_iter();
        items
            .filter(|item| !self.gone.contains(&item.text_at(self.state)))
            .map(|item| self.resource(item))
            .filter(|resource| !resource.id.is_empty())
            .collect()
    }

    fn resource(&self, item: &Element) -> Resource {
        let text = |path| item.text_at(path).to_owned();
        let state = text(self.state);
        let holder = item.text_at(&["attachment", "instanceId"]);
        let attached = item.text_at(&["attachmentSet", "item", "instanceId"]);
        Resource {
            detail: text(self.detail),
            tags: tags(item),
            vpc: Some(text(self.vpc)).filter(|vpc| !vpc.is_empty()),
            state: match (self.kind, state.as_str()) {
                (ResourceKind::Instance, "shutting-down") => State::Going,
                (ResourceKind::NetworkInterface, "in-use" | "attaching" | "detaching") => {
                    State::Held(if holder.is_empty() {
                        format!("it is in use by {}", text(self.detail))
                    } else {
                        format!("it is attached to {holder}")
                    })
                }
                (ResourceKind::Volume, "in-use") => State::Held(format!("it is attached to {attached}")),
                _ => State::Free,
            },
            managed_by_service: item.text_at(&["requesterManaged"]) == "true",
            ..Resource::new(self.kind, text(self.id))
        }
    }
}

fn tags(item: &Element) -> BTreeMap<String, String> {
    let tags = item.all(&["tagSet", "item"]).into_iter();
    tags.map(|tag| (tag.text_at(&["key"]).to_owned(), tag.text_at(&["value"]).to_owned()))
        .collect()
}

/// The rules in an answer of DescribeSecurityGroups that name another group.
pub(super) fn peer_rules(answer: &Element) -> Vec<PeerRule> {
    let mut rules = Vec::new();
    for group in answer.root().all(&["securityGroupInfo", "item"]) {
        for (set, egress) in [("ipPermissions", false), ("ipPermissionsEgress", true)] {
            for permission in group.all(&[set, "item"]) {
                let text = |name| permission.text_at(&[name]).to_owned();
                let ports = Some((text("fromPort"), text("toPort"))).filter(|(from, _)| !from.is_empty());
                for peer in permission.all(&["groups", "item"]) {
                    rules.push(PeerRule {
                        group: group.text_at(&["groupId"]).to_owned(),
                        peer: peer.text_at(&["groupId"]).to_owned(),
                        egress,
                        protocol: text("ipProtocol"),
                        ports: ports.clone(),
                    });
                }
            }
        }
    }
    rules.retain(|rule| rule.group != rule.peer);
    rules
}

/// What is asked for: everything that carries one of these tag keys, or everything in these networks.
pub(super) enum Asked<'a> {
    Tagged(&'a [String]),
    Within(&'a [String]),
}

impl Aws {
    /// Every page of a listing.
    pub(super) async fn ec2_answers(&self, listing: &Listing, asked: &Asked<'_>) -> Result<Vec<Element>, AwsError> {
        let (filter, values) = match asked {
            Asked::Tagged(keys) => ("tag-key", *keys),
            Asked::Within(networks) => ("vpc-id", *networks),
        };
        let mut parameters = vec![("Filter.1.Name".to_owned(), filter.to_owned())];
        for (i, value) in values.iter().enumerate() {
            parameters.push((format!("Filter.1.Value.{}", i + 1), value.clone()));
        }
        let mut answers = Vec::new();
        loop {
            let answer = self.query(&EC2, listing.call, &parameters).await?;
            let token = answer.root().text_at(&["nextToken"]).to_owned();
            answers.push(answer);
            if token.is_empty() {
                return Ok(answers);
            }
            parameters.retain(|(name, _)| name != "NextToken");
            parameters.push(("NextToken".to_owned(), token));
        }
    }

    /// What a listing finds by the tags, and where it is asked to, in the networks.
    pub(super) async fn ec2_list(
        &self,
        listing: &Listing,
        keys: &[String],
        networks: &[String],
    ) -> Result<(Vec<Resource>, Vec<PeerRule>), AwsError> {
        let mut answers = self.ec2_answers(listing, &Asked::Tagged(keys)).await?;
        if listing.whole_network && !networks.is_empty() {
            answers.extend(self.ec2_answers(listing, &Asked::Within(networks)).await?);
        }
        let mut found: Vec<Resource> = Vec::new();
        for resource in answers.iter().flat_map(|answer| listing.read(answer)) {
            if !found.iter().any(|known| known.id == resource.id) {
                found.push(resource);
            }
        }
        let mut rules: Vec<PeerRule> = Vec::new();
        if listing.kind == ResourceKind::SecurityGroup {
            for rule in answers.iter().flat_map(peer_rules) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
        Ok((found, rules))
    }

    pub(super) async fn terminate_instance(&self, id: &str) -> Attempt {
        match attempt(self.ec2_call("ec2:TerminateInstances", "InstanceId.1", id).await) {
            // Its address and its interfaces are held until it has ended.
            Attempt::Removed => Attempt::Waits("it is shutting down".into()),
            other => other,
        }
    }

    pub(super) async fn delete_interface(&self, id: &str) -> Attempt {
        attempt(
            self.ec2_call("ec2:DeleteNetworkInterface", "NetworkInterfaceId", id)
                .await,
        )
    }

    pub(super) async fn delete_volume(&self, id: &str) -> Attempt {
        attempt(self.ec2_call("ec2:DeleteVolume", "VolumeId", id).await)
    }

    pub(super) async fn delete_launch_template(&self, id: &str) -> Attempt {
        attempt(self.ec2_call("ec2:DeleteLaunchTemplate", "LaunchTemplateId", id).await)
    }

    /// Deletes a security group. Where it is refused because rules of other groups name it, these rules go first: they
    /// are about nothing once the group is gone.
    pub(super) async fn delete_security_group(&self, id: &str, inventory: &Inventory) -> Attempt {
        const CALL: &str = "ec2:DeleteSecurityGroup";
        let refused = match attempt(self.ec2_call(CALL, "GroupId", id).await) {
            Attempt::Waits(why) => why,
            other => return other,
        };
        let rules = inventory.rules_about(id);
        if rules.is_empty() {
            return Attempt::Waits(refused);
        }
        for rule in rules {
            match attempt(self.revoke(rule).await) {
                Attempt::Removed => {}
                other => return other,
            }
        }
        attempt(self.ec2_call(CALL, "GroupId", id).await)
    }

    async fn revoke(&self, rule: &PeerRule) -> Result<Element, AwsError> {
        let call = if rule.egress {
            "ec2:RevokeSecurityGroupEgress"
        } else {
            "ec2:RevokeSecurityGroupIngress"
        };
        let mut parameters = vec![
            ("GroupId", rule.group.as_str()),
            ("IpPermissions.1.IpProtocol", &rule.protocol),
            ("IpPermissions.1.Groups.1.GroupId", &rule.peer),
        ];
        if let Some((from, to)) = &rule.ports {
            parameters.push(("IpPermissions.1.FromPort", from));
            parameters.push(("IpPermissions.1.ToPort", to));
        }
        self.query(&EC2, call, &owned(&parameters)).await
    }

    /// Marks a volume as one that a sweep leaves alone, with the reason.
    ///
    /// # Errors
    /// The call failed. A volume that is gone is no error.
    pub async fn keep_volume(&self, id: &str, reason: &str) -> Result<(), AwsError> {
        let parameters = [
            ("ResourceId.1", id),
            ("Tag.1.Key", super::KEEP_TAG),
            ("Tag.1.Value", reason),
        ];
        match self.query(&EC2, "ec2:CreateTags", &owned(&parameters)).await {
            Err(error) if !error.is("InvalidVolume.NotFound") => Err(error),
            _ => Ok(()),
        }
    }

    async fn ec2_call(&self, call: &'static str, parameter: &str, id: &str) -> Result<Element, AwsError> {
        self.query(&EC2, call, &owned(&[(parameter, id)])).await
    }
}

pub(super) fn owned(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
    parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
