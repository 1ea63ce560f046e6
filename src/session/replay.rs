//! The replay window of unordered paths (profile 8.6; layout of RFC 6479).

/// Counters at or below `highest - WINDOW` are refused.
pub const WINDOW: u32 = 4096;

const BITS: u32 = u64::BITS;
/// One block more than the window, so that advancing never clears a bit that still counts.
const BLOCKS: u32 = WINDOW / BITS + 1;

/// A sliding bitmap of 4096 counters.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    highest: Option<u32>,
    blocks: [u64; BLOCKS as usize],
}

impl ReplayWindow {
    /// A window that has seen nothing.
    pub const fn new() -> Self {
        Self {
            highest: None,
            blocks: [0; BLOCKS as usize],
        }
    }

    /// The highest counter committed so far.
    pub const fn highest(&self) -> Option<u32> {
        self.highest
    }

    /// True when `ctr` is neither too old nor seen.
    pub fn is_fresh(&self, ctr: u32) -> bool {
        let Some(highest) = self.highest else {
            return true;
        };
        if ctr > highest {
            return true;
        }
        highest - ctr < WINDOW && self.blocks[Self::block(ctr)] & Self::bit(ctr) == 0
    }

    /// Marks an authenticated counter as seen; false when it was not fresh.
    pub fn commit(&mut self, ctr: u32) -> bool {
        if !self.is_fresh(ctr) {
            return false;
        }
        let newest = self.highest.map_or(0, |highest| highest / BITS);
        let block = ctr / BITS;
        if block > newest {
            for passed in 1..=(block - newest).min(BLOCKS) {
                self.blocks[((newest + passed) % BLOCKS) as usize] = 0;
            }
        }
        self.highest = self.highest.max(Some(ctr));
        self.blocks[Self::block(ctr)] |= Self::bit(ctr);
        true
    }

    // Always below BLOCKS, the length of the array.
    const fn block(ctr: u32) -> usize {
        ((ctr / BITS) % BLOCKS) as usize
    }

    const fn bit(ctr: u32) -> u64 {
        1 << (ctr % BITS)
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_counter_is_accepted_once() {
        let mut window = ReplayWindow::new();
        assert!(window.commit(u32::MAX));
        assert!(!window.commit(u32::MAX));
        assert!(window.commit(u32::MAX - WINDOW + 1));
        assert!(!window.commit(u32::MAX - WINDOW));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_everything_seen(
            start in 0..u32::MAX - 2_000_000,
            steps in proptest::collection::vec((0u32..6000, any::<bool>()), 1..400),
        ) {
            let mut window = ReplayWindow::new();
            let mut seen = BTreeSet::new();
            let mut at = start;
            for (step, back) in steps {
                let ctr = if back { at.saturating_sub(step) } else { at += step; at };
                let highest = seen.last().copied();
                let fresh = !seen.contains(&ctr)
                    && highest.is_none_or(|highest| u64::from(ctr) + 4096 > u64::from(highest));
                prop_assert_eq!(window.is_fresh(ctr), fresh);
                prop_assert_eq!(window.commit(ctr), fresh);
                if fresh { seen.insert(ctr); }
            }
        }
    }
}
