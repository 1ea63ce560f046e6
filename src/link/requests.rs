//! Own requests: what the peer's limits admit, what is outstanding, and when to give up
//! (profile 10.1, 10.4, 11.2).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::wire::{flags::Tier, limits::Limits, opcode::Opcode, time::Mono};

use super::{class::Class, ids::ID_END, unit::Unit};

/// From CANCEL until the stream is reset (profile 10.4).
pub(super) const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// First repetition on an unordered path; doubles each time.
pub(super) const FIRST_REPEAT: Duration = Duration::from_secs(1);
/// Requests and bytes that may wait for the peer's limits.
const WAITING: (usize, usize) = (4096, 32 << 20);

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The peer's limits do not admit it yet.
    Waiting,
    /// In a lane.
    Queued,
    /// Its last byte is in a record.
    Sent,
    /// CANCEL went after it.
    Cancelled,
    /// On stream 0, which cannot be reset: our side gave up, its answer is still owed and it
    /// still counts.
    Abandoned,
}

/// A request without its final answer.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) stream: u32,
    pub(super) opcode: Opcode,
    pub(super) class: Class,
    pub(super) tier: Tier,
    /// Payload plus declared answer, bytes.
    pub(super) cost: u64,
    pub(super) phase: Phase,
    /// To be cancelled as soon as it is sent: a part of it is already.
    pub(super) cancel_wanted: bool,
    pub(super) timeout: Option<Duration>,
    /// When to cancel it; once cancelled, when to give up.
    pub(super) expires: Option<Mono>,
    pub(super) sent_at: Option<Mono>,
    /// Kept for the repetition at a higher tier or on an unordered path.
    pub(super) payload: Option<Vec<u8>>,
    /// From one repetition to the next, on an unordered path.
    pub(super) repeat_after: Duration,
    /// The peer asked for a higher tier once.
    pub(super) raised: bool,
    /// When [`Requests::pop_due`] returns it.
    pub(super) timer: Option<Mono>,
}

/// What a request weighs against the peer's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    count: u32,
    bytes: u64,
}

impl Load {
    const fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    const fn remove(&mut self, bytes: u64) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    const fn fits(&self, bytes: u64, most: Self) -> bool {
        self.count < most.count && self.bytes + bytes <= most.bytes
    }
}

#[derive(Debug)]
pub(super) struct Requests {
    outstanding: BTreeMap<u32, Outstanding>,
    timers: BTreeSet<(Mono, u32)>,
    next_corr: u32,
    all: Load,
    bulk: Load,
    most: Load,
    /// Three quarters of that.
    most_bulk: Load,
    /// Interactive first, bulk second.
    waiting: [VecDeque<Unit>; 2],
    waiting_bytes: usize,
    /// Somebody was told that the waiting room is full.
    room_wanted: bool,
}

impl Requests {
    pub(super) fn new(peer: &Limits) -> Self {
        let most = Load {
            count: peer.req,
            bytes: u64::from(peer.rqb),
        };
        Self {
            outstanding: BTreeMap::new(),
            timers: BTreeSet::new(),
            next_corr: 0,
            all: Load::default(),
            bulk: Load::default(),
            most,
            most_bulk: Load {
                count: (most.count - most.count / 4).max(1),
                bytes: most.bytes - most.bytes / 4,
            },
            waiting: [VecDeque::new(), VecDeque::new()],
            waiting_bytes: 0,
            room_wanted: false,
        }
    }

    /// True when a request of that weight can ever be admitted.
    pub(super) const fn admissible(&self, class: Class, cost: u64) -> bool {
        cost <= self.most_for(class).bytes
    }

    /// True when the waiting room takes another request.
    pub(super) fn has_room(&mut self, payload: usize) -> bool {
        let room = self.waiting_count() < WAITING.0 && self.waiting_bytes + payload <= WAITING.1;
        self.room_wanted |= !room;
        room
    }

    /// True once when the waiting room is half empty again after it was full.
    pub(super) fn offers_room(&mut self) -> bool {
        self.room_wanted
            && self.waiting_count() <= WAITING.0 / 2
            && self.waiting_bytes <= WAITING.1 / 2
            && core::mem::take(&mut self.room_wanted)
    }

    fn waiting_count(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// The next correlation id, ascending, skipping those outstanding.
    pub(super) fn next_corr(&mut self) -> u32 {
        loop {
            let corr = self.next_corr;
            self.next_corr = (corr + 1) % ID_END;
            if !self.outstanding.contains_key(&corr) {
                return corr;
            }
        }
    }

    pub(super) fn insert(&mut self, corr: u32, request: Outstanding) {
        self.outstanding.insert(corr, request);
    }

    pub(super) fn get(&self, corr: u32) -> Option<&Outstanding> {
        self.outstanding.get(&corr)
    }

    pub(super) fn get_mut(&mut self, corr: u32) -> Option<&mut Outstanding> {
        self.outstanding.get_mut(&corr)
    }

    pub(super) fn on_stream(&self, stream: u32) -> Vec<u32> {
        let on = self
            .outstanding
            .iter()
            .filter(|(_, request)| request.stream == stream);
        on.map(|(corr, _)| *corr).collect()
    }

    pub(super) fn all(&self) -> Vec<u32> {
        self.outstanding.keys().copied().collect()
    }

    /// Puts the unit of a request that is not admitted into the waiting room.
    pub(super) fn wait(&mut self, unit: Unit, class: Class) {
        self.waiting_bytes += unit.pending();
        self.room(class).push_back(unit);
    }

    /// The next waiting request that the peer's limits admit, now counted.
    pub(super) fn admit(&mut self) -> Option<(Unit, u32)> {
        for room in 0..self.waiting.len() {
            let head = self.waiting.get(room).and_then(VecDeque::front);
            let Some(corr) = head.and_then(Unit::corr) else {
                continue;
            };
            if !self.try_admit(corr) {
                continue;
            }
            if let Some(unit) = self.waiting.get_mut(room).and_then(VecDeque::pop_front) {
                self.waiting_bytes = self.waiting_bytes.saturating_sub(unit.pending());
                return Some((unit, corr));
            }
        }
        None
    }

    fn try_admit(&mut self, corr: u32) -> bool {
        let Some(request) = self.outstanding.get(&corr) else {
            // INVARIANT: a request leaves the waiting room before it is forgotten.
            return true;
        };
        let (class, cost) = (request.class, request.cost);
        let fits = self.all.fits(cost, self.most)
            && (class != Class::Bulk || self.bulk.fits(cost, self.most_bulk));
        if fits {
            self.all.add(cost);
            if class == Class::Bulk {
                self.bulk.add(cost);
            }
            self.set_phase(corr, Phase::Queued);
        }
        fits
    }

    fn set_phase(&mut self, corr: u32, phase: Phase) {
        if let Some(request) = self.outstanding.get_mut(&corr) {
            request.phase = phase;
        }
    }

    /// Forgets a request and gives back its share of the peer's limits.
    pub(super) fn remove(&mut self, corr: u32) -> Option<Outstanding> {
        let request = self.outstanding.remove(&corr)?;
        if request.phase == Phase::Waiting {
            let room = self.room(request.class);
            if let Some(index) = room.iter().position(|unit| unit.corr() == Some(corr)) {
                let unit = room.remove(index);
                let bytes = unit.map_or(0, |unit| unit.pending());
                self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
            }
        } else {
            self.all.remove(request.cost);
            if request.class == Class::Bulk {
                self.bulk.remove(request.cost);
            }
        }
        if let Some(deadline) = request.timer {
            self.timers.remove(&(deadline, corr));
        }
        Some(request)
    }

    /// Sets or clears the time at which something must happen to a request.
    pub(super) fn set_timer(&mut self, corr: u32, at: Option<Mono>) {
        let Some(request) = self.outstanding.get_mut(&corr) else {
            return;
        };
        if let Some(old) = core::mem::replace(&mut request.timer, at) {
            self.timers.remove(&(old, corr));
        }
        if let Some(at) = at {
            self.timers.insert((at, corr));
        }
    }

    pub(super) fn next_timer(&self) -> Option<Mono> {
        self.timers.first().map(|(deadline, _)| *deadline)
    }

    /// A request whose time has come; its timer is cleared.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<u32> {
        let (deadline, corr) = *self.timers.first()?;
        if deadline > now {
            return None;
        }
        self.set_timer(corr, None);
        Some(corr)
    }

    const fn most_for(&self, class: Class) -> Load {
        match class {
            Class::Bulk => self.most_bulk,
            Class::Control | Class::Interrupt | Class::Media | Class::Interactive => self.most,
        }
    }

    const fn room(&mut self, class: Class) -> &mut VecDeque<Unit> {
        let [interactive, bulk] = &mut self.waiting;
        match class {
            Class::Bulk => bulk,
            Class::Control | Class::Interrupt | Class::Media | Class::Interactive => interactive,
        }
    }
}
