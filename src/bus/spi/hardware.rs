//! What the server half needs of SPI devices; implemented by spidev ([`real::RealSpi`]) and by the fake
//! chips of the tests. All of it may wait for the bus.

pub mod real;

use nix::errno::Errno;

use super::op::{Settings, Transfer};

/// The devices of a machine.
pub trait SpiHost: Send + Sync {
    /// Opens the device that the kernel calls `spidevB.C`.
    ///
    /// # Errors
    /// Those of open(2).
    fn open(&self, place: &str) -> Result<Box<dyn SpiDevice>, Errno>;

    /// The most bytes of one message each way.
    fn bufsiz(&self) -> u32;
}

/// An open device.
#[expect(clippy::missing_errors_doc, reason = "those of kernel::spidev::Device")]
pub trait SpiDevice: Send {
    /// How it is spoken to now.
    fn settings(&self) -> Result<Settings, Errno>;
    /// Sets all bits of the mode.
    fn set_mode(&self, mode: u32) -> Result<(), Errno>;
    /// Sets the bits of a word.
    fn set_bits(&self, bits: u8) -> Result<(), Errno>;
    /// Sets the clock.
    fn set_hz(&self, hz: u32) -> Result<(), Errno>;
    /// Performs one message, and returns what each transfer received.
    fn message(&self, transfers: &[Transfer]) -> Result<Vec<Vec<u8>>, Errno>;
    /// Receives so many bytes as one transfer.
    fn read(&self, len: u32) -> Result<Vec<u8>, Errno>;
    /// Sends bytes as one transfer; how many went.
    fn write(&self, bytes: &[u8]) -> Result<usize, Errno>;
}
