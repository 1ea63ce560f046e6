//! Tier 1: four bytes, no protection (draft 3.3, profile 3.2).
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 1 | flags, 0x08 |
//! | 1 | 2 | operation code |
//! | 3 | 1 | sequence |
//! | 4 | n | payload |
//!
//! Never accepted unless the operator enabled an "open zone".

use core::fmt;

use super::flags::{Flags, Tier};
use super::header::{HeaderError, allowed, flags_of};
use super::opcode::Opcode;

/// Bytes of the header.
pub const HEADER_LEN: usize = Tier::T1.header_len();

/// The header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// One of an open zone: 0x0100–0x01FF or 0xF010–0xFFFE.
    pub opcode: Opcode,
    /// Sender's number.
    pub sequence: u8,
}

impl Header {
    /// Reads a message and returns the header with the payload.
    ///
    /// # Errors
    /// [`HeaderError`] when it is short, of another tier, or not allowed by profile 3.1 and 3.2.
    pub fn parse(message: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let flags = flags_of(message, Tier::T1)?;
        let ([_, o0, o1, sequence], payload) =
            message
                .split_first_chunk::<HEADER_LEN>()
                .ok_or(HeaderError::Short {
                    tier: Tier::T1,
                    length: message.len(),
                })?;
        let opcode = Opcode::from_u16(u16::from_be_bytes([*o0, *o1]));
        allowed(flags, opcode)?;
        Ok((
            Self {
                opcode,
                sequence: *sequence,
            },
            payload,
        ))
    }

    /// The header on the wire.
    pub const fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let [o0, o1] = self.opcode.to_u16().to_be_bytes();
        [Flags::plain(Tier::T1).to_u8(), o0, o1, self.sequence]
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} seq {}", Tier::T1, self.opcode, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_an_open_zone_survives() {
        let header = Header {
            opcode: Opcode::from_u16(0x0123),
            sequence: 9,
        };
        let mut message = header.to_bytes().to_vec();
        assert_eq!(message, [0x08, 0x01, 0x23, 9]);
        message.push(0xC0);
        assert_eq!(Header::parse(&message), Ok((header, &[0xC0][..])));
        assert_eq!(header.to_string(), "tier 1 opcode 0x0123 seq 9");
    }

    #[test]
    fn device_operations_are_never_accepted() {
        assert!(matches!(
            Header::parse(&[0x08, 0x02, 0x04, 0]),
            Err(HeaderError::NotAllowed { .. })
        ));
        assert!(matches!(
            Header::parse(&[0x09, 0x01, 0x00, 0]),
            Err(HeaderError::NotAllowed { .. })
        ));
    }

    #[test]
    fn a_cut_header_is_short() {
        assert_eq!(
            Header::parse(&[0x08, 1, 0]),
            Err(HeaderError::Short {
                tier: Tier::T1,
                length: 3
            })
        );
        assert_eq!(Header::parse(&[]), Err(HeaderError::Empty));
    }
}
