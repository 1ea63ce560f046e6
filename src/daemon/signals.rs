//! SIGINT and SIGTERM: the daemon ends in order, at the second one at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Tells when the daemon is asked to stop.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Takes the signals over from their defaults. Must be called inside the runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next request to stop.
    pub(super) async fn wanted(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
