//! Frames: `CAN_FRAME_SEND` and `CAN_FRAME_RECEIVE`.

use super::{MAX_PULL, MAX_PULL_MS, OpError};
use crate::kernel::can::Frame;
use crate::wire::msgpack::{Reader, Writer};

/// Most bytes of an encoded frame besides its data: the array, identifier, flags, the data's head,
/// time and count.
const OVERHEAD: usize = 1 + 5 + 1 + 2 + 9 + 5;

/// `CAN_FRAME_SEND` `[id, flags, data]`. A remote frame's data is as long as what it asks for.
pub fn encode_send(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::with_capacity(OVERHEAD + frame.data().len());
    let mut writer = Writer::new(&mut out);
    writer.array(3);
    write_frame(&mut writer, frame);
    out
}

/// Reads a `CAN_FRAME_SEND`.
///
/// # Errors
/// [`OpError`]; also for an error frame, which no controller sends.
pub fn decode_send(payload: &[u8]) -> Result<Frame, OpError> {
    let mut reader = Reader::new(payload);
    let extra = reader.fixed_array(3)?;
    let frame = read_frame(&mut reader)?;
    reader.finish_fixed(extra)?;
    if frame.is_error() {
        return Err(OpError::Field("id"));
    }
    Ok(frame)
}

/// `CAN_FRAME_RECEIVE` `[id, flags, data, time, lost]`, as an event or one of those of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameEvent {
    /// The frame.
    pub frame: Frame,
    /// When it was received, in microseconds since 1970 by the owner's clock.
    pub time_us: u64,
    /// Frames that were lost since the one before this.
    pub lost: u32,
}

impl FrameEvent {
    /// The encoded event.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(OVERHEAD + self.frame.data().len());
        self.write(&mut Writer::new(&mut out));
        out
    }

    /// Reads an event.
    ///
    /// # Errors
    /// [`OpError`].
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let event = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(event)
    }

    /// Bytes of the encoded event, at most.
    pub fn encoded_len(&self) -> usize {
        OVERHEAD + self.frame.data().len()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.array(5);
        write_frame(writer, &self.frame);
        writer.uint(self.time_us);
        writer.uint(self.lost);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, OpError> {
        let extra = reader.fixed_array(5)?;
        let event = Self {
            frame: read_frame(reader)?,
            time_us: reader.uint()?,
            lost: reader.u32()?,
        };
        reader.skip_values(extra)?;
        Ok(event)
    }
}

/// The pull form of `CAN_FRAME_RECEIVE`, `[max, timeout-ms]`. Larger numbers than [`MAX_PULL`] and
/// [`MAX_PULL_MS`] are read as these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Frames wanted, at least 1.
    pub max: u32,
    /// How long to wait for the first one, in milliseconds; 0 does not wait.
    pub timeout_ms: u32,
}

impl Pull {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
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
    /// [`OpError`]; also for no frames at all.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(2)?;
        let (max, timeout_ms) = (reader.u32()?, reader.u32()?);
        reader.finish_fixed(extra)?;
        if max == 0 {
            return Err(OpError::Field("max"));
        }
        Ok(Self {
            max: max.min(MAX_PULL),
            timeout_ms: timeout_ms.min(MAX_PULL_MS),
        })
    }
}

/// The answer to a [`Pull`], `[[frames]]`; at most [`MAX_PULL`] of them.
pub fn encode_pulled(frames: &[FrameEvent]) -> Vec<u8> {
    let frames = frames.get(..MAX_PULL as usize).unwrap_or(frames);
    let mut out = Vec::with_capacity(8 + frames.len() * (OVERHEAD + 8));
    let mut writer = Writer::new(&mut out);
    writer.array(1);
    writer.array(u32::try_from(frames.len()).unwrap_or(MAX_PULL));
    for frame in frames {
        frame.write(&mut writer);
    }
    out
}

/// Reads the answer to a [`Pull`] for at most `max` frames.
///
/// # Errors
/// [`OpError`] when it has another shape or more frames.
pub fn decode_pulled(payload: &[u8], max: u32) -> Result<Vec<FrameEvent>, OpError> {
    let mut reader = Reader::new(payload);
    let extra = reader.fixed_array(1)?;
    let count = reader.array_header()?;
    if u32::try_from(count).is_ok_and(|count| count > max) {
        return Err(OpError::Field("frames"));
    }
    let frames = (0..count)
        .map(|_| FrameEvent::read(&mut reader))
        .collect::<Result<_, _>>()?;
    reader.finish_fixed(extra)?;
    Ok(frames)
}

fn write_frame(writer: &mut Writer<'_>, frame: &Frame) {
    writer.uint(frame.id());
    writer.uint(frame.flags());
    writer.bin(frame.data());
}

fn read_frame(reader: &mut Reader<'_>) -> Result<Frame, OpError> {
    let (id, flags) = (reader.u32()?, reader.u8()?);
    Ok(Frame::new(id, flags, reader.bin()?)?)
}
