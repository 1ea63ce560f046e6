//! Tier 3: twelve bytes, sealed, HMAC-32: the normal carrier (draft 3.5, profile 3.4).
//!
//! The header is the [`Prefix`] with the flags 0x19; ciphertext, 16 bytes of tag and 4 of HMAC
//! follow.

use core::fmt;

use super::flags::{Flags, Tier};
use super::header::{HeaderError, PREFIX_LEN, Prefix};
use super::opcode::Opcode;

/// Bytes of the header.
pub const HEADER_LEN: usize = PREFIX_LEN;

/// The header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// All there is.
    pub prefix: Prefix,
}

impl Header {
    /// The header of a sealed message without C and F.
    pub const fn sealed(
        opcode: Opcode,
        sequence: u8,
        session_id: u16,
        timestamp: u32,
        nonce: u16,
    ) -> Self {
        Self {
            prefix: Prefix {
                flags: Flags::sealed(Tier::T3),
                opcode,
                sequence,
                session_id,
                timestamp,
                nonce,
            },
        }
    }

    /// Reads the header of a whole message.
    ///
    /// # Errors
    /// [`HeaderError`] when the message is shorter than 32 bytes, of another tier, or not allowed by
    /// profile 3.1.
    pub fn parse(message: &[u8]) -> Result<Self, HeaderError> {
        let prefix = Prefix::parse(message, Tier::T3)?;
        Ok(Self { prefix })
    }

    /// The header on the wire.
    pub const fn to_bytes(&self) -> [u8; HEADER_LEN] {
        self.prefix.to_bytes()
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Header = Header::sealed(Opcode::Record, 0, 0x4D43, 0x6962_0002, 0x6DED);

    fn message(header: &Header) -> Vec<u8> {
        let mut message = header.to_bytes().to_vec();
        message.resize(32, 0);
        message
    }

    #[test]
    fn the_header_of_test_vector_5_survives() {
        assert_eq!(
            RECORD.to_bytes(),
            *b"\x19\xf0\x00\x00\x4d\x43\x69\x62\x00\x02\x6d\xed"
        );
        assert_eq!(Header::parse(&message(&RECORD)), Ok(RECORD));
        assert_eq!(
            RECORD.to_string(),
            "tier 3 RECORD seq 0 session 4d43 time 1768030210 nonce 6ded"
        );
    }

    #[test]
    fn less_than_header_tag_and_trailer_is_short() {
        for end in 1..32 {
            assert_eq!(
                Header::parse(&message(&RECORD)[..end]),
                Err(HeaderError::Short {
                    tier: Tier::T3,
                    length: end
                })
            );
        }
    }

    #[test]
    fn a_message_that_is_not_sealed_is_not_accepted() {
        let mut open = message(&RECORD);
        open[0] &= !1;
        assert!(matches!(
            Header::parse(&open),
            Err(HeaderError::NotAllowed { .. })
        ));
    }

    #[test]
    fn a_record_is_neither_compressed_nor_fragmented_as_a_whole() {
        for carried in [0x02, 0x04] {
            let mut record = message(&RECORD);
            record[0] |= carried;
            assert!(Header::parse(&record).is_err());
            record[1..3].copy_from_slice(&[0x02, 0x00]);
            assert!(Header::parse(&record).is_ok());
        }
    }
}
