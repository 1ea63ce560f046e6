//! What a machine does that has slept: timers were standing still, and its peers may have given it up.

use std::time::Duration;

use tokio::time::Instant;

use crate::kernel::clock;

/// From one look at the clocks to the next.
const LOOK: Duration = Duration::from_secs(5);
/// A difference of the clocks that is no rounding.
const SLEPT: Duration = Duration::from_secs(1);
/// How long a peer may take to show that a session has outlived the sleep.
pub(super) const PROBE: Duration = Duration::from_secs(3);

/// Calls `woken` every time the machine has slept, for ever: of the two clocks that are looked at only one
/// stands still meanwhile.
pub(super) async fn watch(mut woken: impl FnMut()) {
    loop {
        let (with_sleep, without) = (clock::mono(), Instant::now());
        tokio::time::sleep(LOOK).await;
        let slept = clock::mono()
            .since(with_sleep)
            .saturating_sub(without.elapsed());
        if slept >= SLEPT {
            tracing::info!(seconds = slept.as_secs(), "this machine has slept");
            woken();
        }
    }
}
