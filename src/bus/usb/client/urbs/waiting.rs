//! Requests that do not fit into the server's limits yet.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::bus::Outgoing;
use crate::wire::class::Class;

/// Bytes and URBs that may wait for the server's limits before the socket is left alone. Generous,
/// because behind them stand the unlinks that make room.
pub(super) const MOST: (usize, usize) = (16 << 20, 4096);

/// The request of a URB.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) seqnum: u32,
    pub(super) outgoing: Outgoing,
    /// When it is no longer worth sending.
    pub(super) due: Option<Instant>,
}

impl Request {
    pub(super) fn new(now: Instant, seqnum: u32, outgoing: Outgoing) -> Self {
        let within = Duration::from_millis(u64::from(outgoing.deadline_ms));
        Self {
            seqnum,
            due: (outgoing.deadline_ms > 0).then(|| now + within),
            outgoing,
        }
    }

    /// True when it has waited for too long; else its deadline is counted from now.
    pub(super) fn is_late(&mut self, now: Instant) -> bool {
        let Some(due) = self.due else {
            return false;
        };
        let left = due.saturating_duration_since(now).as_millis();
        self.outgoing.deadline_ms = u32::try_from(left).unwrap_or(u32::MAX);
        left == 0
    }
}

/// By class; one queue holds all of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queues: [VecDeque<Request>; 5],
    bytes: usize,
    count: usize,
}

impl Waiting {
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// False while too much is here.
    pub(super) const fn has_room(&self) -> bool {
        self.bytes < MOST.0 && self.count < MOST.1
    }

    /// True when a request of that class would stand behind others.
    pub(super) fn has(&self, class: Class) -> bool {
        let queue = self.queues.get(usize::from(class.to_u8()));
        queue.is_some_and(|queue| !queue.is_empty())
    }

    pub(super) fn push(&mut self, request: Request) {
        self.add(&request);
        let class = request.outgoing.class;
        if let Some(queue) = self.queue(class) {
            queue.push_back(request);
        }
    }

    /// Puts back what [`Self::pop`] gave.
    pub(super) fn put_back(&mut self, request: Request) {
        self.add(&request);
        let class = request.outgoing.class;
        if let Some(queue) = self.queue(class) {
            queue.push_front(request);
        }
    }

    pub(super) fn pop(&mut self, class: Class) -> Option<Request> {
        let request = self.queue(class)?.pop_front()?;
        self.subtract(&request);
        Some(request)
    }

    pub(super) fn remove(&mut self, seqnum: u32) {
        for class in Class::ALL {
            let Some(queue) = self.queue(class) else {
                continue;
            };
            let at = queue.iter().position(|request| request.seqnum == seqnum);
            if let Some(request) = at.and_then(|at| queue.remove(at)) {
                self.subtract(&request);
                return;
            }
        }
    }

    /// The URBs whose requests wait here.
    pub(super) fn seqnums(&self) -> HashSet<u32> {
        let all = self.queues.iter().flatten();
        all.map(|request| request.seqnum).collect()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    pub(super) const fn size(&self) -> (usize, usize) {
        (self.bytes, self.count)
    }

    fn queue(&mut self, class: Class) -> Option<&mut VecDeque<Request>> {
        self.queues.get_mut(usize::from(class.to_u8()))
    }

    const fn add(&mut self, request: &Request) {
        self.bytes += request.outgoing.payload.len();
        self.count += 1;
    }

    const fn subtract(&mut self, request: &Request) {
        self.bytes = self.bytes.saturating_sub(request.outgoing.payload.len());
        self.count = self.count.saturating_sub(1);
    }
}
