//! Interfaces: listing, opening, configuring them, their filters and errors.

use serde::{Deserialize, Serialize};

use super::{OpEncodeError, OpError, check_device_id};
use crate::kernel::can::{Filter, MAX_FILTERS};
use crate::wire::msgpack::{self, DecodeError, Reader, Writer};

/// One interface of `CAN_INTERFACE_LIST`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceEntry {
    /// Stable id, at most [`super::MAX_DEVICE_ID`] bytes.
    pub dev: String,
    /// What people call it.
    pub name: String,
    /// It takes CAN FD frames.
    pub fd: bool,
    /// State, 0–3 (profile 19.2).
    pub state: u8,
    /// Bits per second; 0 where that was not set or there is none.
    pub bitrate: u32,
}

/// The answer to `CAN_INTERFACE_LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceList {
    /// What the caller may see.
    pub ifs: Vec<InterfaceEntry>,
}

impl InterfaceList {
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
        for entry in &list.ifs {
            check_device_id(&entry.dev)?;
            if entry.state > 3 {
                return Err(OpError::Field("state"));
            }
        }
        Ok(list)
    }
}

/// How an interface is used: `mode` (profile 17.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum CanMode {
    /// 1: hear.
    Read,
    /// 2: send.
    Write,
    /// 3: both.
    ReadWrite,
    /// 4: both, and nobody else.
    Exclusive,
}

impl CanMode {
    /// Frames are heard.
    pub const fn reads(self) -> bool {
        !matches!(self, Self::Write)
    }

    /// Frames are sent.
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Read)
    }
}

impl TryFrom<u8> for CanMode {
    type Error = DecodeError;

    fn try_from(mode: u8) -> Result<Self, DecodeError> {
        match mode {
            1 => Ok(Self::Read),
            2 => Ok(Self::Write),
            3 => Ok(Self::ReadWrite),
            4 => Ok(Self::Exclusive),
            _ => Err(DecodeError::Range),
        }
    }
}

impl From<CanMode> for u8 {
    fn from(mode: CanMode) -> Self {
        match mode {
            CanMode::Read => 1,
            CanMode::Write => 2,
            CanMode::ReadWrite => 3,
            CanMode::Exclusive => 4,
        }
    }
}

/// `CAN_INTERFACE_OPEN`, which opens the stream of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Stable id, at most [`super::MAX_DEVICE_ID`] bytes.
    pub dev: String,
    /// How it is used.
    pub mode: CanMode,
    /// FD frames are wanted too.
    #[serde(default)]
    pub fd: bool,
    /// Frames that this stream sent are wanted too, once they were on the bus.
    #[serde(default)]
    pub own: bool,
    /// Which frames are wanted; all of them without this list, none with an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<Filter>>,
    /// Error frames are wanted too.
    #[serde(default)]
    pub errors: bool,
}

impl Open {
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
    /// [`OpError`] when it has another shape, the id is empty or too long, or there are too many
    /// filters.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let open: Self = msgpack::decode(payload)?;
        check_device_id(&open.dev)?;
        if open
            .filters
            .as_ref()
            .is_some_and(|all| all.len() > MAX_FILTERS)
        {
            return Err(OpError::Field("filters"));
        }
        Ok(open)
    }
}

/// The answer to `CAN_INTERFACE_OPEN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Bits per second; 0 where that was not set or there is none.
    pub bitrate: u32,
    /// Bits per second of the data of FD frames; 0 without FD.
    pub dbitrate: u32,
}

impl Opened {
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
    /// [`OpError`] when it has another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        Ok(msgpack::decode(payload)?)
    }
}

/// `mode` of `CAN_CONFIGURE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Modes {
    /// Bit 1: hears what it sends and nothing else.
    pub loopback: bool,
    /// Bit 2: neither sends nor acknowledges.
    pub listen_only: bool,
    /// Bit 4: what the bus does not take is not sent again.
    pub one_shot: bool,
}

impl TryFrom<u8> for Modes {
    type Error = DecodeError;

    fn try_from(bits: u8) -> Result<Self, DecodeError> {
        if bits > 7 {
            return Err(DecodeError::Range);
        }
        Ok(Self {
            loopback: bits & 1 != 0,
            listen_only: bits & 2 != 0,
            one_shot: bits & 4 != 0,
        })
    }
}

impl From<Modes> for u8 {
    fn from(modes: Modes) -> Self {
        Self::from(modes.loopback)
            | Self::from(modes.listen_only) << 1
            | Self::from(modes.one_shot) << 2
    }
}

/// `CAN_CONFIGURE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configure {
    /// Bits per second, at least 1.
    pub bitrate: u32,
    /// Where in a bit it is sampled, in tenths of a percent, at most 1000; left to the owner's kernel
    /// without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<u32>,
    /// Bits per second of the data of FD frames; FD is off without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dbitrate: Option<u32>,
    /// Modes that are on; unchanged without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Modes>,
}

impl Configure {
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
    /// [`OpError`] when it has another shape or a number outside its range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let request: Self = msgpack::decode(payload)?;
        if request.bitrate == 0 {
            return Err(OpError::Field("bitrate"));
        }
        if request.dbitrate == Some(0) {
            return Err(OpError::Field("dbitrate"));
        }
        if request.sample.is_some_and(|sample| sample > 1000) {
            return Err(OpError::Field("sample"));
        }
        Ok(request)
    }
}

/// The answer to `CAN_CONFIGURE`: what the controller does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configured {
    /// Bits per second.
    pub bitrate: u32,
    /// Where in a bit it is sampled, in tenths of a percent.
    pub sample: u32,
    /// Bits per second of the data of FD frames; 0 without FD.
    pub dbitrate: u32,
    /// Modes that are on.
    pub mode: Modes,
}

impl Configured {
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
    /// [`OpError`] when it has another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        Ok(msgpack::decode(payload)?)
    }
}

/// `state` of `CAN_ERROR_STATUS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum ErrorState {
    /// 0: error active.
    #[default]
    Active,
    /// 1: a counter has reached the warning level.
    Warning,
    /// 2: error passive.
    Passive,
    /// 3: off the bus; also where it was not started.
    Off,
}

impl TryFrom<u8> for ErrorState {
    type Error = DecodeError;

    fn try_from(state: u8) -> Result<Self, DecodeError> {
        match state {
            0 => Ok(Self::Active),
            1 => Ok(Self::Warning),
            2 => Ok(Self::Passive),
            3 => Ok(Self::Off),
            _ => Err(DecodeError::Range),
        }
    }
}

impl From<ErrorState> for u8 {
    fn from(state: ErrorState) -> Self {
        state as Self
    }
}

/// The answer to `CAN_ERROR_STATUS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorStatus {
    /// How the controller stands to its bus.
    pub state: ErrorState,
    /// Transmit error counter.
    pub tx: u32,
    /// Receive error counter.
    pub rx: u32,
    /// How often it was restarted.
    pub restarts: u32,
    /// How often it went off the bus.
    pub busoff: u32,
}

impl ErrorStatus {
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
    /// [`OpError`] when it has another shape or a state above 3.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        Ok(msgpack::decode(payload)?)
    }
}

/// `CAN_FILTER_SET` `[[[id, mask]]]`.
pub fn encode_filters(filters: &[Filter]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.array(1);
    writer.array(u32::try_from(filters.len()).unwrap_or(u32::MAX));
    for [id, mask] in filters {
        writer.array(2);
        writer.uint(*id);
        writer.uint(*mask);
    }
    out
}

/// Reads a `CAN_FILTER_SET`; no filters let nothing in.
///
/// # Errors
/// [`OpError`] when it has another shape or too many filters.
pub fn decode_filters(payload: &[u8]) -> Result<Vec<Filter>, OpError> {
    let mut reader = Reader::new(payload);
    let extra = reader.fixed_array(1)?;
    let count = reader.array_header()?;
    if count > MAX_FILTERS {
        return Err(OpError::Field("filters"));
    }
    let mut filters = Vec::with_capacity(count);
    for _ in 0..count {
        let extra = reader.fixed_array(2)?;
        filters.push([reader.u32()?, reader.u32()?]);
        reader.skip_values(extra)?;
    }
    reader.finish_fixed(extra)?;
    Ok(filters)
}
