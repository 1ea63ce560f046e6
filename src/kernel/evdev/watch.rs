//! Waiting for events of evdev and uinput.

use core::task::{Context, Poll, ready};
use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An open device that can be waited for.
#[derive(Debug)]
pub struct Watch<T: AsRawFd> {
    fd: AsyncFd<T>,
}

impl<T: AsRawFd> Watch<T> {
    /// For devices that own their descriptor and keep it as long as they live.
    pub(in crate::kernel) fn new(device: T) -> io::Result<Self> {
        // SAFETY: the callers' devices own their descriptor: it stays open, and the same, as long as
        // the device is registered.
        let fd = unsafe { AsyncFd::register_with_interest(device, Interest::READABLE) }?;
        Ok(Self { fd })
    }

    /// The device.
    pub fn device(&self) -> &T {
        self.fd.get_ref()
    }

    /// The device, no longer waited for.
    pub fn into_device(self) -> T {
        self.fd.into_inner()
    }

    /// Reads; ready with what came of it unless that is `EAGAIN`.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn poll(
        &self,
        context: &mut Context<'_>,
        mut read: impl FnMut(&T) -> Result<(), Errno>,
    ) -> Poll<Result<(), Errno>> {
        loop {
            let Ok(mut guard) = ready!(self.fd.poll_read_ready(context)) else {
                return Poll::Ready(Err(Errno::EIO));
            };
            match read(self.fd.get_ref()) {
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(Errno::EINTR) => {}
                other => return Poll::Ready(other),
            }
        }
    }
}
