//! The two formats that Prometheus reads: text 0.0.4 and OpenMetrics 1.0.0.

mod accept;
mod encode;

pub(crate) use accept::{Coding, Format, negotiate, negotiate_coding};
pub(crate) use encode::{Encoder, Type};
