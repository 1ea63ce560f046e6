//! The structures and numbers of include/uapi/linux/i2c-dev.h.

use core::ffi::{c_int, c_ulong};
use core::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::errno::Errno;

use super::{Command, Message, SMBUS_DATA};

/// The requests.
pub mod ioctl {
    /// `I2C_RETRIES`.
    pub const RETRIES: u32 = 0x0701;
    /// `I2C_TIMEOUT`, in units of 10 ms.
    pub const TIMEOUT: u32 = 0x0702;
    /// `I2C_SLAVE`.
    pub const SLAVE: u32 = 0x0703;
    /// `I2C_TENBIT`.
    pub const TENBIT: u32 = 0x0704;
    /// `I2C_FUNCS`.
    pub const FUNCS: u32 = 0x0705;
    /// `I2C_SLAVE_FORCE`.
    pub const SLAVE_FORCE: u32 = 0x0706;
    /// `I2C_RDWR`.
    pub const RDWR: u32 = 0x0707;
    /// `I2C_PEC`.
    pub const PEC: u32 = 0x0708;
    /// `I2C_SMBUS`.
    pub const SMBUS: u32 = 0x0720;
}

/// Kinds of SMBus transactions (`I2C_SMBUS_*`).
pub mod size {
    /// The direction bit alone.
    pub const QUICK: u32 = 0;
    /// Receive byte, send byte.
    pub const BYTE: u32 = 1;
    /// A byte after the command.
    pub const BYTE_DATA: u32 = 2;
    /// A word after the command.
    pub const WORD_DATA: u32 = 3;
    /// A word is written and one is read.
    pub const PROC_CALL: u32 = 4;
    /// A block with its length.
    pub const BLOCK_DATA: u32 = 5;
    /// A read of 32 bytes without a length, as old programs ask for it.
    pub const I2C_BLOCK_BROKEN: u32 = 6;
    /// A block is written and one is read.
    pub const BLOCK_PROC_CALL: u32 = 7;
    /// Bytes without a length.
    pub const I2C_BLOCK_DATA: u32 = 8;
}

/// `struct i2c_msg`. `buf` points to `len` bytes that it has for itself.
#[repr(C)]
pub(super) struct RawMessage<'a> {
    addr: u16,
    flags: u16,
    len: u16,
    buf: *mut u8,
    data: PhantomData<&'a mut [u8]>,
}

impl<'a> RawMessage<'a> {
    pub(super) fn new(message: &'a mut Message) -> Result<Self, Errno> {
        Ok(Self {
            addr: message.addr,
            flags: message.flags,
            len: u16::try_from(message.data.len()).map_err(|_| Errno::EINVAL)?,
            buf: message.data.as_mut_ptr(),
            data: PhantomData,
        })
    }
}

/// `struct i2c_rdwr_ioctl_data`.
#[repr(C)]
pub(super) struct RawTransfer {
    msgs: *mut RawMessage<'static>,
    nmsgs: u32,
}

/// `union i2c_smbus_data`.
#[repr(C, align(2))]
pub(super) struct RawSmbusData {
    pub(super) bytes: [u8; SMBUS_DATA],
}

/// `struct i2c_smbus_ioctl_data`.
#[repr(C)]
pub(super) struct RawSmbus {
    read_write: u8,
    command: u8,
    size: u32,
    data: *mut RawSmbusData,
}

mod raw {
    use super::{RawSmbus, RawTransfer, c_ulong, ioctl};

    nix::ioctl_read_bad!(functionality, ioctl::FUNCS, c_ulong);
    nix::ioctl_readwrite_bad!(transfer, ioctl::RDWR, RawTransfer);
    nix::ioctl_readwrite_bad!(smbus, ioctl::SMBUS, RawSmbus);
}

pub(super) fn functionality(fd: BorrowedFd<'_>) -> Result<c_ulong, Errno> {
    let mut funcs: c_ulong = 0;
    // SAFETY: the descriptor is open, and the kernel writes this one number.
    unsafe { raw::functionality(fd.as_raw_fd(), &raw mut funcs) }?;
    Ok(funcs)
}

/// A request whose argument is a number.
pub(super) fn set(fd: BorrowedFd<'_>, request: u32, value: c_ulong) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, and none of these requests takes its argument for an address.
    let result: c_int = unsafe { libc::ioctl(fd.as_raw_fd(), request.into(), value) };
    Errno::result(result).map(drop)
}

/// How many of the messages were done.
pub(super) fn transfer(
    fd: BorrowedFd<'_>,
    messages: &mut [RawMessage<'_>],
) -> Result<usize, Errno> {
    let mut raw = RawTransfer {
        msgs: messages.as_mut_ptr().cast(),
        nmsgs: u32::try_from(messages.len()).map_err(|_| Errno::EINVAL)?,
    };
    // SAFETY: the descriptor is open. The kernel reads so many messages, and of each reads and writes
    // at most the `len` bytes that it has for itself.
    let done = unsafe { raw::transfer(fd.as_raw_fd(), &raw mut raw) }?;
    usize::try_from(done).map_err(|_| Errno::EIO)
}

pub(super) fn smbus(
    fd: BorrowedFd<'_>,
    command: Command,
    data: &mut RawSmbusData,
) -> Result<(), Errno> {
    let mut raw = RawSmbus {
        read_write: command.read.into(),
        command: command.command,
        size: command.size,
        data,
    };
    // SAFETY: the descriptor is open, and the kernel reads and writes this structure and the union that
    // it points to, which has the kernel's size.
    unsafe { raw::smbus(fd.as_raw_fd(), &raw mut raw) }.map(drop)
}

/// Bytes of the structures.
#[cfg(test)]
pub(super) const SIZES: [usize; 4] = [
    size_of::<RawMessage<'static>>(),
    size_of::<RawTransfer>(),
    size_of::<RawSmbus>(),
    size_of::<RawSmbusData>(),
];
