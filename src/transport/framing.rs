//! Cuts a byte stream into the messages of profile 15.2: `BE32 length || message`. Sans-IO; the
//! transport lends out [`Deframer::space`], reads into it and gives it back.
//!
//! Small messages are read many at a time into one chunk that is used again and again, and copied
//! out. A message that does not fit into the chunk gets a buffer of its own, into which the rest of
//! it is read directly and never past its end.

use std::ops::Range;

use super::TransportError;
use super::buffer::PREFIX;
use crate::wire::limits::{Limits, MESSAGE_MARGIN};

/// Bytes asked for at once while messages are small.
const CHUNK: usize = 16 << 10;
/// A message in its own buffer is given room for one record of the default size at once, beyond
/// that only for as much again as has arrived.
const FIRST_ROOM: usize = Limits::DEFAULT.rec as usize + MESSAGE_MARGIN;

/// The receiving state of one byte stream.
#[derive(Debug)]
pub struct Deframer {
    chunk: Vec<u8>,
    consumed: usize,
    large: Option<Large>,
}

/// A message in a buffer of its own.
#[derive(Debug)]
struct Large {
    message: Vec<u8>,
    length: usize,
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deframer {
    /// A deframer at the start of a stream.
    pub fn new() -> Self {
        Self {
            chunk: Vec::with_capacity(CHUNK),
            consumed: 0,
            large: None,
        }
    }

    /// The next whole message, `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`TransportError::Empty`] for a length of zero, [`TransportError::Oversize`] for one above
    /// `limit`. The stream has no message boundaries any more then.
    pub fn next_message(&mut self, limit: usize) -> Result<Option<Vec<u8>>, TransportError> {
        if let Some(large) = self.large.take() {
            if large.message.len() < large.length {
                self.large = Some(large);
                return Ok(None);
            }
            return Ok(Some(large.message));
        }
        let pending = self.chunk.get(self.consumed..).unwrap_or_default();
        let Some((prefix, rest)) = pending.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = checked_length(*prefix, limit)?;
        if let Some(message) = rest.get(..length) {
            let message = message.to_vec();
            self.consumed += PREFIX + length;
            return Ok(Some(message));
        }
        if PREFIX + length > CHUNK {
            let mut message = Vec::with_capacity(length.min(FIRST_ROOM));
            message.extend_from_slice(rest);
            self.large = Some(Large { message, length });
            self.chunk.clear();
            self.consumed = 0;
        }
        Ok(None)
    }

    /// Lends the buffer for the next read and the range of it that may be filled, never empty. To
    /// be called when [`Self::next_message`] has returned `None`.
    pub fn space(&mut self) -> (Vec<u8>, Range<usize>) {
        if let Some(large) = &mut self.large {
            let have = large.message.len();
            let room = large.length.min(FIRST_ROOM.max(have.saturating_mul(2)));
            large.message.reserve_exact(room.saturating_sub(have));
            return (std::mem::take(&mut large.message), have..room);
        }
        self.chunk.drain(..self.consumed);
        self.consumed = 0;
        let have = self.chunk.len();
        (std::mem::take(&mut self.chunk), have..CHUNK)
    }

    /// Takes the lent buffer back; what was read has been appended to it.
    pub fn restore(&mut self, buffer: Vec<u8>) {
        match &mut self.large {
            Some(large) => large.message = buffer,
            None => self.chunk = buffer,
        }
    }

    /// True when the stream may end here: between two messages.
    pub fn at_boundary(&self) -> bool {
        self.large.is_none() && self.consumed >= self.chunk.len()
    }
}

fn checked_length(prefix: [u8; PREFIX], limit: usize) -> Result<usize, TransportError> {
    let length = u32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(0) => Err(TransportError::Empty),
        Ok(bytes) if bytes <= limit => Ok(bytes),
        Ok(_) | Err(_) => Err(TransportError::Oversize { length, limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(message);
        }
        bytes
    }

    /// Reads as the kernel would: at most `step` bytes, never outside the lent range.
    fn read(deframer: &mut Deframer, bytes: &mut &[u8], step: usize) {
        let (mut buffer, range) = deframer.space();
        assert!(!range.is_empty() && range.end <= buffer.capacity());
        assert_eq!(range.start, buffer.len());
        let (now, later) = bytes.split_at(bytes.len().min(step).min(range.len()));
        buffer.extend_from_slice(now);
        *bytes = later;
        deframer.restore(buffer);
    }

    fn cut(mut bytes: &[u8], step: usize, limit: usize) -> Result<Vec<Vec<u8>>, TransportError> {
        let mut deframer = Deframer::new();
        let mut messages = Vec::new();
        loop {
            while let Some(message) = deframer.next_message(limit)? {
                messages.push(message);
            }
            if bytes.is_empty() {
                return if deframer.at_boundary() {
                    Ok(messages)
                } else {
                    Err(TransportError::Truncated)
                };
            }
            read(&mut deframer, &mut bytes, step);
        }
    }

    proptest! {
        #[test]
        fn messages_survive_any_segmentation(
            lengths in proptest::collection::vec(1usize..40_000, 1..8),
            step in prop_oneof![1usize..64, 64usize..70_000],
        ) {
            let messages: Vec<Vec<u8>> = (0u8..)
                .zip(&lengths)
                .map(|(fill, length)| vec![fill; *length])
                .collect();
            prop_assert_eq!(cut(&stream(&messages), step, 40_000).unwrap(), messages);
        }
    }

    #[test]
    fn other_protocols_are_refused_by_their_first_four_bytes() {
        for greeting in [&b"GET / HTTP/1.1"[..], b"\x16\x03\x01\x02\x00", b"SSH-2.0-"] {
            assert!(matches!(
                cut(greeting, 64, 4096),
                Err(TransportError::Oversize { limit: 4096, .. })
            ));
        }
        assert!(matches!(cut(&[0; 4], 64, 4096), Err(TransportError::Empty)));
    }

    #[test]
    fn the_limit_is_inclusive_and_may_rise_between_messages() {
        assert!(cut(&stream(&[vec![1; 4096]]), 5000, 4096).is_ok());
        assert!(cut(&stream(&[vec![1; 4097]]), 5000, 4096).is_err());

        let mut deframer = Deframer::new();
        let bytes = stream(&[vec![1; 10], vec![2; 5000]]);
        let mut rest = bytes.as_slice();
        read(&mut deframer, &mut rest, bytes.len());
        assert_eq!(deframer.next_message(4096).unwrap().unwrap().len(), 10);
        assert_eq!(deframer.next_message(65_664).unwrap().unwrap().len(), 5000);
    }

    #[test]
    fn a_claimed_length_reserves_no_more_than_twice_what_arrived() {
        let mut deframer = Deframer::new();
        let claim = 1u32 << 20;
        let bytes = [&claim.to_be_bytes()[..], &vec![7; 1 << 20]].concat();
        let mut rest = bytes.as_slice();
        let mut received = 0;
        let message = loop {
            if let Some(message) = deframer.next_message(1 << 20).unwrap() {
                break message;
            }
            if let Some(large) = &deframer.large {
                assert!(large.message.capacity() <= FIRST_ROOM.max(2 * received));
            }
            let before = rest.len();
            read(&mut deframer, &mut rest, 9000);
            received += before - rest.len();
        };
        assert_eq!(message, vec![7; 1 << 20]);
    }

    #[test]
    fn an_end_inside_a_prefix_or_a_message_is_no_boundary() {
        let bytes = stream(&[vec![1; 100], vec![2; 30_000]]);
        for end in [1, 3, 4, 50, 105, 108, 20_000, bytes.len() - 1] {
            let result = cut(bytes.get(..end).unwrap(), 7000, 65_536);
            assert!(matches!(result, Err(TransportError::Truncated)), "{end}");
        }
        assert_eq!(
            cut(bytes.get(..104).unwrap(), 7000, 65_536).unwrap().len(),
            1
        );
    }
}
