//! Real devices, through spidev.

use nix::errno::Errno;

use super::{Settings, SpiDevice, SpiHost, Transfer};
use crate::bus::Roots;
use crate::kernel::spidev::{Device, bufsiz};

/// The devices of this machine.
#[derive(Clone, Debug, Default)]
pub struct RealSpi {
    roots: Roots,
}

impl SpiHost for RealSpi {
    fn open(&self, place: &str) -> Result<Box<dyn SpiDevice>, Errno> {
        let device = Device::open(&self.roots.dev.join(place));
        let device =
            device.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        Ok(Box::new(device))
    }

    fn bufsiz(&self) -> u32 {
        bufsiz(&self.roots.sys)
    }
}

impl SpiDevice for Device {
    fn settings(&self) -> Result<Settings, Errno> {
        self.settings()
    }

    fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        self.set_mode(mode)
    }

    fn set_bits(&self, bits: u8) -> Result<(), Errno> {
        self.set_bits(bits)
    }

    fn set_hz(&self, hz: u32) -> Result<(), Errno> {
        self.set_hz(hz)
    }

    fn message(&self, transfers: &[Transfer]) -> Result<Vec<Vec<u8>>, Errno> {
        self.message(transfers)
    }

    fn read(&self, len: u32) -> Result<Vec<u8>, Errno> {
        self.read(len)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        self.write(bytes)
    }
}
