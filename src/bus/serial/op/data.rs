//! `SERIAL_DATA_WRITE` and `SERIAL_DATA_READ` as requests. Otherwise data goes as DATA frames.

use super::{OpError, check_range};
use crate::wire::msgpack::{Reader, Writer};
use crate::wire::opcode::Opcode;

/// Most bytes of one request or answer.
pub const MAX_DATA: u32 = 32768;
/// Bytes by which the encoded answer can be longer than its data.
const OVERHEAD: u32 = 8;

/// `SERIAL_DATA_WRITE` `[bin, drain]`, written behind the DATA that was sent before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataWrite<'a> {
    /// At most [`MAX_DATA`] bytes; none, with `drain`, waits for what was written before.
    pub data: &'a [u8],
    /// Answered once the last bit has left the port; otherwise once the port has taken the bytes.
    pub drain: bool,
}

impl<'a> DataWrite<'a> {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + 8);
        let mut writer = Writer::new(&mut out);
        writer.array(2);
        writer.bin(self.data);
        writer.bool(self.drain);
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or too many bytes.
    pub fn decode(payload: &'a [u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(2)?;
        let request = Self {
            data: reader.bin()?,
            drain: reader.bool()?,
        };
        reader.finish_fixed(extra)?;
        check_length(request.data, MAX_DATA)?;
        Ok(request)
    }
}

/// `[n]`: the answer to [`DataWrite`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes that were written.
    pub count: u32,
}

impl Written {
    /// The encoded answer.
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.array(1);
        writer.uint(self.count);
        out
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or counts more than can have been sent.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let count = reader.u32()?;
        reader.finish_fixed(extra)?;
        check_range("n", &count, &0, &MAX_DATA)?;
        Ok(Self { count })
    }
}

/// `SERIAL_DATA_READ` `[max, timeout-ms]`, for ports that do not push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRead {
    /// Bytes wanted at most, 1 to [`MAX_DATA`].
    pub max: u32,
    /// How long to wait for the first byte, in milliseconds. With 0, or when none comes, the answer
    /// is empty.
    pub timeout_ms: u32,
}

impl DataRead {
    /// The encoded request.
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.array(2);
        writer.uint(self.max);
        writer.uint(self.timeout_ms);
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or a field is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(2)?;
        let request = Self {
            max: reader.u32()?,
            timeout_ms: reader.u32()?,
        };
        reader.finish_fixed(extra)?;
        check_range("max", &request.max, &1, &MAX_DATA)?;
        Ok(request)
    }
}

/// `[bin]`: the answer to [`DataRead`].
pub fn encode_read(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 8);
    let mut writer = Writer::new(&mut out);
    writer.array(1);
    writer.bin(data);
    out
}

/// Reads the answer to a request for at most `max` bytes.
///
/// # Errors
/// [`OpError`] when it has another shape or brings more than was asked for.
pub fn decode_read(payload: &[u8], max: u32) -> Result<&[u8], OpError> {
    let mut reader = Reader::new(payload);
    let extra = reader.fixed_array(1)?;
    let data = reader.bin()?;
    reader.finish_fixed(extra)?;
    check_length(data, max)?;
    Ok(data)
}

/// The length that an operation of this bus declares for its answer, in bytes (profile 11.2).
pub fn declared_reply(opcode: Opcode, payload: &[u8]) -> Option<u32> {
    if opcode != Opcode::SerialDataRead {
        return None;
    }
    let request = DataRead::decode(payload).ok()?;
    Some(request.max + OVERHEAD)
}

fn check_length(data: &[u8], max: u32) -> Result<(), OpError> {
    match u32::try_from(data.len()) {
        Ok(length) if length <= max => Ok(()),
        Ok(_) | Err(_) => Err(OpError::Field("bin")),
    }
}
