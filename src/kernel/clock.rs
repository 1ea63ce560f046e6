//! The clocks of this machine: the monotonic one that counts suspend, and the wall clock with a
//! guess at how far it can be trusted.

use std::mem::MaybeUninit;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::wire::time::Mono;

/// No machine that runs this program lives before 2026-01-01 UTC; an earlier wall clock was never
/// set.
const PLAUSIBLE: u64 = 1_767_225_600;

/// How far a wall clock can be trusted; the numbers are those of `clk` in profile 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ClockQuality {
    /// Never set since power-on.
    None = 0,
    /// Set by hand, by a battery clock or from a file, but not synchronised.
    Estimated = 1,
    /// The kernel says that a time service keeps it synchronised.
    Synchronised = 2,
}

/// What the wall clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    /// Seconds since 1970-01-01 UTC.
    pub secs: u64,
    /// How far to trust them.
    pub quality: ClockQuality,
}

/// The monotonic clock that goes on during suspend (`CLOCK_BOOTTIME`).
pub fn mono() -> Mono {
    Mono(u64::try_from(read(ClockId::CLOCK_BOOTTIME).as_micros()).unwrap_or(u64::MAX))
}

/// The wall clock (`CLOCK_REALTIME`) and its quality.
pub fn wall() -> WallTime {
    let secs = read(ClockId::CLOCK_REALTIME).as_secs();
    WallTime {
        secs,
        quality: quality_of(secs, is_synchronised()),
    }
}

/// Both clocks exist in every Linux that runs this program, so a failure reads as their start.
fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, |time| {
        let secs = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec()).unwrap_or(0);
        Duration::new(secs, nanos)
    })
}

fn quality_of(secs: u64, synchronised: bool) -> ClockQuality {
    if secs < PLAUSIBLE {
        ClockQuality::None
    } else if synchronised {
        ClockQuality::Synchronised
    } else {
        ClockQuality::Estimated
    }
}

/// What adjtimex(2) reports; reading needs no privilege.
fn is_synchronised() -> bool {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `timex` is plain integers, for which zero is valid; with `modes` 0 the call changes
    // nothing and writes one `timex` to the pointer it is given.
    let (result, state) = unsafe {
        let result = libc::adjtimex(state.as_mut_ptr());
        (result, state.assume_init())
    };
    result >= 0 && result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let before = mono();
        assert!(before > Mono::ZERO);
        assert!(mono() >= before);
    }

    #[test]
    fn a_clock_from_before_this_program_existed_is_no_clock() {
        assert_eq!(quality_of(86_400, true), ClockQuality::None);
        assert_eq!(quality_of(PLAUSIBLE, false), ClockQuality::Estimated);
        assert_eq!(quality_of(PLAUSIBLE, true), ClockQuality::Synchronised);
        assert_eq!(ClockQuality::Synchronised as u8, 2);
    }

    #[test]
    fn the_kernel_answers_without_privilege() {
        let wall = wall();
        assert!(wall.secs > 0);
        assert_eq!(wall.quality, quality_of(wall.secs, is_synchronised()));
    }
}
