//! Random values and the TLS implementation.

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::Error;

/// Makes ring the process's TLS implementation, which reqwest and kube need to be told once; later calls change nothing.
pub(crate) fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// `length` random characters out of `alphabet`, whose size must be a power of two so that each is equally likely.
pub(crate) fn random_text(length: usize, alphabet: &[u8]) -> Result<String, Error> {
    debug_assert!(alphabet.len().is_power_of_two());
    let mut bytes = vec![0; length];
    fill(&mut bytes)?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()]))
        .collect())
}

/// A random index into something of `length` items; `None` where it is empty or the system gives no random bytes.
pub(crate) fn random_index(length: usize) -> Option<usize> {
    let mut bytes = [0; 8];
    fill(&mut bytes).ok()?;
    // The bias towards low indices is length / 2^64.
    usize::try_from(u64::from_le_bytes(bytes).checked_rem(u64::try_from(length).ok()?)?).ok()
}

/// The seed of a key.
pub(crate) fn random_seed() -> Result<[u8; 32], Error> {
    let mut seed = [0; 32];
    fill(&mut seed)?;
    Ok(seed)
}

fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    SystemRandom::new().fill(bytes).map_err(|error| Error::Crypto {
        what: "random credential",
        message: error.to_string(),
    })
}
