//! One open stream: its state, its credit in both directions and what waits to be sent on it.

use std::collections::VecDeque;

use crate::wire::time::Mono;

use super::{
    class::{Class, StreamKind},
    credit::{RecvCredit, SendCredit},
    unit::{Origin, Unit},
};

/// Classes 1–4 have a lane each; class 0 operations ride in that of class 1.
pub(super) const LANES: usize = 4;

/// Bytes of DATA and EVENT that a class 1 or 2 source may have waiting before the oldest are
/// dropped.
const URGENT_QUEUE: usize = 64 << 10;

pub(super) const fn lane_of(class: Class) -> usize {
    match class {
        Class::Control | Class::Interrupt => 0,
        Class::Media => 1,
        Class::Interactive => 2,
        Class::Bulk => 3,
    }
}

/// The life of a stream (profile 11.1). A closed one is not kept here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its opening request was sent or received and is not answered.
    Opening,
    /// We answered it with success; the answer is not in a record yet, and nothing may overtake it.
    Accepted,
    /// Usable for DATA and EVENT.
    Open,
    /// A closing operation succeeded; its answer leaves when nothing else waits.
    Closing,
}

/// What waits in one class of one stream.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Answers; and in class 1 everything that needs no credit. Never wait for credit.
    free: VecDeque<Unit>,
    /// Requests, DATA and EVENT in the order in which they were given.
    ordered: VecDeque<Unit>,
    /// DATA and EVENT bytes that wait here.
    flow: usize,
    /// Bytes this lane may still send in its round; negative when it sent more than its share.
    pub(super) deficit: i64,
    /// The scheduler has it in its round.
    pub(super) active: bool,
}

/// Which end of a lane is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Free,
    Ordered,
}

impl Lane {
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty() && self.ordered.is_empty()
    }

    pub(super) fn push(&mut self, unit: Unit, side: Side) {
        if unit.origin == Origin::Flow {
            self.flow += unit.pending();
        }
        self.side(side).push_back(unit);
    }

    pub(super) fn peek(&self, side: Side) -> Option<&Unit> {
        match side {
            Side::Free => self.free.front(),
            Side::Ordered => self.ordered.front(),
        }
    }

    pub(super) fn head(&mut self, side: Side) -> Option<&mut Unit> {
        self.side(side).front_mut()
    }

    pub(super) fn pop(&mut self, side: Side) -> Option<Unit> {
        self.side(side).pop_front()
    }

    /// Payload bytes of DATA or EVENT have left, in a record or for good.
    pub(super) const fn left(&mut self, bytes: usize) {
        self.flow = self.flow.saturating_sub(bytes);
    }

    const fn side(&mut self, side: Side) -> &mut VecDeque<Unit> {
        match side {
            Side::Free => &mut self.free,
            Side::Ordered => &mut self.ordered,
        }
    }

    /// The side whose head is older; `credit` tells whether a counted head could be sent.
    pub(super) fn next(&self, credit: bool) -> Option<Side> {
        let ordered = self
            .ordered
            .front()
            .filter(|unit| credit || unit.origin != Origin::Flow || unit.pending() == 0);
        match (self.free.front(), ordered) {
            (Some(free), Some(ordered)) if free.ticket < ordered.ticket => Some(Side::Free),
            (_, Some(_)) => Some(Side::Ordered),
            (Some(_), None) => Some(Side::Free),
            (None, None) => None,
        }
    }

    /// Takes out the units that are not begun and for which `unwanted` holds. Those begun must be
    /// finished, or the peer would keep half a unit for ever.
    pub(super) fn discard(&mut self, mut unwanted: impl FnMut(&Unit) -> bool) -> Vec<Unit> {
        let mut dropped = Vec::new();
        for side in [&mut self.free, &mut self.ordered] {
            if side.iter().any(|unit| !unit.is_begun() && unwanted(unit)) {
                let units = core::mem::take(side).into_iter();
                for unit in units {
                    if !unit.is_begun() && unwanted(&unit) {
                        dropped.push(unit);
                    } else {
                        side.push_back(unit);
                    }
                }
            }
        }
        let flow = dropped.iter().filter(|unit| unit.origin == Origin::Flow);
        self.left(flow.map(Unit::pending).sum());
        dropped
    }

    /// Everything that is begun; the rest is dropped.
    pub(super) fn take_begun(&mut self) -> Vec<Unit> {
        let free = core::mem::take(&mut self.free).into_iter();
        let ordered = core::mem::take(&mut self.ordered).into_iter();
        free.chain(ordered).filter(Unit::is_begun).collect()
    }

    /// Drops the oldest DATA and EVENT frames until `incoming` more bytes fit into what an urgent
    /// source may have waiting; returns how many were dropped.
    pub(super) fn make_room(&mut self, incoming: usize) -> u32 {
        let mut dropped = 0;
        let mut index = 0;
        while self.flow + incoming > URGENT_QUEUE {
            let Some(unit) = self.ordered.get(index) else {
                break;
            };
            if unit.is_begun() || unit.origin != Origin::Flow || unit.is_fin() {
                index += 1;
                continue;
            }
            let pending = unit.pending();
            self.left(pending);
            self.ordered.remove(index);
            dropped += 1;
        }
        dropped
    }

    /// Takes the head off when its deadline has passed.
    pub(super) fn pop_late(&mut self, now: Mono) -> Option<Unit> {
        let unit = self.ordered.front()?;
        let late = unit.deadline.is_some_and(|deadline| deadline < now);
        if !late || unit.is_begun() || unit.is_fin() {
            return None;
        }
        let unit = self.ordered.pop_front()?;
        if unit.origin == Origin::Flow {
            self.left(unit.pending());
        }
        Some(unit)
    }
}

/// Keeps the requests (or the answers) whose class depends on their size in one lane for as long as
/// any of them waits: their order carries meaning, and lanes overtake each other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sticky {
    waiting: u32,
    class: Option<Class>,
}

impl Sticky {
    pub(super) fn enter(&mut self, class: Class) -> Class {
        let class = match self.class {
            Some(class) if self.waiting > 0 => class,
            Some(_) | None => class,
        };
        self.class = Some(class);
        self.waiting += 1;
        class
    }

    pub(super) const fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }
}

/// How far each direction's DATA has come to its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fin {
    /// By the application.
    pub(super) given: bool,
    /// In a record.
    pub(super) sent: bool,
    /// From the peer.
    pub(super) received: bool,
}

impl Fin {
    /// Both directions have ended, which closes the stream.
    pub(super) const fn both(self) -> bool {
        self.sent && self.received
    }
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) kind: StreamKind,
    pub(super) state: State,
    /// We opened it.
    pub(super) own: bool,
    pub(super) send: SendCredit,
    pub(super) recv: RecvCredit,
    /// The peer's initial limit, bytes.
    pub(super) peer_window: usize,
    pub(super) lanes: [Lane; LANES],
    /// Somebody was told `WouldBlock`.
    pub(super) wants_room: bool,
    pub(super) fin: Fin,
    pub(super) next_sseq: u64,
    pub(super) expected_sseq: u64,
    /// Largest DATA or EVENT payload received, the guess for lost ones.
    pub(super) largest_seen: u64,
    pub(super) requests: Sticky,
    pub(super) answers: Sticky,
    /// The answer to the closing operation, last of all.
    pub(super) farewell: Option<Unit>,
}

impl Stream {
    pub(super) fn new(kind: StreamKind, own: bool, send: u32, recv: RecvCredit) -> Self {
        Self {
            kind,
            state: State::Opening,
            own,
            send: SendCredit::new(send),
            recv,
            peer_window: usize::try_from(send).unwrap_or(usize::MAX),
            lanes: Default::default(),
            wants_room: false,
            fin: Fin::default(),
            next_sseq: 0,
            expected_sseq: 0,
            largest_seen: 0,
            requests: Sticky::default(),
            answers: Sticky::default(),
            farewell: None,
        }
    }

    /// Stream 0, which is always open and has no credit of its own.
    pub(super) fn control(recv: RecvCredit) -> Self {
        Self {
            state: State::Open,
            ..Self::new(StreamKind::CONTROL, true, 0, recv)
        }
    }

    /// Drops the oldest frames of an urgent class until `incoming` bytes more fit; returns how many.
    pub(super) fn make_room(&mut self, class: Class, incoming: usize) -> u32 {
        let lane = self.lanes.get_mut(lane_of(class));
        lane.map_or(0, |lane| lane.make_room(incoming))
    }

    /// Answers that wait.
    pub(super) fn answers_waiting(&self) -> usize {
        let waiting = self.lanes.iter().flat_map(|lane| &lane.free);
        waiting.filter(|unit| unit.origin == Origin::Answer).count()
    }

    /// True when lanes may be sent from.
    pub(super) const fn sends(&self) -> bool {
        match self.state {
            State::Open | State::Closing => true,
            State::Opening | State::Accepted => false,
        }
    }

    /// DATA and EVENT bytes that wait.
    pub(super) fn queued(&self) -> usize {
        self.lanes.iter().map(|lane| lane.flow).sum()
    }
}
