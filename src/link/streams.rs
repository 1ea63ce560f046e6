//! The session's streams: ids, which are fresh, open, closed not long ago, or never were
//! (profile 11.1).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::wire::time::Mono;

use super::{class::Class, ids::ID_END, stream::Stream};

/// Frames for a stream closed less than this ago are ignored (profile 11.1).
pub const CLOSED_MEMORY: Duration = Duration::from_secs(10);
/// Closed streams remembered at most; older ones are taken for unknown before their time.
const CLOSED_ENTRIES: usize = 4096;
/// Ids that the peer skipped and may still use: requests of different classes, or records on an
/// unordered path, arrive out of order.
const SKIPPED_ENTRIES: usize = 256;

/// What an id on a received frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// In the table, stream 0 included.
    Known,
    /// The peer may open it.
    Fresh,
    /// Closed a short while ago; late frames are ignored.
    Closed {
        /// Of its DATA, which still counts for the session's credit.
        class: Class,
    },
    /// Never opened.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Streams {
    table: BTreeMap<u32, Stream>,
    closed: BTreeMap<u32, Class>,
    closed_order: VecDeque<(Mono, u32)>,
    /// The next id we open.
    next_own: u32,
    /// The lowest id of the peer's parity that it has not used or passed.
    next_peer: u32,
    skipped: BTreeSet<u32>,
}

impl Streams {
    /// `first_own` is 1 for the initiator, 2 for the responder.
    pub(super) fn new(control: Stream, first_own: u32) -> Self {
        Self {
            table: BTreeMap::from([(0, control)]),
            closed: BTreeMap::new(),
            closed_order: VecDeque::new(),
            next_own: first_own,
            next_peer: 3 - first_own,
            skipped: BTreeSet::new(),
        }
    }

    pub(super) fn get(&self, id: u32) -> Option<&Stream> {
        self.table.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        self.table.get_mut(&id)
    }

    /// Every stream but 0.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.table.keys().copied().filter(|id| *id != 0).collect()
    }

    /// Streams opened by us, or by the peer; stream 0 belongs to nobody.
    pub(super) fn count(&self, own: bool) -> usize {
        self.table
            .iter()
            .filter(|(id, stream)| **id != 0 && stream.own == own)
            .count()
    }

    /// The next id of ours; `None` when the session has used them all.
    pub(super) const fn allocate(&mut self) -> Option<u32> {
        let id = self.next_own;
        if id >= ID_END {
            return None;
        }
        self.next_own = id + 2;
        Some(id)
    }

    pub(super) fn standing(&mut self, now: Mono, id: u32) -> Standing {
        if self.table.contains_key(&id) {
            return Standing::Known;
        }
        self.forget_closed(now);
        if let Some(class) = self.closed.get(&id) {
            return Standing::Closed { class: *class };
        }
        let theirs = id % 2 == self.next_peer % 2;
        if theirs && (id >= self.next_peer || self.skipped.contains(&id)) {
            Standing::Fresh
        } else {
            Standing::Unknown
        }
    }

    /// Takes a fresh id of the peer out of the fresh ones.
    pub(super) fn use_up(&mut self, id: u32) {
        if self.skipped.remove(&id) || id < self.next_peer {
            return;
        }
        let most = u32::try_from(SKIPPED_ENTRIES).unwrap_or(u32::MAX);
        let from = self.next_peer.max(id.saturating_sub(2 * most));
        self.skipped
            .extend((from..id).filter(|skipped| skipped % 2 == id % 2));
        while self.skipped.len() > SKIPPED_ENTRIES {
            self.skipped.pop_first();
        }
        self.next_peer = id + 2;
    }

    pub(super) fn insert(&mut self, id: u32, stream: Stream) {
        self.table.insert(id, stream);
    }

    /// Remembers an id as closed without its ever having been open.
    pub(super) fn bury(&mut self, now: Mono, id: u32, class: Class) {
        if self.closed.insert(id, class).is_none() {
            self.closed_order.push_back((now, id));
        }
        while self.closed_order.len() > CLOSED_ENTRIES {
            if let Some((_, id)) = self.closed_order.pop_front() {
                self.closed.remove(&id);
            }
        }
    }

    pub(super) fn remove(&mut self, now: Mono, id: u32) -> Option<Stream> {
        let stream = self.table.remove(&id)?;
        self.bury(now, id, stream.kind.class);
        Some(stream)
    }

    fn forget_closed(&mut self, now: Mono) {
        while let Some((at, id)) = self.closed_order.front().copied() {
            if now.since(at) < CLOSED_MEMORY {
                break;
            }
            self.closed_order.pop_front();
            self.closed.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{class::StreamKind, credit::RecvCredit};

    fn stream(own: bool) -> Stream {
        let recv = RecvCredit::new(Mono::ZERO, 0, 0);
        Stream::new(StreamKind::CONTROL, own, 0, recv)
    }

    fn responder() -> Streams {
        Streams::new(stream(true), 2)
    }

    #[test]
    fn the_initiator_has_odd_ids_and_the_responder_even_ones() {
        let mut initiator = Streams::new(stream(true), 1);
        assert_eq!(
            [initiator.allocate(), initiator.allocate()],
            [Some(1), Some(3)]
        );
        assert_eq!(initiator.standing(Mono::ZERO, 2), Standing::Fresh);
        assert_eq!(initiator.standing(Mono::ZERO, 5), Standing::Unknown);
        let mut responder = responder();
        assert_eq!(responder.allocate(), Some(2));
        assert_eq!(responder.standing(Mono::ZERO, 1), Standing::Fresh);
    }

    #[test]
    fn a_used_id_is_never_fresh_again() {
        let mut streams = responder();
        streams.use_up(1);
        streams.insert(1, stream(false));
        assert_eq!(streams.standing(Mono::ZERO, 1), Standing::Known);
        streams.remove(Mono::ZERO, 1);
        assert!(matches!(
            streams.standing(Mono::ZERO, 1),
            Standing::Closed { .. }
        ));
        assert!(matches!(
            streams.standing(Mono(9_999_999), 1),
            Standing::Closed { .. }
        ));
        assert_eq!(streams.standing(Mono::from_secs(10), 1), Standing::Unknown);
    }

    #[test]
    fn an_id_that_was_overtaken_is_still_fresh() {
        let mut streams = responder();
        streams.use_up(5);
        assert_eq!(streams.standing(Mono::ZERO, 3), Standing::Fresh);
        streams.use_up(3);
        assert_eq!(streams.standing(Mono::ZERO, 3), Standing::Unknown);
        assert_eq!(streams.standing(Mono::ZERO, 1), Standing::Fresh);
        assert_eq!(streams.standing(Mono::ZERO, 7), Standing::Fresh);
    }

    #[test]
    fn a_giant_leap_costs_bounded_memory() {
        let mut streams = responder();
        streams.use_up(ID_END - 1);
        assert_eq!(streams.skipped.len(), SKIPPED_ENTRIES);
        assert_eq!(streams.standing(Mono::ZERO, 1), Standing::Unknown);
    }

    #[test]
    fn the_memory_of_closed_streams_is_bounded() {
        let mut streams = responder();
        for id in 0..10_000 {
            streams.bury(Mono::ZERO, 2 * id + 1, Class::Bulk);
        }
        assert_eq!(streams.closed.len(), CLOSED_ENTRIES);
        assert_eq!(streams.closed_order.len(), CLOSED_ENTRIES);
    }
}
