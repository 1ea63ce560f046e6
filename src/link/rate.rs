//! The path's delivery rate, estimated from the completion of writes, and the token bucket that
//! keeps class 1 from starving the rest (profile 11.3).

use core::time::Duration;

use crate::wire::time::Mono;

/// Assumed until something was measured: 100 Mbit/s, in bytes per second.
pub const ASSUMED_RATE: u64 = 12_500_000;

/// Sustained class 1 traffic that always goes first, in bytes per second.
const URGENT_RATE: u64 = 4_000_000;
/// How long a burst at that rate may last.
const BURST: Duration = Duration::from_millis(20);
/// A busy period is measured when it carried this much …
const SAMPLE_BYTES: u64 = 16 << 10;
/// … over at least this long.
const SAMPLE_TIME: Duration = Duration::from_millis(2);

/// `rate` for a duration, in bytes.
pub(super) fn bytes_in(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_micros() / 1_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Estimates how fast the path takes bytes. Only busy periods count: an idle path says nothing
/// about its rate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DeliveryRate {
    estimate: Option<u64>,
    in_flight: u64,
    since: Mono,
    delivered: u64,
}

impl DeliveryRate {
    /// Bytes per second.
    pub(super) fn estimate(&self) -> u64 {
        self.estimate.unwrap_or(ASSUMED_RATE)
    }

    /// Bytes were handed to the transport.
    pub(super) const fn written(&mut self, now: Mono, bytes: u64) {
        if self.in_flight == 0 {
            self.since = now;
            self.delivered = 0;
        }
        self.in_flight = self.in_flight.saturating_add(bytes);
    }

    /// The transport got rid of bytes.
    pub(super) fn delivered(&mut self, now: Mono, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.delivered = self.delivered.saturating_add(bytes);
        let elapsed = now.since(self.since);
        if self.delivered < SAMPLE_BYTES || elapsed < SAMPLE_TIME {
            return;
        }
        let rate = u128::from(self.delivered) * 1_000_000 / elapsed.as_micros();
        self.sample(u64::try_from(rate).unwrap_or(u64::MAX).max(1));
        self.since = now;
        self.delivered = 0;
    }

    /// A faster path is believed at once by half, a slower one little by little: one stall must not
    /// shrink the records of the next second.
    fn sample(&mut self, rate: u64) {
        self.estimate = Some(match self.estimate {
            None => rate,
            Some(old) if rate >= old => old + (rate - old) / 2,
            Some(old) => old - (old - rate) / 8,
        });
    }
}

/// Bytes that class 1 may still send before the other classes have had their turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TokenBucket {
    tokens: u64,
    filled_at: Mono,
    started: bool,
}

impl TokenBucket {
    /// Refills for the time gone by: 4 MB/s or a quarter of the path's rate, whichever is larger.
    pub(super) fn refill(&mut self, now: Mono, path_rate: u64) {
        let rate = URGENT_RATE.max(path_rate / 4);
        let full = bytes_in(rate, BURST);
        let gained = if self.started {
            bytes_in(rate, now.since(self.filled_at))
        } else {
            full
        };
        if gained > 0 {
            self.filled_at = now;
        }
        self.started = true;
        self.tokens = self.tokens.saturating_add(gained).min(full);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    pub(super) const fn take(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps two 64 KiB writes in flight on a path of the given rate.
    fn busy(rate: &mut DeliveryRate, mut now: Mono, bytes_per_second: u64, writes: u32) -> Mono {
        const WRITE: u64 = 65536;
        rate.written(now, WRITE);
        for _ in 0..writes {
            rate.written(now, WRITE);
            now = Mono(now.0 + WRITE * 1_000_000 / bytes_per_second);
            rate.delivered(now, WRITE);
        }
        rate.delivered(now, WRITE);
        now
    }

    #[test]
    fn a_busy_path_is_measured_within_a_tenth() {
        for actual in [1_000_000, 12_500_000, 110_000_000] {
            let mut rate = DeliveryRate::default();
            busy(&mut rate, Mono::from_secs(1), actual, 200);
            let error = rate.estimate().abs_diff(actual);
            assert!(error < actual / 10, "{} for {actual}", rate.estimate());
        }
    }

    #[test]
    fn a_path_that_slows_down_is_noticed() {
        let mut rate = DeliveryRate::default();
        let now = busy(&mut rate, Mono::from_secs(1), 100_000_000, 100);
        busy(&mut rate, now, 10_000_000, 100);
        assert!(rate.estimate() < 11_000_000, "{}", rate.estimate());
    }

    #[test]
    fn small_records_with_pauses_do_not_lower_the_estimate() {
        let mut rate = DeliveryRate::default();
        for second in 0..100 {
            rate.written(Mono::from_secs(second), 200);
            rate.delivered(Mono::from_secs(second).after(SAMPLE_TIME), 200);
        }
        assert_eq!(rate.estimate(), ASSUMED_RATE);
    }

    #[test]
    fn the_bucket_lets_a_burst_through_and_then_the_rate() {
        let mut bucket = TokenBucket::default();
        bucket.refill(Mono::from_secs(5), 0);
        bucket.take(79_999);
        assert!(!bucket.is_empty());
        bucket.take(1);
        assert!(bucket.is_empty());
        bucket.refill(Mono::from_millis(5_001), 0);
        bucket.take(3_999);
        assert!(!bucket.is_empty());
        bucket.take(1);
        assert!(bucket.is_empty());
    }

    #[test]
    fn a_quarter_of_a_fast_path_belongs_to_class_1() {
        let mut bucket = TokenBucket::default();
        bucket.refill(Mono::ZERO, 100_000_000);
        bucket.take(499_999);
        assert!(!bucket.is_empty());
    }
}
