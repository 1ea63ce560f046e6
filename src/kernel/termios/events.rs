//! Reading and writing without a thread.

use core::task::{Context, Poll, ready};
use std::io;

use nix::errno::Errno;
use tokio::io::unix::AsyncFd;

use super::Tty;

/// A terminal that tells the runtime's thread when there is something to read or room to write.
#[derive(Debug)]
pub struct Events {
    fd: AsyncFd<Tty>,
}

impl Events {
    /// Watches a terminal; to be called inside a tokio runtime.
    ///
    /// # Errors
    /// The file descriptor cannot be watched.
    pub fn new(tty: Tty) -> io::Result<Self> {
        // SAFETY: a terminal has the same open file descriptor for as long as any clone of it lives,
        // and the AsyncFd keeps one.
        let fd = unsafe { AsyncFd::register(tty) }?;
        Ok(Self { fd })
    }

    /// Ready with what [`Tty::read`] gave, never with `EAGAIN`.
    pub fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, Errno>> {
        loop {
            // An error comes only while the runtime shuts down.
            let Ok(mut guard) = ready!(self.fd.poll_read_ready(context)) else {
                return Poll::Pending;
            };
            match self.fd.get_ref().read(buffer) {
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(Errno::EINTR) => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Ready with what [`Tty::write`] gave, never with `EAGAIN`.
    pub fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Errno>> {
        loop {
            let Ok(mut guard) = ready!(self.fd.poll_write_ready(context)) else {
                return Poll::Pending;
            };
            match self.fd.get_ref().write(data) {
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(Errno::EINTR) => {}
                result => return Poll::Ready(result),
            }
        }
    }
}
