//! The IAM policies of an environment: what mfsre needs for itself, and what Terraform needs for the root module.

mod terraform;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::aws::{Call, Subject};
use crate::config::{Backend, Environment, Project};
use crate::error::Result;
use crate::render::{Tree, render, terraform_contents};

/// The policies of `environment` as it is rendered in `project`.
///
/// # Errors
/// A template is wrong.
pub fn iam_policies(project: &Project, environment: &Environment) -> Result<IamPolicies> {
    // Argo CD's manifest is no part of the root module.
    let tree = render(environment, super::render::overrides(project).as_deref(), Some(&[]))?;
    Ok(IamPolicies::of(environment, &tree))
}

/// The policies of one environment.
#[derive(Debug, Serialize)]
pub struct IamPolicies {
    /// For the calls that mfsre makes itself.
    pub mfsre: Policy,
    /// For the calls that Terraform makes for the resources of the root module.
    pub terraform: Policy,
    /// Types of resources, and modules from elsewhere, for which nobody has told mfsre what Terraform calls: what they need
    /// has to be added.
    pub unknown: BTreeSet<String>,
}

/// An IAM policy document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Version of the language, which is always the same.
    #[serde(rename = "Version")]
    version: &'static str,
    /// What it allows.
    #[serde(rename = "Statement")]
    pub statements: Vec<Statement>,
}

/// A statement that allows some actions on some resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    /// Its name.
    pub sid: String,
    effect: &'static str,
    /// Such as `eks:DescribeCluster`.
    pub action: Vec<String>,
    /// ARNs, with wildcards.
    pub resource: Vec<String>,
    /// Further conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Value>,
}

impl IamPolicies {
    /// The policies of `environment`, which was rendered to `tree`.
    #[must_use]
    pub fn of(environment: &Environment, tree: &Tree) -> Self {
        let contents = terraform_contents(tree);
        let mut unknown = contents.foreign_modules;
        unknown.extend(contents.types.iter().filter(|kind| !terraform::knows(kind)).cloned());
        Self {
            mfsre: Policy::new(own(environment)),
            terraform: Policy::new(terraform::statements(environment, &contents.types)),
            unknown,
        }
    }
}

impl Policy {
    fn new(statements: Vec<Statement>) -> Self {
        Self {
            version: "2012-10-17",
            statements,
        }
    }
}

impl Statement {
    fn new(sid: impl Into<String>, action: Vec<String>, resource: Vec<String>) -> Self {
        Self {
            sid: sid.into(),
            effect: "Allow",
            action,
            resource,
            condition: None,
        }
    }

    fn only_if(mut self, condition: Value) -> Self {
        self.condition = Some(condition);
        self
    }
}

/// ARNs of an environment. The account is left open: a policy of an identity never reaches into another account by itself,
/// and so the document can be made without asking AWS.
struct Arns<'a>(&'a Environment);

impl Arns<'_> {
    fn regional(&self, service: &str, resource: &str) -> String {
        let region = &self.0.region;
        format!("arn:{}:{service}:{region}:*:{resource}", region.partition())
    }

    fn global(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}::*:{resource}", self.0.region.partition())
    }

    /// A secret's ARN ends in a hyphen and six characters that Secrets Manager chooses.
    fn secret(&self, name: &str) -> String {
        if name.starts_with("arn:") {
            return name.to_owned();
        }
        self.regional("secretsmanager", &format!("secret:{name}-??????"))
    }
}

/// One statement for each kind of thing that calls are about.
fn own(environment: &Environment) -> Vec<Statement> {
    let mut actions: BTreeMap<Subject, Vec<String>> = BTreeMap::new();
    for call in Call::ALL {
        let of_call = call.actions().into_iter().map(str::to_owned);
        actions.entry(call.subject()).or_default().extend(of_call);
    }
    actions
        .into_iter()
        .flat_map(|(subject, mut actions)| {
            actions.sort();
            actions.dedup();
            statements(environment, subject, &actions)
        })
        .collect()
}

fn statements(environment: &Environment, subject: Subject, actions: &[String]) -> Vec<Statement> {
    let arns = Arns(environment);
    let names = &environment.names;
    let cluster = names.cluster.as_str();
    let admin_secret = arns.secret(&names.argocd_secret);
    let allow = |sid: &str, resources: Vec<String>| Statement::new(sid, actions.to_vec(), resources);
    let tagged = |key: &str, value: &str| json!({ "StringEquals": { format!("aws:ResourceTag/{key}"): value } });
    let cluster_tag = format!("kubernetes.io/cluster/{cluster}");
    let bucket = match &environment.backend {
        Backend::S3 { bucket, .. } => Some(bucket.as_str()),
        _ => None,
    };
    match subject {
        Subject::Caller => Vec::new(),
        Subject::Cluster => vec![allow(
            "MfsreCluster",
            vec![arns.regional("eks", &format!("cluster/{cluster}"))],
        )],
        Subject::AdminSecret => vec![allow("MfsreAdminPassword", vec![admin_secret])],
        Subject::ReadableSecrets => {
            let registry = environment.images.pull_secret.as_deref().map(|name| arns.secret(name));
            vec![allow(
                "MfsreReadSecrets",
                std::iter::once(admin_secret).chain(registry).collect(),
            )]
        }
        Subject::Parameters => {
            let parameters = [
                &names.deploy_key,
                &names.deploy_key_public,
                &names.deploy_key_pending,
                &names.lock,
            ];
            let arn = |name: &&String| arns.regional("ssm", &format!("parameter{name}"));
            vec![allow("MfsreParameters", parameters.iter().map(arn).collect())]
        }
        Subject::Keys => {
            let keys = || vec![arns.regional("kms", "key/*")];
            let ours = allow("MfsreKeys", keys()).only_if(tagged("mfsre:environment", cluster));
            // The key of a state's bucket may be anybody's in the account.
            let states = bucket.map(|_| allow("MfsreStateKeys", keys()));
            std::iter::once(ours).chain(states).collect()
        }
        // What is removed is proved by more than the tag; without one of these nothing is, and IAM has no "or".
        Subject::Orphans => [
            ("MfsreOrphansOfCluster", cluster_tag.as_str(), "owned"),
            ("MfsreOrphansOfLoadBalancers", "elbv2.k8s.aws/cluster", cluster),
            ("MfsreOrphansOfEnvironment", "mfsre:environment", cluster),
        ]
        .map(|(sid, key, value)| {
            let resources = vec![arns.regional("ec2", "*"), arns.regional("elasticloadbalancing", "*")];
            allow(sid, resources).only_if(tagged(key, value))
        })
        .into(),
        // Those that the VPC CNI has left carry a name, which IAM cannot ask for.
        Subject::Interfaces => vec![allow(
            "MfsreInterfaces",
            vec![arns.regional("ec2", "network-interface/*")],
        )],
        Subject::InstanceProfiles => vec![
            allow("MfsreInstanceProfiles", vec![arns.global("iam", "instance-profile/*")])
                .only_if(tagged(&cluster_tag, "owned")),
        ],
        Subject::LogGroups => {
            let groups = ["eks", "vpc", "containerinsights"];
            let arn = |kind: &str| arns.regional("logs", &format!("log-group:/aws/{kind}/{cluster}/*"));
            vec![allow("MfsreLogGroups", groups.map(arn).into())]
        }
        Subject::StateBucket => bucket
            .map(|bucket| {
                let arn = format!("arn:{}:s3:::{bucket}", environment.region.partition());
                allow("MfsreStateBucket", vec![arn])
            })
            .into_iter()
            .collect(),
        Subject::StateKeys => bucket
            .map(|bucket| {
                allow("MfsreMakeStateKey", vec!["*".into()]).only_if(json!({ "StringEqualsIfExists": {
                    "aws:RequestTag/mfsre:state-bucket": bucket,
                    "aws:ResourceTag/mfsre:state-bucket": bucket,
                } }))
            })
            .into_iter()
            .collect(),
        Subject::Account => vec![allow("MfsreLook", vec!["*".into()])],
    }
}
