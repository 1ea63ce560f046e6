//! `USB_DEVICE_LIST` and `USB_DEVICE_ATTACH`.

use serde::{Deserialize, Serialize};

use super::{MAX_DEVICE_ID, OpEncodeError, OpError, Speed};
use crate::wire::msgpack::{self, DecodeError};

/// Bytes of the token of a kept device.
pub const TOKEN: usize = 16;

/// One device of `USB_DEVICE_LIST`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEntry {
    /// Stable id, at most [`MAX_DEVICE_ID`] bytes.
    pub dev: String,
    /// `idVendor`.
    pub vid: u16,
    /// `idProduct`.
    pub pid: u16,
    /// `bcdDevice`.
    pub bcd: u16,
    /// `bDeviceClass`.
    pub cls: u8,
    /// `bDeviceSubClass`.
    pub sub: u8,
    /// `bDeviceProtocol`.
    pub proto: u8,
    /// The speed it runs at.
    pub spd: Speed,
    /// `[number, alternate setting, class, subclass, protocol]` of each interface.
    pub ifs: Vec<[u8; 5]>,
    /// Manufacturer string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfr: Option<String>,
    /// Product string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prod: Option<String>,
    /// Serial number string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ser: Option<String>,
    /// State, 0–3 (profile 19.2).
    pub state: u8,
}

/// The answer to `USB_DEVICE_LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceList {
    /// What the caller may see.
    pub devs: Vec<DeviceEntry>,
}

impl DeviceList {
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
    /// [`OpError`] when it has another shape, an id is empty or too long, or a state above 3.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let list: Self = msgpack::decode(payload)?;
        for entry in &list.devs {
            check_device_id(&entry.dev)?;
            if entry.state > 3 {
                return Err(OpError::Field("state"));
            }
        }
        Ok(list)
    }
}

/// How a device is used: `mode` 3 or 4 (profile 17.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Mode {
    /// 3: read and write.
    ReadWrite,
    /// 4: read and write while holding the lock.
    Exclusive,
}

impl TryFrom<u8> for Mode {
    type Error = DecodeError;

    fn try_from(mode: u8) -> Result<Self, DecodeError> {
        match mode {
            3 => Ok(Self::ReadWrite),
            4 => Ok(Self::Exclusive),
            _ => Err(DecodeError::Range),
        }
    }
}

impl From<Mode> for u8 {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::ReadWrite => 3,
            Mode::Exclusive => 4,
        }
    }
}

/// `USB_DEVICE_ATTACH`, which opens the stream of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Stable id, at most [`MAX_DEVICE_ID`] bytes.
    pub dev: String,
    /// How it is used.
    pub mode: Mode,
    /// The lock that the caller holds, 16 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    pub lock: Option<[u8; 16]>,
    /// The interfaces that are wanted; all of them without this list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifs: Option<Vec<u8>>,
    /// Milliseconds for which the owner is asked to keep the device as it is after a lost session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<u32>,
    /// The token of a device that was kept: the caller comes back to it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    pub token: Option<[u8; TOKEN]>,
}

impl AttachRequest {
    /// A request for the whole device, to read and to write.
    pub fn whole(dev: &str) -> Self {
        Self {
            dev: dev.to_owned(),
            mode: Mode::ReadWrite,
            lock: None,
            ifs: None,
            hold: None,
            token: None,
        }
    }

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
    /// [`OpError`] when it has another shape, or the id is empty or too long.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let request: Self = msgpack::decode(payload)?;
        check_device_id(&request.dev)?;
        Ok(request)
    }
}

/// The answer to `USB_DEVICE_ATTACH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachResponse {
    /// The device descriptor, all configuration descriptors and the BOS, one after the other. Not
    /// yet looked at.
    #[serde(with = "serde_bytes")]
    pub desc: Vec<u8>,
    /// The speed it runs at.
    pub spd: Speed,
    /// `bConfigurationValue` of the configuration in use, 0 for none.
    pub cfg: u8,
    /// A number of the owner's choice that names the device in kernel messages, as
    /// `busnum << 16 | devnum`.
    pub devno: u32,
    /// What the owner keeps the device for after a lost session; without it the device goes back at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// What the holder of a device has to say to come back to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Names this use of the device.
    #[serde(with = "serde_bytes")]
    pub token: [u8; TOKEN],
    /// Milliseconds from the moment when the owner notices that the session is lost.
    pub hold: u32,
    /// True when the device was kept since an earlier session: it is as it was left, but for transfers
    /// that were under way.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub back: bool,
}

impl AttachResponse {
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
    /// [`OpError`] when it has another shape or no room for a device descriptor.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let response: Self = msgpack::decode(payload)?;
        if response.desc.len() < 18 {
            return Err(OpError::Field("desc"));
        }
        Ok(response)
    }
}

fn check_device_id(id: &str) -> Result<(), OpError> {
    match id.len() {
        1..=MAX_DEVICE_ID => Ok(()),
        _ => Err(OpError::Field("dev")),
    }
}
