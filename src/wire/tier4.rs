//! Tier 4: 48 bytes, HMAC-64; sealed, or open for the handshake (draft 3.6, profile 3.4).
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 12 | [`Prefix`], flags 0x21, in the handshake 0x20 |
//! | 12 | 4 | key id |
//! | 16 | 32 | X25519 public key |
//! | 48 | n | ciphertext and 16 bytes of tag; in the handshake the payload |
//! | 48 + n | 8 | HMAC-64 |

use core::fmt;

use super::flags::{Flags, Tier};
use super::header::{HeaderError, PREFIX_LEN, Prefix};
use super::opcode::Opcode;

/// Bytes of the header.
pub const HEADER_LEN: usize = Tier::T4.header_len();
/// Bytes of the HMAC.
pub const TRAILER_LEN: usize = Tier::T4.trailer_len();

/// The header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Flags to nonce.
    pub prefix: Prefix,
    /// Id of the epoch; in the handshake of the PSK or the ticket, 0 for none (profile 3.4).
    pub key_id: u32,
    /// The sender's ephemeral key.
    pub public_key: [u8; 32],
}

/// A handshake message taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// Its header; the opcode is a handshake opcode.
    pub header: Header,
    /// MessagePack.
    pub payload: &'a [u8],
    /// What the HMAC covers: header and payload.
    pub covered: &'a [u8],
    /// The HMAC, not yet checked.
    pub trailer: &'a [u8; TRAILER_LEN],
}

impl Header {
    /// Reads the header of a whole message, sealed or of the handshake.
    ///
    /// # Errors
    /// [`HeaderError`] when the message is shorter than 72 (handshake: 56) bytes, of another tier, or
    /// not allowed by profile 3.1.
    pub fn parse(message: &[u8]) -> Result<Self, HeaderError> {
        let prefix = Prefix::parse(message, Tier::T4)?;
        let (key_id, public_key) = key_fields(message, Tier::T4)?;
        Ok(Self {
            prefix,
            key_id,
            public_key,
        })
    }

    /// The header on the wire.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        key_header(&self.prefix, self.key_id, &self.public_key)
    }
}

impl<'a> Handshake<'a> {
    /// Takes a message of the handshake apart.
    ///
    /// # Errors
    /// As [`Header::parse`]; `NotAllowed` for a sealed message.
    pub fn parse(message: &'a [u8]) -> Result<Self, HeaderError> {
        let header = Header::parse(message)?;
        let Prefix { flags, opcode, .. } = header.prefix;
        if flags != Flags::plain(Tier::T4) {
            return Err(HeaderError::NotAllowed { flags, opcode });
        }
        let short = HeaderError::Short {
            tier: Tier::T4,
            length: message.len(),
        };
        let (covered, trailer) = message.split_last_chunk().ok_or(short)?;
        let payload = covered.get(HEADER_LEN..).ok_or(short)?;
        Ok(Self {
            header,
            payload,
            covered,
            trailer,
        })
    }
}

/// The prefix of a handshake message, which is never sealed.
///
/// `opcode` is one of `KEY_EXCHANGE_*`, `SESSION_RESUME`, `SESSION_RESUMED`; `noise16` are 16 random
/// bits without meaning.
pub const fn handshake_prefix(
    opcode: Opcode,
    sequence: u8,
    session_id: u16,
    timestamp: u32,
    noise16: u16,
) -> Prefix {
    Prefix {
        flags: Flags::plain(Tier::T4),
        opcode,
        sequence,
        session_id,
        timestamp,
        nonce: noise16,
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {:08x}", self.prefix, self.key_id)
    }
}

/// Bytes 12 to 47 of Tiers 4 and 5.
pub(super) fn key_fields(message: &[u8], tier: Tier) -> Result<(u32, [u8; 32]), HeaderError> {
    let short = HeaderError::Short {
        tier,
        length: message.len(),
    };
    let fields = message.get(PREFIX_LEN..).ok_or(short)?;
    let (key_id, fields) = fields.split_first_chunk().ok_or(short)?;
    let (public_key, _) = fields.split_first_chunk().ok_or(short)?;
    Ok((u32::from_be_bytes(*key_id), *public_key))
}

/// Bytes 0 to 47 of Tiers 4 and 5.
pub(super) fn key_header(prefix: &Prefix, key_id: u32, public_key: &[u8; 32]) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    let parts = prefix
        .to_bytes()
        .into_iter()
        .chain(key_id.to_be_bytes())
        .chain(*public_key);
    for (to, from) in header.iter_mut().zip(parts) {
        *to = from;
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: Flags, opcode: Opcode) -> Header {
        Header {
            prefix: Prefix {
                flags,
                ..handshake_prefix(opcode, 1, 0x4D43, 7, 0xA1A1)
            },
            key_id: 0x0102_0304,
            public_key: core::array::from_fn(|index| u8::try_from(index).unwrap()),
        }
    }

    fn message(header: &Header, length: usize) -> Vec<u8> {
        let mut message = header.to_bytes().to_vec();
        message.resize(length, 0xEE);
        message
    }

    #[test]
    fn a_handshake_message_is_taken_apart() {
        let header = header(Flags::plain(Tier::T4), Opcode::KeyExchangeInit);
        let message = message(&header, 48 + 3 + 8);
        let parts = Handshake::parse(&message).unwrap();
        assert_eq!(parts.header, header);
        assert_eq!(parts.payload, [0xEE; 3]);
        assert_eq!((parts.covered.len(), parts.trailer), (51, &[0xEE; 8]));
        assert_eq!(
            header.to_string(),
            "tier 4 KEY_EXCHANGE_INIT seq 1 session 4d43 time 7 nonce a1a1 key 01020304"
        );
    }

    #[test]
    fn a_sealed_message_is_no_handshake_message() {
        let header = header(Flags::sealed(Tier::T4), Opcode::SessionRotate);
        let message = message(&header, 72);
        assert_eq!(Header::parse(&message), Ok(header));
        assert!(matches!(
            Handshake::parse(&message),
            Err(HeaderError::NotAllowed { .. })
        ));
    }

    #[test]
    fn only_handshake_opcodes_are_open_and_they_are_never_sealed() {
        for opcode in Opcode::ALL {
            for flags in [Flags::plain(Tier::T4), Flags::sealed(Tier::T4)] {
                let read = Header::parse(&message(&header(flags, *opcode), 72));
                assert_eq!(read.is_ok(), flags.encrypted != opcode.is_handshake());
            }
        }
    }

    #[test]
    fn the_least_lengths_are_56_and_72() {
        for (flags, opcode, least) in [
            (Flags::plain(Tier::T4), Opcode::SessionResume, 56),
            (Flags::sealed(Tier::T4), Opcode::Record, 72),
        ] {
            let message = message(&header(flags, opcode), least);
            assert!(Header::parse(&message).is_ok());
            for end in 1..least {
                assert_eq!(
                    Header::parse(&message[..end]),
                    Err(HeaderError::Short {
                        tier: Tier::T4,
                        length: end
                    })
                );
            }
        }
    }
}
