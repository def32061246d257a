use std::fmt;

use jiff::civil::{Date, date};

use super::{Invalid, Scalar, scalar_traits};

/// A Kubernetes minor version as EKS names it, such as `1.35`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterVersion {
    minor: u16,
}

impl ClusterVersion {
    /// The version of a new environment.
    pub const DEFAULT: Self = Self { minor: 35 };

    /// `1.minor`.
    #[must_use]
    pub const fn new(minor: u16) -> Self {
        Self { minor }
    }
}

impl Scalar for ClusterVersion {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let minor = text
            .strip_prefix("1.")
            .filter(|m| m.len() <= 2 && !m.starts_with('0') && m.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|m| m.parse().ok());
        match minor {
            Some(minor) => Ok(Self { minor }),
            None => {
                let patch = text.split('.').count() == 3;
                let hint = if patch {
                    "EKS chooses the patch release; write major and minor only, for example \"1.35\""
                } else {
                    "write major and minor in quotes, for example \"1.35\""
                };
                Err(Invalid::new(
                    format!("{text:?} is not a cluster version"),
                    "expected a version such as \"1.35\"",
                )
                .hint(hint))
            }
        }
    }
}

impl fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

scalar_traits!(ClusterVersion, "ClusterVersion", { "type": "string", "pattern": "^1\\.[1-9][0-9]?$" });

/// What EKS does for a version on some day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// In standard support until the date.
    Standard(Date),
    /// In extended support, at extra cost, until the date.
    Extended(Date),
    /// No cluster can be created any more.
    Ended(Option<Date>),
    /// Newer than the calendar at hand.
    Unknown,
}

/// When EKS supports which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionCalendar {
    /// The day the calendar was taken.
    pub as_of: Date,
    entries: Vec<(ClusterVersion, Date, Date)>,
}

impl VersionCalendar {
    /// The calendar of the EKS User Guide, "Amazon EKS Kubernetes release calendar", as of 2026-04-24: the ends of
    /// standard and of extended support.
    #[must_use]
    pub fn built_in() -> Self {
        let row = |minor, standard, extended| (ClusterVersion::new(minor), standard, extended);
        Self {
            as_of: date(2026, 4, 24),
            entries: vec![
                row(30, date(2025, 7, 23), date(2026, 7, 23)),
                row(31, date(2025, 11, 26), date(2026, 11, 26)),
                row(32, date(2026, 3, 23), date(2027, 3, 23)),
                row(33, date(2026, 7, 29), date(2027, 7, 29)),
                row(34, date(2026, 12, 2), date(2027, 12, 2)),
                row(35, date(2027, 3, 27), date(2028, 3, 27)),
            ],
        }
    }

    /// A calendar as EKS itself reports it: for each version the ends of standard and of extended support.
    #[must_use]
    pub fn reported(as_of: Date, mut entries: Vec<(ClusterVersion, Date, Date)>) -> Self {
        entries.sort_by_key(|e| e.0);
        Self { as_of, entries }
    }

    /// What EKS does for `version` on `today`.
    #[must_use]
    pub fn support(&self, version: ClusterVersion, today: Date) -> Support {
        match self.entries.iter().find(|e| e.0 == version) {
            Some(&(_, standard, _)) if today <= standard => Support::Standard(standard),
            Some(&(_, _, extended)) if today <= extended => Support::Extended(extended),
            Some(&(_, _, extended)) => Support::Ended(Some(extended)),
            None if self.entries.first().is_some_and(|first| version < first.0) => Support::Ended(None),
            None => Support::Unknown,
        }
    }

    /// The versions in which a cluster can be created on `today`, oldest first.
    #[must_use]
    pub fn supported(&self, today: Date) -> Vec<ClusterVersion> {
        self.entries.iter().filter(|e| today <= e.2).map(|e| e.0).collect()
    }

    /// Refuses a version past its end; a version newer than the calendar passes, since only EKS can know it.
    ///
    /// # Errors
    /// The version is past the end of extended support.
    pub fn check(&self, version: ClusterVersion, today: Date) -> Result<(), Invalid> {
        let Support::Ended(end) = self.support(version, today) else {
            return Ok(());
        };
        let supported = self.supported(today);
        let range = match (supported.first(), supported.last()) {
            (Some(first), Some(last)) if first != last => format!("supported today: {first} to {last}"),
            (Some(only), _) => format!("supported today: {only}"),
            _ => format!("ended according to the calendar of {}", self.as_of),
        };
        let since = end.map(|d| format!(" (it ended on {d})")).unwrap_or_default();
        Err(Invalid::new(
            format!("the cluster version {version} is past the end of EKS support{since}"),
            range,
        )
        .hint(format!(
            "set cluster_version to \"{}\"; upgrading an existing cluster goes one minor at a time",
            supported.last().copied().unwrap_or(ClusterVersion::DEFAULT)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_goes_from_standard_to_extended_to_ended() {
        let calendar = VersionCalendar::built_in();
        let v = ClusterVersion::new(33);
        assert_eq!(
            calendar.support(v, date(2026, 7, 29)),
            Support::Standard(date(2026, 7, 29))
        );
        assert_eq!(
            calendar.support(v, date(2026, 7, 30)),
            Support::Extended(date(2027, 7, 29))
        );
        assert_eq!(
            calendar.support(v, date(2027, 7, 30)),
            Support::Ended(Some(date(2027, 7, 29)))
        );
        assert_eq!(
            calendar.support(ClusterVersion::new(25), date(2026, 1, 1)),
            Support::Ended(None)
        );
        assert_eq!(
            calendar.support(ClusterVersion::new(36), date(2026, 1, 1)),
            Support::Unknown
        );
    }

    #[test]
    fn the_default_version_is_in_the_calendar() {
        let calendar = VersionCalendar::built_in();
        assert!(matches!(
            calendar.support(ClusterVersion::DEFAULT, calendar.as_of),
            Support::Standard(_)
        ));
    }
}
