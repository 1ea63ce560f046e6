//! The payloads of opcodes 0x0640–0x0646 (profile 19.8); nothing else knows them.
//!
//! Beyond the profile, which has less than Linux's spidev:
//! * `"keep"` of `SPI_DEVICE_OPEN`: the settings of the request count only for an owner that does not
//!   know the key;
//! * `"ext"` of its answer: what the owner takes besides, see [`Extension`]. A peer that did not say so
//!   is never sent more than the profile has;
//! * `"flags"` of answers and, where it was announced, of `SPI_CONFIGURE`: the other bits of the mode;
//! * elements of a transfer after the fifth, see [`encode_transfer`].

mod bus_time;
mod settings;
mod transfer;

use serde::{Deserialize, Serialize};

use crate::wire::msgpack::{self, DecodeError, EncodeError, Writer};

pub use crate::kernel::spidev::{Settings, Transfer, mode};

pub use bus_time::{bus_us, clocked_us};
pub use settings::{Change, Extension, OpenRequest, Opened};
pub use transfer::{
    PROFILE_TRANSFERS, declared_reply, decode_read, decode_read_answer, decode_received,
    decode_transfer, decode_write, encode_read, encode_read_answer, encode_received,
    encode_transfer, encode_write, is_profile, received_len,
};

/// Longest device id in bytes (profile 19).
pub const MAX_DEVICE_ID: usize = 64;

/// Why a payload is not what its operation defines. Answered with `BAD_REQUEST` "bad-payload".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// Not the MessagePack that was expected.
    #[error("malformed SPI payload")]
    Decode(#[from] DecodeError),
    /// A field is outside its range.
    #[error("{0} is out of range")]
    Field(&'static str),
}

/// `{}`: `SPI_BUS_LIST`, `SPI_DEVICE_CLOSE`, and every answer without content.
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

/// One device of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEntry {
    /// Stable id, at most [`MAX_DEVICE_ID`] bytes.
    pub dev: String,
    /// What people call it.
    pub name: String,
    /// State, 0–3 (profile 19.2).
    pub state: u8,
}

/// The answer to `SPI_BUS_LIST`; the profile leaves its shape open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceList {
    /// What the caller may see.
    pub devs: Vec<DeviceEntry>,
}

impl DeviceList {
    /// The encoded answer.
    ///
    /// # Errors
    /// [`EncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, an id is empty or too long, or a state above 3.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let list: Self = msgpack::decode(payload)?;
        for device in &list.devs {
            check("dev", (1..=MAX_DEVICE_ID).contains(&device.dev.len()))?;
            check("state", device.state <= 3)?;
        }
        Ok(list)
    }
}

fn check(field: &'static str, fits: bool) -> Result<(), OpError> {
    if fits {
        Ok(())
    } else {
        Err(OpError::Field(field))
    }
}

/// A number that does not fit its field.
fn narrow<T: TryFrom<u32>>(field: &'static str, value: u32) -> Result<T, OpError> {
    T::try_from(value).map_err(|_| OpError::Field(field))
}

#[cfg(test)]
mod tests;
