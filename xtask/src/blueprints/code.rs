//! Reads Terraform code as text: what it calls, passes and reads. Nothing is evaluated.
//!
//! The tests of the root package include this file too (`tests/blueprints.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hcl_edit::expr::{Expression, ForExpr, ObjectKey, Traversal, TraversalOperator};
use hcl_edit::structure::{Block, Body};
use hcl_edit::visit::{Visit, visit_for_expr, visit_traversal};
use serde::{Deserialize, Serialize};

/// A folder's `.tf` files.
pub(crate) struct Code {
    /// The blocks of all files.
    pub(crate) blocks: Vec<Block>,
}

/// The form of a value: what it has by name, as far as the text shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Anything whose inside the text does not show.
    Opaque,
    /// An object or a map with these keys.
    Keys(BTreeMap<String, Shape>),
    /// A map whose keys the text does not show, or a list.
    Each(Box<Shape>),
}

/// A type constraint, as far as it is needed to hold a [`Shape`] against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Type {
    /// `map(...)`
    Map(Box<Type>),
    /// `list(...)` or `set(...)`
    List(Box<Type>),
    /// `object({...})`
    Object(BTreeMap<String, Type>),
    /// `string`, `number`, `bool` or `any`.
    #[serde(untagged)]
    Word(String),
}

/// A call of a module.
pub(crate) struct Call {
    /// Its name.
    pub(crate) name: String,
    /// What it passes.
    pub(crate) inputs: BTreeMap<String, Shape>,
    /// Its block.
    pub(crate) block: Block,
}

/// A variable's declaration.
pub(crate) struct Variable {
    /// Its type.
    pub(crate) kind: Type,
    /// Whether it has no default.
    pub(crate) required: bool,
}

impl Code {
    /// Reads the `.tf` files of `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self, String> {
        let entries = std::fs::read_dir(dir).map_err(|e| format!("cannot read {}: {e}", dir.display()))?;
        let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "tf"));
        paths.sort();
        let mut blocks = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            blocks.extend(parse(&text).map_err(|e| format!("cannot read {}: {e}", path.display()))?);
        }
        Ok(Self { blocks })
    }

    /// The blocks of several files.
    #[allow(dead_code, reason = "the tests use it")]
    pub(crate) fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut blocks = Vec::new();
        for text in texts {
            blocks.extend(parse(text)?);
        }
        Ok(Self { blocks })
    }

    /// The blocks of a kind, such as `variable`.
    pub(crate) fn blocks<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Block> + 'a {
        self.blocks.iter().filter(move |block| block.has_ident(kind))
    }

    /// The block of a kind with this label.
    pub(crate) fn block<'a>(&'a self, kind: &'a str, label: &'a str) -> Option<&'a Block> {
        self.blocks(kind).find(move |block| self::label(block, 0) == label)
    }

    /// Every call of a module with what it passes.
    pub(crate) fn calls(&self) -> Vec<Call> {
        const META: [&str; 6] = ["source", "version", "providers", "count", "for_each", "depends_on"];
        self.blocks("module")
            .map(|block| Call {
                name: label(block, 0).to_owned(),
                inputs: block
                    .body
                    .attributes()
                    .filter(|a| !META.contains(&a.key.as_str()))
                    .map(|a| (a.key.to_string(), self.shape(&a.value, &BTreeMap::new())))
                    .collect(),
                block: block.clone(),
            })
            .collect()
    }

    /// What is read of each module, by the call's name: `output`, or `output[*].attribute`.
    pub(crate) fn outputs_read(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for names in self.references() {
            let [root, call, output, rest @ ..] = names.as_slice() else {
                continue;
            };
            if root != "module" {
                continue;
            }
            let read = match rest {
                [index, attribute, ..] if index == "[*]" => format!("{output}[*].{attribute}"),
                _ => output.clone(),
            };
            found.entry(call.clone()).or_default().insert(read);
        }
        found
    }

    /// Every reference in the code, as its names in order. A `for` expression's variable stands for the element of what it
    /// goes through: `[for s in aws_subnet.private : s.id]` refers to `aws_subnet.private[*].id`.
    pub(crate) fn references(&self) -> Vec<Vec<String>> {
        let mut collect = References::default();
        for block in &self.blocks {
            collect.visit_block(block);
        }
        collect.found
    }

    /// Every variable.
    pub(crate) fn variables(&self) -> BTreeMap<String, Variable> {
        self.blocks("variable")
            .map(|block| {
                let variable = Variable {
                    kind: block
                        .body
                        .get_attribute("type")
                        .map_or(Type::Word("any".into()), |t| kind(&t.value)),
                    required: !block.body.has_attribute("default"),
                };
                (label(block, 0).to_owned(), variable)
            })
            .collect()
    }

    /// The range of each provider that the code asks for, by the provider's source.
    pub(crate) fn providers(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for required in self
            .blocks("terraform")
            .flat_map(|t| t.body.get_blocks("required_providers"))
        {
            for attribute in required.body.attributes() {
                let Some(object) = attribute.value.as_object() else {
                    continue;
                };
                let text = |name: &str| {
                    let entry = object.iter().find(|(key, _)| key_text(key).as_deref() == Some(name));
                    entry
                        .and_then(|(_, value)| value.expr().as_str())
                        .unwrap_or_default()
                        .to_owned()
                };
                found.insert(text("source"), text("version"));
            }
        }
        found
    }

    /// The versions of Terraform that the code asks for.
    pub(crate) fn terraform(&self) -> String {
        self.blocks("terraform")
            .find_map(|t| t.body.get_attribute("required_version"))
            .and_then(|a| a.value.as_str())
            .unwrap_or_default()
            .to_owned()
    }

    /// The form of an expression. `scope` has the variables of the `for` expressions around it.
    fn shape(&self, expression: &Expression, scope: &BTreeMap<String, Shape>) -> Shape {
        match expression {
            Expression::Parenthesis(inner) => self.shape(inner.inner(), scope),
            Expression::Object(object) => Shape::Keys(
                object
                    .iter()
                    .filter_map(|(key, value)| Some((key_text(key)?, self.shape(value.expr(), scope))))
                    .collect(),
            ),
            Expression::Array(items) => items
                .iter()
                .map(|item| self.shape(item, scope))
                .reduce(Shape::and)
                .map_or(Shape::Opaque, |item| Shape::Each(Box::new(item))),
            Expression::Conditional(choice) => self
                .shape(&choice.true_expr, scope)
                .and(self.shape(&choice.false_expr, scope)),
            Expression::ForExpr(each) => {
                let mut scope = scope.clone();
                let item = self.shape(&each.intro.collection_expr, &scope).item();
                scope.insert(each.intro.value_var.to_string(), item);
                let value = self.shape(&each.value_expr, &scope);
                // A key that is written as text is the key.
                match each.key_expr.as_ref().and_then(Expression::as_str) {
                    Some(key) => Shape::Keys(BTreeMap::from([(key.to_owned(), value)])),
                    None => Shape::Each(Box::new(value)),
                }
            }
            Expression::FuncCall(call) if call.name.name.as_str() == "merge" => call
                .args
                .iter()
                .map(|argument| self.shape(argument, scope))
                .reduce(Shape::and)
                .unwrap_or(Shape::Opaque),
            Expression::Variable(name) => scope.get(name.as_str()).cloned().unwrap_or(Shape::Opaque),
            Expression::Traversal(traversal) => match names_of(traversal).as_slice() {
                [root, local] if root == "local" => self.local(local),
                _ => Shape::Opaque,
            },
            _ => Shape::Opaque,
        }
    }

    fn local(&self, name: &str) -> Shape {
        self.blocks("locals")
            .find_map(|block| block.body.get_attribute(name))
            .map_or(Shape::Opaque, |a| self.shape(&a.value, &BTreeMap::new()))
    }
}

impl Shape {
    /// Both together: what either has by name.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Keys(mut one), Self::Keys(other)) => {
                for (key, shape) in other {
                    let both = match one.remove(&key) {
                        Some(first) => first.and(shape),
                        None => shape,
                    };
                    one.insert(key, both);
                }
                Self::Keys(one)
            }
            (Self::Each(one), Self::Each(other)) => Self::Each(Box::new(one.and(*other))),
            (Self::Keys(keys), Self::Each(each)) | (Self::Each(each), Self::Keys(keys)) => {
                let all = keys.into_values().fold(*each, Self::and);
                Self::Each(Box::new(all))
            }
            (Self::Opaque, shape) | (shape, Self::Opaque) => shape,
        }
    }

    /// The form of every element together.
    fn item(self) -> Self {
        match self {
            Self::Keys(keys) => keys.into_values().reduce(Self::and).unwrap_or(Self::Opaque),
            Self::Each(each) => *each,
            Self::Opaque => Self::Opaque,
        }
    }
}

impl Type {
    /// What of this type a value of the form `shape` uses.
    ///
    /// # Errors
    /// The path of a name that the type does not have. Terraform drops such a name without a word.
    pub(crate) fn used_by(&self, shape: &Shape, path: &str) -> Result<Self, String> {
        Ok(match (self, shape) {
            (_, Shape::Opaque) => self.summary(),
            (Self::Word(word), _) if word == "any" => self.clone(),
            (Self::Map(item) | Self::List(item), _) => {
                let used = item.used_by(&shape.clone().item(), &format!("{path}[*]"))?;
                match self {
                    Self::List(_) => Self::List(Box::new(used)),
                    _ => Self::Map(Box::new(used)),
                }
            }
            (Self::Object(attributes), Shape::Keys(keys)) => {
                let mut used = BTreeMap::new();
                for (key, shape) in keys {
                    let path = format!("{path}.{key}");
                    let Some(kind) = attributes.get(key) else {
                        return Err(path);
                    };
                    used.insert(key.clone(), kind.used_by(shape, &path)?);
                }
                Self::Object(used)
            }
            _ => return Err(path.to_owned()),
        })
    }

    /// The type without the attributes of objects.
    fn summary(&self) -> Self {
        match self {
            Self::Object(_) => Self::Object(BTreeMap::new()),
            Self::Map(item) => Self::Map(Box::new(item.summary())),
            Self::List(item) => Self::List(Box::new(item.summary())),
            Self::Word(_) => self.clone(),
        }
    }
}

fn parse(text: &str) -> Result<Vec<Block>, String> {
    let body: Body = text.parse().map_err(|e: hcl_edit::parser::Error| e.to_string())?;
    Ok(body.into_blocks().collect())
}

/// A block's label, or nothing.
pub(crate) fn label(block: &Block, index: usize) -> &str {
    block.labels.get(index).map_or("", |l| l.as_str())
}

fn key_text(key: &ObjectKey) -> Option<String> {
    match key {
        ObjectKey::Ident(name) => Some(name.to_string()),
        ObjectKey::Expression(expression) => expression.as_str().map(str::to_owned),
    }
}

/// A reference's names, with `[*]` for an index.
fn names_of(traversal: &Traversal) -> Vec<String> {
    let root = match &traversal.expr {
        Expression::Variable(name) => name.to_string(),
        _ => String::new(),
    };
    let rest = traversal.operators.iter().map(|operator| match operator.value() {
        TraversalOperator::GetAttr(name) => name.to_string(),
        _ => "[*]".to_owned(),
    });
    std::iter::once(root).chain(rest).collect()
}

/// Collects references; knows what the variables of the `for` expressions around it go through.
#[derive(Default)]
struct References {
    found: Vec<Vec<String>>,
    scope: Vec<(String, Vec<String>)>,
}

impl Visit for References {
    fn visit_traversal(&mut self, node: &Traversal) {
        let mut names = names_of(node);
        let element = self
            .scope
            .iter()
            .rev()
            .find(|(variable, _)| Some(variable) == names.first());
        if let Some((_, element)) = element {
            names.splice(0..1, element.clone());
        }
        self.found.push(names);
        visit_traversal(self, node);
    }

    fn visit_for_expr(&mut self, node: &ForExpr) {
        let mut element = match &node.intro.collection_expr {
            Expression::Traversal(traversal) => names_of(traversal),
            _ => Vec::new(),
        };
        element.push("[*]".to_owned());
        self.scope.push((node.intro.value_var.to_string(), element));
        visit_for_expr(self, node);
        self.scope.pop();
    }
}

/// A type constraint (<https://developer.hashicorp.com/terraform/language/expressions/type-constraints>).
fn kind(expression: &Expression) -> Type {
    match expression {
        Expression::Variable(word) => Type::Word(word.to_string()),
        Expression::FuncCall(call) => {
            let first = call.args.get(0);
            let inner = || Box::new(first.map_or(Type::Word("any".into()), kind));
            match call.name.name.as_str() {
                "map" => Type::Map(inner()),
                "list" | "set" => Type::List(inner()),
                "optional" => *inner(),
                "object" => Type::Object(
                    first
                        .and_then(Expression::as_object)
                        .into_iter()
                        .flat_map(|object| object.iter())
                        .filter_map(|(key, value)| Some((key_text(key)?, kind(value.expr()))))
                        .collect(),
                ),
                _ => Type::Word("any".into()),
            }
        }
        _ => Type::Word("any".into()),
    }
}
