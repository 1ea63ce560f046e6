//! How many isochronous packets came too late, for the log.

use std::time::{Duration, Instant};

use super::super::endpoints::Product;

/// From one line of the log to the next.
const PAUSE: Duration = Duration::from_secs(60);

/// Packets whose time passed before they reached the device, or before the device was asked.
#[derive(Debug, Default)]
pub(super) struct Late {
    untold: u64,
    told: Option<Instant>,
}

impl Late {
    /// Counts `packets` more and says so, at most once a minute.
    pub(super) fn count(&mut self, now: Instant, product: Product, packets: u32) {
        self.untold += u64::from(packets);
        if let Some(packets) = self.due(now) {
            say(product, packets);
        }
    }

    /// Says what was not said yet.
    pub(super) fn conclude(&mut self, product: Product) {
        let packets = std::mem::take(&mut self.untold);
        if packets > 0 {
            say(product, packets);
        }
    }

    /// The number to be told now.
    fn due(&mut self, now: Instant) -> Option<u64> {
        let quiet = self
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= PAUSE);
        if self.untold == 0 || !quiet {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

fn say(product: Product, packets: u64) {
    tracing::warn!(
        device = %product,
        packets,
        "isochronous packets were too late: audio or video of this device has gaps"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_packets_are_told_once_a_minute_and_all_of_them() {
        let mut late = Late::default();
        let start = Instant::now();
        assert_eq!(late.due(start), None);
        late.untold = 8;
        assert_eq!(late.due(start), Some(8));
        late.untold += 3;
        assert_eq!(late.due(start + Duration::from_secs(59)), None);
        late.untold += 4;
        assert_eq!(late.due(start + PAUSE), Some(7));
        assert_eq!(late.due(start + PAUSE * 3), None);
    }
}
