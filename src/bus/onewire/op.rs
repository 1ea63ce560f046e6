//! The payloads of opcodes 0x0660–0x0667 (profile 19.9); nothing else knows them.

mod bus;
mod rom;
mod transfer;

pub use bus::{BusEntry, BusList, BusRequest, Found, MatchRom, Presence, RomAnswer, Search};
pub use rom::{Rom, crc8};
pub use transfer::{Data, Read, Select, Write};

use crate::wire::msgpack::{DecodeError, Reader};

pub use crate::bus::gpio::op::{MAX_DEVICE_ID, OpEncodeError, decode_empty, encode_empty};

/// Most bytes of one request that are written, or read: a quarter of what the kernel's connector takes
/// in one message (`CONNECTOR_MAX_MSG_SIZE`), since writing and reading may stand in one.
pub const MAX_DATA: usize = 4096;
/// Most devices that a search may find.
pub const MAX_FOUND: usize = 1024;
/// Longest strong pull-up that can be asked for, in milliseconds.
pub const MAX_PULLUP_MS: u32 = 10_000;
/// Longest name of a bus in bytes.
pub const MAX_NAME: usize = 64;

/// Why a payload is not what its operation defines. Answered with `BAD_REQUEST` "bad-payload".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// Not the MessagePack that was expected.
    #[error("malformed 1-Wire payload")]
    Decode(#[from] DecodeError),
    /// A field is outside its range.
    #[error("{0} is out of range")]
    Field(&'static str),
    /// The last byte of a ROM code is not the CRC of the others.
    #[error("the CRC of ROM code {0} is wrong")]
    Crc(Rom),
}

fn check_device_id(id: &str) -> Result<(), OpError> {
    match id.len() {
        1..=MAX_DEVICE_ID => Ok(()),
        _ => Err(OpError::Field("dev")),
    }
}

fn read_device(reader: &mut Reader<'_>) -> Result<String, OpError> {
    let dev = reader.str()?;
    check_device_id(dev)?;
    Ok(dev.to_owned())
}

/// A ROM code whose CRC is right.
fn read_rom(reader: &mut Reader<'_>) -> Result<Rom, OpError> {
    let bytes = <[u8; 8]>::try_from(reader.bin()?).map_err(|_| OpError::Field("rom"))?;
    let rom = Rom(bytes);
    if rom.is_valid() {
        Ok(rom)
    } else {
        Err(OpError::Crc(rom))
    }
}

fn read_data<'a>(reader: &mut Reader<'a>, most: usize) -> Result<&'a [u8], OpError> {
    let data = reader.bin()?;
    if data.len() > most {
        return Err(OpError::Field("bin"));
    }
    Ok(data)
}

#[cfg(test)]
mod tests;
