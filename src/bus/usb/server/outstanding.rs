//! The transfers that the hardware has, by their key, the peer's number, and their deadline.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::time::Instant;

use super::check::Form;
use super::iso::{Iso, IsoOrder, Submitted};
use super::spare::Spare;
use crate::bus::usb::hardware::UsbDevice;

/// Linux errno as URB statuses.
pub(super) const CANCELLED: i32 = -104;
pub(super) const UNLINKED: i32 = -2;
pub(super) const TIMED_OUT: i32 = -110;
pub(super) const GONE: i32 = -19;
pub(super) const SHUT_DOWN: i32 = -108;

/// A transfer that the hardware has.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) corr: u32,
    pub(super) form: Form,
    deadline: Option<Instant>,
    /// The status it gets when the kernel says that it was unlinked.
    ended: Option<i32>,
}

impl Pending {
    /// The status for the peer: an unlinking that was asked for is named after its reason, and one
    /// that came too late changes nothing.
    pub(super) fn status(&self, raw: i32) -> i32 {
        match (self.ended, raw) {
            (Some(reason), UNLINKED | CANCELLED) => reason,
            (_, raw) => raw.min(0),
        }
    }

    /// Whether it was given up, for whatever reason.
    pub(super) const fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether the peer gave it up.
    pub(super) fn is_cancelled(&self) -> bool {
        self.ended == Some(CANCELLED)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    next: u64,
    pending: BTreeMap<u64, Pending>,
    by_corr: HashMap<u32, u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Isochronous ones, of which one can be several for the hardware.
    pub(super) iso: Iso,
}

impl Outstanding {
    /// Whether the peer has an unanswered transfer of that number.
    pub(super) fn contains(&self, corr: u32) -> bool {
        self.by_corr.contains_key(&corr) || self.iso.contains(corr)
    }

    /// A key that was never used before.
    pub(super) const fn next_key(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Submits an isochronous transfer and remembers it.
    pub(super) fn submit_iso(
        &mut self,
        device: &dyn UsbDevice,
        spare: &mut Spare,
        corr: u32,
        order: &IsoOrder<'_>,
    ) -> Submitted {
        self.iso.submit(device, &mut self.next, spare, corr, order)
    }

    /// Remembers a transfer that was submitted.
    pub(super) fn insert(&mut self, key: u64, corr: u32, form: Form, deadline: Option<Instant>) {
        let pending = Pending {
            corr,
            form,
            deadline,
            ended: None,
        };
        self.by_corr.insert(corr, key);
        self.deadlines.extend(deadline.map(|at| (at, key)));
        self.pending.insert(key, pending);
    }

    /// Forgets a transfer that finished.
    pub(super) fn remove(&mut self, key: u64) -> Option<Pending> {
        let pending = self.pending.remove(&key)?;
        self.by_corr.remove(&pending.corr);
        if let Some(at) = pending.deadline {
            self.deadlines.remove(&(at, key));
        }
        Some(pending)
    }

    /// The peer gave one up. Its keys, when it is to be discarded now.
    pub(super) fn cancel(&mut self, corr: u32) -> Vec<u64> {
        let Some(key) = self.by_corr.get(&corr) else {
            return self.iso.cancel(corr);
        };
        Vec::from_iter(self.end(*key, CANCELLED))
    }

    /// The keys whose time is over, to be discarded.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<u64> {
        let mut keys = Vec::new();
        while let Some(&(at, key)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            keys.extend(self.end(key, TIMED_OUT));
        }
        keys
    }

    /// The device is given back: all keys in the order of submission, to be discarded.
    pub(super) fn shut_down(&mut self) -> Vec<u64> {
        let keys = self.keys();
        for key in &keys {
            self.end(*key, SHUT_DOWN);
        }
        self.iso.shut_down();
        keys
    }

    fn end(&mut self, key: u64, reason: i32) -> Option<u64> {
        let pending = self.pending.get_mut(&key)?;
        if pending.ended.is_some() {
            return None;
        }
        pending.ended = Some(reason);
        Some(key)
    }

    /// When the next one's time is over.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The keys in the order of submission.
    pub(super) fn keys(&self) -> Vec<u64> {
        let others = self.pending.keys().copied();
        let mut keys: Vec<u64> = others.chain(self.iso.keys()).collect();
        keys.sort_unstable();
        keys
    }

    /// Everything that is left but for isochronous ones, in the order of submission.
    pub(super) fn drain(&mut self) -> Vec<Pending> {
        self.by_corr.clear();
        self.deadlines.clear();
        core::mem::take(&mut self.pending).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn only_an_unlinked_transfer_is_named_after_the_reason() {
        let mut all = Outstanding::default();
        let key = all.next_key();
        all.insert(key, 5, Form::Sent, None);
        assert_eq!(all.cancel(5), [key]);
        assert_eq!(all.cancel(5), [0_u64; 0]);
        assert_eq!(all.cancel(6), [0_u64; 0]);
        let pending = all.remove(key).unwrap();
        assert_eq!(pending.status(0), 0);
        assert_eq!(pending.status(-32), -32);
        assert_eq!(pending.status(-2), CANCELLED);
    }

    #[test]
    fn a_transfer_expires_once_and_the_first_reason_stays() {
        let start = Instant::now();
        let late = start + Duration::from_secs(2);
        let mut all = Outstanding::default();
        all.insert(1, 1, Form::Sent, Some(late));
        all.insert(2, 2, Form::Sent, Some(start));
        assert_eq!(all.next_deadline(), Some(start));
        assert_eq!(all.expire(start), [2]);
        assert_eq!(all.expire(start), [0_u64; 0]);
        assert_eq!(all.cancel(2), [0_u64; 0]);
        assert_eq!(all.remove(2).unwrap().status(-2), TIMED_OUT);
        assert_eq!(all.next_deadline(), Some(late));
        all.remove(1);
        assert_eq!(all.next_deadline(), None);
    }
}
