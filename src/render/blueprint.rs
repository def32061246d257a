//! Whether a rendered root module is a blueprint: it has the outputs of the contract, of the right type as far as the text
//! tells, and asks for nothing that mfsre does not give.

use std::collections::BTreeMap;
use std::path::Path;

use hcl_edit::Span as _;
use hcl_edit::expr::{Expression, TraversalOperator};
use hcl_edit::structure::{Block, BlockLabel, Body};
use hcl_edit::template::Element;

use super::tree::{Origin, Tree};
use super::values;
use crate::config::{Diagnostic, Diagnostics, Environment, Severity, Source};
use crate::model::contract::{OUTPUTS, Output, OutputKind};

/// What an expression's text tells of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Bool,
    Number,
    String,
    /// A list or tuple.
    List,
    Set,
    /// An object or map.
    Object,
}

impl Kind {
    fn fits(self, kind: OutputKind) -> bool {
        matches!(
            (self, kind),
            (Self::String, OutputKind::String) | (Self::List, OutputKind::ListOfStrings)
        )
    }

    fn article(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::String => "a string",
            Self::List => "a list",
            Self::Set => "a set, which has no order",
            Self::Object => "an object",
        }
    }
}

/// A file of the root module.
struct File {
    source: Source,
    body: Body,
    findings: Vec<Diagnostic>,
}

/// Every mistake in the environment's root module, by file. The files are named as the user knows them.
#[must_use]
pub fn check(tree: &Tree, environment: &Environment) -> Vec<Diagnostics> {
    let infra = Path::new("infra").join(environment.name.as_str());
    let mut files = Vec::new();
    let mut unreadable = Vec::new();
    for (path, contents) in tree.files() {
        if path.parent() != Some(&infra) || path.extension().is_none_or(|e| e != "tf") {
            continue;
        }
        let source = source(path, contents, tree.origin(path));
        match source.text.parse::<Body>() {
            Ok(body) => files.push(File {
                source,
                body,
                findings: Vec::new(),
            }),
            Err(error) => unreadable.push(not_hcl(source, &error)),
        }
    }
    // What a file that cannot be read holds is not missing.
    if !unreadable.is_empty() {
        return unreadable;
    }
    let missing = check_outputs(&mut files);
    check_variables(&mut files, environment);
    check_backend(&mut files);
    let mut found: Vec<Diagnostics> = files
        .into_iter()
        .filter(|file| !file.findings.is_empty())
        .map(|file| Diagnostics {
            source: file.source,
            items: file.findings,
        })
        .collect();
    if !missing.is_empty() {
        let text = String::new();
        let path = home(environment);
        found.push(Diagnostics {
            source: Source { path, text },
            items: missing,
        });
    }
    found
}

/// Where the blueprint's own files are.
fn home(environment: &Environment) -> String {
    match &environment.blueprint {
        crate::config::Blueprint::BuiltIn => "templates/terraform/root".to_owned(),
        crate::config::Blueprint::EksBlueprints => "templates/blueprints/eks-blueprints".to_owned(),
        crate::config::Blueprint::Path(own) => own.path.display().to_string(),
    }
}

fn source(path: &Path, contents: &[u8], origin: Option<&Origin>) -> Source {
    let own = origin.map_or(contents, |o| contents.get(o.header..).unwrap_or_default());
    let text = String::from_utf8_lossy(own).into_owned();
    let path = match origin {
        Some(origin) if origin.rendered => format!("{} (as rendered)", origin.path.display()),
        Some(origin) => origin.path.display().to_string(),
        None => path.display().to_string(),
    };
    Source { path, text }
}

fn error(span: Option<std::ops::Range<usize>>, message: impl Into<String>, label: &str, hint: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        message: message.into(),
        span,
        label: label.to_owned(),
        hint: Some(hint.to_owned()),
    }
}

fn not_hcl(source: Source, parse_error: &hcl_edit::parser::Error) -> Diagnostics {
    let message = parse_error.message().lines().next().unwrap_or("").to_owned();
    let at = parse_error.location().offset().min(source.text.len());
    Diagnostics {
        items: vec![error(
            Some(at..at),
            format!("this is not HCL that can be read: {message}"),
            "here",
            "`terraform fmt` and `terraform validate` say more",
        )],
        source,
    }
}

fn check_outputs(files: &mut [File]) -> Vec<Diagnostic> {
    let variables = variable_types(files);
    let mut missing = Vec::new();
    for output in OUTPUTS {
        let Output {
            name, kind, meaning, ..
        } = output;
        let mut declared = false;
        for file in files.iter_mut() {
            let Some(block) = labelled(&file.body, "output", name) else {
                continue;
            };
            declared = true;
            let must = format!("the output {name} must be {kind}: {meaning}");
            let Some(value) = block.body.get_attribute("value") else {
                file.findings
                    .push(error(block.ident.span(), must, "no value", "add `value = ...` to it"));
                continue;
            };
            let told = kind_of(&value.value, &variables);
            let wrong_item = match (&value.value, kind) {
                (Expression::Array(items), OutputKind::ListOfStrings) => items
                    .iter()
                    .find(|item| kind_of(item, &variables).is_some_and(|k| k != Kind::String)),
                _ => None,
            };
            if let Some(told) = told.filter(|told| !told.fits(kind)) {
                let hint = match (told, kind) {
                    (Kind::Number, OutputKind::String) => "write it in quotes, or use tostring()",
                    (Kind::Set, OutputKind::ListOfStrings) => "use sort() or tolist()",
                    (Kind::List | Kind::Set | Kind::Object, OutputKind::String) => {
                        "give one element or attribute of it"
                    }
                    (Kind::Null, _) => "a blueprint creates it, so it has a value",
                    _ => "docs/blueprints.md lists every output with its type",
                };
                file.findings.push(error(
                    value.value.span(),
                    must,
                    &format!("this is {}", told.article()),
                    hint,
                ));
            } else if let Some(item) = wrong_item {
                file.findings.push(error(
                    item.span(),
                    must,
                    "this is no string",
                    "docs/blueprints.md lists every output with its type",
                ));
            }
        }
        if !declared {
            missing.push(error(
                None,
                format!("the output {name} is missing"),
                "",
                &format!("add `output \"{name}\"`: {kind}, {meaning}"),
            ));
        }
    }
    missing
}

/// A variable that has no default gets its value from mfsre, or from nobody.
fn check_variables(files: &mut [File], environment: &Environment) {
    let given = values::variables(environment);
    let given: Vec<&str> = given
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, _)| k.as_str())
        .collect();
    for file in files {
        for block in file.body.get_blocks("variable") {
            let Some(name) = block.labels.first() else { continue };
            if block.body.has_attribute("default") || given.contains(&name.as_str()) {
                continue;
            }
            file.findings.push(error(
                match name {
                    BlockLabel::Ident(name) => name.span(),
                    BlockLabel::String(name) => name.span(),
                },
                format!("nobody gives the variable {} a value", name.as_str()),
                "no default",
                &format!("give it a default; mfsre sets {}", given.join(", ")),
            ));
        }
    }
}

/// Where the state is kept is a setting, for every blueprint.
fn check_backend(files: &mut [File]) {
    let blocks: Vec<usize> = files.iter().map(|file| backends(&file.body).count()).collect();
    if blocks.iter().sum::<usize>() <= 1 {
        return;
    }
    for file in files.iter_mut().filter(|file| !file.source.path.contains("backend.tf")) {
        let spans: Vec<_> = backends(&file.body).map(|block| block.ident.span()).collect();
        file.findings.extend(spans.into_iter().map(|span| {
            error(
                span,
                "the backend is the setting `backend` of the environment file",
                "a second backend",
                "remove this block; mfsre writes backend.tf",
            )
        }));
    }
}

fn backends(body: &Body) -> impl Iterator<Item = &Block> {
    body.get_blocks("terraform")
        .flat_map(|terraform| terraform.body.blocks())
        .filter(|block| block.has_ident("backend") || block.has_ident("cloud"))
}

fn labelled<'a>(body: &'a Body, ident: &'static str, label: &str) -> Option<&'a Block> {
    body.get_blocks(ident)
        .find(|block| block.labels.first().is_some_and(|l| l.as_str() == label))
}

/// The types that variables are declared with.
fn variable_types(files: &[File]) -> BTreeMap<String, Kind> {
    let mut types = BTreeMap::new();
    for block in files.iter().flat_map(|file| file.body.get_blocks("variable")) {
        let declared = block.body.get_attribute("type").and_then(|t| match &t.value {
            Expression::Variable(word) => type_word(word.as_str()),
            Expression::FuncCall(call) => type_word(call.name.name.as_str()),
            _ => None,
        });
        if let (Some(name), Some(kind)) = (block.labels.first(), declared) {
            types.insert(name.as_str().to_owned(), kind);
        }
    }
    types
}

/// A type constraint's keyword (<https://developer.hashicorp.com/terraform/language/expressions/type-constraints>).
fn type_word(word: &str) -> Option<Kind> {
    Some(match word {
        "string" => Kind::String,
        "number" => Kind::Number,
        "bool" => Kind::Bool,
        "list" | "tuple" => Kind::List,
        "set" => Kind::Set,
        "map" | "object" => Kind::Object,
        _ => return None,
    })
}

/// The type of an expression, where its text alone tells; `None` for what only Terraform knows, such as an attribute of a
/// resource.
fn kind_of(expression: &Expression, variables: &BTreeMap<String, Kind>) -> Option<Kind> {
    Some(match expression {
        Expression::Null(_) => Kind::Null,
        Expression::Bool(_) => Kind::Bool,
        Expression::Number(_) => Kind::Number,
        Expression::String(_) | Expression::HeredocTemplate(_) => Kind::String,
        // A template that is one interpolation and nothing else has that expression's value.
        Expression::StringTemplate(template) => match template.as_single_element() {
            Some(Element::Interpolation(inner)) => return kind_of(&inner.expr, variables),
            _ => Kind::String,
        },
        Expression::Array(_) => Kind::List,
        Expression::Object(_) => Kind::Object,
        Expression::Parenthesis(inner) => return kind_of(inner.inner(), variables),
        Expression::ForExpr(each) if each.key_expr.is_some() => Kind::Object,
        Expression::ForExpr(_) => Kind::List,
        Expression::Conditional(choice) => {
            let (one, other) = (
                kind_of(&choice.true_expr, variables)?,
                kind_of(&choice.false_expr, variables)?,
            );
            return (one == other).then_some(one);
        }
        Expression::FuncCall(call) if !call.name.is_namespaced() => return function(call.name.name.as_str()),
        Expression::Traversal(traversal) => {
            let splat =
                |o: &TraversalOperator| matches!(o, TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_));
            if traversal.operators.iter().any(|o| splat(o.value())) {
                return Some(Kind::List);
            }
            match (&traversal.expr, traversal.operators.as_slice()) {
                (Expression::Variable(root), [only]) if root.as_str() == "var" => match only.value() {
                    TraversalOperator::GetAttr(name) => return variables.get(name.as_str()).copied(),
                    _ => return None,
                },
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// What a function returns, where that is the same for all arguments
/// (<https://developer.hashicorp.com/terraform/language/functions>).
fn function(name: &str) -> Option<Kind> {
    Some(match name {
        "base64decode" | "base64encode" | "cidrhost" | "cidrsubnet" | "format" | "join" | "jsonencode" | "lower"
        | "replace" | "substr" | "title" | "tostring" | "trim" | "trimprefix" | "trimspace" | "trimsuffix"
        | "upper" => Kind::String,
        "ceil" | "floor" | "length" | "max" | "min" | "parseint" | "tonumber" => Kind::Number,
        "alltrue" | "anytrue" | "can" | "contains" | "endswith" | "startswith" | "tobool" => Kind::Bool,
        "chunklist" | "compact" | "concat" | "distinct" | "flatten" | "formatlist" | "keys" | "range" | "slice"
        | "sort" | "split" | "tolist" | "values" => Kind::List,
        "setintersection" | "setsubtract" | "setunion" | "toset" => Kind::Set,
        "merge" | "tomap" | "zipmap" => Kind::Object,
        _ => return None,
    })
}
