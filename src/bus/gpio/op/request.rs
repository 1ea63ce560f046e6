//! `GPIO_LINE_REQUEST`, which opens a stream.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Bias, Direction, Drive, Edge, MAX_CHIP_LINES, MAX_LINES, OpEncodeError, OpError, all_lines,
    check_device_id,
};
use crate::wire::msgpack;

/// `GPIO_LINE_REQUEST`: lines of one chip, all used in the same way. In every mask and every set of
/// values, bit k is the k-th of `lines`. Values are logical: with `low`, 1 is the low level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LineRequest {
    /// The chip's id.
    pub dev: String,
    /// Numbers of 1 to [`MAX_LINES`] lines, each once.
    pub lines: Vec<u32>,
    /// Inputs or outputs.
    pub dir: Direction,
    /// Values that outputs begin with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub val: u64,
    /// What pulls them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bias: Bias,
    /// How outputs are driven.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drive: Drive,
    /// Active means low.
    #[serde(default, skip_serializing_if = "is_default")]
    pub low: bool,
    /// Changes of inputs that are told from the beginning; `GPIO_LINE_WATCH` can alter it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub edge: Edge,
    /// Microseconds for which an input must be stable; 0 is no debouncing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub debounce_us: u32,
    /// For outputs one entry a line, for inputs none: the value it takes, and keeps, when the stream
    /// ends; `None` releases it. Written as 0, 1 and nil.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "levels")]
    pub safe: Vec<Option<bool>>,
}

impl LineRequest {
    /// The mask of all its lines.
    pub fn all(&self) -> u64 {
        all_lines(self.lines.len())
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
    /// [`OpError`] when it has another shape, names no lines, too many, or one twice, or has fields
    /// that contradict its direction.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let request: Self = msgpack::decode(payload)?;
        request.check()?;
        Ok(request)
    }

    pub(super) fn check(&self) -> Result<(), OpError> {
        check_device_id(&self.dev)?;
        let distinct: BTreeSet<_> = self.lines.iter().collect();
        let lines_fit = (1..=MAX_LINES).contains(&self.lines.len())
            && distinct.len() == self.lines.len()
            && self.lines.iter().all(|line| *line < MAX_CHIP_LINES);
        let output = self.dir == Direction::Output;
        let safe_lines = if output { self.lines.len() } else { 0 };
        for (fits, field) in [
            (lines_fit, "lines"),
            (self.val & !self.all() == 0, "val"),
            (output || self.val == 0, "val"),
            (output || self.drive == Drive::PushPull, "drive"),
            (!output || self.edge == Edge::None, "edge"),
            (!output || self.debounce_us == 0, "debounce-us"),
            (self.safe.len() == safe_lines, "safe"),
        ] {
            if !fits {
                return Err(OpError::Field(field));
            }
        }
        Ok(())
    }
}

/// The answer to [`LineRequest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRequested {
    /// The values of the lines once they were requested.
    pub val: u64,
}

impl LineRequested {
    /// The encoded answer.
    ///
    /// # Errors
    /// [`OpEncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, OpEncodeError> {
        msgpack::encode(self)
    }

    /// Reads the answer to a request for so many lines.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or values of other lines.
    pub fn decode(payload: &[u8], lines: usize) -> Result<Self, OpError> {
        let answer: Self = msgpack::decode(payload)?;
        if answer.val & !all_lines(lines) != 0 {
            return Err(OpError::Field("val"));
        }
        Ok(answer)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// 0, 1 or nil for each line.
mod levels {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        levels: &[Option<bool>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(levels.iter().map(|level| level.map(u8::from)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Option<bool>>, D::Error> {
        let levels: Vec<Option<u8>> = Vec::deserialize(deserializer)?;
        levels
            .into_iter()
            .map(|level| match level {
                None => Ok(None),
                Some(0) => Ok(Some(false)),
                Some(1) => Ok(Some(true)),
                Some(_) => Err(D::Error::custom("a level other than 0, 1 and nil")),
            })
            .collect()
    }
}
