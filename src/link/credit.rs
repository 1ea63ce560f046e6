//! Credit: absolute limits on the DATA and EVENT payload bytes of a stream or of the session, one
//! counter for each direction (profile 11.2, after RFC 9000 section 4.1).

use core::time::Duration;

use crate::wire::time::Mono;

/// Window of a stream or of the session, in bytes: at least and at most.
pub(super) const WINDOW: (u64, u64) = (64 << 10, 16 << 20);

/// What the peer allows us to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendCredit {
    limit: u64,
    sent: u64,
}

impl SendCredit {
    pub(super) const fn new(limit: u32) -> Self {
        Self {
            limit: limit as u64,
            sent: 0,
        }
    }

    pub(super) const fn room(&self) -> u64 {
        self.limit.saturating_sub(self.sent)
    }

    pub(super) const fn spend(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(bytes);
    }

    /// Takes a CREDIT of the peer; false when it does not raise the limit.
    pub(super) const fn raise(&mut self, limit: u64) -> bool {
        let raised = limit > self.limit;
        if raised {
            self.limit = limit;
        }
        raised
    }
}

/// What we allow the peer to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecvCredit {
    limit: u64,
    received: u64,
    /// Handed to the application, which has not consumed it yet.
    buffered: u64,
    window: u64,
    ceiling: u64,
    granted_at: Mono,
    granted_to: u64,
    /// A CREDIT waits to be sent.
    pub(super) listed: bool,
    /// The application reports what it consumed.
    pub(super) manual: bool,
}

/// The peer sent more than it was allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exceeded;

impl RecvCredit {
    /// `limit` is what the peer knows from the handshake; the window may grow up to `ceiling`.
    pub(super) fn new(now: Mono, limit: u32, ceiling: u64) -> Self {
        let limit = u64::from(limit);
        let ceiling = ceiling.max(WINDOW.0);
        Self {
            limit,
            received: 0,
            buffered: 0,
            window: limit.clamp(WINDOW.0, ceiling),
            ceiling,
            granted_at: now,
            granted_to: 0,
            listed: false,
            manual: false,
        }
    }

    /// Counts bytes that arrived.
    pub(super) const fn receive(&mut self, bytes: u64) -> Result<(), Exceeded> {
        self.received = self.received.saturating_add(bytes);
        if self.received > self.limit {
            Err(Exceeded)
        } else {
            Ok(())
        }
    }

    /// Bytes that the peer counted and that got lost on the way: they shall not hold it back.
    pub(super) const fn forgive(&mut self, bytes: u64) {
        self.received = self.received.saturating_add(bytes);
        // A guess too high must not look like an excess of the peer.
        if self.limit < self.received {
            self.limit = self.received;
        }
    }

    /// Bytes went to the application, which holds them until it calls [`Self::consume`].
    pub(super) const fn buffer(&mut self, bytes: u64) {
        self.buffered = self.buffered.saturating_add(bytes);
    }

    /// The application is done with bytes; returns how many of them were indeed held.
    pub(super) fn consume(&mut self, bytes: u64) -> u64 {
        let consumed = bytes.min(self.buffered);
        self.buffered -= consumed;
        consumed
    }

    /// Everything the application still holds counts as consumed.
    pub(super) fn release(&mut self) -> u64 {
        self.consume(u64::MAX)
    }

    /// True when half of the window is consumed, so that a new limit should be announced.
    pub(super) const fn is_due(&self) -> bool {
        self.consumed() + self.window / 2 >= self.limit
    }

    /// The new absolute limit, `None` when none is due. The window doubles while the consumption of
    /// one round trip fills more than half of it: it is then what limits the rate.
    pub(super) fn grant(&mut self, now: Mono, round_trip: Duration) -> Option<u64> {
        if !self.is_due() {
            return None;
        }
        let consumed = self.consumed();
        let elapsed = now.since(self.granted_at).as_micros().max(1);
        let fresh = u128::from(consumed.saturating_sub(self.granted_to));
        if fresh * round_trip.as_micros() / elapsed > u128::from(self.window / 2) {
            self.window = (self.window * 2).min(self.ceiling);
        }
        self.granted_at = now;
        self.granted_to = consumed;
        self.limit = self.limit.max(consumed.saturating_add(self.window));
        Some(self.limit)
    }

    const fn consumed(&self) -> u64 {
        self.received.saturating_sub(self.buffered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(10);

    #[test]
    fn a_lower_or_repeated_limit_has_no_effect() {
        let mut credit = SendCredit::new(1000);
        credit.spend(400);
        assert!(!credit.raise(1000));
        assert!(!credit.raise(10));
        assert_eq!(credit.room(), 600);
        assert!(credit.raise(1001));
        assert_eq!(credit.room(), 601);
    }

    #[test]
    fn the_last_byte_of_the_limit_is_allowed_and_the_next_is_not() {
        let mut credit = RecvCredit::new(Mono::ZERO, 100, 1 << 20);
        assert_eq!(credit.receive(100), Ok(()));
        assert_eq!(credit.receive(1), Err(Exceeded));
    }

    #[test]
    fn the_limit_rises_when_half_is_consumed_and_not_before() {
        let mut credit = RecvCredit::new(Mono::ZERO, 128 << 10, 128 << 10);
        let now = Mono::from_secs(100);
        credit.receive(65 << 10).unwrap();
        credit.buffer(65 << 10);
        assert_eq!(credit.grant(now, RTT), None);
        credit.consume(63 << 10);
        assert_eq!(credit.grant(now, RTT), None);
        credit.consume(1 << 10);
        assert_eq!(credit.grant(now, RTT), Some((128 + 64) << 10));
        assert_eq!(credit.grant(now, RTT), None);
    }

    #[test]
    fn more_cannot_be_consumed_than_was_handed_over() {
        let mut credit = RecvCredit::new(Mono::ZERO, 128 << 10, 128 << 10);
        credit.receive(10).unwrap();
        credit.buffer(10);
        assert_eq!(credit.consume(1000), 10);
        assert_eq!(credit.consume(1), 0);
    }

    #[test]
    fn the_window_grows_only_while_it_limits_the_rate_and_up_to_the_ceiling() {
        let mut fast = RecvCredit::new(Mono::ZERO, 64 << 10, 256 << 10);
        let mut slow = fast;
        for step in 1..8 {
            fast.receive(32 << 10).unwrap();
            fast.grant(Mono::from_millis(step), RTT);
            slow.receive(32 << 10).unwrap();
            slow.grant(Mono::from_secs(step), RTT);
        }
        assert_eq!(fast.window, 256 << 10);
        assert_eq!(slow.window, 64 << 10);
    }
}
