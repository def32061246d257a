use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::Serialize;

use crate::config::{Environment, Project, Source, parse};
use crate::error::{Error, ErrorKind, IoContext as _, Result};
use crate::git::Checkout;
use crate::model::{ImageVersion, Scalar as _};
use crate::render::helm_values;
use crate::render::pins::{APP_VERSION, DIGEST, TAG, broken, mistake};
use crate::render::tree::write_atomically;
use crate::workflow::Lock;
use crate::yaml;

/// What `bump` shall do.
#[derive(Debug, Clone)]
pub struct BumpOptions {
    /// The chart, a folder of `cd/charts`.
    pub chart: String,
    /// The version of its image.
    pub version: String,
    /// The environment whose own version it is; `None` for that of the chart.
    pub environment: Option<String>,
    /// Commit the changed files.
    pub commit: bool,
    /// The day on which environment files are read.
    pub today: Date,
}

/// What `bump` did.
#[derive(Debug, Serialize)]
pub struct BumpSummary {
    /// The chart.
    pub chart: String,
    /// The version of its image.
    pub version: String,
    /// The values that changed, in the order in which they were written.
    pub changes: Vec<ChangedValue>,
    /// The commit that was made.
    pub commit: Option<String>,
    /// What the user should know besides.
    pub notes: Vec<String>,
}

/// A value that changed.
#[derive(Debug, Serialize)]
pub struct ChangedValue {
    /// Path of the file, relative to the project.
    pub file: PathBuf,
    /// The line of the new value, counted from 1.
    pub line: usize,
    /// The keys that lead to it, with dots between.
    pub key: String,
    /// What stood there; `None` for nothing.
    pub old: Option<String>,
    /// What stands there now; empty where a digest was taken away.
    pub new: String,
}

/// The workloads whose version an environment can set, which are the images of its `images.versions`.
const WORKLOADS: [&str; 2] = ["exporter", "main-service"];

/// A value to be set in a file.
type Wanted<'a> = (Vec<&'a str>, String);

/// A file that is edited or generated.
struct Edit<'a> {
    path: PathBuf,
    old: String,
    new: String,
    /// None where the file is generated.
    wanted: Vec<Wanted<'a>>,
    changes: Vec<ChangedValue>,
}

/// Sets the version of a chart's image, everywhere or in one environment. Run again, it finds nothing to do, or does what
/// a run that was cut off left undone.
///
/// # Errors
/// The version or the chart is none, a file cannot be read or written, or nothing can be committed. Nothing is written
/// unless everything can be, as far as that can be known.
pub async fn bump(project: &Project, options: &BumpOptions) -> Result<BumpSummary> {
    let version = ImageVersion::parse(&options.version).map_err(|invalid| {
        let error = Error::usage(invalid.message);
        match invalid.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })?;
    let chart = options.chart.as_str();
    let mut notes = Vec::new();
    let environment = match &options.environment {
        None => {
            check_chart(chart, &charts(project)?)?;
            None
        }
        Some(name) => {
            check_workload(chart)?;
            // Its mistakes are told before anything is changed.
            project.load(name, options.today)?;
            Some(name.as_str())
        }
    };
    let _lock = Lock::acquire(&project.private("bump"), "bump", chart)?;
    let edits = match environment {
        Some(name) => environment_edits(project, name, chart, &version, options.today, &mut notes)?,
        None => {
            notes.extend(environments_of_their_own(project, chart, options.today)?);
            chart_edits(project, chart, &version)?
        }
    };
    let checkout = Checkout::new(project.root());
    let uncommitted = if options.commit {
        checkout.ready().await?;
        uncommitted(&checkout, &edits).await?
    } else {
        Vec::new()
    };
    for edit in edits.iter().filter(|edit| edit.old != edit.new) {
        let path = project.root().join(&edit.path);
        // A link stays one.
        let path = path.canonicalize().unwrap_or(path);
        write_atomically(&path, edit.new.as_bytes())?;
    }
    let changes: Vec<ChangedValue> = edits.into_iter().flat_map(|edit| edit.changes).collect();
    let commit = if uncommitted.is_empty() {
        None
    } else {
        let place = environment.map(|name| format!(" in {name}")).unwrap_or_default();
        let message = format!("Bump {chart} to {}{place}", short(&version));
        let commit = checkout.commit(&uncommitted, &message).await.map_err(|error| {
            let mut error = Error::from(error);
            error.hints =
                vec!["the files are written: mend the cause and run the same command again to commit them".to_owned()];
            error
        })?;
        Some(commit)
    };
    Ok(BumpSummary {
        chart: chart.to_owned(),
        version: version.to_string(),
        changes,
        commit,
        notes,
    })
}

/// The version as a title has it: of a digest alone, the first 12 digits.
fn short(version: &ImageVersion) -> String {
    match (version.tag(), version.digest()) {
        (Some(tag), _) => tag.to_owned(),
        (None, digest) => digest.unwrap_or_default().chars().take("sha256:".len() + 12).collect(),
    }
}

fn values_file(chart: &str) -> PathBuf {
    Path::new("cd/charts").join(chart).join("values.yaml")
}

fn read(project: &Project, path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(project.root().join(path)) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).or_cannot(|| format!("read {}", path.display())),
    }
}

/// The charts whose image has a tag, sorted.
fn charts(project: &Project) -> Result<Vec<String>> {
    let dir = project.root().join("cd/charts");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::new(
                ErrorKind::Configuration,
                "this project has no charts: cd/charts does not exist",
            )
            .hint("write them with `mfsre render ENV`"));
        }
        Err(e) => return Err(e).or_cannot(|| format!("read {}", dir.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.or_cannot(|| format!("read {}", dir.display()))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let has_tag = |text: String| yaml::get(&text, TAG).map_or(true, |found| found.is_some());
        // A file that cannot be read is told when its chart is asked for.
        if read(project, &values_file(name)).map_or(true, |text| text.is_some_and(has_tag)) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn check_workload(chart: &str) -> Result<()> {
    if WORKLOADS.contains(&chart) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "an environment cannot have its own version of the chart {chart:?}"
    ))
    .hint(format!(
        "it can have one of {}; leave out --environment for the others",
        WORKLOADS.join(", ")
    )))
}

fn check_chart(chart: &str, known: &[String]) -> Result<()> {
    if known.iter().any(|k| k == chart) {
        return Ok(());
    }
    let error = Error::usage(format!("there is no chart {chart:?} with an image in cd/charts"));
    let nearest = known.iter().min_by_key(|k| strsim::damerau_levenshtein(k, chart));
    Err(match nearest {
        Some(nearest) if strsim::damerau_levenshtein(nearest, chart) <= 2 => {
            error.hint(format!("did you mean {nearest:?}?"))
        }
        Some(_) => error.hint(format!("charts here: {}", known.join(", "))),
        None => error.hint("write the charts with `mfsre render ENV`"),
    })
}

/// Sets `wanted` in `text`, and says what changed.
fn edit<'a>(path: PathBuf, old: String, wanted: Vec<Wanted<'a>>, hint: Option<&str>) -> Result<Edit<'a>> {
    let mistaken = |text: &str, error| match hint {
        Some(hint) => mistake(&path, text, error, hint),
        None => broken(&path, text, error),
    };
    let mut new = old.clone();
    let mut changed = Vec::new();
    for (key, value) in &wanted {
        let before = yaml::get(&new, key).map_err(|e| mistaken(&new, e))?;
        let edited = yaml::set(&new, key, value).map_err(|e| mistaken(&new, e))?;
        if edited != new {
            changed.push((key, before.map(|found| found.value), value));
        }
        new = edited;
    }
    let mut changes = Vec::new();
    for (key, old, value) in changed {
        let place = yaml::get(&new, key).map_err(|e| mistaken(&new, e))?;
        changes.push(ChangedValue {
            file: path.clone(),
            line: place.map_or(1, |found| yaml::line(&new, found.span.start)),
            key: key.join("."),
            old,
            new: value.clone(),
        });
    }
    Ok(Edit {
        path,
        old,
        new,
        wanted,
        changes,
    })
}

/// What the version is in a chart's values. A tag takes a digest away, which would go over it; a digest leaves the tag.
fn wanted_values(version: &ImageVersion, has_digest: bool) -> Vec<Wanted<'static>> {
    let mut wanted = Vec::new();
    if let Some(tag) = version.tag() {
        wanted.push((TAG.to_vec(), tag.to_owned()));
    }
    if has_digest || version.digest().is_some() {
        wanted.push((DIGEST.to_vec(), version.digest().unwrap_or_default().to_owned()));
    }
    wanted
}

fn chart_edits(project: &Project, chart: &str, version: &ImageVersion) -> Result<Vec<Edit<'static>>> {
    let missing = |path: &Path| {
        Error::new(ErrorKind::Configuration, format!("{} does not exist", path.display()))
            .hint("a chart has a Chart.yaml and a values.yaml; `mfsre render ENV` writes those of mfsre")
    };
    let path = values_file(chart);
    let text = read(project, &path)?.ok_or_else(|| missing(&path))?;
    let digest = yaml::get(&text, DIGEST).map_err(|e| broken(&path, &text, e))?;
    let values = edit(path, text, wanted_values(version, digest.is_some()), None)?;
    let path = Path::new("cd/charts").join(chart).join("Chart.yaml");
    let text = read(project, &path)?.ok_or_else(|| missing(&path))?;
    let chart = edit(path, text, vec![(APP_VERSION.to_vec(), version.app_version())], None)?;
    Ok(vec![values, chart])
}

/// The environments in which the chart has a version of its own, as remarks: what is set for all does not reach them.
fn environments_of_their_own(project: &Project, chart: &str, today: Date) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for name in project.environments()? {
        // Mistakes in an environment's file are not the business of a chart.
        let Ok(loaded) = project.load(&name, today) else {
            continue;
        };
        if let Some(version) = loaded.environment.images.versions.get(chart) {
            notes.push(format!(
                "environments/{name}.yaml keeps its own version of {chart}, {version}"
            ));
        }
    }
    Ok(notes)
}

/// The environment's file, and the values that are generated from it.
fn environment_edits<'a>(
    project: &Project,
    name: &str,
    chart: &'a str,
    version: &ImageVersion,
    today: Date,
    notes: &mut Vec<String>,
) -> Result<Vec<Edit<'a>>> {
    let path = PathBuf::from(format!("environments/{name}.yaml"));
    let text = read(project, &path)?
        .ok_or_else(|| Error::new(ErrorKind::Configuration, format!("{} does not exist", path.display())))?;
    let wanted = vec![(vec!["images", "versions", chart], version.to_string())];
    let hint = format!("write it there yourself, as `images: {{versions: {{{chart}: \"{version}\"}}}}`");
    let authored = edit(path, text, wanted, Some(&hint))?;
    let source = Source {
        path: authored.path.display().to_string(),
        text: authored.new.clone(),
    };
    let environment: Environment = parse(source, name, today)
        .map_err(|d| crate::config::ProjectError::Invalid(Box::new(d)))?
        .environment;
    let mut edits = vec![authored];
    let path = Path::new("cd/environments")
        .join(environment.name.as_str())
        .join("values.yaml");
    match read(project, &path)? {
        None => notes.push(format!(
            "{} is not there yet: `mfsre render {name}` writes it",
            path.display()
        )),
        Some(old) => {
            let new = helm_values(&environment)?;
            edits.push(Edit {
                changes: generated_changes(&path, chart, &old, &new),
                wanted: Vec::new(),
                old,
                new,
                path,
            });
        }
    }
    Ok(edits)
}

/// Where the version of `chart` differs in the values of an environment.
fn generated_changes(path: &Path, chart: &str, old: &str, new: &str) -> Vec<ChangedValue> {
    let workload = if chart == "exporter" { "exporter" } else { "mainService" };
    [TAG, DIGEST]
        .into_iter()
        .filter_map(|pin| {
            let key: Vec<&str> = std::iter::once(workload).chain(pin.iter().copied()).collect();
            // What cannot be read is generated anew.
            let old = yaml::get(old, &key).ok().flatten().map(|found| found.value);
            let found = yaml::get(new, &key).ok().flatten();
            let value = found.as_ref().map(|found| found.value.clone());
            let differs = old.as_deref().unwrap_or_default() != value.as_deref().unwrap_or_default();
            differs.then(|| ChangedValue {
                file: path.to_owned(),
                line: found.map_or(1, |found| yaml::line(new, found.span.start)),
                key: key.join("."),
                old,
                new: value.unwrap_or_default(),
            })
        })
        .collect()
}

/// The files that the commit has to hold, which are those that would differ from the last commit.
async fn uncommitted(checkout: &Checkout, edits: &[Edit<'_>]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for edit in edits {
        let shown = edit.path.display();
        let Some(committed) = checkout.committed(&edit.path).await? else {
            return Err(
                Error::failed(format!("cannot commit {shown} alone: it is not in the last commit"))
                    .hint("commit the project's files first, then run the same command again"),
            );
        };
        if committed == edit.new.as_bytes() {
            continue;
        }
        let generated = edit.wanted.is_empty();
        if !generated && !is_only_the_version(&committed, edit) {
            return Err(Error::failed(format!(
                "cannot commit the version alone: {shown} has other changes that are not committed"
            ))
            .hint("commit or stash them first, or leave out --commit"));
        }
        files.push(edit.path.clone());
    }
    Ok(files)
}

/// Whether nothing but the version differs from the last commit, also where a run that was cut off has written it.
fn is_only_the_version(committed: &[u8], edit: &Edit<'_>) -> bool {
    if committed == edit.old.as_bytes() {
        return true;
    }
    let edited = edit
        .wanted
        .iter()
        .try_fold(String::from_utf8_lossy(committed).into_owned(), |text, (key, value)| {
            yaml::set(&text, key, value)
        });
    edited.is_ok_and(|edited| edited == edit.new)
}
