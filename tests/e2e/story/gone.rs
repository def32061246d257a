//! What `down` leaves: nothing, on AWS, with the git host and in the cluster.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{PULL_SECRET, Story};
use crate::cluster::Kubectl;
use crate::project::{ENVIRONMENT, Finished};

impl Story<'_> {
    pub(super) fn nothing_is_left(&self, down: &Finished) {
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
        assert_eq!(aws.secrets(), [PULL_SECRET], "no secret but the user's own");
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
