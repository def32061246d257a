//! Addresses of pods: numbers in the pod network, each one's for as long as its pod is there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The numbers for pods; those below are the network's own servers'.
const HOSTS: std::ops::RangeInclusive<u8> = 10..=254;

/// The numbers that are in use.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    used: BTreeSet<u8>,
    last: Option<u8>,
}

/// A number that is one pod's until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    host: u8,
    addresses: Addresses,
}

impl Addresses {
    /// A free number, the one that was free for the longest time; `None` where all are in use.
    pub(super) fn lease(&self) -> Option<Lease> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = state.last.unwrap_or(*HOSTS.end());
        let after = HOSTS.filter(|host| *host > last);
        let host = after.chain(HOSTS).find(|host| !state.used.contains(host))?;
        state.used.insert(host);
        state.last = Some(host);
        Some(Lease {
            host,
            addresses: self.clone(),
        })
    }
}

impl Lease {
    /// The last byte of the pod's addresses.
    pub(super) fn host(&self) -> u8 {
        self.host
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.used.remove(&self.host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_pods_and_comes_back_late() {
        let addresses = Addresses::default();
        let first = addresses.lease().unwrap();
        let second = addresses.lease().unwrap();
        assert_eq!((first.host(), second.host()), (10, 11));
        drop(first);
        assert_eq!(
            addresses.lease().unwrap().host(),
            12,
            "not the one that was just given back"
        );
        let all: Vec<Lease> = std::iter::from_fn(|| addresses.lease()).collect();
        assert_eq!(all.len(), HOSTS.count() - 1, "all but the second are free");
        assert!(addresses.lease().is_none());
        drop(all);
        assert!(addresses.lease().is_some());
    }
}
