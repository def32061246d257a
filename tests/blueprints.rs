//! The blueprints: one contract for all of them, and what is known of the modules and the provider that they use.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test crate uses some of the helpers")]
mod common;

/// The same reading of Terraform code by which `cargo xtask blueprints` records the facts.
#[path = "../xtask/src/blueprints/code.rs"]
#[allow(dead_code, reason = "the chore uses more of it")]
mod code;
#[path = "../xtask/src/blueprints/facts.rs"]
#[allow(dead_code, reason = "the chore uses more of it")]
mod facts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use code::{Code, Type, label};
use common::{Project, REPOSITORY};
use facts::{Module, Modules, Provider, provider_uses};
use hcl_edit::structure::Body;
use mfsre::config::Environment;
use mfsre::model::contract::{OUTPUTS, OutputKind};
use mfsre::render::{RegistryModule, Tree, check, registry_modules, render, terraform_variables};
use serde_json::Value;

/// Every kind of blueprint there is.
const BLUEPRINTS: [&str; 3] = ["built-in", "eks-blueprints", "blueprints/own"];

/// A project with an environment `demo` on the blueprint; the example of one of one's own lies in it.
fn project(blueprint: &str, more: &str) -> Project {
    let project = Project::empty();
    project.write(
        "environments/demo.yaml",
        format!("name: demo\n{REPOSITORY}blueprint: {blueprint}\n{more}"),
    );
    let example = fixture();
    for file in common::files_below(&example) {
        project.write(
            &format!("blueprints/own/{file}"),
            std::fs::read(example.join(&file)).unwrap(),
        );
    }
    project
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/blueprint")
}

fn environment(project: &Project) -> Environment {
    let found = mfsre::config::Project::find(Some(&project.root())).unwrap();
    match found.load("demo", common::TODAY) {
        Ok(loaded) => loaded.environment,
        Err(error) => panic!("{}", mfsre::error::Error::from(error).render(false)),
    }
}

fn rendered(blueprint: &str) -> (Project, Environment, Tree) {
    let project = project(blueprint, "");
    let environment = environment(&project);
    let tree = render(&environment, None, None).unwrap();
    (project, environment, tree)
}

/// The text of the root module's files.
fn root(tree: &Tree) -> BTreeMap<String, String> {
    tree.files()
        .filter(|(path, _)| path.parent() == Some(Path::new("infra/demo")))
        .map(|(path, contents)| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, String::from_utf8(contents.to_vec()).unwrap())
        })
        .collect()
}

fn terraform(tree: &Tree) -> Vec<String> {
    root(tree)
        .into_iter()
        .filter(|(name, _)| name.ends_with(".tf"))
        .map(|(_, text)| text)
        .collect()
}

fn code(texts: &[String]) -> Code {
    Code::of(texts.iter().map(String::as_str)).unwrap()
}

fn recorded<T: serde::de::DeserializeOwned>(file: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/blueprints")
        .join(file);
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

// ---------------------------------------------------------------------------------------------------------------------
// Conformance: the same for every blueprint

#[test]
fn every_blueprint_keeps_the_contract() {
    for blueprint in BLUEPRINTS {
        let (_project, environment, tree) = rendered(blueprint);
        let found = check(&tree, &environment);
        let shown: String = found.iter().map(|d| d.render(false)).collect();
        assert!(found.is_empty(), "{blueprint}\n{shown}");

        let code = code(&terraform(&tree));
        let declared: BTreeSet<&str> = code.blocks("output").map(|b| label(b, 0)).collect();
        let contract: BTreeSet<&str> = OUTPUTS.iter().map(|o| o.name).collect();
        assert_eq!(
            declared, contract,
            "{blueprint}: the outputs are the contract's, no more and no less"
        );
        for output in code.blocks("output") {
            assert!(
                output.body.has_attribute("description"),
                "{blueprint}: {} is described",
                label(output, 0)
            );
            assert!(
                !output.body.has_attribute("sensitive"),
                "{blueprint}: no output is a secret"
            );
        }
    }
}

#[test]
fn the_documentation_has_the_contract_as_it_is() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/blueprints.md")).unwrap();
    for output in OUTPUTS {
        let kind = output.kind.to_string();
        let row = format!(
            "| `{}` | {} | {}",
            output.name,
            kind.trim_start_matches("a "),
            output.meaning
        );
        assert!(page.contains(&row), "docs/blueprints.md lacks {row}");
    }
}

#[test]
fn every_blueprint_takes_its_values_from_the_environment_and_its_state_from_the_setting() {
    for blueprint in BLUEPRINTS {
        let (_project, environment, tree) = rendered(blueprint);
        let files = root(&tree);
        let variables = code(&terraform(&tree)).variables();
        let given: BTreeMap<String, Value> = serde_json::from_str(&files["terraform.tfvars.json"]).unwrap();
        let all: BTreeMap<String, Value> = serde_json::from_str(&terraform_variables(&environment).unwrap()).unwrap();
        for (name, value) in given.iter().filter(|(name, _)| *name != "//") {
            assert!(variables.contains_key(name), "{blueprint}: {name} is not declared");
            assert_eq!(all[name], *value);
        }
        for (name, variable) in &variables {
            assert!(
                !variable.required || given.contains_key(name),
                "{blueprint}: {name} is not set"
            );
            assert_eq!(given.contains_key(name), all.contains_key(name), "{blueprint}: {name}");
        }
        assert!(files["backend.tf"].contains("backend \"local\""), "{blueprint}");
        assert!(!terraform(&tree).concat().contains("provisioner"), "{blueprint}");
    }
}

#[test]
fn every_variable_that_a_shipped_blueprint_declares_is_used() {
    for blueprint in ["built-in", "eks-blueprints"] {
        let (_project, _, tree) = rendered(blueprint);
        let code = code(&terraform(&tree));
        let used: BTreeSet<String> = code
            .references()
            .into_iter()
            .filter(|names| names[0] == "var")
            .map(|names| names[1].clone())
            .collect();
        for name in code.variables().keys() {
            assert!(used.contains(name), "{blueprint}: var.{name} changes nothing");
        }
    }
}

#[test]
fn what_an_own_blueprint_renders_says_where_it_comes_from_and_goes_with_it() {
    let project = project("blueprints/own", "");
    assert_eq!(project.run(&["render", "demo"]).code, 0);
    let main = project.read("infra/demo/main.tf");
    assert!(
        main.starts_with("# Generated by mfsre from blueprints/own/main.tf. Edit that file instead.\n\n"),
        "{main}"
    );
    let labels = project.read("infra/demo/labels.tf");
    assert!(
        labels.contains("labels.tf.tera") && labels.contains("\"demo on blueprints/own\""),
        "{labels}"
    );
    assert!(!project.has("modules"), "the built-in module is not there");

    // Another blueprint takes its place without a rest of it.
    project.write("environments/demo.yaml", format!("name: demo\n{REPOSITORY}"));
    assert_eq!(project.run(&["render", "demo"]).code, 0);
    assert!(!project.has("infra/demo/labels.tf") && project.has("modules/eks/cluster.tf"));
}

#[test]
fn an_environment_on_another_blueprint_leaves_the_shared_modules_alone() {
    let project = project("built-in", "");
    project.write(
        "environments/prod.yaml",
        format!("name: prod\n{REPOSITORY}blueprint: eks-blueprints\n"),
    );
    assert_eq!(project.run(&["render", "demo"]).code, 0);
    assert_eq!(project.run(&["render", "prod"]).code, 0);
    assert!(project.has("modules/eks/cluster.tf") && project.has("infra/prod/karpenter.tf"));
    assert_eq!(project.run(&["render", "demo", "--check"]).code, 0);
    assert_eq!(project.run(&["render", "prod", "--check"]).code, 0);
}

#[test]
fn a_file_of_the_project_takes_the_place_of_a_file_of_the_blueprint() {
    let project = project("eks-blueprints", "");
    project.write("templates/blueprints/eks-blueprints/extra.tf", "# mine\n");
    project.write("templates/blueprints/eks-blueprints/karpenter.tf.tera", "<# none #>\n");
    assert_eq!(project.run(&["render", "demo"]).code, 0);
    assert!(project.read("infra/demo/extra.tf").ends_with("instead.\n\n# mine\n"));
    assert!(!project.has("infra/demo/karpenter.tf") && project.has("infra/demo/cluster.tf"));
}

// ---------------------------------------------------------------------------------------------------------------------
// What is told of a blueprint that is none

/// `validate` of a project whose own blueprint has `main` as its only file.
fn told(main: &str) -> String {
    let project = Project::empty();
    project.write(
        "environments/demo.yaml",
        format!("name: demo\n{REPOSITORY}blueprint: ./own\n"),
    );
    project.write("own/main.tf", main);
    project.run(&["validate"]).to_string()
}

/// A root module that keeps the contract, but for one output's value.
fn with_output(name: &str, value: &str) -> String {
    OUTPUTS
        .iter()
        .map(|output| {
            let value = match output.kind {
                _ if output.name == name => value,
                OutputKind::String => "\"x\"",
                OutputKind::ListOfStrings => "[\"x\"]",
            };
            format!("output \"{}\" {{\n  value = {value}\n}}\n", output.name)
        })
        .collect()
}

#[test]
fn what_is_missing_and_what_is_of_another_type_is_told_with_its_place() {
    insta::assert_snapshot!(
        "an_output_of_another_type",
        told(&with_output("cluster_version", "1.35"))
    );
    insta::assert_snapshot!(
        "a_list_that_is_none",
        told(&with_output("private_subnet_ids", "\"subnet-1\""))
    );
    insta::assert_snapshot!("no_output_at_all", told("# nothing yet\n"));
    insta::assert_snapshot!(
        "a_variable_that_nobody_sets",
        told(&format!(
            "variable \"team\" {{\n  type = string\n}}\n{}",
            with_output("", "")
        ))
    );
    insta::assert_snapshot!(
        "a_second_backend",
        told(&format!(
            "terraform {{\n  backend \"s3\" {{}}\n}}\n{}",
            with_output("", "")
        ))
    );
    insta::assert_snapshot!("no_hcl", told("output \"cluster_name\" {\n  value = = 1\n}\n"));
}

#[test]
fn the_type_of_a_value_is_told_where_its_text_says_it() {
    let refused =
        |name: &str, value: &str| told(&with_output(name, value)).contains(&format!("the output {name} must be"));
    for value in [
        "null",
        "true",
        "1",
        "[\"x\"]",
        "{}",
        "{ a = 1 }",
        "[for x in y : x]",
        "{ for x in y : x => x }",
        "tolist(x)",
        "length(x)",
        "toset([])",
        "aws_subnet.x[*].id",
        "true ? 1 : 2",
        "(3)",
        "\"${1}\"",
        "merge({}, {})",
    ] {
        assert!(refused("vpc_id", value), "vpc_id = {value}");
    }
    for value in [
        "\"x\"",
        "\"a-${var.x}\"",
        "module.vpc.vpc_id",
        "local.x",
        "join(\",\", x)",
        "x ? \"a\" : \"b\"",
        "one(aws_vpc.x[*].id)",
    ] {
        assert!(!refused("vpc_id", value), "vpc_id = {value}");
    }
    for value in [
        "\"x\"",
        "null",
        "toset([\"x\"])",
        "{}",
        "[1]",
        "[\"a\", true]",
        "join(\",\", x)",
        "keys(x) == y",
    ] {
        assert!(
            refused("private_subnet_ids", value) == (value != "keys(x) == y"),
            "private_subnet_ids = {value}"
        );
    }
    for value in [
        "[]",
        "[\"x\", var.y]",
        "module.vpc.private_subnets",
        "[for s in x : s.id]",
        "aws_subnet.x[*].id",
        "sort(x)",
    ] {
        assert!(!refused("private_subnet_ids", value), "private_subnet_ids = {value}");
    }
    // A variable has the type that it is declared with.
    let declared = |kind: &str| {
        format!(
            "variable \"x\" {{\n  type = {kind}\n  default = null\n}}\n{}",
            with_output("vpc_id", "var.x")
        )
    };
    assert!(told(&declared("list(string)")).contains("the output vpc_id must be"));
    assert!(!told(&declared("string")).contains("the output vpc_id must be"));
}

#[test]
fn programs_get_the_place_of_a_mistake_in_a_blueprint() {
    let project = Project::empty();
    project.write(
        "environments/demo.yaml",
        format!("name: demo\n{REPOSITORY}blueprint: ./own\n"),
    );
    project.write("own/outputs.tf", with_output("cluster_version", "1.35"));
    let finished = project.run(&["validate", "demo", "--output", "json"]);
    assert_eq!(finished.code, 78);
    let document = finished.json();
    let mistake = &document["environments"][0]["diagnostics"][0];
    assert_eq!(mistake["file"], "own/outputs.tf", "{document:#}");
    assert_eq!(
        (&mistake["line"], &mistake["column"], &mistake["text"]),
        (&14.into(), &11.into(), &"1.35".into())
    );
}

#[test]
fn a_blueprint_that_is_not_there_is_told_at_the_setting() {
    let project = Project::empty();
    project.write(
        "environments/demo.yaml",
        format!("name: demo\n{REPOSITORY}blueprint: blueprints/missing\n"),
    );
    insta::assert_snapshot!("no_such_folder", project.run(&["validate"]));
    project.write(
        "environments/demo.yaml",
        format!("name: demo\n{REPOSITORY}mirrors:\n  modules: vendor/modules\n"),
    );
    insta::assert_snapshot!("no_such_mirror", project.run(&["validate"]));
    std::fs::create_dir_all(project.root().join("empty/one")).unwrap();
    project.write(
        "environments/demo.yaml",
        format!("name: demo\n{REPOSITORY}blueprint: empty/one\n"),
    );
    // mfsre's own backend.tf is there, and nothing else.
    assert!(
        project
            .run(&["validate"])
            .stderr
            .contains("the output cluster_name is missing")
    );
}

// ---------------------------------------------------------------------------------------------------------------------
// Modules

/// The registry modules that eks-blueprints calls.
fn called(texts: &[String]) -> Vec<RegistryModule> {
    texts
        .iter()
        .flat_map(|text| registry_modules(&text.parse::<Body>().unwrap()))
        .collect()
}

fn key(module: &RegistryModule) -> String {
    match &module.folder {
        Some(folder) => format!("{}//{folder}", module.address),
        None => module.address.clone(),
    }
}

#[test]
fn every_input_and_output_of_a_module_is_one_that_its_release_has() {
    let (_project, _, tree) = rendered("eks-blueprints");
    let texts = terraform(&tree);
    let code = code(&texts);
    let Modules { modules, .. } = recorded("modules.json");
    let mut outputs = code.outputs_read();
    for module in called(&texts) {
        let fact: &Module = modules
            .get(&key(&module))
            .unwrap_or_else(|| panic!("{} is not recorded", key(&module)));
        assert_eq!(
            module.version.as_deref(),
            Some(fact.version.as_str()),
            "{}",
            key(&module)
        );
        let call = code.calls().into_iter().find(|c| c.name == module.call).unwrap();
        for required in &fact.required {
            assert!(call.inputs.contains_key(required), "{} needs {required}", key(&module));
        }
        for (name, shape) in &call.inputs {
            let path = format!("{}: {name}", key(&module));
            let kind = fact
                .variables
                .get(name)
                .unwrap_or_else(|| panic!("{path} is not recorded"));
            // Terraform drops attributes that an object type does not have, without a word.
            let used = kind
                .used_by(shape, &path)
                .unwrap_or_else(|path| panic!("there is no {path}"));
            assert_eq!(used, *kind, "{path} is recorded as it is used");
        }
        assert_eq!(fact.variables.len(), call.inputs.len(), "{}", key(&module));
        assert_eq!(
            fact.outputs,
            outputs.remove(&module.call).unwrap_or_default(),
            "{}",
            key(&module)
        );
    }
    assert!(outputs.is_empty(), "read of modules that are not recorded: {outputs:?}");
}

#[test]
fn every_module_is_pinned_and_all_work_with_one_range_of_the_provider() {
    let (_project, _, tree) = rendered("eks-blueprints");
    let texts = terraform(&tree);
    let Modules { modules, .. } = recorded("modules.json");
    assert_eq!(
        code(&texts).calls().len(),
        called(&texts).len(),
        "every module comes from the registry"
    );
    let mut pending: Vec<(String, String)> = called(&texts)
        .iter()
        .map(|m| (key(m), m.version.clone().unwrap()))
        .collect();
    let mut seen = BTreeSet::new();
    let mut lowest = BTreeSet::new();
    while let Some((key, version)) = pending.pop() {
        let fact = modules.get(&key).unwrap_or_else(|| panic!("{key} is not recorded"));
        let wanted = version.trim_start_matches("~>").trim();
        assert_eq!(wanted, fact.version, "{key}");
        assert!(fact.version.split('.').count() == 3, "{key}");
        lowest.extend(fact.providers.get("hashicorp/aws").cloned());
        if seen.insert(key) {
            pending.extend(fact.calls.clone());
        }
    }
    assert_eq!(seen, modules.keys().cloned().collect(), "nothing else is recorded");
    // All of them are lower bounds, so the highest one is ours.
    assert!(
        lowest
            .iter()
            .all(|range| range.starts_with(">= ") && !range.contains(',')),
        "{lowest:?}"
    );
    let ours = &code(&texts).providers()["hashicorp/aws"];
    let bound = |range: &str| -> Vec<u32> {
        range
            .trim_start_matches(">= ")
            .split('.')
            .map(|n| n.parse().unwrap())
            .chain([0, 0])
            .take(3)
            .collect()
    };
    let highest = lowest.iter().max_by_key(|range| bound(range)).unwrap();
    let (from, to) = ours.split_once(", ").unwrap();
    assert_eq!((bound(from), to), (bound(highest), "< 7.0.0"), "{ours} and {highest}");
}

#[test]
fn copies_of_modules_take_the_place_of_registry_modules() {
    let project = project("eks-blueprints", "mirrors:\n  modules: vendor/modules\n");
    std::fs::create_dir_all(project.root().join("vendor/modules")).unwrap();
    assert_eq!(project.run(&["render", "demo"]).code, 0);
    let plain = rendered("eks-blueprints").2;
    for (name, text) in root(&plain).into_iter().filter(|(name, _)| name.ends_with(".tf")) {
        let mut wanted = text.clone();
        for module in called(&[text]) {
            let folder = module.folder.as_ref().map(|f| format!("/{f}")).unwrap_or_default();
            let copy = format!(
                "../../vendor/modules/{}/{}{folder}",
                module.address,
                module.version.as_ref().unwrap()
            );
            let (source, version) = (
                format!("  source  = \"{}\"\n", key(&module)),
                format!("  version = \"{}\"\n", module.version.as_ref().unwrap()),
            );
            assert!(wanted.contains(&source) && wanted.contains(&version));
            wanted = wanted
                .replacen(&source, &format!("  source = \"{copy}\"\n"), 1)
                .replacen(&version, "", 1);
        }
        assert_eq!(project.read(&format!("infra/demo/{name}")), wanted, "{name}");
    }
}

#[test]
fn a_module_that_can_have_no_copy_is_named() {
    let project = project("blueprints/own", "mirrors:\n  modules: vendor\n");
    std::fs::create_dir_all(project.root().join("vendor")).unwrap();
    project.write(
        "blueprints/own/more.tf",
        "module \"x\" {\n  source  = \"acme/x/aws\"\n  version = \"~> 1.0\"\n}\n",
    );
    insta::assert_snapshot!("no_copy", project.run(&["render", "demo"]));
}

#[test]
fn types_and_forms_are_compared_by_their_names() {
    let kind = |text: &str| {
        let code = Code::of([format!("variable \"x\" {{\n type = {text}\n}}").as_str()]).unwrap();
        code.variables().remove("x").unwrap().kind
    };
    let shape = |text: &str| {
        let code =
            Code::of([format!("locals {{\n l = {{ a = 1, b = 2 }}\n}}\nmodule \"m\" {{\n x = {text}\n}}").as_str()])
                .unwrap();
        code.calls().remove(0).inputs.remove("x").unwrap()
    };
    let object = kind("map(object({ a = optional(string), b = optional(list(object({ c = number })), []) }))");
    let used = |text: &str| object.used_by(&shape(text), "x");
    assert!(used("{ one = { a = \"\" }, two = { b = [{ c = 1 }] } }").is_ok());
    assert!(used("{ for k in y : k => { a = k } }").is_ok());
    assert!(used("{ one = merge({ a = 1 }, local.l) }").is_ok());
    assert_eq!(used("{ one = { aa = \"\" } }"), Err("x[*].aa".into()));
    assert_eq!(used("{ one = { b = [{ d = 1 }] } }"), Err("x[*].b[*].d".into()));
    assert_eq!(
        used("{ for k, v in { m = { z = 1 } } : k => merge(v, { a = 1 }) }"),
        Err("x[*].z".into())
    );
    assert!(kind("any").used_by(&shape("{ anything = [{}] }"), "x") == Ok(Type::Word("any".into())));
}

// ---------------------------------------------------------------------------------------------------------------------
// The provider

#[test]
fn the_built_in_blueprint_uses_what_every_provider_from_5_100_to_6_has() {
    let (_project, _, tree) = rendered("built-in");
    let mut texts = terraform(&tree);
    let module: Vec<&Path> = tree
        .files()
        .map(|(path, _)| path)
        .filter(|p| p.parent() == Some(Path::new("modules/eks")))
        .collect();
    for path in module
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "tf"))
    {
        texts.push(String::from_utf8(tree.get(path).unwrap().to_vec()).unwrap());
    }
    let code = code(&texts);
    let audited: Provider = recorded("provider-aws.json");
    let majors: BTreeSet<&str> = audited.checked.iter().map(|v| v.split('.').next().unwrap()).collect();
    assert_eq!(majors, BTreeSet::from(["5", "6"]), "both majors were looked at");
    assert!(audited.checked.contains("5.100.0"));
    let uses = provider_uses(&code);
    assert_eq!(
        uses, audited.uses,
        "what the blueprint uses has changed: look it up in both majors with `cargo xtask blueprints`, and record it"
    );
    assert_eq!(
        code.providers(),
        BTreeMap::from([("hashicorp/aws".into(), ">= 5.100.0, < 7.0.0".into())])
    );
}
