//! Session clocks (profile 16): timestamps that follow neither side's wall clock, and the age of
//! what the peer sends.

use core::time::Duration;

use crate::wire::time::Mono;

/// Seconds a timestamp may lie off the peer's expected clock (draft 10.2).
pub const TOLERANCE_SECS: u32 = 300;

/// How good a node's idea of the time is (`clk` of profile 16.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClockQuality {
    /// 0: anything.
    None,
    /// 1: persisted, or a real-time clock without synchronisation.
    Estimated,
    /// 2: synchronised.
    Synchronised,
}

impl ClockQuality {
    /// The number on the wire.
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Estimated => 1,
            Self::Synchronised => 2,
        }
    }

    /// The quality with the given number; a number this build does not know promises nothing.
    pub const fn from_u64(number: u64) -> Self {
        match number {
            1 => Self::Estimated,
            2 => Self::Synchronised,
            _ => Self::None,
        }
    }
}

/// What a node believes the time to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// Seconds since 1970.
    pub secs: u64,
    /// How good that is.
    pub quality: ClockQuality,
}

/// The low 32 bits of a time in seconds; timestamps are compared modulo 2^32 (profile G-3).
pub(crate) const fn low32(secs: u64) -> u32 {
    (secs & 0xFFFF_FFFF) as u32
}

/// A clock that started at a known value and follows the monotonic clock ever since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionClock {
    origin: u64,
    base: Mono,
}

impl SessionClock {
    /// A clock that shows `origin` at `base`.
    pub const fn new(origin: u64, base: Mono) -> Self {
        Self { origin, base }
    }

    /// Our own clock for a session that starts at `now`.
    pub const fn start(wall: WallClock, now: Mono) -> Self {
        Self::new(wall.secs, now)
    }

    /// Whole seconds at `now`.
    const fn secs(&self, now: Mono) -> u64 {
        self.origin.wrapping_add(now.since(self.base).as_secs())
    }

    /// The timestamp of a message sent at `now`, modulo 2^32.
    pub const fn timestamp(&self, now: Mono) -> u32 {
        low32(self.secs(now))
    }

    /// The value to announce as T0 in a handshake message sent at `now`: the origin while that is
    /// within a second of the header's timestamp, otherwise the timestamp (profile 16.1).
    pub const fn announced(&self, now: Mono) -> u64 {
        if now.since(self.base).as_secs() <= 1 {
            self.origin
        } else {
            self.secs(now)
        }
    }

    /// Seconds by which `timestamp` lies behind this clock at `now`; negative when ahead.
    const fn lag(&self, now: Mono, timestamp: u32) -> i32 {
        self.timestamp(now).wrapping_sub(timestamp).cast_signed()
    }

    /// True when `timestamp` is within ±300 s of this clock (profile 16.2).
    pub const fn accepts(&self, now: Mono, timestamp: u32) -> bool {
        self.lag(now, timestamp).unsigned_abs() <= TOLERANCE_SECS
    }

    /// Age in seconds of a message with the given timestamp, 0 when it is ahead (profile 16.3).
    pub const fn age(&self, now: Mono, timestamp: u32) -> u32 {
        let lag = self.lag(now, timestamp);
        if lag < 0 { 0 } else { lag.unsigned_abs() }
    }
}

/// The point on the monotonic clock at which the wall clock will show `wall_secs`.
pub(crate) fn when(wall_secs: u64, wall_now: u64, now: Mono) -> Mono {
    now.after(Duration::from_secs(wall_secs.saturating_sub(wall_now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_either_way_are_accepted_and_not_a_second_more() {
        let clock = SessionClock::new(1000, Mono::from_secs(50));
        let now = Mono::from_secs(60);
        assert_eq!(clock.timestamp(now), 1010);
        for (timestamp, accepted) in [(709, false), (710, true), (1310, true), (1311, false)] {
            assert_eq!(clock.accepts(now, timestamp), accepted, "{timestamp}");
        }
        assert_eq!(clock.age(now, 1000), 10);
        assert_eq!(clock.age(now, 1300), 0);
    }

    #[test]
    fn timestamps_wrap_without_a_gap() {
        let clock = SessionClock::new(u64::from(u32::MAX), Mono::ZERO);
        assert_eq!(clock.timestamp(Mono::from_secs(2)), 1);
        assert!(clock.accepts(Mono::from_secs(2), u32::MAX - 10));
        assert_eq!(clock.age(Mono::from_secs(2), u32::MAX), 2);
        assert!(!clock.accepts(Mono::ZERO, i32::MAX.cast_unsigned()));
        assert!(!clock.accepts(Mono::ZERO, 1 << 31));
    }

    #[test]
    fn the_announced_time_stays_within_a_second_of_the_header() {
        let clock = SessionClock::new(100, Mono::ZERO);
        for secs in 0..60 {
            let now = Mono::from_secs(secs);
            assert!(u64::from(clock.timestamp(now)) - clock.announced(now) <= 1);
        }
    }
}
