//! Names, identifiers and values with their invariants. No I/O happens here.

mod arn;
mod capacity;
mod cidr;
pub mod contract;
mod credentials;
mod duration;
mod image;
mod instance_type;
mod name;
mod names;
mod region;
mod repository;
mod version;

pub use arn::PrincipalArn;
pub use capacity::CapacityType;
pub use cidr::{Cidr, VpcCidr};
pub use credentials::{credentials, without_credentials};
pub use duration::human_duration;
pub use image::ImageVersion;
pub use instance_type::InstanceType;
pub use name::EnvironmentName;
pub use names::Names;
pub use region::Region;
pub use repository::{RepositoryUrl, Transport};
pub use version::{ClusterVersion, Support, VersionCalendar};

/// Why a value was refused, and what would be accepted instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong, as one line without a full stop.
    pub message: String,
    /// A short remark that stands under the offending text.
    pub label: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Invalid {
    /// A refusal with the remark `label` shown at the offending text.
    pub fn new(message: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            label: label.into(),
            hint: None,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A value that is written as one YAML scalar and has an invariant.
pub trait Scalar: Sized {
    /// Reads the scalar.
    ///
    /// # Errors
    /// Says why the text is not such a value and what would be.
    fn parse(text: &str) -> Result<Self, Invalid>;
}

/// Serialises a scalar type as the text it was read from, and gives it a JSON Schema.
macro_rules! scalar_traits {
    ($type:ty, $name:literal, $schema:tt) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(crate) use scalar_traits;
