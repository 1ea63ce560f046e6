//! What the server half needs of I2C buses; implemented by `/dev/i2c-N` ([`dev::DevHost`]) and by the fake
//! buses of the tests. All of it may wait for the hardware.

pub mod dev;

use std::io;

use nix::errno::Errno;

use super::op::{Message, SmbusCommand};

/// Opens buses.
pub trait I2cHost: Send + Sync {
    /// The bus that the kernel calls `i2c-N`.
    ///
    /// # Errors
    /// `NotFound` when it is gone, `PermissionDenied`, or another I/O error.
    fn open(&self, place: &str) -> io::Result<Box<dyn I2cBus>>;
}

/// An open bus. The errors are those of the calls of [`crate::kernel::i2c_dev::Bus`].
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
pub trait I2cBus {
    /// What the adapter can do: `I2C_FUNC_*` of the kernel.
    fn functionality(&self) -> Result<u32, Errno>;
    /// Fails with `EBUSY` when a driver of this machine's kernel has the chip.
    fn check_unused(&self, addr: u16) -> Result<(), Errno>;
    /// One transaction; what each reading message brought.
    fn transfer(&self, messages: &[Message]) -> Result<Vec<Vec<u8>>, Errno>;
    /// One SMBus transaction; what it brought, not longer than its protocol allows.
    fn smbus(&self, command: &SmbusCommand) -> Result<Vec<u8>, Errno>;
}
