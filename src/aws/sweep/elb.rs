//! Elastic Load Balancing, both generations: one service with two API versions.

use std::collections::BTreeMap;

use super::ec2::owned;
use super::resource::{Resource, ResourceKind};
use super::{Attempt, attempt};
use crate::aws::query::{Element, Service};
use crate::aws::{Aws, AwsError};

const fn service(version: &'static str) -> Service {
    Service {
        name: "elasticloadbalancing",
        version,
        global: false,
    }
}

const CLASSIC: Service = service("2012-06-01");
const ELBV2: Service = service("2015-12-01");

/// Most that DescribeTags takes, of either version.
const TAGGED_AT_ONCE: usize = 20;
/// Times that a listing begins anew because something went between two calls.
const ATTEMPTS: u32 = 5;

/// How a kind is listed, and where an answer holds what.
pub(super) struct Listing {
    pub(super) kind: ResourceKind,
    service: &'static Service,
    pub(super) call: &'static str,
    items: &'static [&'static str],
    id: &'static str,
    detail: &'static str,
    vpc: &'static str,
    /// Parameter and element of DescribeTags.
    tagged: (&'static str, &'static str),
}

pub(super) const LISTINGS: [Listing; 3] = [
    Listing {
        kind: ResourceKind::ClassicLoadBalancer,
        service: &CLASSIC,
        call: "elasticloadbalancing:DescribeLoadBalancers",
        items: &["DescribeLoadBalancersResult", "LoadBalancerDescriptions", "member"],
        id: "LoadBalancerName",
        detail: "DNSName",
        vpc: "VPCId",
        tagged: ("LoadBalancerNames", "LoadBalancerName"),
    },
    Listing {
        kind: ResourceKind::LoadBalancer,
        service: &ELBV2,
        call: "elasticloadbalancing:DescribeLoadBalancers",
        items: &["DescribeLoadBalancersResult", "LoadBalancers", "member"],
        id: "LoadBalancerArn",
        detail: "LoadBalancerName",
        vpc: "VpcId",
        tagged: ("ResourceArns", "ResourceArn"),
    },
    Listing {
        kind: ResourceKind::TargetGroup,
        service: &ELBV2,
        call: "elasticloadbalancing:DescribeTargetGroups",
        items: &["DescribeTargetGroupsResult", "TargetGroups", "member"],
        id: "TargetGroupArn",
        detail: "TargetGroupName",
        vpc: "VpcId",
        tagged: ("ResourceArns", "ResourceArn"),
    },
];

impl Listing {
    /// The resources in an answer, without their tags.
    pub(super) fn read(&self, answer: &Element) -> Vec<Resource> {
        let items = answer.root().all(self.items).into_iter();
        items
            .map(|item| Resource {
                detail: item.text_at(&[self.detail]).to_owned(),
                vpc: Some(item.text_at(&[self.vpc]).to_owned()).filter(|vpc| !vpc.is_empty()),
                ..Resource::new(self.kind, item.text_at(&[self.id]))
            })
            .collect()
    }

    /// The tags in an answer of DescribeTags, by id.
    pub(super) fn read_tags(&self, answer: &Element) -> BTreeMap<String, BTreeMap<String, String>> {
        let items = answer
            .root()
            .all(&["DescribeTagsResult", "TagDescriptions", "member"])
            .into_iter();
        items
            .map(|item| {
                let tags = item.all(&["Tags", "member"]).into_iter();
                let tags = tags.map(|tag| (tag.text_at(&["Key"]).to_owned(), tag.text_at(&["Value"]).to_owned()));
                (item.text_at(&[self.tagged.1]).to_owned(), tags.collect())
            })
            .collect()
    }
}

impl Aws {
    /// What there is of a kind, with its tags.
    pub(super) async fn elb_list(&self, listing: &Listing) -> Result<Vec<Resource>, AwsError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.elb_list_once(listing).await {
                // One was removed between the two calls.
                Err(error) if error.is_missing() && attempts < ATTEMPTS => {}
                result => return result,
            }
        }
    }

    async fn elb_list_once(&self, listing: &Listing) -> Result<Vec<Resource>, AwsError> {
        let mut found = Vec::new();
        let mut marker = String::new();
        loop {
            let parameters = owned(&[("Marker", &marker)]);
            let parameters = if marker.is_empty() { &[][..] } else { &parameters };
            let answer = self.query(listing.service, listing.call, parameters).await?;
            found.extend(listing.read(&answer));
            let result = answer.root().text_at(&[listing.items[0], "NextMarker"]);
            if result.is_empty() {
                break;
            }
            marker = result.to_owned();
        }
        for chunk in found.chunks_mut(TAGGED_AT_ONCE) {
            let parameters: Vec<(String, String)> = chunk
                .iter()
                .enumerate()
                .map(|(i, resource)| (format!("{}.member.{}", listing.tagged.0, i + 1), resource.id.clone()))
                .collect();
            let answer = self
                .query(listing.service, "elasticloadbalancing:DescribeTags", &parameters)
                .await?;
            let mut tags = listing.read_tags(&answer);
            for resource in chunk {
                resource.tags = tags.remove(&resource.id).unwrap_or_default();
            }
        }
        Ok(found)
    }

    pub(super) async fn delete_classic_load_balancer(&self, name: &str) -> Attempt {
        let parameters = owned(&[("LoadBalancerName", name)]);
        attempt(
            self.query(&CLASSIC, "elasticloadbalancing:DeleteLoadBalancer", &parameters)
                .await,
        )
    }

    pub(super) async fn delete_load_balancer(&self, arn: &str) -> Attempt {
        let parameters = owned(&[("LoadBalancerArn", arn)]);
        attempt(
            self.query(&ELBV2, "elasticloadbalancing:DeleteLoadBalancer", &parameters)
                .await,
        )
    }

    pub(super) async fn delete_target_group(&self, arn: &str) -> Attempt {
        let parameters = owned(&[("TargetGroupArn", arn)]);
        attempt(
            self.query(&ELBV2, "elasticloadbalancing:DeleteTargetGroup", &parameters)
                .await,
        )
    }
}
