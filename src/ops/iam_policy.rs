//! The IAM policies of an environment: what mfsre needs for itself, and what Terraform needs for the root module.

mod terraform;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::aws::{Call, Subject};
use crate::config::{Environment, Project};
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

    /// One document with the statements of both.
    #[must_use]
    pub fn together(&self) -> Policy {
        let statements = self.mfsre.statements.iter().chain(&self.terraform.statements);
        Policy::new(statements.cloned().collect())
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
        .filter_map(|(subject, mut actions)| {
            actions.sort();
            actions.dedup();
            statement(environment, subject, actions)
        })
        .collect()
}

fn statement(environment: &Environment, subject: Subject, actions: Vec<String>) -> Option<Statement> {
    let arns = Arns(environment);
    let names = &environment.names;
    let admin_secret = arns.secret(&names.argocd_secret);
    let allow = |sid: &str, resources: Vec<String>| Statement::new(sid, actions.clone(), resources);
    Some(match subject {
        Subject::Caller => return None,
        Subject::Cluster => allow(
            "MfsreCluster",
            vec![arns.regional("eks", &format!("cluster/{}", names.cluster))],
        ),
        Subject::AdminSecret => allow("MfsreAdminPassword", vec![admin_secret]),
        Subject::ReadableSecrets => {
            let registry = environment.images.pull_secret.as_deref().map(|name| arns.secret(name));
            allow(
                "MfsreReadSecrets",
                std::iter::once(admin_secret).chain(registry).collect(),
            )
        }
        Subject::DeployKey => {
            let parameters = [&names.deploy_key, &names.deploy_key_public, &names.deploy_key_pending];
            let arn = |name: &&String| arns.regional("ssm", &format!("parameter{name}"));
            allow("MfsreDeployKey", parameters.iter().map(arn).collect())
        }
        Subject::Keys => allow("MfsreKeys", vec![arns.regional("kms", "key/*")])
            .only_if(json!({ "StringEquals": { "aws:ResourceTag/mfsre:environment": names.cluster } })),
        Subject::Account => allow("MfsreLook", vec!["*".into()]),
    })
}
