//! Which format and coding a scraper wants (RFC 9110, sections 12.5.1 and 12.5.3).

/// A format of the exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The `Content-Type` of an answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// How an answer is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
}

/// One entry of a list such as `a/b;x=y;q=0.5, c/d`: its name, its parameters, and its weight from 0 to 1.
fn entries(header: &str) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, &str)>, f32)> {
    header.split(',').map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let parameters = parts.filter_map(|part| part.split_once('='));
        let weight = parameters
            .clone()
            .find(|(key, _)| key.trim().eq_ignore_ascii_case("q"))
            .map_or(1.0, |(_, weight)| weight.trim().parse().unwrap_or(0.0));
        (name, parameters, weight)
    })
}

/// The format that an `Accept` header prefers; text where it says nothing that is known.
pub(crate) fn negotiate(accept: Option<&str>) -> Format {
    let mut best = (Format::Text, 0.0);
    for (name, mut parameters, weight) in entries(accept.unwrap_or("")) {
        let format = match name {
            "text/plain" | "text/*" | "*/*" => Format::Text,
            "application/openmetrics-text" => {
                let version = parameters
                    .find(|(key, _)| key.trim().eq_ignore_ascii_case("version"))
                    .map(|(_, version)| version.trim_matches('"'));
                if !matches!(version, None | Some("1.0.0" | "0.0.1")) {
                    continue;
                }
                Format::OpenMetrics
            }
            _ => continue,
        };
        if weight > best.1 {
            best = (format, weight);
        }
    }
    best.0
}

/// The coding that an `Accept-Encoding` header asks for.
pub(crate) fn negotiate_coding(accept: Option<&str>) -> Coding {
    let gzip = entries(accept.unwrap_or("")).any(|(name, _, weight)| name.eq_ignore_ascii_case("gzip") && weight > 0.0);
    if gzip { Coding::Gzip } else { Coding::Identity }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_format_is_chosen() {
        for (accept, format) in [
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/html"), Format::Text),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("application/openmetrics-text; version=2.0.0"), Format::Text),
            (
                Some("text/plain;q=0.5, application/openmetrics-text;version=1.0.0;q=0.4"),
                Format::Text,
            ),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("application/openmetrics-text;q=x"), Format::Text),
            // Prometheus 2.42
            (
                Some(
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                     text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ),
                Format::OpenMetrics,
            ),
            // Prometheus 3
            (
                Some(
                    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                     application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                     text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                ),
                Format::OpenMetrics,
            ),
        ] {
            assert_eq!(negotiate(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn gzip_only_where_it_is_accepted() {
        assert_eq!(negotiate_coding(Some("gzip")), Coding::Gzip);
        assert_eq!(negotiate_coding(Some("br, GZIP;q=0.5")), Coding::Gzip);
        for accept in [None, Some(""), Some("br"), Some("gzip;q=0"), Some("gzipped")] {
            assert_eq!(negotiate_coding(accept), Coding::Identity, "{accept:?}");
        }
    }
}
