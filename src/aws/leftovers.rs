use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::query::{Element, Service};
use super::{Aws, AwsError, Call};
use crate::model::Names;

const EC2: Service = Service {
    name: "ec2",
    version: "2016-11-15",
    global: false,
};
const IAM: Service = Service {
    name: "iam",
    version: "2010-05-08",
    global: true,
};

/// Something on AWS that belongs to an environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Leftover {
    /// What it is, such as `subnet`.
    pub kind: String,
    /// Its id, name or ARN.
    pub id: String,
}

struct Listing {
    kind: &'static str,
    call: Call,
    items: &'static [&'static str],
    id: &'static str,
    /// Path and values of the state in which it counts as gone.
    gone: Option<(&'static [&'static str], &'static [&'static str])>,
}

/// The EC2 resources that a cluster and its network leave behind, with where each answer holds them.
const EC2_LISTINGS: [Listing; 9] = [
    Listing {
        kind: "instance",
        call: Call::DescribeInstances,
        items: &[
            "DescribeInstancesResponse",
            "reservationSet",
            "item",
            "instancesSet",
            "item",
        ],
        id: "instanceId",
        gone: Some((&["instanceState", "name"], &["terminated", "shutting-down"])),
    },
    Listing {
        kind: "nat gateway",
        call: Call::DescribeNatGateways,
        items: &["DescribeNatGatewaysResponse", "natGatewaySet", "item"],
        id: "natGatewayId",
        gone: Some((&["state"], &["deleted", "deleting", "failed"])),
    },
    Listing {
        kind: "elastic ip",
        call: Call::DescribeAddresses,
        items: &["DescribeAddressesResponse", "addressesSet", "item"],
        id: "allocationId",
        gone: None,
    },
    Listing {
        kind: "network interface",
        call: Call::DescribeNetworkInterfaces,
        items: &["DescribeNetworkInterfacesResponse", "networkInterfaceSet", "item"],
        id: "networkInterfaceId",
        gone: None,
    },
    Listing {
        kind: "volume",
        call: Call::DescribeVolumes,
        items: &["DescribeVolumesResponse", "volumeSet", "item"],
        id: "volumeId",
        gone: None,
    },
    Listing {
        kind: "launch template",
        call: Call::DescribeLaunchTemplates,
        items: &["DescribeLaunchTemplatesResponse", "launchTemplates", "item"],
        id: "launchTemplateId",
        gone: None,
    },
    Listing {
        kind: "security group",
        call: Call::DescribeSecurityGroups,
        items: &["DescribeSecurityGroupsResponse", "securityGroupInfo", "item"],
        id: "groupId",
        gone: None,
    },
    Listing {
        kind: "subnet",
        call: Call::DescribeSubnets,
        items: &["DescribeSubnetsResponse", "subnetSet", "item"],
        id: "subnetId",
        gone: None,
    },
    Listing {
        kind: "vpc",
        call: Call::DescribeVpcs,
        items: &["DescribeVpcsResponse", "vpcSet", "item"],
        id: "vpcId",
        gone: None,
    },
];

impl Aws {
    /// What still carries the environment's tags or names, sorted; and apart from it the keys that AWS deletes later, with
    /// the day.
    ///
    /// The tagging API alone is not enough: it lags, and it does not know every resource.
    ///
    /// # Errors
    /// A call failed.
    pub async fn leftovers(&self, names: &Names) -> Result<(Vec<Leftover>, Vec<(String, Timestamp)>), AwsError> {
        let name = &names.cluster;
        let mut found = Vec::new();
        for listing in &EC2_LISTINGS {
            for filter in [
                ("tag:mfsre:environment".to_owned(), name.clone()),
                (format!("tag:kubernetes.io/cluster/{name}"), "owned".to_owned()),
            ] {
                let parameters = [
                    ("Filter.1.Name".to_owned(), filter.0),
                    ("Filter.1.Value.1".to_owned(), filter.1),
                ];
                let answer = self.query(&EC2, listing.call, &parameters).await?;
                found.extend(
                    answer
                        .all(listing.items)
                        .into_iter()
                        .filter(|item| !is_gone(item, listing))
                        .map(|item| Leftover {
                            kind: listing.kind.into(),
                            id: item.text_at(&[listing.id]).to_owned(),
                        }),
                );
            }
        }
        let roles = self.roles_of(name).await?;
        found.extend(roles.into_iter().map(|id| Leftover {
            kind: "iam role".into(),
            id,
        }));
        if self.cluster(name).await?.is_some() {
            found.push(Leftover {
                kind: "eks cluster".into(),
                id: name.clone(),
            });
        }
        let mut scheduled = Vec::new();
        for arn in self.tagged(name).await? {
            let service = arn.split(':').nth(2).unwrap_or_default();
            match service {
                // EC2 and IAM were asked themselves, and the secret was deleted by name.
                "ec2" | "iam" | "secretsmanager" => {}
                "kms" => match self.key_deletion(&arn).await? {
                    Some(date) => scheduled.push((arn, date)),
                    None => found.push(Leftover {
                        kind: "kms key".into(),
                        id: arn,
                    }),
                },
                "eks" if arn.ends_with(&format!(":cluster/{name}")) => {}
                _ => found.push(Leftover {
                    kind: service.to_owned(),
                    id: arn,
                }),
            }
        }
        found.retain(|l| !l.id.is_empty());
        found.sort();
        found.dedup();
        Ok((found, scheduled))
    }

    /// When a KMS key is going to be deleted.
    async fn key_deletion(&self, arn: &str) -> Result<Option<Timestamp>, AwsError> {
        let answer = self
            .json_call(
                "kms",
                "TrentService.DescribeKey",
                Call::DescribeKey,
                &json!({ "KeyId": arn }),
            )
            .await?;
        let date = answer["KeyMetadata"]["DeletionDate"].as_f64();
        #[allow(clippy::cast_possible_truncation, reason = "a date fits, and seconds are enough")]
        Ok(date.and_then(|seconds| Timestamp::from_second(seconds as i64).ok()))
    }

    async fn tagged(&self, name: &str) -> Result<Vec<String>, AwsError> {
        let mut arns = Vec::new();
        let mut token = String::new();
        loop {
            let body =
                json!({ "TagFilters": [{ "Key": "mfsre:environment", "Values": [name] }], "PaginationToken": token });
            let answer = self
                .json_call(
                    "tagging",
                    "ResourceGroupsTaggingAPI_20170126.GetResources",
                    Call::GetResources,
                    &body,
                )
                .await?;
            let page = answer["ResourceTagMappingList"].as_array().cloned().unwrap_or_default();
            arns.extend(page.iter().filter_map(|m| m["ResourceARN"].as_str().map(str::to_owned)));
            token = answer["PaginationToken"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                return Ok(arns);
            }
        }
    }

    /// Roles whose names the blueprint would give.
    async fn roles_of(&self, name: &str) -> Result<Vec<String>, AwsError> {
        let suffixes = [
            "cluster",
            "node",
            "karpenter-controller",
            "karpenter-node",
            "ebs-csi",
            "vpc-cni",
            "flow-logs",
        ];
        let ours: Vec<String> = suffixes.iter().map(|s| format!("{name}-{s}")).collect();
        let mut roles = Vec::new();
        let mut marker = String::new();
        loop {
            let parameters: Vec<(String, String)> = if marker.is_empty() {
                Vec::new()
            } else {
                vec![("Marker".into(), marker)]
            };
            let answer = self.query(&IAM, Call::ListRoles, &parameters).await?;
            let members = answer.all(&["ListRolesResponse", "ListRolesResult", "Roles", "member"]);
            roles.extend(
                members
                    .iter()
                    .map(|m| m.text_at(&["RoleName"]).to_owned())
                    .filter(|r| ours.contains(r)),
            );
            let result = ["ListRolesResponse", "ListRolesResult"];
            marker = answer.text_at(&[result[0], result[1], "Marker"]).to_owned();
            if answer.text_at(&[result[0], result[1], "IsTruncated"]) != "true" || marker.is_empty() {
                return Ok(roles);
            }
        }
    }
}

fn is_gone(item: &Element, listing: &Listing) -> bool {
    listing
        .gone
        .is_some_and(|(path, states)| states.contains(&item.text_at(path)))
}
