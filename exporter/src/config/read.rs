//! Checks a configuration file and makes of it what the program works with.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use regex_lite::Regex;
use serde_saphyr::{Location, Spanned};
use url::Url;

use super::file::{ConfigFile, MetricFile, ModuleFile, MomentFile, MomentUnit, RequestFile, TlsFile};
use super::{
    Config, ConfigError, Credential, DEFAULT_MODULE, Mistake, Module, Origin, Parameters, Request, Scheme, Target,
};
use crate::fetch::{ClientCertificate, Tls, Trust};
use crate::mapping::{
    Family, Kind, Mapping, MetricSpec, Moment, Path, PathError, Root, Template, ValueSpec, escape_label, number,
};

/// The label by which the exporter tells targets apart.
pub(crate) const TARGET_LABEL: &str = "target";
/// What the names of the exporter's own metrics begin with.
pub(crate) const OWN_PREFIX: &str = "exporter_";

/// Reads a configuration; `name` is what messages call it.
pub(super) fn read(name: &str, text: &str) -> Result<Config, ConfigError> {
    let mut reader = Reader { mistakes: Vec::new() };
    let config = reader.config(text);
    match config {
        Some(config) if reader.mistakes.is_empty() => Ok(config),
        _ => {
            reader.mistakes.sort_by_key(|mistake| mistake.place);
            Err(ConfigError::Mistakes {
                source_name: name.to_owned(),
                mistakes: reader.mistakes,
            })
        }
    }
}

/// A URL that can be polled.
pub(crate) fn url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a password does not belong into a URL; see basic_auth in the documentation".to_owned());
    }
    if url.port() == Some(0) {
        return Err("0 is no port to connect to".to_owned());
    }
    url.set_fragment(None);
    Ok(url)
}

struct Reader {
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn mistake(&mut self, at: Location, message: impl Into<String>) {
        // The parser has no place for what aliases and defaults stand for.
        let place = (at.line() > 0).then(|| (at.line(), at.column()));
        self.mistakes.push(Mistake {
            place,
            message: message.into(),
        });
    }

    /// The value, or a mistake.
    fn take<T>(&mut self, at: Location, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.mistake(at, message)).ok()
    }

    fn config(&mut self, text: &str) -> Option<Config> {
        let options = serde_saphyr::options! { with_snippet: false };
        let file: ConfigFile = match serde_saphyr::from_str_with_options(text, options) {
            Ok(file) => file,
            Err(error) => {
                let message = error.without_snippet().to_string();
                // The place stands in front.
                let message = message.split(" at line ").next().unwrap_or(&message);
                let place = error.location().map(|at| (at.line(), at.column()));
                self.mistakes.push(Mistake {
                    place,
                    message: message.lines().next().unwrap_or_default().to_owned(),
                });
                return None;
            }
        };
        let mut modules = Vec::new();
        for (name, module) in file.modules {
            if let Some(module) = self.module(name, module) {
                modules.push(Arc::new(module));
            }
        }
        let mut targets = Vec::new();
        for target in file.targets {
            let checked = url(&target.url.value);
            let checked = self.take(target.url.referenced, checked);
            let name = target
                .module
                .as_ref()
                .map_or(DEFAULT_MODULE, |module| module.value.as_str());
            let module = modules.iter().find(|module| module.name == name);
            if module.is_none() && self.mistakes.is_empty() {
                let at = target.module.as_ref().map_or(target.url.referenced, |m| m.referenced);
                self.mistake(at, format!("there is no module {name:?} under `modules`"));
            }
            let mut labels = String::new();
            for (name, value) in &target.labels {
                self.label_name(name, value.referenced);
                for part in [",", name, "=\""] {
                    labels.push_str(part);
                }
                escape_label(&value.value, &mut labels);
                labels.push('"');
            }
            if let (Some(url), Some(module)) = (checked, module) {
                let taken: Vec<_> = target
                    .labels
                    .keys()
                    .filter(|name| module.labels.contains(*name))
                    .collect();
                if let Some(name) = taken.first() {
                    self.mistake(
                        target.labels[*name].referenced,
                        format!(
                            "the module {:?} gives its metrics a label {name:?} already",
                            module.name
                        ),
                    );
                }
                let values = module
                    .parameters
                    .values(target.parameters)
                    .map_err(|error| error.to_string());
                targets.extend(self.take(target.url.referenced, values).map(|values| Target {
                    url,
                    module: Arc::clone(module),
                    values,
                    labels,
                }));
            }
        }
        Some(Config { modules, targets })
    }

    fn module(&mut self, name: String, file: ModuleFile) -> Option<Module> {
        let before = self.mistakes.len();
        let mut parameters = Parameters::default();
        for (name, default) in &file.parameters {
            let declared = parameters.declare(name, default.value.as_deref());
            self.take(default.referenced, declared);
        }
        let request = self.request(file.request, &parameters);
        let mut allow = Vec::new();
        for origin in &file.probe.allow {
            let read =
                Origin::parse(&origin.value).map_err(|problem| format!("{:?} is no origin: {problem}", origin.value));
            allow.extend(self.take(origin.referenced, read));
        }
        if file.metrics.value.is_empty() {
            self.mistake(file.metrics.referenced, "a module needs metrics");
        }
        let mut specs = Vec::new();
        let mut places = Vec::new();
        for metric in &file.metrics.value {
            places.push(metric.name.referenced);
            specs.extend(self.metric(metric));
        }
        if self.mistakes.len() > before {
            return None;
        }
        let labels = specs
            .iter()
            .flat_map(|spec| spec.labels.iter().map(|(name, _)| name.clone()))
            .collect();
        match Mapping::new(&specs) {
            Ok(mapping) => Some(Module {
                name,
                parameters,
                request: request?,
                allow,
                labels,
                mapping,
            }),
            Err(error) => {
                self.mistake(places[error.metric], error.message);
                None
            }
        }
    }

    fn request(&mut self, file: RequestFile, parameters: &Parameters) -> Option<Request> {
        let mut headers = Vec::new();
        for (name, value) in file.headers {
            let header = self.header(&name, value.referenced);
            let content = HeaderValue::from_str(&value.value)
                .map_err(|_| "a header's value is one line of visible characters".to_owned())
                .and_then(|_| parameters.text(&value.value));
            let content = self.take(value.referenced, content);
            headers.extend(header.zip(content));
        }
        let body = file.body.and_then(|body| {
            let text = parameters.text(&body.value);
            self.take(body.referenced, text)
        });
        let mut credentials = Vec::new();
        for (name, path) in file.header_files {
            if let Some(header) = self.header(&name, path.referenced) {
                credentials.push(Credential {
                    header,
                    scheme: Scheme::Plain,
                    file: path.value,
                });
            }
        }
        if let Some(path) = file.bearer_token_file {
            if file.basic_auth.is_some() {
                self.mistake(path.referenced, "choose one of bearer_token_file and basic_auth");
            }
            credentials.push(Credential {
                header: AUTHORIZATION,
                scheme: Scheme::Bearer,
                file: path.value,
            });
        }
        if let Some(auth) = file.basic_auth {
            if auth.username.value.contains(':') {
                self.mistake(auth.username.referenced, "a user name has no colon (RFC 7617)");
            }
            credentials.push(Credential {
                header: AUTHORIZATION,
                scheme: Scheme::Basic(auth.username.value),
                file: auth.password_file,
            });
        }
        let mut valid_status = Vec::new();
        for status in file.valid_status.into_iter().flatten() {
            if (200..600).contains(&status.value) {
                valid_status.push(status.value);
            } else {
                self.mistake(status.referenced, "a status is a number from 200 to 599");
            }
        }
        Some(Request {
            headers,
            credentials,
            tls: self.tls(&file.tls)?,
            body,
            valid_status,
        })
    }

    fn header(&mut self, name: &str, at: Location) -> Option<HeaderName> {
        /// What the exporter sets itself; another value would break the request.
        const OWN: [&str; 6] = [
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
            "accept-encoding",
            "te",
        ];
        let header = name
            .parse::<HeaderName>()
            .map_err(|_| format!("{name:?} is no name of a header"))
            .and_then(|header| {
                if OWN.contains(&header.as_str()) {
                    Err(format!("the header {header} is set by the exporter"))
                } else {
                    Ok(header)
                }
            });
        self.take(at, header)
    }

    fn tls(&mut self, file: &TlsFile) -> Option<Tls> {
        let client = match (&file.cert_file, &file.key_file) {
            (Some(cert), Some(key)) => Some(ClientCertificate {
                cert: cert.value.clone(),
                key: key.value.clone(),
            }),
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                self.mistake(one.referenced, "cert_file and key_file belong together");
                None
            }
        };
        let server_name = file.server_name.as_ref().and_then(|name| {
            let read = rustls::pki_types::ServerName::try_from(name.value.clone())
                .map_err(|_| format!("{:?} is no name of a host", name.value));
            self.take(name.referenced, read)
        });
        if let (Some(pinned), true) = (&file.pinned_file, file.ca_file.is_some() || file.server_name.is_some()) {
            self.mistake(
                pinned.referenced,
                "a pinned certificate is accepted as it is: leave out ca_file and server_name",
            );
        }
        let trust = match (&file.ca_file, &file.pinned_file) {
            (None, None) => Trust::Public,
            (Some(path), _) => Trust::Authorities(&path.value),
            (None, Some(path)) => Trust::Certificates(&path.value),
        };
        Tls::new(trust, client.as_ref(), server_name)
            .map_err(|message| {
                let files = [&file.ca_file, &file.pinned_file, &file.cert_file];
                let path = files.into_iter().flatten().next();
                self.mistakes.push(Mistake {
                    place: path.map(|path| (path.referenced.line(), path.referenced.column())),
                    message,
                });
            })
            .ok()
    }

    fn label_name(&mut self, name: &str, at: Location) {
        let mut characters = name.bytes();
        let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_');
        if !first || !characters.all(|c| c.is_ascii_alphanumeric() || c == b'_') {
            self.mistake(
                at,
                format!("{name:?} is no name of a label; it has letters, digits and _"),
            );
        } else if name.starts_with("__") {
            self.mistake(at, format!("{name:?}: labels that begin with __ are Prometheus's own"));
        } else if name == TARGET_LABEL {
            self.mistake(
                at,
                "the label \"target\" is the exporter's own: the address that was polled",
            );
        }
    }

    fn path(&mut self, text: &Spanned<String>) -> Option<Path> {
        let path = Path::parse(&text.value).map_err(|error: PathError| format!("{:?}: {error}", text.value));
        self.take(text.referenced, path)
    }

    fn finite(&mut self, number: &Spanned<f64>) -> f64 {
        if !number.value.is_finite() {
            self.mistake(number.referenced, "this must be a finite number");
        }
        number.value
    }

    fn metric_name(&mut self, name: &Spanned<String>, kind: Kind, unit: Option<&Spanned<String>>) {
        let text = name.value.as_str();
        let mut characters = text.bytes();
        let first = characters
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == b'_' || c == b':');
        if !first || !characters.all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b':') {
            self.mistake(
                name.referenced,
                format!("{text:?} is no name of a metric; it has letters, digits, _ and :"),
            );
            return;
        }
        if text.starts_with(OWN_PREFIX) {
            self.mistake(
                name.referenced,
                format!("names that begin with {OWN_PREFIX} are the exporter's own"),
            );
        }
        let base = text.strip_suffix("_total");
        match (kind, base) {
            (Kind::Counter, None) => self.mistake(
                name.referenced,
                format!("a counter's name ends in _total: {text}_total, or write `type: untyped`"),
            ),
            (Kind::Gauge | Kind::Untyped, Some(_)) => self.mistake(
                name.referenced,
                "only a counter's name ends in _total: write `type: counter`, or choose another name",
            ),
            _ => {}
        }
        // In OpenMetrics these are samples of a family whose name is shorter.
        if let Some(ending) = ["_created", "_bucket", "_count", "_sum", "_info"]
            .into_iter()
            .find(|ending| base.unwrap_or(text).ends_with(ending))
            .filter(|ending| *ending == "_created" || base.is_some())
        {
            self.mistake(
                name.referenced,
                format!("OpenMetrics keeps names that end in {ending} for other types"),
            );
        }
        if let Some(unit) = unit
            && !base.unwrap_or(text).ends_with(&format!("_{}", unit.value))
        {
            let example = if kind == Kind::Counter { "_total" } else { "" };
            self.mistake(
                unit.referenced,
                format!(
                    "a metric with this unit has a name that ends in _{}{example}",
                    unit.value
                ),
            );
        }
    }

    fn metric(&mut self, file: &MetricFile) -> Option<MetricSpec> {
        let before = self.mistakes.len();
        self.metric_name(&file.name, file.kind, file.unit.as_ref());
        let each = file.each.as_ref().and_then(|each| {
            let path = self.path(each)?;
            if path.root != Root::Document || !path.iterates() || path.key {
                self.mistake(
                    each.referenced,
                    "`each` begins with $ and has [*], .* or a filter somewhere: it finds the elements",
                );
                return None;
            }
            Some((path, each.value.clone()))
        });
        let value = if Path::looks_like(&file.value.value) {
            self.path(&file.value)
                .map(|path| ValueSpec::Path(path, file.value.value.clone()))
        } else if let Some(counted) = counted(&file.value.value) {
            let path = Path::parse(counted)
                .map_err(|error| format!("{counted:?}: {error}"))
                .and_then(|path| {
                    if path.iterates() && !path.key {
                        Ok(ValueSpec::Count(path, file.value.value.clone()))
                    } else {
                        Err("count(...) counts elements: its path has [*], .* or a filter somewhere".to_owned())
                    }
                });
            self.take(file.value.referenced, path)
        } else {
            let number = number(&file.value.value).ok_or_else(|| {
                format!(
                    "{:?} is neither a path (such as $.count, or @.count below `each`), nor count(PATH), nor a number",
                    file.value.value
                )
            });
            self.take(file.value.referenced, number).map(ValueSpec::Constant)
        };
        let mut labels = Vec::new();
        for (name, text) in &file.labels {
            self.label_name(name, text.referenced);
            let template = template(&text.value);
            labels.extend(self.take(text.referenced, template).map(|parts| (name.clone(), parts)));
        }
        let pattern = file.pattern.as_ref().and_then(|pattern| {
            let regex = Regex::new(&pattern.value).map_err(|error| format!("{:?}: {error}", pattern.value));
            self.take(pattern.referenced, regex)
        });
        let scale = file.scale.as_ref().map_or(1.0, |scale| self.finite(scale));
        let map = file
            .map
            .iter()
            .map(|(from, to)| (from.clone(), self.finite(to)))
            .collect();
        let default = file.default.as_ref().map(|default| self.finite(default));
        if let (Some(default), true) = (&file.default, file.optional) {
            self.mistake(
                default.referenced,
                "choose one of `default` and `optional`: a value that has a default is never missing",
            );
        }
        if let (Some(created), true) = (&file.created, file.kind != Kind::Counter) {
            self.mistake(created.path.referenced, "only a counter has a time when it was created");
        }
        let timestamp = file.timestamp.as_ref().and_then(|moment| self.moment(moment));
        let created = file.created.as_ref().and_then(|moment| self.moment(moment));
        if self.mistakes.len() > before {
            return None;
        }
        Some(MetricSpec {
            name: file.name.value.clone(),
            help: file.help.clone().unwrap_or_default(),
            kind: file.kind,
            unit: file.unit.as_ref().map(|unit| unit.value.clone()),
            each,
            value: value?,
            labels,
            scale,
            map,
            default,
            optional: file.optional,
            pattern,
            time: file.time,
            timestamp,
            created,
        })
    }

    fn moment(&mut self, file: &MomentFile) -> Option<Moment> {
        Some(Moment {
            path: self.path(&file.path)?,
            written: file.path.value.clone(),
            milliseconds: matches!(file.unit, MomentUnit::Milliseconds),
        })
    }
}

/// The path in `count(PATH)`.
fn counted(text: &str) -> Option<&str> {
    Some(text.strip_prefix("count(")?.strip_suffix(')')?.trim())
}

/// Reads a label's value: text with paths in braces. `{{` and `}}` stand for a brace.
fn template(text: &str) -> Result<Vec<Template>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            literal.push_str(brace);
            rest = after;
            continue;
        }
        let (path, after) = rest
            .split_once('}')
            .filter(|_| brace == "{")
            .ok_or("a path stands between { and }; for a brace itself write it twice")?;
        rest = after;
        if !literal.is_empty() {
            parts.push(Template::Text(std::mem::take(&mut literal)));
        }
        let written = path.trim();
        let path = Path::parse(written).map_err(|error| format!("{written:?}: {error}"))?;
        parts.push(Template::Path(path, written.to_owned()));
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Template::Text(literal));
    }
    Ok(parts)
}

/// Whether no two modules that are polled disagree about a metric: they are exposed together.
pub(super) fn conflict(targets: &[Target]) -> Result<(), ConfigError> {
    let mut known: BTreeMap<&str, (&Module, &Family)> = BTreeMap::new();
    for target in targets {
        for family in target.module.mapping.families() {
            let (module, first) = *known.entry(&family.name).or_insert((&target.module, family));
            if first != family {
                return Err(ConfigError::Conflict {
                    name: family.name.to_string(),
                    first: module.name.clone(),
                    second: target.module.name.clone(),
                });
            }
        }
    }
    Ok(())
}
