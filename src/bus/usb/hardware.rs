//! What the server half needs of USB hardware; implemented by usbfs ([`usbfs::UsbfsHost`]) and by
//! the fake devices of the tests.
//!
//! A device has two faces. [`UsbDevice`] never waits and belongs to the data thread. [`UsbPort`]
//! may wait for the hardware and is used on threads that may; while one of its calls is under way,
//! the data thread must leave the device alone, because usbfs serves one ioctl of a device at a
//! time.

pub mod usbfs;

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use super::enumerate::Location;
use crate::kernel::usbfs::{Completion, SETUP_LEN, Transfer};

/// A device while it is being opened.
pub type Opening<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn UsbDevice>>> + 'a>>;

/// Opens devices.
pub trait UsbHost {
    /// Opens the device that is plugged in there.
    ///
    /// # Errors
    /// `NotFound` when it was unplugged, `PermissionDenied`, or another I/O error.
    fn open<'a>(&'a self, location: &Location) -> Opening<'a>;
}

/// The face of an open device that never waits.
pub trait UsbDevice {
    /// Starts a transfer. Transfers of one endpoint are carried out in the order of this call.
    ///
    /// # Errors
    /// As [`crate::kernel::usbfs::Device::submit`].
    fn submit(&self, transfer: Transfer) -> Result<(), Errno>;

    /// Takes back one finished transfer; `None` when there is none now.
    ///
    /// # Errors
    /// `ENODEV` when the device is gone and everything finished was taken back.
    fn reap(&self) -> Result<Option<Completion>, Errno>;

    /// Claims an interface that no driver has, or that is claimed already: a check that waits for
    /// nobody but a reset that is going on.
    ///
    /// # Errors
    /// As [`crate::kernel::usbfs::Device::claim`].
    fn claim(&self, interface: u8) -> Result<(), Errno>;

    /// Ready when [`UsbDevice::reap`] may have something to give, or the device is gone. After
    /// that, reap until there is nothing: it is told once.
    fn poll_completed(&self, context: &mut Context<'_>) -> Poll<()>;

    /// The other face.
    fn port(&self) -> Arc<dyn UsbPort>;
}

/// The face of an open device whose calls may wait for the hardware. The errors are those of the
/// calls of [`crate::kernel::usbfs::Device`] of the same names.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
pub trait UsbPort: Send + Sync {
    /// The device descriptor and all configuration descriptors.
    fn descriptors(&self) -> io::Result<Vec<u8>>;
    /// bConfigurationValue of the active configuration, 0 for none.
    fn active_configuration(&self) -> Result<u8, Errno>;
    /// Speed in the kernel's numbering.
    fn speed(&self) -> Result<u8, Errno>;
    /// One control transfer on endpoint 0.
    fn control(
        &self,
        setup: [u8; SETUP_LEN],
        data: &mut [u8],
        timeout_ms: u32,
    ) -> Result<usize, Errno>;
    /// Gives up a transfer, which is still to be reaped.
    fn discard(&self, key: u64) -> Result<(), Errno>;
    /// Takes an interface that no driver has; nothing happens when it is claimed already.
    fn claim(&self, interface: u8) -> Result<(), Errno>;
    /// Takes an interface from its kernel driver.
    fn disconnect_claim(&self, interface: u8) -> Result<(), Errno>;
    /// Gives an interface up, to no driver.
    fn release(&self, interface: u8) -> Result<(), Errno>;
    /// The name of the driver that an interface has; `usbfs` when a program has it.
    fn driver(&self, interface: u8) -> Result<Option<String>, Errno>;
    /// Lets the kernel find a driver for an interface.
    fn connect(&self, interface: u8) -> Result<(), Errno>;
    /// Chooses a configuration.
    fn set_configuration(&self, value: u8) -> Result<(), Errno>;
    /// Chooses an alternate setting.
    fn set_interface(&self, interface: u8, alternate: u8) -> Result<(), Errno>;
    /// Ends a halt.
    fn clear_halt(&self, endpoint: u8) -> Result<(), Errno>;
    /// Resets the device.
    fn reset(&self) -> Result<(), Errno>;
}
