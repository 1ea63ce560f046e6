//! I2C buses: `/dev/i2c-N` (drivers/i2c/i2c-dev.c).
//!
//! A [`Bus`] is an open file of such a device. The kernel keeps an adapter that is to go as long as
//! somebody has it open, so one is opened for an operation and closed after it.

mod abi;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};

use abi::{RawMessage, RawSmbusData};

pub use abi::{ioctl, size};

/// Of its devices (`I2C_MAJOR`).
const MAJOR: u64 = 89;
/// Most messages of one transaction (`I2C_RDWR_IOCTL_MAX_MSGS`).
pub const MAX_MESSAGES: usize = 42;
/// Most bytes of one message.
pub const MAX_LENGTH: usize = 8192;
/// Most bytes of an SMBus block (`I2C_SMBUS_BLOCK_MAX`).
pub const MAX_BLOCK: usize = 32;
/// Bytes of `union i2c_smbus_data`: a length, a block and one for PEC.
pub const SMBUS_DATA: usize = MAX_BLOCK + 2;

/// Flags of a message (include/uapi/linux/i2c.h).
pub mod flag {
    /// It reads.
    pub const READ: u16 = 0x0001;
    /// The address has ten bits.
    pub const TEN: u16 = 0x0010;
    /// The kernel's own, that a buffer may be used by a bus master.
    pub const DMA_SAFE: u16 = 0x0200;
    /// The first byte that is read says how many follow.
    pub const RECV_LEN: u16 = 0x0400;
    /// Nothing is acknowledged in a read.
    pub const NO_RD_ACK: u16 = 0x0800;
    /// A missing acknowledge changes nothing.
    pub const IGNORE_NAK: u16 = 0x1000;
    /// The direction bit is inverted.
    pub const REV_DIR_ADDR: u16 = 0x2000;
    /// No start and no address before this message.
    pub const NOSTART: u16 = 0x4000;
    /// A stop after this message.
    pub const STOP: u16 = 0x8000;
}

/// What an adapter can do (include/uapi/linux/i2c.h).
pub mod func {
    /// Messages as they are.
    pub const I2C: u32 = 0x0000_0001;
    /// Addresses of ten bits.
    pub const TEN_BIT_ADDR: u32 = 0x0000_0002;
    /// `IGNORE_NAK`, `REV_DIR_ADDR`, `NO_RD_ACK`, `STOP`.
    pub const PROTOCOL_MANGLING: u32 = 0x0000_0004;
    /// SMBus packet error checking.
    pub const SMBUS_PEC: u32 = 0x0000_0008;
    /// `NOSTART`.
    pub const NOSTART: u32 = 0x0000_0010;
    /// SMBus block process call.
    pub const SMBUS_BLOCK_PROC_CALL: u32 = 0x0000_8000;
    /// SMBus quick command.
    pub const SMBUS_QUICK: u32 = 0x0001_0000;
    /// SMBus receive byte.
    pub const SMBUS_READ_BYTE: u32 = 0x0002_0000;
    /// SMBus send byte.
    pub const SMBUS_WRITE_BYTE: u32 = 0x0004_0000;
    /// SMBus read byte.
    pub const SMBUS_READ_BYTE_DATA: u32 = 0x0008_0000;
    /// SMBus write byte.
    pub const SMBUS_WRITE_BYTE_DATA: u32 = 0x0010_0000;
    /// SMBus read word.
    pub const SMBUS_READ_WORD_DATA: u32 = 0x0020_0000;
    /// SMBus write word.
    pub const SMBUS_WRITE_WORD_DATA: u32 = 0x0040_0000;
    /// SMBus process call.
    pub const SMBUS_PROC_CALL: u32 = 0x0080_0000;
    /// SMBus block read, and `RECV_LEN`.
    pub const SMBUS_READ_BLOCK_DATA: u32 = 0x0100_0000;
    /// SMBus block write.
    pub const SMBUS_WRITE_BLOCK_DATA: u32 = 0x0200_0000;
    /// Read after a register number.
    pub const SMBUS_READ_I2C_BLOCK: u32 = 0x0400_0000;
    /// Write after a register number.
    pub const SMBUS_WRITE_I2C_BLOCK: u32 = 0x0800_0000;
    /// What the kernel makes of messages for an adapter that has no SMBus of its own
    /// (`I2C_FUNC_SMBUS_EMUL`).
    pub const SMBUS_EMUL: u32 = SMBUS_QUICK
        | SMBUS_READ_BYTE
        | SMBUS_WRITE_BYTE
        | SMBUS_READ_BYTE_DATA
        | SMBUS_WRITE_BYTE_DATA
        | SMBUS_READ_WORD_DATA
        | SMBUS_WRITE_WORD_DATA
        | SMBUS_PROC_CALL
        | SMBUS_WRITE_BLOCK_DATA
        | SMBUS_READ_I2C_BLOCK
        | SMBUS_WRITE_I2C_BLOCK
        | SMBUS_PEC;
}

/// One message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The chip's address.
    pub addr: u16,
    /// [`flag`]s.
    pub flags: u16,
    /// What is written, or room for what is read. With [`flag::RECV_LEN`] its first byte says how many
    /// bytes there are besides the block, itself included, and there is room for [`MAX_BLOCK`] more.
    pub data: Vec<u8>,
}

/// One SMBus transaction, in the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// `I2C_SMBUS_READ`.
    pub read: bool,
    /// The command byte.
    pub command: u8,
    /// One of [`size`].
    pub size: u32,
}

/// An open bus.
#[derive(Debug)]
pub struct Bus {
    file: File,
}

impl Bus {
    /// Opens a character device.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_CLOEXEC.bits())
            .open(path)?;
        Ok(Self { file })
    }

    /// The N of `i2c-N`; `None` where the file is something else of that name.
    ///
    /// # Errors
    /// What `fstat(2)` says.
    pub fn number(&self) -> io::Result<Option<u64>> {
        let device = self.file.metadata()?.rdev();
        Ok((major(device) == MAJOR).then(|| minor(device)))
    }

    /// What the adapter can do: [`func`]s.
    ///
    /// # Errors
    /// `ENOTTY` when the file is no I2C bus.
    pub fn functionality(&self) -> Result<u32, Errno> {
        let funcs = abi::functionality(self.file.as_fd())?;
        // The kernel's own type for them has 32 bits, its ioctl's a long.
        Ok(u32::try_from(funcs & 0xFFFF_FFFF).unwrap_or_default())
    }

    /// Chooses the chip that [`Self::smbus`] speaks to.
    ///
    /// # Errors
    /// `EBUSY` when a driver of the kernel has the chip and this is not forced, `EINVAL` for an address
    /// that cannot be.
    pub fn select(&self, addr: u16, ten_bit: bool, force: bool) -> Result<(), Errno> {
        let fd = self.file.as_fd();
        abi::set(fd, ioctl::TENBIT, ten_bit.into())?;
        let slave = if force {
            ioctl::SLAVE_FORCE
        } else {
            ioctl::SLAVE
        };
        abi::set(fd, slave, addr.into())
    }

    /// Lets [`Self::smbus`] use packet error checking, or not.
    ///
    /// # Errors
    /// None is known.
    pub fn set_pec(&self, on: bool) -> Result<(), Errno> {
        abi::set(self.file.as_fd(), ioctl::PEC, on.into())
    }

    /// Performs one transaction of 1 to [`MAX_MESSAGES`] messages and fills those that read. It may wait,
    /// until the adapter's own timeout.
    ///
    /// # Errors
    /// `ENXIO` or `EREMOTEIO` without an acknowledge (drivers differ), `EOPNOTSUPP`, `EINVAL`, `EBUSY`,
    /// `EAGAIN`, `ETIMEDOUT`, `EIO`, or what else the adapter's driver says.
    pub fn transfer(&self, messages: &mut [Message]) -> Result<(), Errno> {
        let mut raw = Vec::with_capacity(messages.len());
        for message in messages.iter_mut() {
            raw.push(RawMessage::new(message)?);
        }
        let done = abi::transfer(self.file.as_fd(), &mut raw)?;
        if done == messages.len() {
            Ok(())
        } else {
            // As the kernel's own SMBus emulation says it.
            Err(Errno::EIO)
        }
    }

    /// Performs one SMBus transaction with the chip of [`Self::select`]. The data goes and comes as in
    /// `union i2c_smbus_data`: a byte, a word in the machine's order, or a length and a block.
    ///
    /// # Errors
    /// As [`Self::transfer`]; `EBADMSG` for a wrong PEC.
    pub fn smbus(&self, command: Command, data: &mut [u8; SMBUS_DATA]) -> Result<(), Errno> {
        let mut union = RawSmbusData { bytes: *data };
        abi::smbus(self.file.as_fd(), command, &mut union)?;
        *data = union.bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
