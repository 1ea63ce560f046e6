//! `I2C_BUS_LIST` and `I2C_BUS_SCAN`.

use serde::{Deserialize, Serialize};

use super::{MAX_ADDRESS, MAX_NAME, OpEncodeError, OpError, check_address, check_device_id};
use crate::wire::msgpack::{self, DecodeError};

/// One bus of `I2C_BUS_LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusEntry {
    /// Stable id, at most [`MAX_DEVICE_ID`](super::MAX_DEVICE_ID) bytes.
    pub dev: String,
    /// What the kernel's driver calls the adapter, at most [`MAX_NAME`] bytes.
    pub name: String,
    /// What it can do: `I2C_FUNC_*` of the kernel.
    pub funcs: u32,
    /// What the owner does beyond the profile: [`ext`](super::ext).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ext: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(ext: &u32) -> bool {
    *ext == 0
}

/// The answer to `I2C_BUS_LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusList {
    /// What the caller may see.
    pub buses: Vec<BusEntry>,
}

impl BusList {
    /// The encoded answer.
    ///
    /// # Errors
    /// [`OpEncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, OpEncodeError> {
        msgpack::encode(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, an id is empty or too long, or a name is too long or has
    /// control characters.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let list: Self = msgpack::decode(payload)?;
        for bus in &list.buses {
            check_device_id(&bus.dev)?;
            if bus.name.len() > MAX_NAME || bus.name.chars().any(char::is_control) {
                return Err(OpError::Field("name"));
            }
        }
        Ok(list)
    }
}

/// `how`: what is tried at an address. Either can disturb a chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum How {
    /// 0: the SMBus quick command, writing.
    #[default]
    Quick,
    /// 1: one byte is read.
    Read,
}

impl TryFrom<u8> for How {
    type Error = DecodeError;

    fn try_from(code: u8) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Quick),
            1 => Ok(Self::Read),
            _ => Err(DecodeError::Range),
        }
    }
}

impl From<How> for u8 {
    fn from(how: How) -> Self {
        match how {
            How::Quick => 0,
            How::Read => 1,
        }
    }
}

/// `I2C_BUS_SCAN`: which addresses answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The bus's id.
    pub dev: String,
    /// The first address, of seven bits.
    pub first: u16,
    /// The last one, not below the first.
    pub last: u16,
    /// What is tried.
    pub how: How,
}

impl Scan {
    /// The encoded request.
    ///
    /// # Errors
    /// [`OpEncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, OpEncodeError> {
        msgpack::encode(self)
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, the id is empty or too long, or the addresses are none of
    /// seven bits in order.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let scan: Self = msgpack::decode(payload)?;
        check_device_id(&scan.dev)?;
        check_address(scan.last, false)?;
        if scan.first > scan.last {
            return Err(OpError::Field("first"));
        }
        Ok(scan)
    }
}

/// The answer to [`Scan`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanned {
    /// The addresses that answered, in order.
    pub addrs: Vec<u16>,
}

impl Scanned {
    /// The encoded answer.
    ///
    /// # Errors
    /// [`OpEncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, OpEncodeError> {
        msgpack::encode(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, or an address is none of seven bits or not above the one
    /// before.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let scanned: Self = msgpack::decode(payload)?;
        let mut above = 0;
        for addr in &scanned.addrs {
            if !(above..=MAX_ADDRESS).contains(addr) {
                return Err(OpError::Field("addrs"));
            }
            above = addr + 1;
        }
        Ok(scanned)
    }
}
