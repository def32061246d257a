//! Downloads that are kept only if their checksum is the pinned one.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use url::Url;

/// Upper bound of a download in bytes; the largest tool has about 200 MB.
const MOST_BYTES: usize = 600 << 20;

/// A client that remembers hosts it could not connect to, so that a network without them costs one wait only.
#[derive(Debug)]
pub(crate) struct Downloads {
    client: reqwest::Client,
    unreachable: Mutex<BTreeSet<String>>,
}

impl Downloads {
    /// A client with a connect timeout of three seconds.
    pub(crate) fn new() -> Result<Self, String> {
        crate::crypto::install_provider();
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(3))
            .read_timeout(Duration::from_secs(30))
            .user_agent("mfsre-sandbox")
            .build()
            .map_err(|error| chain(&error))?;
        Ok(Self {
            client,
            unreachable: Mutex::default(),
        })
    }

    /// The content at `url`, whose sha256 must be `sha256` (64 hexadecimal digits).
    ///
    /// # Errors
    /// One sentence: no connection, an HTTP status, a transfer cut short, another checksum.
    pub(crate) async fn get(&self, url: &Url, sha256: &str) -> Result<Vec<u8>, String> {
        let host = url.host_str().unwrap_or_default().to_owned();
        if self
            .unreachable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&host)
        {
            return Err(format!("{url}: {host} could not be reached earlier in this run"));
        }
        let mut response = self.client.get(url.clone()).send().await.map_err(|error| {
            if error.is_connect() || error.is_timeout() {
                self.unreachable
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(host);
            }
            format!("{url}: {}", chain(&error))
        })?;
        if !response.status().is_success() {
            return Err(format!("{url}: the server answered {}", response.status()));
        }
        let mut content = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| format!("{url}: the transfer was cut short: {}", chain(&error)))?
        {
            if content.len() + chunk.len() > MOST_BYTES {
                return Err(format!("{url}: more than {MOST_BYTES} bytes"));
            }
            content.extend_from_slice(&chunk);
        }
        let found = hex::encode(Sha256::digest(&content));
        if found == sha256 {
            Ok(content)
        } else {
            Err(format!("{url}: sha256 is {found}, pinned is {sha256}"))
        }
    }
}

/// Takes one file out of a `tar.gz` and writes it to `target`.
pub(crate) fn unpack(archive: &[u8], member: &str, target: &Path) -> Result<(), String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let entries = archive
        .entries()
        .map_err(|error| format!("the archive cannot be read: {error}"))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| format!("the archive cannot be read: {error}"))?;
        if entry.path().is_ok_and(|path| path == Path::new(member)) {
            let mut content = Vec::new();
            entry
                .read_to_end(&mut content)
                .map_err(|error| format!("the archive cannot be read: {error}"))?;
            return std::fs::write(target, content).map_err(|error| format!("{}: {error}", target.display()));
        }
    }
    Err(format!("the archive holds no {member}"))
}

/// An error with its causes, which reqwest's own text leaves out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
