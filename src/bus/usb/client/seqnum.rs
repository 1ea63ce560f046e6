//! How long a port can be stayed on: the kernel's sequence numbers, see
//! [`crate::kernel::vhci::SEQNUM_LIMIT`].

/// The last number that is served at all. The kernel loses its way at 2^31, and numbers it may have
/// given out already are not seen yet.
const END: u32 = (1 << 31) - (1 << 12);

/// What a sequence number says about its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// There is time.
    Young,
    /// For the first time, the end is near: 15/16 of the limit.
    Old,
    /// The device should move to another hub.
    Worn,
    /// It must: no answer would be understood any more.
    Over,
}

/// Follows the sequence numbers of one port.
#[derive(Debug)]
pub(super) struct Seqnums {
    /// From here on the hub counts as worn.
    limit: u32,
    warned: bool,
}

impl Seqnums {
    pub(super) const fn new(limit: u32) -> Self {
        Self {
            limit,
            warned: false,
        }
    }

    /// Judges a number that the kernel has just used.
    pub(super) const fn see(&mut self, seqnum: u32) -> Age {
        if seqnum >= END {
            Age::Over
        } else if seqnum >= self.limit {
            Age::Worn
        } else if !self.warned && seqnum >= self.limit - self.limit / 16 {
            self.warned = true;
            Age::Old
        } else {
            Age::Young
        }
    }

    /// There is nowhere to go: asks again when half of what is left is used up.
    pub(super) const fn stay(&mut self, seqnum: u32) {
        self.limit = seqnum.saturating_add(END.saturating_sub(seqnum) / 2 + 1);
        self.warned = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::vhci::SEQNUM_LIMIT;

    #[test]
    fn a_port_is_warned_of_once_then_left() {
        let mut seqnums = Seqnums::new(1600);
        let ages = [1, 1499, 1500, 1501, 1599, 1600, 9000].map(|seqnum| seqnums.see(seqnum));
        assert_eq!(
            ages,
            [
                Age::Young,
                Age::Young,
                Age::Old,
                Age::Young,
                Age::Young,
                Age::Worn,
                Age::Worn
            ]
        );
    }

    #[test]
    fn a_number_that_the_kernel_cannot_follow_is_the_end_whatever_was_seen_before() {
        for seqnum in [END, 1 << 31, u32::MAX] {
            assert_eq!(Seqnums::new(SEQNUM_LIMIT).see(seqnum), Age::Over);
        }
        assert_eq!(Seqnums::new(SEQNUM_LIMIT).see(END - 1), Age::Worn);
    }

    #[test]
    fn a_device_that_cannot_move_tries_again_more_and_more_often_and_stops_in_time() {
        let mut seqnums = Seqnums::new(SEQNUM_LIMIT);
        let (mut seqnum, mut tries) = (SEQNUM_LIMIT - 1, 0);
        loop {
            seqnum += 1;
            match seqnums.see(seqnum) {
                Age::Young | Age::Old => {}
                Age::Worn => {
                    tries += 1;
                    seqnums.stay(seqnum);
                }
                Age::Over => break,
            }
        }
        assert_eq!(seqnum, END);
        assert!((10..32).contains(&tries), "{tries}");
    }
}
