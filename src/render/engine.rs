use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use tera::{Context, Delimiters, Tera};

use super::tree::Tree;
use super::values;
use crate::config::{Environment, ManifestSource};

static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates");

/// Why rendering failed.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template of the user or of the program is wrong.
    #[error("cannot render templates/{}", path.display())]
    Template {
        /// Path below `templates/`.
        path: PathBuf,
        /// What Tera said.
        source: Box<tera::Error>,
    },
    /// A user's template cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Values cannot be serialised.
    #[error("cannot serialise the values of {file}: {message}")]
    Values {
        /// The file.
        file: &'static str,
        /// What the serialiser said.
        message: String,
    },
    /// Argo CD's manifest has to be placed in Git and is not at hand.
    #[error("the vendored Argo CD manifest is not at hand")]
    NoManifest,
}

/// Renders everything mfsre writes for `environment`. Templates below `overrides` (a project's `templates/`) win over the
/// built-in ones at the same path. `manifest` is Argo CD's install manifest, needed where the environment vendors it.
///
/// # Errors
/// A template is wrong or cannot be read, or the manifest is missing.
pub fn render(
    environment: &Environment,
    overrides: Option<&Path>,
    manifest: Option<&[u8]>,
) -> Result<Tree, RenderError> {
    let templates = collect(overrides)?;
    let context = context(environment)?;
    let yaml = engine(&templates, &[".yaml.tera", ".yml.tera"], quote_json)?;
    let hcl = engine(&templates, &[".tf.tera", ".hcl.tera"], quote_hcl)?;
    let mut files = BTreeMap::new();
    for (path, contents) in &templates {
        let Some(target) = target(path, environment) else {
            continue;
        };
        let name = path.to_string_lossy();
        let rendered = match name.strip_suffix(".tera") {
            None => contents.to_vec(),
            Some(stripped) => {
                let tera = if stripped.ends_with(".tf") || stripped.ends_with(".hcl") {
                    &hcl
                } else {
                    &yaml
                };
                tera.render(&name, &context)
                    .map_err(|source| RenderError::Template {
                        path: path.clone(),
                        source: Box::new(source),
                    })?
                    .into_bytes()
            }
        };
        // A template can leave its file out by rendering to nothing.
        if !rendered.trim_ascii().is_empty() || !name.ends_with(".tera") {
            files.insert(target, rendered);
        }
    }
    let name = environment.name.as_str();
    files.insert(
        PathBuf::from("infra").join(name).join("terraform.tfvars.json"),
        values::terraform_variables(environment)?.into_bytes(),
    );
    files.insert(
        PathBuf::from("cd/environments").join(name).join("values.yaml"),
        values::helm_values(environment)?.into_bytes(),
    );
    if environment.argocd.manifest == ManifestSource::Vendored {
        let manifest = manifest.ok_or(RenderError::NoManifest)?;
        files.insert(values::vendored_manifest_path(environment), manifest.to_vec());
    }
    Ok(Tree::new(files, environment.name.clone()))
}

/// Renders one YAML template that is no part of an environment.
pub(super) fn render_yaml(path: &Path, template: &str, values: &serde_json::Value) -> Result<String, RenderError> {
    let wrong = |source| RenderError::Template {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let templates = Templates::from([(path.to_owned(), Cow::Owned(template.as_bytes().to_vec()))]);
    let tera = engine(&templates, &[".yaml.tera"], quote_json)?;
    let context = Context::from_serialize(values).map_err(wrong)?;
    tera.render(&path.to_string_lossy(), &context).map_err(wrong)
}

/// Where the file made from a template goes; `None` for templates that are not part of an environment.
fn target(path: &Path, environment: &Environment) -> Option<PathBuf> {
    let text = path.to_str()?;
    let text = text.strip_suffix(".tera").unwrap_or(text);
    let name = environment.name.as_str();
    if let Some(rest) = text.strip_prefix("terraform/modules/") {
        return Some(Path::new("modules").join(rest));
    }
    if let Some(rest) = text.strip_prefix("terraform/root/") {
        return Some(Path::new("infra").join(name).join(rest));
    }
    if text == "cd/root.yaml" {
        return Some(PathBuf::from(format!("cd/root/{name}.yaml")));
    }
    if let Some(rest) = text.strip_prefix("cd/environment/") {
        return Some(Path::new("cd/environments").join(name).join(rest));
    }
    text.starts_with("cd/").then(|| PathBuf::from(text))
}

type Templates = BTreeMap<PathBuf, Cow<'static, [u8]>>;

fn collect(overrides: Option<&Path>) -> Result<Templates, RenderError> {
    let mut templates = Templates::new();
    let mut pending = vec![&BUILT_IN];
    while let Some(dir) = pending.pop() {
        pending.extend(dir.dirs());
        for file in dir.files() {
            templates.insert(file.path().to_owned(), Cow::Borrowed(file.contents()));
        }
    }
    if let Some(root) = overrides {
        collect_overrides(root, root, &mut templates)?;
    }
    Ok(templates)
}

fn collect_overrides(root: &Path, dir: &Path, templates: &mut Templates) -> Result<(), RenderError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| RenderError::Unreadable { path, source }
    };
    for entry in std::fs::read_dir(dir).map_err(unreadable(dir))? {
        let path = entry.map_err(unreadable(dir))?.path();
        if path.is_dir() {
            // Terraform's working folder may lie in a module that someone tries out in place.
            if path.file_name().is_none_or(|n| n != ".terraform") {
                collect_overrides(root, &path, templates)?;
            }
        } else if let Ok(relative) = path.strip_prefix(root) {
            let contents = std::fs::read(&path).map_err(unreadable(&path))?;
            // A file takes the place of a built-in one whether that is a template or not.
            let name = relative.to_string_lossy();
            let counterpart = match name.strip_suffix(".tera") {
                Some(plain) => plain.to_owned(),
                None => format!("{name}.tera"),
            };
            if BUILT_IN.get_file(&counterpart).is_some() {
                templates.remove(Path::new(&counterpart));
            }
            templates.insert(relative.to_owned(), Cow::Owned(contents));
        }
    }
    Ok(())
}

fn engine(templates: &Templates, suffixes: &'static [&'static str], quote: Quote) -> Result<Tera, RenderError> {
    let mut tera = Tera::default();
    let wrong = |path: &Path, source: tera::Error| RenderError::Template {
        path: path.to_owned(),
        source: Box::new(source),
    };
    tera.set_delimiters(Delimiters {
        block_start: "<%".into(),
        block_end: "%>".into(),
        variable_start: "@{".into(),
        variable_end: "}@".into(),
        comment_start: "<#".into(),
        comment_end: "#>".into(),
    })
    .map_err(|e| wrong(Path::new(""), e))?;
    tera.autoescape_on(suffixes.to_vec());
    tera.set_escape_fn(quote);
    tera.register_filter("json", Json { quote });
    for (path, contents) in templates {
        let name = path.to_string_lossy();
        if suffixes.iter().any(|s| name.ends_with(s)) {
            let text = String::from_utf8_lossy(contents);
            tera.add_raw_template(&name, &text).map_err(|e| wrong(path, e))?;
        }
    }
    Ok(tera)
}

fn context(environment: &Environment) -> Result<Context, RenderError> {
    let wrong = |e: tera::Error| RenderError::Values {
        file: "the templates",
        message: e.to_string(),
    };
    let mut context = Context::from_serialize(environment).map_err(wrong)?;
    for (key, value) in values::derived(environment) {
        context.insert(key, &value);
    }
    Ok(context)
}

type Quote = fn(&str, &mut dyn Write) -> std::io::Result<()>;

/// Prints a list or a mapping with the punctuation of JSON, which YAML and HCL share, and each string in it quoted for
/// the language.
struct Json {
    quote: Quote,
}

impl Json {
    fn write(&self, value: &serde_json::Value, out: &mut dyn Write) -> std::io::Result<()> {
        let comma = |i: usize| if i == 0 { "" } else { ", " };
        match value {
            serde_json::Value::String(text) => (self.quote)(text, out),
            serde_json::Value::Array(items) => {
                write!(out, "[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(out, "{}", comma(i))?;
                    self.write(item, out)?;
                }
                write!(out, "]")
            }
            serde_json::Value::Object(map) => {
                write!(out, "{{")?;
                for (i, (key, item)) in map.iter().enumerate() {
                    write!(out, "{}", comma(i))?;
                    (self.quote)(key, out)?;
                    write!(out, ": ")?;
                    self.write(item, out)?;
                }
                write!(out, "}}")
            }
            plain => write!(out, "{plain}"),
        }
    }
}

impl tera::Filter<&tera::Value, tera::TeraResult<String>> for Json {
    fn call(&self, value: &tera::Value, _: tera::Kwargs, _: &tera::State<'_>) -> tera::TeraResult<String> {
        let message = |e: &dyn std::fmt::Display| tera::Error::message(e.to_string());
        let value = serde_json::to_value(value).map_err(|e| message(&e))?;
        let mut out = Vec::new();
        self.write(&value, &mut out).map_err(|e| message(&e))?;
        String::from_utf8(out).map_err(|e| message(&e))
    }

    fn is_safe(&self) -> bool {
        true
    }
}

/// A JSON string is a double-quoted YAML scalar; the characters YAML calls unprintable are escaped as well.
fn quote_json(text: &str, out: &mut dyn Write) -> std::io::Result<()> {
    let json = serde_json::to_string(text)?;
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                write!(out, "\\u{:04x}", c as u32)?
            }
            _ => write!(out, "{c}")?,
        }
    }
    Ok(())
}

/// A quoted HCL template without interpolation
/// (<https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#template-expressions>).
fn quote_hcl(text: &str, out: &mut dyn Write) -> std::io::Result<()> {
    out.write_all(b"\"")?;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => out.write_all(b"\\\"")?,
            '\\' => out.write_all(b"\\\\")?,
            '\n' => out.write_all(b"\\n")?,
            '\r' => out.write_all(b"\\r")?,
            '\t' => out.write_all(b"\\t")?,
            '$' | '%' if chars.peek() == Some(&'{') => write!(out, "{c}{c}")?,
            c if c.is_control() => write!(out, "\\u{:04x}", c as u32)?,
            c => write!(out, "{c}")?,
        }
    }
    out.write_all(b"\"")
}
