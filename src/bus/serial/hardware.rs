//! What the server half needs of a serial port; implemented by termios ([`tty::TtyHost`]) and by the
//! fake port of the tests.
//!
//! A port has two faces. [`SerialPort`] never waits and belongs to the data thread. [`PortControl`]
//! may wait for the hardware and is used on threads that may, while data goes on.
//!
//! The errors are those of the kernel; `ENODEV` always means that the port is gone, and `ENOTTY` that it
//! cannot do that at all.

pub mod tty;

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use super::op::{Edges, Errors, Flush, Lines, Settings};

/// A port while it is being opened.
pub type Opening<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn SerialPort>>> + 'a>>;

/// Opens ports.
pub trait SerialHost {
    /// Opens the port that the kernel calls `place` (`ttyUSB0`), for nobody else.
    ///
    /// # Errors
    /// `NotFound` when it was unplugged, `ResourceBusy`, or another I/O error.
    fn open<'a>(&'a self, place: &str) -> Opening<'a>;
}

/// The face of an open port that never waits.
pub trait SerialPort {
    /// Ready with at least one byte that was received.
    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8])
    -> Poll<Result<usize, Errno>>;

    /// Ready once the port took at least one byte.
    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Errno>>;

    /// The other face.
    fn control(&self) -> Arc<dyn PortControl>;
}

/// What a look at a port finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// `None` when the port has no modem lines.
    pub lines: Option<Lines>,
    /// Since the port was opened; `None` when the driver does not count.
    pub errors: Option<Errors>,
    /// Since the port was opened; `None` when the driver does not count.
    pub edges: Option<Edges>,
}

/// The face of an open port whose calls may wait for the hardware.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
pub trait PortControl: Send + Sync {
    /// Sets the port up and tells how it works now. Nothing is translated, echoed or waited for.
    fn configure(&self, settings: &Settings) -> Result<Settings, Errno>;
    /// The modem lines.
    fn lines(&self) -> Result<Lines, Errno>;
    /// Changes outputs, in one call of the driver; `None` leaves one as it is.
    fn set_lines(&self, dtr: Option<bool>, rts: Option<bool>) -> Result<(), Errno>;
    /// Begins or ends a break.
    fn set_break(&self, on: bool) -> Result<(), Errno>;
    /// The modem lines and what was counted.
    fn snapshot(&self) -> Result<Snapshot, Errno>;
    /// Returns when an input changed, with `EINTR` when [`PortControl::stop_waiting`] was called or the
    /// port was configured anew. Waits for any time.
    fn wait_change(&self) -> Result<(), Errno>;
    /// Ends [`PortControl::wait_change`], now and for ever.
    fn stop_waiting(&self);
    /// Waits, for any time, until what was written is transmitted or thrown away.
    fn drain(&self) -> Result<(), Errno>;
    /// Throws away what waits in the port.
    fn flush(&self, which: Flush) -> Result<(), Errno>;
    /// Makes the port safe and what it was before it was opened: a break ends, what was not transmitted
    /// is thrown away, DTR and RTS are dropped (profile 17.5). A second call does nothing.
    fn release(&self);
}
