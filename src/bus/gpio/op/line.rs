//! The operations on requested lines, and their events.

use serde::{Deserialize, Serialize};

use super::{Edge, OpEncodeError, OpError, all_lines};
use crate::wire::msgpack::{self, Reader, Writer};

/// `GPIO_LINE_SET` `[mask, bits]`. Bits outside of the mask mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetLines {
    /// The lines that get a value, at least one.
    pub mask: u64,
    /// Their values.
    pub bits: u64,
}

impl SetLines {
    /// Appends the request.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(2);
        writer.uint(self.mask);
        writer.uint(self.bits);
    }

    /// Reads a request on a stream of so many lines.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, or its mask has no line or others than those.
    pub fn decode(payload: &[u8], lines: usize) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(2)?;
        let request = Self {
            mask: read_mask(&mut reader, lines)?,
            bits: reader.uint()?,
        };
        reader.finish_fixed(extra)?;
        Ok(request)
    }
}

/// `GPIO_LINE_GET` `[mask]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetLines {
    /// The lines whose values are wanted, at least one.
    pub mask: u64,
}

impl GetLines {
    /// Appends the request.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(1);
        writer.uint(self.mask);
    }

    /// Reads a request on a stream of so many lines.
    ///
    /// # Errors
    /// As [`SetLines::decode`].
    pub fn decode(payload: &[u8], lines: usize) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let mask = read_mask(&mut reader, lines)?;
        reader.finish_fixed(extra)?;
        Ok(Self { mask })
    }
}

/// `[bits]`: the answer to [`SetLines`] and [`GetLines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineValues {
    /// The values of the lines of the request's mask; 0 for others.
    pub bits: u64,
}

impl LineValues {
    /// Appends the answer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(1);
        writer.uint(self.bits);
    }

    /// Reads the answer to a request with that mask.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or values of other lines.
    pub fn decode(payload: &[u8], mask: u64) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let bits = reader.uint()?;
        reader.finish_fixed(extra)?;
        if bits & !mask != 0 {
            return Err(OpError::Field("bits"));
        }
        Ok(Self { bits })
    }
}

/// `GPIO_LINE_WATCH`: from now on events are sent for the lines of `mask` and no others. A mask of 0
/// ends them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Watch {
    /// The lines to be watched.
    pub mask: u64,
    /// Which changes; never [`Edge::None`].
    pub edge: Edge,
    /// A new debounce time for these lines in microseconds, 0 for none; without it that of the
    /// request stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debounce_us: Option<u32>,
}

impl Watch {
    /// The encoded request.
    ///
    /// # Errors
    /// [`OpEncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, OpEncodeError> {
        msgpack::encode(self)
    }

    /// Reads a request on a stream of so many lines.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, names other lines or no edge.
    pub fn decode(payload: &[u8], lines: usize) -> Result<Self, OpError> {
        let watch: Self = msgpack::decode(payload)?;
        if watch.mask & !all_lines(lines) != 0 {
            return Err(OpError::Field("mask"));
        }
        if watch.edge == Edge::None {
            return Err(OpError::Field("edge"));
        }
        Ok(watch)
    }
}

/// `GPIO_EVENT` `[line index, edge, time ns, seq, lost]`: an input changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeEvent {
    /// Which of the requested lines, from 0.
    pub index: u8,
    /// True for a rising edge (1 on the wire), false for a falling one (2).
    pub rising: bool,
    /// When, in nanoseconds of the owner's `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Counts the events of the stream, by one each, whatever the line; one that is left out shows
    /// that the events between were lost. Wraps around.
    pub seq: u32,
    /// How many events before this one the owner knows to be lost since the last that it sent. That one
    /// may have been dropped on its way, and its count with it; `seq` shows every loss.
    pub lost: u32,
}

impl EdgeEvent {
    /// Appends the event.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(5);
        writer.uint(self.index);
        writer.uint(if self.rising { 1u8 } else { 2u8 });
        writer.uint(self.time_ns);
        writer.uint(self.seq);
        writer.uint(self.lost);
    }

    /// Reads an event on a stream of so many lines.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, or names another line or no edge.
    pub fn decode(payload: &[u8], lines: usize) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(5)?;
        let index = reader.u8()?;
        if usize::from(index) >= lines {
            return Err(OpError::Field("line index"));
        }
        let rising = match reader.u8()? {
            1 => true,
            2 => false,
            _ => return Err(OpError::Field("edge")),
        };
        let event = Self {
            index,
            rising,
            time_ns: reader.uint()?,
            seq: reader.u32()?,
            lost: reader.u32()?,
        };
        reader.finish_fixed(extra)?;
        Ok(event)
    }
}

/// The payload of an operation, or an answer, without parameters.
pub fn encode_empty() -> Vec<u8> {
    vec![0x80]
}

/// Checks the payload of an operation, or an answer, without parameters: `{}` or nothing.
///
/// # Errors
/// [`OpError`] when it is neither a map nor empty.
pub fn decode_empty(payload: &[u8]) -> Result<(), OpError> {
    Ok(msgpack::decode_empty(payload)?)
}

fn read_mask(reader: &mut Reader<'_>, lines: usize) -> Result<u64, OpError> {
    match reader.uint()? {
        mask if mask != 0 && mask & !all_lines(lines) == 0 => Ok(mask),
        _ => Err(OpError::Field("mask")),
    }
}
