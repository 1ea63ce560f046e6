//! The peer's requests: what is owed, what our limits allow, and on unordered paths the answers
//! that are kept for repeated requests (profile 10.1, 10.4, 11.2).

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::wire::{flags::Tier, limits::Limits, opcode::Opcode, status::Status, time::Mono};

use super::class::Class;

/// How long answers are kept on an unordered path, and how many (profile 10.4).
pub const KEPT_FOR: Duration = Duration::from_secs(60);
/// See [`KEPT_FOR`].
pub const KEPT_ENTRIES: usize = 1024;
/// Payload bytes of all kept answers. A request whose answer did not fit is still never executed
/// twice.
const KEPT_BYTES: usize = 4 << 20;

/// A request of the peer that has no final answer in a record yet.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) stream: u32,
    pub(super) opcode: Opcode,
    pub(super) class: Class,
    pub(super) cost: u64,
    pub(super) cancelled: bool,
    /// The final answer is queued.
    pub(super) answered: bool,
    /// It was a success.
    pub(super) succeeded: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) stream: u32,
    pub(super) status: Status,
    /// `None` when it was too large to keep.
    pub(super) payload: Option<Vec<u8>>,
    pub(super) compressed: bool,
    pub(super) tier: Tier,
    /// It waits to be sent again; further repetitions of the request add nothing.
    pub(super) repeating: bool,
}

#[derive(Debug)]
pub(super) struct Answers {
    owed: BTreeMap<u32, Owed>,
    bytes: u64,
    limits: Limits,
    kept: BTreeMap<u32, Kept>,
    kept_order: VecDeque<(Mono, u32)>,
    kept_bytes: usize,
}

impl Answers {
    pub(super) const fn new(local: Limits) -> Self {
        Self {
            owed: BTreeMap::new(),
            bytes: 0,
            limits: local,
            kept: BTreeMap::new(),
            kept_order: VecDeque::new(),
            kept_bytes: 0,
        }
    }

    /// True when our announced limits allow another request of that weight.
    pub(super) fn allows(&self, cost: u64) -> bool {
        let count = u32::try_from(self.owed.len()).unwrap_or(u32::MAX);
        count < self.limits.req && self.bytes + cost <= u64::from(self.limits.rqb)
    }

    pub(super) fn insert(&mut self, corr: u32, owed: Owed) {
        self.bytes += owed.cost;
        self.owed.insert(corr, owed);
    }

    pub(super) fn get(&self, corr: u32) -> Option<&Owed> {
        self.owed.get(&corr)
    }

    pub(super) fn get_mut(&mut self, corr: u32) -> Option<&mut Owed> {
        self.owed.get_mut(&corr)
    }

    pub(super) fn remove(&mut self, corr: u32) -> Option<Owed> {
        let owed = self.owed.remove(&corr)?;
        self.bytes = self.bytes.saturating_sub(owed.cost);
        Some(owed)
    }

    pub(super) fn on_stream(&self, stream: u32) -> Vec<u32> {
        let on = self.owed.iter().filter(|(_, owed)| owed.stream == stream);
        on.map(|(corr, _)| *corr).collect()
    }

    /// Keeps a final answer for repetitions of its request.
    pub(super) fn keep(&mut self, now: Mono, corr: u32, mut answer: Kept) {
        self.forget_old(now);
        while self.kept.len() >= KEPT_ENTRIES {
            let Some((_, oldest)) = self.kept_order.pop_front() else {
                break;
            };
            self.forget(oldest);
        }
        let bytes = answer.payload.as_ref().map_or(0, Vec::len);
        if self.kept_bytes + bytes > KEPT_BYTES {
            answer.payload = None;
        } else {
            self.kept_bytes += bytes;
        }
        self.kept_order.push_back((now, corr));
        self.kept.insert(corr, answer);
    }

    /// The answer that was already given to a request.
    pub(super) fn kept(&mut self, now: Mono, corr: u32) -> Option<&mut Kept> {
        self.forget_old(now);
        self.kept.get_mut(&corr)
    }

    /// A kept answer was sent again.
    pub(super) fn repeated(&mut self, corr: u32) {
        if let Some(kept) = self.kept.get_mut(&corr) {
            kept.repeating = false;
        }
    }

    fn forget_old(&mut self, now: Mono) {
        while let Some((at, corr)) = self.kept_order.front().copied() {
            if now.since(at) < KEPT_FOR {
                break;
            }
            self.kept_order.pop_front();
            self.forget(corr);
        }
    }

    fn forget(&mut self, corr: u32) {
        let bytes = self.kept.remove(&corr).and_then(|answer| answer.payload);
        self.kept_bytes = self
            .kept_bytes
            .saturating_sub(bytes.map_or(0, |payload| payload.len()));
    }
}
