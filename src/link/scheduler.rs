//! Who is next: class 0 and class 1 first, then classes 2, 3 and 4 by deficit round robin with
//! weights 8 : 4 : 2, and equal shares for the streams of a class (profile 11.3).
//!
//! A round is served while its deficit is positive and may end below zero; what was taken too much
//! is missing in the next round. So no frame has to be measured before it is chosen.

use std::collections::VecDeque;

use crate::wire::status::Status;

use super::stream::LANES;

/// Bytes that class 4 gets in a round of the classes; class 3 gets twice, class 2 four times as
/// much.
const CLASS_SHARE: i64 = 8 << 10;
/// Bytes that a stream gets in a round of its class.
const STREAM_SHARE: i64 = 16 << 10;
/// The lanes of classes 2, 3 and 4 and their weights.
const SHARED: [(usize, i64); 3] = [(1, 4), (2, 2), (3, 1)];

/// A frame of class 0.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// The limit is looked up when the frame is written.
    Credit { stream: u32 },
    /// Abandon an own request.
    Cancel { stream: u32, corr: u32 },
    /// End a stream.
    Reset {
        stream: u32,
        status: Status,
        payload: Vec<u8>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Scheduler {
    pub(super) control: VecDeque<Control>,
    /// Streams with something to send, by lane.
    rounds: [VecDeque<u32>; LANES],
    deficits: [i64; LANES],
    /// Index into `SHARED`.
    turn: usize,
}

impl Scheduler {
    /// Puts a stream at the end of a lane's round. The caller keeps it from standing there twice.
    pub(super) fn join(&mut self, lane: usize, stream: u32) {
        if let Some(round) = self.rounds.get_mut(lane) {
            round.push_back(stream);
        }
    }

    /// Takes a stream out of a lane's round.
    pub(super) fn leave(&mut self, lane: usize, stream: u32) {
        if let Some(round) = self.rounds.get_mut(lane) {
            if round.front() == Some(&stream) {
                round.pop_front();
            } else {
                round.retain(|other| *other != stream);
            }
        }
    }

    /// The stream at the head of a lane's round.
    pub(super) fn head(&self, lane: usize) -> Option<u32> {
        self.rounds.get(lane)?.front().copied()
    }

    /// Moves the head of a lane's round to its end.
    pub(super) fn rotate(&mut self, lane: usize) {
        if let Some(round) = self.rounds.get_mut(lane)
            && round.len() > 1
        {
            round.rotate_left(1);
        }
    }

    /// The lane of class 2, 3 or 4 that is served now; `None` when all three are idle.
    pub(super) fn shared_lane(&mut self) -> Option<usize> {
        if SHARED.iter().all(|(lane, _)| self.head(*lane).is_none()) {
            return None;
        }
        loop {
            let (lane, weight) = *SHARED.get(self.turn)?;
            let idle = self.head(lane).is_none();
            let deficit = self.deficits.get_mut(lane)?;
            if idle {
                *deficit = (*deficit).min(0);
            } else if *deficit > 0 {
                return Some(lane);
            } else {
                *deficit += weight * CLASS_SHARE;
                if *deficit > 0 {
                    return Some(lane);
                }
            }
            self.turn = (self.turn + 1) % SHARED.len();
        }
    }

    /// Charges a class for bytes of a record; its turn ends when its share is used up.
    pub(super) fn charge(&mut self, lane: usize, bytes: i64) {
        if let Some(deficit) = self.deficits.get_mut(lane) {
            *deficit -= bytes;
            if *deficit <= 0 {
                self.turn = (self.turn + 1) % SHARED.len();
            }
        }
    }
}

/// Charges a stream inside its class; true when its share of this round is used up.
pub(super) const fn charge_stream(deficit: &mut i64, bytes: i64) -> bool {
    *deficit -= bytes;
    *deficit <= 0
}

/// A stream's turn begins: true when it may send.
pub(super) const fn begin_turn(deficit: &mut i64) -> bool {
    if *deficit <= 0 {
        *deficit += STREAM_SHARE;
    }
    *deficit > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves frames of the given sizes from lanes that never run dry.
    fn shares(sizes: [i64; 3]) -> [i64; 3] {
        let mut scheduler = Scheduler::default();
        for (lane, _) in SHARED {
            scheduler.join(lane, 7);
        }
        let mut served = [0; 3];
        while served.iter().sum::<i64>() < 10_000_000 {
            let lane = scheduler.shared_lane().unwrap();
            served[lane - 1] += sizes[lane - 1];
            scheduler.charge(lane, sizes[lane - 1]);
        }
        served
    }

    #[test]
    fn classes_share_eight_to_four_to_two_whatever_the_frame_sizes() {
        for sizes in [[1000, 1000, 1000], [100, 3000, 65536], [65536, 40, 9000]] {
            let [media, interactive, bulk] = shares(sizes);
            let close = |a: i64, b: i64| (a - b).abs() < b / 20;
            assert!(close(media, 2 * interactive), "{media} {interactive}");
            assert!(close(interactive, 2 * bulk), "{interactive} {bulk}");
        }
    }

    #[test]
    fn a_lone_class_gets_everything() {
        let mut scheduler = Scheduler::default();
        scheduler.join(3, 7);
        for _ in 0..100 {
            assert_eq!(scheduler.shared_lane(), Some(3));
            scheduler.charge(3, 65536);
        }
        scheduler.leave(3, 7);
        assert_eq!(scheduler.shared_lane(), None);
    }

    #[test]
    fn a_class_that_was_idle_saves_nothing_up() {
        let mut scheduler = Scheduler::default();
        scheduler.join(3, 7);
        for _ in 0..1000 {
            scheduler.shared_lane();
            scheduler.charge(3, 1000);
        }
        scheduler.join(1, 9);
        let mut media = 0;
        for _ in 0..100 {
            let lane = scheduler.shared_lane().unwrap();
            media += i32::from(lane == 1);
            scheduler.charge(lane, 1000);
        }
        assert!((70..=90).contains(&media), "{media}");
    }
}
