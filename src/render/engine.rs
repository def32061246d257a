use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use tera::{Context, Delimiters, Tera};

use super::tree::{MARK, Origin, Tree, is_marked};
use super::{modules, values};
use crate::config::{Blueprint, Environment, ManifestSource, OwnBlueprint};

static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates");

/// Why rendering failed.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template of the user or of the program is wrong.
    #[error("cannot render {}", path.display())]
    Template {
        /// Path relative to the project.
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
    /// Copies of modules are used, and one cannot be.
    #[error("cannot take the modules of {} from mirrors.modules: {message}", path.display())]
    Module {
        /// The template.
        path: PathBuf,
        /// Why.
        message: String,
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
/// A template is wrong or cannot be read, a module has no copy where copies are used, or the manifest is missing.
pub fn render(
    environment: &Environment,
    overrides: Option<&Path>,
    manifest: Option<&[u8]>,
) -> Result<Tree, RenderError> {
    let templates = collect(environment, overrides)?;
    let context = context(environment)?;
    let yaml = engine(&templates, &[".yaml.tera", ".yml.tera"], quote_json)?;
    let hcl = engine(&templates, &[".tf.tera", ".hcl.tera"], quote_hcl)?;
    let mut files = BTreeMap::new();
    let mut origins = BTreeMap::new();
    for (path, contents) in &templates {
        let Some(Target { path: target, shared }) = target(path, environment) else {
            continue;
        };
        // A blueprint that has such a file itself comes first in the order of the templates.
        if shared && files.contains_key(&target) {
            continue;
        }
        let name = path.to_string_lossy();
        let mut rendered = match name.strip_suffix(".tera") {
            None => contents.to_vec(),
            Some(stripped) => {
                let tera = if stripped.ends_with(".tf") || stripped.ends_with(".hcl") {
                    &hcl
                } else {
                    &yaml
                };
                tera.render(&name, &context)
                    .map_err(|source| RenderError::Template {
                        path: shown(path),
                        source: Box::new(source),
                    })?
                    .into_bytes()
            }
        };
        // A template can leave its file out by rendering to nothing.
        if rendered.trim_ascii().is_empty() && name.ends_with(".tera") {
            continue;
        }
        let terraform = target.extension().is_some_and(|e| e == "tf");
        if let Some(mirror) = environment.mirrors.modules.as_deref()
            && terraform
            && target.starts_with("infra")
        {
            rendered = modules::use_copies(&String::from_utf8_lossy(&rendered), &target, mirror)
                .map_err(|message| RenderError::Module {
                    path: shown(path),
                    message,
                })?
                .into_bytes();
        }
        // Only what says that it was generated is removed again when it is rendered no more. The built-in templates do, and those
        // of the project are helped where the file can hold a remark.
        // Beside the Terraform code a YAML file may be of another language, in which the first line has a meaning.
        let yaml = target.extension().is_some_and(|e| e == "yaml" || e == "yml") && target.starts_with("cd");
        let remarks = terraform || yaml || target.extension().is_some_and(|e| e == "hcl");
        let marked = matches!(contents, Cow::Borrowed(_)) || is_marked(&rendered) || !remarks;
        let header = if marked {
            String::new()
        } else {
            format!("# {MARK} from {}. Edit that file instead.\n\n", shown(path).display())
        };
        let origin = Origin {
            path: shown(path),
            rendered: name.ends_with(".tera") || environment.mirrors.modules.is_some(),
            header: header.len(),
        };
        origins.insert(target.clone(), origin);
        rendered.splice(0..0, header.bytes());
        files.insert(target, rendered);
    }
    let name = environment.name.as_str();
    let infra = PathBuf::from("infra").join(name);
    let variables = match environment.blueprint {
        Blueprint::Path(_) => values::declared_variables(environment, &declared_variables(&files, &infra))?,
        Blueprint::BuiltIn | Blueprint::EksBlueprints => values::terraform_variables(environment)?,
    };
    files.insert(infra.join("terraform.tfvars.json"), variables.into_bytes());
    files.insert(
        PathBuf::from("cd/environments").join(name).join("values.yaml"),
        values::helm_values(environment)?.into_bytes(),
    );
    if environment.argocd.manifest == ManifestSource::Vendored {
        let manifest = manifest.ok_or(RenderError::NoManifest)?;
        let header =
            format!("# {MARK}: what Argo CD has published. Set argocd.manifest in environments/{name}.yaml instead.\n");
        files.insert(
            values::vendored_manifest_path(environment),
            [header.as_bytes(), manifest].concat(),
        );
    }
    Ok(Tree::new(files, origins, environment.name.clone()))
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

/// The variables that the root module in `infra` declares. A file that is not HCL declares none here; what is wrong with it
/// is told when the blueprint is checked.
fn declared_variables(files: &BTreeMap<PathBuf, Vec<u8>>, infra: &Path) -> Vec<String> {
    files
        .iter()
        .filter(|(path, _)| path.parent() == Some(infra) && path.extension().is_some_and(|e| e == "tf"))
        .filter_map(|(_, contents)| {
            String::from_utf8_lossy(contents)
                .parse::<hcl_edit::structure::Body>()
                .ok()
        })
        .flat_map(|body| {
            body.get_blocks("variable")
                .filter_map(|block| block.labels.first().map(|label| label.as_str().to_owned()))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A template's path for people.
fn shown(path: &Path) -> PathBuf {
    match path.strip_prefix(".") {
        Ok(own) => own.to_owned(),
        Err(_) => Path::new("templates").join(path),
    }
}

/// Where the file made from a template goes.
struct Target {
    path: PathBuf,
    /// It is there for all blueprints, unless one has its own.
    shared: bool,
}

/// What blueprints other than the built-in one take from its root module. A blueprint of the project's own declares its
/// provider and variables itself.
const SHARED_FILES: [&str; 3] = ["backend.tf", "provider.tf", "variables.tf"];

/// `None` for templates that are not part of the environment.
fn target(path: &Path, environment: &Environment) -> Option<Target> {
    let text = path.to_str()?;
    let text = text.strip_suffix(".tera").unwrap_or(text);
    let name = environment.name.as_str();
    let at = |path: PathBuf| Some(Target { path, shared: false });
    let infra = |rest: &Path| Path::new("infra").join(name).join(rest);
    if path.starts_with(".") {
        let Blueprint::Path(own) = &environment.blueprint else {
            return None;
        };
        return at(infra(Path::new(text).strip_prefix(own_key(own)).ok()?));
    }
    if let Some(rest) = text.strip_prefix("blueprints/eks-blueprints/") {
        return at(infra(Path::new(rest))).filter(|_| environment.blueprint == Blueprint::EksBlueprints);
    }
    if let Some(rest) = text.strip_prefix("terraform/modules/") {
        return at(Path::new("modules").join(rest)).filter(|_| environment.blueprint == Blueprint::BuiltIn);
    }
    if let Some(rest) = text.strip_prefix("terraform/root/") {
        let shared = match environment.blueprint {
            Blueprint::BuiltIn => return at(infra(Path::new(rest))),
            Blueprint::EksBlueprints => &SHARED_FILES[..],
            Blueprint::Path(_) => &SHARED_FILES[..1],
        };
        return shared.contains(&rest).then(|| Target {
            path: infra(Path::new(rest)),
            shared: true,
        });
    }
    if text == "cd/root.yaml" {
        return at(PathBuf::from(format!("cd/root/{name}.yaml")));
    }
    if let Some(rest) = text.strip_prefix("cd/environment/") {
        return at(Path::new("cd/environments").join(name).join(rest));
    }
    at(PathBuf::from(text)).filter(|_| text.starts_with("cd/"))
}

/// Templates by their path below `templates/`; those of a project's own blueprint by their path in the project, behind `./`.
type Templates = BTreeMap<PathBuf, Cow<'static, [u8]>>;

fn own_key(own: &OwnBlueprint) -> PathBuf {
    Path::new(".").join(&own.path)
}

fn collect(environment: &Environment, overrides: Option<&Path>) -> Result<Templates, RenderError> {
    let mut templates = Templates::new();
    let mut pending = vec![&BUILT_IN];
    while let Some(dir) = pending.pop() {
        pending.extend(dir.dirs());
        for file in dir.files() {
            templates.insert(file.path().to_owned(), Cow::Borrowed(file.contents()));
        }
    }
    if let Some(root) = overrides {
        for (relative, contents) in files_below(root)? {
            // A file takes the place of a built-in one whether that is a template or not.
            let name = relative.to_string_lossy();
            let counterpart = match name.strip_suffix(".tera") {
                Some(plain) => plain.to_owned(),
                None => format!("{name}.tera"),
            };
            if BUILT_IN.get_file(&counterpart).is_some() {
                templates.remove(Path::new(&counterpart));
            }
            templates.insert(relative, Cow::Owned(contents));
        }
    }
    if let Blueprint::Path(own) = &environment.blueprint {
        for (relative, contents) in files_below(&own.location)? {
            templates.insert(own_key(own).join(relative), Cow::Owned(contents));
        }
    }
    Ok(templates)
}

/// Every file below `root`, by its path relative to it. What Terraform leaves in a module that someone tried out in place
/// is none.
fn files_below(root: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, RenderError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| RenderError::Unreadable { path, source }
    };
    let mut files = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).map_err(unreadable(&dir))? {
            let path = entry.map_err(unreadable(&dir))?.path();
            let name = path
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            if path.is_dir() {
                if name != ".terraform" {
                    pending.push(path);
                }
            } else if let Ok(relative) = path.strip_prefix(root)
                && !name.contains(".tfstate")
            {
                let contents = std::fs::read(&path).map_err(unreadable(&path))?;
                files.push((relative.to_owned(), contents));
            }
        }
    }
    Ok(files)
}

fn engine(templates: &Templates, suffixes: &'static [&'static str], quote: Quote) -> Result<Tera, RenderError> {
    let mut tera = Tera::default();
    let wrong = |path: &Path, source: tera::Error| RenderError::Template {
        path: shown(path),
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
pub(super) fn quote_hcl(text: &str, out: &mut dyn Write) -> std::io::Result<()> {
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
