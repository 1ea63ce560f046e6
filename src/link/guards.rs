//! Counters that end the session of a peer that only wastes our time (profile 10.2, 11.1, 18).

use crate::wire::{
    limits::{MAX_IDLE_FRAMES_PER_SECOND, MAX_UNKNOWN},
    time::Mono,
};

use super::event::Violation;

/// TICKET and `FAMILY_UPDATE` events per second on stream 0 (profile 10.2).
pub const CONTROL_EVENTS_PER_SECOND: u32 = 16;
/// Refusals that may wait to be sent: a peer that asks without reading must not fill our memory.
const REFUSALS_WAITING: u32 = 4096;

/// Counts within whole seconds of the clock.
#[derive(Clone, Copy, Debug, Default)]
struct PerSecond {
    second: u64,
    count: u32,
}

impl PerSecond {
    const fn count(&mut self, now: Mono) -> u32 {
        if self.second != now.secs() {
            self.second = now.secs();
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guards {
    unknown_frames: u32,
    unknown_operations: u32,
    idle: PerSecond,
    control_events: PerSecond,
    refusals: u32,
}

impl Guards {
    /// A frame for a stream that was never opened.
    pub(super) fn unknown_frame(&mut self) -> Result<(), Violation> {
        self.unknown_frames += 1;
        at_most(
            self.unknown_frames,
            MAX_UNKNOWN,
            "frames for streams that were never opened",
        )
    }

    /// A request whose opcode has no meaning.
    pub(super) fn unknown_operation(&mut self) -> Result<(), Violation> {
        self.unknown_operations += 1;
        at_most(self.unknown_operations, MAX_UNKNOWN, "unknown operations")
    }

    /// A CREDIT, CANCEL, RESET, PAD or NOP that changed nothing.
    pub(super) fn idle_frame(&mut self, now: Mono) -> Result<(), Violation> {
        at_most(
            self.idle.count(now),
            MAX_IDLE_FRAMES_PER_SECOND,
            "frames without effect",
        )
    }

    /// An event on stream 0.
    pub(super) fn control_event(&mut self, now: Mono) -> Result<(), Violation> {
        at_most(
            self.control_events.count(now),
            CONTROL_EVENTS_PER_SECOND,
            "events on stream 0",
        )
    }

    /// The link itself answers a request with an error.
    pub(super) fn refusal(&mut self) -> Result<(), Violation> {
        self.refusals += 1;
        at_most(
            self.refusals,
            REFUSALS_WAITING,
            "requests refused without reading the answers",
        )
    }

    pub(super) const fn refusal_sent(&mut self) {
        self.refusals = self.refusals.saturating_sub(1);
    }
}

const fn at_most(count: u32, limit: u32, what: &'static str) -> Result<(), Violation> {
    if count > limit {
        Err(Violation::limit(what))
    } else {
        Ok(())
    }
}
