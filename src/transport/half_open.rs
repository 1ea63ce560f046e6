//! How many connections may wait for their handshake (profile 6.8 and 18): a bound for all of them
//! and one for each source, so that one stranger cannot take every place.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

/// Places for half-open connections in total and per source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpenLimits {
    /// At most so many at once.
    pub total: usize,
    /// At most so many at once from one source.
    pub per_source: usize,
}

impl Default for HalfOpenLimits {
    /// 64 in total, 4 per source (profile 6.8).
    fn default() -> Self {
        Self {
            total: 64,
            per_source: 4,
        }
    }
}

/// Counts half-open connections; clones share one count.
#[derive(Clone, Debug)]
pub struct HalfOpen {
    limits: HalfOpenLimits,
    taken: Rc<RefCell<HashMap<IpAddr, usize>>>,
}

impl HalfOpen {
    /// An empty gate.
    pub fn new(limits: HalfOpenLimits) -> Self {
        Self {
            limits,
            taken: Rc::default(),
        }
    }

    /// Takes a place for a connection from `address`, `None` when it or everybody has too many.
    pub fn admit(&self, address: IpAddr) -> Option<HalfOpenGuard> {
        let source = source_of(address);
        let mut taken = self.taken.borrow_mut();
        let all: usize = taken.values().sum();
        let own = taken.get(&source).copied().unwrap_or(0);
        if all >= self.limits.total || own >= self.limits.per_source {
            return None;
        }
        taken.insert(source, own + 1);
        Some(HalfOpenGuard {
            gate: self.clone(),
            source,
        })
    }

    /// Half-open connections at this moment.
    pub fn count(&self) -> usize {
        self.taken.borrow().values().sum()
    }
}

/// One place; dropping it, when the session is authenticated or gone, frees the place.
#[derive(Debug)]
pub struct HalfOpenGuard {
    gate: HalfOpen,
    source: IpAddr,
}

impl Drop for HalfOpenGuard {
    fn drop(&mut self) {
        let mut taken = self.gate.taken.borrow_mut();
        if let Some(count) = taken.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, however it is written, or an IPv6 /64, because
/// that is what one household is given.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_source_has_four_places_and_others_still_get_in() {
        let gate = HalfOpen::new(HalfOpenLimits::default());
        let mut held: Vec<_> = (0..4)
            .map(|_| gate.admit(address("192.0.2.1")).unwrap())
            .collect();
        assert!(gate.admit(address("192.0.2.1")).is_none());
        assert!(gate.admit(address("::ffff:192.0.2.1")).is_none());
        assert!(gate.admit(address("192.0.2.2")).is_some());
        held.pop();
        assert!(gate.admit(address("192.0.2.1")).is_some());
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let gate = HalfOpen::new(HalfOpenLimits::default());
        let _held: Vec<_> = (1..=4)
            .map(|host| gate.admit(address(&format!("2001:db8::{host}"))).unwrap())
            .collect();
        assert!(gate.admit(address("2001:db8::ffff:5")).is_none());
        assert!(gate.admit(address("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn all_sources_together_have_sixty_four_places() {
        let gate = HalfOpen::new(HalfOpenLimits::default());
        let mut held: Vec<_> = (0..64u8)
            .map(|host| gate.admit(IpAddr::from([192, 0, 2, host])).unwrap())
            .collect();
        assert_eq!(gate.count(), 64);
        assert!(gate.admit(address("198.51.100.1")).is_none());
        held.clear();
        assert_eq!(gate.count(), 0);
        assert!(gate.taken.borrow().is_empty());
    }
}
