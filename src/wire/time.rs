//! Points on a monotonic clock, handed into the layers that may not read one.

use core::fmt;
use core::time::Duration;

/// Microseconds on a monotonic clock that goes on counting during suspend (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);

    /// The given number of whole seconds after the start of the clock.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// The given number of milliseconds after the start of the clock.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Whole seconds since the start of the clock.
    pub const fn secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This point plus a duration; stays at the end of the clock instead of wrapping.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// Time since an earlier point, zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Mono(u64::MAX).after(Duration::from_secs(1)), Mono(u64::MAX));
        assert_eq!(Mono::ZERO.since(Mono::from_secs(3)), Duration::ZERO);
        assert_eq!(
            Mono::from_secs(3).since(Mono::from_millis(2_500)),
            Duration::from_millis(500)
        );
    }
}
