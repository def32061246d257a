use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

/// A configuration as it is uploaded: a tar archive, compressed with gzip, that is the same for the same files.
#[derive(Debug, Clone)]
pub struct Archive {
    /// The archive.
    pub bytes: Vec<u8>,
    /// SHA-256 of the files' names and contents, hexadecimal.
    pub digest: String,
}

impl Archive {
    /// Of files by their path, in the order of the paths.
    ///
    /// # Errors
    /// A path cannot stand in an archive.
    pub fn of<'a>(files: impl Iterator<Item = (&'a Path, &'a [u8])>) -> std::io::Result<Self> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let mut hash = Sha256::new();
        for (path, contents) in files {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update((contents.len() as u64).to_be_bytes());
            hash.update(contents);
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            builder.append_data(&mut header, path, contents)?;
        }
        let mut encoder = builder.into_inner()?;
        encoder.flush()?;
        Ok(Self {
            bytes: encoder.finish()?,
            digest: hex::encode(hash.finalize()),
        })
    }
}
