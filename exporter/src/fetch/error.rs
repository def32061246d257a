//! Why a target gave no document.

use std::path::PathBuf;
use std::time::Duration;

/// What went wrong, in one word for a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    Busy,
    Connect,
    Credentials,
    Dns,
    Duplicate,
    DuplicateTarget,
    Encoding,
    Forbidden,
    Invalid,
    Malformed,
    Memory,
    Missing,
    NotFinite,
    Protocol,
    Status,
    Timeout,
    Tls,
    TooDeep,
    TooLarge,
    TooMany,
}

impl Reason {
    /// All of them, in the order of their names.
    pub(crate) const ALL: [Self; 20] = [
        Self::Busy,
        Self::Connect,
        Self::Credentials,
        Self::Dns,
        Self::Duplicate,
        Self::DuplicateTarget,
        Self::Encoding,
        Self::Forbidden,
        Self::Invalid,
        Self::Malformed,
        Self::Memory,
        Self::Missing,
        Self::NotFinite,
        Self::Protocol,
        Self::Status,
        Self::Timeout,
        Self::Tls,
        Self::TooDeep,
        Self::TooLarge,
        Self::TooMany,
    ];

    /// The label's value.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Connect => "connect",
            Self::Credentials => "credentials",
            Self::Dns => "dns",
            Self::Duplicate => "duplicate",
            Self::DuplicateTarget => "duplicate_target",
            Self::Encoding => "encoding",
            Self::Forbidden => "forbidden",
            Self::Invalid => "invalid",
            Self::Malformed => "malformed",
            Self::Memory => "memory",
            Self::Missing => "missing",
            Self::NotFinite => "not_finite",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::TooMany => "too_many",
        }
    }
}

/// Why a target gave no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("too many requests are under way; raise --concurrency, or look for targets that are slow")]
    Busy,
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("cannot connect within {0:?}")]
    ConnectTimeout(Duration),
    #[error("cannot read the credentials in {}: {source}", .path.display())]
    CredentialsFile { path: PathBuf, source: std::io::Error },
    #[error("the credentials in {} are not one line of visible characters", .path.display())]
    CredentialsText { path: PathBuf },
    #[error("no TLS connection: {0}")]
    Tls(std::io::Error),
    #[error("the answer is no HTTP/1.1 that can be read: {0}")]
    Protocol(String),
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error(
        "the answer has status {status} and points to {location}; redirects are not followed: ask that URL if it is meant"
    )]
    Redirect { status: u16, location: String },
    #[error("the answer is coded as {0}, which was not asked for")]
    Encoding(String),
    #[error("the body is longer than {0} bytes; raise --max-body if that is meant")]
    TooLarge(u32),
    #[error("the bodies of all requests together need more memory than --max-buffer allows")]
    Memory,
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
}

impl FetchError {
    /// The reason in one word.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Busy => Reason::Busy,
            Self::Connect(_) | Self::ConnectTimeout(_) => Reason::Connect,
            Self::CredentialsFile { .. } | Self::CredentialsText { .. } => Reason::Credentials,
            Self::Tls(_) => Reason::Tls,
            Self::Protocol(_) | Self::Broken(_) => Reason::Protocol,
            Self::Status(_) | Self::Redirect { .. } => Reason::Status,
            Self::Encoding(_) => Reason::Encoding,
            Self::TooLarge(_) => Reason::TooLarge,
            Self::Memory => Reason::Memory,
            Self::Timeout(_) => Reason::Timeout,
        }
    }
}
