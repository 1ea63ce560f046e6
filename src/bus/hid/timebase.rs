//! When the events of the other side happened, by this machine's clock.

/// How long the least delay of a window counts, in microseconds.
const WINDOW: u64 = 30_000_000;

/// Translates times of the other's clock to ours, so that events keep their distances whatever the
/// network does to them. The shortest delay seen in the last half to whole minute counts as none;
/// clocks drift less than a millisecond in that.
#[derive(Debug, Default)]
pub(super) struct Timebase {
    /// The least difference between our clock and the other's in this window and the last one.
    least: [Option<u64>; 2],
    since: u64,
    last: u64,
}

impl Timebase {
    /// When by our clock that happened, for what has arrived now. Never later than now, and never
    /// earlier than the event before.
    pub(super) fn translate(&mut self, others: u64, now: u64) -> u64 {
        let happened = now.wrapping_sub(self.delay(others, now));
        self.last = happened.clamp(self.last.min(now), now);
        self.last
    }

    /// How long that was on its way, compared with the shortest delay, for what has arrived now.
    pub(super) fn delay(&mut self, others: u64, now: u64) -> u64 {
        let passed = now.saturating_sub(self.since);
        if passed > WINDOW {
            // After a pause nothing is known: clocks drift apart, and machines sleep.
            let last = self.least[0].filter(|_| passed <= 2 * WINDOW);
            self.least = [None, last];
            self.since = now;
        }
        let difference = now.wrapping_sub(others);
        // The clocks began at any time: differences are compared on the circle.
        let smaller = |known: u64| difference.wrapping_sub(known).cast_signed() < 0;
        if self.least[0].is_none_or(smaller) {
            self.least[0] = Some(difference);
        }
        let best = match self.least {
            [Some(one), Some(other)] if other.wrapping_sub(one).cast_signed() < 0 => other,
            [Some(one), _] => one,
            [None, _] => difference,
        };
        difference.wrapping_sub(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_their_distances_whatever_the_network_does() {
        let mut time = Timebase::default();
        // The owner's clock is ahead of ours; delays are 10, 3, 90 and 5 ms.
        let owners = 1 << 50;
        let events = [(0, 10), (8, 3), (16, 90), (24, 82)];
        let times: Vec<u64> = events
            .map(|(at, delay)| time.translate(owners + at * 1000, 1_000_000 + (at + delay) * 1000))
            .into();
        assert_eq!(times, [1_010_000, 1_011_000, 1_019_000, 1_027_000]);
    }

    #[test]
    fn an_event_never_happens_later_than_now_or_before_the_last_one() {
        let mut time = Timebase::default();
        assert_eq!(time.translate(500, 1000), 1000);
        assert_eq!(time.translate(400, 1001), 1000);
        assert_eq!(time.translate(u64::MAX, 1002), 1000);
        assert_eq!(time.translate(900, 1002), 1002);
    }

    #[test]
    fn what_comes_after_a_pause_is_not_late_by_what_was_before() {
        let mut time = Timebase::default();
        assert_eq!(time.delay(0, 1000), 0);
        // Two days later the other's clock is 12 s behind.
        let later = 172_800_000_000;
        assert_eq!(time.delay(later - 12_000_000, later), 0);
    }

    #[test]
    fn a_clock_that_falls_behind_is_followed_within_two_windows() {
        let mut time = Timebase::default();
        time.translate(0, 0);
        let late = 5_000_000;
        for step in 1..=3 {
            let owners = step * (WINDOW + 1);
            time.translate(owners, owners + late);
        }
        let owners = 4 * (WINDOW + 1);
        assert_eq!(time.translate(owners, owners + late), owners + late);
    }
}
