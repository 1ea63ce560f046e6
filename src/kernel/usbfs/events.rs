//! Waiting for finished transfers without a thread.

use core::task::{Context, Poll};
use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Device;

/// Tells the runtime's thread when there is something to reap.
pub struct Events {
    fd: AsyncFd<Device>,
}

impl Events {
    /// Watches a device; to be called inside a tokio runtime.
    ///
    /// # Errors
    /// The file descriptor cannot be watched.
    pub fn new(device: Device) -> io::Result<Self> {
        // usbfs says "writable" when a transfer is finished, and "hung up" when the device is gone.
        //
        // SAFETY: a device has the same open file descriptor for as long as any clone of it lives,
        // and the AsyncFd keeps one.
        let fd = unsafe { AsyncFd::register_with_interest(device, Interest::WRITABLE) }?;
        Ok(Self { fd })
    }

    /// Ready when a transfer finished, or the device went away, since it was last ready. Reap
    /// until there is nothing before the next call: what is left over is not told again.
    pub fn poll_completed(&self, context: &mut Context<'_>) -> Poll<()> {
        // An error comes only while the runtime shuts down.
        let Poll::Ready(Ok(mut guard)) = self.fd.poll_write_ready(context) else {
            return Poll::Pending;
        };
        guard.clear_ready();
        Poll::Ready(())
    }
}
