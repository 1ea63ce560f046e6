//! `STREAM_START` type 4 and `STREAM_CONFIGURE` on such a stream (profile 19.3): a port as a stream of
//! bytes, without its lines.

use serde::{Deserialize, Serialize};

use super::numbered::numbered;
use super::settings::{Change, Mode, OpenRequest, Settings};
use super::{OpEncodeError, OpError, check_device_id};
use crate::wire::msgpack;

/// `type` of a serial stream.
const SERIAL: u8 = 4;

numbered! {
    /// Where a stream leads.
    Direction {
        /// From the device; it is not written to.
        1 FromDevice,
        /// To the device. A port answers, so that it is read as well.
        2 ToDevice,
    }
}

impl Direction {
    const fn mode(self) -> Mode {
        match self {
            Self::FromDevice => Mode::Read,
            Self::ToDevice => Mode::ReadWrite,
        }
    }
}

/// `STREAM_START` of a serial port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStart {
    /// Stable id, at most [`super::MAX_DEVICE_ID`] bytes.
    pub dev: String,
    #[serde(rename = "type")]
    kind: u8,
    /// Where it leads.
    pub dir: Direction,
    /// How the port is to work; what is not named is as in [`Settings::default`].
    #[serde(default)]
    pub par: Change,
}

impl StreamStart {
    /// A stream of the port `dev`.
    pub const fn new(dev: String, dir: Direction, par: Change) -> Self {
        Self {
            dev,
            kind: SERIAL,
            dir,
            par,
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
    /// [`OpError`] when it has another shape, a field is out of range, or the stream is not one of a
    /// serial port.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let request: Self = msgpack::decode(payload)?;
        if request.kind != SERIAL {
            return Err(OpError::Field("type"));
        }
        check_device_id(&request.dev)?;
        request.par.check()?;
        Ok(request)
    }
}

impl From<StreamStart> for OpenRequest {
    fn from(start: StreamStart) -> Self {
        Self {
            dev: start.dev,
            mode: start.dir.mode(),
            settings: Settings::default().with(&start.par),
        }
    }
}

/// `STREAM_CONFIGURE`: `{"par": …}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamParameters {
    /// What is to change.
    pub par: Change,
}

impl StreamParameters {
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
    /// [`OpError`] when it has another shape or a field is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let request: Self = msgpack::decode(payload)?;
        request.par.check()?;
        Ok(request)
    }
}

/// `{"par": …}`: the answer to both, the settings as they really are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSettings {
    /// The settings.
    pub par: Settings,
}

impl StreamSettings {
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
    /// [`OpError`] when it has another shape or a field is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let answer: Self = msgpack::decode(payload)?;
        answer.par.check()?;
        Ok(answer)
    }
}
