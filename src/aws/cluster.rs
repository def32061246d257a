use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::Date;

use super::{Aws, AwsError};
use crate::model::{ClusterVersion, Scalar as _, VersionCalendar};

/// What EKS says of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterDescription {
    /// Address of the Kubernetes API.
    pub endpoint: String,
    /// Its certificate authority, PEM.
    pub certificate_authority: Vec<u8>,
    /// `ACTIVE`, `CREATING`, ...
    pub status: String,
    /// Kubernetes version.
    pub version: String,
    /// The VPC that it is in.
    pub network: Option<String>,
}

impl Aws {
    /// The cluster `name`; `None` when there is none.
    ///
    /// # Errors
    /// The call failed.
    pub async fn cluster(&self, name: &str) -> Result<Option<ClusterDescription>, AwsError> {
        const CALL: &str = "eks:DescribeCluster";
        let answer = match self
            .eks
            .describe_cluster()
            .name(name)
            .send()
            .await
            .map_err(AwsError::of(CALL))
        {
            Ok(answer) => answer,
            Err(error) if error.is("ResourceNotFoundException") => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(cluster) = answer.cluster() else {
            return Ok(None);
        };
        let certificate_authority = cluster
            .certificate_authority()
            .and_then(|ca| ca.data())
            .unwrap_or_default();
        Ok(Some(ClusterDescription {
            endpoint: cluster.endpoint().unwrap_or_default().to_owned(),
            certificate_authority: STANDARD.decode(certificate_authority).map_err(|e| {
                AwsError::new(
                    CALL,
                    None,
                    format!("the cluster's certificate authority is not base64: {e}"),
                )
            })?,
            status: cluster.status().map(|s| s.as_str().to_owned()).unwrap_or_default(),
            version: cluster.version().unwrap_or_default().to_owned(),
            network: cluster
                .resources_vpc_config()
                .and_then(|config| config.vpc_id())
                .map(str::to_owned),
        }))
    }

    /// The versions that EKS supports, as it reports them; `None` where it reports none.
    ///
    /// # Errors
    /// The call failed.
    pub async fn version_calendar(&self, today: Date) -> Result<Option<VersionCalendar>, AwsError> {
        let answer = self
            .eks
            .describe_cluster_versions()
            .send()
            .await
            .map_err(AwsError::of("eks:DescribeClusterVersions"))?;
        let date = |t: Option<&aws_smithy_types::DateTime>| {
            t.and_then(|t| jiff::Timestamp::from_second(t.secs()).ok())
                .map(|t| t.to_zoned(jiff::tz::TimeZone::UTC).date())
        };
        let entries: Vec<_> = answer
            .cluster_versions()
            .iter()
            .filter_map(|v| {
                let version = ClusterVersion::parse(v.cluster_version()?).ok()?;
                let standard = date(v.end_of_standard_support_date())?;
                Some((
                    version,
                    standard,
                    date(v.end_of_extended_support_date()).unwrap_or(standard),
                ))
            })
            .collect();
        Ok((!entries.is_empty()).then(|| VersionCalendar::reported(today, entries)))
    }
}
