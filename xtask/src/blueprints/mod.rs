//! `cargo xtask blueprints`: holds what is recorded of modules and providers against their sources and schemas.

mod code;
mod facts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hcl_edit::Span as _;
use hcl_edit::structure::Body;
use mfsre::render::{RegistryModule, registry_modules};
use serde_json::Value;

use self::code::{Code, Shape, label};
use self::facts::{Module, Modules, Provider, provider_uses};
use crate::process::{command, root, run as execute};
use crate::setup;

/// Where the source of a module's releases is. A tag is the version behind a `v`.
const REPOSITORIES: [(&str, &str); 6] = [
    (
        "aws-ia/eks-blueprints-addon/aws",
        "https://github.com/aws-ia/terraform-aws-eks-blueprints-addon",
    ),
    (
        "aws-ia/eks-blueprints-addons/aws",
        "https://github.com/aws-ia/terraform-aws-eks-blueprints-addons",
    ),
    (
        "terraform-aws-modules/eks/aws",
        "https://github.com/terraform-aws-modules/terraform-aws-eks",
    ),
    (
        "terraform-aws-modules/kms/aws",
        "https://github.com/terraform-aws-modules/terraform-aws-kms",
    ),
    (
        "terraform-aws-modules/sqs/aws",
        "https://github.com/terraform-aws-modules/terraform-aws-sqs",
    ),
    (
        "terraform-aws-modules/vpc/aws",
        "https://github.com/terraform-aws-modules/terraform-aws-vpc",
    ),
];

const ABOUT_MODULES: &str = "Facts of the modules that the blueprint eks-blueprints calls, as far as it uses them. \
    `cargo xtask blueprints --record CLONES` writes this file from clones of the repositories.";
const ABOUT_PROVIDER: &str = "Every argument and attribute of hashicorp/aws that the built-in blueprint uses. \
    `cargo xtask blueprints --record` writes the list, and adds a version once its schema has all of it, none of it deprecated.";

/// With `clones`, a folder with a clone of each module's repository, everything is done: copies of the modules, the facts,
/// `terraform validate` and `terraform test` of eks-blueprints, and its life in the sandbox. Without it, only the provider's schema is looked at.
/// `record` writes the facts instead of comparing them.
pub(crate) fn run(clones: Option<&Path>, record: bool) -> Result<(), String> {
    let scratch = root().join("target/blueprints");
    let built_in = rendered(&scratch, "built-in", "")?;
    let mut texts = Code::read(&built_in.join("infra/demo"))?;
    texts.blocks.extend(Code::read(&built_in.join("modules/eks"))?.blocks);
    provider(&built_in.join("infra/demo"), &texts, record)?;
    let Some(clones) = clones else {
        println!("\nThe modules were not looked at: name a folder with clones of their repositories.");
        return Ok(());
    };
    let own = rendered(&scratch, "eks-blueprints", "")?.join("infra/demo");
    let copies = scratch.join("modules");
    let modules = copy_all(clones, &own, &copies)?;
    let found = Modules {
        about: ABOUT_MODULES.into(),
        modules,
    };
    keep("modules.json", &found, record)?;
    println!("copies of the modules are in {}", copies.display());
    let project = rendered(&scratch, "eks-blueprints", "mirrors: {modules: ../modules}\n")?.join("infra/demo");
    terraform(&project, &["init", "-input=false", "-no-color"])?;
    terraform(&project, &["validate", "-no-color"])?;
    terraform(&project, &["test", "-no-color"])?;
    // The same range of versions has to do for the built-in blueprint: this is where a provider of the other major is.
    provider(&project, &texts, record)?;
    in_the_sandbox(&scratch.join("sandbox"))
}

/// Brings an environment of the copies up in the sandbox, sees that a plan changes nothing then, and takes it away.
fn in_the_sandbox(project: &Path) -> Result<(), String> {
    let _ = std::fs::remove_dir_all(project);
    std::fs::create_dir_all(project).map_err(|e| format!("cannot create {}: {e}", project.display()))?;
    let mfsre = |arguments: &[&str]| crate::lint::mfsre(&[arguments, &["--project"]].concat(), project);
    mfsre(&["init", "--environment", "sandbox"])?;
    let path = project.join("environments/sandbox.yaml");
    let shipped = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    write(
        &path,
        &format!("{shipped}\nblueprint: eks-blueprints\nmirrors: {{modules: ../modules}}\n"),
    )?;
    // Whatever came of it, nothing is left running.
    let up = mfsre(&["up", "sandbox"]).and_then(|()| mfsre(&["plan", "sandbox", "--detailed-exitcode"]));
    let down = mfsre(&["down", "sandbox"]);
    up.and(down)
}

/// A project with an environment `demo` on the blueprint, rendered.
fn rendered(scratch: &Path, blueprint: &str, more: &str) -> Result<PathBuf, String> {
    let project = scratch.join("project");
    let _ = std::fs::remove_dir_all(&project);
    let environments = project.join("environments");
    std::fs::create_dir_all(&environments).map_err(|e| format!("cannot create {}: {e}", environments.display()))?;
    write(
        &environments.join("demo.yaml"),
        &format!(
            "name: demo\nargocd_repository_url: git@github.com:acme/platform.git\nblueprint: {blueprint}\n\
             access:\n  administrators: [\"arn:aws:iam::111122223333:role/platform\"]\n{more}"
        ),
    )?;
    crate::lint::render(&project, "demo")?;
    Ok(project)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// Compares what was found with what is recorded, or records it.
fn keep<T: serde::Serialize>(file: &str, found: &T, record: bool) -> Result<(), String> {
    let path = root().join("tests/blueprints").join(file);
    let mut text = serde_json::to_string_pretty(found).map_err(|e| e.to_string())?;
    text.push('\n');
    if record {
        return write(&path, &text);
    }
    if std::fs::read_to_string(&path).is_ok_and(|recorded| recorded == text) {
        println!("tests/blueprints/{file} is as found");
        return Ok(());
    }
    let beside = root().join("target/blueprints").join(file);
    write(&beside, &text)?;
    Err(format!(
        "tests/blueprints/{file} is not what was found: compare it with {}, or write it with --record",
        beside.display()
    ))
}

// ---------------------------------------------------------------------------------------------------------------------
// Modules

/// Copies every module that the root module calls, and those that they call, and says what is used of them.
fn copy_all(clones: &Path, own: &Path, copies: &Path) -> Result<BTreeMap<String, Module>, String> {
    let code = Code::read(own)?;
    let outputs = code.outputs_read();
    let mut uses: BTreeMap<String, (BTreeMap<String, Shape>, BTreeSet<String>)> = BTreeMap::new();
    let mut pending = Vec::new();
    for call in code.calls() {
        let module = only(&call.block)?;
        let read = outputs.get(&call.name).cloned().unwrap_or_default();
        if uses.insert(key(&module), (call.inputs, read)).is_some() {
            return Err(format!("{} is called twice", key(&module)));
        }
        pending.push((module.address, module.folder, module.version.unwrap_or_default()));
    }
    let _ = std::fs::remove_dir_all(copies);
    let mut packages = BTreeMap::new();
    let mut found = BTreeMap::new();
    while let Some((address, folder, version)) = pending.pop() {
        // A range such as `~> 1.1.1` is taken at its lower end.
        let version = version.trim_start_matches("~>").trim().to_owned();
        let key = folder
            .as_ref()
            .map_or_else(|| address.clone(), |f| format!("{address}//{f}"));
        if found.contains_key(&key) {
            continue;
        }
        let package = copy(clones, &address, &version, copies)?;
        let dir = package.join(folder.as_deref().unwrap_or(""));
        let (inputs, read) = uses.remove(&key).unwrap_or_default();
        let module = describe(&key, &address, &version, &dir, &inputs, &read)?;
        for (called, version) in &module.calls {
            let (address, folder) = match called.split_once("//") {
                Some((address, folder)) => (address.to_owned(), Some(folder.to_owned())),
                None => (called.clone(), None),
            };
            pending.push((address, folder, version.clone()));
        }
        packages.insert(package, version);
        found.insert(key, module);
    }
    // Last, since the calls are read from what is released.
    for (package, version) in packages {
        localise(&package, &version)?;
    }
    Ok(found)
}

fn key(module: &RegistryModule) -> String {
    match &module.folder {
        Some(folder) => format!("{}//{folder}", module.address),
        None => module.address.clone(),
    }
}

fn only(block: &hcl_edit::structure::Block) -> Result<RegistryModule, String> {
    let body: Body = [block.clone()]
        .into_iter()
        .map(hcl_edit::structure::Structure::from)
        .collect();
    let text = body.to_string();
    let body: Body = text.parse().map_err(|e: hcl_edit::parser::Error| e.to_string())?;
    registry_modules(&body)
        .pop()
        .ok_or_else(|| format!("module {} does not come from a registry", label(block, 0)))
}

/// The package of a release, unpacked from its clone.
fn copy(clones: &Path, address: &str, version: &str, copies: &Path) -> Result<PathBuf, String> {
    let target = copies.join(address).join(version);
    if target.is_dir() {
        return Ok(target);
    }
    let repository = repository(address)?;
    let name = repository.rsplit('/').next().unwrap_or_default();
    let clone = clone(clones, name)?;
    let part = target.with_extension("part");
    let _ = std::fs::remove_dir_all(&part);
    std::fs::create_dir_all(&part).map_err(|e| format!("cannot create {}: {e}", part.display()))?;
    let mut archive = command("git")
        .arg("-C")
        .arg(&clone)
        .args(["archive", "--format=tar", &format!("v{version}")])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run git: {e}"))?;
    let unpacked = command("tar")
        .arg("-x")
        .arg("-C")
        .arg(&part)
        .stdin(archive.stdout.take().map_or_else(Stdio::null, Stdio::from))
        .status()
        .map_err(|e| format!("cannot run tar: {e}"))?;
    let archived = archive.wait().map_err(|e| format!("cannot wait for git: {e}"))?;
    if !unpacked.success() || !archived.success() {
        return Err(format!(
            "{} has no release v{version} that can be read",
            clone.display()
        ));
    }
    std::fs::rename(&part, &target).map_err(|e| format!("cannot move {}: {e}", part.display()))?;
    Ok(target)
}

fn repository(address: &str) -> Result<&'static str, String> {
    let entry = REPOSITORIES.iter().find(|(known, _)| *known == address);
    entry
        .map(|(_, url)| *url)
        .ok_or_else(|| format!("where is the source of {address}? Add it to REPOSITORIES in xtask/src/blueprints"))
}

/// The clone of a repository: `NAME`, `NAME.git`, or with the owner before it, bare or not.
fn clone(clones: &Path, name: &str) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(clones).map_err(|e| format!("cannot read {}: {e}", clones.display()))?;
    for entry in entries.flatten() {
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let stem = file_name.trim_end_matches(".git");
        let named = stem == name
            || stem
                .strip_suffix(name)
                .is_some_and(|owner| owner.ends_with(['+', '_', '-', '.']) && owner.len() > 1);
        if !named {
            continue;
        }
        for dir in [entry.path(), entry.path().join("repo")] {
            if dir.join(".git").exists() || dir.join("HEAD").is_file() {
                return Ok(dir);
            }
        }
    }
    Err(format!(
        "{} has no clone of {name}: `git clone` it there",
        clones.display()
    ))
}

fn describe(
    key: &str,
    address: &str,
    version: &str,
    dir: &Path,
    inputs: &BTreeMap<String, Shape>,
    read: &BTreeSet<String>,
) -> Result<Module, String> {
    let code = Code::read(dir)?;
    let declared = code.variables();
    let mut variables = BTreeMap::new();
    for (name, shape) in inputs {
        let variable = declared
            .get(name)
            .ok_or_else(|| format!("{key} {version} has no variable {name}"))?;
        let path = format!("{key}: {name}");
        let used = variable.kind.used_by(shape, &path);
        variables.insert(name.clone(), used.map_err(|path| format!("{version} has no {path}"))?);
    }
    for output in read {
        has_output(&code, dir, output).map_err(|e| format!("{key} {version}: {e}"))?;
    }
    let mut calls = BTreeMap::new();
    let mut providers = code.providers();
    collect_calls(dir, &mut calls, &mut providers)?;
    Ok(Module {
        version: version.to_owned(),
        repository: repository(address)?.to_owned(),
        terraform: code.terraform(),
        providers,
        calls,
        required: declared
            .iter()
            .filter(|(_, v)| v.required)
            .map(|(name, _)| name.clone())
            .collect(),
        variables,
        outputs: read.clone(),
    })
}

/// `output`, or `output[*].attribute` where the output is a module of the package.
fn has_output(code: &Code, dir: &Path, path: &str) -> Result<(), String> {
    let (name, attribute) = path.split_once("[*].").map_or((path, None), |(n, a)| (n, Some(a)));
    let output = code
        .block("output", name)
        .ok_or_else(|| format!("there is no output {name}"))?;
    let Some(attribute) = attribute else { return Ok(()) };
    let inner = Code {
        blocks: vec![output.clone()],
    };
    let references = inner.references();
    let Some([_, call, ..]) = references
        .iter()
        .map(Vec::as_slice)
        .find(|names| names.first().is_some_and(|n| n == "module"))
    else {
        return Err(format!("the output {name} is no module, so {path} cannot be looked up"));
    };
    let source = code
        .block("module", call)
        .and_then(|b| b.body.get_attribute("source"))
        .and_then(|a| a.value.as_str());
    let folder = dir.join(source.unwrap_or_default());
    match Code::read(&folder)?.block("output", attribute) {
        Some(_) => Ok(()),
        None => Err(format!("there is no output {attribute} in {}", folder.display())),
    }
}

/// The registry modules and providers that the code in `dir` and in the folders that it calls asks for.
fn collect_calls(
    dir: &Path,
    calls: &mut BTreeMap<String, String>,
    providers: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let code = Code::read(dir)?;
    for block in code.blocks("module") {
        let source = block
            .body
            .get_attribute("source")
            .and_then(|a| a.value.as_str())
            .unwrap_or_default();
        if source.starts_with('.') {
            collect_calls(&dir.join(source), calls, providers)?;
            for (provider, range) in Code::read(&dir.join(source))?.providers() {
                providers.entry(provider).or_insert(range);
            }
        } else if let Ok(module) = only(block) {
            calls.insert(key(&module), module.version.clone().unwrap_or_default());
        }
    }
    Ok(())
}

/// Points the calls of registry modules in a copied package at the copies beside it.
fn localise(package: &Path, version: &str) -> Result<(), String> {
    let mut pending = vec![package.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir)
            .map_err(|e| format!("cannot read {}: {e}", dir.display()))?
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                // They call the package from the registry, and nobody calls them.
                if !["examples", "tests", "wrappers"]
                    .iter()
                    .any(|name| path.ends_with(name))
                {
                    pending.push(path);
                }
                continue;
            }
            if path.extension().is_none_or(|e| e != "tf") {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            let body: Body = text
                .parse()
                .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            let mut edits = Vec::new();
            for block in body.get_blocks("module") {
                let Ok(module) = only(block) else { continue };
                // Down from ADDRESS/VERSION, whose four parts are the way up to the mirror's folder.
                let depth = dir.strip_prefix(package).map_or(0, |rest| rest.components().count()) + 4;
                let called = module
                    .version
                    .as_deref()
                    .unwrap_or(version)
                    .trim_start_matches("~>")
                    .trim()
                    .to_owned();
                let mut copy = format!("{}{}/{called}", "../".repeat(depth), module.address);
                if let Some(folder) = &module.folder {
                    copy = format!("{copy}/{folder}");
                }
                let source = block.body.get_attribute("source").and_then(|a| a.span());
                edits.extend(source.map(|range| (range, format!("source = \"{copy}\""))));
                edits.extend(
                    block
                        .body
                        .get_attribute("version")
                        .and_then(|a| a.span())
                        .map(|range| (range, String::new())),
                );
            }
            if edits.is_empty() {
                continue;
            }
            edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
            let mut text = text;
            for (range, new) in edits {
                text.replace_range(range, &new);
            }
            write(&path, &text)?;
        }
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------------------
// Provider and program

fn terraform(dir: &Path, arguments: &[&str]) -> Result<(), String> {
    execute(&mut terraform_command(dir, arguments)?)
}

fn terraform_command(dir: &Path, arguments: &[&str]) -> Result<std::process::Command, String> {
    let mut terraform = command(setup::terraform()?);
    terraform
        .args(arguments)
        .current_dir(dir)
        .env("CHECKPOINT_DISABLE", "1");
    // A configuration of one's own may name a mirror with more than one provider.
    if std::env::var_os("TF_CLI_CONFIG_FILE").is_none_or(|path| !Path::new(&path).is_file()) {
        terraform.env("TF_CLI_CONFIG_FILE", setup::terraform_configuration()?);
    }
    Ok(terraform)
}

/// Looks up everything that the built-in blueprint uses in the schema of the provider that `dir` is set up with.
fn provider(dir: &Path, built_in: &Code, record: bool) -> Result<(), String> {
    terraform(dir, &["init", "-input=false", "-no-color"])?;
    let output = terraform_command(dir, &["providers", "schema", "-json"])?
        .output()
        .map_err(|e| format!("cannot run terraform: {e}"))?;
    let schema: Value = serde_json::from_slice(&output.stdout).map_err(|e| {
        format!(
            "cannot read the schemas: {e}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )
    })?;
    let schemas = schema["provider_schemas"].as_object();
    let schema = schemas
        .and_then(|all| all.iter().find(|(source, _)| source.ends_with("/hashicorp/aws")))
        .map(|(_, schema)| schema)
        .ok_or("terraform printed no schema of hashicorp/aws")?;
    let version = locked_version(dir)?;
    let uses = provider_uses(built_in);
    let mut wrong = Vec::new();
    for (kind, paths) in &uses {
        let block = match kind.strip_prefix("data.") {
            Some(kind) => &schema["data_source_schemas"][kind]["block"],
            None => &schema["resource_schemas"][kind]["block"],
        };
        for path in paths {
            if let Err(why) = look_up(block, path) {
                wrong.push(format!("{kind}: {path} {why}"));
            }
        }
    }
    if !wrong.is_empty() {
        return Err(format!("hashicorp/aws {version}: {}", wrong.join("; ")));
    }
    println!("hashicorp/aws {version} has all of what the built-in blueprint uses, none of it deprecated");
    let path = root().join("tests/blueprints/provider-aws.json");
    let known: Option<Provider> = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok());
    let mut checked = BTreeSet::from([version.clone()]);
    // What was checked of another list says nothing of this one.
    let same = known.as_ref().is_some_and(|known| known.uses == uses);
    checked.extend(known.filter(|_| same).map(|known| known.checked).unwrap_or_default());
    if !record && !same {
        return Err("tests/blueprints/provider-aws.json is not what the blueprint uses: write it with --record".into());
    }
    let found = Provider {
        about: ABOUT_PROVIDER.into(),
        checked,
        uses,
    };
    if record {
        keep("provider-aws.json", &found, true)
    } else {
        Ok(())
    }
}

fn locked_version(dir: &Path) -> Result<String, String> {
    let path = dir.join(".terraform.lock.hcl");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let body: Body = text
        .parse()
        .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    body.get_blocks("provider")
        .find(|block| label(block, 0).ends_with("/hashicorp/aws"))
        .and_then(|block| block.body.get_attribute("version"))
        .and_then(|a| a.value.as_str().map(str::to_owned))
        .ok_or_else(|| format!("{} locks no hashicorp/aws", path.display()))
}

/// Whether a block of a schema has the path, and nothing on it is deprecated
/// (<https://developer.hashicorp.com/terraform/cli/commands/providers/schema>).
fn look_up(block: &Value, path: &str) -> Result<(), &'static str> {
    let (name, rest) = path
        .split_once('.')
        .map_or((path, None), |(name, rest)| (name, Some(rest)));
    let nested = &block["block_types"][name];
    if nested.is_object() {
        if nested["block"]["deprecated"] == true {
            return Err("is deprecated");
        }
        return rest.map_or(Ok(()), |rest| look_up(&nested["block"], rest));
    }
    let attribute = &block["attributes"][name];
    match attribute {
        Value::Object(_) if attribute["deprecated"] == true => Err("is deprecated"),
        // What is in an attribute of an object type is not described one by one.
        Value::Object(_) => Ok(()),
        _ => Err("is not there"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::code::Type;
    use super::*;

    #[test]
    fn a_schema_is_asked_by_path() {
        let block = json!({
            "attributes": { "id": {}, "name": { "deprecated": true }, "list": { "type": ["list", "string"] } },
            "block_types": { "vpc_config": { "block": { "attributes": { "subnet_ids": {} } } } },
        });
        assert_eq!(look_up(&block, "id"), Ok(()));
        assert_eq!(look_up(&block, "list.x"), Ok(()));
        assert_eq!(look_up(&block, "vpc_config.subnet_ids"), Ok(()));
        assert_eq!(look_up(&block, "name"), Err("is deprecated"));
        assert_eq!(look_up(&block, "vpc_config.other"), Err("is not there"));
        assert_eq!(look_up(&block, "region"), Err("is not there"));
    }

    #[test]
    fn unused_types_are_not_recorded() {
        let whole = Type::Object(BTreeMap::from([
            ("a".into(), Type::Word("string".into())),
            ("b".into(), Type::Word("string".into())),
        ]));
        let shape = Shape::Keys(BTreeMap::from([("a".into(), Shape::Opaque)]));
        assert_eq!(
            serde_json::to_value(whole.used_by(&shape, "x").unwrap()).unwrap(),
            json!({ "object": { "a": "string" } })
        );
    }
}
