//! How many isochronous packets came too late, for the log.

use std::time::{Duration, Instant};

use super::super::endpoints::Product;

/// From one line of the log to the next.
const PAUSE: Duration = Duration::from_secs(60);

/// Packets whose time passed before they reached the device, or before the device was asked.
#[derive(Debug, Default)]
pub(super) struct Late {
    total: u64,
    /// How much of the total was said, and when.
    told: (u64, Option<Instant>),
}

impl Late {
    /// Counts `packets` more and says so, at most once a minute.
    pub(super) fn count(&mut self, now: Instant, product: Product, packets: u32) {
        self.total += u64::from(packets);
        if let Some(packets) = self.due(now) {
            self.say(product, packets);
        }
    }

    /// Says what was not said yet.
    pub(super) fn conclude(&mut self, product: Product) {
        let packets = self.untold();
        if packets > 0 {
            self.told.0 = self.total;
            self.say(product, packets);
        }
    }

    /// All that were counted.
    #[cfg(test)]
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    const fn untold(&self) -> u64 {
        self.total - self.told.0
    }

    /// The number to be told now.
    fn due(&mut self, now: Instant) -> Option<u64> {
        let (_, told) = self.told;
        let quiet = told.is_none_or(|told| now.saturating_duration_since(told) >= PAUSE);
        let packets = self.untold();
        if packets == 0 || !quiet {
            return None;
        }
        self.told = (self.total, Some(now));
        Some(packets)
    }

    fn say(&self, product: Product, packets: u64) {
        tracing::warn!(
            device = %product,
            packets,
            total = self.total,
            "isochronous packets were too late: audio or video of this device has gaps"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_packets_are_told_once_a_minute_and_all_of_them() {
        let mut late = Late::default();
        let start = Instant::now();
        assert_eq!(late.due(start), None);
        late.total = 8;
        assert_eq!(late.due(start), Some(8));
        late.total += 3;
        assert_eq!(late.due(start + Duration::from_secs(59)), None);
        late.total += 4;
        assert_eq!(late.due(start + PAUSE), Some(7));
        assert_eq!(late.due(start + PAUSE * 3), None);
    }
}
