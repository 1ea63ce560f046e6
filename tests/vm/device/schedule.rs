//! Periodic URBs and the frames that they cover.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::Urb;

pub(super) struct Pending {
    pub urb: Urb,
    /// The interval of its first packet, counted from when the device was plugged in.
    pub first: u64,
    due: Instant,
}

/// The URBs of every endpoint, each behind the one before it.
pub(super) struct Schedule {
    interval: Duration,
    start: Instant,
    endpoints: BTreeMap<u8, Queue>,
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Pending>,
    /// The first interval that no URB covers.
    free: u64,
}

impl Schedule {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            start: Instant::now(),
            endpoints: BTreeMap::new(),
        }
    }

    /// Takes a URB for the next intervals, an interrupt URB for one; those that have passed by now are
    /// lost.
    pub(super) fn add(&mut self, urb: Urb, now: Instant) {
        let begun = now.duration_since(self.start).as_nanos() / self.interval.as_nanos();
        let soonest = u64::try_from(begun).unwrap_or(u64::MAX).saturating_add(1);
        let queue = self.endpoints.entry(urb.submit.ep).or_default();
        let first = queue.free.max(soonest);
        queue.free = first + u64::from(urb.submit.packets.max(1));
        let due = self.start + self.interval * u32::try_from(queue.free).unwrap_or(u32::MAX);
        queue.pending.push_back(Pending { urb, first, due });
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let heads = self.endpoints.values();
        heads
            .filter_map(|queue| Some(queue.pending.front()?.due))
            .min()
    }

    /// A URB whose last interval has passed.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Pending> {
        self.endpoints
            .values_mut()
            .find(|queue| queue.pending.front().is_some_and(|head| head.due <= now))
            .and_then(|queue| queue.pending.pop_front())
    }

    /// Whether that URB was still waiting; it is gone then.
    pub(super) fn remove(&mut self, seqnum: u32) -> bool {
        self.endpoints.values_mut().any(|queue| {
            let before = queue.pending.len();
            queue
                .pending
                .retain(|pending| pending.urb.submit.seqnum != seqnum);
            queue.pending.len() < before
        })
    }
}
