//! What the sans-IO layers take as arguments: randomness and wall time of this machine.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::kernel::clock;
use crate::kernel::random;
use crate::session::clock::{ClockQuality, WallClock};
use crate::session::entropy::Entropy;

/// The kernel's random number generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        random::fill(out);
    }
}

/// What the machine's clock shows, in seconds since 1970; 0 for a clock before that.
pub fn wall_secs() -> u64 {
    clock::wall().secs
}

/// The machine's clock as a handshake announces it.
pub fn wall_clock() -> WallClock {
    let wall = clock::wall();
    WallClock {
        secs: wall.secs,
        quality: match wall.quality {
            clock::ClockQuality::None => ClockQuality::None,
            clock::ClockQuality::Estimated => ClockQuality::Estimated,
            clock::ClockQuality::Synchronised => ClockQuality::Synchronised,
        },
    }
}

/// Lets this process open as many files as the hard limit allows: every session, attached device and
/// control connection is one, and the usual soft limit of 1024 is for programs that use select(2).
pub fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    match raised {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files was not raised"),
    }
}

/// Sets up and closes a ring, which tells whether this process may use `io_uring` at all.
///
/// # Errors
/// The kernel's refusal: `EPERM` where it is disabled or filtered, `ENOSYS` where it is absent.
pub fn try_io_uring() -> std::io::Result<()> {
    tokio_uring::Runtime::new(tokio_uring::builder().entries(2)).map(drop)
}

/// True when a peer's clock is synchronised and this machine's is not: only then is there something
/// to learn from it, and a hub whose clock is far ahead can mislead nobody who knows the time.
pub fn is_better_clock(peers: ClockQuality) -> bool {
    peers == ClockQuality::Synchronised && wall_clock().quality != ClockQuality::Synchronised
}
