//! One allocation from plaintext to socket: room for length and header before the plaintext, the
//! trailer appended behind it, everything sealed in place and written with one call.

use core::ops::Range;

use crate::wire::flags::Tier;

/// Room in front of the plaintext: the length of TCP and the longest header (profile 3.5, 15.2).
pub const HEADROOM: usize = LENGTH + 64;
/// The longest thing behind the plaintext: the trailer of Tier 5.
pub const TAILROOM: usize = 32;
const LENGTH: usize = 4;

/// A message under construction, later a sealed message.
#[derive(Debug)]
pub struct RecordBuf {
    bytes: Vec<u8>,
    /// Start of the message inside `bytes` once there is one.
    message: Option<usize>,
}

impl RecordBuf {
    /// A buffer that takes `plaintext` bytes without growing.
    pub fn with_capacity(plaintext: usize) -> Self {
        Self::reuse(Vec::with_capacity(HEADROOM + plaintext + TAILROOM))
    }

    /// An empty buffer in the allocation of an earlier one.
    pub fn reuse(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(HEADROOM, 0);
        Self {
            bytes,
            message: None,
        }
    }

    /// Empties the buffer and keeps its allocation.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEADROOM, 0);
        self.message = None;
    }

    /// The buffer to append plaintext to. What is in it already is the room for the header and
    /// earlier plaintext; a buffer made shorter than that cannot be sealed.
    pub const fn plaintext(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The plaintext so far; empty once sealed.
    pub fn content(&self) -> &[u8] {
        let plaintext = if self.message.is_none() {
            HEADROOM
        } else {
            self.bytes.len()
        };
        self.bytes.get(plaintext..).unwrap_or_default()
    }

    /// Appends plaintext.
    pub fn extend_from_slice(&mut self, plaintext: &[u8]) {
        self.bytes.extend_from_slice(plaintext);
    }

    /// Bytes of plaintext so far; 0 once sealed.
    pub const fn len(&self) -> usize {
        match self.message {
            None => self.bytes.len().saturating_sub(HEADROOM),
            Some(_) => 0,
        }
    }

    /// True when there is no plaintext.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The finished message, empty before it is sealed.
    pub fn message(&self) -> &[u8] {
        self.message
            .and_then(|start| self.bytes.get(start..))
            .unwrap_or_default()
    }

    /// The finished message behind its big-endian 32-bit length (profile 15.2), empty before it is
    /// sealed.
    pub fn framed(&self) -> &[u8] {
        let start = self.message.and_then(|start| start.checked_sub(LENGTH));
        start
            .and_then(|start| self.bytes.get(start..))
            .unwrap_or_default()
    }

    /// The allocation and where [`RecordBuf::framed`] lies in it, for writes that need to own the
    /// buffer; [`RecordBuf::reuse`] takes the allocation back.
    pub fn into_framed(self) -> (Vec<u8>, Range<usize>) {
        let end = self.bytes.len();
        let start = self
            .message
            .and_then(|start| start.checked_sub(LENGTH))
            .unwrap_or(end);
        (self.bytes, start..end)
    }

    /// Makes the buffer hold a message that is complete already.
    pub(crate) fn set_message(&mut self, message: &[u8]) {
        self.clear();
        self.bytes.extend_from_slice(message);
        self.finish(HEADROOM);
    }

    /// Header and plaintext of a message to be sealed in place; `None` when it is sealed already or
    /// the room for the header is gone.
    pub(crate) fn parts(&mut self, tier: Tier) -> Option<(&mut [u8], &mut [u8])> {
        if self.message.is_some() || tier < Tier::T3 {
            return None;
        }
        let (room, plaintext) = self.bytes.split_at_mut_checked(HEADROOM)?;
        Some((room.get_mut(HEADROOM - tier.header_len()..)?, plaintext))
    }

    /// Appends tag and trailer and fixes the length in front.
    pub(crate) fn complete(&mut self, tier: Tier, tail: &[&[u8]]) {
        for part in tail {
            self.bytes.extend_from_slice(part);
        }
        self.finish(HEADROOM - tier.header_len());
    }

    fn finish(&mut self, start: usize) {
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        // INVARIANT: every caller starts at least LENGTH bytes behind the front, and appended first.
        self.bytes[start - LENGTH..start].copy_from_slice(&length.to_be_bytes());
        self.message = Some(start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_lies_behind_its_length_in_one_piece() {
        let mut buf = RecordBuf::with_capacity(10);
        assert!(buf.is_empty() && buf.message().is_empty() && buf.framed().is_empty());
        buf.set_message(b"abc");
        assert_eq!(buf.message(), b"abc");
        assert_eq!(buf.framed(), b"\0\0\0\x03abc");
        let (bytes, range) = buf.into_framed();
        assert_eq!(&bytes[range], b"\0\0\0\x03abc");
        let buf = RecordBuf::reuse(bytes);
        assert!(buf.is_empty() && buf.message().is_empty());
    }

    #[test]
    fn a_buffer_without_its_headroom_cannot_be_sealed() {
        let mut buf = RecordBuf::with_capacity(10);
        buf.plaintext().clear();
        assert!(buf.parts(Tier::T3).is_none());
        assert_eq!(buf.len(), 0);
        buf.clear();
        buf.extend_from_slice(b"xy");
        assert_eq!(buf.len(), 2);
        assert!(buf.parts(Tier::T5).is_some());
    }
}
