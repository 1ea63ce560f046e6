//! What the sans-IO layers take as arguments: randomness and wall time of this machine.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::session::entropy::Entropy;

/// The kernel's random number generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// Blocks until the generator is seeded. A kernel that refuses random numbers ends the process:
    /// nothing here could safely go on.
    fn fill(&mut self, out: &mut [u8]) {
        if let Err(error) = getrandom::fill(out) {
            tracing::error!(%error, "the kernel gives no random numbers");
            std::process::abort();
        }
    }
}

/// What the machine's clock shows, in seconds since 1970; 0 for a clock before that.
pub fn wall_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Sets up and closes a ring, which tells whether this process may use `io_uring` at all.
///
/// # Errors
/// The kernel's refusal: `EPERM` where it is disabled or filtered, `ENOSYS` where it is absent.
pub fn try_io_uring() -> std::io::Result<()> {
    tokio_uring::Runtime::new(tokio_uring::builder().entries(2)).map(drop)
}
