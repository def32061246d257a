use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;

/// One line of the access log: an attempt to authenticate with an unknown key, or a command.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    /// When the result was known.
    pub(super) time: Timestamp,
    /// The client's address.
    pub(super) client: SocketAddr,
    /// `SHA256:…` of the key.
    pub(super) fingerprint: &'a str,
    /// The title of a deploy key or the name of an operator; none where the key is unknown.
    pub(super) key: Option<&'a str>,
    /// `git-upload-pack`, `git-receive-pack`, whatever else was asked for, or `authenticate`.
    pub(super) command: &'a str,
    /// `owner/name`, where the command was granted one.
    pub(super) repository: Option<String>,
    /// `ok`, `exit N`, `client gone`, or `refused: ` and why.
    pub(super) result: String,
}
