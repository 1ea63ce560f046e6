//! Tier 5: 64 bytes, sealed, HMAC-256 (draft 3.7, profile 3.5).
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 48 | as Tier 4, flags 0x29 |
//! | 48 | 16 | Poly1305 tag |
//! | 64 | n | ciphertext |
//! | 64 + n | 32 | HMAC-256 |

use core::fmt;

use super::flags::{TAG_LEN, Tier};
use super::header::{HeaderError, Prefix};
use super::tier4::{key_fields, key_header};

/// Bytes of the header, the tag included.
pub const HEADER_LEN: usize = Tier::T5.header_len();
/// Bytes of the header before the tag: the associated data.
pub const AAD_LEN: usize = Tier::T5.aad_len();
/// Bytes of the HMAC.
pub const TRAILER_LEN: usize = Tier::T5.trailer_len();

/// The header's fields but the tag, which is part of the sealing (see
/// [`super::message::Layout`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Flags to nonce.
    pub prefix: Prefix,
    /// Id of the epoch.
    pub key_id: u32,
    /// The sender's ephemeral key of the epoch.
    pub public_key: [u8; 32],
}

impl Header {
    /// Reads the header of a whole message.
    ///
    /// # Errors
    /// [`HeaderError`] when the message is shorter than 96 bytes, of another tier, or not allowed by
    /// profile 3.1.
    pub fn parse(message: &[u8]) -> Result<Self, HeaderError> {
        let prefix = Prefix::parse(message, Tier::T5)?;
        let (key_id, public_key) = key_fields(message, Tier::T5)?;
        Ok(Self {
            prefix,
            key_id,
            public_key,
        })
    }

    /// The header before the tag.
    pub fn to_bytes(&self) -> [u8; AAD_LEN] {
        key_header(&self.prefix, self.key_id, &self.public_key)
    }

    /// The whole header.
    pub fn with_tag(&self, tag: &[u8; TAG_LEN]) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        for (to, from) in header.iter_mut().zip(self.to_bytes().iter().chain(tag)) {
            *to = *from;
        }
        header
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {:08x}", self.prefix, self.key_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flags::Flags;
    use crate::wire::opcode::Opcode;

    const HEADER: Header = Header {
        prefix: Prefix {
            flags: Flags::sealed(Tier::T5),
            opcode: Opcode::Record,
            sequence: 3,
            session_id: 5,
            timestamp: 7,
            nonce: 9,
        },
        key_id: 0x2521_29A9,
        public_key: [0xE3; 32],
    };

    #[test]
    fn the_tag_stands_behind_the_associated_data() {
        let whole = HEADER.with_tag(&[0xC0; 16]);
        assert_eq!(whole[..48], HEADER.to_bytes());
        assert_eq!(whole[48..], [0xC0; 16]);
        let mut message = whole.to_vec();
        message.resize(96, 0);
        assert_eq!(Header::parse(&message), Ok(HEADER));
        assert_eq!(
            HEADER.to_string(),
            "tier 5 RECORD seq 3 session 0005 time 7 nonce 0009 key 252129a9"
        );
    }

    #[test]
    fn less_than_96_bytes_is_short() {
        let mut message = HEADER.with_tag(&[0; 16]).to_vec();
        message.resize(96, 0);
        for end in 1..96 {
            assert_eq!(
                Header::parse(&message[..end]),
                Err(HeaderError::Short {
                    tier: Tier::T5,
                    length: end
                })
            );
        }
    }
}
