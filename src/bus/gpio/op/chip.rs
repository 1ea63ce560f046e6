//! `GPIO_CHIP_LIST` and `GPIO_LINE_INFO`.

use serde::{Deserialize, Serialize};

use super::{
    Bias, Direction, Drive, MAX_CHIP_LINES, OpEncodeError, OpError, check_device_id, check_name,
};
use crate::wire::msgpack;

/// One chip of `GPIO_CHIP_LIST`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipEntry {
    /// Stable id, at most [`MAX_DEVICE_ID`](super::MAX_DEVICE_ID) bytes.
    pub dev: String,
    /// What the kernel's driver calls it, at most [`MAX_NAME`](super::MAX_NAME) bytes.
    pub label: String,
    /// How many lines it has, at most [`MAX_CHIP_LINES`].
    pub lines: u32,
}

/// The answer to `GPIO_CHIP_LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipList {
    /// What the caller may see.
    pub chips: Vec<ChipEntry>,
}

impl ChipList {
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
    /// [`OpError`] when it has another shape, an id is empty or too long, a label is too long or has
    /// control characters, or a chip has too many lines.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let list: Self = msgpack::decode(payload)?;
        for chip in &list.chips {
            check_device_id(&chip.dev)?;
            check_name(&chip.label, "label")?;
            if chip.lines > MAX_CHIP_LINES {
                return Err(OpError::Field("lines"));
            }
        }
        Ok(list)
    }
}

/// `GPIO_LINE_INFO`, about one line of a chip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineInfoRequest {
    /// The chip's id.
    pub dev: String,
    /// Number of the line, from 0.
    pub line: u32,
}

impl LineInfoRequest {
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
    /// [`OpError`] when it has another shape, the id is empty or too long, or no chip has such a line.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let request: Self = msgpack::decode(payload)?;
        check_device_id(&request.dev)?;
        if request.line >= MAX_CHIP_LINES {
            return Err(OpError::Field("line"));
        }
        Ok(request)
    }
}

/// The answer to [`LineInfoRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineInfo {
    /// Its name, empty if it has none; at most [`MAX_NAME`](super::MAX_NAME) bytes.
    pub name: String,
    /// Something on the owner's machine, or a peer, has it requested.
    pub used: bool,
    /// Its direction now.
    pub dir: Direction,
    /// Its bias, [`Bias::AsIs`] where nobody set one.
    pub bias: Bias,
    /// How it is driven as an output.
    pub drive: Drive,
    /// Active means low.
    pub low: bool,
}

impl LineInfo {
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
    /// [`OpError`] when it has another shape, or the name is too long or has control characters.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let info: Self = msgpack::decode(payload)?;
        check_name(&info.name, "name")?;
        Ok(info)
    }
}
