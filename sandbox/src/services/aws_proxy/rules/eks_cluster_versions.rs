use axum::http::StatusCode;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::Rule;
use super::catalog::{CLUSTER_VERSIONS, ClusterVersion, DEFAULT_VERSION, seconds};
use crate::services::aws_proxy::answer::Answer;
use crate::services::aws_proxy::request::Request;

pub(super) const RULE: Rule = Rule {
    name: "eks_cluster_versions",
    service: "eks",
    operations: &["DescribeClusterVersions"],
    reason: "the emulator has no route for it",
    apply: |_, request| {
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        Box::pin(async move { Ok(answer(&request, today)) })
    },
};

/// Source: "DescribeClusterVersions", Amazon EKS API Reference.
fn answer(request: &Request, today: Date) -> Answer {
    let all = |name: &str| {
        request
            .query()
            .into_iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value)
            .collect()
    };
    let versions: Vec<String> = all("clusterVersions");
    let flag = |name: &str| request.parameter(name).is_some_and(|value| value == "true");
    // The older of the two spells it in lower case with a hyphen.
    let status = request
        .parameter("versionStatus")
        .or_else(|| request.parameter("status"));
    let status = status.map(|status| status.replace('-', "_").to_ascii_uppercase());
    if request.parameter("nextToken").is_some() {
        // All fit on one page, so no token was ever given out.
        return Answer::error(
            &request.call,
            StatusCode::BAD_REQUEST,
            "InvalidParameterException",
            "Invalid nextToken",
        );
    }

    let found = CLUSTER_VERSIONS.iter().filter(|entry| {
        let wanted = versions.is_empty() || versions.iter().any(|version| version == entry.version);
        let default = !flag("defaultOnly") || entry.version == DEFAULT_VERSION;
        let state = status_on(entry, today);
        // Versions past their end are told only to who asks for them.
        let visible = state != "UNSUPPORTED" || flag("includeAll") || status.is_some();
        wanted && default && visible && status.as_ref().is_none_or(|status| status == state)
    });
    let found: Vec<Value> = found.map(|entry| describe(entry, today)).collect();
    Answer::json(&json!({ "clusterVersions": found }))
}

fn status_on(entry: &ClusterVersion, today: Date) -> &'static str {
    if today < entry.standard_until {
        "STANDARD_SUPPORT"
    } else if today < entry.extended_until {
        "EXTENDED_SUPPORT"
    } else {
        "UNSUPPORTED"
    }
}

fn describe(entry: &ClusterVersion, today: Date) -> Value {
    let status = status_on(entry, today);
    json!({
        "clusterVersion": entry.version,
        "clusterType": "eks",
        "defaultPlatformVersion": entry.platform,
        "defaultVersion": entry.version == DEFAULT_VERSION,
        "releaseDate": seconds(entry.released),
        "endOfStandardSupportDate": seconds(entry.standard_until),
        "endOfExtendedSupportDate": seconds(entry.extended_until),
        "status": status.to_ascii_lowercase().replace('_', "-"),
        "versionStatus": status,
        "kubernetesPatchVersion": entry.patch,
    })
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use serde_json::Value;

    use super::answer;
    use crate::services::aws_proxy::tests::request;

    fn versions(query: &str) -> Vec<Value> {
        let request = request("eks", "GET", &format!("/cluster-versions{query}"), "");
        let answer = answer(&request, date(2026, 10, 1)).success().unwrap();
        answer["clusterVersions"].as_array().unwrap().clone()
    }

    fn names(query: &str) -> Vec<String> {
        versions(query)
            .iter()
            .map(|version| version["clusterVersion"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn the_support_status_follows_the_calendar() {
        assert_eq!(
            names(""),
            ["1.35", "1.34", "1.33", "1.32", "1.31"],
            "1.30 is past its end"
        );
        assert_eq!(names("?includeAll=true").last().unwrap(), "1.30");
        assert_eq!(names("?versionStatus=STANDARD_SUPPORT"), ["1.35", "1.34"]);
        assert_eq!(names("?status=extended-support"), ["1.33", "1.32", "1.31"]);
        assert_eq!(names("?versionStatus=UNSUPPORTED"), ["1.30"]);
        assert_eq!(names("?clusterVersions=1.34&clusterVersions=1.33"), ["1.34", "1.33"]);
        assert_eq!(names("?defaultOnly=true"), ["1.35"]);
        assert!(names("?clusterVersions=1.99").is_empty());
    }

    #[test]
    fn a_version_is_described_as_in_the_api_reference() {
        let version = &versions("?clusterVersions=1.34")[0];
        assert_eq!(
            version["endOfStandardSupportDate"], 1_796_169_600,
            "2026-12-02T00:00:00Z"
        );
        assert_eq!(version["status"], "standard-support");
        assert_eq!(version["versionStatus"], "STANDARD_SUPPORT");
        assert_eq!(version["defaultVersion"], false);
        assert_eq!(version["kubernetesPatchVersion"], "1.34.2");
    }
}
