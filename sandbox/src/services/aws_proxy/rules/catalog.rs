//! The versions that the sandbox's EKS knows.
//!
//! Source: "Amazon EKS Kubernetes release calendar", Amazon EKS User Guide, as of 2026-04-24. The versions of add-ons
//! exist on AWS; which of them is the newest and the default changes there every few weeks and is fixed here.

use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A minor version of Kubernetes.
pub(super) struct ClusterVersion {
    pub(super) version: &'static str,
    pub(super) patch: &'static str,
    pub(super) platform: &'static str,
    pub(super) released: Date,
    pub(super) standard_until: Date,
    pub(super) extended_until: Date,
    /// Newest first.
    pub(super) kube_proxy: &'static [&'static str],
}

const fn day(year: i16, month: i8, day: i8) -> Date {
    jiff::civil::date(year, month, day)
}

/// Newest first.
pub(super) const CLUSTER_VERSIONS: &[ClusterVersion] = &[
    ClusterVersion {
        version: "1.35",
        patch: "1.35.0",
        platform: "eks.3",
        released: day(2026, 1, 28),
        standard_until: day(2027, 3, 27),
        extended_until: day(2028, 3, 27),
        kube_proxy: &["v1.35.0-eksbuild.2"],
    },
    ClusterVersion {
        version: "1.34",
        patch: "1.34.2",
        platform: "eks.13",
        released: day(2025, 10, 2),
        standard_until: day(2026, 12, 2),
        extended_until: day(2027, 12, 2),
        kube_proxy: &["v1.34.1-eksbuild.2", "v1.34.0-eksbuild.4"],
    },
    ClusterVersion {
        version: "1.33",
        patch: "1.33.5",
        platform: "eks.27",
        released: day(2025, 5, 29),
        standard_until: day(2026, 7, 29),
        extended_until: day(2027, 7, 29),
        kube_proxy: &["v1.33.3-eksbuild.10", "v1.33.0-eksbuild.2"],
    },
    ClusterVersion {
        version: "1.32",
        patch: "1.32.9",
        platform: "eks.34",
        released: day(2025, 1, 23),
        standard_until: day(2026, 3, 23),
        extended_until: day(2027, 3, 23),
        kube_proxy: &["v1.32.6-eksbuild.12", "v1.32.0-eksbuild.2"],
    },
    ClusterVersion {
        version: "1.31",
        patch: "1.31.13",
        platform: "eks.50",
        released: day(2024, 9, 26),
        standard_until: day(2025, 11, 26),
        extended_until: day(2026, 11, 26),
        kube_proxy: &["v1.31.10-eksbuild.12", "v1.31.2-eksbuild.3"],
    },
    ClusterVersion {
        version: "1.30",
        patch: "1.30.14",
        platform: "eks.58",
        released: day(2024, 5, 23),
        standard_until: day(2025, 7, 23),
        extended_until: day(2026, 7, 23),
        kube_proxy: &["v1.30.14-eksbuild.8", "v1.30.3-eksbuild.5"],
    },
];

/// The version that a cluster gets that asks for none.
pub(super) const DEFAULT_VERSION: &str = "1.35";

/// The date in the names of the node images.
pub(super) const IMAGE_DATE: &str = "20260415";

/// The version of Bottlerocket.
pub(super) const BOTTLEROCKET: &str = "1.55.0-ee6b2a2f";

/// An add-on of EKS.
pub(super) struct Addon {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) owner: &'static str,
    pub(super) publisher: &'static str,
    pub(super) namespace: &'static str,
    pub(super) needs_iam: bool,
    /// Newest first; empty for kube-proxy, whose versions follow the cluster's.
    pub(super) versions: &'static [&'static str],
}

pub(super) const ADDONS: &[Addon] = &[
    Addon {
        name: "vpc-cni",
        kind: "networking",
        owner: "aws",
        publisher: "eks",
        namespace: "kube-system",
        needs_iam: true,
        versions: &["v1.21.1-eksbuild.3", "v1.20.4-eksbuild.2"],
    },
    Addon {
        name: "coredns",
        kind: "networking",
        owner: "aws",
        publisher: "eks",
        namespace: "kube-system",
        needs_iam: false,
        versions: &["v1.13.2-eksbuild.1", "v1.12.4-eksbuild.1"],
    },
    Addon {
        name: "kube-proxy",
        kind: "networking",
        owner: "aws",
        publisher: "eks",
        namespace: "kube-system",
        needs_iam: false,
        versions: &[],
    },
    Addon {
        name: "aws-ebs-csi-driver",
        kind: "storage",
        owner: "aws",
        publisher: "eks",
        namespace: "kube-system",
        needs_iam: true,
        versions: &["v1.53.0-eksbuild.1", "v1.49.0-eksbuild.1"],
    },
    Addon {
        name: "eks-pod-identity-agent",
        kind: "security",
        owner: "aws",
        publisher: "eks",
        namespace: "kube-system",
        needs_iam: false,
        versions: &["v1.3.10-eksbuild.1", "v1.3.8-eksbuild.2"],
    },
    Addon {
        name: "metrics-server",
        kind: "observability",
        owner: "community",
        publisher: "kubernetes-sigs",
        namespace: "kube-system",
        needs_iam: false,
        versions: &["v0.8.0-eksbuild.6", "v0.7.2-eksbuild.4"],
    },
];

impl ClusterVersion {
    /// The release of the EKS-optimised Amazon Linux 2023 images, as node groups name it.
    pub(super) fn image_release(&self) -> String {
        format!("{}-{IMAGE_DATE}", self.patch)
    }
}

/// The entry of a version.
pub(super) fn cluster_version(version: &str) -> Option<&'static ClusterVersion> {
    CLUSTER_VERSIONS.iter().find(|entry| entry.version == version)
}

/// The beginning of a day in UTC, in seconds since 1970, as JSON protocols of AWS write times.
pub(super) fn seconds(date: Date) -> i64 {
    date.to_zoned(TimeZone::UTC)
        .map(|zoned| zoned.timestamp().as_second())
        .unwrap_or_default()
}
