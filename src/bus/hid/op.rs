//! The payloads of `STREAM_START`, `STREAM_CONFIGURE` and of DATA on streams of type 3 (profile
//! 19.3); nothing else knows them.

mod description;
mod effect;

use serde::{Deserialize, Serialize};

use crate::kernel::evdev::{Description, Effect, Event};
use crate::wire::msgpack::{self, DecodeError, EncodeError};

/// `type` of an input device's stream.
pub const TYPE: u8 = 3;
/// `dir`: the device sends. What its user sends back travels the other way on the same stream.
pub const FROM_DEVICE: u8 = 1;
/// Bytes of an event.
pub const EVENT: usize = 16;
/// Most events in one unit.
pub const MAX_EVENTS: usize = 4096;
/// Longest device id in bytes (profile 19).
pub const MAX_DEVICE_ID: usize = 64;

/// Why a payload is not what its operation defines. Answered with `BAD_REQUEST` "bad-payload".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// Not the MessagePack that was expected.
    #[error("malformed input payload: {0}")]
    Decode(#[from] DecodeError),
    /// A field is outside its range.
    #[error("{0} is out of range")]
    Field(&'static str),
    /// A unit of DATA is no sequence of whole packets.
    #[error("the events are no whole packets")]
    Packet,
}

/// `STREAM_START` for an input device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The device.
    pub dev: String,
    /// What is wanted of it.
    pub par: StartPar,
}

/// `par` of [`Start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartPar {
    /// LEDs, sounds, repetition and force feedback are to be set from afar.
    pub back: bool,
    /// Nobody else on the owner's machine is to see the device's events.
    pub grab: bool,
}

impl Default for StartPar {
    fn default() -> Self {
        Self {
            back: true,
            grab: true,
        }
    }
}

impl StartPar {
    /// Whether anything changes for the device or its owner, so that the right to write is needed.
    pub const fn writes(self) -> bool {
        self.back || self.grab
    }
}

#[derive(Serialize, Deserialize)]
struct WireStart {
    dev: String,
    dir: u8,
    #[serde(default)]
    par: StartPar,
    #[serde(rename = "type")]
    kind: u8,
}

impl Start {
    /// The payload.
    ///
    /// # Errors
    /// [`EncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(&WireStart {
            dev: self.dev.clone(),
            dir: FROM_DEVICE,
            par: self.par,
            kind: TYPE,
        })
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, asks for another type or direction of stream, or the
    /// device's id is too long.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let wire: WireStart = msgpack::decode(payload)?;
        if wire.kind != TYPE {
            return Err(OpError::Field("type"));
        }
        if wire.dir != FROM_DEVICE {
            return Err(OpError::Field("dir"));
        }
        if wire.dev.is_empty() || wire.dev.len() > MAX_DEVICE_ID {
            return Err(OpError::Field("dev"));
        }
        Ok(Self {
            dev: wire.dev,
            par: wire.par,
        })
    }
}

/// The answer to [`Start`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// What was granted.
    pub par: StartPar,
    /// What the device is.
    pub device: Description,
}

#[derive(Serialize, Deserialize)]
struct Par<T> {
    par: T,
}

#[derive(Serialize, Deserialize)]
struct WireStarted {
    back: bool,
    desc: description::Wire,
    grab: bool,
}

impl Started {
    /// The payload.
    ///
    /// # Errors
    /// [`EncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(&Par {
            par: WireStarted {
                back: self.par.back,
                desc: description::Wire::from(&self.device),
                grab: self.par.grab,
            },
        })
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, or a code that no input device has.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let wire: Par<WireStarted> = msgpack::decode(payload)?;
        Ok(Self {
            par: StartPar {
                back: wire.par.back,
                grab: wire.par.grab,
            },
            device: wire.par.desc.check()?,
        })
    }
}

/// `STREAM_CONFIGURE`: one thing that is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configure {
    /// Take the device away from its owner's machine, or no more.
    Grab(bool),
    /// Give the device an effect; the id is the owner's, or -1 for a new effect.
    Upload(Effect),
    /// Take the effect with that id back.
    Erase(i16),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct WireConfigure {
    #[serde(skip_serializing_if = "Option::is_none")]
    ff_erase: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ff_upload: Option<effect::Wire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grab: Option<bool>,
}

impl Configure {
    /// The payload.
    ///
    /// # Errors
    /// [`EncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut par = WireConfigure::default();
        match self {
            Self::Grab(on) => par.grab = Some(*on),
            Self::Upload(effect) => par.ff_upload = Some(effect::Wire::from(effect)),
            Self::Erase(id) => par.ff_erase = Some(*id),
        }
        msgpack::encode(&Par { par })
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, or does not name exactly one thing.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let wire: Par<WireConfigure> = msgpack::decode(payload)?;
        match (wire.par.grab, wire.par.ff_upload, wire.par.ff_erase) {
            (Some(on), None, None) => Ok(Self::Grab(on)),
            (None, Some(effect), None) => Ok(Self::Upload(effect.check()?)),
            (None, None, Some(id)) => Ok(Self::Erase(id)),
            _ => Err(OpError::Field("par")),
        }
    }
}

/// The answer to [`Configure`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// The id of an uploaded effect.
    pub effect: Option<i16>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct WireConfigured {
    #[serde(skip_serializing_if = "Option::is_none")]
    ff_id: Option<i16>,
}

impl Configured {
    /// The payload.
    ///
    /// # Errors
    /// [`EncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(&Par {
            par: WireConfigured { ff_id: self.effect },
        })
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let wire: Par<WireConfigured> = msgpack::decode(payload)?;
        Ok(Self {
            effect: wire.par.ff_id,
        })
    }
}

/// A unit of DATA: whole packets of events.
pub fn encode_events(events: &[Event]) -> Vec<u8> {
    let mut unit = Vec::with_capacity(events.len() * EVENT);
    for event in events {
        unit.extend_from_slice(&event.time.to_be_bytes());
        unit.extend_from_slice(&event.kind.to_be_bytes());
        unit.extend_from_slice(&event.code.to_be_bytes());
        unit.extend_from_slice(&event.value.to_be_bytes());
    }
    unit
}

/// Reads a unit.
///
/// # Errors
/// [`OpError::Packet`] when it has a broken event, more than [`MAX_EVENTS`], or does not end with
/// `SYN_REPORT`.
pub fn decode_events(unit: &[u8]) -> Result<Vec<Event>, OpError> {
    if unit.len() > MAX_EVENTS * EVENT {
        return Err(OpError::Packet);
    }
    let mut events = Vec::with_capacity(unit.len() / EVENT);
    let mut rest = unit;
    while !rest.is_empty() {
        let (event, after) = decode_event(rest).ok_or(OpError::Packet)?;
        events.push(event);
        rest = after;
    }
    match events.last() {
        Some(last) if last.is_report() => Ok(events),
        Some(_) | None => Err(OpError::Packet),
    }
}

fn decode_event(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (time, rest) = bytes.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let (code, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_first_chunk()?;
    let event = Event {
        time: u64::from_be_bytes(*time),
        kind: u16::from_be_bytes(*kind),
        code: u16::from_be_bytes(*code),
        value: i32::from_be_bytes(*value),
    };
    Some((event, rest))
}

#[cfg(test)]
mod tests;
