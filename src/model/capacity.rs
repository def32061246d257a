use std::fmt;

use super::{Invalid, Scalar, scalar_traits};

/// How the nodes' capacity is bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapacityType {
    /// Spare capacity that AWS can take back with two minutes' notice.
    Spot,
    /// Capacity at list price, kept until released.
    OnDemand,
}

impl Scalar for CapacityType {
    fn parse(text: &str) -> Result<Self, Invalid> {
        match text {
            "SPOT" => Ok(Self::Spot),
            "ON_DEMAND" => Ok(Self::OnDemand),
            _ => Err(
                Invalid::new(format!("{text:?} is not a capacity type"), "expected SPOT or ON_DEMAND")
                    .hint("write SPOT or ON_DEMAND, in capitals as the EKS API does"),
            ),
        }
    }
}

impl fmt::Display for CapacityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spot => "SPOT",
            Self::OnDemand => "ON_DEMAND",
        })
    }
}

scalar_traits!(CapacityType, "CapacityType", { "type": "string", "enum": ["SPOT", "ON_DEMAND"] });
