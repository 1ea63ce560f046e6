//! The payloads of opcodes 0x0630–0x0637 (profile 19.7); nothing else knows them.
//!
//! Beyond the profile, only for a bus whose entry in the answer to `I2C_BUS_LIST` says so by the
//! optional key `"ext"`, a mask of [`ext`]:
//! * the flags of a message that the kernel has and the profile has not, see [`MessageFlags`];
//! * in `protocol` of `I2C_SMBUS_COMMAND` 32 for an address of ten bits, and 64 for a chip that a driver
//!   of the owner's kernel may have.

mod bus;
mod register;
mod smbus;
mod transfer;

pub use bus::{BusEntry, BusList, How, Scan, Scanned};
pub use register::{ReadBlock, ReadByte, WriteBlock, WriteByte};
pub use smbus::{MAX_BLOCK, Smbus, SmbusCommand};
pub use transfer::{Action, Message, MessageFlags, Transfer};

use crate::wire::msgpack::{self, DecodeError, EncodeError, Reader, Writer};
use crate::wire::opcode::Opcode;

/// Longest device id in bytes (profile 19).
pub const MAX_DEVICE_ID: usize = 64;
/// Longest name of an adapter, in bytes: `struct i2c_adapter` without the final zero.
pub const MAX_NAME: usize = 47;
/// Most messages of one transaction (profile 19.7; `I2C_RDWR_IOCTL_MAX_MSGS` of the kernel).
pub const MAX_MESSAGES: usize = 42;
/// Most bytes of one message (kernel drivers/i2c/i2c-dev.c).
pub const MAX_LENGTH: u16 = 8192;
/// Highest address of seven bits.
pub const MAX_ADDRESS: u16 = 0x7F;
/// Highest address of ten bits.
pub const MAX_TEN_BIT_ADDRESS: u16 = 0x3FF;

/// Bytes by which an encoded answer can be longer than its data: an array's and a byte string's head
/// for each message, and the outer arrays.
const OVERHEAD: u32 = 8;

/// What an owner does beyond the profile: bits of `"ext"` in [`BusEntry`].
pub mod ext {
    /// The kernel's further flags of messages in `I2C_TRANSFER`.
    pub const FLAGS: u32 = 1;
    /// Ten-bit addresses and force in `I2C_SMBUS_COMMAND`.
    pub const SMBUS: u32 = 2;
    /// All that this version knows.
    pub const ALL: u32 = FLAGS | SMBUS;
}

/// Why a payload is not what its operation defines. Answered with `BAD_REQUEST` "bad-payload".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// Not the MessagePack that was expected.
    #[error("malformed I2C payload")]
    Decode(#[from] DecodeError),
    /// A field is outside its range.
    #[error("{0} is out of range")]
    Field(&'static str),
}

/// Why a payload cannot be written.
pub type OpEncodeError = EncodeError;

/// `{}`: `I2C_BUS_LIST`, and every answer without content.
pub fn encode_empty() -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out).map(0);
    out
}

/// Reads `{}`, which may also be no bytes at all (profile 4.2). Unknown keys are ignored.
///
/// # Errors
/// [`OpError`] when it is anything but a map.
pub fn decode_empty(payload: &[u8]) -> Result<(), OpError> {
    Ok(msgpack::decode_empty(payload)?)
}

/// `[bin]`: the answer to `I2C_READ_BLOCK` and `I2C_SMBUS_COMMAND`.
pub fn encode_data(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 8);
    let mut writer = Writer::new(&mut out);
    writer.array(1);
    writer.bin(data);
    out
}

/// Reads a `[bin]` that must not be shorter or longer than was asked for.
///
/// # Errors
/// [`OpError`] when it has another shape or length.
pub fn decode_data(payload: &[u8], least: usize, most: usize) -> Result<&[u8], OpError> {
    let mut reader = Reader::new(payload);
    let extra = reader.fixed_array(1)?;
    let data = reader.bin()?;
    reader.finish_fixed(extra)?;
    if data.len() < least || data.len() > most {
        return Err(OpError::Field("bin"));
    }
    Ok(data)
}

/// The length that an operation of this bus declares for its answer, in bytes (profile 11.2).
pub fn declared_reply(opcode: Opcode, payload: &[u8]) -> Option<u32> {
    match opcode {
        Opcode::I2cTransfer => Some(Transfer::decode(payload).ok()?.declared_reply()),
        Opcode::I2cReadBlock => {
            let len = ReadBlock::decode(payload).ok()?.len;
            Some(u32::from(len) + OVERHEAD)
        }
        _ => None,
    }
}

fn check_device_id(id: &str) -> Result<(), OpError> {
    match id.len() {
        1..=MAX_DEVICE_ID => Ok(()),
        _ => Err(OpError::Field("dev")),
    }
}

fn check_address(addr: u16, ten_bit: bool) -> Result<(), OpError> {
    let highest = if ten_bit {
        MAX_TEN_BIT_ADDRESS
    } else {
        MAX_ADDRESS
    };
    if addr > highest {
        return Err(OpError::Field("addr"));
    }
    Ok(())
}

fn read_device(reader: &mut Reader<'_>) -> Result<String, OpError> {
    let dev = reader.str()?;
    check_device_id(dev)?;
    Ok(dev.to_owned())
}

#[cfg(test)]
mod tests;
