//! The payloads of opcodes 0x0600–0x060B (profile 19.4); nothing else knows them.
//!
//! The operations that move data are fixed-shape arrays read without a copy. Their `encode` writes
//! everything up to the data and leaves it to the caller to append exactly the number of bytes that
//! was announced, so that data can be read from a kernel straight behind its own header.

mod device;
mod iso;
mod request;
mod transfer;

pub use device::{AttachRequest, AttachResponse, DeviceEntry, DeviceList, Kept, Mode, TOKEN};
pub use iso::{IsoPacket, IsoReply, IsoTransfer};
pub use request::{
    ClearHalt, DescriptorReply, GetDescriptor, SetConfiguration, SetInterface, decode_empty,
    encode_empty,
};
pub use transfer::{
    BulkTransfer, ControlTransfer, InterruptTransfer, Setup, TransferFlags, TransferReply,
    declared_reply,
};

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::msgpack::{DecodeError, EncodeError, Reader};

/// Longest transfer buffer of any operation, in bytes: the bound of a reassembled unit
/// (profile 18).
pub const MAX_TRANSFER: u32 = 16 << 20;
/// Most packets of one isochronous transfer (kernel `drivers/usb/usbip/usbip_common.h`).
pub const MAX_ISO_PACKETS: usize = 1024;
/// Bytes by which the encoded reply to a control, bulk or interrupt transfer can be longer than its
/// data.
pub const REPLY_OVERHEAD: u32 = 16;
/// Longest device id in bytes (profile 19).
pub const MAX_DEVICE_ID: usize = 64;

/// Why a payload is not what its operation defines. Answered with `BAD_REQUEST` "bad-payload".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// Not the MessagePack that was expected.
    #[error("malformed USB payload")]
    Decode(#[from] DecodeError),
    /// A field is outside its range.
    #[error("{0} is out of range")]
    Field(&'static str),
    /// The data is not as long as the payload says.
    #[error("the data is not as long as announced")]
    Length,
}

/// Why a payload cannot be written.
pub type OpEncodeError = EncodeError;

/// An endpoint's address: number 0–15 and the direction bit 0x80 (USB 2.0 table 9-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointAddress(u8);

impl EndpointAddress {
    /// The default control endpoint.
    pub const CONTROL: Self = Self(0);

    /// The endpoint with the given `bEndpointAddress`; `None` when a reserved bit is set.
    pub const fn from_u8(address: u8) -> Option<Self> {
        match address & 0x70 {
            0 => Some(Self(address)),
            _ => None,
        }
    }

    /// The endpoint with the given number and direction; `None` for numbers above 15.
    pub const fn new(number: u8, input: bool) -> Option<Self> {
        match (number, input) {
            (0..=15, false) => Some(Self(number)),
            (0..=15, true) => Some(Self(number | 0x80)),
            (16.., _) => None,
        }
    }

    /// `bEndpointAddress`.
    pub const fn to_u8(self) -> u8 {
        self.0
    }

    /// 0–15.
    pub const fn number(self) -> u8 {
        self.0 & 0x0F
    }

    /// True when the device sends.
    pub const fn is_in(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// A number below 32 that is different for every endpoint of a device.
    pub const fn index(self) -> usize {
        ((self.0 & 0x0F) | ((self.0 & 0x80) >> 3)) as usize
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, OpError> {
        Self::from_u8(reader.u8()?).ok_or(OpError::Field("ep"))
    }

    /// An endpoint other than the default control endpoint, which has its own operation.
    fn read_data(reader: &mut Reader<'_>) -> Result<Self, OpError> {
        match Self::read(reader)? {
            endpoint if endpoint.number() == 0 => Err(OpError::Field("ep")),
            endpoint => Ok(endpoint),
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoint 0x{:02x}", self.0)
    }
}

/// `spd`: the speed a device runs at (profile 19.4; not the numbering of the kernel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub enum Speed {
    /// 1.5 Mbit/s.
    Low,
    /// 12 Mbit/s.
    Full,
    /// 480 Mbit/s.
    High,
    /// 5 Gbit/s.
    Super,
    /// 10 Gbit/s.
    SuperPlus,
    /// 20 Gbit/s.
    SuperPlusBy2,
    /// A number that profile 1 does not define.
    Unknown(u8),
}

impl From<u8> for Speed {
    fn from(code: u8) -> Self {
        match code {
            1 => Self::Low,
            2 => Self::Full,
            3 => Self::High,
            4 => Self::Super,
            5 => Self::SuperPlus,
            6 => Self::SuperPlusBy2,
            other => Self::Unknown(other),
        }
    }
}

impl From<Speed> for u8 {
    fn from(speed: Speed) -> Self {
        match speed {
            Speed::Low => 1,
            Speed::Full => 2,
            Speed::High => 3,
            Speed::Super => 4,
            Speed::SuperPlus => 5,
            Speed::SuperPlusBy2 => 6,
            Speed::Unknown(code) => code,
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "1.5 Mbit/s",
            Self::Full => "12 Mbit/s",
            Self::High => "480 Mbit/s",
            Self::Super => "5 Gbit/s",
            Self::SuperPlus => "10 Gbit/s",
            Self::SuperPlusBy2 => "20 Gbit/s",
            Self::Unknown(code) => return write!(f, "speed {code}"),
        })
    }
}

/// `len`, at most [`MAX_TRANSFER`].
fn read_len(reader: &mut Reader<'_>) -> Result<u32, OpError> {
    match reader.u32()? {
        len if len <= MAX_TRANSFER => Ok(len),
        _ => Err(OpError::Field("len")),
    }
}

/// Checks that a request brings data exactly when it sends: `len` bytes to the device, none for a
/// transfer from it.
fn check_data(input: bool, len: u32, data: &[u8]) -> Result<(), OpError> {
    let announced = if input { 0 } else { len };
    match u32::try_from(data.len()) {
        Ok(length) if length == announced => Ok(()),
        Ok(_) | Err(_) => Err(OpError::Length),
    }
}

#[cfg(test)]
mod tests;
